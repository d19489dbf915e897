"""`asr lm`: train, mix, prune, convert and try language models: word n-grams and recurrent ones."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asr.cli import note
from asr.cli._training import needs_training_extra, precision_options
from asr.program import OUTPUT

if TYPE_CHECKING:
    from asr.lm.backoff import BackoffModel
    from asr.lm.evaluation import Predictor
    from asr.lm.text import Normalizer

_PATH = click.Path(path_type=Path)
_READING = 0.5  # share of the time that it takes to train
_TELL_EVERY = 30.0  # seconds
_OUTPUT = click.option(
    "--output", "-o", type=_PATH, required=True, help="Model to write: .bin, .arpa or .arpa.gz."
)
_ENTROPY = click.option(
    "--entropy",
    type=click.FloatRange(0, min_open=True),
    help="Prune n-grams whose removal raises the perplexity by less, relatively: 1e-9 to 1e-6.",
)
_LANGUAGE = click.option(
    "--language", default="en", show_default=True, help="Language whose rules normalise the text."
)
_NORMALIZE = click.option(
    "--normalize/--no-normalize", default=True, help="Normalise the text, or use it unchanged."
)


@click.group()
def command() -> None:
    """Train, mix, prune, convert and try word n-gram language models.

    Models are compact binaries, or ARPA files if named *.arpa or *.arpa.gz. Texts have a sentence
    a line and may be compressed (.gz, .xz, .bz2); of manifests (.jsonl) the texts are read.

    \b
      asr lm train novels.txt.xz mails.txt --order 4 --prune 0,0,1,2 --output lm.bin
      asr lm score lm.bin held-out.txt

    Recurrent models (.onnx) come from `asr train task=language_model`.

    \b
      asr lm export runs/lm rnn.onnx
      asr lm score lm.bin held-out.txt --beside rnn.onnx
      asr lm sample rnn.onnx --prompt "once upon a time"
    """


class Thresholds(click.ParamType):
    """Numbers with commas or spaces between them."""

    name = "N,N,…"

    def convert(self, value: Any, parameter: Any, context: Any) -> list[int]:
        try:
            return [int(number) for number in value.replace(",", " ").split()]
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 0,0,1,2", parameter, context)


@command.command()
@click.argument("texts", type=_PATH, nargs=-1, required=True)
@_OUTPUT
@click.option("--order", type=click.IntRange(1, 8), default=4, show_default=True)
@click.option(
    "--prune",
    type=Thresholds(),
    default="0",
    show_default=True,
    help="Prune n-grams that occur no more often than this; one number per order, the last one"
    " also for all higher orders.",
)
@_ENTROPY
@click.option(
    "--min-count",
    type=click.IntRange(1),
    default=1,
    help="Min occurrences of a word in the vocabulary.",
)
@click.option(
    "--vocabulary-size", type=click.IntRange(4), help="Keep only the most frequent words."
)
@click.option(
    "--words",
    type=_PATH,
    multiple=True,
    help="Words to add to the vocabulary: a list, or a pronunciation dictionary.",
)
@click.option(
    "--among",
    type=_PATH,
    multiple=True,
    help="Keep only words of this list or pronunciation dictionary, such as the recogniser's.",
)
@click.option("--alphabet", default="", help="Keep only words spelled with these characters.")
@click.option(
    "--mix",
    "dev",
    type=_PATH,
    multiple=True,
    help="Train one model per TEXT and one of all, and mix them with the weights that fit this"
    " text best. Repeatable; a text given twice counts twice.",
)
@_LANGUAGE
@_NORMALIZE
def train(
    texts: tuple[Path, ...],
    output: Path,
    order: int,
    prune: list[int],
    entropy: float | None,
    min_count: int,
    vocabulary_size: int | None,
    words: tuple[Path, ...],
    among: tuple[Path, ...],
    alphabet: str,
    dev: tuple[Path, ...],
    language: str,
    normalize: bool,
) -> None:
    """Estimate a model of TEXTS by interpolated modified Kneser-Ney smoothing.

    Counts are sorted on disk, in the folder for temporary files (TMPDIR): some 12 bytes a word of
    the text and 40 an n-gram, so that 200 million words need some 10 GB there, and 2 of memory.
    """
    from asr.lm.counts import VocabularyChoice
    from asr.lm.kneser_ney import train
    from asr.lm.text import read_sentences

    normalizer = _normalizer(language, normalize)
    corpora = [[text] for text in texts] if dev else [list(texts)]
    with _progress(texts) as progress:
        models = train(
            [read_sentences(corpus, normalizer, progress.read) for corpus in corpora],
            order,
            progress=progress.work,
            prune=prune,
            pooled=bool(dev),
            vocabulary=VocabularyChoice(
                min_count,
                vocabulary_size,
                _listed(words, normalizer),
                alphabet,
                frozenset(_listed(among, normalizer)),
            ),
        )
    names = [*map(str, texts), "all together"]
    model = _mixed(names, models, dev, normalizer) if dev else models[0]
    _save(output, model, entropy)


@command.command()
@click.argument("models", type=_PATH, nargs=-1, required=True)
@_OUTPUT
@click.option(
    "--dev",
    type=_PATH,
    multiple=True,
    required=True,
    help="Text that the weights should fit; repeatable.",
)
@_ENTROPY
@_LANGUAGE
@_NORMALIZE
def mix(
    models: tuple[Path, ...],
    output: Path,
    dev: tuple[Path, ...],
    entropy: float | None,
    language: str,
    normalize: bool,
) -> None:
    """Interpolate MODELS into one, with the weights that fit a text best."""
    from asr.lm.files import load_model

    loaded = [load_model(path) for path in models]
    names = list(map(str, models))
    _save(output, _mixed(names, loaded, dev, _normalizer(language, normalize)), entropy)


@command.command()
@click.argument("source", type=_PATH)
@click.argument("output", type=_PATH)
@_ENTROPY
def convert(source: Path, output: Path, entropy: float | None) -> None:
    """Convert the model SOURCE to the format of the name OUTPUT: binary or ARPA."""
    from asr.lm.files import load_model

    _save(output, load_model(source), entropy)


@command.command()
@click.argument("model", type=_PATH)
@click.argument("texts", type=_PATH, nargs=-1, required=True)
@click.option("--beside", type=_PATH, multiple=True, help="Another model to compare; repeatable.")
@click.option("--sentences", is_flag=True, help="Print the log10 probability of every sentence.")
@_LANGUAGE
@_NORMALIZE
def score(
    model: Path,
    texts: tuple[Path, ...],
    beside: tuple[Path, ...],
    sentences: bool,
    language: str,
    normalize: bool,
) -> None:
    """Print the perplexity of each text, and the share of unknown words.

    The ends of sentences count as words. Unknown words are left out of the perplexity; of several
    models (--beside) only the words that all of them know count. Models are n-gram models or
    recurrent ones (.onnx).
    """
    from asr.lm.evaluation import compare
    from asr.lm.text import read_sentences

    paths = [model, *beside]
    models = [_load_predictor(path) for path in paths]
    normalizer = _normalizer(language, normalize)
    for text in texts:
        if sentences:
            spoken = list(read_sentences([text], normalizer))
            for words, scores in zip(spoken, models[0].scores(spoken), strict=True):
                click.echo(f"{scores.sum() / math.log(10):.4f}\t{' '.join(words)}")
        results = compare(models, read_sentences([text], normalizer))
        for path, result in zip(paths, results, strict=True):
            name = f"{path} on {text}" if beside else text
            click.echo(f"{name}: {result}", err=sentences)


@command.command()
@click.argument("model", type=_PATH)
def info(model: Path) -> None:
    """Show what MODEL is: order, numbers of n-grams, size, origin."""
    from asr.lm.files import load_ngram
    from asr.lm.recurrent import RecurrentLM, is_recurrent

    if is_recurrent(model):
        recurrent = RecurrentLM(model)
        click.echo(f"recurrent   {recurrent.state_size} numbers of state")
        click.echo(f"vocabulary  {len(recurrent.vocabulary)} {recurrent.vocabulary.kind}")
        click.echo(f"file        {model.stat().st_size / 1e6:.1f} MB")
        return
    ngram = load_ngram(model)
    click.echo(f"order       {ngram.order}")
    click.echo(f"vocabulary  {len(ngram.words)} words")
    for order, count in enumerate(ngram.counts, start=1):
        click.echo(f"{order}-grams     {count}")
    per_ngram = ngram.nbytes / sum(ngram.counts)
    click.echo(f"memory      {ngram.nbytes / 1e6:.1f} MB, {per_ngram:.1f} bytes an n-gram")


@command.command()
@click.argument("run", type=_PATH)
@click.argument("output", type=_PATH)
@precision_options
@needs_training_extra
def export(run: Path, output: Path, precision: str) -> None:
    """Export the recurrent model of the training run RUN as one file (.onnx).

    \b
      asr train task=language_model data.train=[text.txt] data.dev=[dev.txt] run=runs/lm
      asr lm export runs/lm rnn.onnx
    """
    from asr.errors import LanguageModelError
    from asr.files import replacing
    from asr.lm.recurrent import is_recurrent
    from asr.packaging.export.graph import halve
    from asr.packaging.export.language import language_model_to_onnx
    from asr.train.text import load_language_model

    if not is_recurrent(output):
        raise LanguageModelError(f"{output}: its name does not tell its format", "name it *.onnx")
    graph = language_model_to_onnx(*load_language_model(run), small=precision == "int8")
    graph = halve(graph) if precision == "fp16" else graph
    with replacing(output) as temporary:
        temporary.write_bytes(graph.SerializeToString())
    note(f"{output}: {output.stat().st_size / 1e6:.1f} MB")


@command.command()
@click.argument("model", type=_PATH)
@click.option("--prompt", default="", help="How the text begins.")
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="Sentences.")
@click.option(
    "--temperature", type=float, default=1.0, show_default=True, help="Below 1: more predictable."
)
@click.option("--seed", type=int, help="Seed, for the same text again.")
@click.option(
    "--max-symbols",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Max symbols to write.",
)
@_LANGUAGE
def sample(
    model: Path,
    prompt: str,
    count: int,
    temperature: float,
    seed: int | None,
    max_symbols: int,
    language: str,
) -> None:
    """Sample sentences from the recurrent MODEL."""
    from asr.lm.recurrent import RecurrentLM
    from asr.text.languages import normalizer

    recurrent = RecurrentLM(model)
    if recurrent.vocabulary.kind != "phones":
        prompt = normalizer(language)(prompt)
    for number in range(count):
        own_seed = None if seed is None else seed + number
        text = recurrent.sample(prompt, temperature=temperature, seed=own_seed, most=max_symbols)
        click.echo(text)


def _load_predictor(path: Path) -> Predictor:
    from asr.lm.files import load_ngram
    from asr.lm.recurrent import RecurrentLM, is_recurrent

    return RecurrentLM(path) if is_recurrent(path) else load_ngram(path)


def _normalizer(language: str, normalize: bool) -> Normalizer | None:
    from asr.text.languages import normalizer

    return normalizer(language) if normalize else None


def _listed(lists: Sequence[Path], normalizer: Normalizer | None) -> list[str]:
    """The first word of every line; words that normalisation would change are skipped."""
    from asr.lm.text import read_sentences

    words = dict.fromkeys(line[0] for line in read_sentences(lists))
    return [word for word in words if normalizer is None or normalizer(word) == word]


def _mixed(
    names: Sequence[str],
    models: Sequence[BackoffModel],
    dev: Sequence[Path],
    normalizer: Normalizer | None,
) -> BackoffModel:
    from asr.lm.mixture import mix, tune_weights
    from asr.lm.text import read_sentences

    weights = tune_weights(models, list(read_sentences(dev, normalizer)))
    for name, weight in zip(names, weights, strict=True):
        note(f"{weight:.4f}  {name}")
    return mix(models, weights)


def _save(output: Path, model: BackoffModel, entropy: float | None) -> None:
    from asr.lm.backoff import prune
    from asr.lm.files import save_model

    if entropy is not None:
        model = prune(model, entropy)
    save_model(output, model)
    counts = " + ".join(map(str, model.counts))
    note(f"{output}: {counts} n-grams, {output.stat().st_size / 1e6:.1f} MB")


class _Progress:
    """Show the progress of training on standard error: a bar, or lines without a terminal."""

    def __init__(self, texts: Sequence[Path]):
        self._bytes = max(1, sum(text.stat().st_size for text in texts if text.is_file()))
        self._began = self._told = time.monotonic()
        self._read = 0
        self._bar = self._task = None
        if OUTPUT.progress:
            from rich.console import Console
            from rich.progress import Progress as Bar

            self._bar = Bar(console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("reading", total=1.0)

    def read(self, more_bytes: int) -> None:
        self._read += more_bytes
        self._show("reading", _READING * min(1.0, self._read / self._bytes))

    def work(self, stage: str, share: float) -> None:
        self._show(stage, _READING + (1 - _READING) * share)

    def _show(self, stage: str, share: float) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=stage, completed=share)
            return
        now = time.monotonic()
        if now - self._told > _TELL_EVERY and share > 0:
            self._told = now
            left = (now - self._began) * (1 - share) / share
            note(f"{share:.0%} done, {stage}; about {left / 60:.0f} min left")


@contextmanager
def _progress(texts: Sequence[Path]) -> Iterator[_Progress]:
    progress = _Progress(texts)
    with progress._bar or nullcontext():
        yield progress
