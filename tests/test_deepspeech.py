"""Checkpoints of deepspeech.pytorch become bundles that compute the same, and run nothing."""

from __future__ import annotations

import os
import pickle
import sys
import types
import zipfile
from contextlib import suppress
from dataclasses import field, make_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
OmegaConf: Any = pytest.importorskip("omegaconf").OmegaConf

from torch import nn  # noqa: E402

from asr.acoustics import Acoustics, OnnxEngine, open_session  # noqa: E402
from asr.cli import main  # noqa: E402
from asr.errors import ASRError, BundleError  # noqa: E402
from asr.features import Features  # noqa: E402
from asr.lm.kneser_ney import train  # noqa: E402
from asr.lm.ngram import NGram  # noqa: E402
from asr.packaging.bundle import Bundle  # noqa: E402
from asr.packaging.deepspeech import package_checkpoint, read_checkpoint  # noqa: E402
from asr.packaging.package import package_bundle  # noqa: E402
from asr.packaging.pickled import opened  # noqa: E402
from asr.recognizer import Recognizer  # noqa: E402

LABELS = ["_", "'", "A", "B", "C", " "]
HIDDEN, LAYERS, CHANNELS = 6, 3, 4
CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN}


class Around(nn.Module):
    """Gives what it holds a longer name in the state."""

    def __init__(self, **held: nn.Module) -> None:
        super().__init__()
        for name, module in held.items():
            self.add_module(name, module)


class DeepSpeech2(nn.Module):
    """The network as its authors describe it, an utterance at a time: no padding, no masks."""

    def __init__(self, cell: str = "lstm", bidirectional: bool = True) -> None:
        super().__init__()
        convolutions = nn.Sequential(
            nn.Conv2d(1, CHANNELS, (41, 11), stride=(2, 2), padding=(20, 5)),
            nn.BatchNorm2d(CHANNELS),
            nn.Hardtanh(0, 20),
            nn.Conv2d(CHANNELS, CHANNELS, (21, 11), stride=(2, 1), padding=(10, 5)),
            nn.BatchNorm2d(CHANNELS),
            nn.Hardtanh(0, 20),
        )
        self.conv = Around(seq_module=convolutions)
        self.rnns = nn.ModuleList()
        for layer in range(LAYERS):
            inputs = HIDDEN if layer else 41 * CHANNELS
            rnn = CELLS[cell](inputs, HIDDEN, bidirectional=bidirectional)
            norm = {"batch_norm": Around(module=nn.BatchNorm1d(inputs))} if layer else {}
            self.rnns.append(Around(**norm, rnn=rnn))
        last = nn.Sequential(nn.BatchNorm1d(HIDDEN), nn.Linear(HIDDEN, len(LABELS), bias=False))
        self.fc = nn.Sequential(Around(module=last))

    @torch.inference_mode()
    def forward(self, waveform: np.ndarray) -> np.ndarray:
        """(samples,) -> log-probabilities (frames, labels)."""
        window = torch.hamming_window(320)
        samples = torch.from_numpy(waveform)
        stft = torch.stft(samples, 320, 160, window=window, return_complex=True)
        spectrum = stft.abs().log1p()  # (bins, frames)
        spectrum = (spectrum - spectrum.mean()) / spectrum.std()
        maps = self.conv.seq_module(spectrum[None, None])[0]
        hidden = maps.flatten(0, 1).T  # (frames, channels * bins)
        for layer in self.rnns:
            if hasattr(layer, "batch_norm"):
                hidden = layer.batch_norm.module(hidden)
            hidden = layer.rnn(hidden)[0]
            hidden = hidden.view(len(hidden), 2, HIDDEN).sum(1)
        return self.fc[0].module(hidden).log_softmax(-1).numpy()


def network(cell: str = "lstm", bidirectional: bool = True) -> DeepSpeech2:
    """Random weights that show, and statistics of batch norms that are not trivial."""
    torch.manual_seed(0)
    made = DeepSpeech2(cell, bidirectional).eval()
    with torch.no_grad():
        for name, value in made.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.2, 3.0)
            elif value.dtype == torch.float32:
                value.add_(0.3 * torch.randn_like(value))
    return made


def version_2(path: Path, state: Any, **changes: Any) -> Path:
    """As before torch 1.6, which is no archive."""
    audio = {"sample_rate": 16000, "window_size": 0.02, "window_stride": 0.01, "window": "hamming"}
    content = {
        "hidden_size": HIDDEN,
        "hidden_layers": LAYERS,
        "rnn_type": "lstm",
        "audio_conf": audio,
        "labels": "".join(LABELS),
        "state_dict": state,
        "bidirectional": True,
        "optim_dict": {"state": {0: {"momentum_buffer": torch.ones(3)}}},
        "loss_results": torch.zeros(4),
    }
    torch.save(content | changes, path, _use_new_zipfile_serialization=False)
    return path


def version_3(path: Path, state: Any, **changes: Any) -> Path:
    """As PyTorch Lightning saved it, with nodes of OmegaConf and classes that are not here."""
    package, config, lightning = (
        types.ModuleType(name)
        for name in ("deepspeech_pytorch", "deepspeech_pytorch.config", "pytorch_lightning")
    )

    def put(module: types.ModuleType, cls: Any) -> Any:
        cls.__module__ = module.__name__
        setattr(module, cls.__name__, cls)
        return cls

    window = put(config, Enum("SpectrogramWindow", {n: n for n in ("hamming", "hann")}))
    cell = put(config, Enum("RNNType", {"lstm": nn.LSTM}))
    spectrum = [("sample_rate", int, 16000), ("window_size", float, 0.02)]
    spectrum += [("window_stride", float, 0.01), ("window", window, window.hamming)]
    model = [("rnn_type", cell, cell.lstm), ("hidden_size", int, HIDDEN)]
    parts = {
        "spect": put(config, make_dataclass("SpectConfig", spectrum)),
        "model": put(config, make_dataclass("BiDirectionalConfig", model)),
        "labels": lambda: list(LABELS),
    }
    fields = [(name, Any, field(default_factory=made)) for name, made in parts.items()]
    whole = OmegaConf.structured(put(config, make_dataclass("DeepSpeechConfig", fields)))
    whole.merge_with(changes)
    checkpoint = put(lightning, type("ModelCheckpoint", (), {}))
    content = {
        "epoch": 3,
        "pytorch-lightning_version": "1.1.0",
        "callbacks": {checkpoint: {"best_model_score": torch.tensor(0.1)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}],
        "state_dict": state,
        "hyper_parameters": {
            "labels": whole.labels,
            "model_cfg": whole.model,
            "spect_cfg": whole.spect,
        },
    }
    with pytest.MonkeyPatch.context() as patch:
        for module in (package, config, lightning):
            patch.setitem(sys.modules, module.__name__, module)
        torch.save(content, path)
    assert "deepspeech_pytorch" not in sys.modules
    return path


FORMATS = {"version 2": version_2, "version 3": version_3}


def noise(n_samples: int) -> np.ndarray:
    made = np.random.default_rng(n_samples).standard_normal(n_samples) * 0.1
    return made.astype(np.float32)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("cell", CELLS)
def test_the_bundle_equals_the_published_network(cell, form, tmp_path):
    reference = network(cell)
    path = FORMATS[form](tmp_path / "checkpoint", reference.state_dict())
    bundle = package_checkpoint(path, tmp_path / "model", name="theirs", precision="fp32")
    assert bundle.vocabulary.symbols == ("<blank>", "'", "a", "b", "c", " ")
    assert bundle.config.frame_shift == 0.02
    waveforms = [noise(n) for n in (16_000, 9_999, 4_321, 800)]
    found = Acoustics(bundle).log_probs(waveforms)
    rows = [Features(bundle.config.features)(waveform) for waveform in waveforms]
    padded = np.full((len(rows), len(rows[0]), rows[0].shape[1]), 7, np.float32)
    for i, values in enumerate(rows):
        padded[i, : len(values)] = values
    lengths = np.array([len(values) for values in rows])
    inputs = {"features": padded, "lengths": lengths}
    batch, n_frames = open_session(bundle.model_path).run(["log_probs", "output_lengths"], inputs)
    for i, waveform in enumerate(waveforms):
        expected = reference(waveform)
        assert np.abs(expected - expected[0]).max() > 0.1  # it does depend on what is said
        assert n_frames[i] == len(expected)
        np.testing.assert_allclose(found[i][0], expected, atol=1e-4)
        np.testing.assert_allclose(batch[i, : len(expected)], expected, atol=1e-4)


def test_silence_gives_numbers(tmp_path):
    path = version_2(tmp_path / "checkpoint", network().state_dict())
    bundle = package_checkpoint(path, tmp_path / "model", name="theirs")
    for n_samples in (0, 160, 161, 5000):
        (heads,) = Acoustics(bundle).log_probs([np.zeros(n_samples, np.float32)])
        assert all(np.isfinite(log_probs).all() for log_probs in heads)


def test_two_commands_and_it_transcribes(tmp_path, capsys):
    reference, waveform = network(), noise(32_000)
    path = version_3(tmp_path / "released.ckpt", reference.state_dict())
    soundfile.write(tmp_path / "noise.wav", waveform, 16_000, subtype="FLOAT")
    out = tmp_path / "model"
    (model,) = train([[["a", "cab"], ["abc", "a"]]], 2)
    NGram.compile(model).save(tmp_path / "lm.bin")
    asr("models", "import", "--fp32", path, out, "--lm", tmp_path / "lm.bin")
    assert "model.onnx" in capsys.readouterr().out
    asr("transcribe", tmp_path / "noise.wav", "-m", out, "--vad", "none", "--decoder", "greedy")
    best = reference(waveform).argmax(axis=1)
    spelled = [i for i, before in zip(best, [0, *best], strict=False) if i not in (0, before)]
    text = " ".join("".join(LABELS[i].lower() for i in spelled).split())
    assert text
    assert capsys.readouterr().out.strip() == text
    asr("transcribe", tmp_path / "noise.wav", "-m", out, "--vad", "none", "--no-reject")
    bundle = Bundle.load(out)
    assert bundle.config.name == "model"
    assert "released.ckpt" in bundle.card
    assert Recognizer(bundle, threads=1).recognize([waveform])[0].text


def test_an_imported_bundle_is_one_of_ours(tmp_path):
    """With weights to export and to train on from."""
    path = version_3(tmp_path / "checkpoint", network().state_dict())
    source = package_checkpoint(path, tmp_path / "model", name="theirs", precision="fp32")
    halved = package_bundle(source, tmp_path / "half", name="halved", precision="fp16")
    features = [Features(source.config.features)(noise(8000))]
    before, after = (OnnxEngine(b.model_path).log_probs(features)[0] for b in (source, halved))
    np.testing.assert_allclose(before, after, atol=0.05)


def asr(*arguments: Any) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert not end.value.code


class Payload:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("is_archive", [True, False])
@pytest.mark.parametrize("where", ["beside", "inside"])
@pytest.mark.parametrize("function", [os.system, eval, exec, __import__, getattr, pickle.loads])
def test_no_payload_is_run(function, where, is_archive, tmp_path):
    mark = tmp_path / "run"
    argument = f"touch {mark}" if function is os.system else f"open({str(mark)!r}, 'w')"
    payload = Payload(function, *((os, "system") if function is getattr else (argument,)))
    if function is getattr:
        payload = Payload(getattr, "text", "join")
    state = network().state_dict()
    content = {"labels": LABELS, "state_dict": state, "audio_conf": {}}
    if where == "beside":
        content["epoch"] = payload
    else:
        state["conv.seq_module.0.weight"] = payload
    path = tmp_path / "checkpoint"
    torch.save(content, path, _use_new_zipfile_serialization=is_archive)
    with pytest.raises(BundleError, match=r"asks for .*, which no network needs") as caught:
        read_checkpoint(path)
    assert caught.value.remedy
    assert not mark.exists()


def stream(*operations: bytes) -> bytes:
    return b"\x80\x02" + b"".join(operations) + b"."


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no pickle",
        bytes(range(256)) * 20,
        pickle.dumps({"labels": LABELS, "state_dict": {}}),
        stream(b"ctorch._utils\n_rebuild_tensor_v2\n", b"}", b"b"),  # state of a function
        stream(b"ccollections\nOrderedDict\n", b"}", b"b"),  # or of a class
        stream(b"ctorch\nload\n", b"U\x05where", b"\x85", b"R"),
        stream(b"\x82\x01"),  # of a registry
        stream(b"(" * 10_000),
        stream(b"r\xff\xff\xff\xff"),
        stream(b"N", b"r\xff\xff\xff\x7f"),
        stream(b"X\xff\xff\xff\x7f"),
        b"PK\x05\x06" + bytes(18),
    ],
)
def test_what_is_no_checkpoint(data, tmp_path):
    path = tmp_path / "checkpoint"
    path.write_bytes(data)
    with pytest.raises(BundleError) as caught:
        read_checkpoint(path)
    assert caught.value.remedy


@pytest.mark.parametrize("form", FORMATS)
def test_damaged_files(form, tmp_path):
    whole = FORMATS[form](tmp_path / "whole", network().state_dict()).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged"
    for n in (100, len(whole) // 3, len(whole) // 2, len(whole) - 50):
        path.write_bytes(whole[:n])
        with pytest.raises(BundleError):
            read_checkpoint(path)
    for _ in range(40):
        changed = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, 4000, 3)
        changed[places] = rng.integers(0, 256, 3)
        path.write_bytes(changed.tobytes())
        with suppress(ASRError):
            read_checkpoint(path)


def test_an_archive_that_grows_is_refused(tmp_path):
    path = version_3(tmp_path / "checkpoint", network().state_dict())
    packed = tmp_path / "packed"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(BundleError, match="compressed"):
        read_checkpoint(packed)


def lacking(name: str) -> Any:
    state = network().state_dict()
    del state[name]
    return state


def with_values(name: str, value: Any) -> Any:
    return network().state_dict() | {name: value}


WRONG = {
    "lacks fc.0.module.1.weight": lacking("fc.0.module.1.weight"),
    "lacks conv.seq_module.1.running_var": lacking("conv.seq_module.1.running_var"),
    "lacks rnns.0.rnn.weight_hh_l0": lacking("rnns.0.rnn.weight_hh_l0"),
    "lacks rnns.1.rnn.bias_hh_l0_reverse": lacking("rnns.1.rnn.bias_hh_l0_reverse"),
    "rnns.1.rnn.weight_ih_l0 has the shape": with_values(
        "rnns.1.rnn.weight_ih_l0", torch.zeros(4 * HIDDEN, HIDDEN + 1)
    ),
    "fc.0.module.1.weight has the shape": with_values("fc.0.module.1.weight", torch.zeros(7, 6)),
    "conv.seq_module.0.weight has the shape": with_values(
        "conv.seq_module.0.weight", torch.zeros(CHANNELS, 1, 41, 9)
    ),
    "holds what is no number": with_values("fc.0.module.0.bias", torch.full((HIDDEN,), torch.nan)),
    "is below 0": with_values("fc.0.module.0.running_var", torch.full((HIDDEN,), -1.0)),
    "values do not fill": with_values(
        "fc.0.module.1.weight", torch.zeros(1).expand(len(LABELS), HIDDEN)
    ),
    "more weights than a model may have": with_values(
        "fc.0.module.1.weight", torch.zeros(1).expand(50_000, 50_000)
    ),
    "weights of other layers, such as lookahead": with_values(
        "lookahead.0.conv.weight", torch.zeros(HIDDEN, 1, 20)
    ),
    "not bidirectional": network(bidirectional=False).state_dict(),
}


@pytest.mark.parametrize("message", WRONG)
def test_other_networks_are_refused(message, tmp_path):
    path = version_2(tmp_path / "checkpoint", WRONG[message])
    with pytest.raises(BundleError, match=message) as caught:
        package_checkpoint(path, tmp_path / "model", name="theirs")
    assert caught.value.remedy
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": "ABC"}, "first label is not '_'"),
        ({"labels": ["_", "AB"]}, "not single characters"),
        ({"labels": ["_", 3]}, "not single characters"),
        ({"labels": ["_"]}, "not single characters"),
        ({"labels": None}, "not a checkpoint"),
        ({"labels": "_AA"}, "more than once"),
        ({"state_dict": None}, "not a checkpoint"),
        ({"audio_conf": {"sample_rate": 8000}}, "8000 Hz"),
        ({"audio_conf": {"window": "hann"}}, "hann windows"),
        ({"audio_conf": {"window_size": 1e9}}, "a window of"),
        ({"audio_conf": {"window_size": 0.04}}, "weight_ih_l0 has the shape"),
    ],
)
def test_other_settings_are_refused(changes, message, tmp_path):
    path = version_2(tmp_path / "checkpoint", network().state_dict(), **changes)
    with pytest.raises(ASRError, match=message):
        read_checkpoint(path)


def test_settings_come_out_of_nodes(tmp_path):
    path = version_3(tmp_path / "checkpoint", network().state_dict(), spect={"window": "hann"})
    with pytest.raises(BundleError, match="16000 Hz and hann windows"):
        read_checkpoint(path)
    with opened(path) as found:
        assert found["epoch"] == 3
    with pytest.raises(BundleError, match="cannot be read"):
        read_checkpoint(tmp_path / "missing")


def test_labels_of_both_cases_stay_as_they_are(tmp_path):
    path = version_2(tmp_path / "checkpoint", network().state_dict(), labels="_aAbB ")
    _, vocabulary, _ = read_checkpoint(path)
    assert vocabulary.symbols == ("<blank>", "a", "A", "b", "B", " ")
