"""Protocols as codecs: messages to actions, outcomes to messages, without a server."""

from __future__ import annotations

import ast
import base64
import json
from pathlib import Path

import pytest
from sounds import TEXT, pieces
from starlette.datastructures import QueryParams

import serve.protocols
from asr.types import Segment, StreamEvent, Word
from serve.app import LIVE
from serve.audio_in import AudioFormat
from serve.protocols.base import (
    Audio,
    Configure,
    Finish,
    Flush,
    ModelInfo,
    Outcome,
    Reply,
    Reset,
)
from serve.protocols.deepgram import DeepgramProtocol
from serve.protocols.native import NativeProtocol
from serve.protocols.openai_realtime import RealtimeProtocol
from serve.protocols.twilio import TwilioProtocol
from serve.protocols.vosk import VoskProtocol

MODEL = ModelInfo("tones", "en")
FINAL = StreamEvent("final", Segment(1.0, 2.0, "bad cab", (Word("bad", 1.0, 1.4, 0.5),)), "", 2)
PARTIAL = StreamEvent("partial", Segment(1.0, 1.5, "bad"), "")


def test_no_protocol_waits_for_anything():
    for path in Path(serve.protocols.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor), path


@pytest.mark.parametrize("path", LIVE)
def test_audio_is_audio_in_every_protocol_of_web_sockets(path):
    protocol = LIVE[path](
        MODEL, QueryParams("encoding=linear16&sample_rate=16000" * path.endswith("/listen"))
    )
    assert all(isinstance(action, Configure | Reply) for action in protocol.on_open())
    message = b"\1\2"
    if LIVE[path] is RealtimeProtocol:
        audio = base64.b64encode(message).decode()
        message = json.dumps({"type": "input_audio_buffer.append", "audio": audio})
    elif LIVE[path] is TwilioProtocol:
        audio = base64.b64encode(message).decode()
        message = json.dumps({"event": "media", "media": {"payload": audio}})
    assert list(protocol.parse(message)) == [Audio(b"\1\2")]


def test_native():
    protocol = NativeProtocol(MODEL, QueryParams("sample_rate=8000&encoding=mulaw&hotword=cab"))
    [settings] = protocol.on_open()
    assert settings.format == AudioFormat("mulaw", 8000)
    assert settings.hotwords == ("cab",)
    assert [m["type"] for m in protocol.render(Outcome(settings))] == ["ready"]
    for kind, action in [("flush", Flush()), ("reset", Reset()), ("finish", Finish())]:
        assert list(protocol.parse(json.dumps({"type": kind}))) == [action]
    sent = list(protocol.render(Outcome(Audio(b""), (PARTIAL, FINAL), 2.5, 0.1)))
    assert [(m["type"], m["text"], m["heard"]) for m in sent] == [
        ("partial", "bad", 2.5),
        ("final", "bad cab", 2.5),
    ]


def test_vosk_replies_once_to_audio_and_never_to_a_configuration():
    protocol = VoskProtocol(MODEL, QueryParams())
    actions = list(protocol.parse('{"config": {"sample_rate": 16000, "words": 0}}'))
    assert actions == [Configure(format=AudioFormat("s16le", 16_000))]
    # An utterance that new settings end is told with the next result.
    assert list(protocol.render(Outcome(actions[0], (FINAL,)))) == []
    assert list(protocol.render(Outcome(Audio(b""), (PARTIAL,)))) == [{"text": "bad cab"}]
    assert list(protocol.render(Outcome(Audio(b"")))) == [{"partial": ""}]
    assert list(protocol.parse('{"eof": 1}')) == [Finish()]
    assert list(protocol.render(Outcome(Finish()))) == [{"text": ""}]


def test_deepgram():
    query = QueryParams("encoding=linear16&sample_rate=8000&interim_results=true&keywords=cab:2")
    protocol = DeepgramProtocol(MODEL, query)
    [settings] = protocol.on_open()
    assert settings.hotwords == ("cab",)
    assert list(protocol.parse(b"")) == [Finish()]
    assert list(protocol.parse('{"type": "KeepAlive"}')) == []
    [partial] = protocol.render(Outcome(Audio(b""), (PARTIAL,), 1.5))
    assert not partial["is_final"]
    [final] = protocol.render(Outcome(Audio(b""), (FINAL,), 2.0))
    assert (final["start"], final["duration"]) == (0, 2)
    [nothing] = protocol.render(Outcome(Flush(), (), 3.0))
    assert (nothing["start"], nothing["duration"], nothing["from_finalize"]) == (2, 1, True)


def test_settings_of_realtime_are_checked_before_any_changes():
    protocol = RealtimeProtocol(MODEL, QueryParams())
    audio = {"input": {"format": {"type": "audio/pcmu"}, "turn_detection": 3}}
    update = json.dumps({"type": "session.update", "session": {"audio": audio}})
    [reply] = protocol.parse(update)
    assert reply.message["type"] == "error"
    audio["input"]["turn_detection"] = None
    update = json.dumps({"type": "session.update", "session": {"audio": audio}})
    settings, reply = protocol.parse(update)
    assert settings.format == AudioFormat("mulaw", 8000)
    assert reply.message["type"] == "session.updated"
    [again] = protocol.parse(update)  # nothing new: the stream goes on
    assert again.message["type"] == "session.updated"


def test_settings_may_change_between_utterances_and_the_clock_goes_on(server, pcm, transcript):
    """Vosk's client sends a second configuration in the middle of a stream."""
    replies = []
    with server.connect("/") as ws:
        for _ in range(2):
            ws.send('{"config": {"sample_rate": 16000}}')
            for part in pieces(pcm, 8000):
                ws.send(part)
                replies.append(json.loads(ws.recv(timeout=20)))
        ws.send('{"eof": 1}')
        replies.append(json.loads(ws.recv(timeout=20)))
    assert " ".join(r["text"] for r in replies if r.get("text")) == f"{TEXT} {TEXT}"
    starts = [word["start"] for r in replies for word in r.get("result", ())]
    once = [word.start for word in transcript.words]
    again = [start + len(pcm) / 32_000 for start in once]
    assert starts == pytest.approx([*once, *again], abs=0.002)


def test_after_a_reset_times_are_still_those_of_the_stream(server, pcm):
    with server.connect("/ws") as ws:
        ws.send(bytes(32_000))
        ws.send('{"type": "reset"}')
        ws.send(pcm)
        ws.send('{"type": "finish"}')
        events = [json.loads(message) for message in ws]
    finals = [event for event in events if event["type"] == "final"]
    assert finals[0]["words"][0]["start"] > 1.3
    assert finals[-1]["end"] <= 1 + len(pcm) / 32_000 + 0.01
