"""Recordings and their texts: tones whose times are known, and the samples."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tone_speech import PAUSE_SECONDS, TONE_SECONDS, tones

from asr.aligner import GUESSED_SECONDS, Aligner
from asr.errors import AudioError, VocabularyError
from asr.packaging.bundle import Bundle
from asr.types import Word
from asr.vad import VadConfig

RATE = 16_000
STEP = TONE_SECONDS + PAUSE_SECONDS
SAMPLES = Path(__file__).parents[1] / "samples"


@pytest.fixture(scope="module")
def aligner(tone_bundle: Bundle) -> Aligner:
    return Aligner(tone_bundle, skip_unknown=True, vad=VadConfig(detector="energy"), threads=1)


def onsets(text: str, begin: float = 0.0) -> list[float]:
    """When the first tone of each word of `text` sounds."""
    at = [0, *(i + 1 for i, symbol in enumerate(text) if symbol == " ")]
    return [begin + i * STEP for i in at]


def assert_places(words: tuple[Word, ...], begins: list[float]) -> None:
    for word, begin in zip(words, begins, strict=True):
        assert word.start == pytest.approx(begin, abs=0.07)
        end = begin + (len(word.word) - 1) * STEP + TONE_SECONDS
        assert word.end == pytest.approx(end, abs=0.07)
        assert [unit.symbol for unit in word.units] == list(word.word)
        assert word.units[0].start == word.start
        assert word.units[-1].end == word.end


def test_words_and_units_where_they_sound(aligner: Aligner) -> None:
    transcript = aligner.align(tones("bad cafe lad"), "bad cafe\nlad\n", RATE)
    assert_places(transcript.words, onsets("bad cafe lad"))
    assert [segment.text for segment in transcript.segments] == ["bad cafe", "lad"]
    assert all(word.confidence > 0.5 for word in transcript.words)
    for segment in transcript.segments:
        assert (segment.start, segment.end) == (segment.words[0].start, segment.words[-1].end)


def test_long_recordings_with_pauses(aligner: Aligner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several stretches of speech, more than one window of the network, and more than one block."""
    said = ["bad cafe", "ham jam", "decaf", "fab lab"] * 5
    monkeypatch.setattr("asr.recognizer.WINDOW_SECONDS", 10.0)
    silence = np.zeros(2 * RATE, np.float32)
    parts, begins, at = [], [], 0.0
    for text in said:
        parts += [silence, tones(text)]
        at += 2.0
        begins += onsets(text, at)
        at += len(text) * STEP
    transcript = aligner.align(np.concatenate(parts), " ".join(said), RATE)
    assert_places(transcript.words, begins)
    assert transcript.duration == pytest.approx(at)


def test_what_is_not_said_gets_no_confidence(aligner: Aligner) -> None:
    words = aligner.align(tones("bad cafe lad"), "bad gig hijack cafe lad", RATE).words
    assert [word.word for word in words if word.confidence == 0] == ["gig", "hijack"]
    assert_places((words[0], *words[3:]), onsets("bad cafe lad"))
    assert words[0].end <= words[1].start <= words[1].end <= words[2].start <= words[3].start


def test_foreign_sound_is_passed_over(aligner: Aligner) -> None:
    words = aligner.align(tones("bad hijack cafe lad"), "bad lad", RATE).words
    assert_places(words, [onsets("bad hijack cafe lad")[k] for k in (0, 3)])


def test_unknown_words_are_refused_or_leave_a_gap(tone_bundle: Bundle, aligner: Aligner) -> None:
    words = aligner.align(tones("bad cafe lad"), "bad xylo! lad", RATE).words
    assert words[1].word == "xylo!"
    assert words[1].confidence == 0
    assert words[0].end <= words[1].start < words[1].end <= words[2].start
    assert words[1].end - words[1].start <= GUESSED_SECONDS
    strict = Aligner(tone_bundle, vad=VadConfig(detector="energy"), threads=1)
    with pytest.raises(VocabularyError, match="cannot spell 'xylo', 'quiz'"):
        strict.align(tones("bad"), "bad xylo quiz xylo", RATE)
    with pytest.raises(VocabularyError, match="no word"):
        strict.align(tones("bad"), " … \n", RATE)
    with pytest.raises(VocabularyError, match="needs no pronunciations"):
        Aligner(tone_bundle, pronunciations={"bad": [["B"]]})


def test_words_as_they_are_written(aligner: Aligner) -> None:
    transcript = aligner.align(tones("bad cafe lad"), "Bad – Café, “lad”!", RATE)
    assert [word.word for word in transcript.words] == ["Bad", "Café,", "“lad”!"]
    assert transcript.text == "Bad – Café, “lad”!"


def test_silence_and_what_is_shorter_than_a_frame(aligner: Aligner) -> None:
    for seconds in (1.0, 0.001):
        transcript = aligner.align(np.zeros(int(seconds * RATE), np.float32), "bad cafe", RATE)
        assert [word.confidence for word in transcript.words] == [0, 0]
        assert all(word.end <= transcript.duration for word in transcript.words)
    with pytest.raises(AudioError):
        aligner.align(np.zeros(0, np.float32), "bad", RATE)


def test_samples_with_the_bundled_model(bundled_model: Bundle) -> None:
    aligner = Aligner(bundled_model, threads=1)
    lines = [json.loads(line) for line in (SAMPLES / "manifest.jsonl").read_text().splitlines()]
    confidences: dict[str, list[float]] = {"right": [], "wrong": []}
    for line, other in zip(lines, lines[1:] + lines[:1], strict=True):
        for kind, text in (("right", line["text"]), ("wrong", other["text"])):
            transcript = aligner.align(SAMPLES / line["audio_filepath"], text)
            times = [t for word in transcript.words for t in (word.start, word.end)]
            assert all(earlier <= later for earlier, later in pairwise(times))
            assert times[0] >= 0
            assert times[-1] <= transcript.duration
            confidences[kind] += [word.confidence for word in transcript.words]
    # A whole text that is wrong has all the sound to choose from: some of it fits.
    assert np.median(confidences["right"]) > 0.3
    assert np.median(confidences["wrong"]) < 0.1


def test_more_pronunciations(bundled_model: Bundle) -> None:
    text = "Today, the oldde observatory is no longer used for research."
    path = SAMPLES / "the-old-observatory.opus"
    example = Aligner(bundled_model, threads=1).align(path, text).words[2]
    assert [unit.symbol for unit in example.units][:2] == ["OW", "L"]
    with pytest.raises(VocabularyError, match="'東京'"):
        Aligner(bundled_model, threads=1).align(path, text.replace("oldde", "東京"))
    aligner = Aligner(bundled_model, pronunciations={"oldde": [["OW", "L", "D"]]}, threads=1)
    word = aligner.align(path, text).words[2]
    assert [unit.symbol for unit in word.units] == ["OW", "L", "D"]
    assert example.start == pytest.approx(word.start, abs=0.1)
