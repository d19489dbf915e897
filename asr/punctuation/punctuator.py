"""Case and punctuation for what was recognised, by a small network that ONNX Runtime runs.

The model is one file: the graph, its weights, and words with special forms (`asr punctuation
export` writes it). Words, times and confidences stay; only how a word is written changes.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from asr.acoustics import open_session
from asr.errors import BundleError
from asr.packaging.bundle import Bundle
from asr.punctuation.labels import CASES, COMMA, ENDS, KEYS, MARKS, put_together, rows_of
from asr.types import Segment, Word

FORMAT = "asr-punctuation-1"
_WINDOW = 128  # words that are looked at together, beside
_AROUND = 32  # words before and after them
# Evidence for a mark of a silence of at least this many seconds: half the logarithm of how much
# likelier it is at a comma than between the words of a phrase, in 310 aligned recordings of people
# who read (LJ Speech, Common Voice); half, since who speaks freely pauses anywhere. For ends the
# data are too few: there it is set a little lower for short ones, and higher for long ones.
_SILENCES = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)
_FOR_COMMA = (-0.7, -0.3, 0.7, 1.4, 1.7, 1.7)
_FOR_END = (-0.7, -0.3, 0.5, 1.2, 2.0, 3.0)
Floats = NDArray[np.float32]


class Punctuator:
    """Restores how words are written: a sentence begins at the first and ends at the last."""

    def __init__(self, path: str | os.PathLike[str]):
        """Raises BundleError for a file that is no such model."""
        remedy = "make one with `asr punctuation export`"
        self._session = open_session(path, "no model of punctuation", remedy=remedy)
        stored = self._session.get_modelmeta().custom_metadata_map
        if stored.get("format") != FORMAT:
            raise BundleError(f"{path}: no model of punctuation", remedy)
        try:
            self._table = int(stored["rows"])
            self.forms: Mapping[str, str] = dict(json.loads(stored["forms"]))
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{path}: damaged: {error!r}", "export it again") from error

    def __call__(self, words: Sequence[str], silences: Sequence[float] = ()) -> list[str]:
        """Each word as it is written, with the mark behind it.

        `silences`: seconds between each word and the next, if known; one less than words.
        """
        return self._write([], words, [], silences, begins=True, ends=True)[0]

    def segment(self, segment: Segment) -> Segment:
        """An utterance by itself, as it is written."""
        return next(self.segments([segment]))

    def segments(self, segments: Iterable[Segment]) -> Iterator[Segment]:
        """The segments of a recording as they are written, in memory that does not grow.

        Sentences may continue across segments; the last one ends with the last segment.
        """
        waiting: list[Segment] = []
        before: list[str] = []
        begins = True
        for segment in _and_end(segments):
            if segment is not None:
                waiting.append(segment)
            n_words = [len(s.words) for s in waiting]
            ready = len(waiting)
            if segment is not None:
                while ready and sum(n_words[ready:]) < _AROUND:
                    ready -= 1
            if not ready or (segment is not None and sum(n_words[:ready]) < _WINDOW):
                continue
            words = [word for s in waiting for word in s.words]
            n_ready = sum(n_words[:ready])
            written, begins = self._write(
                before,
                [word.word for word in words[:n_ready]],
                [word.word for word in words[n_ready:]],
                silences(words),
                begins=begins,
                ends=segment is None,
            )
            rest = iter(written)
            for done in waiting[:ready]:
                yield _rewritten(done, [next(rest) for _ in done.words])
            before = [*before, *(word.word for word in words[:n_ready])][-_AROUND:]
            waiting = waiting[ready:]

    def _write(
        self,
        before: Sequence[str],
        words: Sequence[str],
        after: Sequence[str],
        silences: Sequence[float],
        *,
        begins: bool,
        ends: bool,
    ) -> tuple[list[str], bool]:
        """The `words` as written, and whether a sentence begins after them.

        `silences` are those behind `words` and `after`, perhaps but for the last.
        """
        whole = [*before, *words, *after]
        marks, cases = self._log_probs(whole)
        marks, cases = marks[len(before) :], cases[len(before) :]
        if len(silences):
            step = np.searchsorted(_SILENCES, silences, side="right") - 1
            marks[: len(step), COMMA] += np.take(_FOR_COMMA, step)
            marks[: len(step), ENDS] += np.take(_FOR_END, step)[:, None]
        chosen = marks.argmax(axis=-1)
        if ends and len(chosen):
            chosen[-1] = ENDS[int(marks[-1, ENDS].argmax())]
        chosen, cases = chosen[: len(words)], cases[: len(words)].argmax(axis=-1)
        written = put_together(words, chosen.tolist(), cases.tolist(), self.forms, begins=begins)
        return written, bool(chosen[-1] in ENDS) if len(chosen) else begins

    def _log_probs(self, words: Sequence[str]) -> tuple[Floats, Floats]:
        """Of marks (words, marks) and cases (words, cases), window by window."""
        rows = np.array([rows_of(word, self._table) for word in words], np.int64)
        rows = rows.reshape(-1, KEYS)
        marks, cases = (
            [np.zeros((0, len(MARKS)), np.float32)],
            [np.zeros((0, len(CASES)), np.float32)],
        )
        for begin in range(0, len(rows), _WINDOW):
            first = max(0, begin - _AROUND)
            some = rows[first : begin + _WINDOW + _AROUND]
            found = self._session.run(
                ["marks", "cases"], {"tokens": some[None], "lengths": np.array([len(some)])}
            )
            own = slice(begin - first, begin - first + _WINDOW)
            marks.append(found[0][0, own])
            cases.append(found[1][0, own])
        return np.concatenate(marks), np.concatenate(cases)


def punctuator_of(model: Bundle) -> Punctuator:
    """The one of a bundle. Raises BundleError if it has none."""
    if model.punctuation_path is None:
        raise BundleError(
            f"{model.folder}: restores neither case nor punctuation",
            "put it in with `asr punctuation export`",
        )
    return Punctuator(model.punctuation_path)


def metadata(rows: int, forms: Mapping[str, str]) -> dict[str, str]:
    """What a model's file says about itself."""
    return {"format": FORMAT, "rows": str(rows), "forms": json.dumps(forms, ensure_ascii=False)}


def _and_end(segments: Iterable[Segment]) -> Iterator[Segment | None]:
    yield from segments
    yield None


def silences(words: Sequence[Word]) -> list[float]:
    """Seconds between each word and the next."""
    return [max(0.0, b.start - a.end) for a, b in itertools.pairwise(words)]


def _rewritten(segment: Segment, written: Sequence[str]) -> Segment:
    words = tuple(
        dataclasses.replace(word, word=text)
        for word, text in zip(segment.words, written, strict=True)
    )
    return dataclasses.replace(segment, text=" ".join(written), words=words)
