"""Recordings of any store through a cluster; a table beside the outputs tells what is done.

    listing -> batches -> transcripts, each written by the process that made it -> one table

Recordings above LARGE bytes are read and cut at pauses by one process, and recognised by many; this
process puts their segments together. OUT/transcripts.parquet has a row for each recording. Until a
run ends its rows are in OUT/transcripts.parts/, so a run that was killed resumes from there.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from asr import cluster, stores
from asr.cli._inputs import STDIN, absolute
from asr.cli._listeners import Status
from asr.cli._outputs import parse_formats
from asr.cli._progress import Progress
from asr.cli._recognizer_options import Settings
from asr.cli._sources import Source, sources
from asr.cli._table import TABLE, Table
from asr.errors import ConfigError
from asr.files import JSON_ESCAPE
from asr.program import explain
from asr.subtitles import SubtitleLayout
from asr.types import Loss, Segment, Transcript, mean_confidence
from asr.writers import render

if TYPE_CHECKING:
    from asr.recognizer import Recognizer
    from asr.vad import Speech

LARGE = 16 << 20  # bytes of a recording that many processes share: 10 min of WAV, 90 min of Opus
# Recordings that a process takes at a time: few at first, for all cores to have some, and more of
# a large archive, since each batch costs the first process some 12 ms.
_MIN_BATCH, _MAX_BATCH, _BATCH_SHARE = 1 << 20, 16 << 20, 1 / 500  # bytes; share of those so far
_BATCH_SIZE = 256
_UNKNOWN = 1 << 20  # bytes of a recording whose size is not known


@dataclass(frozen=True)
class Done:
    """A transcript that is written: its row of the table, and the transcript without segments."""

    row: dict[str, Any]
    transcript: Transcript


@dataclass(frozen=True)
class End:
    """What is known of a recording once it is read: where it ends (s), and the rest."""

    duration: float
    losses: tuple[Loss, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True)
class Transcriber:
    """What processes of the cluster do with recordings; makes a recogniser in each."""

    settings: Settings
    out: str
    formats: tuple[str, ...]
    layout: SubtitleLayout
    model: str  # its checksum

    def __call__(self) -> Callable[[Any], Any]:
        recognizer = self.settings.load(quiet=True)

        def work(item: Source | list[Speech] | End) -> Done | list[Segment] | End:
            if isinstance(item, Source):
                began = time.monotonic()
                with stores.reading(item.path) as recording:
                    transcript = self.settings.transcribe(recognizer, recording)
                return self.finish(item, transcript, time.monotonic() - began)
            if isinstance(item, End):
                return item
            return recognizer.window_segments(item, self._first)

        return work

    def split(self, source: Source) -> Iterator[list[Speech] | End]:
        """The speech of a recording, window by window, and what is known at its end."""
        from asr.audio import SAMPLE_RATE
        from asr.channels import find_channel_speech
        from asr.recognizer import audio_blocks, windows

        settings, reached = self.settings, self._first
        losses: list[Loss] = []
        notices: list[str] = []

        def counted() -> Iterator[Any]:
            nonlocal reached
            for block in audio_blocks(
                recording,
                None,
                start=settings.start,
                duration=settings.duration,
                track=settings.track,
                on_loss=None if settings.strict else losses.append,
            ):
                reached += len(block)
                yield block

        with stores.reading(source.path) as recording:
            yield from windows(
                find_channel_speech(
                    counted(), settings.channels, settings.vad_config(), notices.append
                )
            )
        yield End(reached / SAMPLE_RATE, tuple(losses), tuple(notices))

    def join(self, recognizer: Recognizer, parts: Sequence[Any]) -> Transcript:
        """The transcript of a recording that was split. Raises what a part is, if one failed."""
        *found, end = parts
        for part in parts:
            if isinstance(part, Exception):
                raise part
        assert isinstance(end, End)
        segments = recognizer.written((s for part in found for s in part), self.settings.channels)
        return Transcript(
            tuple(segments),
            end.duration,
            recognizer.bundle.config.name,
            end.losses,
            end.notices,
            by_channel=self.settings.channels == "each",
        )

    def finish(self, source: Source, transcript: Transcript, seconds: float | None) -> Done:
        """Write the outputs of a recording; its row of the table."""
        name = PurePosixPath(source.stem).name
        for format, output in zip(self.formats, self.outputs(source), strict=True):
            text = render(transcript, format, name, self.layout)
            stores.write_bytes(stores.join(self.out, output), text.encode(errors=JSON_ESCAPE))
        words = transcript.words
        row = {
            **self.row(source),
            "duration": transcript.duration,
            "text": transcript.text,
            "words": [{k: v for k, v in asdict(w).items() if k != "units"} for w in words],
            "confidence": mean_confidence(words) if words else None,
            "losses": [asdict(loss) for loss in transcript.losses],
            "seconds": seconds,
        }
        return Done(row, replace(transcript, segments=()))

    def row(self, source: Source) -> dict[str, Any]:
        """What stands in the table of a recording whatever became of it."""
        return {
            "uri": source.path,
            "name": source.stem,
            "model": self.model,
            "key": source.key,
        }

    def outputs(self, source: Source) -> list[str]:
        """The names of its outputs below `out`, one for each format."""
        return [f"{source.stem}.{format}" for format in self.formats]

    @property
    def _first(self) -> int:
        from asr.audio import SAMPLE_RATE

        return round(self.settings.start * SAMPLE_RATE)


def transcriber(
    settings: Settings, formats: str | None, out: str | None, layout: SubtitleLayout
) -> Transcriber:
    """For options of `asr transcribe`. Raises click.UsageError without a folder of outputs."""
    if not out or out == STDIN:
        raise click.UsageError("--cluster needs --out (a folder, or an address such as s3://…)")
    out = out if stores.is_address(out) else absolute(out)
    names = parse_formats(formats if formats is not None else "txt")
    return Transcriber(settings.on_one_core(), out, names, layout, settings.bundle().fingerprint)


def transcribe_on(
    address: str,
    arguments: Sequence[str],
    given: Transcriber,
    *,
    full_names: bool = False,
    overwrite: bool = False,
) -> int:
    """Transcribe what the arguments name, but for what is done, and return the exit status.

    Raises ASRError if there is no such cluster, or for outputs that are not ours to replace.
    """
    recognizer = given.settings.load()  # reports what is wrong with the model, once
    table = Table(given.out)
    there = {hash(file.name) for file in stores.find(given.out)}
    if there and not overwrite and not table.exists:
        raise ConfigError(
            f"{given.out}: holds files, and no {TABLE} of an earlier run",
            "choose an empty folder, or replace files of the same names with --overwrite",
        )
    table.begin()
    table.merge()
    done = {hash(pair) for pair in table.done()}
    status, progress = Status(), Progress(0)
    prefix = f"{given.settings.fingerprint()} {given.layout} {given.model}"

    def missing() -> Iterator[Source]:
        for source in sources(arguments, prefix, full_names):
            is_there = all(hash(output) in there for output in given.outputs(source))
            if not is_there or hash((source.stem, source.key)) not in done:
                progress.expect(1)
                yield source

    found = batches(missing())
    if (first := next(found, None)) is None:
        return status.code  # without a wait for the cluster
    with cluster.connected(address), progress:
        add_done = cluster.counter("asr_recordings", "Recordings that are transcribed")
        add_failed = cluster.counter("asr_failed", "Recordings that could not be transcribed")
        add_seconds = cluster.counter("asr_audio_seconds", "Seconds of audio that are transcribed")
        results = cluster.run(
            itertools.chain([first], found),
            given,
            is_large=lambda source: source.size > LARGE,
            split=given.split,
        )
        try:
            for source, parts in results:
                result = _finished(given, recognizer, source, parts)
                if isinstance(result, Done):
                    told: Transcript | Exception = result.transcript
                    row = result.row
                    progress.finish(source.path, result.transcript.duration)
                    add_done(1)
                    add_seconds(result.transcript.duration)
                else:
                    row, told = {**given.row(source), "error": explain(result)}, result
                    progress.finish(source.path, 0.0)
                    add_failed(1)
                table.add(row)
                status.count(source.path, told, progress)
        finally:
            table.merge()
    return status.code


def _finished(
    transcriber: Transcriber, recognizer: Recognizer, source: Source, parts: Sequence[Any]
) -> Done | Exception:
    """What became of a recording; one that was split is put together here."""
    if isinstance(parts[0], Done | Exception) and len(parts) == 1:
        return parts[0]
    try:
        return transcriber.finish(source, transcriber.join(recognizer, parts), None)
    except Exception as error:  # one recording must not stop the others
        return error


def batches(sources: Iterable[Source]) -> Iterator[list[Source]]:
    """Recordings in groups of some seconds of work each."""
    batch: list[Source] = []
    n_bytes, before = 0, 0
    for source in sources:
        batch.append(source)
        n_bytes += source.size or _UNKNOWN
        wanted = min(_MAX_BATCH, max(_MIN_BATCH, before * _BATCH_SHARE))
        if n_bytes >= wanted or len(batch) == _BATCH_SIZE:
            yield batch
            batch, n_bytes, before = [], 0, before + n_bytes
    if batch:
        yield batch
