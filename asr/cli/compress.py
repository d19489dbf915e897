"""`asr compress`: make a model smaller, as the start of further training."""

from __future__ import annotations

from pathlib import Path

import click

from asr.cli._training import needs_training_extra


@click.command(
    epilog="""\b
A light model in three steps: make it smaller, train it on, export it.
  asr compress models/mine models/start --rank 96   (or --cells 192 --listen train.jsonl)
  asr train trainer.init=models/start model.rank=96 run=runs/light …
  asr export runs/light models/light --lm lm.bin
… stands for the settings that models/mine was trained with (asr info --json models/mine), with
fewer epochs and a lower learning rate. Zeros cost less if they are made while training:
  asr train pruning=gradual pruning.sparsity=0.75 trainer.init=models/mine run=runs/sparse …
The errors, size and speed of many settings: python benchmarks/compress.py --help
"""
)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--cells",
    type=click.IntRange(1),
    help="Cells to keep per direction of each recurrent layer: smaller and faster.",
)
@click.option(
    "--listen",
    metavar="MANIFEST",
    type=click.Path(path_type=Path),
    help="For --cells: recordings, transcribed or not, that decide which cells to remove.",
)
@click.option(
    "--rank",
    type=click.IntRange(1),
    help="Factorise the matrices that read the inputs of recurrent layers: smaller and faster.",
)
@click.option(
    "--zeros",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    help="Share of each matrix to set to zero: smaller when compressed, as in a wheel; no faster.",
)
@needs_training_extra
def command(
    model: Path,
    output: Path,
    cells: int | None,
    listen: Path | None,
    rank: int | None,
    zeros: float,
) -> None:
    """Make MODEL, a bundle or the folder of a training run, smaller.

    OUTPUT is a new bundle with the same vocabulary, language model and decoder, and with the
    smaller network. What goes is what is needed least: the cells that follow best from the
    others, the smallest singular values, the smallest weights. It transcribes at once, with more
    errors; training on, for which OUTPUT is the start, wins back what it can.
    """
    from asr.packaging.bundle import ONNX
    from asr.packaging.compression import compress_model, deflated_size

    bundle = compress_model(model, output, cells=cells, rank=rank, zeros=zeros, listen=listen)
    packed = deflated_size(bundle.model_path)
    click.echo(
        f"{bundle.config.model['parameters'] / 1e6:.2f} million parameters, {ONNX} "
        f"{bundle.files[ONNX] / 1e6:.2f} MB, {packed / 1e6:.2f} MB compressed, in {bundle.folder}"
    )
    asked = {"model.hidden_size": cells, "model.rank": rank, "pruning.sparsity": zeros}
    settings = " ".join(f"{name}={value}" for name, value in asked.items() if value)
    click.echo(f"train it on with: asr train trainer.init={bundle.folder} {settings} …")
