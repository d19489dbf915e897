"""Pages about training: their commands run from top to bottom, with small corpora and networks.

What they would download is here already, made of a few shared recordings: the downloads themselves
are tested in tests/data_prep.
"""

from __future__ import annotations

import lzma
import re
import shutil
from pathlib import Path

import pytest
from pages import ROOT, record, run_page

from asr.data.manifest import Utterance, read_manifest, write_manifest

pytestmark = pytest.mark.slow
pytest.importorskip("torch")

SMALL = "data.workers=0 trainer.epochs=1 model.hidden_size=16 model.layers=2"
RATES = re.compile(r"WER +[0-9.]+%")


def shortest(manifest: Path, count: int) -> list[Utterance]:
    return sorted(read_manifest(manifest), key=lambda u: u.duration)[:count]


@pytest.fixture
def folder(shared: Path, tmp_path: Path) -> Path:
    """Mini LibriSpeech, text and a pronunciation dictionary, as the pages download them."""
    corpus = tmp_path / "corpora" / "mini-librispeech"
    speech = shared / "speech" / "librispeech"
    write_manifest(corpus / "train-clean-5.jsonl", shortest(speech / "train.jsonl", 24))
    write_manifest(corpus / "dev-clean-2.jsonl", shortest(speech / "dev.jsonl", 6))
    (tmp_path / "corpora" / "text").mkdir()
    sentences = (u.text for u in shortest(speech / "train.jsonl", 400))
    (tmp_path / "corpora" / "text" / "novels.txt").write_text("\n".join(sentences) + "\n")
    dictionary = (shared / "text" / "cmudict.dict.xz").read_bytes()
    (tmp_path / "cmudict.dict").write_bytes(lzma.decompress(dictionary))
    return tmp_path


def test_the_commands_of_training_run(shared: Path, folder: Path) -> None:
    layers = SMALL.replace("layers=2", "layers=4")  # one head stands on the second
    page = ROOT / "docs" / "training.md"
    printed = run_page(
        page, folder, shared, train=f"{layers} trainer.masks_from=0", skip="asr-prepare"
    )
    assert RATES.findall(printed)
    assert (folder / "docs" / "quickstart.png").stat().st_size


def test_the_commands_of_corpora_run(shared: Path, folder: Path) -> None:
    page = ROOT / "docs" / "corpora.md"
    run_page(page, folder, shared, train=SMALL, skip="asr-prepare (mini-librispeech|text) --to")
    assert (folder / "runs" / "mini" / "last.safetensors").exists()
    assert (folder / "lm.bin").exists()


def test_the_commands_of_streaming_run(shared: Path, folder: Path) -> None:
    """From the bundled network, which fixes the sizes, on a few recordings of the shared ones."""
    few = folder / "shared"
    for part, count in (("train", 8), ("dev", 2)):
        name = Path("speech", "commonvoice-en", f"{part}.jsonl")
        write_manifest(few / name, shortest(shared / name, count))
    (few / "text").symlink_to(shared / "text")
    own = few / "speech" / "commonvoice-en" / "train.jsonl"
    train = f"data.train=[{own}] data.workers=0 data.noises=null data.rooms=null trainer.epochs=1"
    printed = run_page(ROOT / "docs" / "streaming.md", folder, few, train=train)
    assert re.search(r"^\| live-all \|.*\n\| live-11 \|", printed, re.MULTILINE)


def test_the_commands_of_encoders_run(shared: Path, tmp_path: Path) -> None:
    """All but those that need TIMIT, after the network that the page takes from calibration.md."""
    few = tmp_path / "shared"
    digits = Path("speech", "digits-fsdd", "train.jsonl")
    write_manifest(few / digits, read_manifest(shared / digits)[::5])
    sample = Path("speech", "timit-sample", "train.jsonl")
    write_manifest(few / sample, read_manifest(shared / sample)[::4])
    page = tmp_path / "encoders.md"
    plain = "asr train experiment=quickstart data.hold_out=0.2 trainer.epochs=1 run=runs/plain"
    own = f"data.train=[{few / digits}] data.workers=0 model.hidden_size=96"
    text = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")
    text = text.replace("asr plot attention runs", "asr plot attention --text 'two' runs")
    page.write_text(f"```bash\n{plain} {own}\n```\n{text}", encoding="utf-8")
    timit = r"asr-prepare timit|asr train experiment=graves|python .* --seeds"
    run_page(page, tmp_path, few, skip=timit, trainer_epochs="1")
    for picture in ("weight-noise.png", "attention.png"):
        assert (tmp_path / "docs" / picture).stat().st_size


def test_the_korean_page_runs(shared: Path, tmp_path: Path) -> None:
    """With digits in Korean letters: what they sound like does not matter to the commands."""
    digits = "zero one two three four five six seven eight nine".split()
    korean = dict(zip(digits, "영일이삼사오육칠팔구", strict=True))
    for take in range(3):
        record(shared, take, tmp_path / "my-recordings")
    for text in (tmp_path / "my-recordings").glob("*.txt"):
        text.write_text(korean[text.read_text().strip()] + "\n", encoding="utf-8")
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    shutil.copy(ROOT / "samples" / "the-upper-house.wav", tmp_path / "talk.mp3")
    page = ROOT / "docs" / "ko" / "index.md"
    printed = run_page(page, tmp_path, shared, train=SMALL, skip="asr-prepare zeroth-korean")
    assert len(RATES.findall(printed)) == 1
    assert (tmp_path / "talk.srt").exists()
