"""Plots: learning curves, the outputs of a network over a recording, and its attention.

Every figure has a title, axes with units, and a legend where lines differ in meaning.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from asr.errors import ASRError, TrainingError
from asr.features import FeatureConfig, Features, band_centres
from asr.files import replacing
from asr.text.vocabulary import Vocabulary

matplotlib.use("Agg")  # files only: no screen is needed
matplotlib.rcParams.update({"font.size": 11, "axes.titlesize": 11, "figure.titlesize": 13})
matplotlib.rcParams.update({"legend.frameon": False})
INK, BLUE, RED, GREY = "#222222", "#1f6fb4", "#c8442c", "#999999"
WIDTH, DPI = 8.0, 120  # inches, and pixels in each: at half its size a figure can still be read
SMALL = 9  # points, for names within a panel


def learning_curves(*runs: Path) -> Figure:
    """Losses, gradient norm, blank frames and dev error rates over the steps of runs.

    The loss of the dev set, of its first head alone, is dashed. Several runs are drawn over each
    other, a colour each, with their dev character error alone.
    Raises TrainingError if a folder holds no log.
    """
    figure = Figure(figsize=(WIDTH, 6), layout="constrained")
    loss, errors, norm, blanks = figure.subplots(2, 2, sharex=True).flat
    several = len(runs) > 1
    colours = [f"C{number}" for number in range(len(runs))] if several else [BLUE]
    highest = highest_norm = 0.0
    for run, colour in zip(runs, colours, strict=True):
        train, dev = _read_log(run / "log.jsonl")
        if any("cer" not in record for record in dev):
            raise TrainingError(
                f"{run}: a language model has no error rates to draw",
                f"see its perplexities with tensorboard --logdir {run}",
            )
        _curve(loss, train, "loss", color=colour, linewidth=0.8)
        _curve(loss, dev, "loss", color=colour, linewidth=1.2, linestyle="--")
        _curve(norm, train, "gradient_norm", color=colour, linewidth=0.8)
        _curve(blanks, train, "blank_ratio", 100, color=colour, linewidth=0.8)
        for key, shade in ({"cer": colour} if several else {"wer": RED, "cer": BLUE}).items():
            style = {"color": shade, "marker": "o", "markersize": 3, "label": key.upper()}
            _curve(errors, dev, key, 100, **style)
        # Of the first tenth of a run, where losses are many times as high, only the end is shown.
        everything = [(r["step"], r.get("loss", np.nan)) for r in train + dev]
        begin = max((step for step, _ in everything), default=0) / 10
        highest = max([highest, *(x for s, x in everything if s > begin and np.isfinite(x))])
        highest_norm = max([highest_norm, *(r.get("gradient_norm", 0.0) for r in train)])
    if highest > 0:
        loss.set_ylim(0, 1.1 * highest)
    loss.set(title="Loss", ylabel="loss (nats per symbol)")
    errors.set(title="Errors of the dev set, greedy search", ylim=(0, 105))
    errors.set(ylabel="CER (%)" if several else "error rate (%)")
    norm.set(title="Gradients", ylabel="norm before clipping")
    if highest_norm > 0:  # a run of a few steps has logged none
        norm.set_yscale("log")
    blanks.set(title="Blank frames", ylabel="frames (%)")
    for axes in (loss, errors, norm, blanks):
        axes.grid(alpha=0.25)
        axes.set_xlabel("step" if axes in (norm, blanks) else "")
    styles = {"training": "-", "dev": "--"}
    loss.legend(handles=_lines({name: {"ls": style} for name, style in styles.items()}))
    names = [run.resolve().name for run in runs]
    figure.suptitle(f"Training of {', '.join(names)}")
    if several:
        handles = [
            Line2D([], [], color=colour, label=name)
            for name, colour in zip(names, colours, strict=True)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
    else:
        errors.legend()
    return figure


def gradients(norms: Mapping[float, Mapping[str, np.ndarray]]) -> Figure:
    """Gradient norms over the time lag: a panel for each gain, a line for each cell.

    norms: gain of the recurrent weights -> cell -> (lags,), as
    `asr.analysis.diagnostics.gradient_norms`.
    """
    figure = Figure(figsize=(WIDTH, 5), layout="constrained")
    panels = figure.subplots(1, len(norms), sharey=True, squeeze=False)[0]
    for axes, (gain, lines) in zip(panels, norms.items(), strict=True):
        for number, (cell, values) in enumerate(lines.items()):
            style = "-" if number < 10 else "--"
            axes.plot(np.maximum(values, 1e-12), style, color=f"C{number}", label=cell)
        axes.set(yscale="log", ylim=(1e-12, 1e6), xlabel="lag (frames)")
        axes.set(title=f"recurrent weights × {gain:g}")
        axes.grid(alpha=0.25)
    panels[0].set(ylabel="gradient norm (1 at lag 0)")
    figure.suptitle("Gradient of the last output with respect to earlier inputs")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5)
    return figure


def sensitivity(values: np.ndarray, row: float, title: str, rows_per_second: float) -> Figure:
    """A heat map of the gradient of one output with respect to every input (rows, columns).

    row: the input row at which the output stands. Above it, the norm for each row.
    """
    seconds = len(values) / rows_per_second
    figure = Figure(figsize=(WIDTH, 5.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2.5))
    times = (np.arange(len(values)) + 0.5) / rows_per_second
    upper.plot(times, np.linalg.norm(values, axis=1), color=INK, linewidth=1)
    upper.set(ylabel="norm (nats)")
    limit = max(float(np.abs(values).max()), 1e-12)
    image = lower.imshow(
        values.T,
        origin="lower",
        aspect="auto",
        extent=(0.0, seconds, 0.0, float(values.shape[1])),
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
    )
    figure.colorbar(image, ax=lower, label="gradient (nats per unit of input)")
    for axes in (upper, lower):
        axes.axvline(
            (row + 0.5) / rows_per_second, color=GREY, lw=0.8, ls="--", label="time of the output"
        )
    upper.legend(handles=upper.lines[1:])
    lower.set(xlabel="time (s)", ylabel="input feature")
    figure.suptitle(title)
    return figure


def attention(weights: np.ndarray, frame_shift: float, title: str) -> Figure:
    """Attention weights (layers, heads, T, T): a row of panels for each layer."""
    layers, heads = weights.shape[:2]
    side = WIDTH / (heads + 1)
    figure = Figure(figsize=(WIDTH, 1.2 + side * layers), layout="constrained")
    panels = figure.subplots(layers, heads, squeeze=False, sharex=True, sharey=True)
    seconds = weights.shape[-1] * frame_shift
    for (layer, head), axes in np.ndenumerate(panels):
        image = axes.imshow(
            weights[layer, head],
            aspect="auto",
            extent=(0.0, seconds, seconds, 0.0),
            vmin=0,
            vmax=weights.max(),
        )
        if layer == 0:
            axes.set_title(f"head {head + 1}")
        if head == 0:
            axes.set_ylabel(f"layer {layer + 1}")
    figure.colorbar(image, ax=panels, label="attention weight")
    figure.suptitle(title)
    figure.supxlabel("frame that it looks at (s)")
    figure.supylabel("frame that looks (s)")
    return figure


def spelling(symbols: Sequence[str], weights: np.ndarray, frame_shift: float, title: str) -> Figure:
    """Where an attention decoder looks as it spells: weights (symbols, T)."""
    height = min(1.5 + 0.19 * len(symbols), 20)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    extent = (0.0, weights.shape[1] * frame_shift, len(symbols) - 0.5, -0.5)
    image = axes.imshow(weights, aspect="auto", extent=extent, vmin=0, interpolation="nearest")
    axes.set_yticks(range(len(symbols)), [_visible(s) for s in symbols], fontsize=SMALL)
    axes.set(xlabel="frame that it looks at (s)", ylabel="symbol that it spells")
    figure.colorbar(image, label="attention weight")
    figure.suptitle(title)
    return figure


def spikes(
    waveform: np.ndarray,
    log_probs: np.ndarray,
    vocabulary: Vocabulary,
    features: FeatureConfig,
    frame_shift: float,
    title: str,
) -> Figure:
    """The log-mel spectrogram of a recording above the network's output probabilities.

    Args:
        waveform: (samples,) at `features.sample_rate`.
        log_probs: (frames, classes), one row every `frame_shift` seconds.

    The picture of Graves' papers: long spans of blank, and a spike where a symbol is certain.
    Recordings of more than four seconds make it wider, so that symbols keep apart.
    """
    duration = len(waveform) / features.sample_rate
    figure = Figure(figsize=(max(WIDTH, min(2 * duration, 30)), 5.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    _spectrogram(upper, waveform, features)
    probabilities = np.exp(log_probs)
    times = (np.arange(len(log_probs)) + 0.5) * frame_shift
    lower.plot(times, probabilities[:, vocabulary.blank], color=GREY, linewidth=0.8)
    for index in range(len(vocabulary)):
        if index != vocabulary.blank and probabilities[:, index].max(initial=0) > 0.1:
            lower.plot(times, probabilities[:, index], linewidth=1.1)
    best = log_probs.argmax(axis=1)
    starts = [
        frame
        for frame, index in enumerate(best)
        if index != vocabulary.blank and (frame == 0 or best[frame - 1] != index)
    ]
    for number, frame in enumerate(starts):  # in three lines above the spikes
        symbol = _visible(vocabulary.symbols[best[frame]])
        place = (times[frame], 1.04 + 0.13 * (number % 3))
        lower.annotate(symbol, place, fontsize=SMALL, ha="center")
    lower.set(ylabel="probability", xlabel="time (s)", ylim=(0, 1.46), yticks=(0, 0.5, 1))
    styles = {"blank": {"color": GREY}, "symbols, a colour each": {"color": "C0"}}
    figure.legend(handles=_lines(styles), loc="outside lower center", ncols=2)
    figure.suptitle(title)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, SVG or PDF, by the name's ending; PNG if it has none.

    Raises ASRError for another ending.
    """
    kind = path.suffix.lower().lstrip(".") or "png"
    if kind not in ("png", "svg", "pdf"):
        raise ASRError(f"{path}: no kind of picture", "end its name with .png, .svg or .pdf")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI, format=kind)
    with replacing(path) as temporary:
        if kind == "png":  # in 256 colours, a third of the bytes
            image = Image.open(drawn).convert("RGB")
            few = image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
            few.save(temporary, "PNG", optimize=True)
        else:
            temporary.write_bytes(drawn.getvalue())


def _curve(
    axes: Axes, records: Sequence[Mapping], key: str, factor: float = 1, **style: Any
) -> None:
    """Draw a value of the log over the steps, with gaps where it is missing."""
    values = [factor * r.get(key, np.nan) for r in records]
    axes.plot([r["step"] for r in records], values, **style)


def _lines(styles: Mapping[str, Mapping]) -> list[Line2D]:
    """Handles of a legend, by their names."""
    return [Line2D([], [], **{"color": INK, "label": n, **s}) for n, s in styles.items()]


def _visible(symbol: str) -> str:
    return symbol.replace(" ", "␣")


def _spectrogram(axes: Axes, waveform: np.ndarray, features: FeatureConfig) -> None:
    plain = replace(features, stack=1, stride=1, deltas=0, energy=False, mean=None, std=None)
    image = axes.imshow(
        Features(plain)(waveform).T,
        origin="lower",
        aspect="auto",
        extent=(0.0, len(waveform) / plain.sample_rate, -0.5, plain.bands - 0.5),
        cmap="magma",
        interpolation="nearest",
    )
    centres = band_centres(plain)
    hertz = [f for f in (250, 500, 1000, 2000, 4000, 8000) if centres[0] < f < centres[-1]]
    axes.set_yticks(np.interp(hertz, centres, np.arange(len(centres))), [f"{f}" for f in hertz])
    axes.set_ylabel("frequency (Hz)")
    label = "log energy (nats)" if plain.n_mels else "ln(1 + magnitude)"
    axes.figure.colorbar(image, ax=axes, label=label)


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
