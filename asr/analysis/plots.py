"""Plots: learning curves, the outputs of a network over a recording, and its attention."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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


def learning_curves(*runs: Path) -> Figure:
    """Losses, gradient norm, blank ratio and dev error rates over the steps of runs.

    The loss of the dev set, of its first head alone, is dashed. Several runs are drawn over each
    other, a colour each, with their dev character error alone.
    Raises TrainingError if a folder holds no log.
    """
    figure = Figure(figsize=(10, 6), layout="constrained")
    highest = 0.0
    loss, errors, norm, blanks = figure.subplots(2, 2).flat
    panels = (
        (loss, "loss", "loss (nats a symbol): training, dev dashed"),
        (norm, "gradient_norm", "gradient norm before clipping"),
        (blanks, "blank_ratio", "share of blank frames"),
    )
    for number, run in enumerate(runs):
        train, dev = _read_log(run / "log.jsonl")
        if any("cer" not in record for record in dev):
            raise TrainingError(
                f"{run}: a language model has no error rates to draw",
                f"see its perplexities with tensorboard --logdir {run}",
            )
        colour = f"C{number}" if len(runs) > 1 else BLUE
        for axes, key, title in panels:
            steps = [r["step"] for r in train]
            axes.plot(steps, [r.get(key, np.nan) for r in train], color=colour, linewidth=0.8)
            axes.set(title=title, xlabel="step")
        losses = [r.get("loss", np.nan) for r in dev]
        loss.plot([r["step"] for r in dev], losses, "--", color=colour, linewidth=1.2)
        # Of the first tenth of a run, where losses are many times as high, only the end is shown.
        everything = [(r["step"], r.get("loss", np.nan)) for r in train + dev]
        begin = max((step for step, _ in everything), default=0) / 10
        highest = max([highest, *(x for s, x in everything if s > begin and np.isfinite(x))])
        drawn = (
            {run.name: ("cer", colour)}
            if len(runs) > 1
            else {"wer": ("wer", RED), "cer": ("cer", BLUE)}
        )
        for label, (key, shade) in drawn.items():
            values = [100 * r[key] for r in dev]
            errors.plot(
                [r["step"] for r in dev], values, "o-", markersize=3, color=shade, label=label
            )
    if highest > 0:
        loss.set_ylim(0, 1.1 * highest)
    norm.set_yscale("log")
    title = "dev error rate, greedy (%)" if len(runs) == 1 else "dev CER, greedy (%)"
    errors.set(title=title, xlabel="step", ylim=(0, 105))
    errors.legend(frameon=False)
    for axes in (loss, errors, norm, blanks):
        axes.grid(alpha=0.25)
    return figure


def gradients(norms: Mapping[float, Mapping[str, np.ndarray]]) -> Figure:
    """Gradient norms over the time lag: a panel for each gain, a line for each cell.

    norms: gain of the recurrent weights -> cell -> (lags,), as
    `asr.analysis.diagnostics.gradient_norms`.
    """
    figure = Figure(figsize=(1 + 5 * len(norms), 4.5), layout="constrained")
    for axes, (gain, lines) in zip(
        figure.subplots(1, len(norms), sharey=True, squeeze=False).flat, norms.items(), strict=True
    ):
        for number, (cell, values) in enumerate(lines.items()):
            style = "-" if number < 10 else "--"
            axes.plot(np.maximum(values, 1e-12), style, color=f"C{number}", label=cell)
        axes.set(yscale="log", ylim=(1e-12, 1e6), xlabel="lag (frames)")
        axes.set(title=f"recurrent weights x {gain:g}")
        axes.grid(alpha=0.25)
    figure.axes[0].set(ylabel="gradient norm, relative to lag 0")
    figure.axes[-1].legend(frameon=False, fontsize=8)
    return figure


def sensitivity(values: np.ndarray, row: float, title: str, rows_per_second: float) -> Figure:
    """A heat map of the gradient of one output with respect to every input (rows, columns).

    row: the input row at which the output stands. Above it, the norm for each row.
    """
    seconds = len(values) / rows_per_second
    figure = Figure(figsize=(max(6.0, min(2.2 * seconds, 30.0)), 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1, 3))
    times = (np.arange(len(values)) + 0.5) / rows_per_second
    upper.plot(times, np.linalg.norm(values, axis=1), color=INK, linewidth=1)
    upper.set(title=title, ylabel="norm")
    limit = max(float(np.abs(values).max()), 1e-12)
    extent = (0.0, seconds, 0.0, float(values.shape[1]))
    lower.imshow(
        values.T,
        origin="lower",
        aspect="auto",
        extent=extent,
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
    )
    for axes in (upper, lower):
        axes.axvline((row + 0.5) / rows_per_second, color=GREY, linewidth=0.8, linestyle="--")
    lower.set(xlabel="seconds", ylabel="feature")
    return figure


def attention(weights: np.ndarray, frame_shift: float, title: str = "") -> Figure:
    """Attention weights (layers, heads, T, T): a row of panels for each layer."""
    layers, heads = weights.shape[:2]
    figure = Figure(figsize=(1 + 2.6 * heads, 0.6 + 2.6 * layers), layout="constrained")
    panels = figure.subplots(layers, heads, squeeze=False, sharex=True, sharey=True)
    seconds = weights.shape[-1] * frame_shift
    for (layer, head), axes in np.ndenumerate(panels):
        extent = (0.0, seconds, seconds, 0.0)
        axes.imshow(weights[layer, head], aspect="auto", extent=extent, cmap="viridis")
        axes.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=9)
    figure.suptitle(title)
    figure.supxlabel("looks at (s)")
    figure.supylabel("frame (s)")
    return figure


def spelling(
    symbols: Sequence[str], weights: np.ndarray, frame_shift: float, title: str = ""
) -> Figure:
    """Where an attention decoder looks as it spells: weights (symbols, T)."""
    height = 1.5 + 0.18 * len(symbols)
    figure = Figure(figsize=(9, min(height, 20)), layout="constrained")
    axes = figure.subplots()
    extent = (0.0, weights.shape[1] * frame_shift, len(symbols) - 0.5, -0.5)
    axes.imshow(weights, aspect="auto", extent=extent, cmap="viridis", interpolation="nearest")
    axes.set_yticks(range(len(symbols)), [s.replace(" ", "␣") for s in symbols], fontsize=8)
    axes.set(title=title, xlabel="looks at (s)")
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

    The picture of Graves' papers: long spans of blank, and a spike where a symbol is certain.
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
