"""`asr punctuation`: restore, measure and export case and punctuation of text."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asr.cli import note, warn
from asr.cli._training import needs_training_extra, precision_options

if TYPE_CHECKING:
    from asr.punctuation.labels import Labelled
    from asr.punctuation.punctuator import Punctuator

_PATH = click.Path(path_type=Path)
_MODEL = click.option(
    "--model", "-m", type=_PATH, help="Model, or its file .onnx.  [default: bundled English]"
)


_SIGNS = {"full stop": ".", "comma": ",", "question mark": "?", "capital inside": "capitals"}


@click.group()
def command() -> None:
    """Restore case and punctuation of text, as `asr transcribe --punctuate` does of transcripts.

    \b
      echo "yes tom how are you" | asr punctuation restore
      asr train task=punctuation data.train=[text.txt] data.dev=[dev.txt] run=runs/punctuation
      asr punctuation export runs/punctuation punctuation.onnx
      asr punctuation score held-out.txt --model punctuation.onnx
    """


@command.command()
@click.argument("texts", type=_PATH, nargs=-1)
@_MODEL
def restore(texts: tuple[Path, ...], model: Path | None) -> None:
    """Write out each line of TEXTS, or of standard input, with case and punctuation."""
    from asr.lm.text import read_sentences
    from asr.text.normalize import normalize

    punctuator = _load(model)
    lines: Iterable[Sequence[str]] = read_sentences(texts)
    if not texts:
        lines = (line.split() for line in sys.stdin)
    for words in lines:
        click.echo(" ".join(punctuator(normalize(" ".join(words)).split())))


@command.command()
@click.argument("texts", type=_PATH, nargs=-1, required=True)
@_MODEL
@click.option(
    "--join", type=click.IntRange(1), default=1, show_default=True, help="Lines per text."
)
@click.option(
    "--language", default="en", show_default=True, help="Language whose rules spell out numbers."
)
@click.option(
    "--listen",
    is_flag=True,
    help="Manifests: give the model the silences in the recordings, as in transcription.",
)
def score(
    texts: tuple[Path, ...], model: Path | None, join: int, language: str, listen: bool
) -> None:
    """Remove case and punctuation from the written TEXTS, restore them, and count what is correct.

    F1 of each mark and of capitals within sentences, and the share of words that are written right.
    Beside it stands what a capital at the beginning and a full stop at the end would give. Lines
    without a capital at the beginning or a mark at the end are left out.

    \b
      asr punctuation score held-out.txt --join 3
      asr punctuation score dev.jsonl --listen
    """
    from asr.lm.text import read_written
    from asr.punctuation.labels import WrittenCounts

    if listen and join > 1:
        raise click.UsageError("the silence between two recordings is not known: leave --join out")
    punctuator = _load(model)
    for text in texts:
        restored, baseline = WrittenCounts(), WrittenCounts()
        n_lines = 0
        given: Iterable[tuple[Labelled, Sequence[float]]]
        if listen:
            given = _aligned(text, model, language)
        else:
            given = ((line, ()) for line in _joined(read_written([text], language), join))
        for labelled, silences in given:
            n_lines += 1
            restored.add(labelled, punctuator(labelled.words, silences))
            baseline.add(labelled, _plainly(labelled.words))
        click.echo(f"{text}: {n_lines} texts, {restored.written[1]} words")
        for name, sign in _SIGNS.items():
            figures = f"{restored.f1(sign):6.1%}   baseline {baseline.f1(sign):6.1%}"
            click.echo(f"  F1 {name:16} {figures}   ({restored.number(sign)} in all)")
        figures = f"{restored.accuracy:6.1%}   baseline {baseline.accuracy:6.1%}"
        click.echo(f"  written right       {figures}")


@command.command()
@click.argument("run", type=_PATH)
@click.argument("output", type=_PATH)
@precision_options
@needs_training_extra
def export(run: Path, output: Path, precision: str) -> None:
    """Make one file (.onnx) of what was trained in the folder RUN.

    `asr export --punctuation` takes it into a new model; if OUTPUT is the folder of a model, it is
    put in there.
    """
    from asr.errors import BundleError
    from asr.files import replacing
    from asr.packaging.bundle import PUNCTUATION, Bundle
    from asr.packaging.export.graph import halve
    from asr.punctuation.export import tagger_to_onnx
    from asr.punctuation.training import load_tagger

    model = tagger_to_onnx(*load_tagger(run), small=precision == "int8")
    graph = (halve(model) if precision == "fp16" else model).SerializeToString()
    if output.is_dir():
        Bundle.load(output).with_file(PUNCTUATION, graph)
    elif output.suffix == ".onnx":
        with replacing(output) as temporary:
            temporary.write_bytes(graph)
    else:
        raise BundleError(f"{output}: neither a model's folder nor named *.onnx")
    note(f"{output}: {len(graph) / 1e6:.1f} MB")


def _load(model: Path | None) -> Punctuator:
    from asr.packaging.bundle import Bundle, bundled
    from asr.punctuation.punctuator import Punctuator, punctuator_of

    if model is not None and model.suffix == ".onnx":
        return Punctuator(model)
    return punctuator_of(Bundle.load(model or bundled()))


def _aligned(
    manifest: Path, model: Path | None, language: str
) -> Iterator[tuple[Labelled, list[float]]]:
    """The usable lines of a manifest, and the silence behind each word but the last."""
    from asr.aligner import Aligner
    from asr.data.manifest import read_manifest
    from asr.errors import ASRError
    from asr.packaging.bundle import Bundle, bundled
    from asr.punctuation.labels import take_apart
    from asr.punctuation.punctuator import silences
    from asr.vad import VadConfig

    folder = model if model is not None and model.is_dir() else bundled(language)
    whole = VadConfig(detector="none")
    aligner = Aligner(Bundle.load(folder), skip_unknown=True, vad=whole)
    for utterance in read_manifest(manifest):
        labelled = take_apart(utterance.text, language)
        if labelled is None:
            continue
        try:
            words = aligner.align(utterance.audio_filepath, " ".join(labelled.words)).words
        except ASRError as error:
            warn(error)
            continue
        if len(words) == len(labelled.words):
            yield labelled, silences(words)


def _joined(lines: Iterable[Labelled | None], join: int) -> Iterable[Labelled]:
    """Texts of `join` usable lines each."""
    import dataclasses
    import itertools

    usable = (line for line in lines if line is not None)
    while some := list(itertools.islice(usable, join)):
        first = some[0]
        yield dataclasses.replace(
            first,
            **{
                field.name: tuple(value for line in some for value in getattr(line, field.name))
                for field in dataclasses.fields(first)
            },
        )


def _plainly(words: Sequence[str]) -> list[str]:
    """A capital at the beginning and a full stop at the end."""
    from asr.punctuation.labels import LOWER, NOTHING, STOP, put_together

    marks = [NOTHING] * (len(words) - 1) + [STOP]
    return put_together(words, marks, [LOWER] * len(words))
