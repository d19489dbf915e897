"""The compact binary against the model it was compiled from; damage and strangers refused."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import LanguageModelError
from asr.files import load_arrays, save_arrays
from asr.lm.backoff import prune
from asr.lm.files import expand
from asr.lm.kneser_ney import train
from asr.lm.ngram import NGram, codebook, nearest, ngram_score

WORDS = ["the", "a", "cat", "cats", "dog", "dogs", "fish", "mat", "sat", "on", "and", "zebra"]
ANY_WORDS = st.lists(st.sampled_from(WORDS), max_size=8)


@pytest.fixture(scope="module")
def ngram(model) -> NGram:
    return NGram.compile(model)


@settings(max_examples=50, deadline=None)
@given(words=ANY_WORDS)
def test_it_scores_as_the_full_model(ngram, model, words):
    # So small a model has fewer than 256 different weights: its codebooks are exact.
    np.testing.assert_allclose(ngram.score(words), model.score([words])[0], atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(words=ANY_WORDS)
def test_a_pruned_model_scores_as_the_full_one(model, words):
    # Here suffixes of n-grams are missing, which nothing in a count-pruned model is.
    pruned = prune(model, 0.02)
    assert pruned.counts[1] < model.counts[1]
    np.testing.assert_allclose(
        NGram.compile(pruned).score(words), pruned.score([words])[0], atol=1e-5
    )


def test_quantised_weights_stay_close():
    rng = np.random.default_rng(0)
    sentences = [[f"w{i}" for i in rng.integers(300, size=6)] for _ in range(2000)]
    (full,) = train([sentences], 3)
    ngram = NGram.compile(full)
    differences = np.concatenate([ngram.score(s) - full.score([s])[0] for s in sentences[:200]])
    assert len(np.unique(full.log_prob)) > 256
    assert np.sqrt(np.mean(differences**2)) < 0.04


def test_a_state_is_the_longest_history_that_matters(ngram, model):
    state = np.int32(ngram.start)
    for word in ["the", "cat"]:
        _, state = ngram_score(ngram.tables, state, np.int32(ngram.word_id(word)))
    # Another way to the same two words, in a model of order 3, is the same state.
    other = np.int32(0)
    for word in ["mat", "the", "cat"]:
        _, other = ngram_score(ngram.tables, other, np.int32(ngram.word_id(word)))
    assert state == other
    _, unseen = ngram_score(ngram.tables, state, np.int32(ngram.word_id("dogs")))
    assert unseen == 1 + ngram.word_id("dogs")


def test_special_words(ngram):
    assert ngram.word_id("<unk>") == ngram.word_id("no such word") == ngram.word_id("") == 0
    assert ngram.words[ngram.end] == "</s>"
    assert ngram.word_id("<s>") == 1


def test_a_saved_model_is_mapped_and_the_same(ngram, tmp_path, sentences):
    ngram.save(tmp_path / "lm.bin")
    loaded = NGram.load(tmp_path / "lm.bin")
    assert list(loaded.words) == list(ngram.words)
    assert loaded.order == ngram.order
    assert loaded.counts == ngram.counts
    for words in sentences:
        np.testing.assert_array_equal(loaded.score(words), ngram.score(words))
    base = loaded.tables.leaf_word
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base.obj if isinstance(base, memoryview) else base, mmap.mmap)


def test_a_binary_expands_to_the_model_it_came_from(ngram, model):
    expanded = expand(ngram)
    assert expanded.counts == model.counts == ngram.counts
    for column in ("parent", "word", "log_prob", "backoff"):
        np.testing.assert_array_equal(getattr(expanded, column), getattr(model, column))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("suffix", lambda a: np.full_like(a, len(a) - 1)),
        ("children", lambda a: a[::-1]),
        ("children", lambda a: np.append(a[:-1], a[-1:] + 5)),
        ("leaves", lambda a: np.append(a[:-1], a[-1:] + 5)),
        ("leaves", lambda a: a[:-1]),
        ("word", lambda a: a + np.uint16(1000)),
        ("leaf_word", lambda a: a + np.uint16(1000)),
        ("leaf_word", lambda a: a.astype(np.float32)),
        ("leaf_probability", lambda a: a[1:]),
        ("probability", lambda a: a.astype(np.int8)),
        ("probability", lambda a: a.astype(np.uint16) + 300),
        ("probability_codebook", lambda a: a[:100]),
        ("backoff_codebook", lambda a: a * np.float32(np.nan)),
        ("vocabulary", lambda a: a[:-3]),
        ("vocabulary_blocks", lambda a: a + 1),
        ("vocabulary_blocks", lambda a: a[:0]),
    ],
)
def test_tables_that_would_lead_astray_are_refused(ngram, tmp_path, name, change):
    path = tmp_path / "lm.bin"
    ngram.save(path)
    arrays, metadata = load_arrays(path)
    save_arrays(path, {**arrays, name: change(arrays[name])}, metadata)
    with pytest.raises(LanguageModelError, match="damaged"):
        NGram.load(path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_damage_is_refused_or_harmless(ngram, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damage") / "lm.bin"
    ngram.save(path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        loaded = NGram.load(path)
    except LanguageModelError:
        return
    ids = range(len(loaded.words))
    states = range(len(loaded.tables.word))
    for state in states:
        for word in ids:
            score, following = ngram_score(loaded.tables, np.int32(state), np.int32(word))
            assert np.isfinite(score)
            assert following in states


def test_other_files_are_refused(tmp_path):
    with pytest.raises(LanguageModelError, match="cannot be read"):
        NGram.load(tmp_path / "missing.bin")
    (tmp_path / "lm.bin").write_bytes(b"no model")
    with pytest.raises(LanguageModelError, match="not an array file"):
        NGram.load(tmp_path / "lm.bin")
    save_arrays(tmp_path / "lm.bin", {"a": np.zeros(3)}, {"kind": "lexicon"})
    with pytest.raises(LanguageModelError, match="not a language model"):
        NGram.load(tmp_path / "lm.bin")


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.floats(-230, 0, width=32), min_size=1, max_size=2000))
def test_codes_are_exact_where_they_can_be(values):
    array = np.array(values, np.float32)
    codes = codebook(array)
    assert codes.shape == (256,)
    assert (np.diff(codes) >= 0).all()
    rounded = codes[nearest(codes, array)]
    if len(set(values)) <= 256:
        np.testing.assert_array_equal(rounded, array)
    assert rounded[array.argmin()] == array.min()
    assert rounded[array.argmax()] == array.max()


def test_codes_are_close_on_smooth_values():
    values = np.random.default_rng(0).normal(-8, 2, 100_000).astype(np.float32)
    codes = codebook(values)
    assert np.sqrt(np.mean((codes[nearest(codes, values)] - values) ** 2)) < 0.03
