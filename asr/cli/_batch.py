"""Many recordings through one recogniser, or through several processes with one each."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from asr.cli import complain
from asr.cli._inputs import STDIN
from asr.cli._progress import Progress
from asr.errors import ASRError

if TYPE_CHECKING:
    from asr.recognizer import Recognizer
    from asr.types import Transcript

Result: TypeAlias = "tuple[str, Transcript | Exception]"


@dataclass(frozen=True)
class Settings:
    """How to make a recogniser: plain data, so that another process can make the same."""

    model: str | None = None
    decoder: str = "beam"
    beam: int | None = None
    hotwords: str | None = None
    vad: str = "auto"
    threads: int | None = None
    punctuate: bool = False
    reject: bool = True
    track: int | None = None
    strict: bool = False

    def load(self, quiet: bool = False) -> Recognizer:
        """The recogniser; what it skips of the hot words is told on standard error."""
        from asr.bundle import Bundle, bundled
        from asr.config import build
        from asr.decode.config import DecoderConfig
        from asr.decode.hotwords import read_hotwords
        from asr.recognizer import Recognizer
        from asr.vad import VadConfig

        bundle = Bundle.load(self.model or bundled())
        decoding = build(DecoderConfig, bundle.config.decoder, "decoder")
        if self.beam:
            decoding = replace(decoding, beam=self.beam)
        if not self.reject:
            decoding = replace(decoding, rejection_threshold=math.inf, rejection_confidence=0.0)
        recognizer = Recognizer(
            bundle,
            decoder=self.decoder,  # type: ignore[arg-type]
            settings=decoding,
            hotwords=read_hotwords(self.hotwords) if self.hotwords else (),
            vad=VadConfig(detector=self.vad),  # type: ignore[arg-type]
            punctuate=self.punctuate,
            threads=self.threads,
        )
        for skipped in () if quiet else recognizer.skipped_hotwords:
            complain(str(skipped))
        return recognizer

    def fingerprint(self) -> str:
        """Another one for everything that can change a transcript."""
        from asr.bundle import CHECKSUMS, bundled

        named = [Path(self.model or bundled(), CHECKSUMS), Path(self.hotwords or os.devnull)]
        choices = json.dumps(asdict(replace(self, model=None, hotwords=None, threads=None)))
        parts = [choices.encode(), *(path.read_bytes() for path in named if path.exists())]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def transcribe_all(
    settings: Settings, recordings: Sequence[str], jobs: int, progress: Progress
) -> Iterator[Result]:
    """Each recording with its transcript, or with the reason why there is none; in order.

    Raises ASRError if no recogniser can be made.
    """
    if jobs == 1:
        recognizer = settings.load()
        return (_attempt(recognizer, recording, settings, progress) for recording in recordings)
    cores = settings.threads or os.cpu_count() or 1
    return _in_processes(
        replace(settings, threads=max(1, cores // jobs)), recordings, jobs, progress
    )


def _in_processes(
    settings: Settings, recordings: Sequence[str], jobs: int, progress: Progress
) -> Iterator[Result]:
    settings.load()  # what is wrong with the model is better said once, and here
    pool: Executor
    with ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker, (settings,)) as pool:
        futures = [pool.submit(_work, recording) for recording in recordings]
        for recording, future in zip(recordings, futures, strict=True):
            result: Result
            try:
                result = future.result()
            except BrokenProcessPool:
                result = (
                    recording,
                    ASRError(
                        f"{recording}: a process was stopped while it worked",
                        "memory may have run out: try fewer --jobs",
                    ),
                )
            progress.finish(*_length(result))
            yield result


def _attempt(
    recognizer: Recognizer, recording: str, settings: Settings, progress: Progress
) -> Result:
    result: Result
    try:
        result = recording, _transcribe(recognizer, recording, settings, progress)
    except Exception as error:  # whatever one recording does, the others go on
        result = recording, error
    progress.finish(*_length(result))
    return result


def _transcribe(
    recognizer: Recognizer, recording: str, settings: Settings, progress: Progress
) -> Transcript:
    from asr import audio

    known = progress.shown and recording != STDIN
    duration = audio.probe(recording, settings.track).duration if known else None
    return recognizer.transcribe(
        sys.stdin.buffer if recording == STDIN else recording,
        progress=lambda seconds: progress.within(recording, seconds, duration),
        track=settings.track,
        strict=settings.strict,
    )


def _length(result: Result) -> tuple[str, float]:
    recording, transcript = result
    return recording, 0.0 if isinstance(transcript, Exception) else transcript.duration


_recognizer: Recognizer  # of a worker process
_settings: Settings


def _start_worker(settings: Settings) -> None:
    global _recognizer, _settings
    _settings = settings
    _recognizer = settings.load(quiet=True)  # the first process has told what there is to tell


def _work(recording: str) -> Result:
    return _attempt(_recognizer, recording, _settings, Progress(1, shown=False))
