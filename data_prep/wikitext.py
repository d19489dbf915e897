"""Encyclopaedias and dictionaries to paragraphs of plain text: one reader a format.

A reader takes an open file and yields paragraphs, a line at a time, in bounded memory: dumps that
people bring themselves may be of any size, and may be damaged.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import html
import io
import json
import re
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

# Characters of an article with its entities; MediaWiki itself allows 2 MiB ($wgMaxArticleSize).
MAX_ARTICLE = 4 << 20
MAX_LINE = 1 << 20  # bytes; what is longer comes in pieces
MIN_PARAGRAPH = 40  # characters: shorter lines are titles and captions
MAX_NESTING = 6  # of templates and tables

# --- MediaWiki markup: https://www.mediawiki.org/wiki/Help:Formatting

_ELEMENTS = "ref math table gallery timeline pre nowiki source code div".split()
_OPENING = re.compile(rf"(<!--)|<({'|'.join(_ELEMENTS)})\b[^<>]*>", re.I)
_CLOSING = {
    "<!--": re.compile("-->"),
    **{name: re.compile(f"</{name}>", re.I) for name in _ELEMENTS},
}
_INNERMOST = re.compile(r"\{\{[^{}]*\}\}|\{\|(?:(?!\{\||\|\}).)*\|\}", re.S)
_PREFIXED = re.compile(r"\[\[\s*(?:[^\W\d_]|-){2,12}:(?:[^\[\]]++|\[\[[^\[\]]*+\]\])*+\]\]")
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]")
_URL = re.compile(r"\[(?:https?|ftp)://[^\s\[\]]*+\s*+([^\[\]]*+)\]")
_TAG = re.compile(r"<[^<>]*>")
_QUOTES = re.compile(r"'{2,}")
_APPENDIX = re.compile(
    r"^[ \t]*==+ *(?:see also|references|external links|further reading|notes|bibliography) *==+",
    re.I | re.M,
)
_LISTS_AND_TABLES = tuple("*|!=:;#{} ")  # what a line that is no paragraph begins with
# Stands for what was taken out, since a space would make its line one of preformatted text.
_GAP = "\0"


def plain_paragraphs(markup: str) -> Iterator[str]:
    """The paragraphs of an article without its markup, lists, tables and appendices.

    >>> list(plain_paragraphs("The '''[[Elbe|river Elbe]]''' flows to the north-west &amp; "
    ...                       "into the [[sea]].{{fact}}\\n* [[Oder]]"))
    ['The river Elbe flows to the north-west & into the sea.']
    """
    appendix = _APPENDIX.search(markup)
    text = _without_elements(markup[: appendix.start()] if appendix else markup)
    for _ in range(MAX_NESTING):
        text, n_found = _INNERMOST.subn(_GAP, text)
        if not n_found:
            break
    text = _LINK.sub(r"\1", _PREFIXED.sub(_GAP, text))
    text = _QUOTES.sub("", _TAG.sub(_GAP, _URL.sub(r"\1", text)))
    for line in html.unescape(text).split("\n"):
        if len(line) >= MIN_PARAGRAPH and not line.startswith(_LISTS_AND_TABLES):
            yield line.replace(_GAP, " ").strip()


def _without_elements(text: str) -> str:
    """Comments, references and what else is no prose, taken out, contents and all.

    Linear in the text; `<ref.*?</ref>` would look for each of a million unclosed ones to the end.
    """
    kept, start, position = [], 0, 0
    unclosed = set()
    while opening := _OPENING.search(text, position):
        name = (opening[1] or opening[2]).lower()
        position = opening.end()
        if name not in unclosed and not opening[0].endswith("/>"):
            closing = _CLOSING[name].search(text, position)
            if closing is None:
                unclosed.add(name)
                continue
            kept.append(text[start : opening.start()])
            start = position = closing.end()
    return _GAP.join([*kept, text[start:]])


# --- MediaWiki dumps: https://www.mediawiki.org/wiki/Help:Export#Export_format


class Page(NamedTuple):
    title: str
    namespace: str  # "0": articles; "" in dumps from before 2012, which do not tell
    text: str

    @property
    def is_article(self) -> bool:
        if self.namespace:
            return self.namespace == "0"
        return not re.match(r"[A-Z][a-z]+( talk)?:\S", self.title)


def read_dump(file: IO[bytes]) -> Iterator[str]:
    """Paragraphs of the articles in an XML dump; plain, or packed by bzip2 or gzip.

    A dump that ends in the middle gives its whole articles; articles longer than MAX_ARTICLE are
    left out. Raises EOFError, OSError or zlib.error where the packing is damaged.
    """
    for page in _pages(_lines(_unpacked(file))):
        if page.is_article and not page.text[:9].lower().startswith("#redirect"):
            yield from plain_paragraphs(page.text)


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    start = file.peek(3)[:3]  # type: ignore[attr-defined]  # all open files and members have it
    if start == b"BZh":
        return bz2.open(file)
    return gzip.open(file) if start[:2] == b"\x1f\x8b" else file  # type: ignore[return-value]


def _lines(file: IO[bytes]) -> Iterator[str]:
    while line := file.readline(MAX_LINE):
        yield line.decode("utf-8", "replace")


def _pages(lines: Iterator[str]) -> Iterator[Page]:
    title = namespace = ""
    for line in lines:
        if "<title>" in line:
            title, namespace = html.unescape(_between(line, "<title>", "</title>")), ""
        elif "<ns>" in line:
            namespace = _between(line, "<ns>", "</ns>")
        elif "<text" in line:
            text = _text(line, lines)
            if text is not None:
                yield Page(title, namespace, text)


def _between(line: str, start: str, end: str) -> str:
    return line.partition(start)[2].partition(end)[0]


def _text(line: str, lines: Iterator[str]) -> str | None:
    """The contents of the element that begins in `line`; None: empty, too long, or cut off."""
    attributes, _, line = line.partition("<text")[2].partition(">")
    if attributes.endswith("/"):
        return None
    parts, size = [], 0
    while True:
        part, closing, _ = line.partition("</text>")
        size += len(part)
        if size <= MAX_ARTICLE:
            parts.append(part)
        if closing:
            return html.unescape("".join(parts)) if size <= MAX_ARTICLE else None
        try:
            line = next(lines)
        except StopIteration:
            return None


def read_sections(file: IO[bytes]) -> Iterator[str]:
    """Paragraphs of a CSV table that has a section of a Wikipedia article in each row."""
    csv.field_size_limit(MAX_ARTICLE)
    for row in csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline="")):
        yield from plain_paragraphs(row["SECTION_TEXT"] or "")


# --- WikiText, which is split into tokens: Merity et al., Pointer Sentinel Mixture Models (2016)

_JOIN = [
    (re.compile(r" @([-,.])@ "), r"\1"),  # 1 @,@ 000
    (re.compile(r" (n't|'(?:s|m|d|re|ve|ll)?)(?= )"), r"\1"),
    (re.compile(r"(?<=\w) '(?=\w)"), "'"),
    (re.compile(r" ([,.;:!?%)\]])"), r"\1"),
    (re.compile(r"([(\[$£]) "), r"\1"),
    (re.compile(r'" ([^"]*?) "'), r'"\1"'),
]


def read_wikitext(file: IO[bytes]) -> Iterator[str]:
    """Paragraphs of WikiText packed by gzip, its tokens put together again."""
    for line in _lines(_unpacked(file)):
        line = line.rstrip("\n")
        if len(line) >= MIN_PARAGRAPH and not line.startswith(" ="):
            line = line.strip() + " "
            for pattern, replacement in _JOIN:
                line = pattern.sub(replacement, line)
            yield line


# --- The World Factbook: https://github.com/factbook/factbook.json


_OTHER_LANGUAGES = "major-language sample(s)"  # a sentence in each language of the country


def read_factbook(file: IO[bytes]) -> Iterator[str]:
    """The texts in the JSON profile of a country."""
    for text in _strings(json.load(file)):
        for line in re.split(r"<br>|<p>|\n", text):
            yield html.unescape(_TAG.sub("", line)).replace("--", ", ")


def _strings(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key != _OTHER_LANGUAGES:
                yield from _strings(value)
    elif isinstance(node, str):
        yield node


# --- WordNet: https://wordnet.princeton.edu/documentation/wndb5wn

_EXAMPLE = re.compile(r'"([^"]*)"')


def read_wordnet(file: IO[bytes]) -> Iterator[str]:
    """Examples and definitions of a data file, each made a sentence."""
    for line in _lines(file):
        _, bar, gloss = line.partition(" | ")
        if bar and not line.startswith("  "):  # the licence, at the start
            yield from map(_sentence, _EXAMPLE.findall(gloss))
            yield from map(_sentence, _EXAMPLE.sub("", gloss).split(";"))


def _sentence(phrase: str) -> str:
    phrase = phrase.strip(" ,:;-\n")
    return phrase[:1].upper() + phrase[1:] + ("" if phrase[-1:] in tuple(".!?") else ".")
