"""Transducers and attention decoders run without torch, and say the same."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from asr.acoustics import OnnxEngine  # noqa: E402
from asr.decode import Decoder, DecoderConfig, attention, transducer  # noqa: E402
from asr.decode.heads import attention_search, transducer_search  # noqa: E402
from asr.errors import BundleError, ConfigError  # noqa: E402
from asr.heads import OnnxAttention, OnnxTransducer  # noqa: E402
from asr.lm.recurrent import RecurrentLM, SameUnits  # noqa: E402
from asr.models.acoustic import AcousticModel, HeadConfig  # noqa: E402
from asr.models.attention_decoder import AttentionConfig, TorchAttention  # noqa: E402
from asr.models.encoder import EncoderConfig  # noqa: E402
from asr.models.language import LanguageModel, SymbolConfig  # noqa: E402
from asr.models.transducer import TorchSteps, TransducerConfig  # noqa: E402
from asr.packaging.export import to_onnx  # noqa: E402
from asr.packaging.export.heads import step_graphs  # noqa: E402
from asr.packaging.export.language import language_model_to_onnx  # noqa: E402
from asr.text.vocabulary import UNKNOWN, Vocabulary  # noqa: E402

VOCABULARY = Vocabulary.characters("abcd")
SYMBOLS = SymbolConfig(hidden_size=6, layers=2, embedding=4, projection=5)


def write(head: HeadConfig, folder, small=False):
    """A network with this head and a CTC one, and its graphs in a folder."""
    torch.manual_seed(0)
    heads = {"text": head, "ctc": HeadConfig(len(VOCABULARY), 1)}
    model = AcousticModel(7, EncoderConfig(8, 1), heads).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    second = "ctc" if head.kind == "attention" else None
    (folder / "model.onnx").write_bytes(to_onnx(model, second).SerializeToString())
    for name, graph in step_graphs(model.head(), small=small).items():
        (folder / name).write_bytes(graph.SerializeToString())
    features = np.random.default_rng(0).normal(size=(9, 7)).astype(np.float32)
    outputs = OnnxEngine(folder / "model.onnx").all_log_probs([features])[0]
    with torch.inference_mode():
        given = model.forward_heads(torch.from_numpy(features)[None], torch.tensor([9]))
    for output, name in zip(outputs, given, strict=False):
        np.testing.assert_allclose(output, given[name][0][0], atol=1e-4)
    return model, outputs


@pytest.mark.parametrize("joiner", ["sum", "graves2013", "tanh"])
def test_a_transducer_finds_the_same_without_torch(joiner, tmp_path):
    config = TransducerConfig(SYMBOLS, joiner, size=6, most_symbols=2)
    model, (encoded,) = write(HeadConfig(len(VOCABULARY), 1, "transducer", config), tmp_path)
    settings = {"beam": 4, "nbest": 3, "max_symbols": 2}
    here = transducer.beam_search(TorchSteps(model.head()), encoded, **settings)
    there = transducer.beam_search(OnnxTransducer(tmp_path), encoded, **settings)
    assert [r.symbols for r in here] == [r.symbols for r in there]
    np.testing.assert_allclose([r.score for r in here], [r.score for r in there], atol=1e-4)
    greedily = transducer_search(tmp_path, VOCABULARY, DecoderConfig(beam=1), max_symbols=2)
    (best,) = Decoder(greedily, 0.03).decode(encoded)
    taken = transducer.greedy(TorchSteps(model.head()), encoded, 2)
    assert best.text == VOCABULARY.decode(taken.symbols)
    assert best.score == pytest.approx(taken.score, abs=1e-4)
    assert all(0 <= w.start < w.end <= 9 * 0.03 + 1e-9 for w in best.words)
    assert all(0 < w.confidence <= 1 for w in best.words)


@pytest.mark.parametrize("filters", [0, 2])
def test_an_attention_decoder_finds_the_same_without_torch(filters, tmp_path):
    config = AttentionConfig(SYMBOLS, size=6, location_filters=filters, location_width=3)
    head = HeadConfig(len(VOCABULARY), 1, "attention", attention=config)
    model, (encoded, ctc) = write(head, tmp_path)
    settings = {"beam": 4, "nbest": 3, "ctc_log_probs": ctc, "ctc_weight": 0.4}
    here = attention.beam_search(TorchAttention(model.head()), encoded, **settings)
    there = attention.beam_search(OnnxAttention(tmp_path), encoded, **settings)
    assert [r.symbols for r in here] == [r.symbols for r in there]
    for a, b in zip(here, there, strict=True):
        assert a.score == pytest.approx(b.score, abs=1e-4)
        np.testing.assert_allclose(a.attention, b.attention, atol=1e-4)
    search = attention_search(
        tmp_path, VOCABULARY, DecoderConfig(beam=4, second_weight=0.4), has_ctc=True
    )
    decoder = Decoder(search, 0.03)
    outputs = (encoded, ctc)
    ((best, *_),) = decoder.decode_batch([outputs], nbest=3)
    assert best.text == VOCABULARY.decode(here[0].symbols)
    stream = decoder.stream()
    stream.feed((encoded[:4], ctc[:4]))
    assert stream.partial().text == ""
    stream.feed((encoded[4:], ctc[4:]))
    assert stream.finish()[0] == best
    with pytest.raises(ConfigError, match="hot words"):
        decoder.variant(hotwords=["a"])


def test_eight_bits_are_smaller_and_close(tmp_path):
    wide = SymbolConfig(hidden_size=64, embedding=None)
    head = HeadConfig(len(VOCABULARY), 1, "transducer", TransducerConfig(wide, size=32))
    model, _ = write(head, tmp_path)
    whole = (tmp_path / "prediction.onnx").stat().st_size
    small = step_graphs(model.head(), small=True)["prediction.onnx"].SerializeToString()
    assert len(small) < 0.4 * whole
    expected, _ = OnnxTransducer(tmp_path).predict(np.array([2]), np.zeros((1, 128), np.float32))
    (tmp_path / "prediction.onnx").write_bytes(small)
    found, _ = OnnxTransducer(tmp_path).predict(np.array([2]), np.zeros((1, 128), np.float32))
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_a_recurrent_language_model_of_the_same_units_joins_in(tmp_path):
    config = TransducerConfig(SYMBOLS, size=6, most_symbols=2)
    _, (encoded,) = write(HeadConfig(len(VOCABULARY), 1, "transducer", config), tmp_path)
    known = Vocabulary((*VOCABULARY.symbols, UNKNOWN))
    graph = language_model_to_onnx(LanguageModel(len(known), SYMBOLS).eval(), known, small=False)
    (tmp_path / "rescorer.onnx").write_bytes(graph.SerializeToString())
    lm = RecurrentLM(tmp_path / "rescorer.onnx")
    known_units, config = SameUnits(lm, VOCABULARY), DecoderConfig(beam=4, lm_weight=0.5)
    search = transducer_search(tmp_path, VOCABULARY, config, max_symbols=2, lm=known_units)
    steps = OnnxTransducer(tmp_path)
    (found,) = transducer.beam_search(
        steps, encoded, beam=4, max_symbols=2, lm=known_units, lm_weight=0.5
    )
    state, expected = lm.start(), 0.0
    for before, symbol in itertools.pairwise([0, *found.symbols]):
        log_probs, state = lm.step([before], state)
        expected += float(log_probs[0, symbol])
    best = Decoder(search, 0.03).decode(encoded)[0]
    assert best.lm_score == pytest.approx(expected, abs=1e-4)
    assert best.acoustic_score == pytest.approx(best.score - 0.5 * best.lm_score)
    with pytest.raises(BundleError, match="other units"):
        SameUnits(lm, Vocabulary.characters("dcba"))


def test_a_missing_part_is_told(tmp_path):
    with pytest.raises(BundleError, match="not a part of a network"):
        OnnxTransducer(tmp_path)
