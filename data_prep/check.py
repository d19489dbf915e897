"""What is wrong with manifests, before it costs a training run."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from asr import audio
from asr.errors import AudioError
from asr.text.vocabulary import Vocabulary
from asr.types import Utterance

TOLERANCE = 0.1  # seconds between what a manifest claims and what a file holds
FRAME_SHIFT = 0.03  # seconds a network usually has for a symbol; CTC needs a frame for each


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one utterance, or with the manifests together."""

    kind: str
    where: str
    detail: str
    is_error: bool = True


def check(
    manifests: Mapping[str, Sequence[Utterance]],
    vocabulary: Vocabulary | None = None,
    *,
    decode: bool = False,
    frame_shift: float = FRAME_SHIFT,
) -> Iterator[Finding]:
    """Findings about each of `manifests` (name -> utterances), and about what they have in common.

    `decode` reads every recording to its end, which also finds damage behind its header.
    """
    for name, utterances in manifests.items():
        for utterance in utterances:
            where = f"{name}: {utterance.name}"
            for kind, detail in _text(utterance, vocabulary, frame_shift):
                yield Finding(kind, where, detail)
            for kind, detail in _recording(utterance, decode):
                yield Finding(kind, where, detail)
    yield from _repeated_recordings(manifests)
    for kind, key, is_error in (("speaker", "speaker", True), ("text", "text", False)):
        yield from _shared(manifests, kind, key, is_error)


def _text(
    utterance: Utterance, vocabulary: Vocabulary | None, frame_shift: float
) -> Iterator[tuple[str, str]]:
    text = utterance.text
    if not text.strip():
        yield "empty text", repr(text)
        return
    # In a manifest of phones, symbols are words, and the words are kept aside.
    symbols: Sequence[str | int] = text.split() if "words" in utterance.extra else text
    if vocabulary is not None:
        unknown: Counter[str] = Counter()
        symbols = vocabulary.encode(text, unknown)
        if unknown:
            yield "not in the vocabulary", f"{''.join(sorted(unknown))!r} in {text!r}"
    # A repeated symbol needs a blank between (Graves et al. 2006).
    frames_needed = len(symbols) + sum(a == b for a, b in pairwise(symbols))
    if frames_needed * frame_shift > utterance.duration:
        yield (
            "impossible text",
            f"{len(symbols)} symbols in {utterance.duration:.2f} s: {text!r}",
        )


def _recording(utterance: Utterance, decode: bool) -> Iterator[tuple[str, str]]:
    path = utterance.audio_filepath
    if "://" in path:
        return
    if not Path(path).is_file():
        yield "missing file", ""
        return
    try:
        duration = audio.probe(path).duration
        if decode or duration is None:
            n_samples = sum(map(len, audio.blocks(path)))
            duration = n_samples / audio.SAMPLE_RATE
    except AudioError as error:
        yield "unreadable file", str(error)
        return
    if utterance.offset is not None:
        if utterance.offset + utterance.duration > duration + TOLERANCE:
            end = utterance.offset + utterance.duration
            yield "wrong duration", f"claims to end at {end:.2f} s of {duration:.2f} s"
    elif abs(duration - utterance.duration) > TOLERANCE:
        yield "wrong duration", f"claims {utterance.duration:.2f} s, lasts {duration:.2f} s"


def _repeated_recordings(manifests: Mapping[str, Sequence[Utterance]]) -> Iterator[Finding]:
    """The same file, or another file with the same bytes, more than once."""
    by_size: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, utterances in manifests.items():
        for utterance in utterances:
            path = Path(utterance.audio_filepath)
            if utterance.offset is None and path.is_file():
                by_size[path.stat().st_size][str(path)].append(name)
    for same_size in by_size.values():
        by_content: dict[str, list[str]] = defaultdict(list)
        for path_, names in same_size.items():
            # Only files of equal size can be equal, so hardly any has to be read.
            content = _sha256(path_) if len(same_size) > 1 else ""
            by_content[content] += [f"{name}: {path_}" for name in names]
        for copies in by_content.values():
            for copy in copies[1:]:
                yield Finding("repeated recording", copy, f"is also {copies[0]}")


def _shared(
    manifests: Mapping[str, Sequence[Utterance]], kind: str, key: str, is_error: bool
) -> Iterator[Finding]:
    values = {
        name: {getattr(u, key) for u in utterances} - {None, ""}
        for name, utterances in manifests.items()
    }
    names = list(values)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            common = sorted(values[first] & values[second])
            if common:
                yield Finding(
                    f"{kind} in two splits",
                    f"{first} and {second}",
                    f"{len(common)} in common, such as {common[0]!r}",
                    is_error,
                )


def _sha256(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def by_kind(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Findings grouped, errors before remarks, the most frequent kind first."""
    groups: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.kind].append(finding)
    order = sorted(groups, key=lambda kind: (not groups[kind][0].is_error, -len(groups[kind])))
    return {kind: groups[kind] for kind in order}
