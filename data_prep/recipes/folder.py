"""Any folder of recordings, each with its transcript beside it: `talk.mp3` and `talk.txt`.

Sub-folders named train, dev, valid, validation, test or eval are splits; a folder without them is
one split, train. What lies in a further sub-folder is one speaker's. Names are matched whatever
their case. Recordings without a transcript, and transcripts without a recording, are counted and
named.

A folder that is a table of recordings, a Kaldi data directory or holds NeMo manifests is read as
such.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from asr.recordings import find_recordings
from asr.text.encoding import read_text
from data_prep.corpus import Clip, Corpus, CorpusError, Splits

TEXT = (".txt", ".lab")
SPLITS = ("train", "dev", "valid", "validation", "test", "eval")
_UTF8 = ("utf-8", "utf-8-sig")


def read(folders: Sequence[Path], parts: Sequence[str]) -> Splits:
    root = folders[0]
    pairs, lonely = _match(root) if root.is_dir() else ([], [])
    if not pairs:
        return _other_format(root, parts)
    splits: dict[str, list[Clip]] = {}
    names = {p.name: p.name.lower() for p in root.iterdir() if p.is_dir()}
    if not any(name in SPLITS for name in names.values()):
        names = {}
    for path, transcript in pairs:
        split, speaker, name = _place(path.relative_to(root), names)
        if split is None:
            folder_names = ", ".join(sorted(n for n, known in names.items() if known in SPLITS))
            lonely.append((path, f"in none of the folders {folder_names}"))
        else:
            splits.setdefault(split, []).append(_clip(path, transcript, speaker, name))
    if not splits:
        raise CorpusError(
            f"{root}: no recording with a transcript beside it in the folders of the splits",
            "put talk.txt beside talk.wav",
        )
    for path, problem in sorted(lonely):
        split, _, _ = _place(path.relative_to(root), names)
        split = split if split in splits else next(iter(splits))
        splits[split].append(Clip(path, "", problem=problem))
    return {name: splits[name] for name in SPLITS if name in splits}


def _match(root: Path) -> tuple[list[tuple[Path, Path]], list[tuple[Path, str]]]:
    """Recordings with their transcripts, and what has no counterpart with the reason."""
    recordings = find_recordings(root)
    transcripts: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in sorted(root.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(root).parts):
            continue  # such as ._talk.wav, which macOS leaves behind
        if path.suffix.lower() in TEXT and path.is_file():
            transcripts[path.parent, path.stem.lower()].append(path)
    pairs, lonely, used = [], [], set()
    for path in recordings:
        found = transcripts.get((path.parent, path.stem.lower()), [])
        if not found:
            lonely.append((path, "no transcript beside it"))
            continue
        # The same case first, then .txt before .lab.
        best = min(found, key=lambda p: (p.stem != path.stem, TEXT.index(p.suffix.lower())))
        pairs.append((path, best))
        used.add((path.parent, path.stem.lower()))
    for key, paths in transcripts.items():
        if key not in used:
            lonely += [(path, "a text without a recording") for path in paths]
    return pairs, lonely


def _place(inside: Path, folders: dict[str, str]) -> tuple[str | None, str | None, str]:
    """Split, speaker and name of a file, by its path in the folder. `folders`: those of splits
    and others by name; none if there is one split. The split is None outside of all of them."""
    parts = list(inside.parts[:-1])
    split: str | None = "train"
    if folders:
        split = folders[parts.pop(0)] if parts else None
        split = split if split in SPLITS else None
    return split, parts[0] if parts else None, "-".join([*parts, inside.stem])


def _clip(path: Path, transcript: Path, speaker: str | None, name: str) -> Clip:
    try:
        text, encoding = read_text(transcript)
    except (OSError, ValueError) as error:
        return Clip(transcript, "", problem=f"a text that cannot be read ({error})")
    remark = "" if encoding in _UTF8 else f"with a text read as {encoding}, not UTF-8"
    return Clip(path, " ".join(text.split()), speaker, name, remark=remark)


def _other_format(root: Path, parts: Sequence[str]) -> Splits:
    """A table, a Kaldi data directory, or NeMo manifests, if the folder is one of these."""
    from data_prep.recipes import kaldi, nemo, tables

    inside = list(root.iterdir()) if root.is_dir() else [root]
    if any(p.name == "wav.scp" or (p / "wav.scp").is_file() for p in inside):
        return kaldi.read([root], parts)
    if any(_is_manifest(p) for p in inside):
        return nemo.read([root], parts)
    if any(p.suffix.lower() in tables.SUFFIXES for p in inside):
        return tables.read([root], parts)
    raise CorpusError(
        f"{root}: no recording with a transcript beside it, no table, no Kaldi or NeMo folder",
        "put talk.txt beside talk.wav",
    )


def _is_manifest(path: Path) -> bool:
    if path.suffix.lower() not in (".json", ".jsonl") or not path.is_file():
        return False
    try:
        with path.open(encoding="utf-8-sig") as lines:
            first = json.loads(next((line for line in lines if line.strip()), "null"))
    except (ValueError, OSError):
        return False
    return isinstance(first, dict) and "audio_filepath" in first


CORPUS = Corpus(
    name="folder",
    title="any folder of recordings with transcripts beside them, a table, a Kaldi or NeMo folder",
    licence="yours",
    languages="",
    read=read,
    instructions="asr-prepare folder --from-folder FOLDER --to DIR",
)
