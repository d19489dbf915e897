"""Self-contained HTML pages: the errors of one recogniser, and a comparison of two.

Style, script, sound and pictures are inside the file: it can be mailed, and needs no server.
"""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from asr.analysis.breakdown import Part, Scored, calibration
from asr.analysis.metrics import Comparison, confidence_interval, total
from asr.audio import Waveform
from asr.features import FeatureConfig, Features
from asr.text.vocabulary import Vocabulary
from asr.types import Word

_BANDS, _ROWS_PER_SECOND = 40, 50  # of the spectrograms
_MAX_ROWS = 60  # of a table of confusions


@dataclass(frozen=True, slots=True)
class Recording:
    """An utterance on the page.

    words: as recognised, with confidences. sound: MP3. picture: of `picture`.
    """

    scored: Scored
    words: tuple[Word, ...] = ()
    sound: bytes = b""
    picture: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What the page of one test set shows.

    title, notes: what was recognised by what, and how texts were normalised. silent: names of
    recordings without speech, with the words recognised there. phones: confused pairs.
    """

    title: str
    notes: Sequence[str]
    recordings: Sequence[Recording]
    parts: dict[str, list[Part]]
    silent: Sequence[tuple[str, str]] = ()
    silence: str = ""
    special: dict[str, tuple[int, int]] = field(default_factory=dict)
    phones: Sequence[tuple[str, str]] = ()


def sound(waveform: Waveform, sample_rate: int) -> bytes:
    """The waveform (samples,) as MP3, which every browser plays."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.clip(waveform, -1, 1), sample_rate, format="MP3")
    return file.getvalue()


def picture(
    waveform: Waveform,
    log_probs: np.ndarray,
    vocabulary: Vocabulary,
    features: FeatureConfig,
    frame_shift: float,
) -> dict[str, Any]:
    """A spectrogram, and the symbols of the network where they are most probable.

    waveform: (samples,); log_probs: (frames, classes), a row every `frame_shift` seconds.
    """
    plain = replace(features, stack=1, stride=1, deltas=0, energy=False, mean=None, std=None)
    spectrogram = Features(plain)(waveform)
    step = max(1, round(1 / (_ROWS_PER_SECOND * plain.frame_shift)))
    rows = spectrogram[::step]
    columns = np.array_split(rows, min(_BANDS, rows.shape[1]), axis=1)
    small = np.stack([column.mean(axis=1) for column in columns], axis=1)
    low, high = np.quantile(small, [0.05, 0.995]) if small.size else (0.0, 1.0)
    levels = np.clip((small - low) / max(high - low, 1e-6), 0, 1)
    best = log_probs.argmax(axis=1)
    spikes = [
        [
            round((i + 0.5) * frame_shift, 2),
            vocabulary.symbols[b].replace(" ", "␣"),
            round(float(np.exp(log_probs[i, b])), 2),
        ]
        for i, b in enumerate(best)
        if b != vocabulary.blank and (i == 0 or best[i - 1] != b)
    ]
    return {
        "bands": small.shape[1],
        "rows": len(small),
        "image": base64.b64encode((255 * levels).astype(np.uint8).tobytes()).decode(),
        "spikes": spikes,
        "seconds": round(len(waveform) / features.sample_rate, 3),
    }


def error_page(page: Page) -> str:
    """The page of one test set, as HTML."""
    comparisons = [recording.scored.comparison for recording in page.recordings]
    body = [
        f"<h1>{escape(page.title)}</h1>",
        *(f'<p class="note">{escape(n)}</p>' for n in page.notes),
    ]
    body.append(_tiles(page, comparisons))
    body += [_part_table(name, parts) for name, parts in page.parts.items()]
    body.append(_confusions(comparisons, page.phones))
    body.append(_calibration(page.recordings))
    if page.silent:
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>"
            for name, text in page.silent
            if text
        )
        body.append(f"<h2>Words invented in silence</h2><p>{escape(page.silence)}</p>")
        body.append(f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>')
    body.append(_utterances(page.recordings))
    return document(page.title, "\n".join(body))


def document(title: str, body: str) -> str:
    """A whole page around the body."""
    folder = files("asr.analysis")
    style = (folder / "page.css").read_text(encoding="utf-8")
    script = (folder / "page.js").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n"
        f"<body>\n{body}\n<script>{script}</script></body></html>\n"
    )


def percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def tile(label: str, value: str, more: str = "") -> str:
    value, more = f"<b>{escape(value)}</b>", f"<small>{escape(more)}</small>"
    return f'<div class="tile">{escape(label)}{value}{more}</div>'


def sortable_table(name: str, columns: Iterable[tuple[str, bool]], rows: str) -> str:
    """A table by the values of the column `name`, and its heading; `columns`: the titles of the
    others, and whether they hold numbers."""
    heads = "".join(
        f"<th data-sort{' class=n' if numeric else ''}>{escape(title)}</th>"
        for title, numeric in [(name, False), *columns]
    )
    return (
        f'<h2>By {escape(name)}</h2><div class="scroll"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def aligned_words(
    pairs: Iterable[tuple[str, str]], confidences: Sequence[float] | None = None
) -> str:
    """Words as HTML: substitutions, deletions and insertions marked, doubtful words pale."""
    left = iter(confidences or ())
    marked = []
    for said, found in pairs:
        confidence = next(left, None) if found else None
        style = "" if confidence is None else f' style="opacity:{0.45 + 0.55 * confidence:.2f}"'
        tip = "" if confidence is None else f' title="confidence {confidence:.2f}"'
        word = f'<span class="w"{style}{tip}>{escape(found)}</span>'
        if said == found:
            marked.append(word)
        elif not found:
            marked.append(f'<span class="del">{escape(said)}</span>')
        elif not said:
            marked.append(f'<span class="ins">{word}</span>')
        else:
            marked.append(f'<span class="sub"><s>{escape(said)}</s> {word}</span>')
    return " ".join(marked)


def _tiles(page: Page, comparisons: Sequence[Comparison]) -> str:
    words = total(c.words for c in comparisons)
    characters = total(c.characters for c in comparisons)
    low, high = confidence_interval([c.words for c in comparisons])
    right = sum(c.words.errors == 0 for c in comparisons)
    tiles = [
        tile("Word error rate", percent(words.rate), f"95 %: {percent(low)} to {percent(high)}"),
        tile("Character error rate", percent(characters.rate)),
        tile("Utterances", f"{len(comparisons)}", f"{words.reference} words, {right} all right"),
        tile("Substitutions", f"{words.substitutions}"),
        tile("Deletions", f"{words.deletions}"),
        tile("Insertions", f"{words.insertions}"),
    ]
    tiles += [
        tile(kind.capitalize(), percent(wrong / n), f"wrong: {wrong} of {n}")
        for kind, (n, wrong) in page.special.items()
    ]
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _part_table(name: str, parts: Sequence[Part]) -> str:
    highest = max([part.words.rate for part in parts] + [1e-9])
    rows = "".join(
        f"<tr><td>{escape(part.value)}</td>"
        f'<td class="n" data-v="{part.words.rate:.6f}">{percent(part.words.rate)}</td>'
        f'<td class="n">{percent(part.low)} to {percent(part.high)}</td>'
        f'<td><span class="bar" style="width:{6 * part.words.rate / highest:.2f}rem"></span></td>'
        f'<td class="n">{part.utterances}</td><td class="n">{part.words.reference}</td></tr>'
        for part in parts
    )
    numbers = [("WER", True), ("95 %", True), ("", False), ("utterances", True), ("words", True)]
    return sortable_table(name, numbers, rows)


def _confusions(comparisons: Sequence[Comparison], phones: Sequence[tuple[str, str]]) -> str:
    wrong = [pair for c in comparisons for pair in c.pairs if pair[0] != pair[1]]
    tables = [
        ("Substitutions", [pair for pair in wrong if all(pair)]),
        ("Deletions", [pair for pair in wrong if not pair[1]]),
        ("Insertions", [pair for pair in wrong if not pair[0]]),
        ("Phones", [pair for pair in phones if pair[0] != pair[1]]),
    ]
    columns = ""
    for title, pairs in tables:
        rows = "".join(
            f'<tr><td class="n">{count}</td><td>{escape(said or "–")}</td>'
            f"<td>{escape(found or '–')}</td></tr>"
            for (said, found), count in Counter(pairs).most_common(_MAX_ROWS)
        )
        if rows:
            head = '<tr><th class="n">times</th><th>said</th><th>recognised</th></tr>'
            columns += (
                f'<div><h3>{title}</h3><div class="scroll tall">'
                f"<table><thead>{head}</thead><tbody>{rows}</tbody></table></div></div>"
            )
    return f'<h2>Confusions</h2><div class="columns">{columns}</div>' if columns else ""


def _confidences(recording: Recording) -> list[float] | None:
    """Of each recognised word of the comparison, if normalising kept their number."""
    words = recording.scored.comparison.hypothesis.split()
    return [w.confidence for w in recording.words] if len(words) == len(recording.words) else None


def _calibration(recordings: Sequence[Recording]) -> str:
    scored: list[tuple[float, bool]] = []
    for recording in recordings:
        confidences = iter(_confidences(recording) or ())
        for said, found in recording.scored.comparison.pairs:
            confidence = next(confidences, None) if found else None
            if confidence is not None:
                scored.append((confidence, said == found))
    if not scored:
        return ""
    points = calibration(scored)

    def x(value: float) -> float:
        return round(45 + 250 * value, 1)

    def y(value: float) -> float:
        return round(260 - 240 * value, 1)

    line = " ".join(f"{x(c)},{y(r)}" for c, r, _ in points)
    dots = "".join(
        f'<circle cx="{x(c)}" cy="{y(r)}" r="{3 + 6 * (n / len(scored)) ** 0.5:.1f}"'
        f' fill="var(--bar)"><title>confidence {c:.2f}: {percent(r)} of {n} words right</title>'
        "</circle>"
        for c, r, n in points
    )
    ticks = "".join(
        f'<text x="{x(v) - 6}" y="276">{v:g}</text><text x="20" y="{y(v) + 4}">{v:g}</text>'
        for v in (0, 0.5, 1)
    )
    return (
        f"<h2>Calibration</h2><p>How often words with a confidence are right, over {len(scored)}"
        " words. On the dashed line, confidences are probabilities.</p>"
        '<svg viewBox="0 0 320 300" style="max-width:24rem;width:100%" role="img"'
        ' aria-label="Share of right words against confidence">'
        f'<line x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}" stroke="var(--line)"'
        f' stroke-dasharray="4"/><polyline points="{line}" fill="none" stroke="var(--bar)"'
        f' stroke-width="2"/>{dots}{ticks}<text x="130" y="294">confidence</text>'
        '<text transform="translate(12 200) rotate(-90)">share of right words</text></svg>'
    )


def _utterances(recordings: Sequence[Recording]) -> str:
    worst = sorted(
        recordings, key=lambda r: (-r.scored.comparison.words.errors, r.scored.comparison.name)
    )
    controls = (
        '<p><label>Order <select id="order"><option value="errors:-1">most errors</option>'
        '<option value="rate:-1">highest rate</option>'
        '<option value="confidence:1">lowest confidence</option>'
        '<option value="seconds:-1">longest</option><option value="name:1">name</option>'
        '</select></label> <label>Find <input id="find" type="search"></label></p>'
        '<p class="note"><span class="sub"><s>said</s> recognised</span>: substitution,'
        ' <span class="del">said</span>: deletion, <span class="ins">recognised</span>: insertion;'
        " the paler a word, the lower its confidence.</p>"
    )
    shown = "".join(map(_utterance, worst)).replace("<details>", "<details open>", 1)
    return f'<h2>Utterances</h2>{controls}<div id="utterances">{shown}</div>'


def _utterance(recording: Recording) -> str:
    comparison, utterance = recording.scored.comparison, recording.scored.utterance
    confidences = _confidences(recording)
    mean = float(np.mean(confidences)) if confidences else 1.0
    counts, name = comparison.words, Path(comparison.name).name
    facts = [f"{counts.errors} of {counts.reference} words", f"{utterance.duration:.1f} s"]
    facts += [f"confidence {mean:.2f}"] if confidences else []
    facts += [utterance.speaker] if utterance.speaker else []
    extra = ""
    if recording.picture:
        data = json.dumps(recording.picture).replace("</", "<\\/")
        extra += (
            "<details><summary>spectrogram and spikes</summary><canvas></canvas>"
            f'<script type="application/json">{data}</script></details>'
        )
    if recording.sound:
        data = base64.b64encode(recording.sound).decode()
        extra += f'<audio controls preload="none" src="data:audio/mpeg;base64,{data}"></audio>'
    return (
        f'<div class="u" data-errors="{counts.errors}" data-rate="{counts.rate:.4f}"'
        f' data-confidence="{mean:.4f}" data-seconds="{utterance.duration:.3f}"'
        f' data-name="{escape(comparison.name)}"><header><code>{escape(name)}</code>'
        f"<span>{escape(' · '.join(facts))}</span></header>"
        f"<p>{aligned_words(comparison.pairs, confidences)}</p>{extra}</div>"
    )
