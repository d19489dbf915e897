"""The beam search against enumeration of all paths, and what must hold for any input."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from ctc_reference import (
    FRAME_SHIFT,
    LETTERS,
    UNPRUNED,
    assert_same_ranking,
    beam_decoder,
    random_log_probs,
    ranked,
    synthetic_log_probs,
    texts_of_all_paths,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decode import Decoder, GreedySearch
from asr.errors import ConfigError, DecodeError
from asr.lexicon import Lexicon
from asr.lm.ngram import NGram
from asr.text.vocabulary import Vocabulary


def random_inputs(classes: int, count: int = 12, most_frames: int = 6) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [
        random_log_probs(rng, int(rng.integers(0, most_frames + 1)), classes) for _ in range(count)
    ]


def test_finds_every_text_with_its_probability(ab: Vocabulary) -> None:
    decoder = beam_decoder(ab, **UNPRUNED)
    for log_probs in random_inputs(len(ab)):
        assert_same_ranking(decoder, log_probs, ranked(texts_of_all_paths(log_probs, ab)))


@pytest.mark.parametrize("lm_weight", [0.0, 0.7, 1.5])
def test_open_vocabulary_with_language_model(
    ab: Vocabulary, tiny_lm: NGram, lm_weight: float
) -> None:
    weights = {"lm_weight": lm_weight, "word_bonus": 0.8, "unknown_penalty": -1.7}
    decoder = beam_decoder(ab, lm=tiny_lm, **UNPRUNED | weights)

    def weight(text: str) -> float:
        words = text.split()
        unknown = sum(tiny_lm.word_id(word) == 0 for word in words)
        return lm_weight * float(tiny_lm.score(words).sum()) + 0.8 * len(words) - 1.7 * unknown

    for log_probs in random_inputs(len(ab)):
        assert_same_ranking(decoder, log_probs, ranked(texts_of_all_paths(log_probs, ab), weight))


def test_closed_vocabulary_spells_words_of_the_lexicon_only(ab: Vocabulary, tiny_lm: NGram) -> None:
    decoder = beam_decoder(ab, lm=tiny_lm, lm_weight=0.9, closed=True, **UNPRUNED)
    for log_probs in random_inputs(len(ab)):
        known = {
            text: mass
            for text, mass in texts_of_all_paths(log_probs, ab).items()
            if all(tiny_lm.word_id(word) for word in text.split())
        }
        expected = ranked(known, lambda text: 0.9 * float(tiny_lm.score(text.split()).sum()))
        assert_same_ranking(decoder, log_probs, expected)


def test_scores_add_up(ab: Vocabulary, tiny_lm: NGram) -> None:
    decoder = beam_decoder(
        ab, lm=tiny_lm, **UNPRUNED | {"lm_weight": 0.6, "word_bonus": 0.3, "unknown_penalty": -2.0}
    )
    log_probs = random_inputs(len(ab), count=3)[-1]
    masses = texts_of_all_paths(log_probs, ab)
    for hypothesis in decoder.decode(log_probs, nbest=50):
        words = hypothesis.text.split()
        unknown = sum(tiny_lm.word_id(word) == 0 for word in words)
        acoustic = math.log(masses[hypothesis.text])
        assert hypothesis.acoustic_score == pytest.approx(acoustic, abs=1e-4)
        assert hypothesis.lm_score == pytest.approx(float(tiny_lm.score(words).sum()), abs=1e-4)
        rest = 0.6 * hypothesis.lm_score + 0.3 * len(words) - 2.0 * unknown
        assert hypothesis.score == pytest.approx(hypothesis.acoustic_score + rest, abs=1e-4)


def test_pieces_may_divide_a_word_in_any_way(tiny_lm: NGram) -> None:
    pieces = Vocabulary(("<blank>", "\u2581a", "b", "\u2581", "ba"), kind="pieces")
    decoder = beam_decoder(pieces, lm=tiny_lm, lm_weight=0.5, closed=True, **UNPRUNED)
    likely = np.array([[0.02, 0.02, 0.02, 0.92, 0.02], [0.02, 0.02, 0.92, 0.02, 0.02]])
    both = np.vstack([likely, [[0.02, 0.02, 0.02, 0.02, 0.92]]])
    best = decoder.decode(np.log(both))[0]
    assert best.text == "bba"
    assert [word.word for word in best.words] == ["bba"]


# "a" and "b" sound alike; "ab" may also be spoken as one phone.
PRONUNCIATIONS = {
    "a": [["X"]],
    "b": [["x"]],
    "ab": [["X", "Y0"], ["z"]],
    "bba": [["y", "z", "y"]],
    "other": [["Q"]],
}


class TestPhones:
    vocabulary = Vocabulary.phones(["x", "y", "z"])

    def expected(self, log_probs: np.ndarray, lm: NGram, weight: float) -> dict[str, float]:
        """Best score of every word sequence: the sum over the paths of its best pronunciation."""
        by_phones = texts_of_all_paths(log_probs, self.vocabulary)
        spoken = {
            (word, " ".join(phone.rstrip("0").lower() for phone in pronunciation))
            for word, many in PRONUNCIATIONS.items()
            for pronunciation in many
            if word != "other"
        }
        scores: dict[str, float] = {}
        for phones, mass in by_phones.items():
            for words in self.sequences(phones, spoken):
                total = math.log(mass) + weight * float(lm.score(words).sum())
                text = " ".join(words)
                scores[text] = max(scores.get(text, -math.inf), total)
        return scores

    def sequences(self, phones: str, spoken: set[tuple[str, str]]) -> list[list[str]]:
        if not phones:
            return [[]]
        found = []
        for word, said in spoken:
            if phones == said or phones.startswith(said + " "):
                rest = phones[len(said) :].strip()
                found += [[word, *more] for more in self.sequences(rest, spoken)]
        return found

    def test_words_and_homophones(self, tiny_lm: NGram) -> None:
        lexicon = Lexicon.from_pronunciations(PRONUNCIATIONS, self.vocabulary, tiny_lm.words)
        decoder = beam_decoder(
            self.vocabulary, lexicon=lexicon, lm=tiny_lm, lm_weight=0.8, **UNPRUNED
        )
        for log_probs in random_inputs(len(self.vocabulary), most_frames=5):
            expected = self.expected(log_probs, tiny_lm, weight=0.8)
            assert_same_ranking(decoder, log_probs, list(expected.items()))

    def test_phones_alone_are_their_own_words(self) -> None:
        decoder = beam_decoder(self.vocabulary, **UNPRUNED)
        for log_probs in random_inputs(len(self.vocabulary), most_frames=5):
            expected = ranked(texts_of_all_paths(log_probs, self.vocabulary))
            assert_same_ranking(decoder, log_probs, expected)


def spoken(text: str, seed: int = 0, **keywords: float) -> np.ndarray:
    return synthetic_log_probs(text, LETTERS, np.random.default_rng(seed), **keywords)


def test_reads_what_is_clear() -> None:
    text = "a sentence with a few words and some letters doubled"
    log_probs = spoken(text, error=0.0)
    for decoder in (Decoder(GreedySearch(LETTERS), FRAME_SHIFT), beam_decoder(LETTERS, beam=20)):
        best = decoder.decode(log_probs)[0]
        assert best.text == text
        assert " ".join(word.word for word in best.words) == text


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), error=st.floats(0, 0.6))
def test_times_are_monotone_and_inside(seed: int, error: float) -> None:
    log_probs = spoken("well what is there to say about times", seed, error=error)
    decoder = beam_decoder(LETTERS, beam=16)
    for hypothesis in decoder.decode(log_probs, nbest=5):
        times = [time for word in hypothesis.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert all(word.start < word.end for word in hypothesis.words)
        assert times[0] >= 0
        assert times[-1] <= len(log_probs) * FRAME_SHIFT + 1e-3
        assert all(0 <= word.confidence <= 1 for word in hypothesis.words)
        assert " ".join(word.word for word in hypothesis.words) == hypothesis.text


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_results_are_distinct_and_sorted(seed: int) -> None:
    found = beam_decoder(LETTERS, beam=30).decode(
        spoken("seven of them", seed, error=0.5), nbest=20
    )
    assert len({hypothesis.text for hypothesis in found}) == len(found) > 1
    scores = [hypothesis.score for hypothesis in found]
    assert scores == sorted(scores, reverse=True)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), frames=st.integers(1, 12))
def test_all_prefixes_score_at_least_as_much_as_some(seed: int, frames: int) -> None:
    """Scores of a beam are sums over fewer paths: none exceeds that of a search without limits."""
    vocabulary = Vocabulary.characters("ab")
    log_probs = random_log_probs(np.random.default_rng(seed), frames, len(vocabulary))
    unpruned = beam_decoder(vocabulary, **UNPRUNED).decode(log_probs)[0].score
    for beam in (1, 2, 5, 20):
        limited = beam_decoder(vocabulary, **UNPRUNED | {"beam": beam})
        assert limited.decode(log_probs)[0].score <= unpruned + 1e-6


@pytest.mark.parametrize("with_lm", [False, True])
def test_a_wider_beam_finds_nothing_worse(tiny_lm: NGram, with_lm: bool) -> None:
    """No law of beam search: in noise, one of a thousand wider beams does worse. But here."""
    vocabulary, lm = (Vocabulary.characters("ab"), tiny_lm) if with_lm else (LETTERS, None)
    text = "a b ab bba a ab" if with_lm else "what is there to say about it"
    decoders = [
        beam_decoder(vocabulary, lm=lm, **UNPRUNED | {"beam": beam}) for beam in (1, 4, 16, 64)
    ]
    for seed in range(20):
        log_probs = synthetic_log_probs(text, vocabulary, np.random.default_rng(seed), error=0.4)
        scores = [decoder.decode(log_probs)[0].score for decoder in decoders]
        assert all(wider >= narrower - 1e-6 for narrower, wider in pairwise(scores))


@pytest.mark.parametrize("with_lm", [False, True])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_pieces_give_the_same_result(
    data: st.DataObject, tiny_lm: NGram, with_lm: bool
) -> None:
    seed = data.draw(st.integers(0, 1000))
    log_probs = random_log_probs(np.random.default_rng(seed), 60, 4, peak=4.0)
    cuts = sorted(data.draw(st.lists(st.integers(0, 60), max_size=8)))
    decoder = beam_decoder(Vocabulary.characters("ab"), lm=tiny_lm if with_lm else None, beam=12)
    stream = decoder.stream()
    for piece in np.split(log_probs, cuts):
        stream.feed(piece)
        stream.partial()
    assert stream.finish(nbest=5) == decoder.decode(log_probs, nbest=5)


def test_what_is_stable_stays() -> None:
    decoder = beam_decoder(LETTERS, beam=30, horizon=1.0)
    for seed in range(5):
        log_probs = spoken("this is how a sentence grows while one is speaking", seed, error=0.3)
        stream = decoder.stream()
        promised = [""]
        for piece in np.array_split(log_probs, 12):
            stream.feed(piece)
            partial = stream.partial()
            assert partial.text.startswith(partial.stable)
            assert partial.stable.startswith(promised[-1])
            promised.append(partial.stable)
        final = stream.finish()[0].text
        assert all(final.startswith(text) for text in promised)
        assert len(promised[-1].split()) > 4


@pytest.mark.parametrize("with_lm", [False, True])
def test_memory_stays_small_and_times_exact_over_an_hour(
    monkeypatch: pytest.MonkeyPatch, tiny_lm: NGram, with_lm: bool
) -> None:
    text = "ab a b bba"
    once = synthetic_log_probs(text, LETTERS, np.random.default_rng(1), error=0.0)
    silence = spoken("", 0)[:2]
    minute = np.vstack([once, silence, spoken(" ", 2, error=0.0), silence])
    repeats = 60
    decoder = beam_decoder(LETTERS, lm=tiny_lm if with_lm else None, beam=20)
    monkeypatch.setattr("asr.decode.beam._LATTICE", 512)
    stream = decoder.stream()
    search = stream._search
    most_nodes = 0
    for _ in range(repeats):
        stream.feed(minute)
        most_nodes = max(most_nodes, len(search._beam.nodes), int(search._state["n_nodes"]))
    found = stream.finish()[0]
    assert found.text == " ".join([text] * repeats)
    assert most_nodes <= 4096
    assert search._limit == 512
    starts = np.array([word.start for word in found.words]).reshape(repeats, -1)
    steps = np.diff(starts, axis=0)
    assert np.allclose(steps, len(minute) * FRAME_SHIFT, atol=0.002)
    monkeypatch.undo()
    whole = decoder.decode(np.tile(minute, (repeats, 1)))[0]
    assert whole.text == found.text
    assert whole.score == pytest.approx(found.score)
    assert whole.acoustic_score == pytest.approx(found.acoustic_score)


def test_batches_on_threads_equal_one_after_the_other(tiny_lm: NGram) -> None:
    decoder = beam_decoder(LETTERS, lm=tiny_lm, beam=20)
    batch = [spoken("a few of these", seed, error=0.3) for seed in range(8)]
    expected = [decoder.decode(log_probs) for log_probs in batch]
    assert decoder.decode_batch(batch, threads=3) == expected
    with ThreadPoolExecutor(2) as pool:  # one decoder, several threads of the caller
        assert list(pool.map(lambda x: decoder.decode(x), batch)) == expected


def test_leading_and_trailing_spaces_are_no_words(ab: Vocabulary) -> None:
    path = [1, 2, 0, 1, 0, 1, 3, 1]
    log_probs = np.log(np.eye(4)[path] * 0.97 + 0.0075)
    assert beam_decoder(ab).decode(log_probs)[0].text == "a b"


class TestBadInput:
    @pytest.mark.parametrize(
        ("log_probs", "cause"),
        [
            (np.zeros(4), r"shape \(4,\)"),
            (np.zeros((3, 5)), "5 classes, the vocabulary has 4"),
            (np.full((3, 4), np.nan), "frame 0 holds NaN"),
            (np.zeros((2, 4)), "sum to 4, not to 1"),
            (np.full((2, 4), np.inf), "sum to inf"),
            (np.zeros((2, 4), int), "int64"),
        ],
    )
    def test_is_refused_with_a_remedy(
        self, ab: Vocabulary, log_probs: np.ndarray, cause: str
    ) -> None:
        for decoder in (Decoder(GreedySearch(ab), FRAME_SHIFT), beam_decoder(ab)):
            with pytest.raises(DecodeError, match=cause) as caught:
                decoder.decode(log_probs)
            assert caught.value.remedy

    def test_nothing_is_nothing(self, ab: Vocabulary) -> None:
        for decoder in (Decoder(GreedySearch(ab), FRAME_SHIFT), beam_decoder(ab)):
            assert decoder.decode(np.zeros((0, 4)))[0].text == ""

    def test_impossible_symbols_are_fine(self, ab: Vocabulary) -> None:
        with np.errstate(divide="ignore"):
            log_probs = np.log(np.eye(4)[[2, 0, 3]])
        for decoder in (Decoder(GreedySearch(ab), FRAME_SHIFT), beam_decoder(ab)):
            assert decoder.decode(log_probs)[0].text == "ab"

    def test_model_of_another_vocabulary(self, tiny_lm: NGram) -> None:
        with pytest.raises(DecodeError, match="cannot spell"):
            beam_decoder(Vocabulary.characters("xyz"), lm=tiny_lm)
        with pytest.raises(DecodeError, match="pronounced"):
            beam_decoder(Vocabulary.phones(["x", "y"]), lm=tiny_lm)

    def test_model_and_lexicon_without_a_common_word(self, ab: Vocabulary, tiny_lm: NGram) -> None:
        lexicon = Lexicon.from_words(["aab", "bb"], ab)
        with pytest.raises(DecodeError, match="knows no word"):
            beam_decoder(ab, lm=tiny_lm, lexicon=lexicon)

    def test_lexicon_of_another_vocabulary(self, ab: Vocabulary) -> None:
        lexicon = Lexicon.from_words(["xy"], Vocabulary.characters("xy"))
        with pytest.raises(DecodeError, match="spelled with x y"):
            beam_decoder(ab, lexicon=lexicon)

    def test_settings(self, ab: Vocabulary) -> None:
        for name, value in [("beam", 0), ("lm_weight", -1.0), ("unknown_penalty", math.nan)]:
            with pytest.raises(ConfigError):
                beam_decoder(ab, **{name: value})

    def test_finished_stream(self, ab: Vocabulary) -> None:
        stream = beam_decoder(ab).stream()
        stream.finish()
        with pytest.raises(DecodeError, match="finished"):
            stream.feed(np.zeros((0, 4)))
        with pytest.raises(DecodeError, match="frame shift"):
            Decoder(GreedySearch(ab), 0.0)


def test_confidence_knows_what_the_model_thinks_of_each_word(
    ab: Vocabulary, tiny_lm: NGram
) -> None:
    log_probs = synthetic_log_probs("a b ab bba ab", ab, np.random.default_rng(0), error=0.0)
    phones = Vocabulary.phones(["a", "b"])
    lexicon = Lexicon.from_pronunciations({w: [[*w]] for w in ("a", "b", "ab", "bba")}, phones)
    without_spaces = np.delete(log_probs, 1, axis=1)
    without_spaces -= np.log(np.exp(without_spaces).sum(axis=1, keepdims=True))
    for decoder, inputs in (
        (beam_decoder(ab, lm=tiny_lm), log_probs),
        (beam_decoder(phones, lm=tiny_lm, lexicon=lexicon), without_spaces),
    ):
        heard: list[float] = []

        def listen(features: Iterable[Sequence[float]], heard: list[float] = heard) -> list[float]:
            values = list(features)
            heard += [lm for _, _, _, lm, _ in values]
            return [0.5] * len(values)

        decoder.search.confidence = listen
        best = decoder.decode(inputs)[0]
        assert {word.confidence for word in best.words} == {0.5}
        expected = tiny_lm.score(best.text.split())[:-1]
        assert heard == pytest.approx(expected.tolist(), abs=1e-3)
