"""sherpa-onnx, Kaldi GStreamer server, Twilio, AssemblyAI and Deepgram's turns."""

from __future__ import annotations

import base64
import json
import threading
import urllib.request
from urllib.parse import quote

import numpy as np
import pytest
from sounds import RATE, TALK, TEXT, encode, pieces, s16, sound
from websockets.exceptions import ConnectionClosedError

PARTS = ["bad cab", "dad", "a bed fed"]


def test_sherpa_onnx(server):
    with server.connect("/sherpa-onnx") as ws:
        for part in pieces(TALK.astype("<f4").tobytes(), 6400):
            ws.send(part)
        ws.send("Done")
        received = [*ws]
    assert received[-1] == "Done!"
    results = [json.loads(message) for message in received[:-1]]
    finals = [result for result in results if result["is_final"]]
    assert " ".join(result["text"] for result in finals) == TEXT
    assert [result["segment"] for result in finals] == [*range(len(finals))]
    assert any(not result["is_final"] for result in results)
    assert finals[0]["tokens"] == finals[0]["text"].split()


RAW = "audio/x-raw, layout=(string)interleaved, rate=(int){}, format=(string)S16LE, channels=(int)1"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (RAW.format(16_000), lambda: s16(TALK)),
        (RAW.format(8_000), lambda: s16(TALK, 8_000)),
        ("", lambda: encode(TALK, "ogg", "libopus", 48_000)),
    ],
)
@pytest.mark.parametrize("eos", ["EOS", b"EOS"])
def test_gst_server(server, kind, data, eos):
    with server.connect(f"/client/ws/speech?content-type={quote(kind)}&content-id=mine") as ws:
        ws.send('{"adaptation_state": {"id": "x"}}')
        for part in pieces(data(), 4000):
            ws.send(part)
        ws.send(eos)
        received = [json.loads(message) for message in ws]
    assert all((m["status"], m["id"]) == (0, "mine") for m in received)
    finals = [m for m in received if m["result"]["final"]]
    assert " ".join(m["result"]["hypotheses"][0]["transcript"] for m in finals) == TEXT
    first = finals[0]["result"]["hypotheses"][0]["word-alignment"][0]
    assert first["word"] == "bad"
    assert first["length"] > 0
    assert finals[-1]["segment"] == len(finals) - 1


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_gst_servers_recordings(server, recording, method):
    url = f"{server.url}/client/dynamic/recognize"
    request = urllib.request.Request(url, recording.read_bytes(), method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=20) as answer:
        body = json.load(answer)
    assert body["status"] == 0
    assert body["hypotheses"][0]["utterance"] == TEXT


def twilio(ws, tracks, media):
    """A call; `media`: (track, mu-law bytes)."""
    ws.send('{"event": "connected", "protocol": "Call", "version": "1.0.0"}')
    start = {
        "streamSid": "MZ1",
        "tracks": tracks,
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {"language": "english", "hotwords": "cab, dad"},
    }
    ws.send(json.dumps({"event": "start", "streamSid": "MZ1", "start": start}))
    for track, data in media:
        payload = base64.b64encode(data).decode()
        ws.send(json.dumps({"event": "media", "media": {"track": track, "payload": payload}}))
    ws.send('{"event": "dtmf", "dtmf": {"digit": "1"}}')
    ws.send('{"event": "mark", "mark": {"name": "here"}}')
    ws.send('{"event": "stop", "streamSid": "MZ1"}')
    return [json.loads(message) for message in ws]


def mulaw(samples):
    return encode(samples, "mulaw", "pcm_mulaw", 8_000)


def test_twilio(server):
    media = [("inbound", part) for part in pieces(mulaw(TALK), 160)]
    with server.connect("/twilio") as ws:
        received = twilio(ws, ["inbound"], media)
    said = [m["transcript"] for m in received if m["event"] == "transcript"]
    assert " ".join(t["text"] for t in said if t["is_final"]) == TEXT
    assert {m["streamSid"] for m in received} == {"MZ1"}
    assert [m["mark"]["name"] for m in received if m["event"] == "mark"] == ["here"]


def test_twilios_two_tracks(server):
    callers = [*pieces(mulaw(TALK), 160)]
    agents = [*pieces(mulaw(sound(1.0, "cafe")), 160)]
    media = []
    for i, part in enumerate(callers):
        media.append(("inbound", part))
        media += [("outbound", agents[i])] if i < len(agents) else []
    with server.connect("/twilio") as ws:
        received = twilio(ws, ["inbound", "outbound"], media)
    said = {"inbound": [], "outbound": []}
    for m in received:
        if m["event"] == "transcript" and m["transcript"]["is_final"]:
            said[m["transcript"]["track"]].append(m["transcript"]["text"])
    assert " ".join(said["inbound"]) == TEXT
    assert said["outbound"] == ["cafe"]


def test_assemblyais_own_client(server, pcm):
    v3 = pytest.importorskip("assemblyai.streaming.v3")
    events = {"begin": [], "turn": [], "warning": [], "end": []}
    ended = threading.Event()
    client = v3.StreamingClient(
        v3.StreamingClientOptions(
            api_host=server.url.replace("http", "ws"), api_key="any", connect_timeout=10
        )
    )
    client.on(v3.StreamingEvents.Begin, lambda _, event: events["begin"].append(event))
    client.on(v3.StreamingEvents.Turn, lambda _, event: events["turn"].append(event))
    client.on(v3.StreamingEvents.Warning, lambda _, event: events["warning"].append(event))

    def end(_, event):
        events["end"].append(event)
        ended.set()

    client.on(v3.StreamingEvents.Termination, end)
    client.connect(
        v3.StreamingParameters(
            sample_rate=16_000, speech_model="universal-streaming-english", speaker_labels=True
        )
    )
    client.stream(pieces(pcm, 3200))
    client.disconnect(terminate=True)
    assert ended.wait(20)
    turns = [event for event in events["turn"] if event.end_of_turn]
    assert " ".join(turn.transcript for turn in turns) == TEXT
    assert [turn.turn_order for turn in turns] == [*range(len(turns))]
    assert all(word.word_is_final for turn in turns for word in turn.words)
    assert any(not event.end_of_turn for event in events["turn"])
    assert "speaker_labels" in events["warning"][0].warning
    assert events["end"][0].audio_duration_seconds == round(len(pcm) / 2 / RATE)


def test_assemblyais_messages(server, pcm):
    query = "sample_rate=16000&min_turn_silence=600&keyterms_prompt=" + quote('["cab"]')
    with server.connect(f"/v3/ws?{query}") as ws:
        ws.send('{"type": "KeepAlive"}')
        ws.send('{"type": "UpdateConfiguration", "max_turn_silence": 2000, "odd": 1}')
        ws.send(pcm)
        ws.send('{"type": "ForceEndpoint"}')
        ws.send('{"type": "Terminate"}')
        received = [json.loads(message) for message in ws]
    kinds = [m["type"] for m in received]
    assert kinds[0] == "Begin"
    assert kinds[-1] == "Termination"
    assert any(m["type"] == "Warning" and "odd" in m["warning"] for m in received)
    turns = [m["transcript"] for m in received if m["type"] == "Turn" and m["end_of_turn"]]
    assert turns == PARTS


def test_deepgrams_turns_by_its_own_client(server, pcm):
    deepgram = pytest.importorskip("deepgram")
    from deepgram.core.events import EventType
    from deepgram.environment import DeepgramClientEnvironment

    ws = server.url.replace("http", "ws")
    place = DeepgramClientEnvironment(
        base=server.url, production=ws, agent=ws, agent_rest=server.url
    )
    client = deepgram.DeepgramClient(api_key="any", environment=place)
    received = []
    with client.listen.v2.connect(
        model="flux-general-en", encoding="linear16", sample_rate=16_000, eot_threshold=0.7
    ) as connection:
        connection.on(EventType.MESSAGE, received.append)
        thread = threading.Thread(target=connection.start_listening, daemon=True)
        thread.start()
        for part in pieces(pcm, 3200):
            connection.send_media(part)
        connection.send_close_stream()
        thread.join(30)
    assert received[0].type == "Connected"
    assert [m.sequence_id for m in received] == [*range(len(received))]
    assert any(m.type == "Warning" and "eot_threshold" in m.description for m in received)
    turns = [m for m in received if m.type == "TurnInfo"]
    ends = [m for m in turns if m.event == "EndOfTurn"]
    assert " ".join(m.transcript for m in ends) == TEXT
    assert [m.event for m in turns].count("StartOfTurn") == len(ends)
    assert [m.turn_index for m in ends] == [*range(len(ends))]


@pytest.mark.parametrize(
    "path",
    [
        "/v3/ws?encoding=opus",
        "/v3/ws?sample_rate=high",
        "/v3/ws?keyterms_prompt=cab",
        "/v2/listen?encoding=linear16",
        "/v2/listen?language_hint=ko",
        "/client/ws/speech?lang=ko",
        "/client/ws/speech?content-type=" + quote(RAW.format(16_000).replace("S16LE", "S20LE")),
    ],
)
def test_queries_that_cannot_be_met(server, path):
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus) as caught, server.connect(path):
        pass
    assert caught.value.response.status_code == 400


def test_noise_in_floats_is_the_clients(server):
    with server.connect("/sherpa-onnx") as ws:
        ws.send(np.full(100, np.nan, "<f4").tobytes())
        with pytest.raises(ConnectionClosedError):
            list(ws)
    assert ws.close_code == 1008
    assert "finite" in ws.close_reason
