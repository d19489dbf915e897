"""`asr export`: turn a training run into a bundle, or into an ONNX file."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

from asr.cli._training import needs_training_extra, precision_options
from asr.files import read_text

if TYPE_CHECKING:
    from asr.packaging.bundle import Bundle

_PATH = click.Path(path_type=Path)
_EXAMPLES = """
\b
Examples:
  asr export runs/default models/mine --lm lm.bin
  asr export --onnx --fp16 runs/default mine.onnx
  asr export --fp32 asr/bundled/en models/exact
  asr export asr/bundled/en models/with-my-words --lm lm.bin
"""
# What can be asked for if RUN is a bundle, and for a network alone.
_OF_BUNDLE = {"run", "output", "onnx", "precision", "name", "lm", "lexicon", "to_hub"}
_OF_NETWORK = {"run", "output", "onnx", "precision", "head", "second", "right_context"}


@click.command(epilog=_EXAMPLES)
@click.argument("run", type=_PATH)
@click.argument("output", type=_PATH)
@click.option("--onnx", is_flag=True, help="Write only the network, for other programs.")
@precision_options
@click.option("--name", default=None, help="Name of the model [default: the folder's].")
@click.option("--language", default="en", show_default=True, help="Language code.")
@click.option("--head", default=None, help="The head that transcribes [default: the first].")
@click.option(
    "--second", default=None, help="A head that rescores the hypotheses of the first one."
)
@click.option("--lm", type=_PATH, help="Word n-gram model of `asr lm`.")
@click.option("--lexicon", type=_PATH, help="Pronunciations, for a head of phones.")
@click.option(
    "--rescorer",
    type=_PATH,
    help="Recurrent language model (asr lm export) that rescores hypotheses.",
)
@click.option(
    "--punctuation",
    type=_PATH,
    help="Model of case and punctuation (asr punctuation export).",
)
@click.option(
    "--decoder", default="{}", help="Decoder settings as JSON; `asr tune` finds good ones."
)
@click.option(
    "--right-context",
    default="trained",
    show_default=True,
    help="Look-ahead of a network in chunks, in rows of features; 'all': whole utterances.",
)
@click.option(
    "--to-hub",
    metavar="OWNER/NAME",
    help="Upload the bundle to the Hugging Face Hub as well (extra hub; `hf auth login` first).",
)
@click.option("--card", type=_PATH, help="The model card, in Markdown.")
@click.pass_context
@needs_training_extra
def command(context: click.Context, run: Path, output: Path, onnx: bool, **options: Any) -> None:
    """Make a bundle in the new folder OUTPUT from the training run in the folder RUN.

    RUN may be a bundle too: OUTPUT is the same with a network of another precision, of which
    --int8 is the fastest, or with another language model (--lm) or lexicon. A lexicon keeps the
    words that the language model knows. With --onnx OUTPUT is an ONNX file whose metadata tell what
    the network takes and gives.
    """
    from asr.packaging.bundle import CONFIG
    from asr.packaging.package import publish, save_network, unspoken_words

    is_bundle = (run / CONFIG).is_file()
    _check_used(context, is_bundle, onnx)
    options["name"] = options["name"] or output.name
    to_hub = options.pop("to_hub")
    if not onnx:
        bundle = _make_bundle(run, output, is_bundle, options)
        if unspoken := unspoken_words(bundle):
            click.echo(
                f"{len(unspoken):,} words of the language model have no pronunciation and cannot be"
                f" recognised, such as {', '.join(unspoken[:5])}",
                err=True,
            )
        for file, size in bundle.files.items():
            click.echo(f"{size / 1e6:8.2f} MB  {file}")
        click.echo(f"{sum(bundle.files.values()) / 1e6:8.2f} MB  {bundle.folder}")
        if to_hub:
            click.echo(publish(bundle, to_hub))
        return
    with tempfile.TemporaryDirectory() as folder:
        save_network(_make_bundle(run, Path(folder), is_bundle, options), output)
    click.echo(f"{output.stat().st_size / 1e6:8.2f} MB  {output}")


def _check_used(context: click.Context, is_bundle: bool, onnx: bool) -> None:
    """Refuse options without an effect."""
    possible = set(context.params)
    if is_bundle:
        possible &= _OF_BUNDLE
    if onnx:
        possible &= _OF_NETWORK
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in possible:
            what = "a network alone" if onnx and name not in _OF_NETWORK else "a copy of a bundle"
            raise click.UsageError(f"{parameter.opts[0]} says nothing about {what}")


def _make_bundle(run: Path, output: Path, is_bundle: bool, options: dict[str, Any]) -> Bundle:
    from asr.packaging.bundle import Bundle
    from asr.packaging.package import package_bundle, package_run

    if is_bundle:
        name, precision = options["name"], options["precision"]
        language = {"lm": options["lm"], "lexicon": options["lexicon"]}
        return package_bundle(Bundle.load(run), output, name=name, precision=precision, **language)
    try:
        options["decoder"] = json.loads(options["decoder"])
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="--decoder") from error
    options["right_context"] = _right_context(options["right_context"])
    card = options["card"]
    try:
        options["card"] = read_text(card) if card else ""
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"not UTF-8: {card}", param_hint="--card") from error
    return package_run(run, output, **options)


def _right_context(value: str) -> int | Literal["all", "trained"]:
    if value == "all":
        return "all"
    if value == "trained":
        return "trained"
    try:
        return int(value)
    except ValueError:
        raise click.BadParameter(f"{value!r}: a number of rows, or 'all'") from None
