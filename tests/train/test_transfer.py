"""Going on from a bundle, a run or a file, with another vocabulary too."""

import pytest

torch = pytest.importorskip("torch")

from asr.acoustics import Chunks, OnnxEngine  # noqa: E402
from asr.errors import BundleError, TrainingError  # noqa: E402
from asr.packaging.package import package_run  # noqa: E402
from asr.train import checkpoint  # noqa: E402
from asr.train.checkpoint import LAST  # noqa: E402
from asr.train.setup import Source  # noqa: E402


@pytest.fixture
def run(make, tmp_path):
    """The folder of a run of one epoch."""
    make(run=str(tmp_path / "first"), trainer={"epochs": 1}).fit()
    return tmp_path / "first"


def start(make, folder, init, alphabet="abcd", **groups):
    return make(
        run=str(folder),
        trainer={"epochs": 0, "init": str(init)},
        heads={"characters": {"alphabet": alphabet}},
        **groups,
    )


def test_a_run_gives_weights_and_feature_statistics(make, run, tmp_path, capsys):
    trainer = start(make, tmp_path / "second", run)
    trainer.fit()
    known = checkpoint.load_weights(run / "best.safetensors")
    assert all(torch.equal(known[n], w) for n, w in trainer.model.state_dict().items())
    first, second = (Source(folder).features for folder in (run, tmp_path / "second"))
    assert first == second
    assert f"started from {run}\n" in capsys.readouterr().err


def test_new_letters_cost_nothing_of_the_old_ones(make, run, tmp_path, capsys):
    trainer = start(make, tmp_path / "second", run, "xbad")
    known = checkpoint.load_weights(run / "best.safetensors")["heads.characters.weight"]
    now = trainer.model.state_dict()["heads.characters.weight"]
    old, new = ["<blank>", " ", *"abcd"], ["<blank>", " ", *"xbad"]
    for row, symbol in zip(now, new, strict=True):
        assert (symbol in old) == any(torch.equal(row, k) for k in known)
        assert symbol not in old or torch.equal(row, known[old.index(symbol)])
    assert "random: heads.characters.weight for 'x', heads.characters.bias for 'x'" in (
        capsys.readouterr().err
    )


def test_a_bundle_is_as_good(make, run, tmp_path):
    pytest.importorskip("onnx")
    bundle = package_run(run, tmp_path / "bundle", name="tiny", precision="fp32")
    trainer = start(make, tmp_path / "second", bundle.folder, "abcde")
    trainer.fit()
    known = checkpoint.load_weights(run / "best.safetensors")
    for name, tensor in trainer.model.state_dict().items():
        if name.startswith("encoder."):
            torch.testing.assert_close(tensor, known[name], atol=1e-3, rtol=1e-3)  # float16
    assert Source(bundle.folder).features == Source(tmp_path / "second").features


def test_another_network_is_refused_with_what_to_set(make, run, tmp_path):
    with pytest.raises(TrainingError, match=r"set model\.hidden_size=24$|hidden_size=24\)"):
        start(make, tmp_path / "second", run, model={"hidden_size": 25})
    with pytest.raises(TrainingError, match=r"features\.n_mels=20"):
        start(make, tmp_path / "second", run, features={"n_mels": 24})


def test_what_is_no_source_is_told(make, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="not a model"):
        start(make, tmp_path / "second", tmp_path / "empty")


def test_a_run_that_has_begun_goes_on_by_itself(make, run, tmp_path):
    start(make, tmp_path / "second", run).fit()
    trainer = make(run=str(tmp_path / "second"), trainer={"epochs": 0, "init": str(run)})
    assert not (tmp_path / "second" / LAST).exists()  # no epoch was done
    assert trainer.fit().epoch == 0


def test_a_network_of_whole_utterances_learns_to_go_chunk_by_chunk(make, run, tmp_path):
    trainer = {"epochs": 1, "init": str(run)}
    model = {"chunk": 8, "right_context": 2}
    make(run=str(tmp_path / "second"), trainer=trainer, model=model).fit()
    bundle = package_run(tmp_path / "second", tmp_path / "bundle", name="live")
    assert OnnxEngine(bundle.model_path).chunks == Chunks(8, 2)
    assert (bundle.config.model["encoder"]["chunk"], bundle.config.frame_shift) == (8, 0.03)
