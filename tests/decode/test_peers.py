"""The same answers as pyctcdecode, where neither prunes.

    pip install --no-deps pyctcdecode==0.5.0 pygtrie kenlm

(pyctcdecode asks for an old numpy that it does not need, hence --no-deps.)
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from ctc_reference import TINY_ARPA, UNPRUNED, beam_decoder, random_log_probs

from asr.lm.ngram import NGram
from asr.text.vocabulary import Vocabulary

pyctcdecode = pytest.importorskip(
    "pyctcdecode", reason="install it as this file's first lines say", exc_type=ImportError
)
# They clip log-probabilities at -34.5.
NO_LIMITS = {"beam_width": 5000, "beam_prune_logp": -1e6, "token_min_logp": -34.0}
LABELS = ["", " ", "a", "b"]


def inputs(with_spaces: bool = True) -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    found = [random_log_probs(rng, int(rng.integers(2, 9)), len(LABELS)) for _ in range(15)]
    for log_probs in found if not with_spaces else []:
        log_probs[:, LABELS.index(" ")] = -50
        log_probs -= np.log(np.exp(log_probs).sum(axis=1, keepdims=True))
    return found


def test_without_a_language_model(ab: Vocabulary) -> None:
    theirs = pyctcdecode.build_ctcdecoder(LABELS)
    ours = beam_decoder(ab, **UNPRUNED)
    for log_probs in inputs():
        found = {h.text: h.score for h in ours.decode(log_probs, nbest=10_000)}
        for text, _, _, score, _ in theirs.decode_beams(log_probs, **NO_LIMITS)[:20]:
            assert found[text] == pytest.approx(score, abs=1e-3)


def test_with_a_language_model(ab: Vocabulary, tiny_lm: NGram, tmp_path: Path) -> None:
    pytest.importorskip("kenlm", reason="pip install kenlm")
    logging.getLogger("pyctcdecode").setLevel(logging.ERROR)
    arpa = tmp_path / "tiny.arpa"
    arpa.write_text(TINY_ARPA, encoding="utf-8")
    words = [word for word in tiny_lm.words if word.isalpha()]
    theirs = pyctcdecode.build_ctcdecoder(
        LABELS, str(arpa), words, alpha=0.8, beta=0.4, unk_score_offset=-2.0
    )
    # Their scale of the offset for unknown words: alpha and log 10 apply to it.
    penalty = -2.0 * 0.8 * np.log(10)
    weights = {"lm_weight": 0.8, "word_bonus": 0.4, "unknown_penalty": penalty}
    ours = beam_decoder(ab, lm=tiny_lm, **UNPRUNED | weights)
    # Single words: where a space may come last, they score an empty word after it.
    for log_probs in inputs(with_spaces=False):
        found = {h.text: h for h in ours.decode(log_probs, nbest=10_000)}
        for text, _, _, acoustic, total in theirs.decode_beams(log_probs, **NO_LIMITS)[:20]:
            if text:
                assert found[text].acoustic_score == pytest.approx(acoustic, abs=1e-3)
                assert found[text].score == pytest.approx(total, abs=0.02)  # one byte a weight
