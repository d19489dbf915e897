"""Clips that recipes found, as utterances of a manifest: probed, cut, normalised, counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from asr import audio
from asr.errors import AudioError
from asr.files import replacing
from asr.types import Utterance
from data_prep.corpus import Clip

MIN_DURATION = 0.05  # seconds; shorter ones hold no sound to speak of


N_NAMES = 10  # of each kind that are kept, to be told


@dataclass
class Skipped:
    """What was left out and why, with the first few by name; `remarks` on what was used."""

    reasons: Counter[str] = field(default_factory=Counter)
    names: dict[str, list[str]] = field(default_factory=dict)
    remarks: Counter[str] = field(default_factory=Counter)

    def add(self, reason: str, name: str) -> None:
        self.reasons[reason] += 1
        self._name(reason, name)

    def remark(self, remark: str, name: str) -> None:
        self.remarks[remark] += 1
        self._name(remark, name)

    def lines(self) -> Iterator[str]:
        """A line for each kind of what was left out, then for each remark."""
        kinds = [(n, f"left out: {kind}", kind) for kind, n in self.reasons.most_common()]
        kinds += [(n, kind, kind) for kind, n in self.remarks.most_common()]
        for count, what, kind in kinds:
            names = self.names[kind]
            more = f" and {count - len(names):,} more" if count > len(names) else ""
            yield f"{count:,} {what}: {', '.join(names)}{more}"

    def _name(self, kind: str, name: str) -> None:
        names = self.names.setdefault(kind, [])
        if len(names) < N_NAMES:
            names.append(name)


def utterances(
    clips: Iterable[Clip], folder: Path, normalize: Callable[[str], str], skipped: Skipped
) -> Iterator[Utterance]:
    """Utterances of the clips; those that are parts of longer recordings are cut out of them.

    The parts go to `folder` as FLAC files, which a later run finds there. Texts are normalised;
    what was published is kept as `original` where that changed more than case. Clips without text,
    those with a problem, and files that cannot be read are `skipped`.
    """
    taken: Counter[str] = Counter()
    for clip in clips:
        if clip.problem:
            skipped.add(clip.problem, str(clip.audio))
            continue
        name = re.sub(r"[^\w.-]+", "_", clip.id or clip.audio.stem)
        taken[name] += 1
        unique = name if taken[name] == 1 else f"{name}-{taken[name]}"
        text = normalize(clip.text)
        if not text:
            skipped.add("no text", unique)
            continue
        try:
            path, duration = _whole(clip) if _is_whole(clip) else _cut(clip, folder, unique)
        except AudioError as error:
            skipped.add("cannot be read", str(error))
            continue
        if duration < MIN_DURATION:
            skipped.add(f"shorter than {MIN_DURATION} s", unique)
            continue
        if clip.remark:
            skipped.remark(clip.remark, unique)
        original = {"original": clip.text} if clip.text.lower() != text else {}
        extra = {"id": unique, **original, **clip.extra}
        yield Utterance(str(path), round(duration, 3), text, clip.speaker, extra)


def _is_whole(clip: Clip) -> bool:
    return clip.start == 0 and clip.duration is None and clip.channel is None


def _whole(clip: Clip) -> tuple[Path, float]:
    info = audio.probe(clip.audio)
    if info.duration is None:  # told by no header: a stream that was written to a pipe
        return clip.audio, len(audio.read(clip.audio)) / audio.SAMPLE_RATE
    return clip.audio, info.duration


def _cut(clip: Clip, folder: Path, name: str) -> tuple[Path, float]:
    path = folder / f"{name}.flac"
    if not path.exists():
        if clip.channel is None:
            waveform = audio.read(clip.audio, start=clip.start, duration=clip.duration)
        else:
            waveform = _read_channel(clip)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            soundfile.write(temporary, waveform, audio.SAMPLE_RATE, "PCM_16", format="FLAC")
    return path, soundfile.info(path).duration


def _read_channel(clip: Clip) -> np.ndarray:
    """One side of a telephone call."""
    blocks = audio.channel_blocks(clip.audio, start=clip.start, duration=clip.duration)
    try:
        return np.concatenate([block[:, clip.channel] for block in blocks])
    except IndexError:
        raise AudioError(f"{clip.audio}: has no channel {clip.channel}") from None
