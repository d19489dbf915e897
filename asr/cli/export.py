"""`asr export`: a training run made into a bundle that transcribes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import click

from asr.cli._training import needs_training_extra


@click.command(epilog="Example: asr export runs/default models/mine --lm lm.bin")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--name", default=None, help="Name of the model [default: the folder's].")
@click.option("--language", default="en", show_default=True, help="Language code.")
@click.option("--head", default=None, help="The head that transcribes [default: the first].")
@click.option("--second", default=None, help="A head that helps to rank what the first one found.")
@click.option("--int8/--float32", default=True, show_default=True, help="Weights of the network.")
@click.option("--lm", type=click.Path(path_type=Path), help="Word n-gram model of `asr lm`.")
@click.option(
    "--lexicon", type=click.Path(path_type=Path), help="Pronunciations, for a head of phones."
)
@click.option(
    "--rescorer",
    type=click.Path(path_type=Path),
    help="Recurrent language model (asr lm export) that helps to rank what was found.",
)
@click.option(
    "--punctuation",
    type=click.Path(path_type=Path),
    help="What restores case and punctuation (asr punctuation export).",
)
@click.option(
    "--decoder", default="{}", help="Decoder settings as JSON; `asr tune` finds good ones."
)
@click.option(
    "--right-context",
    default="trained",
    show_default=True,
    help="Rows that a network in chunks hears behind each; 'all': whole utterances.",
)
@click.option("--card", type=click.Path(path_type=Path), help="The model card, in Markdown.")
@needs_training_extra
def command(
    run: Path,
    output: Path,
    name: str | None,
    language: str,
    head: str | None,
    second: str | None,
    int8: bool,
    lm: Path | None,
    lexicon: Path | None,
    rescorer: Path | None,
    punctuation: Path | None,
    decoder: str,
    right_context: str,
    card: Path | None,
) -> None:
    """Make a bundle in the new folder OUTPUT from the training run in the folder RUN."""
    from asr.packaging import package_run

    bundle = package_run(
        run,
        output,
        name=name or output.name,
        language=language,
        head=head,
        second=second,
        int8=int8,
        lm=lm,
        lexicon=lexicon,
        rescorer=rescorer,
        punctuation=punctuation,
        decoder=json.loads(decoder),
        right_context=_right_context(right_context),
        card=card.read_text(encoding="utf-8") if card else "",
    )
    for file, size in bundle.files.items():
        click.echo(f"{size / 1e6:8.2f} MB  {file}")
    click.echo(f"{sum(bundle.files.values()) / 1e6:8.2f} MB  {bundle.folder}")


def _right_context(value: str) -> int | Literal["all", "trained"]:
    if value == "all":
        return "all"
    if value == "trained":
        return "trained"
    try:
        return int(value)
    except ValueError:
        raise click.BadParameter(f"{value!r}: a number of rows, or 'all'") from None
