"""The networks of Graves 2013, shrunk, on real TIMIT: the sample that NLTK distributes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("hydra")

from asr.cli.train import compose  # noqa: E402
from asr.data.manifest import read_manifest, write_manifest  # noqa: E402
from asr.packaging.bundle import Bundle  # noqa: E402
from asr.packaging.package import package_run  # noqa: E402
from asr.text.phones import TIMIT_61  # noqa: E402
from asr.train import checkpoint  # noqa: E402
from asr.train.setup import make_trainer  # noqa: E402
from asr.train.text import make_language_trainer  # noqa: E402


@pytest.fixture
def sample(shared, tmp_path) -> Path:
    """Four utterances whose text are their phone labels."""
    utterances = read_manifest(shared / "speech" / "timit-sample" / "train.jsonl")[:4]
    spelled = [replace(u, text=" ".join(p[2] for p in u.extra["phones"])) for u in utterances]
    write_manifest(tmp_path / "sample.jsonl", spelled)
    return tmp_path / "sample.jsonl"


def train(row: str, sample: Path, *overrides: str) -> tuple[Path, list[dict]]:
    run = sample.parent / row
    config = compose(
        [
            f"experiment=graves2013/{row}",
            f"data.train=[{sample}]",
            f"data.dev=[{sample}]",
            f"run={run}",
            "model.hidden_size=16",
            "trainer.device=cpu",
            *overrides,
        ]
    )
    make_trainer(config).fit()
    return run, [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("row", ["ctc_2l_250h", "ctc_3l_421h_uni", "ctc_3l_500h_tanh"])
def test_a_row_trains_sequence_by_sequence_and_becomes_a_bundle(row, sample):
    run, log = train(row, sample, "trainer.epochs=4", "trainer.log_steps=1")
    losses = [record["loss"] for record in log if record["kind"] == "train"]
    assert len(losses) == 16
    assert sum(losses[-4:]) < 0.95 * sum(losses[:4])
    bundle = package_run(run, run / "bundle", name=row, precision="fp32")
    assert set(Bundle.load(bundle.folder).vocabulary.symbols[1:]) == set(TIMIT_61)


@pytest.mark.slow
def test_the_transducers_train_from_scratch_and_from_what_ctc_and_a_language_model_learned(sample):
    small = ["heads.phones.transducer.prediction.hidden_size=12", "trainer.log_steps=1"]
    small += ["heads.phones.transducer.size=10", "trainer.epochs=1", "optimizer=adam"]
    small += ["heads.phones.transducer.most_symbols=1"]
    _, log = train("trans_3l_250h", sample, *small, "model.layers=1")
    assert [record["kind"] for record in log].count("dev") == 1
    ctc, _ = train("ctc_1l_250h", sample, "trainer.epochs=1")
    overrides = [
        "task=language_model",
        "experiment=language_model/timit_phones",
        f"data.train=[{sample}]",
        f"data.dev=[{sample}]",
        f"run={sample.parent / 'lm'}",
        "model.hidden_size=12",
        "trainer.steps=2",
    ]
    make_language_trainer(compose(overrides)).fit()
    sources = f"'{ctc}'"
    sources += f",'heads.phones.prediction={sample.parent}/lm/best.safetensors'"
    config = [*small, "model.layers=1", f"trainer.init=[{sources}]", "optimizer.learning_rate=0"]
    run, _ = train("pretrans_3l_250h", sample, *config)
    weights = checkpoint.load(run / "best.safetensors")[0]
    before = {
        **checkpoint.load(ctc / "best.safetensors")[0],
        **checkpoint.prefixed(
            "heads.phones.prediction.",
            checkpoint.load(sample.parent / "lm" / "best.safetensors")[0],
        ),
    }
    taken = [name for name in weights if name in before]
    assert any(name.startswith("encoder.layers.0.forward") for name in taken)
    assert any(name.startswith("heads.phones.prediction.cells.0") for name in taken)
    assert all(torch.equal(weights[name], before[name]) for name in taken)


@pytest.mark.slow
def test_the_sample_can_be_learnt_by_heart(sample):
    """A phone error rate below 5 % on what was trained on; Adam, to be there sooner."""
    _, log = train(
        "ctc_1l_250h",
        sample,
        "optimizer=adam",
        "optimizer.learning_rate=0.005",
        "optimizer.warmup_steps=10",
        "model.hidden_size=100",
        "trainer.epochs=100",
    )
    assert min(record["wer"] for record in log if record["kind"] == "dev") < 0.05
