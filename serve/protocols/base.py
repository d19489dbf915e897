"""What a protocol is: a codec.

A live one translates between messages and the session's actions:

    message -> parse -> actions -> the session performs each -> outcome -> render -> messages

One for recordings is made of a request's fields, and renders its transcript (`RecordingProtocol`).

A protocol holds only what its messages need (names of items, what has been said already). It never
waits and never touches the recogniser: `serve.session` does, in the order of the messages. So each
action's outcome has been rendered before the next message is parsed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from starlette.datastructures import ImmutableMultiDict, QueryParams
from starlette.responses import Response

from asr.channels import ChannelChoice
from asr.stream import EndpointConfig
from asr.types import Segment, StreamEvent, Transcript
from serve.audio_in import AudioFormat
from serve.hotwords import Skipped
from serve.limits import Refused, unauthorized
from serve.uploads import Finished

Message: TypeAlias = Any  # text or bytes of a WebSocket, JSON to be written, or a Wyoming event


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What protocols tell about the model: its name, its language such as `en`, and whether it
    writes capitals and punctuation.
    """

    name: str
    language: str
    punctuates: bool = False


@dataclass(frozen=True, slots=True)
class Configure:
    """Change settings; what is None stays. Some audio may have come before: its utterance ends.

    format: how audio is encoded from now on.
    hotwords: phrases to listen for, as people write them.
    restricts: the hot words are a grammar: nothing else is understood; if `[unk]` is one of them,
        other words become `[unk]`.
    endpoint: where utterances end.
    nbest: finals have at most this many alternatives.
    """

    format: AudioFormat | None = None
    hotwords: tuple[str, ...] | None = None
    restricts: bool = False
    endpoint: EndpointConfig | None = None
    nbest: int | None = None


@dataclass(frozen=True, slots=True)
class Audio:
    """Bytes in the configured format, cut anywhere."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Flush:
    """End the utterance here; the stream continues."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Drop the audio since the last final; the clock continues."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of the stream: its last results, then close."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Send a message that needs no recognition."""

    message: Message


Action: TypeAlias = Configure | Audio | Flush | Reset | Finish | Reply


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an action (of any but Reply).

    events: new results, with times in seconds of the session.
    duration: seconds of audio taken in so far.
    real_time_factor: seconds of computing per second of audio so far.
    skipped_hotwords: those of the session that are not listened for, and why.
    """

    action: Action
    events: tuple[StreamEvent, ...] = field(default=())
    duration: float = 0.0
    real_time_factor: float = 0.0
    skipped_hotwords: tuple[Skipped, ...] = ()

    @property
    def finals(self) -> list[StreamEvent]:
        """The finals in which something was said."""
        return [event for event in self.events if event.is_final and event.text]


class LiveProtocol(ABC):
    """One client's side of a live stream.

    Raises Refused (from the constructor) for a `query` that cannot be met.
    """

    name: ClassVar[str]
    idle_seconds: ClassVar[float] = math.inf  # if shorter than the settings'
    max_message_bytes: ClassVar[int] = 0  # if more than the settings'
    # Audio messages that queue up while the model is busy are taken as one: long blocks cost less.
    joins_audio: ClassVar[bool] = False

    def __init__(self, model: ModelInfo, query: QueryParams):
        self.model = model

    def restore(self, settings: Mapping[str, Any]) -> None:
        """Begin with settings that a client's secret was made with. Raises Refused."""
        raise unauthorized()  # such secrets open streams of one protocol only

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the handshake's answer."""
        return {}

    def on_open(self) -> Iterable[Action]:
        """What to do before the first message."""
        return ()

    @abstractmethod
    def parse(self, message: Message) -> Iterable[Action]:
        """What a message asks for. Raises Refused: then the stream ends."""

    @abstractmethod
    def render(self, outcome: Outcome) -> Iterable[Message]:
        """The messages that tell an outcome; Finish comes last, however the stream ends."""

    def on_error(self, refused: Refused) -> Iterable[Message]:
        """Tell why the stream ends before the client wanted it."""
        return ()


class RecordingProtocol(ABC):
    """One request to transcribe a recording.

    Raises Refused (from the constructor) for `fields` of the form, or a `query`, that cannot be
    met.
    """

    name: ClassVar[str]
    methods: ClassVar[tuple[str, ...]] = ("POST",)
    file_field: ClassVar[str | None] = "file"  # of the form; None: the body is the recording
    format: AudioFormat | None = None  # of samples without a header; None: a file
    hotwords: tuple[str, ...] = ()  # phrases to listen for, as people write them
    channels: ChannelChoice = "auto"
    is_streamed: bool = False  # answer with `render_segment` as segments come, not with `render`

    def __init__(self, model: ModelInfo, query: QueryParams, fields: ImmutableMultiDict[str, str]):
        self.model = model

    @abstractmethod
    def render(self, transcript: Transcript, recording: Finished) -> Response:
        """The answer; the transcript has all `losses` and `notices` of the recording."""

    @classmethod
    def render_error(cls, refused: Refused) -> Response:
        """The answer to a request that is refused, whoever refuses it."""
        return refused.response()

    def render_segment(self, segment: Segment, is_first: bool) -> str:
        """A server-sent event."""
        raise NotImplementedError

    def render_end(self, transcript: Transcript) -> str:
        """The last server-sent event."""
        raise NotImplementedError
