"""OpenAI's Realtime client against /v1/realtime."""

from __future__ import annotations

import asyncio
import base64
import json

import numpy as np
import pytest
from sounds import TALK, TEXT, pieces, s16

openai = pytest.importorskip("openai")
pytest.importorskip("websockets")

PARTS = ["bad cab", "dad", "a bed fed"]  # by pauses of half a second


def session(format, **settings):
    return {
        "type": "transcription",
        "audio": {
            "input": {
                "format": format,
                "transcription": {"model": "gpt-4o-transcribe", "language": "en"},
                **settings,
            }
        },
    }


async def talk(server, config, data, *, commit=False, until=1, size=9600):
    """Every event until `until` transcripts are complete."""
    client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any")
    events = []
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        events.append(await connection.recv())
        await connection.session.update(session=config)
        events.append(await connection.recv())
        for part in pieces(data, size):
            await connection.input_audio_buffer.append(audio=base64.b64encode(part).decode())
        if commit:
            await connection.input_audio_buffer.commit()
        while sum(e.type.endswith("transcription.completed") for e in events) < until:
            events.append(await asyncio.wait_for(connection.recv(), 20))
    return events


def kinds(events):
    return [e.type.rsplit(".", 1)[-1] for e in events]


def test_the_server_parts_utterances(server):
    silence = bytes(2 * 24_000)  # a second: the last one ends by its pause
    pcm = s16(TALK, 24_000) + silence
    events = asyncio.run(talk(server, session({"type": "audio/pcm", "rate": 24_000}), pcm, until=3))
    assert kinds(events[:2]) == ["created", "updated"]
    assert events[1].session.audio.input.transcription.model == "gpt-4o-transcribe"
    done = [e for e in events if e.type.endswith("completed")]
    assert [e.transcript for e in done] == PARTS
    assert len({e.event_id for e in events}) == len(events)
    previous = None
    for e in done:
        own = [x for x in events[2:] if getattr(x, "item_id", None) == e.item_id]
        steps = ["speech_started", "speech_stopped", "committed", "completed"]
        assert [kind for kind in kinds(own) if kind != "delta"] == steps
        assert "".join(x.delta for x in own if x.type.endswith("delta")) == e.transcript
        committed = next(x for x in own if x.type.endswith("committed"))
        assert committed.previous_item_id == previous
        previous = e.item_id
        assert e.usage.type == "duration"
    starts = [e.audio_start_ms for e in events if e.type.endswith("speech_started")]
    assert starts == sorted(starts)


@pytest.mark.parametrize(
    ("format", "encode"),
    [
        ({"type": "audio/pcm", "rate": 24_000}, lambda: s16(TALK, 24_000)),
        ({"type": "audio/pcmu"}, lambda: telephone("pcm_mulaw")),
        ({"type": "audio/pcma"}, lambda: telephone("pcm_alaw")),
    ],
)
def test_the_client_parts_utterances(server, format, encode):
    config = session(format, turn_detection=None)
    events = asyncio.run(talk(server, config, encode(), commit=True, size=50_000))
    assert events[-1].transcript == TEXT
    assert "speech_started" not in kinds(events)
    assert kinds(events)[-1] == "completed"
    deltas = [e.delta for e in events if e.type.endswith("delta")]
    assert "".join(deltas) == TEXT


def test_transcripts_are_written_if_the_server_is_told_to(start, writing_tone_bundle):
    server = start(model=str(writing_tone_bundle.folder), punctuate=True)
    config = session({"type": "audio/pcm", "rate": 24_000}, turn_detection=None)
    pcm = s16(TALK, 24_000)
    events = asyncio.run(talk(server, config, pcm, commit=True, size=50_000))
    assert events[-1].transcript == "Bad cab, dad. A bed fed."
    deltas = [e.delta for e in events if e.type.endswith("delta")]
    assert "".join(deltas) == events[-1].transcript


def telephone(codec):
    from sounds import encode

    return encode(TALK, codec.removeprefix("pcm_"), codec, 8_000)


def test_mistakes_are_told_and_the_stream_goes_on(server, pcm):
    with server.connect("/v1/realtime?intent=transcription") as ws:

        def ask(message):
            ws.send(message if isinstance(message, str) else json.dumps(message))
            return json.loads(ws.recv(timeout=20))

        assert json.loads(ws.recv())["type"] == "session.created"
        for mistake in (
            "garbage",
            {"type": "response.create", "event_id": "mine"},
            {"type": "input_audio_buffer.append", "audio": "*"},
            {"type": "input_audio_buffer.append"},
            {"type": "input_audio_buffer.commit"},
            {"type": "session.update", "session": {"type": "realtime"}},
            {"type": "session.update", "session": session({"type": "audio/mp3"})},
            {"type": "session.update", "session": {"audio": 3}},
        ):
            answer = ask(mistake)
            assert answer["type"] == "error", mistake
            assert answer["error"]["type"] == "invalid_request_error"
            wanted = mistake.get("event_id") if isinstance(mistake, dict) else None
            assert answer["error"]["event_id"] == wanted
        config = session({"type": "audio/pcm", "rate": 16_000}, turn_detection=None)
        assert ask({"type": "session.update", "session": config})["type"] == "session.updated"
        audio = base64.b64encode(pcm).decode()
        ws.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        ws.send(json.dumps({"type": "input_audio_buffer.clear"}))
        while json.loads(ws.recv(timeout=20))["type"] != "input_audio_buffer.cleared":
            pass
        empty = ask({"type": "input_audio_buffer.commit"})["error"]
        assert empty["code"] == "input_audio_buffer_commit_empty"
        ws.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        ws.send(json.dumps({"type": "input_audio_buffer.commit"}))
        while "transcript" not in (event := json.loads(ws.recv(timeout=20))):
            pass
        assert event["transcript"] == TEXT


def received(ws, until):
    """Events until one of this type."""
    events = []
    while not events or not events[-1]["type"].endswith(until):
        events.append(json.loads(ws.recv(timeout=20)))
    return events


def append(ws, data, size=4800):
    for part in pieces(data, size):
        audio = base64.b64encode(part).decode()
        ws.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))


@pytest.mark.parametrize("kind", ["transcription_session.update", "session.update"])
@pytest.mark.parametrize(
    ("format", "data"),
    [
        ("g711_ulaw", lambda: telephone("pcm_mulaw")),
        ("g711_alaw", lambda: telephone("pcm_alaw")),
        ("pcm16", lambda: s16(TALK, 24_000)),
    ],
)
def test_sessions_as_the_beta_describes_them(server, kind, format, data):
    flat = {
        "input_audio_format": format,
        "input_audio_transcription": {"model": "whisper-1", "language": "english"},
        "turn_detection": None,
        "input_audio_noise_reduction": {"type": "near_field"},
    }
    with server.connect("/v1/realtime?intent=transcription") as ws:
        ws.send(json.dumps({"type": kind, "session": flat}))
        updated = received(ws, "updated")[-1]
        assert updated["type"] == f"{kind}d"
        told = updated["session"]
        assert (told["input_audio_format"], told["turn_detection"]) == (format, None)
        assert told["input_audio_noise_reduction"] is None  # it is not done
        assert "audio" not in told
        append(ws, data())
        ws.send('{"type": "input_audio_buffer.commit"}')
        events = received(ws, "completed")
    assert events[-1]["transcript"] == TEXT
    [created] = [e for e in events if e["type"] == "conversation.item.created"]
    assert created["item"]["id"] == events[-1]["item_id"]


def test_items_and_deltas_come_while_the_utterance_goes_on(server):
    pcm = s16(np.concatenate([TALK[: round(2.2 * 16_000)]] * 3 + [np.zeros(16_000, "f4")]), 24_000)
    config = session(
        {"type": "audio/pcm", "rate": 24_000},
        turn_detection={"type": "server_vad", "silence_duration_ms": 900},
    )
    with server.connect("/v1/realtime?intent=transcription") as ws:
        ws.send(json.dumps({"type": "session.update", "session": config}))
        append(ws, pcm)
        events = received(ws, "completed")
    types = [e["type"].rpartition("input_audio_")[2] for e in events]
    assert types.index("transcription.delta") < types.index("buffer.speech_stopped")
    deltas = [e["delta"] for e in events if e["type"].endswith("delta")]
    assert len(deltas) > 1
    assert "".join(deltas) == events[-1]["transcript"]
    order = ["committed", "added", "done", "completed"]
    assert [e["type"].rpartition(".")[2] for e in events if e["type"].endswith((*order,))] == order
    added = next(e for e in events if e["type"] == "conversation.item.added")
    assert added["item"]["id"] == events[-1]["item_id"]


def test_settings_change_between_utterances(server, pcm):
    """An update in the middle of an utterance does not end it."""
    config = session({"type": "audio/pcm", "rate": 16_000}, turn_detection=None)
    with server.connect("/v1/realtime?intent=transcription") as ws:
        ws.send(json.dumps({"type": "session.update", "session": config}))
        append(ws, pcm[: len(pcm) // 2])
        config["audio"]["input"]["transcription"] = {"language": "en-US", "prompt": "cab"}
        ws.send(json.dumps({"type": "session.update", "session": config}))
        append(ws, pcm[len(pcm) // 2 :])
        ws.send('{"type": "input_audio_buffer.commit"}')
        events = received(ws, "completed")
        assert events[-1]["transcript"] == TEXT
        append(ws, pcm)
        ws.send('{"type": "input_audio_buffer.commit"}')
        assert received(ws, "completed")[-1]["transcript"] == TEXT
    assert [e["type"] for e in events].count("input_audio_buffer.committed") == 1


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ("garbage", "invalid_json", None),
        ({}, "missing_required_parameter", "type"),
        ({"type": "response.create"}, "invalid_value", "type"),
        ({"type": "session.update"}, "missing_required_parameter", "session"),
        ({"type": "session.update", "session": {"type": "realtime"}}, "invalid_value", None),
        ({"type": "input_audio_buffer.append"}, "missing_required_parameter", "audio"),
        ({"type": "input_audio_buffer.append", "audio": "*"}, "invalid_value", "audio"),
        (
            {"type": "session.update", "session": {"input_audio_format": "mp3"}},
            "invalid_value",
            "session.input_audio_format",
        ),
        (
            {
                "type": "session.update",
                "session": {"input_audio_transcription": {"language": "ko"}},
            },
            "invalid_value",
            "language",
        ),
    ],
)
def test_error_codes(server, message, code, param):
    with server.connect("/v1/realtime?intent=transcription") as ws:
        ws.recv(timeout=20)
        ws.send(message if isinstance(message, str) else json.dumps(message))
        error = json.loads(ws.recv(timeout=20))["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    assert param is None or error["param"] == param


@pytest.mark.parametrize("in_beta", [False, True])
def test_client_secrets_open_one_kind_of_session(start, in_beta):
    from websockets.exceptions import InvalidStatus

    server = start(api_key=("backend",))
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="backend", max_retries=0)
    with client:
        if in_beta:
            flat = {"input_audio_format": "g711_ulaw", "turn_detection": None}
            path = "/realtime/transcription_sessions"
            made = client.post(path, body=flat, cast_to=object)
            assert made["input_audio_format"] == "g711_ulaw"
            secret = made["client_secret"]["value"]
        else:
            config = session({"type": "audio/pcmu"}, turn_detection=None)
            made = client.realtime.client_secrets.create(session=config)
            assert made.session.audio.input.format.type == "audio/pcmu"
            secret = made.value
        body = {"session": {"type": "realtime"}}
        with pytest.raises(openai.BadRequestError):
            client.post("/realtime/client_secrets", body=body, cast_to=object)
    offered = ["realtime", f"openai-insecure-api-key.{secret}"]
    with server.connect("/v1/realtime?intent=transcription", subprotocols=offered) as ws:
        created = json.loads(ws.recv(timeout=20))
        assert ("input_audio_format" in created["session"]) == in_beta
        append(ws, telephone("pcm_mulaw"))
        ws.send('{"type": "input_audio_buffer.commit"}')
        assert received(ws, "completed")[-1]["transcript"] == TEXT
    headers = {"authorization": f"Bearer {secret}"}
    with pytest.raises(InvalidStatus), server.connect("/ws", additional_headers=headers):
        pass
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{server.url}/v1", api_key=secret).models.list()
