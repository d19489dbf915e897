"""The options of a recogniser: one set for all commands, one meaning each."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from asr.cli import note
from asr.errors import ConfigError
from asr.program import OUTPUT

if TYPE_CHECKING:
    from asr.audio import AudioSource
    from asr.channels import ChannelChoice
    from asr.decode.config import DecoderConfig, Effort
    from asr.packaging.bundle import Bundle
    from asr.recognizer import Recognizer
    from asr.types import Transcript
    from asr.vad import VadConfig


# Only seconds have a fraction, and only the first part may be 60 or more.
_TIME = re.compile(
    r"(?:(?:(\d+):(?=[0-5]?\d:))?(\d+):(?=[0-5]?\d(?:\.|$)))?(\d+(?:\.\d*)?|\.\d+)", re.ASCII
)


class Seconds(click.ParamType):
    """Seconds, or minutes and seconds, or hours too: 90, 1:30, 0:01:30.5."""

    name = "time"

    def __init__(self, may_be_zero: bool = True):
        self._may_be_zero = may_be_zero

    def convert(
        self, value: object, parameter: click.Parameter | None, context: click.Context | None
    ) -> float:
        if isinstance(value, int | float):
            return float(value)
        match = _TIME.fullmatch(str(value).strip())
        if match is None:
            self.fail(
                f"{value!r} is no time: give seconds (90) or [h:]m:s (1:30)", parameter, context
            )
        hours, minutes, seconds = match.groups(default="0")
        total = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
        if total == 0 and not self._may_be_zero:
            self.fail(f"{value!r} is no time at all", parameter, context)
        return total


SECONDS = Seconds()
SOME_SECONDS = Seconds(may_be_zero=False)


Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]
VAD_PREFIX = "vad_"
COMPILING = "compiling the search, once per installation: this takes about ten seconds"


@dataclass(frozen=True)
class Settings:
    """How to build a recogniser and read recordings: plain data, so that another process can do
    the same. A field is the option of the same name.
    """

    model: str | None = None
    language: str | None = None
    decoder: str = "beam"
    search: Effort = "balanced"
    beam: int | None = None
    hotwords: str | None = None
    reject: bool = True
    punctuate: bool = False
    numerals: bool = False
    vad: str = "auto"
    vad_threshold: float | None = None
    vad_release: float | None = None
    vad_certainty: float | None = None
    vad_min_speech: float | None = None
    vad_min_silence: float | None = None
    vad_padding: float | None = None
    vad_max_length: float | None = None
    vad_min_sound: float | None = None
    threads: int | None = None
    start: float = 0.0
    duration: float | None = None
    track: int | None = None
    channels: ChannelChoice = "auto"
    strict: bool = False

    def on_one_core(self) -> Settings:
        """These settings for a process of a cluster, which has one core."""
        return replace(self, threads=1)

    def load(self, quiet: bool = False) -> Recognizer:
        """The recogniser; skipped hot words are reported on standard error.

        Raises ASRError for settings that contradict each other or do not fit the model.
        """
        from asr.lexicon.hotwords import read_hotwords
        from asr.recognizer import Recognizer

        bundle = self.bundle()
        if self.decoder == "beam" and not quiet and OUTPUT.progress:
            from asr.compiled import on_compiling

            on_compiling(lambda: note(COMPILING))
        recognizer = Recognizer(
            bundle,
            decoder=self.decoder,  # type: ignore[arg-type]
            settings=self._decoder_config(bundle),
            hotwords=read_hotwords(self.hotwords) if self.hotwords else (),
            vad=self.vad_config(),
            punctuate=self.punctuate,
            numerals=self.numerals,
            threads=self.threads,
        )
        for skipped in () if quiet else recognizer.skipped_hotwords:
            note(str(skipped))
        return recognizer

    def transcribe(
        self, recognizer: Recognizer, recording: AudioSource, **hooks: Any
    ) -> Transcript:
        """The chosen part of a recording; `hooks` are other arguments of `Recognizer.transcribe`,
        which raises what this raises."""
        return recognizer.transcribe(
            recording,
            start=self.start,
            duration=self.duration,
            track=self.track,
            channels=self.channels,
            strict=self.strict,
            **hooks,
        )

    def bundle(self) -> Bundle:
        """The model. Raises ConfigError if it is for another language than `language`."""
        from asr.packaging.bundle import Bundle, bundled
        from asr.text.languages import language_name, same_language

        bundle = Bundle.load(self.model or bundled())
        spoken = bundle.config.language
        if self.language is not None and not same_language(self.language, spoken):
            raise ConfigError(
                f"{bundle.config.name} is a model of {language_name(spoken)} ({spoken}),"
                f" not of {self.language!r}",
                "omit --language, or choose a model of that language with --model",
            )
        return bundle

    def vad_config(self) -> VadConfig:
        """Settings of speech detection. Raises ConfigError for contradictory values."""
        from asr.vad import VadConfig

        given = {
            field.name.removeprefix(VAD_PREFIX): getattr(self, field.name)
            for field in fields(self)
            if field.name.startswith(VAD_PREFIX) and getattr(self, field.name) is not None
        }
        if self.vad == "none" and (unused := given.keys() - {"max_length"}):
            names = ", ".join(f"--vad-{name.replace('_', '-')}" for name in sorted(unused))
            raise ConfigError(
                f"--vad none treats everything as speech, so {names} would have no effect",
                "omit one of them",
            )
        if "threshold" in given:  # a low one alone is no contradiction
            given.setdefault("release", min(VadConfig.release, given["threshold"]))
        return VadConfig(detector=self.vad, **given)  # type: ignore[arg-type]

    def fingerprint(self) -> str:
        """A hash of everything that can change a transcript."""
        from asr.packaging.bundle import CHECKSUMS, bundled

        named = [Path(self.model or bundled(), CHECKSUMS), Path(self.hotwords or os.devnull)]
        choices = json.dumps(
            asdict(replace(self, model=None, language=None, hotwords=None, threads=None))
        )
        parts = [choices.encode(), *(path.read_bytes() for path in named if path.exists())]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]

    def _decoder_config(self, bundle: Bundle) -> DecoderConfig:
        from asr.config import build
        from asr.decode.config import DecoderConfig, with_effort

        for name, given in (("beam", self.beam is not None), ("search", self.search != "balanced")):
            if given and self.decoder != "beam":
                raise ConfigError(
                    f"--{name} needs --decoder beam: a {self.decoder} search keeps no hypotheses",
                    "omit one of them",
                )
        config = with_effort(build(DecoderConfig, bundle.config.decoder, "decoder"), self.search)
        if self.beam is not None:
            config = replace(config, beam=self.beam)
        if not self.reject:
            config = replace(config, rejection_threshold=math.inf, rejection_confidence=0.0)
        return config


def recognizer_options(
    *, search: bool = True, punctuation: bool = True, reading: bool = False
) -> Decorator:
    """Add the options of a recogniser to a command, which is called with `settings`, a `Settings`.

    search: include the options of the word search, which alignment does not need.
    punctuation: include `--punctuate` and `--numerals`.
    reading: include the options for which part of a recording to read.
    """
    options = [
        *(_READING_OPTIONS if reading else ()),
        *_MODEL_OPTIONS,
        *(_SEARCH_OPTIONS if search else ()),
        *(_PUNCTUATION_OPTIONS if punctuation else ()),
        *_VAD_OPTIONS,
        *_MACHINE_OPTIONS,
    ]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(no_vad: bool, **values: Any) -> Any:
            if no_vad and values["vad"] not in ("auto", "none"):
                raise click.UsageError(f"--no-vad and --vad {values['vad']}: omit one of them")
            if no_vad:
                values["vad"] = "none"
            names = [field.name for field in fields(Settings) if field.name in values]
            return function(settings=Settings(**{n: values.pop(n) for n in names}), **values)

        decorated: Callable[..., Any] = call
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


class _Channels(click.ParamType):
    """A `ChannelChoice`."""

    name = "channels"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> ChannelChoice:
        if value == "auto":
            return "auto"
        from asr.channels import parse_choice  # imported where it is needed

        try:
            return parse_choice(value)
        except ConfigError as error:
            self.fail(f"{value!r}: {error.remedy}", parameter, context)


_READING_OPTIONS = (
    click.option(
        "--start",
        type=SECONDS,
        default=0.0,
        metavar="TIME",
        show_default=False,
        help="Start at this time: seconds or [h:]m:s, such as 90 or 1:30. Times in the output still"
        " count from the start of the recording.  [default: 0]",
    ),
    click.option(
        "--duration",
        type=SOME_SECONDS,
        metavar="TIME",
        help="Read this much after --start: seconds or [h:]m:s, such as 60.  [default: to the end]",
    ),
    click.option(
        "--track",
        type=click.IntRange(0),
        metavar="N",
        help="Audio track of a film, counted from 0, such as 1 for the second.  [default: the one"
        " that is marked as default]",
    ),
    click.option(
        "--channels",
        type=_Channels(),
        metavar="CHOICE",
        default="auto",
        help="auto mixes the channels where that helps, otherwise uses those with speech and says"
        " so; mix takes their mean; each transcribes every channel separately, as for calls, and"
        " names it; a number selects one, counted from 0.  [default: auto]",
        show_default=False,
    ),
    click.option(
        "--strict",
        is_flag=True,
        help="Refuse damaged or truncated recordings instead of transcribing what is left of them.",
    ),
)
_MODEL_OPTIONS = (
    click.option(
        "--model",
        "-m",
        metavar="FOLDER",
        help="Model, as `asr export` writes it.  [default: the bundled English one]",
    ),
    click.option(
        "--language",
        metavar="NAME",
        help="Spoken language, such as en or English; an error if the model is for another one."
        "  [default: the model's]",
    ),
)
_SEARCH_OPTIONS = (
    click.option(
        "--decoder",
        type=click.Choice(["beam", "greedy"]),
        default="beam",
        help="beam searches with lexicon and language model; greedy takes the most probable symbol"
        " of each frame: faster, more errors.",
    ),
    click.option(
        "--search",
        type=click.Choice(["fast", "balanced", "accurate"]),
        default="balanced",
        help="Effort of the beam search: balanced is what the model was tuned for, fast makes more"
        " errors, accurate fewer.",
    ),
    click.option(
        "--beam",
        type=click.IntRange(1, 100_000),
        metavar="N",
        help="Hypotheses that the beam search keeps, such as 200: more are slower and make fewer"
        " errors.  [default: the model's]",
    ),
    click.option(
        "--hotwords",
        metavar="FILE",
        help="Names and phrases to prefer, one per line, optionally with a boost after a tab"
        " (natural log, such as 8). Numbers are spelled out; pronunciations of unknown names are"
        " learnt from the lexicon.",
    ),
    click.option(
        "--reject/--no-reject",
        default=True,
        help="Drop speech that fits no words, such as another language. For --decoder beam.",
    ),
)
_PUNCTUATION_OPTIONS = (
    click.option("--punctuate", is_flag=True, help="Add capitals, commas and full stops."),
    click.option(
        "--numerals",
        is_flag=True,
        help="Write numbers as digits, in English: 21, 1984, $5, 3.5%.",
    ),
)


def _vad_option(name: str, metavar: str, text: str) -> Decorator:
    numbers = click.FloatRange(0, 1 if metavar == "PROBABILITY" else None)
    return click.option(f"--vad-{name}", type=numbers, metavar=metavar, help=text)


_VAD_OPTIONS = (
    click.option(
        "--vad",
        type=click.Choice(["auto", "silero", "energy", "none"]),
        default="auto",
        help="How to detect speech: with a small network (silero), by energy (energy), or with the"
        " first of them that is installed (auto); none treats everything as speech.",
    ),
    click.option("--no-vad", is_flag=True, help="The same as --vad none."),
    _vad_option(
        "threshold",
        "PROBABILITY",
        "Speech starts at this speech probability; 0.3 detects more quiet speech, and more noise"
        " (see also --vad-certainty).  [default: 0.5]",
    ),
    _vad_option(
        "release",
        "PROBABILITY",
        "Speech ends below this speech probability.  [default: 0.2, or a lower --vad-threshold]",
    ),
    _vad_option(
        "certainty",
        "PROBABILITY",
        "Drop segments that never reach this speech probability; 0 keeps all.  [default: 0.7]",
    ),
    _vad_option("min-speech", "SECONDS", "Drop shorter speech.  [default: 0.1]"),
    _vad_option(
        "min-silence",
        "SECONDS",
        "Silence that ends a segment, and a line of text; 1 makes longer lines.  [default: 0.5]",
    ),
    _vad_option(
        "padding", "SECONDS", "Audio to keep before and after each segment.  [default: 0.75]"
    ),
    _vad_option(
        "max-length",
        "SECONDS",
        "Cut longer segments at their quietest point.  [default: 20]",
    ),
    _vad_option(
        "min-sound",
        "SECONDS",
        "Treat a recording with less audio than this as speech, because it is too short for the"
        " detector.  [default: 1]",
    ),
)
_MACHINE_OPTIONS = (
    click.option(
        "--threads",
        "-t",
        type=click.IntRange(1, 1024),
        metavar="N",
        help="Cores to use, such as 2.  [default: all]",
    ),
)
