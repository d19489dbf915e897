"""`asr mic`: live transcription of a microphone."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from asr.cli import warn
from asr.cli._inputs import check_is_file_name
from asr.cli._outputs import parse_formats
from asr.cli._recognizer_options import Settings, recognizer_options
from asr.errors import AudioError
from asr.types import StreamEvent
from asr.writers import save

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from asr.microphone import Microphone, Playback
    from asr.stream import Stream
    from asr.types import Segment, StreamEvent


@click.command(context_settings={"show_default": True})
@click.option("--list-devices", is_flag=True, help="List the recording devices and exit.")
@click.option(
    "--device",
    "-d",
    metavar="NAME",
    help="Number of a device, or part of its name, such as 3.  [default: the system's]",
)
@click.option(
    "--file", metavar="FILE", help="Play a recording in real time instead, such as talk.mp3."
)
@click.option("--fast", is_flag=True, help="Play --file as fast as it is recognised.")
@click.option(
    "--save",
    "stem",
    metavar="STEM",
    help="Save the audio as STEM.wav, and the transcript: minutes gives minutes.wav, minutes.txt.",
)
@click.option(
    "--format",
    "-f",
    "formats",
    default="txt",
    metavar="LIST",
    help="Comma-separated formats of the transcript that --save writes, or all.",
)
@click.option(
    "--pause",
    type=click.FloatRange(0.1),
    default=1.2,
    metavar="SECONDS",
    help="Silence that ends an utterance, and a line of text.",
)
@recognizer_options()
def command(
    settings: Settings,
    list_devices: bool,
    device: str | None,
    file: str | None,
    fast: bool,
    stem: str | None,
    formats: str,
    pause: float,
) -> None:
    """Transcribe a microphone until Ctrl-C. The bottom line shows the current partial result, with
    the stable part in bold; finished utterances are above it.

    \b
      asr mic
      asr mic --list-devices
      asr mic --device 3 --save minutes --format txt,srt
      asr mic --file talk.mp3
    """
    from asr import microphone
    from asr.stream import EndpointConfig

    if list_devices:
        for known in microphone.devices():
            mark = "*" if known.is_default else " "
            click.echo(f"{mark}{known.number:3}  {known.name}  ({known.sample_rate} Hz)")
        return
    if fast and file is None:
        raise click.UsageError("--fast is for --file")
    if file is not None:
        check_is_file_name(file)
    source: Microphone | Playback
    if file is None:
        source = microphone.Microphone(microphone.find_device(device))
    elif device is None:
        source = microphone.Playback(file, fast)
    else:
        raise click.UsageError("give --device or --file")
    outputs = _outputs(stem, formats)
    recognizer = settings.load()
    stream = recognizer.stream(
        source.sample_rate, endpoint=EndpointConfig(rule2_min_trailing_silence=pause)
    )
    with _recorder(outputs, source.sample_rate) as write:
        segments, failure = _listen(source, stream, write)
    if source.lost:
        warn(f"{source.lost:.1f} s were lost: this machine is too slow for this model")
    if outputs:
        from asr.types import Transcript

        transcript = Transcript(tuple(segments), stream.duration, recognizer.bundle.config.name)
        for path in outputs[1:]:
            save(transcript, path)
    if failure is not None:
        raise failure


def _listen(
    source: Microphone | Playback, stream: Stream, write: Callable[..., None]
) -> tuple[list[Segment], AudioError | None]:
    """Show and return the utterances, and the reason if the audio ended with an error."""
    from asr.cli.mic import LiveLine

    segments: list[Segment] = []
    failure = None
    with _until_interrupted() as stopped, LiveLine() as line:

        def take(events: list[StreamEvent]) -> None:
            for event in events:
                line.show(event)
                if event.is_final and event.text:
                    segments.append(event.segment)

        try:
            with source:
                for block in source.blocks(stopped):
                    write(block)
                    line.meter(block)
                    take(stream.feed(block))
        except AudioError as error:  # keep what was recognised before
            failure = error
        take(stream.finish())
    return segments, failure


def _outputs(stem: str | None, formats: str) -> list[Path]:
    """The files to write, audio first. Raises AudioError if one of them exists."""
    names = parse_formats(formats)
    if stem is None:
        return []
    paths = [Path(f"{stem}.{extension}") for extension in ("wav", *names)]
    for path in paths:
        if path.exists():
            raise AudioError(f"{path}: is there already", "give --save another name")
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    return paths


@contextlib.contextmanager
def _recorder(outputs: list[Path], sample_rate: int) -> Iterator[Callable[..., None]]:
    """A function that writes blocks of samples to the first file, if there is one."""
    if not outputs:
        yield lambda block: None
        return
    import soundfile

    from asr.files import replacing

    with (
        replacing(outputs[0]) as temporary,
        soundfile.SoundFile(temporary, "w", sample_rate, 1, "PCM_16", format="WAV") as file,
    ):
        yield file.write


@contextlib.contextmanager
def _until_interrupted() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed; pressed again, it interrupts as usual."""
    pressed = False
    before = signal.getsignal(signal.SIGINT)

    def press(*_: object) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, press)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


QUIETEST_DB = -60.0
_BARS = " ▁▂▃▄▅▆▇█"
_METER = 10  # the newest levels that are shown
_REFRESH_SECONDS = 0.08


def level(block: np.ndarray) -> float:
    """Loudness of samples `(n,)`: decibels below full scale, QUIETEST_DB at least.

    >>> round(level(np.array([0.5, -0.5])), 1)
    -6.0
    """
    power = float(np.mean(np.square(block, dtype=np.float64))) if len(block) else 0.0
    return max(QUIETEST_DB, 10 * math.log10(power + 1e-12))


class LiveLine:
    """Finals on standard output; below them, on a terminal only, a meter and what is partial.

    What is stable of a partial stands out, the rest may still change.
    """

    def __init__(self, console: Console | None = None):
        self._console = console
        self._text, self._stable = "", ""
        self._levels = [QUIETEST_DB] * _METER
        self._shown = 0.0
        if console is None and sys.stdout.isatty():
            from rich.console import Console

            self._console = Console()
        self._live = None
        if self._console is not None:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> LiveLine:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def meter(self, block: np.ndarray) -> None:
        """Show how loud samples `(n,)` are."""
        self._levels = [*self._levels[1:], level(block)]
        self._refresh()

    def show(self, event: StreamEvent) -> None:
        """Show what was understood; empty finals leave no line."""
        if not event.is_final:
            self._text, self._stable = event.text, event.stable
        elif event.text:
            self._text = self._stable = ""
            if self._console is None:
                print(event.text, flush=True)
            else:
                self._console.print(event.text, markup=False, highlight=False)
        self._refresh(now=event.is_final)

    def _refresh(self, now: bool = False) -> None:
        if self._live and (now or time.monotonic() - self._shown > _REFRESH_SECONDS):
            self._live.update(self._line(), refresh=True)
            self._shown = time.monotonic()

    def _line(self) -> Text:
        from rich.text import Text

        assert self._console is not None
        steps = len(_BARS) - 1
        shares = [1 - loudness / QUIETEST_DB for loudness in self._levels]
        meter = "".join(_BARS[round(steps * min(1.0, share))] for share in shares)
        room = max(8, self._console.width - _METER - 2)
        hidden = max(0, len(self._text) - room)  # the newest words count
        line = Text(no_wrap=True, overflow="crop").append(f"{meter} ", "green")
        line.append(self._text[hidden : len(self._stable)], "bold")
        line.append(self._text[max(hidden, len(self._stable)) :], "dim")
        return line
