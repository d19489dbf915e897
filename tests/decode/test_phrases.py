"""Lists of phrases as grammars, and alternatives of live results."""

from __future__ import annotations

import numpy as np
import pytest
from tone_speech import tones

from asr.errors import ConfigError, DecodeError
from asr.lm.phrases import phrase_model
from asr.recognizer import Recognizer
from asr.vad import VadConfig


def test_probabilities_sum_to_one_after_every_word():
    model = phrase_model(["turn the light on", "turn the light off", "the end"])
    words = ["turn", "the", "light", "on", "off", "end"]
    for history in ([], ["turn"], ["the"], ["light"], ["on"]):
        scores = [float(model.score([*history, word])[len(history)]) for word in words]
        end = float(model.score(history)[-1])
        assert np.exp([*scores, end]).sum() == pytest.approx(1, abs=0.05)  # weights are one byte


def test_what_follows_in_the_phrases_is_likelier():
    model = phrase_model(["turn left", "go right"])
    assert model.score("turn left".split())[1] > model.score("turn right".split())[1]
    assert not model.knows("house")


@pytest.fixture(scope="module")
def recognizer(tone_bundle):
    vad = VadConfig(detector="energy")
    return Recognizer(tone_bundle, decoder="beam", vad=vad, threads=1)


def transcribe(recognizer, text):
    return recognizer.transcribe(tones(text), 16_000).text


def test_only_words_of_the_grammar_are_understood(recognizer):
    assert transcribe(recognizer, "bad cab") == "bad cab"
    grammar = recognizer.with_grammar(["a fed cab", "Dad!"])
    assert transcribe(grammar, "a fed cab") == "a fed cab"
    assert set(transcribe(grammar, "bad cab bed").split()) <= {"a", "fed", "cab", "dad"}
    assert transcribe(recognizer, "bad cab") == "bad cab"  # which is another one


def test_a_grammar_of_which_nothing_can_be_said(recognizer, tone_bundle):
    skipped = recognizer.with_grammar(["cab", "☃"]).skipped_hotwords
    assert [s.hotword.phrase for s in skipped] == ["☃"]
    with pytest.raises(DecodeError, match="nothing of the grammar"):
        recognizer.with_grammar(["[unk]", "☃"])
    greedy = Recognizer(tone_bundle, decoder="greedy", threads=1)
    with pytest.raises(ConfigError):
        greedy.with_grammar(["cab"])


def test_a_stream_gives_alternatives(recognizer):
    unclear = 0.6 * tones("bad cab") + 0.4 * tones("bed cab")
    sound = np.concatenate([unclear, np.zeros(9_600, np.float32), tones("dad")])
    for nbest in (1, 3):
        stream = recognizer.stream(nbest=nbest)
        [final] = [e for e in [*stream.feed(sound), *stream.finish()] if e.is_final]
        texts = [alternative.text for alternative in final.alternatives]
        if nbest == 1:
            assert texts == []
        else:
            assert texts[0] == final.text
            assert 1 < len(set(texts)) == len(texts) <= 3
            assert final.alternatives[0].words == final.words
