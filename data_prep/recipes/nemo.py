"""NeMo manifests: JSON lines with audio_filepath, duration, text, and perhaps offset and speaker.

One file is one split, named by it without `manifest`: `train_manifest.json` is `train`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_prep.corpus import Clip, Corpus, CorpusError, Splits


def read(folders: Sequence[Path], parts: Sequence[str]) -> Splits:
    root = folders[0]
    found = [root] if root.is_file() else sorted([*root.glob("*.json"), *root.glob("*.jsonl")])
    if not found:
        raise CorpusError(f"{root}: no manifest, *.json or *.jsonl", "name its folder or the file")
    return {_split(path): _clips(path) for path in found}


def _split(path: Path) -> str:
    return re.sub(r"[-_.]?manifest[-_.]?", "", path.stem) or "train"


def _clips(path: Path) -> Iterator[Clip]:
    from asr.data.manifest import read_manifest

    for utterance in read_manifest(path):
        extra = dict(utterance.extra)
        name = str(extra.pop("id", ""))
        offset = utterance.offset
        audio = Path(utterance.audio_filepath)
        if offset is None:
            yield Clip(audio, utterance.text, utterance.speaker, name, extra=extra)
        else:
            name = name or f"{audio.stem}-{round(offset * 1000):08d}"
            yield Clip(
                audio, utterance.text, utterance.speaker, name, offset, utterance.duration,
                extra=extra,
            )  # fmt: skip


CORPUS = Corpus(
    name="nemo",
    title="any NeMo manifest",
    licence="yours",
    languages="",
    read=read,
    instructions="asr-prepare nemo --from-folder manifests/ --to DIR",
)
