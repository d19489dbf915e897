"""`asr plot`: plots of training runs and of networks on recordings."""

from __future__ import annotations

from pathlib import Path

import click

from asr.analysis.drawings import DRAWINGS
from asr.cli._inputs import RecordingsCommand
from asr.cli._training import needs_training_extra
from asr.errors import ASRError
from asr.files import replacing

MODEL_HELP = "A bundle, or the folder of a training run."


@click.group()
def command() -> None:
    """Draw learning curves, recordings with their output spikes, gradients, and cells."""


@command.command(epilog="Example: asr plot cell lstm -o lstm.svg")
@click.argument("name", metavar="NAME", type=click.Choice(list(DRAWINGS)))
@click.option("--output", "-o", type=click.Path(path_type=Path), help="[default: NAME.svg]")
def cell(name: str, output: Path | None) -> None:
    """What flows where in a recurrent cell within one frame, or in a recurrent layer, as an SVG.

    NAME is a cell (model.cell), bidirectional or reversible. A box holds learned weights and a
    function; circles work element by element. A dashed line carries one weight for each cell
    instead of a matrix.
    """
    output = output or Path(f"{name}.svg")
    if output.suffix.lower() != ".svg":
        raise ASRError(f"{output}: a cell is drawn as an SVG", "end the name with .svg")
    with replacing(output) as temporary:
        temporary.write_text(DRAWINGS[name].svg(), encoding="utf-8")
    click.echo(output)


@command.command(epilog="Example: asr plot curves runs/plain runs/noisy -o both.png")
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="[default: RUN/curves.png]")
@needs_training_extra
def curves(runs: tuple[Path, ...], output: Path | None) -> None:
    """Loss, error rates, gradient norm and blank ratio of the training runs in the folders RUNS."""
    from asr.analysis import plots

    output = output or runs[0] / "curves.png"
    plots.save(plots.learning_curves(*runs), output)
    click.echo(output)


@command.command(
    cls=RecordingsCommand, epilog="Example: asr plot spikes recording.wav -o spikes.png"
)
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--model", "-m", metavar="FOLDER", help="Model.  [default: bundled English]")
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path("spikes.png"))
@click.option("--start", default=0.0, show_default=True, help="Seconds into the recording.")
@click.option("--duration", default=10.0, show_default=True, help="Seconds to draw.")
@needs_training_extra
def spikes(recording: Path, model: str | None, output: Path, start: float, duration: float) -> None:
    """The spectrogram of RECORDING above the probabilities that the network gives each symbol."""
    from asr import audio
    from asr.acoustics import Acoustics
    from asr.analysis import plots
    from asr.packaging.bundle import Bundle, bundled

    bundle = Bundle.load(model or bundled())
    bundle.check_ctc("a picture of spikes")
    config = bundle.config
    waveform = audio.read(recording, config.features.sample_rate, start=start, duration=duration)
    (heads,) = Acoustics(bundle).log_probs([waveform])
    title = f"Outputs of {config.name} for {recording.name}"
    figure = plots.spikes(
        waveform, heads[0], bundle.vocabulary, config.features, config.frame_shift, title
    )
    plots.save(figure, output)
    click.echo(output)


@command.command(epilog="Example: asr plot gradients --gain 1 --gain 1.5 -o gradients.png")
@click.option("--cell", "cells", multiple=True, help="Repeatable.  [default: all]")
@click.option(
    "--gain", "gains", multiple=True, type=click.FloatRange(0, 100), help="[default: 1 and 2]"
)
@click.option("--size", type=click.IntRange(1, 1024), default=64, show_default=True, help="Cells.")
@click.option(
    "--lags", type=click.IntRange(2, 5000), default=100, show_default=True, help="Frames."
)
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path("gradients.png"))
@needs_training_extra
def gradients(
    cells: tuple[str, ...], gains: tuple[float, ...], size: int, lags: int, output: Path
) -> None:
    """How gradients vanish or explode over time in each cell (Bengio et al. 1994).

    The norm of the gradient of the last output with respect to the input N frames before, for
    new weights, and for recurrent weights times each GAIN.
    """
    from asr.analysis import plots
    from asr.analysis.diagnostics import gradient_norms
    from asr.models.cells import CELLS

    norms = {
        gain: {c: gradient_norms(c, size=size, lags=lags, gain=gain) for c in cells or CELLS}
        for gain in gains or (1.0, 2.0)
    }
    plots.save(plots.gradients(norms), output)
    click.echo(output)


@command.command(
    cls=RecordingsCommand,
    epilog="Example: asr plot sensitivity recording.wav -m runs/mine --time 1.2",
)
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--model", "-m", type=click.Path(path_type=Path), help=MODEL_HELP)
@click.option("--time", "seconds", type=float, help="[default: that of the most certain symbol]")
@click.option("--symbol", help="Which output.  [default: the most probable one at that time]")
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path("sensitivity.png"))
@needs_training_extra
def sensitivity(
    recording: Path, model: Path | None, seconds: float | None, symbol: str | None, output: Path
) -> None:
    """The gradient of one output with respect to every input (Graves 2008)."""
    import numpy as np

    from asr import audio
    from asr.analysis import diagnostics, plots
    from asr.errors import VocabularyError
    from asr.features import Features
    from asr.packaging.bundle import bundled

    network = diagnostics.load_network(model or bundled())
    symbols = network.vocabulary.symbols
    if symbol is not None and symbol not in symbols:
        raise VocabularyError(f"no symbol {symbol!r}", f"one of {' '.join(symbols)}")
    waveform = audio.read(recording, network.features.sample_rate)
    features = Features(network.features)(waveform)
    log_probs = network.log_probs(features)
    spoken = np.delete(np.arange(len(symbols)), network.vocabulary.blank)
    if seconds is not None:
        frame = int(seconds / (network.features.frame_shift * network.rate))
    elif symbol is not None:
        frame = int(log_probs[:, symbols.index(symbol)].argmax())
    else:
        frame = int(log_probs[:, spoken].max(axis=1).argmax())
    frame = min(max(frame, 0), len(log_probs) - 1)
    chosen = spoken[log_probs[frame, spoken].argmax()] if symbol is None else symbols.index(symbol)
    values = diagnostics.sensitivity(network, features, frame, int(chosen))
    probability = np.exp(log_probs[frame, chosen])
    config, per_row = network.features, 1
    if config.stack == config.stride:  # each row is several spectra in a row
        per_row = config.stack
        values = values.reshape(-1, values.shape[1] // per_row)
    row = (frame + 0.5) * network.rate * per_row - 0.5
    title = f"Gradient of ln p({symbols[chosen]}), p = {probability:.2f}, in {recording.name}"
    figure = plots.sensitivity(values, row, title, per_row / config.frame_shift)
    plots.save(figure, output)
    click.echo(output)


@command.command(
    cls=RecordingsCommand, epilog="Example: asr plot attention recording.wav -m runs/transformer"
)
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--model", "-m", type=click.Path(path_type=Path), required=True, help=MODEL_HELP)
@click.option(
    "--text", help="Text for an attention decoder to spell.  [default: what it recognises]"
)
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path("attention.png"))
@needs_training_extra
def attention(recording: Path, model: Path, text: str | None, output: Path) -> None:
    """Where an attention decoder looks as it spells, or each self-attention head, by frame."""
    from asr import audio
    from asr.analysis import diagnostics, plots
    from asr.errors import ConfigError
    from asr.features import Features

    network = diagnostics.load_network(model)
    waveform = audio.read(recording, network.features.sample_rate)
    features = Features(network.features)(waveform)
    seconds = len(waveform) / network.features.sample_rate
    if network.model.head_configs[network.model.primary].kind == "attention":
        symbols, looked = diagnostics.decoder_attention(network, features, text)
        if not symbols:
            raise ConfigError(f"{recording}: this network recognises nothing in it", "give --text")
        title = f"Attention of the decoder to {recording.name}"
        figure = plots.spelling(symbols, looked, seconds / looked.shape[-1], title)
    elif text is not None:
        raise ConfigError("self-attention spells nothing", "leave --text out")
    else:
        weights = diagnostics.attention_weights(network, features)
        title = f"Self-attention in {recording.name}"
        figure = plots.attention(weights, seconds / weights.shape[-1], title)
    plots.save(figure, output)
    click.echo(output)
