"""Every cell and encoder overfits a small batch, and its bundle transcribes it without torch."""

import numpy as np
import pytest
import torch

from asr.features import FeatureConfig, Features
from asr.models.acoustic import AcousticModel, HeadConfig
from asr.models.cells import CELLS
from asr.models.encoder import EncoderConfig
from asr.models.encoders import ConformerConfig, ReversibleConfig, TransformerConfig
from asr.packaging.bundle import Bundle, BundleConfig
from asr.recognizer import Recognizer
from asr.text.vocabulary import Vocabulary

export = pytest.importorskip("asr.packaging.export")

HERTZ = {"a": 300, "b": 600, "c": 1200, "d": 2400}
TEXTS = ["abcda", "dcdb", "bad"]
ENCODERS = {
    **{cell: EncoderConfig(24, 1, cell=cell) for cell in CELLS},
    "unidirectional": EncoderConfig(24, 1, bidirectional=False),
    "projected, residual": EncoderConfig(16, 2, projection=12, residual=True),
    "with attention": EncoderConfig(16, 1, attention_heads=4),
    "convolutional": EncoderConfig(16, 1, convolutions=(4,), convolution_stride=3),
    "transformer": TransformerConfig(size=32, layers=1, heads=2, feed_forward=48, dropout=0.0),
    "conformer": ConformerConfig(
        size=24, layers=1, heads=2, feed_forward=32, kernel=3, dropout=0.0
    ),
    "reversible": ReversibleConfig(blocks=1, size=16, hidden_size=16, dropout=0.0),
}


def spoken(text: str) -> np.ndarray:
    """A tone of 120 ms for each letter."""
    time = np.arange(1920) / 16_000
    pieces = [0.3 * np.sin(2 * np.pi * HERTZ[c] * time) * np.hanning(1920) for c in text]
    return np.concatenate(pieces).astype(np.float32)


@pytest.mark.parametrize("config", ENCODERS.values(), ids=ENCODERS)
def test_a_small_batch_is_overfitted_and_transcribed(config, tmp_path):
    """Three recordings of tones, to less than 0.1 nats each within 200 updates."""
    stack = 1 if isinstance(config, EncoderConfig) and config.convolutions else 3
    statistics = {"mean": (-8.0,) * 20, "std": (5.0,) * 20}
    features = FeatureConfig(n_mels=20, stack=stack, stride=stack, **statistics)
    vocabulary = Vocabulary.characters(HERTZ)
    waveforms = [spoken(text) for text in TEXTS]
    rows = [torch.from_numpy(Features(features)(waveform)) for waveform in waveforms]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(r) for r in rows])
    targets = torch.tensor([c for text in TEXTS for c in vocabulary.encode(text)])
    n_targets = torch.tensor([len(text) for text in TEXTS])

    torch.manual_seed(0)
    heads = {"characters": HeadConfig(len(vocabulary), config.layers)}
    model = AcousticModel(features.size, config, heads)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(200):
        log_probs, n_rows = model(padded, lengths)
        loss = torch.nn.functional.ctc_loss(
            log_probs.transpose(0, 1), targets, n_rows, n_targets, reduction="sum"
        )
        if loss < 0.3:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.3

    shift = features.frame_shift * config.rate(config.layers)
    files = {"model.onnx": export.to_onnx(model.eval()).SerializeToString()}
    about = BundleConfig("small", "en", features, shift)
    bundle = Bundle.create(tmp_path / "model", about, vocabulary, files, "# Small\n")
    recognizer = Recognizer(bundle, decoder="greedy")
    assert [h.text for h in recognizer.recognize(waveforms)] == TEXTS
