"""`asr-prepare`: corpora, from wherever they are, to manifests that `asr train` reads."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from asr.errors import ASRError, ManifestError
from asr.program import cluster_option, run, warn, with_output_options
from data_prep.catalogue import CATALOGUE, FORMATS, find
from data_prep.corpus import Clip, Corpus, did_you_mean
from data_prep.texts import PACKAGES

if TYPE_CHECKING:
    from asr.data.manifest import HoldOut
    from data_prep.clips import Skipped
    from data_prep.prepare import Split
    from data_prep.texts import Written

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(path_type=Path)
N_EXAMPLES = 3  # of each kind of finding, unless all are asked for


class CorpusGroup(click.Group):
    """The commands, and one more for each corpus of the catalogue."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        command = super().get_command(context, name)
        if command is None and name in CATALOGUE:
            command = corpus_command(find(name))
        return command and with_output_options(command)

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = arguments[0]
        if self.get_command(context, name) is None and not name.startswith("-"):
            near = did_you_mean(name, [*self.commands, *CATALOGUE])
            raise click.UsageError(
                f"no such command or corpus: {name}{near} (`asr-prepare list` shows the corpora)",
                context,
            )
        return super().resolve_command(context, arguments)


@click.group(
    cls=CorpusGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    subcommand_metavar="CORPUS|COMMAND [OPTIONS]...",
    epilog="`asr-prepare CORPUS --help` tells what is known about a corpus, and its options.",
)
def cli() -> None:
    """Corpora, from wherever they are, to manifests that `asr train` reads.

    \b
    See what there is, and get it:
      asr-prepare list --language en
      asr-prepare librispeech --parts train-clean-100,dev-clean --to corpora/
      asr-prepare timit --from-archive timit_LDC93S1.tgz --to corpora/
    \b
    Or bring your own: talk.mp3 next to talk.txt, a table, a Kaldi or NeMo folder:
      asr-prepare folder --from-folder recordings/ --language en --dev 0.1 --to corpora/
    \b
    Text for language models, without the sentences of the dev set:
      asr-prepare text --to corpora/text --without dev.jsonl
    \b
    Look at it, then train:
      asr-prepare check corpora/folder/*.jsonl
      asr-prepare stats corpora/folder/*.jsonl --picture stats.png
      asr train data.train=[corpora/folder/train.jsonl] data.dev=[corpora/folder/dev.jsonl]

    Run the same command again to resume an interrupted download; finished steps are skipped.
    """


@cli.command("list")
@click.option("--language", help="Only corpora of this language, such as en or ko.")
def list_command(language: str | None) -> None:
    """Show the corpora: languages, hours, size, licence, and how to get them."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("corpus", "what it is", "languages"):
        table.add_column(column, no_wrap=column == "corpus")
    for column in ("hours", "GB"):
        table.add_column(column, justify="right")
    table.add_column("licence")
    table.add_column("how", no_wrap=True)
    for corpus in CATALOGUE.values():
        if language is None or language in corpus.languages.split():
            table.add_row(*_row(corpus))
    # In a pipe there is no width to fit: one line for each corpus.
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _row(corpus: Corpus) -> tuple[str, ...]:
    hours = "?" if corpus.hours is None else f"{corpus.hours:,.4g}"
    size = "?" if corpus.size is None else f"{corpus.size:.3g}"
    how = "download" if corpus.can_download else "by hand"
    if corpus in FORMATS:
        hours, size, how = "", "", "yours"
    languages = corpus.languages or "any"
    return corpus.name, corpus.title, languages, hours, size, corpus.licence, how


def corpus_command(corpus: Corpus) -> click.Command:
    """`asr-prepare NAME`, with the facts about the corpus as its help."""
    several = corpus.parts is None or bool(corpus.parts)
    parts = ", ".join(corpus.parts) if corpus.parts else "as the recipe names them"
    language = "en" if corpus in FORMATS else ""  # a folder has no language of its own

    @click.command(corpus.name, help=_about(corpus))
    @click.option(
        "--to", type=FOLDER, required=True, help="Folder for the new or resumed DIR/NAME."
    )
    @click.option("--parts", default="", hidden=not several, help=f"Comma-separated: {parts}.")
    @click.option(
        "--from-archive",
        "archives",
        type=FILE,
        multiple=True,
        help="An archive to use instead of a download. Repeatable.",
    )
    @click.option(
        "--from-folder",
        "folders",
        type=click.Path(exists=True, path_type=Path),
        multiple=True,
        help=f"An unpacked corpus: {', then '.join(corpus.folders)}.",
    )
    @click.option(
        "--dev",
        type=click.FloatRange(0, 0.5),
        default=0.0,
        help="Share of train to hold out as dev: whole speakers if there are several.",
    )
    @click.option(
        "--language",
        default=language,
        show_default=bool(language),
        help="Language whose rules spell out numbers, such as en or ko.",
    )
    def command(
        to: Path,
        parts: str,
        archives: tuple[Path, ...],
        folders: tuple[Path, ...],
        dev: float,
        language: str,
    ) -> None:
        from data_prep.prepare import prepare

        chosen = [part.strip() for part in parts.split(",") if part.strip()]
        for split in prepare(
            corpus,
            to,
            parts=chosen,
            archives=archives,
            folders=folders,
            dev=dev,
            language=language,
        ):
            _tell(split)
        given = click.get_current_context().get_parameter_source("language")
        if language and given is ParameterSource.DEFAULT:
            click.echo(
                "Numbers were spelled out in English; use --language CODE for another language."
            )
        click.echo(f"Next: asr-prepare check {to / corpus.name}/*.jsonl")

    return command


def _about(corpus: Corpus) -> str:
    """The help of a corpus: what it is, what it may be used for, how to get it."""
    facts = {
        "languages": corpus.languages or "any",
        "hours": "" if corpus.hours is None else f"{corpus.hours:g}",
        "download": "" if corpus.size is None else f"{corpus.size:.3g} GB",
        "licence": f"{corpus.licence}" if corpus.licence != "?" else "see its page",
        "page": corpus.page,
    }
    lines = [f"  {key:10} {value}" for key, value in facts.items() if value]
    get = f"\n\nTo get it, {corpus.instructions}." if corpus.instructions else ""
    title = corpus.title[0].upper() + corpus.title[1:]
    return f"{title}.\n\n\b\n" + "\n".join(lines) + get


@cli.command()
@click.argument("manifests", type=FILE, nargs=-1, required=True)
@click.option(
    "--vocabulary", type=FILE, help="vocabulary.json that must contain all characters of the texts."
)
@click.option(
    "--decode", is_flag=True, help="Read every recording to its end, not only its header."
)
@click.option(
    "--all", "show_all", is_flag=True, help="Show all findings instead of three of each kind."
)
def check(
    manifests: tuple[Path, ...], vocabulary: Path | None, decode: bool, show_all: bool
) -> None:
    """Check MANIFESTS, each of which is one split.

    Finds missing and unreadable files, wrong durations, empty texts, texts that are too long for
    their recording, characters outside the vocabulary, duplicate recordings, and speakers and texts
    in two splits. The exit status is 1 if anything is wrong; shared texts are only a remark.
    """
    from asr.text.vocabulary import Vocabulary
    from data_prep.check import by_kind
    from data_prep.check import check as find_problems

    loaded = None if vocabulary is None else Vocabulary.load(vocabulary)
    by_name = _read(manifests)
    groups = by_kind(find_problems(by_name, loaded, decode=decode))
    for kind, findings in groups.items():
        label = "" if findings[0].is_error else "remark: "
        click.echo(f"{label}{kind}: {len(findings):,}")
        for finding in findings if show_all else findings[:N_EXAMPLES]:
            click.echo(f"  {finding.where}" + (f": {finding.detail}" if finding.detail else ""))
    n_utterances = sum(map(len, by_name.values()))
    n_errors = sum(len(f) for f in groups.values() if f[0].is_error)
    click.echo(f"{n_utterances:,} utterances, {n_errors or 'no'} findings")
    if n_errors:
        raise click.exceptions.Exit(1)


@cli.command()
@click.argument("manifests", type=FILE, nargs=-1, required=True)
@click.option("--picture", type=FOLDER, help="Also draw the distributions, as PNG, PDF or SVG.")
def stats(manifests: tuple[Path, ...], picture: Path | None) -> None:
    """Show the size of MANIFESTS and its distribution."""
    from rich.console import Console
    from rich.table import Table

    from data_prep.stats import draw, statistics

    by_name = {name: statistics(utterances) for name, utterances in _read(manifests).items()}
    rows = {name: s.row() for name, s in by_name.items()}
    table = Table("manifest", box=None, header_style="bold", pad_edge=False)
    for column in next(iter(rows.values())):
        table.add_column(column, justify="right")
    for name, row in rows.items():
        table.add_row(name, *row.values())
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    if picture is not None:
        draw(by_name, picture)
        click.echo(picture)


@cli.command()
@click.argument("manifests", type=FILE, nargs=-1, required=True)
@click.option("--to", type=FOLDER, required=True, help="The folder of train.jsonl and dev.jsonl.")
@click.option("--dev", type=click.FloatRange(0, 0.5), default=0.1, show_default=True)
@click.option(
    "--by",
    type=click.Choice(["auto", "speaker", "text", "recording"]),
    default="auto",
    help="What never occurs in both sets; auto: speakers if several are known, otherwise texts.",
)
def split(manifests: tuple[Path, ...], to: Path, dev: float, by: HoldOut) -> None:
    """Split MANIFESTS, taken together, into training and development sets.

    The same recordings always give the same sets. With --by recording, texts may occur in
    both: for digits, commands, and other closed vocabularies.
    """
    from asr.data.manifest import hold_out, write_manifest

    found = [utterance for utterances in _read(manifests).values() for utterance in utterances]
    for name, part in zip(("train", "dev"), hold_out(found, dev, by), strict=True):
        write_manifest(to / f"{name}.jsonl", part)
        hours = sum(u.duration for u in part) / 3600
        click.echo(f"{to / name}.jsonl: {len(part):,} utterances, {hours:.2f} h")


@cli.command()
@click.argument("manifests", type=FILE, nargs=-1, required=True)
@click.option("--to", required=True, help="The folder of the shards, or its address in a store.")
@click.option("--megabytes", type=click.IntRange(1), default=256, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Seed of the order of the utterances.")
@click.option("--keep-order", is_flag=True, help="Do not shuffle.")
@cluster_option
def shard(
    manifests: tuple[Path, ...],
    to: str,
    megabytes: int,
    seed: int,
    keep_order: bool,
    cluster: str | None,
) -> None:
    """Pack MANIFESTS, one by one, into WebDataset tar files with an index.

    For corpora that are too large for single files: training reads shards sequentially, from disks
    or object stores.
    """
    from asr.cluster import connected
    from data_prep.shard import shard as write_shards

    order = None if keep_order else seed
    with connected(cluster):
        for name, utterances in _read(manifests).items():
            click.echo(
                write_shards(
                    utterances, to, name, max_bytes=megabytes << 20, seed=order, cluster=cluster
                )
            )


@cli.command("pseudo-label")
@click.argument("recordings", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True)
@click.option("--model", type=FOLDER, help="Model.  [default: bundled English]")
@click.option("--to", type=FOLDER, required=True, help="The folder of pseudo.jsonl.")
@click.option("--confidence", type=click.FloatRange(0, 1), default=0.8, show_default=True)
@click.option("--min-words", type=click.IntRange(1), default=2, show_default=True)
@cluster_option
def pseudo_label(
    recordings: tuple[Path, ...],
    model: Path | None,
    to: Path,
    confidence: float,
    min_words: int,
    cluster: str | None,
) -> None:
    """Transcribe RECORDINGS, files or folders, and keep what the model is confident of.

    Long recordings are cut at their pauses. The manifest names the model and its confidence. A
    model learns its own mistakes, so never evaluate on these transcripts.

    Transcripts are saved to transcripts.jsonl at once: the same command resumes after an
    interruption, and a run with another --confidence reuses them.
    """
    import asr
    from data_prep import pseudo_label as labels
    from data_prep.clips import Skipped

    skipped = Skipped()
    found = labels.recordings(recordings)
    recognizer = asr.load(model)
    journal = labels.Journal(
        to / "transcripts.jsonl", recognizer.bundle.fingerprint, recognizer.transcribe
    )
    if cluster is not None:
        journal.fill(found, cluster, model)
    clips = labels.pseudo_label(
        found, journal, confidence=confidence, min_words=min_words, skipped=skipped
    )
    _write(to / "pseudo.jsonl", clips, skipped)
    if journal.reused:
        click.echo(f"{journal.reused} of {len(found)} recordings were transcribed before")


@cli.command()
@click.argument("texts", type=FILE, nargs=-1, required=True)
@click.option("--to", type=FOLDER, required=True, help="The folder of synthetic.jsonl.")
@click.option(
    "--engine",
    type=click.Choice(["hibari", "espeak-ng", "flite"]),
    help="[default: the first of them that is installed]",
)
@click.option(
    "--voices",
    default="",
    help="Comma-separated; of hibari man-1,man-2,woman-1,child-1 …  [default: many English ones]",
)
@click.option("--seed", default=0, show_default=True, help="Seed of voices, tempo and pitch.")
def synthesize(
    texts: tuple[Path, ...], to: Path, engine: str | None, voices: str, seed: int
) -> None:
    """Synthesise the lines of TEXTS, each with another voice, tempo and pitch.

    hibari-tts, which the extra [data] brings, speaks at a hundred times real time and naturally, in
    voices bent from one; espeak-ng and flite must be installed, and sound like machines. The same
    lines give the same recordings; what is there already is not made again.
    """
    from data_prep import synthesize as speech
    from data_prep.clips import Skipped

    chosen = speech.choose_engine(engine)
    names = [voice.strip() for voice in voices.split(",") if voice.strip()]
    lines = [line for path in texts for line in _text(path).splitlines()]
    clips = speech.synthesize(lines, to / "clips", chosen, names, seed)
    _write(to / "synthetic.jsonl", clips, Skipped())


@cli.command()
@click.option(
    "--to", type=click.Path(path_type=Path), required=True, help="The text file to write."
)
@click.option("--lines", type=click.IntRange(1, 10_000_000), default=50_000, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Another seed gives other lines.")
def dictation(to: Path, lines: int, seed: int) -> None:
    """Write English text of what people dictate, for language models.

    Names spelled by letters, telephone numbers, codes, dates, times, prices and addresses, one a
    line, as they are said. Mix a model of it into another one:

    \b
      asr-prepare dictation --to dictation.txt
      asr lm train dictation.txt --order 4 --output dictation.bin
      asr lm mix lm.bin dictation.bin --dev prose.txt --dev spelled.txt --output mixed.bin
    """
    import itertools

    from asr.files import replacing
    from data_prep.dictation import Dictation

    with replacing(to) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in itertools.islice(Dictation(seed), lines))
    click.echo(f"{to}: {lines:,} lines")


@cli.command()
@click.option("--to", type=FOLDER, required=True, help="The folder of NAME.txt and NAME.json.")
@click.option(
    "--only",
    type=click.Choice([package.name for package in PACKAGES]),
    multiple=True,
    help="Get only this text. Repeatable.",
)
@click.option(
    "--dump",
    "dumps",
    type=FILE,
    multiple=True,
    help="A local MediaWiki dump (.xml, .xml.bz2, .xml.gz) to use instead of these texts, or in "
    "addition to those of --only. Repeatable.",
)
@click.option(
    "--without",
    type=FILE,
    multiple=True,
    help="A manifest, such as a dev set, whose texts are excluded. Repeatable.",
)
def text(
    to: Path, only: tuple[str, ...], dumps: tuple[Path, ...], without: tuple[Path, ...]
) -> None:
    """Get openly licensed English text for language models, one sentence per line.

    Articles of Wikipedia, country profiles, and the sentences of a dictionary: about 12 million
    words in 163 MB of downloads. No line occurs twice in all texts of the folder together. Lines
    that contain a text of a --without manifest, or are contained in one, are excluded.

    For a full Wikipedia in any language with spaces between words, download
    LANGUAGEwiki-latest-pages-articles.xml.bz2 from dumps.wikimedia.org and pass it as --dump.
    """
    from data_prep.texts import Dump, Source, write_texts

    sources: list[Source] = [p for p in PACKAGES if p.name in only or not (only or dumps)]
    sources += map(Dump, dumps)
    results = list(write_texts(sources, to, without))
    written = [result for result in results if not isinstance(result, ASRError)]
    if written:
        _show_texts(written)
    errors = [result for result in results if isinstance(result, ASRError)]
    for error in errors:
        warn("asr-prepare", error)
    if errors:
        raise click.exceptions.Exit(1)


def _show_texts(texts: list[Written]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("text", "licence", box=None, header_style="bold", pad_edge=False)
    for column in ("lines", "words", "duplicates", "left out"):
        table.add_column(column, justify="right")
    for row in texts:
        counts = (row.lines, row.words, row.duplicates, row.left_out)
        table.add_row(str(row.path), row.licence, *(f"{count:,}" for count in counts))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _write(manifest: Path, clips: Iterable[Clip], skipped: Skipped) -> None:
    """Write a manifest of clips, and print what is in it and what was skipped."""
    from asr.data.manifest import write_manifest
    from asr.text.normalize import normalize
    from data_prep.clips import utterances
    from data_prep.prepare import Split

    to = manifest.parent.resolve()
    split = Split(manifest.stem, to / manifest.name, skipped)
    made = utterances(clips, to / "clips", normalize, skipped)
    write_manifest(split.manifest, split.write(made))
    _tell(split)


def _text(path: Path) -> str:
    """All of a text file. Raises CorpusError for what is none."""
    from asr.text.encoding import read_text
    from data_prep.corpus import CorpusError

    try:
        return read_text(path)[0]
    except ValueError as error:
        raise CorpusError(f"{path}: {error}", "give plain text") from error


def _tell(split: Split) -> None:
    speakers = len(split.speakers - {None})
    click.echo(
        f"{split.manifest}: {split.n_utterances:,} utterances, "
        f"{split.seconds / 3600:.2f} h, {speakers or 'unknown'} speakers"
    )
    for line in split.skipped.lines():
        click.echo(f"  {line}")


def _read(manifests: tuple[Path, ...]) -> dict[str, list]:
    """Manifests by their shortest unique names."""
    from asr.data.manifest import read_manifest

    stems = [path.stem for path in manifests]
    by_name = {
        path.stem if stems.count(path.stem) == 1 else str(path.with_suffix("")): read_manifest(path)
        for path in manifests
    }
    for path, utterances in zip(manifests, by_name.values(), strict=True):
        if not utterances:
            raise ManifestError(f"{path}: has no utterances")
    return by_name


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave the process with its exit status."""
    run(
        cli,
        "asr-prepare",
        arguments,
        interrupted="interrupted; run the same command again to resume",
    )
