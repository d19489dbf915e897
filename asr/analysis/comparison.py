"""Two recognisers on the same recordings: rates, significance, and who wins where."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from asr.analysis.breakdown import Scored, breakdown
from asr.analysis.metrics import aligned, confidence_interval, total
from asr.analysis.page import aligned_words, document, percent, sortable_table, tile
from asr.analysis.scoring import Recognised, score
from asr.analysis.significance import Bootstrap, MatchedPairs, bootstrap, matched_pairs
from asr.types import Utterance

SIGNIFICANT = 0.05
_SHOWN = 100  # utterances that differ most, on the page; ten in the text


@dataclass(frozen=True, slots=True)
class Match:
    """Two recognisers on the same utterances, first and second."""

    names: tuple[str, str]
    first: tuple[Scored, ...]
    second: tuple[Scored, ...]
    bootstrap: Bootstrap
    pairs: MatchedPairs

    @property
    def rates(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Word error rate with its 95 % interval, of both."""
        return _rate(self.first), _rate(self.second)

    @property
    def conclusion(self) -> str:
        """Who makes fewer errors, if the difference is significant, in a sentence."""
        better = self.names[self.bootstrap.difference > 0]
        tests = [self.bootstrap.p < SIGNIFICANT, self.pairs.p < SIGNIFICANT]
        if all(tests):
            return f"{better} makes fewer errors: both tests are significant at 5 %"
        if any(tests):
            which = "the bootstrap" if tests[0] else "MAPSSWE"
            return f"{better} may make fewer errors: only {which} is significant at 5 %"
        return "no significant difference at 5 %"


def match(
    names: tuple[str, str],
    utterances: Sequence[Utterance],
    first: Sequence[Recognised],
    second: Sequence[Recognised],
    normalize: Callable[[str], str],
) -> Match:
    """Score both and test the difference; without speakers, recordings are drawn."""
    a, b = (tuple(score(utterances, found, normalize).scored) for found in (first, second))
    speakers = [one.utterance.speaker or one.comparison.name for one in a]
    counted = [one.comparison for one in a], [one.comparison for one in b]
    return Match(
        names,
        a,
        b,
        bootstrap(*counted, speakers),
        matched_pairs([c.pairs for c in counted[0]], [c.pairs for c in counted[1]]),
    )


def comparison_text(title: str, result: Match) -> str:
    """The comparison as plain text."""
    width = max(map(len, result.names))
    lines = [f"{title}: {len(result.first)} utterances"]
    lines += [
        f"  {name:{width}}  WER {rate:7.2%}  [{low:.2%}, {high:.2%}]"
        for name, (rate, low, high) in zip(result.names, result.rates, strict=True)
    ]
    lines += [f"  {line}" for line in _tests(result)]
    lines += [f"  {result.conclusion}", ""]
    for name, rows in _parts(result).items():
        lines.append(f"by {name}")
        lines += [
            f"  {value:24.24} {100 * a:6.1f} {100 * b:6.1f} %  {words:6} words"
            for value, a, b, words in rows
        ]
        lines.append("")
    lines.append("utterances that differ most")
    for a, b in _most_different(result)[:10]:
        lines.append(f"  {a.comparison.name}")
        lines.append(f"    {result.names[0]:{width}}  {aligned(a.comparison.pairs)}")
        lines.append(f"    {result.names[1]:{width}}  {aligned(b.comparison.pairs)}")
    return "\n".join(lines)


def comparison_page(title: str, result: Match) -> str:
    """The comparison as a page of its own."""
    tiles = "".join(
        tile(f"WER of {name}", percent(rate), f"95 %: {percent(low)} to {percent(high)}")
        for name, (rate, low, high) in zip(result.names, result.rates, strict=True)
    )
    counts = [sum(wins) for wins in zip(*map(_win, result.first, result.second), strict=True)]
    labels = (f"Better: {result.names[0]}", f"Better: {result.names[1]}", "Equal")
    tiles += "".join(
        tile(label, str(n), "utterances") for label, n in zip(labels, counts, strict=True)
    )
    body = f"<h1>{escape(' and '.join(result.names))}</h1>" + f'<p class="note">{escape(title)}</p>'
    body += f'<div class="tiles">{tiles}</div><p><b>{escape(result.conclusion)}</b></p>'
    body += "".join(f"<p>{escape(line)}</p>" for line in _tests(result))
    for name, rows in _parts(result).items():
        lines = "".join(
            f'<tr><td>{escape(value)}</td><td class="n" data-v="{a:.6f}">{_best(a, b)}</td>'
            f'<td class="n" data-v="{b:.6f}">{_best(b, a)}</td><td class="n">{words}</td></tr>'
            for value, a, b, words in rows
        )
        columns = [(column, True) for column in (*result.names, "words")]
        body += sortable_table(name, columns, lines)
    body += "<h2>Utterances that differ most</h2>"
    for a, b in _most_different(result)[:_SHOWN]:
        recording = escape(Path(a.comparison.name).name)
        body += f'<div class="u"><header><code>{recording}</code></header>'
        for name, one in zip(result.names, (a, b), strict=True):
            body += f"<p><b>{escape(name)}</b> {aligned_words(one.comparison.pairs)}</p>"
        body += "</div>"
    return document(" and ".join(result.names), body)


def _tests(result: Match) -> Iterator[str]:
    drawn, pairs = result.bootstrap, result.pairs
    unit = "speakers" if any(one.utterance.speaker for one in result.first) else "recordings"
    yield (
        f"difference {100 * drawn.difference:+.2f} points, 95 %: {100 * drawn.low:+.2f} to"
        f" {100 * drawn.high:+.2f}, p = {drawn.p:.4f} (bootstrap over {drawn.units} {unit})"
    )
    yield (
        f"MAPSSWE: {pairs.segments} segments, mean difference {pairs.mean:+.3f} errors,"
        f" Z = {pairs.z:.3f}, p = {pairs.p:.4f}"
    )


def _rate(scored: Sequence[Scored]) -> tuple[float, float, float]:
    counts = [one.comparison.words for one in scored]
    return (total(counts).rate, *confidence_interval(counts))


def _parts(result: Match) -> dict[str, list[tuple[str, float, float, int]]]:
    """Value, both rates, and words, for the values of each column."""
    first, second = breakdown(result.first), breakdown(result.second)
    return {
        name: [
            (a.value, a.words.rate, b.words.rate, a.words.reference)
            for a, b in zip(parts, second[name], strict=True)
        ]
        for name, parts in first.items()
    }


def _most_different(result: Match) -> list[tuple[Scored, Scored]]:
    def gap(pair: tuple[Scored, Scored]) -> int:
        return abs(pair[0].comparison.words.errors - pair[1].comparison.words.errors)

    pairs = zip(result.first, result.second, strict=True)
    return sorted((pair for pair in pairs if gap(pair)), key=gap, reverse=True)


def _win(a: Scored, b: Scored) -> tuple[bool, bool, bool]:
    x, y = a.comparison.words.errors, b.comparison.words.errors
    return x < y, y < x, x == y


def _best(rate: float, other: float) -> str:
    return f"<b>{percent(rate)}</b>" if rate < other else percent(rate)
