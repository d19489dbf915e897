"""Forced alignment: against torchaudio, against all ways to leave words out, and in blocks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from ctc_reference import LETTERS, random_log_probs, synthetic_log_probs

from asr import alignment
from asr.alignment import AlignmentConfig, Spellings, Token, align
from asr.errors import ConfigError, DecodeError
from asr.text.vocabulary import Vocabulary

EVERYTHING = AlignmentConfig(absent=np.inf, foreign=np.inf, beam=np.inf)
PHONES = Vocabulary.phones(["a", "b", "c"])
JUNCTION = -1


def spelled(text: str, vocabulary: Vocabulary) -> list[Spellings]:
    return [[vocabulary.encode(word)] for word in text.split()]


def places(words: Sequence[Sequence[Token]]) -> list[list[tuple[int, int, int]]]:
    return [[(token.unit, token.first, token.last) for token in word] for word in words]


def best_of_all_ways(
    log_probs: np.ndarray, words: Sequence[Spellings], config: AlignmentConfig
) -> list[list[tuple[int, int, int]]]:
    """Every choice of words and spellings, each aligned by the textbook's Viterbi."""
    choices = [[*word, None] if config.absent < np.inf else word for word in words]
    best, found = -np.inf, []
    for choice in itertools.product(*choices):
        cost = sum(
            config.absent * min(map(len, word))
            for word, spelling in zip(words, choice, strict=True)
            if spelling is None
        )
        states, owners = [JUNCTION], [-1]
        for number, spelling in enumerate(choice):
            for k, label in enumerate(spelling or []):
                states += ([0] if k else []) + [label]
                owners += ([-1] if k else []) + [number]
            if spelling:
                states.append(JUNCTION)
                owners.append(-1)
        score, path = viterbi(log_probs, states, config.foreign)
        if score - cost > best:
            best, found = score - cost, [[] for _ in words]
            for state, group in itertools.groupby(range(len(path)), key=path.__getitem__):
                frames = list(group)
                if owners[state] >= 0:
                    found[owners[state]].append((states[state], frames[0], frames[-1]))
    return found


def viterbi(
    log_probs: np.ndarray, states: Sequence[int], foreign: float
) -> tuple[float, list[int]]:
    best = {s: (0.0, [s]) for s in range(min(2, len(states)))}
    for t, row in enumerate(log_probs):
        following: dict[int, tuple[float, list[int]]] = {}
        for s, (score, path) in best.items():
            for to in range(s, min(s + 3, len(states))) if t else [s]:
                twice = to == s + 2 and (states[s] == states[to] or to % 2 == 0)
                if twice:
                    continue
                label = states[to]
                emitted = max(row[0], row.max() - foreign) if label == JUNCTION else row[label]
                total = score + float(emitted)
                if to not in following or total > following[to][0]:
                    following[to] = (total, [*path, to] if t else path)
        best = following
    ends = [best[s] for s in (len(states) - 1, len(states) - 2) if s in best]
    return max(ends, default=(-np.inf, []))


@pytest.mark.parametrize("block", [2, 5, 512])
def test_the_best_of_all_ways_to_leave_words_out(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alignment, "BLOCK", block)
    rng = np.random.default_rng(0)
    words = [[[1], [2, 1]], [[2, 2]], [[2, 3], [3]], [[1, 2]]]
    for config in (AlignmentConfig(absent=0.8, foreign=0.4), AlignmentConfig(2.0, np.inf)):
        for frames in (3, 6, 11, 14):
            log_probs = random_log_probs(rng, frames, len(PHONES))
            expected = best_of_all_ways(log_probs, words, config)
            assert places(align(log_probs, words, PHONES, config)) == expected


def test_equals_torchaudio_where_everything_must_fit() -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchaudio.functional")
    rng = np.random.default_rng(1)
    for text in ("a", "all lessons", "the quick brown fox", "see eels off"):
        targets = PHONES.encode(" ".join(rng.choice(["a", "b", "c"], len(text))))
        log_probs = random_log_probs(rng, 3 * len(text) + 5, len(PHONES))
        labels, _ = functional.forced_align(
            torch.tensor(log_probs)[None], torch.tensor([targets], dtype=torch.int32), blank=0
        )
        spans = [
            (label, (frames := list(group))[0], frames[-1])
            for label, group in itertools.groupby(
                range(len(log_probs)), key=lambda t: int(labels[0, t])
            )
            if label
        ]
        # Cut into words anywhere: where words end changes nothing.
        words = [[targets[:2]], [targets[2:5]], [targets[5:]]]
        found = align(log_probs, [w for w in words if w[0]], PHONES, EVERYTHING)
        assert [place for word in places(found) for place in word] == spans


@pytest.mark.parametrize("block", [7, 512])
def test_blocks_and_beam_do_not_show(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    text = "it is a long way to the middle of the next word and back"
    log_probs = synthetic_log_probs(text, LETTERS, rng, error=0.2)
    words = spelled(text, LETTERS)
    expected = align(log_probs, words, LETTERS, AlignmentConfig(beam=np.inf))
    monkeypatch.setattr(alignment, "BLOCK", block)
    assert align(log_probs, words, LETTERS, AlignmentConfig(beam=60.0)) == expected
    heard = [LETTERS.decode([token.unit for token in word]) for word in expected]
    assert heard == text.split()


def test_wrong_words_are_left_out_and_their_neighbours_stay() -> None:
    rng = np.random.default_rng(3)
    said = "she could not decide what to do with the rest of the day"
    log_probs = synthetic_log_probs(said, LETTERS, rng, error=0.1)
    right = dict(enumerate(align(log_probs, spelled(said, LETTERS), LETTERS)))
    words = said.split()
    wrong = [*words[:4], "xylophone", "quartz", *words[4:8], *words[9:]]  # two more, one less
    found = align(log_probs, spelled(" ".join(wrong), LETTERS), LETTERS)
    assert [word for word, tokens in zip(wrong, found, strict=True) if not tokens] == [
        "xylophone",
        "quartz",
    ]
    kept = [tokens for tokens in found if tokens]
    assert kept == [tokens for k, tokens in right.items() if k != 8]


def test_a_word_without_spelling_leaves_room() -> None:
    said = "call siobhan now"
    log_probs = synthetic_log_probs(said, LETTERS, np.random.default_rng(4), error=0.0)
    call, _, now = align(log_probs, spelled(said, LETTERS), LETTERS)
    words = spelled(said, LETTERS)
    words[1] = []
    assert align(log_probs, words, LETTERS) == [call, (), now]


def test_tokens_know_their_probability() -> None:
    log_probs = np.log([[0.1, 0.8, 0.05, 0.05], [0.2, 0.6, 0.1, 0.1], [0.9, 0.05, 0.03, 0.02]])
    [[token]] = align(log_probs, [[[1]]], PHONES)
    assert (token.unit, token.first, token.last) == (1, 0, 1)
    assert token.probability == pytest.approx(0.8)


def test_of_two_spellings_the_better_one() -> None:
    log_probs = np.log(np.eye(4)[[1, 0, 2, 3]] * 0.9 + 0.025)
    [word] = align(log_probs, [[[1, 2], [1, 2, 3], [3]]], PHONES)
    assert [token.unit for token in word] == [1, 2, 3]


def test_nothing_is_nothing() -> None:
    silence = np.log(np.eye(4)[[0, 0]] * 0.9 + 0.025)
    assert align(silence, [], PHONES) == []
    assert align(silence[:0], [[[1]]], PHONES) == [()]
    assert align(silence, [[], []], PHONES) == [(), ()]


def test_refuses_what_cannot_fit_and_what_are_no_probabilities() -> None:
    log_probs = random_log_probs(np.random.default_rng(5), 3, 4)
    with pytest.raises(DecodeError, match="does not fit into the 3 frames"):
        align(log_probs, [[[1, 2]], [[1, 2]]], PHONES, EVERYTHING)
    with pytest.raises(DecodeError, match="frame 0 holds NaN"):
        align(np.full((2, 4), np.nan), [], PHONES)
    with pytest.raises(ConfigError, match="foreign is -1"):
        AlignmentConfig(foreign=-1)
