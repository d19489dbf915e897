"""One corpus, from wherever it is, to one manifest a split."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from asr.data.manifest import hold_out, read_manifest, write_manifest
from asr.files import JSON_ESCAPE
from asr.program import OUTPUT
from asr.text.languages import normalizer
from asr.types import Utterance
from data_prep.clips import Skipped, utterances
from data_prep.corpus import Corpus, CorpusError


@dataclass
class Split:
    """A manifest that was written, and what was left out of it; `seconds` of sound."""

    name: str
    manifest: Path
    skipped: Skipped = field(default_factory=Skipped)
    n_utterances: int = 0
    seconds: float = 0.0
    speakers: set[str | None] = field(default_factory=set)

    def write(self, found: Iterable[Utterance]) -> Iterator[Utterance]:
        """Pass utterances through, paths made relative to the manifest's folder, and count them."""
        folder = self.manifest.parent
        for utterance in found:
            self.n_utterances += 1
            self.seconds += utterance.duration
            self.speakers.add(utterance.speaker)
            path = Path(utterance.audio_filepath).resolve()
            inside = path.is_relative_to(folder)
            yield replace(
                utterance, audio_filepath=str(path.relative_to(folder) if inside else path)
            )


def prepare(
    corpus: Corpus,
    to: Path,
    *,
    parts: Sequence[str] = (),
    archives: Sequence[Path] = (),
    folders: Sequence[Path] = (),
    dev: float = 0.0,
    language: str = "",
) -> Iterator[Split]:
    """Write `to`/NAME/SPLIT.jsonl for each split, yielding each when it is written.

    The corpus is read from `folders`, or unpacked from `archives`, or downloaded. A share `dev` of
    the training set is held out as a development set. `language` chooses the normaliser where the
    corpus doesn't. The folder can be moved: paths in it are relative.

    Raises CorpusError, DownloadError and UnpackError.
    """
    base = to.resolve() / corpus.name
    if not folders:
        folders = [corpus.download(base / "raw", parts, archives)]
    clips = corpus.prepare(folders, parts)
    if dev and ("train" not in clips or {"dev", "valid", "validation"} & clips.keys()):
        raise CorpusError(
            f"{corpus.name} has the splits {', '.join(clips)}: nothing to hold out",
            "leave --dev out",
        )
    base.mkdir(parents=True, exist_ok=True)
    total = 0
    for name, found in clips.items():
        one_language = corpus.languages not in ("", "multi") and " " not in corpus.languages
        # Splits of corpora in several languages begin with the language: en-train.
        normalize = normalizer(language or (corpus.languages if one_language else name))
        split = Split(name, base / f"{name}.jsonl")
        made: Iterable[Utterance] = track(
            utterances(found, base / "clips" / name, normalize, split.skipped),
            f"{corpus.name} {name}",
            console=Console(stderr=True),
            transient=True,
            disable=not OUTPUT.progress,
        )
        if dev and name == "train":
            rest, held_out = hold_out(list(made), dev)
            yield from _written(Split("dev", base / "dev.jsonl"), held_out)
            made = rest
        yield from _written(split, made)
        total += split.n_utterances
    if not total:
        raise CorpusError(
            f"{corpus.name}: no utterance could be used: {'; '.join(split.skipped.lines())}",
            "is this the right folder?",
        )
    facts = ("name", "title", "licence", "languages", "page")
    about = {key: getattr(corpus, key) for key in facts} | {"parts": list(parts)}
    (base / "corpus.json").write_text(
        json.dumps(about, ensure_ascii=False, indent=1) + "\n",
        encoding="utf-8",
        errors=JSON_ESCAPE,
    )


def _written(split: Split, found: Iterable[Utterance]) -> Iterator[Split]:
    """The split, and if its utterances have phone labels, a second one whose text they are."""
    write_manifest(split.manifest, split.write(found))
    yield split
    spelled = [u for u in read_manifest(split.manifest) if u.extra.get("phones")]
    if spelled:
        phones = Split(f"{split.name}-phones", split.manifest.with_stem(f"{split.name}-phones"))
        write_manifest(phones.manifest, phones.write(map(_in_phones, spelled)))
        yield phones


def _in_phones(utterance: Utterance) -> Utterance:
    labels = [p if isinstance(p, str) else p[2] for p in utterance.extra["phones"]]
    extra = {key: value for key, value in utterance.extra.items() if key != "phones"}
    return replace(utterance, text=" ".join(labels), extra=extra | {"words": utterance.text})
