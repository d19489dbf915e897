"""Pictures: learning curves of a run, and what a network hears where in a recording."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from asr.errors import TrainingError
from asr.features import FeatureConfig, Features
from asr.files import replacing
from asr.text.vocabulary import Vocabulary

matplotlib.use("Agg")  # files only: no screen is needed
INK, BLUE, RED, GREY = "#222222", "#1f6fb4", "#c8442c", "#999999"


def learning_curves(run: Path) -> Figure:
    """Training loss, gradient norm, blank ratio and dev error rates over the steps of a run.

    Raises TrainingError if the folder holds no log.
    """
    train, dev = _read_log(run / "log.jsonl")
    figure = Figure(figsize=(10, 6), layout="constrained")
    loss, errors, norm, blanks = figure.subplots(2, 2).flat
    steps = [r["step"] for r in train]
    panels = (
        (loss, "loss", "training loss (nats a symbol)"),
        (norm, "gradient_norm", "gradient norm before clipping"),
        (blanks, "blank_ratio", "share of blank frames"),
    )
    for axes, key, title in panels:
        axes.plot(steps, [r[key] for r in train], color=BLUE, linewidth=0.8)
        axes.set(title=title, xlabel="step")
    norm.set_yscale("log")
    for key, colour in (("wer", RED), ("cer", BLUE)):
        values = [100 * r[key] for r in dev]
        errors.plot([r["step"] for r in dev], values, "o-", markersize=3, color=colour, label=key)
    errors.set(title="dev error rate, greedy (%)", xlabel="step", ylim=(0, 105))
    errors.legend(frameon=False)
    for axes in (loss, errors, norm, blanks):
        axes.grid(alpha=0.25)
    return figure


def spikes(
    waveform: np.ndarray,
    log_probs: np.ndarray,
    vocabulary: Vocabulary,
    features: FeatureConfig,
    frame_shift: float,
    title: str = "",
) -> Figure:
    """The log-mel spectrogram of a recording above the network's output probabilities.

    Args:
        waveform: (samples,) at `features.sample_rate`.
        log_probs: (frames, classes), one row every `frame_shift` seconds.

    The picture of Graves' papers: long stretches of blank, and a spike where a symbol is certain.
    """
    plain = replace(features, stack=1, stride=1, deltas=0, energy=False, mean=None, std=None)
    spectrogram = Features(plain)(waveform)
    duration = len(waveform) / features.sample_rate
    figure = Figure(figsize=(max(6.0, min(2.2 * duration, 30.0)), 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    extent = (0.0, duration, 0.0, float(plain.n_mels))
    upper.imshow(spectrogram.T, origin="lower", aspect="auto", extent=extent, cmap="magma")
    upper.set(ylabel="mel band", title=title)
    probabilities = np.exp(log_probs)
    times = (np.arange(len(log_probs)) + 0.5) * frame_shift
    lower.plot(times, probabilities[:, vocabulary.blank], color=GREY, linewidth=0.8, label="blank")
    shown = [c for c in range(len(vocabulary)) if c != vocabulary.blank]
    for index in shown:
        if probabilities[:, index].max(initial=0) > 0.1:
            lower.plot(times, probabilities[:, index], linewidth=1.1)
    best = log_probs.argmax(axis=1)
    for frame, index in enumerate(best):
        starts = frame == 0 or best[frame - 1] != index
        if index != vocabulary.blank and starts:
            symbol = vocabulary.symbols[index].replace(" ", "␣")
            lower.annotate(symbol, (times[frame], probabilities[frame, index]), fontsize=9)
    lower.set(ylabel="probability", xlabel="seconds", ylim=(0, 1.12))
    lower.legend(frameon=False, loc="upper right")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, SVG or PDF, by the name's ending."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format=path.suffix.lstrip(".") or "png")


def _read_log(path: Path) -> tuple[list[dict], list[dict]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise TrainingError(f"{path}: no log of a training run ({error.strerror})") from error
    # A killed run may leave half a line, and a resumed one writes a few steps twice: last one wins.
    records: dict[tuple[str, int], dict] = {}
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        records[record["kind"], record["step"]] = record
    ordered = sorted(records.values(), key=lambda r: r["step"])
    train = [r for r in ordered if r["kind"] == "train"]
    return train, [r for r in ordered if r["kind"] == "dev"]
