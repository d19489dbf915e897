"""`asr models`: models that are here, and models of the Hugging Face Hub."""

from __future__ import annotations

import json

import click


@click.group(name="models", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """List and fetch models; hf://owner/name works wherever a model's folder does.

    \b
      asr models list
      asr models get hf://owner/name
      asr transcribe -m hf://owner/name talk.mp3
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
