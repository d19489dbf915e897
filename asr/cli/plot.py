"""`asr plot`: pictures of training runs and of what a network hears."""

from __future__ import annotations

from pathlib import Path

import click

from asr.cli._training import needs_training_extra


@click.group()
def command() -> None:
    """Draw learning curves, or a recording with its output spikes."""


@command.command(epilog="Example: asr plot curves runs/default")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), help="[default: RUN/curves.png]")
@needs_training_extra
def curves(run: Path, output: Path | None) -> None:
    """Loss, error rates, gradient norm and blank ratio of the training run in the folder RUN."""
    from asr import plots

    output = output or run / "curves.png"
    plots.save(plots.learning_curves(run), output)
    click.echo(output)


@command.command(epilog="Example: asr plot spikes recording.wav -o spikes.png")
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--model", "-m", metavar="FOLDER", help="Model to use.  [default: bundled English]")
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path("spikes.png"))
@click.option("--start", default=0.0, show_default=True, help="Seconds into the recording.")
@click.option("--duration", default=10.0, show_default=True, help="Seconds to draw.")
@needs_training_extra
def spikes(recording: Path, model: str | None, output: Path, start: float, duration: float) -> None:
    """The spectrogram of RECORDING above the probabilities that the network gives each symbol."""
    from asr import audio, plots
    from asr.bundle import Bundle, bundled
    from asr.engine import OnnxEngine
    from asr.features import Features

    bundle = Bundle.load(model or bundled())
    config = bundle.config
    waveform = audio.read(recording, config.features.sample_rate, start=start, duration=duration)
    (log_probs,) = OnnxEngine(bundle.model_path).log_probs([Features(config.features)(waveform)])
    figure = plots.spikes(
        waveform, log_probs, bundle.vocabulary, config.features, config.frame_shift, recording.name
    )
    plots.save(figure, output)
    click.echo(output)
