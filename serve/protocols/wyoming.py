"""Wyoming, the protocol of Home Assistant: TCP, a JSON line, then data, then audio.

    C describe                                   S info
    C transcribe, audio-start, audio-chunk …, audio-stop       S transcript
    C ping                                       S pong

It knows neither keys nor TLS: whoever reaches the port may use it. `serve.tcp` reads the events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from starlette.datastructures import QueryParams
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import AsrModel, AsrProgram, Attribution, Describe, Info
from wyoming.ping import Ping, Pong

import asr
from serve.audio_in import MAX_CHANNELS, AudioFormat
from serve.limits import Refused, bad_request
from serve.protocols.base import (
    Action,
    Audio,
    Configure,
    Finish,
    Flush,
    LiveProtocol,
    Message,
    ModelInfo,
    Outcome,
    Reply,
)
from serve.protocols.languages import check_language
from serve.protocols.values import number

_ENCODINGS = {2: "s16le", 4: "f32le"}  # by bytes a sample


class WyomingProtocol(LiveProtocol):
    """See the module."""

    name: ClassVar[str] = "wyoming"

    def __init__(self, model: ModelInfo, query: QueryParams):
        super().__init__(model, query)
        self._configured = False
        self._finals: list[str] = []  # of this utterance

    def parse(self, message: Message) -> Iterator[Action]:
        """See LiveProtocol."""
        event: Event = message
        if Describe.is_type(event.type):
            yield Reply(_info(self.model).event())
        elif Transcribe.is_type(event.type):
            check_language(Transcribe.from_event(event).language, self.model.language)
        elif AudioStart.is_type(event.type):
            yield self._configure(event)
        elif AudioChunk.is_type(event.type):
            if not self._configured:
                yield self._configure(event)
            yield Audio(event.payload or b"")
        elif AudioStop.is_type(event.type):
            yield Flush()
        elif Ping.is_type(event.type):
            yield Reply(Pong(text=Ping.from_event(event).text).event())
        # Others are for other services of the protocol, which is how it wants to be extended.

    def render(self, outcome: Outcome) -> Iterator[Message]:
        """See LiveProtocol."""
        self._finals += [event.text for event in outcome.finals]
        match outcome.action:
            case Configure():  # an utterance begins; what came before was not asked for
                self._finals = []
            case Flush():
                yield self._transcript()
            case Finish() if self._finals:
                yield self._transcript()

    def on_error(self, refused: Refused) -> Iterable[Message]:
        """See LiveProtocol."""
        return [Error(text=refused.message, code=refused.reason).event()]

    def _configure(self, event: Event) -> Configure:
        """The format of an utterance."""
        try:
            rate, width, channels = (event.data[key] for key in ("rate", "width", "channels"))
        except KeyError as error:
            raise bad_request(f"{event.type} without {error}") from None
        if not isinstance(width, int) or width not in _ENCODINGS:
            raise bad_request(f"samples of {width!r:.10} bytes: 2 or 4 are possible")
        self._configured = True
        return Configure(
            format=AudioFormat(
                _ENCODINGS[width],
                round(number(rate, "rate", 1, 1e6)),
                round(number(channels, "channels", 1, MAX_CHANNELS)),
            )
        )

    def _transcript(self) -> Event:
        text, self._finals = " ".join(self._finals), []
        return Transcript(text=text, language=self.model.language).event()


def _info(model: ModelInfo) -> Info:
    ours = Attribution(name="blstm-ctc-asr", url="https://arxiv.org/abs/1303.5778")
    asr_model = AsrModel(
        name=model.name,
        attribution=ours,
        installed=True,
        description=f"Bidirectional LSTM and CTC, {model.language}",
        version=asr.__version__,
        languages=[model.language],
    )
    program = AsrProgram(
        name="blstm-ctc-asr",
        attribution=ours,
        installed=True,
        description="Speech recognition with deep bidirectional LSTMs and CTC",
        version=asr.__version__,
        models=[asr_model],
    )
    return Info(asr=[program])
