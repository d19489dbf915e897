"""Recurrent language models in ONNX: what the network says, what is sampled, what is refused."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from asr.errors import LanguageModelError  # noqa: E402
from asr.lm.evaluation import compare  # noqa: E402
from asr.lm.ngram import NGram  # noqa: E402
from asr.lm.recurrent import RecurrentLM  # noqa: E402
from asr.models.cells import CELLS  # noqa: E402
from asr.models.language import LanguageModel, SymbolConfig  # noqa: E402
from asr.packaging.export.language import language_model_to_onnx  # noqa: E402
from asr.text.vocabulary import BLANK, UNKNOWN, Vocabulary  # noqa: E402

CHARACTERS = Vocabulary((BLANK, " ", *"acht", UNKNOWN))
WORDS = Vocabulary((BLANK, "a", "cat", "the", UNKNOWN), "words")
PIECES = Vocabulary((BLANK, "▁", "▁the", "▁ca", "a", "t", "h", UNKNOWN), "pieces")
TEXTS = ["the cat", "a hat at a cat", "", "cat"]


@pytest.fixture
def make(tmp_path):
    def make(vocabulary, config=None, small=False, scale=0.2):
        torch.manual_seed(0)
        config = config or SymbolConfig(hidden_size=8, embedding=6, projection=6)
        model = LanguageModel(len(vocabulary), config, config.projection == config.embedding)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(scale * torch.randn_like(parameter))
        path = tmp_path / "lm.onnx"
        graph = language_model_to_onnx(model.eval(), vocabulary, small=small)
        path.write_bytes(graph.SerializeToString())
        return model, RecurrentLM(path)

    return make


def exact(model, vocabulary, text) -> float:
    symbols = vocabulary.encode(text)
    with torch.no_grad():
        return -float(model.loss(torch.tensor([symbols]).long(), torch.tensor([len(symbols)])))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("embedding", [None, 6])
def test_the_graph_says_what_the_network_says(cell, embedding, make):
    model, lm = make(CHARACTERS, SymbolConfig(cell, 8, 2, embedding, projection=6))
    scores = lm(TEXTS)
    np.testing.assert_allclose(scores, [exact(model, CHARACTERS, t) for t in TEXTS], rtol=1e-4)
    state, total, before = lm.start(), 0.0, 0
    for symbol in [*CHARACTERS.encode("the cat"), 0]:
        log_probs, state = lm.step([before], state)
        total, before = total + float(log_probs[0, symbol]), symbol
    assert total == pytest.approx(scores[0], abs=1e-4)


@pytest.mark.parametrize("vocabulary", [CHARACTERS, WORDS, PIECES], ids=lambda v: v.kind)
def test_words_share_out_the_score_of_their_sentence(vocabulary, make):
    _, lm = make(vocabulary)
    together = list(lm.scores([text.split() for text in TEXTS], batch=3))
    for text, total, scores in zip(TEXTS, lm(TEXTS), together, strict=True):
        assert len(scores) == len(text.split()) + 1
        assert scores.sum() == pytest.approx(total, abs=1e-4)
        np.testing.assert_allclose(lm.score(text.split()), scores, atol=1e-5)
    # The same beginning, the same scores: a model looks back only.
    longer, shorter = lm.score(["cat", "a", "cat"]), lm.score(["cat", "the"])
    np.testing.assert_allclose(longer[0], shorter[0], atol=1e-5)


@pytest.mark.parametrize("small", [False, True])
def test_a_tied_embedding_is_kept_once(small):
    model = LanguageModel(
        len(CHARACTERS), SymbolConfig(hidden_size=8, embedding=6, projection=6), True
    )
    graph = language_model_to_onnx(model.eval(), CHARACTERS, small=small).graph
    shapes = [tuple(constant.dims) for constant in graph.initializer]
    assert shapes.count((len(CHARACTERS), 6)) == 1


def test_eight_bits_are_close_smaller_and_blind_to_the_batch(make):
    config = SymbolConfig(hidden_size=64, embedding=32, projection=32)
    model, lm = make(CHARACTERS, config, small=True, scale=0.05)
    size = sum(p.numel() for p in model.parameters())
    graph = language_model_to_onnx(model, CHARACTERS)
    assert len(graph.SerializeToString()) < 1.5 * size
    for text, score in zip(TEXTS, lm(TEXTS), strict=True):
        assert score == pytest.approx(exact(model, CHARACTERS, text), rel=0.01)
        assert lm([text])[0] == pytest.approx(score, abs=1e-4)


def test_perplexity_beside_an_n_gram_model_on_the_words_that_both_know(make, model, sentences):
    ngram = NGram.compile(model)
    network, lm = make(WORDS)
    text = [["the", "cat"], ["a", "dog"]]
    beside, recurrent = compare([ngram, lm], text)
    assert (beside.words, beside.unknown) == (recurrent.words, recurrent.unknown) == (4, 1)
    first, second = (lm.score(words) for words in text)
    expected = first.sum() + second[[0, 2]].sum()
    assert recurrent.log_prob == pytest.approx(expected, abs=1e-4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    uniform = math.exp(-exact(network, WORDS, "the cat") / 3)
    assert uniform == pytest.approx(len(WORDS))


def test_samples_follow_the_model(make):
    _, lm = make(WORDS)
    assert lm.sample(seed=4) == lm.sample(seed=4)
    assert lm.sample("the cat", seed=1).startswith("the cat")
    first = [lm.sample(seed=seed, most=1) for seed in range(400)]
    log_probs, _ = lm.step([0], lm.start())
    chances = np.exp(log_probs[0])
    chances[WORDS.symbols.index(UNKNOWN)] = 0
    for symbol, chance in zip(WORDS.symbols[1:4], (chances / chances.sum())[1:4], strict=True):
        share = first.count(symbol) / len(first)
        assert abs(share - chance) < 4 * math.sqrt(chance * (1 - chance) / len(first)) + 1e-9
    likeliest = WORDS.symbols[int(chances.argmax())].replace(BLANK, "")
    assert {lm.sample(temperature=1e-3, seed=s, most=1) for s in range(5)} == {likeliest}
    with pytest.raises(LanguageModelError, match="temperature"):
        lm.sample(temperature=0)


def test_what_is_no_model_is_refused(tmp_path, tone_bundle):
    (tmp_path / "lm.onnx").write_bytes(b"garbage")
    with pytest.raises(LanguageModelError, match="not a recurrent language model"):
        RecurrentLM(tmp_path / "lm.onnx")
    with pytest.raises(LanguageModelError, match="not a recurrent language model"):
        RecurrentLM(tone_bundle.model_path)
    with pytest.raises(LanguageModelError, match="not a recurrent language model"):
        RecurrentLM(tmp_path / "missing.onnx")
