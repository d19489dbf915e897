"""Pages, docstrings, messages and names use the terms of the field, not the phrases below."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Phrase: what to write instead. `_` counts as a space, so names are searched, too.
PHRASES = {
    r"hear(s|d|ing)?": "read, receive, process, recognise",
    r"judg(e|es|ed|ing|ements?)": "rescore, decide; rescorer",
    r"(parted|parting|parts) (by|from|at)|parted": "separated by, split at",
    r"by commas": "comma-separated",
    r"by heart": "overfit",
    r"sieves?|verdicts?": "line filter; decision",
    r"in the place of|in (its|their) place": "instead of",
    r"complain(s|ed|ing|t)?|greet(s|ed|ing)?": "report, warn; on_error, on_open",
    r"(is|are|was|were) told": "is reported",
    r"(?-i:MOST|LEAST)|at the (most|least)": "MAX, MIN; at most, at least",
    r"anew": "again",
    r"likeliest": "most probable",
    r"chances?": "probability, probabilities",
    r"let go|gives? up|given up": "release; prune, stop",
    r"vouch(es)?": "verify",
    r"(go|goes|going|went|gone) on": "continue",
    r"so (much|many)(?! that)": "this much, N",
    r"stretch(es)?": "span, segment",
}
PROSE = ("README.md", "RESULTS.md", "CONTRIBUTING.md", "CHANGELOG.md")
PACKAGES = ("asr", "serve", "data_prep")

# Rooms that still use a phrase. Shrink this list; never add to it.
EXCEPTIONS = {
    r"hear(s|d|ing)?": ("data_prep/pseudo_label.py serve/protocols serve/session.py"),
    r"stretch(es)?": ("data_prep/synthesize.py"),
}


def rooms() -> Iterator[tuple[str, Path]]:
    """Every searched file and its room: a page, a module, or a package below the first level."""
    for path in [*map(ROOT.joinpath, PROSE), *sorted((ROOT / "docs").rglob("*.md"))]:
        yield path.relative_to(ROOT).as_posix(), path
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).parts
            yield "/".join(parts[:2]), path


def findings(phrase: str) -> dict[str, list[str]]:
    """Where a phrase is used: rooms, and in each `file:line: text`."""
    pattern = re.compile(rf"(?<![a-z])({phrase})(?![a-z])", re.IGNORECASE)
    found: dict[str, list[str]] = {}
    for room, path in rooms():
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            if pattern.search(line.replace("_", " ")):
                found.setdefault(room, []).append(
                    f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
                )
    return found


@pytest.mark.parametrize("phrase", PHRASES)
def test_no_clean_room_uses_the_phrase(phrase: str) -> None:
    allowed = EXCEPTIONS.get(phrase, "").split()
    new = [
        line for room, lines in findings(phrase).items() if room not in allowed for line in lines
    ]
    assert not new, f"write {PHRASES[phrase]!r} instead:\n" + "\n".join(new)


def test_the_exceptions_are_of_listed_phrases() -> None:
    assert EXCEPTIONS.keys() <= PHRASES.keys()
