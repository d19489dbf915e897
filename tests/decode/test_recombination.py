"""Prefixes with the same future share a place in the beam, and their texts are found again."""

from __future__ import annotations

import itertools
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from ctc_reference import (
    TINY_ARPA,
    UNPRUNED,
    beam_decoder,
    random_log_probs,
    synthetic_log_probs,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decode import Decoder
from asr.decode.beam import BeamSearchStream
from asr.decode.lattice import ctc_log_likelihood
from asr.decode.prefix_tree import NOTHING
from asr.lexicon import Lexicon
from asr.lm.files import read_arpa
from asr.lm.ngram import NGram
from asr.text.vocabulary import Vocabulary

PHONES = Vocabulary.phones(["x", "y", "z"])
LEXICON = {"a": [["x"], ["x", "y"]], "b": [["x"], ["y"]], "ab": [["x", "y", "z"]], "bba": [["z"]]}


def decoder(lm: NGram, **changed: float) -> Decoder:
    lexicon = Lexicon.from_pronunciations(LEXICON, PHONES, lm.words)
    weights = UNPRUNED | {"lm_weight": 0.8, "horizon": float("inf")} | changed
    return beam_decoder(PHONES, lexicon=lexicon, lm=lm, **weights)


RAREST = -1.4 * math.log(10)  # natural log: "bba", the rarest word of the tiny model
UNKNOWN = -1.2 * math.log(10)  # and its `<unk>`


@pytest.mark.parametrize(
    ("unknown", "cost"),
    [
        ({"zoo": [["z", "y"]]}, RAREST - UNKNOWN),  # not likelier than the rarest word
        ({"zoo": [["z", "y"]], "zed": [["z", "z"]]}, -math.log(2)),  # the two share `<unk>`
    ],
)
@pytest.mark.parametrize("penalty", [0.0, -1.5])
def test_words_that_the_language_model_lacks_share_what_it_leaves_to_unknown_ones(
    penalty: float, unknown: dict[str, list[list[str]]], cost: float, tiny_lm: NGram
) -> None:
    lexicon = Lexicon.from_pronunciations(LEXICON | unknown, PHONES)
    weights = UNPRUNED | {"lm_weight": 0.8, "unknown_penalty": penalty}
    decoder = beam_decoder(PHONES, lexicon=lexicon, lm=tiny_lm, **weights)
    assert decoder.search.unknown_word_cost == pytest.approx(cost, abs=1e-5)
    found = decoder.decode(noise(3, 6), nbest=50)
    counts = [sum(word in unknown for word in h.text.split()) for h in found]
    assert {0, 1} <= {*counts}
    for hypothesis, count in zip(found, counts, strict=True):
        lm_score = float(tiny_lm.score(hypothesis.text.split()).sum())
        assert hypothesis.lm_score == pytest.approx(lm_score, abs=1e-4)
        total = hypothesis.acoustic_score + 0.8 * (lm_score + cost * count)
        assert hypothesis.score == pytest.approx(total, abs=1e-4)


def test_hot_words_that_the_language_model_lacks_cost_the_penalty(tiny_lm: NGram) -> None:
    lexicon = Lexicon.from_pronunciations(LEXICON | {"zoo": [["z", "y"]]}, PHONES)
    weights = UNPRUNED | {"lm_weight": 0.8, "unknown_penalty": -1.5}
    search = beam_decoder(PHONES, lexicon=lexicon, lm=tiny_lm, hotwords={"zoo": 2.0}, **weights)
    for hypothesis in search.decode(noise(3, 6), nbest=50):
        count = hypothesis.text.split().count("zoo")
        lm_score = float(tiny_lm.score(hypothesis.text.split()).sum())
        total = hypothesis.acoustic_score + 0.8 * lm_score + (2.0 - 1.5) * count
        assert hypothesis.score == pytest.approx(total, abs=1e-4)


def test_a_model_without_an_unknown_word_excludes_what_it_lacks(
    tiny_lm: NGram, tmp_path: Path
) -> None:
    path = tmp_path / "closed.arpa"
    closed = TINY_ARPA.replace("-1.2\t<unk>\t0\n", "").replace("ngram 1=7", "ngram 1=6")
    path.write_text(closed, encoding="utf-8")
    lm = NGram.compile(read_arpa(path))
    lexicon = Lexicon.from_pronunciations(LEXICON | {"zoo": [["z", "y"]]}, PHONES)
    search = beam_decoder(PHONES, lexicon=lexicon, lm=lm, **UNPRUNED)
    assert search.search.unknown_word_cost == 0.0
    found = search.decode(noise(3, 6), nbest=50)
    assert "zoo" not in found[0].text


def noise(seed: int, frames: int) -> np.ndarray:
    return random_log_probs(np.random.default_rng(seed), frames, len(PHONES))


def pronunciations(text: str, begun: list[str]) -> list[list[int]]:
    """All ways to say a text, in classes, with phones of a word that is not finished."""
    ways = itertools.product(*(LEXICON[word] for word in text.split()))
    return [PHONES.encode(" ".join([*itertools.chain(*way), *begun])) for way in ways]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), frames=st.integers(1, 12), beam=st.sampled_from([2, 5, 20]))
def test_scores_are_exact_with_any_beam(seed: int, frames: int, beam: int, tiny_lm: NGram) -> None:
    log_probs = noise(seed, frames)
    found = decoder(tiny_lm, beam=beam).decode(log_probs, nbest=5)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
    for hypothesis in found:
        lm_score = float(tiny_lm.score(hypothesis.text.split()).sum())
        assert hypothesis.lm_score == pytest.approx(lm_score, abs=1e-4)
        matches = []
        # A narrow beam may end with nothing but unfinished words: then these are cut.
        for begun in ([], ["x"], ["x", "y"]):
            acoustic = ctc_log_likelihood(log_probs, pronunciations(hypothesis.text, begun))
            matches.append(np.abs(acoustic - hypothesis.acoustic_score).min() < 1e-4)
        assert any(matches)
        assert matches[0] or beam == 2
        total = hypothesis.acoustic_score + 0.8 * lm_score
        assert not matches[0] or hypothesis.score == pytest.approx(total, abs=1e-4)


def test_more_texts_are_found_than_the_beam_holds(tiny_lm: NGram) -> None:
    found = decoder(tiny_lm, beam=8).decode(noise(3, 40), nbest=100)
    assert len({hypothesis.text for hypothesis in found}) == len(found) > 50
    for hypothesis in found:
        words = hypothesis.text.split()
        assert hypothesis.lm_score == pytest.approx(float(tiny_lm.score(words).sum()), abs=1e-3)
        assert [word.word for word in hypothesis.words] == words
        times = [time for word in hypothesis.words for time in (word.start, word.end)]
        assert times == sorted(times)


def check_tree(stream: BeamSearchStream) -> int:
    """Every use is counted, nothing leads in circles; returns the number of recombined prefixes."""
    state, nodes = stream._state, stream._beam.nodes[: stream._state["n_nodes"]]
    free, at = set(), int(state["free_node"])
    while at != NOTHING:
        free.add(at)
        at = int(nodes["next_sibling"][at])
    recombined = 0
    for at in set(range(len(nodes))) - free - {int(state["root"])}:
        node = nodes[at]
        parent = nodes[node["parent"]]
        children, child = [], int(parent["first_child"])
        while child != NOTHING:
            children.append(child)
            child = int(nodes["next_sibling"][child])
        assert children.count(at) == 1
        survivor = int(node["survivor"])
        after = nodes[survivor]["frame"] if survivor >= 0 else node["frame"]
        assert parent["frame"] < after
        own = [int(c) for c in np.flatnonzero(nodes["parent"] == at) if int(c) not in free]
        assert node["uses"] == len(own) + (node["slot"] >= 0) + (survivor >= 0)
        if survivor >= 0:
            recombined += 1
            assert survivor not in free
            assert node["slot"] == NOTHING
            assert not own
            assert 0.0 <= node["share"] <= 1.0
        shares, past = [], int(node["next_recombined"]) if survivor < 0 else NOTHING
        while past != NOTHING:
            shares.append(float(nodes["share"][past]))
            past = int(nodes["next_recombined"][past])
        assert sum(shares) <= 1.0 - max(shares, default=0.0) + 1e-3
    return recombined


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 1000), beam=st.sampled_from([3, 30]), horizon=st.sampled_from([0.3, 9.0])
)
def test_the_tree_stays_sound(seed: int, beam: int, horizon: float, tiny_lm: NGram) -> None:
    stream = decoder(tiny_lm, beam=beam, horizon=horizon).stream()
    recombined = 0
    for piece in np.array_split(noise(seed, 90), 6):
        stream.feed(piece)
        recombined = max(recombined, check_tree(stream._search))
    assert recombined > 0 or beam == 3


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(0, 60), max_size=8))
def test_any_pieces_give_the_same_result_and_what_is_stable_stays(
    seed: int, cuts: list[int], tiny_lm: NGram
) -> None:
    log_probs = noise(seed, 60)
    search = decoder(tiny_lm, beam=12, horizon=0.5)
    stream = search.stream()
    promised = [""]
    for piece in np.split(log_probs, sorted(cuts)):
        stream.feed(piece)
        promised.append(stream.partial().stable)
    found = stream.finish(nbest=5)
    assert all(later.startswith(earlier) for earlier, later in pairwise(promised))
    assert all(hypothesis.text.startswith(promised[-1]) for hypothesis in found)
    assert found == search.decode(log_probs, nbest=5)


def test_an_hour_in_constant_memory(monkeypatch: pytest.MonkeyPatch, tiny_lm: NGram) -> None:
    rng = np.random.default_rng(1)
    once = synthetic_log_probs("x y z z x", PHONES, rng, error=0.2)
    search = decoder(tiny_lm, beam=12, horizon=1.0, beam_threshold=12.0, token_threshold=8.0)
    whole = search.decode(np.tile(once, (100, 1)))[0]
    monkeypatch.setattr("asr.decode.beam._LATTICE", 256)
    stream = search.stream()
    for _ in range(100):
        stream.feed(once)
    assert len(stream._search._beam.nodes) <= 4096
    assert stream._search._limit == 256
    found = stream.finish()[0]
    assert found.text == whole.text
    assert [word.start for word in found.words] == [word.start for word in whole.words]
    assert found.score == pytest.approx(whole.score, rel=1e-3)
    assert found.lm_score == pytest.approx(whole.lm_score, abs=1e-2)
