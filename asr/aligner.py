"""A recording and its text: when each word is said, and which words are not there at all."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from asr import audio
from asr.acoustics import Acoustics, Engine
from asr.alignment import AlignmentConfig, Spellings, Token, align
from asr.audio import AudioSource, Channels
from asr.channels import find_channel_speech
from asr.errors import DecodeError, VocabularyError
from asr.lexicon import Lexicon
from asr.lexicon.pronounce import Pronouncer
from asr.packaging.bundle import Bundle
from asr.recognizer import audio_blocks, windows
from asr.text.languages import normalizer
from asr.types import Loss, Segment, Transcript, Unit, Word
from asr.vad import VadConfig
from asr.words import log_probability

GUESSED_SECONDS = 1.0  # max length of a word that was not found
_NAMED = 5  # unknown words in an error


class Aligner:
    """One model, ready to find the words of known texts.

    Args:
        model: a loaded bundle. What its network spells is what words are made of: characters, or
            phones, for which its lexicon says how words are pronounced.
        pronunciations: of words that the lexicon lacks, see `asr.text.phones.read_lexicon`. Others
            are pronounced by its example (`asr.lexicon.pronounce`).
        skip_unknown: leave a gap for words that cannot be spelled, instead of refusing the text.
        config: what may be left out.
        vad: how speech is found; `detector="none"` if it is not to be trusted.
        threads: cores to use (None: all that there are).
        engine: what runs the network; ONNX Runtime unless given.

    Raises BundleError if the parts of the bundle do not fit together.
    """

    def __init__(
        self,
        model: Bundle,
        *,
        pronunciations: Mapping[str, Sequence[Sequence[str]]] | None = None,
        skip_unknown: bool = False,
        config: AlignmentConfig | None = None,
        vad: VadConfig | None = None,
        threads: int | None = None,
        engine: Engine | None = None,
    ):
        model.check_ctc("alignment")
        self.bundle = model
        self._normalize = normalizer(model.config.language)
        self._lexicons = _lexicons(model, pronunciations or {})
        self._spelled: dict[str, Spellings] = {}
        self._skip_unknown = skip_unknown
        self._config = config or AlignmentConfig()
        self._vad = vad or VadConfig()
        self._acoustics = Acoustics(model, threads=threads, engine=engine)

    def align(
        self,
        source: AudioSource | np.ndarray,
        text: str,
        sample_rate: int | None = None,
        progress: Callable[[float], object] | None = None,
    ) -> Transcript:
        """Every word of `text` with its time and its units; each line is a segment.

        A word's `confidence` is the geometric mean of its units' probabilities, and 0 if it was
        not found: then it has no units, and its time is a guess between its neighbours. Words are
        given as they are written where their normal form stands alone, else as they are spoken.

        `source`, `sample_rate` and `progress` are those of `Recognizer.transcribe`, and so are the
        `losses` of a damaged recording. Raises
        AudioError if the recording cannot be read, VocabularyError for a text without words or with
        words that cannot be spelled.
        """
        lines = [_Line.of(line, self._normalize) for line in text.splitlines() if line.strip()]
        words = [word for line in lines for _, said in line.words for word in said]
        spelled = self._spell(words)
        losses: list[Loss] = []
        blocks = audio_blocks(source, sample_rate, on_loss=losses.append)
        log_probs, starts, duration = self._listen(blocks, progress)
        found = align(log_probs, spelled, self.bundle.vocabulary, self._config)
        placed = self._place(found, starts, duration)
        name = self.bundle.config.name
        return Transcript(_segments(lines, placed), duration, name, tuple(losses))

    def _spell(self, words: Sequence[str]) -> list[Spellings]:
        if not words:
            raise VocabularyError("the text holds no word", "give the words that are said")
        for word in words:
            if word not in self._spelled:
                self._spelled[word] = self._spellings(word)
        unknown = [word for word in dict.fromkeys(words) if not self._spelled[word]]
        if unknown and not self._skip_unknown:
            more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
            raise VocabularyError(
                f"the model cannot spell {', '.join(map(repr, unknown[:_NAMED]))}{more}",
                "give their pronunciations, or skip unknown words",
            )
        return [self._spelled[word] for word in words]

    def _spellings(self, word: str) -> Spellings:
        vocabulary = self.bundle.vocabulary
        if not self._lexicons:
            try:
                return [vocabulary.encode(word)]
            except VocabularyError:
                return []
        found = [(own.labels, s) for own in self._lexicons for s in own.spellings(word)]
        if not found:
            with contextlib.suppress(DecodeError):
                found = [(self._lexicons[0].labels, s) for s in self._pronouncer(word)]
        return [[vocabulary.symbols.index(labels[i]) for i in s] for labels, s in found]

    @cached_property
    def _pronouncer(self) -> Pronouncer:
        return Pronouncer(self._lexicons[0])

    def _listen(
        self, blocks: Iterator[Channels], progress: Callable[[float], object] | None
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """What the network makes of all speech, (frames, classes), when each frame begins,
        (frames,) s, and how long the recording is (s).
        """
        samples = 0

        def counted() -> Iterator[Channels]:
            nonlocal samples
            for block in blocks:
                samples += len(block)
                if progress:
                    progress(samples / audio.SAMPLE_RATE)
                yield block

        log_probs = [np.zeros((0, len(self.bundle.vocabulary)), np.float32)]
        starts: list[np.ndarray] = [np.zeros(0)]
        for window in windows(find_channel_speech(counted(), config=self._vad)):
            for speech, heads in zip(
                window, self._acoustics.log_probs([s.waveform for s in window]), strict=True
            ):
                if heads:
                    log_probs.append(heads[0])
                    begin = speech.start / audio.SAMPLE_RATE
                    starts.append(begin + np.arange(len(heads[0])) * self._acoustics.frame_shift)
        return np.concatenate(log_probs), np.concatenate(starts), samples / audio.SAMPLE_RATE

    def _place(
        self, found: Sequence[Sequence[Token]], starts: np.ndarray, duration: float
    ) -> list[Word]:
        """Words without a name."""
        shift, symbols = self.bundle.config.frame_shift, self.bundle.vocabulary.symbols
        words: list[Word] = []
        for tokens in found:
            units = tuple(
                Unit(
                    symbols[token.unit],
                    round(float(starts[token.first]), 3),
                    round(min(float(starts[token.last]) + shift, duration), 3),
                    round(token.probability, 4),
                )
                for token in tokens
            )
            if units:
                mean = sum(log_probability(token.probability) for token in tokens) / len(tokens)
                words.append(
                    Word("", units[0].start, units[-1].end, round(math.exp(mean), 4), units)
                )
            else:
                words.append(Word("", 0.0, 0.0, 0.0))
        return _with_guesses(words, duration)


@dataclass(frozen=True)
class _Line:
    """A line of a text, and its words: as written, and what is said for each."""

    text: str
    words: Sequence[tuple[str, Sequence[str]]]

    @classmethod
    def of(cls, text: str, normalize: Callable[[str], str]) -> _Line:
        """
        >>> _Line.of("No, I – won't. $5!", normalizer("en")).words
        [('No,', ['no']), ('I', ['i']), ("won't.", ["won't"]), ('$5!', ['five', 'dollars'])]
        """
        spoken = normalize(text).split()
        words = [(word, normalize(word).split()) for word in text.split()]
        if [word for _, said in words for word in said] != spoken:
            words = [(word, [word]) for word in spoken]  # as for "$5 million"
        return cls(" ".join(text.split()), [(word, said) for word, said in words if said])


def _lexicons(
    model: Bundle, pronunciations: Mapping[str, Sequence[Sequence[str]]]
) -> list[Lexicon]:
    """Who knows spellings; nobody needs to where words are spelled with characters."""
    if model.vocabulary.kind != "phones":
        if pronunciations:
            raise VocabularyError(
                "this model spells with characters, and needs no pronunciations", "leave them out"
            )
        return []
    lexicons = [Lexicon.load(model.lexicon_path)] if model.lexicon_path else []
    if pronunciations:
        lexicons.append(Lexicon.from_pronunciations(pronunciations, model.vocabulary))
    return lexicons


def _with_guesses(words: Sequence[Word], duration: float) -> list[Word]:
    """Words that were not found share the gap where they should be."""
    result = list(words)
    begin = 0
    while begin < len(result):
        if words[begin].units:
            begin += 1
            continue
        end = next((k for k in range(begin, len(words)) if words[k].units), len(words))
        left = result[begin - 1].end if begin else 0.0
        right = words[end].start if end < len(words) else max(left, duration)
        step = min(GUESSED_SECONDS, max(0.0, right - left) / (end - begin))
        for k in range(begin, end):
            start = left + (k - begin) * step
            result[k] = Word("", round(start, 3), round(start + step, 3), 0.0)
        begin = end
    return result


def _segments(lines: Sequence[_Line], placed: Sequence[Word]) -> tuple[Segment, ...]:
    """Lines of a text with the times of their words, of which `placed` holds one for each said."""
    segments = []
    at = 0
    for line in lines:
        words = []
        for written, said in line.words:
            parts = placed[at : at + len(said)]
            at += len(said)
            words.append(
                Word(
                    written,
                    parts[0].start,
                    parts[-1].end,
                    min(part.confidence for part in parts),
                    tuple(unit for part in parts for unit in part.units),
                )
            )
        if words:
            segments.append(Segment(words[0].start, words[-1].end, line.text, tuple(words)))
    return tuple(segments)
