"""Any folder of recordings, each with its transcript beside it: `talk.mp3` and `talk.txt`.

Sub-folders named train, dev, valid, validation, test or eval are splits; a folder without them is
one split, train. What lies in a further sub-folder is one speaker's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from data_prep.corpus import Clip, Corpus, CorpusError, Splits

AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".mp4", ".webm", ".aac", ".sph", ".aiff")
TEXT = (".txt", ".lab")
SPLITS = ("train", "dev", "valid", "validation", "test", "eval")


def read(folders: Sequence[Path], parts: Sequence[str]) -> Splits:
    root = folders[0]
    splits = {name: root / name for name in SPLITS if (root / name).is_dir()} or {"train": root}
    if not any(_recordings(folder) for folder in splits.values()):
        raise CorpusError(
            f"{root}: no recording with a transcript beside it", "put talk.txt beside talk.wav"
        )
    return {name: _clips(folder) for name, folder in splits.items()}


def _recordings(folder: Path) -> list[tuple[Path, Path]]:
    """Recordings and their transcripts."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in AUDIO:
            texts = (path.with_suffix(suffix) for suffix in TEXT)
            found += [(path, text) for text in texts if text.is_file()][:1]
    return found


def _clips(folder: Path) -> Iterator[Clip]:
    for path, transcript in _recordings(folder):
        inner = path.parent.relative_to(folder)
        name = "-".join([*inner.parts, path.stem])
        speaker = inner.parts[0] if inner.parts else None
        yield Clip(path, transcript.read_text(encoding="utf-8-sig").strip(), speaker, name)


CORPUS = Corpus(
    name="folder",
    title="any folder of recordings with transcripts beside them",
    licence="yours",
    languages="",
    read=read,
    instructions="asr-prepare folder --from-folder FOLDER --to DIR",
)
