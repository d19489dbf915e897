"""Records of experiments: their commands run from top to bottom, with few recordings and texts.

What took hours takes seconds here, so the figures mean nothing; that the commands are those of
today's programs is what counts. Downloads and other recognisers are left out.
"""

from __future__ import annotations

import json
import lzma
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from encoder_of_tones import write_encoder
from pages import ROOT, run_page

from asr.data.manifest import read_manifest, write_manifest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (ROOT / "asr" / "bundled" / "en").is_dir(), reason="no bundled model in this checkout"
    ),
]
pytest.importorskip("torch")
pytest.importorskip("onnx")

EXPERIMENTS = ROOT / "docs" / "experiments"
BUNDLE = ROOT / "asr" / "bundled" / "en"
SHORT = "data.workers=0 trainer.preflight=false trainer.epochs=1"


@pytest.fixture
def few(shared: Path, tmp_path: Path) -> Path:
    """The shared folder with a few of the recordings, sentences and noises of each kind."""
    folder = tmp_path / "shared"
    for manifest in (shared / "speech").glob("[!m]*/*.jsonl"):  # not `more`: places, no recordings
        utterances = read_manifest(manifest)
        count = 40 if manifest.parent.name == "digits-fsdd" else 2
        spread = utterances[:: max(1, len(utterances) // count)]  # over the speakers
        write_manifest(folder / manifest.relative_to(shared), [u for u in spread if u.text])
    (folder / "text").mkdir()
    for text in (shared / "text").glob("*.xz"):
        if not text.name.endswith(".txt.xz"):
            (folder / "text" / text.name).symlink_to(text)
            continue
        with lzma.open(text) as lines, lzma.open(folder / "text" / text.name, "w") as file:
            file.writelines(islice(lines, 3000))
    for kind in ("background", "rooms"):
        (folder / "noise" / kind).mkdir(parents=True)
        (folder / "noise" / kind / "audio").symlink_to(shared / "noise" / kind / "audio")
        lines = (shared / "noise" / kind / "manifest.jsonl").read_text().splitlines()
        free = [line for line in lines if "NC" not in json.loads(line)["licence"]]
        (folder / "noise" / kind / "manifest.jsonl").write_text("\n".join(free[:2]) + "\n")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the pages run, with the models of other pages: those of the bundle."""
    for name in ("lm.bin", "rescorer.onnx", "punctuation.onnx"):
        (tmp_path / name).symlink_to(BUNDLE / name)
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "model-card-en.md", tmp_path / "docs")
    (tmp_path / "rnn.onnx").symlink_to(BUNDLE / "rescorer.onnx")
    (tmp_path / "runs" / "lm").mkdir(parents=True)
    for name in ("lm.bin", "rescorer.onnx"):
        (tmp_path / "runs" / "lm" / name).symlink_to(BUNDLE / name)
    yield tmp_path
    shutil.rmtree(tmp_path / "runs")  # networks of many stages


@pytest.fixture
def run(few: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a page: with commands `first`, and after changes of its text."""
    monkeypatch.setenv("S", str(few / "speech"))

    def _run(name: str, *changes: tuple[str, str], first: str = "", **options: str) -> str:
        text = (EXPERIMENTS / f"{name}.md").read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        page = folder / f"{name}.md"
        page.write_text(f"```bash\n{first}\n```\n{text}", encoding="utf-8")
        return run_page(page, folder, few, **options)

    return _run


NOISES = "python benchmarks/english.py noises"


def network(name: str, experiment: str = "english_crf") -> str:
    """The commands that make a run of the bundled network, as a stage of its training would."""
    train = f"asr train experiment={experiment} run=runs/{name} trainer.init=asr/bundled/en"
    return f"{NOISES}\n{train}"


def test_acoustic_training(run: Callable[..., str], folder: Path) -> None:
    (folder / "corpora" / "more").mkdir(parents=True)
    write_encoder(folder / "encoder_model.ort")
    epochs = [(f"epoch-00{number}", "epoch-001") for number in (6, 2, 4)]
    minutes = {"trainer_epochs": "1", "trainer_minutes": "0.001"}
    run("acoustic-training", *epochs, train=SHORT, skip="pip download|unzip", **minutes)
    assert (folder / "runs" / "mean17.safetensors").exists()
    assert (folder / "runs" / "wide18.safetensors").stat().st_size > 50_000_000  # 12.6 million
    assert (folder / "models" / "en" / "checksums.json").exists()


def test_calibration(run: Callable[..., str]) -> None:
    first = f"{network('en3')}\n{network('en6')}"
    printed = run("calibration", first=first, train=SHORT, trainer_epochs="1")
    assert "calibration error" in printed


def test_language_models(run: Callable[..., str], few: Path, folder: Path) -> None:
    """But for the text that would be fetched, and the comparison with KenLM, which is compiled."""
    (folder / "corpora" / "text").mkdir(parents=True)
    with lzma.open(few / "text" / "masc.txt.xz", "rt", encoding="utf-8") as file:
        lines = file.readlines()
    for number, name in enumerate(["enwik8", "enwiki-sample", "factbook", "pyate", "wikitext-2"]):
        (folder / "corpora" / "text" / f"{name}.txt").write_text("".join(lines[number::5]))
    for name in ("transcripts", "dialogues-sample", "wikipedia-sample", "books-sample"):
        (folder / "runs" / "lm" / f"{name}.txt").write_text("".join(lines))
    printed = run(
        "language-models",
        ("asr-prepare text --to", ": asr-prepare text --to"),
        ("python benchmarks/lm.py", ": python benchmarks/lm.py"),
        first="python benchmarks/english.py texts\ncp *-dev.txt runs/lm/",
        train="trainer.steps=2 trainer.evaluate_steps=1",
        trainer_steps="2",
    )
    assert "perplexity" in printed
    assert (folder / "rnn.onnx").stat().st_size < 3_000_000


def test_lighter_networks(run: Callable[..., str], folder: Path) -> None:
    assert "WER" in run("lighter-networks")
    assert (folder / "docs" / "compression.png").exists()


def test_live_latency(run: Callable[..., str]) -> None:
    printed = run(
        "live-latency", first=network("en6", "streaming"), train=SHORT, trainer_epochs="1"
    )
    assert "| uni |" in printed


def test_punctuation(run: Callable[..., str]) -> None:
    assert "F1" in run("punctuation", train="trainer.steps=2 trainer.evaluate_steps=2")


def test_recurrent_networks(run: Callable[..., str]) -> None:
    """One row of the table, without the language model of the transducer."""
    run("recurrent-networks", ("--sample ", "--rows ctc_1l_250h --sample "), trainer_epochs="1")


def test_search_settings(run: Callable[..., str], few: Path, folder: Path) -> None:
    """But for the comparison with other decoders, which would be installed."""
    (folder / "runs" / "lm" / "lexicon.dict.xz").symlink_to(few / "text" / "cmudict.dict.xz")
    for text in ("commonvoice-sentences-en", "tatoeba-en"):
        (folder / f"{text}.txt.xz").symlink_to(few / "text" / f"{text}.txt.xz")
    printed = run(
        "search-settings",
        ("python benchmarks/decoders.py", ": python benchmarks/decoders.py"),
        first=f"{network('mean17')}\n{network('en8', 'streaming')}",
        train=SHORT,
    )
    assert printed.count("WER") >= 2


@pytest.mark.skipif(not shutil.which("flite"), reason="flite is not installed (apt install flite)")
def test_synthetic_speech(run: Callable[..., str], folder: Path) -> None:
    first = f"{NOISES}\ncp asr/bundled/en/model.safetensors runs/mean8.safetensors"
    run(
        "synthetic-speech",
        ("% 25 == 1", "% 250 == 1"),
        first=first,
        train=SHORT,
        trainer_epochs="1",
    )
    assert (folder / "runs" / "flite" / "best.safetensors").exists()
