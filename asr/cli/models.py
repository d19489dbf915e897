"""`asr models`: models that are here, those of the Hugging Face Hub, and networks of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from asr.cli._training import needs_training_extra, precision_options

_PATH = click.Path(path_type=Path)


@click.group(name="models", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """List, fetch and import models; hf://owner/name works wherever a model's folder does.

    \b
      asr models list
      asr models get hf://owner/name
      asr transcribe -m hf://owner/name talk.mp3
      asr models import librispeech_pretrained_v3.ckpt models/librispeech
    """


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per model.")
def list_models(as_json: bool) -> None:
    """Models that are here: the bundled one, and those that were fetched."""
    from asr.errors import MissingDependencyError
    from asr.packaging.bundle import CHECKSUMS, CONFIG, Bundle, bundled
    from asr.packaging.hub import downloaded

    try:
        fetched = downloaded()
    except MissingDependencyError:
        fetched = []  # nothing can have been fetched
    found = [(a, f) for a, f in fetched if (f / CONFIG).exists() and (f / CHECKSUMS).exists()]
    for address, folder in [("bundled", bundled()), *found]:
        config = Bundle.load(folder).config
        row = {"model": address, "name": config.name, "language": config.language}
        row["folder"] = str(folder)
        click.echo(json.dumps(row, ensure_ascii=False) if as_json else "  ".join(row.values()))


@command.command()
@click.argument("address")
def get(address: str) -> None:
    """Fetch the model at ADDRESS, such as hf://owner/name, check it, and print its folder."""
    from asr.packaging.bundle import Bundle
    from asr.packaging.hub import download

    click.echo(Bundle.load(download(address)).folder)


@command.command(name="import")
@click.argument("checkpoint", type=_PATH)
@click.argument("output", type=_PATH)
@precision_options
@click.option("--name", default=None, help="Name of the model [default: the folder's].")
@click.option("--language", default="en", show_default=True, help="Language code.")
@click.option("--lm", type=_PATH, help="Word n-gram model of `asr lm`.")
@needs_training_extra
def import_model(checkpoint: Path, output: Path, name: str | None, **options: Any) -> None:
    """Make a model in the new folder OUTPUT of a network that others trained.

    CHECKPOINT is a file of deepspeech.pytorch, version 2 or 3, such as those of its releases, with
    a bidirectional network. It is read without running what its pickle asks for.
    """
    from asr.packaging.deepspeech import package_checkpoint

    bundle = package_checkpoint(checkpoint, output, name=name or output.name, **options)
    for file, size in bundle.files.items():
        click.echo(f"{size / 1e6:8.2f} MB  {file}")
    click.echo(f"{sum(bundle.files.values()) / 1e6:8.2f} MB  {bundle.folder}")
