"""Wyoming, the protocol of Home Assistant: TCP, a JSON line, then data, then audio.

    C describe                                   S info
    C transcribe, audio-start, audio-chunk …, audio-stop       S transcript-start,
                                 transcript-chunk …, transcript, transcript-stop
    C ping                                       S pong

It knows neither keys nor TLS: whoever reaches the port may use it. `serve.tcp` reads the events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from starlette.datastructures import QueryParams
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
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
from serve.protocols.values import SettledWords, hotwords, number

_ENCODINGS = {1: "s8", 2: "s16le", 3: "s24le", 4: "s32le"}  # by bytes a sample


class WyomingProtocol(LiveProtocol):
    """See the module."""

    name: ClassVar[str] = "wyoming"

    def __init__(self, model: ModelInfo, query: QueryParams):
        super().__init__(model, query)
        self._configured = False
        self._hotwords: tuple[str, ...] = ()
        self._begin()

    def parse(self, message: Message) -> Iterator[Action]:
        """See LiveProtocol."""
        event: Event = message
        if Describe.is_type(event.type):
            yield Reply(_info(self.model).event())
        elif Transcribe.is_type(event.type):
            yield from self._transcribe(event)
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
        if isinstance(outcome.action, Configure):  # what came before was not asked for
            self._begin()
            return
        for event in outcome.events:
            if event.is_final:
                self._finals += event.text.split()
                self._settled = SettledWords()
                yield from self._chunk(self._finals)
            elif not self.model.punctuates:  # how a word is written depends on those to come
                yield from self._chunk([*self._finals, *self._settled.add(event)])
        match outcome.action:
            case Flush():
                yield from self._end()
            case Finish() if self._finals:
                yield from self._end()

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
            raise bad_request(f"samples of {width!r:.10} bytes: 1 to 4 are possible")
        self._configured = True
        return Configure(
            format=AudioFormat(
                _ENCODINGS[width],
                round(number(rate, "rate", 1, 1e6)),
                round(number(channels, "channels", 1, MAX_CHANNELS)),
            )
        )

    def _transcribe(self, event: Event) -> Iterator[Action]:
        """What the next utterance's client expects."""
        wanted = Transcribe.from_event(event)
        check_language(wanted.language, self.model.language)
        lists = (wanted.transcript_names or [], wanted.transcript_terms or [])
        phrases = tuple(phrase for given in lists for phrase in hotwords(given))
        if phrases != self._hotwords:
            self._hotwords = phrases
            yield Configure(hotwords=phrases)

    def _begin(self) -> None:
        self._finals: list[str] = []  # words of this utterance
        self._settled = SettledWords()
        self._n_sent = 0  # words
        self._started = False  # to tell them

    def _chunk(self, words: list[str]) -> Iterator[Event]:
        """The words beyond those that were sent."""
        new = words[self._n_sent :]
        if not new:
            return
        yield from self._start()
        text = (" " if self._n_sent else "") + " ".join(new)
        self._n_sent += len(new)
        yield TranscriptChunk(text=text).event()

    def _start(self) -> Iterator[Event]:
        if not self._started:
            self._started = True
            yield TranscriptStart(language=self.model.language).event()

    def _end(self) -> Iterator[Event]:
        yield from self._start()
        yield Transcript(text=" ".join(self._finals), language=self.model.language).event()
        yield TranscriptStop().event()
        self._begin()


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
        supports_transcript_streaming=True,
    )
    return Info(asr=[program])
