"""Clients that are slow, give up, or send nonsense: their fault, and nobody else's loss."""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import socket
import tempfile
import threading
import time
from random import Random

import corpus
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from running import closing, get, metrics, transcribe
from sounds import TEXT, pieces
from starlette.datastructures import ImmutableMultiDict, QueryParams
from wyoming.event import Event

import serve.recordings
from asr.types import Segment, StreamEvent, Transcript, Word
from serve.app import LIVE, RECORDINGS
from serve.limits import Refused
from serve.protocols.base import Audio, Configure, Finish, Flush, ModelInfo, Outcome, Reset
from serve.protocols.wyoming import WyomingProtocol
from serve.uploads import Finished

FORM = (
    b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n"
)
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
END = b"\r\n--b--\r\n"


def errors(server):
    return sum(n for key, n in metrics(server).items() if key[0] == "asr_serve_errors_total")


def begin_upload(server, n_bytes):
    client = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    client.sendall(FORM % (len(PART) + n_bytes + len(END)) + PART)
    return client


def upload(server, data):
    with begin_upload(server, len(data)) as client:
        client.sendall(data + END)
        return int(client.recv(4096).split(b" ")[1])


def test_uploads_that_do_not_arrive_take_no_place(start, recording):
    server = start(max_uploads=1)
    slow = [begin_upload(server, 20_000_000) for _ in range(5)]
    try:
        time.sleep(0.2)
        assert upload(server, recording.read_bytes()) == 200
    finally:
        for client in slow:
            client.close()


def test_an_upload_has_a_pace(start, monkeypatch, recording):
    monkeypatch.setattr(serve.recordings, "UPLOAD_GRACE_SECONDS", 0.5)
    server = start(min_upload_rate=10_000.0)
    with begin_upload(server, 20_000_000) as client:
        client.settimeout(0.1)
        for _ in range(100):
            with contextlib.suppress(TimeoutError):
                client.sendall(b"x")
                if answer := client.recv(4096):
                    break
    assert answer.startswith(b"HTTP/1.1 408 ")
    data = recording.read_bytes()
    with begin_upload(server, len(data)) as client:  # with a rest, but fast enough on the whole
        client.sendall(data[:100_000])
        time.sleep(1.0)
        client.sendall(data[100_000:] + END)
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_an_upload_that_is_given_up_is_no_fault(server, caplog):
    before = errors(server)
    for sent in (b"", b"RIFF", bytes(300_000)):
        with begin_upload(server, 20_000_000) as client:
            client.sendall(sent)
    assert get(server, "/healthz")[0] == 200
    time.sleep(0.2)
    assert errors(server) == before
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told(server, monkeypatch, number, caplog):
    def fail(*_):
        raise OSError(number, "no room")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "write", fail)
    before = errors(server)
    assert upload(server, bytes(100)) == 507
    assert errors(server) == before
    assert not caplog.records or "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        b"--b",
        b"--b\r\n\r\n--b--",
        b'--b\r\nContent-Disposition: form-data; name="\xff\xfe"\r\n\r\nx\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n',
        b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
        b"--b\r\n" + b"a: b\r\n" * 1000 + b"\r\n\r\n--b--\r\n",
    ],
)
@pytest.mark.parametrize(
    "kind",
    [
        b"multipart/form-data; boundary=b",
        b"multipart/form-data",
        b"multipart/form-data; boundary=b; charset=none",
        b"application/x-www-form-urlencoded",
        b"text/plain",
        b"\xff",
    ],
)
def test_forms_that_are_none(server, body, kind):
    before = errors(server)
    head = FORM.replace(b"multipart/form-data; boundary=b", kind) % len(body)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(head + body)
        assert 400 <= int(client.recv(4096).split(b" ")[1]) < 500
    assert errors(server) == before


def test_the_protocol_without_keys_has_places_of_its_own(start, pcm):
    server = start(wyoming_port=0, max_connections=1, max_wyoming_connections=2)
    idle = [socket.create_connection(("127.0.0.1", server.wyoming_port)) for _ in range(2)]
    try:
        server.wait(lambda: len(server.hub._sessions) == 2)
        assert transcribe(server, pcm) == TEXT
        with socket.create_connection(("127.0.0.1", server.wyoming_port), timeout=20) as third:
            assert b'"full"' in third.makefile("rb").read()
    finally:
        for client in idle:
            client.close()


def test_realtime_keeps_what_it_knows_and_no_more(server):
    with server.connect("/v1/realtime?intent=transcription") as ws:

        def ask(session):
            ws.send(json.dumps({"type": "session.update", "session": session}))
            return json.loads(ws.recv(timeout=20))

        assert json.loads(ws.recv())["type"] == "session.created"
        unknown = {f"key{i}": "x" * 1000 for i in range(100)}
        inner = {"transcription": {"model": "m", **unknown}, "turn_detection": dict(unknown)}
        answer = ask({**unknown, "audio": {**unknown, "input": {**unknown, **inner}}})
        assert answer["type"] == "session.updated"
        assert answer["session"]["audio"]["input"]["transcription"]["model"] == "m"
        assert "key1" not in json.dumps(answer)
        for wrong in (
            {"include": 3},
            {"include": ["x"]},
            {"audio": {"input": {"transcription": {"model": "x" * 100_000}}}},
            {"audio": {"input": {"transcription": {"model": ["x"]}}}},
            {"audio": {"input": {"format": []}}},
            {"audio": []},
        ):
            assert ask(wrong)["type"] == "error", wrong


def test_realtime_says_that_a_drain_is_the_servers(start):
    server = start()
    with server.connect("/v1/realtime?intent=transcription") as ws:
        ws.recv(timeout=20)
        server.stop()
        received, code, _ = closing(ws)
    assert code == 1001
    assert received[-1]["error"]["type"] == "server_error"


# Whatever a client sends.

MODEL = ModelInfo("tones", "en")
WORD = Word("a\ud800b", 0.0, 1.0, 0.5)
EVENTS = (
    StreamEvent("partial", Segment(0.0, 1.0, "a", (WORD,)), "a"),
    StreamEvent("final", Segment(0.0, 1.0, "a", (WORD,)), "", 2),
    StreamEvent("final", Segment(0.0, 1.0, ""), "", 1),
)
KEYS = st.sampled_from(
    "type config sample_rate words max_alternatives phrase_list eof reset session audio input"
    " format rate transcription language model turn_detection silence_duration_ms include"
    " event_id prompt width channels text data name id event start media mark payload track tracks"
    " streamSid customParameters mediaFormat keyterms keyterms_prompt keywords languages"
    " max_turn_silence input_audio_format input_audio_transcription eagerness hotwords".split()
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        [
            *("\ud800", "audio/pcm", "audio/pcmu", "server_vad", "transcription", "[unk]", ""),
            *("session.update", "input_audio_buffer.append", "input_audio_buffer.commit"),
            *("input_audio_buffer.clear", "KeepAlive", "Finalize", "finish", "flush", "reset"),
            *("transcription_session.update", "Configure", "UpdateConfiguration", "ForceEndpoint"),
            *("start", "media", "mark", "stop", "inbound", "outbound", "g711_ulaw", "semantic_vad"),
            10**400,
        ]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=20,
)
MESSAGES = st.one_of(
    st.dictionaries(KEYS, VALUES, max_size=6).map(json.dumps),
    VALUES.map(json.dumps),
    st.text(),
    st.binary(),
    st.binary().map(
        lambda data: json.dumps(
            {"type": "input_audio_buffer.append", "audio": base64.b64encode(data).decode()}
        )
    ),
)
QUERIES = st.dictionaries(
    st.sampled_from(
        "encoding sample_rate channels hotword silence_ms intent model language keywords keyterm"
        " endpointing interim_results utterance_end_ms multichannel vad_events punctuate"
        " keyterms_prompt max_turn_silence language_codes content-type lang eot_timeout_ms"
        " language_hint tag extra".split()
    ),
    st.sampled_from(["linear16", "true", "false", "16000", "en", "-1", "nan", "1e400", "x", ""])
    | st.text(max_size=20),
    max_size=6,
)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def follow(protocol, messages):
    """What a session does with a protocol, without a recogniser."""
    for action in protocol.on_open():
        render(protocol, action)
    with contextlib.suppress(Refused):
        for message in messages:
            for action in list(protocol.parse(message)):
                render(protocol, action)
    for refused in (Refused("full", "\ud800", 1013, 503), Refused("bad_request", "")):
        check_messages(protocol.on_error(refused))


def render(protocol, action):
    if isinstance(action, Configure | Audio | Flush | Reset | Finish):
        check_messages(protocol.render(Outcome(action, EVENTS, 3.0, 0.1)))


def check_messages(messages):
    for message in messages:
        if not isinstance(message, Event):
            assert json.loads(json.dumps(message))
            assert len(json.dumps(message)) < 100_000


@pytest.mark.parametrize("path", LIVE)
@FUZZ
@given(query=QUERIES, messages=st.lists(MESSAGES, max_size=5))
def test_no_message_of_a_web_socket_is_our_fault(path, query, messages):
    try:
        protocol = LIVE[path](MODEL, QueryParams(query))
    except Refused:
        return
    follow(protocol, messages)


@FUZZ
@given(
    events=st.lists(
        st.tuples(
            st.sampled_from(["describe", "transcribe", "audio-start", "audio-chunk", "audio-stop"])
            | st.sampled_from(["ping", "error", "x"]),
            st.dictionaries(
                st.sampled_from("rate width channels language name text timestamp".split()),
                VALUES | st.sampled_from([16_000, 1, 2, 4, "en", [2]]),
            ),
            st.none() | st.binary(),
        ),
        max_size=5,
    )
)
@example([("audio-start", {"rate": 16_000, "width": [2], "channels": 1}, None)])
@example([("audio-start", {"rate": 16_000, "width": True, "channels": None}, None)])
@example([("transcribe", {"language": ["en"]}, None), ("transcribe", {"language": 3}, None)])
@example([("ping", {"text": {"a": 1}}, None)])
def test_no_event_of_wyoming_is_our_fault(events):
    follow(WyomingProtocol(MODEL, QueryParams()), [Event(*event) for event in events])


@pytest.mark.parametrize("path", RECORDINGS)
@FUZZ
@given(
    query=QUERIES,
    fields=st.lists(
        st.tuples(
            st.sampled_from(
                "model language prompt response_format temperature stream include[] file"
                " timestamp_granularities[] chunking_strategy keywords languages translate offset_t"
                " output task encode encoding sample_rate channels multichannel utt_split tag extra"
                " keyterm utterances paragraphs diarize callback".split()
            ),
            st.sampled_from(["json", "verbose_json", "srt", "vtt", "text", "true", "en", "word"])
            | st.sampled_from(["segment", "logprobs", "", "-1", "nan"])
            | st.text(max_size=20),
        ),
        max_size=6,
    ),
)
def test_no_form_is_our_fault(path, query, fields):
    try:
        protocol = RECORDINGS[path](MODEL, QueryParams(query), ImmutableMultiDict(fields))
    except Refused:
        return
    word = Word("ab", 0.0, 1.0, 0.5)
    segment = Segment(0.0, 1.0, "ab", (word,))
    transcript = Transcript((segment,), 1.0, "tones")
    if protocol.is_streamed:
        assert protocol.render_segment(segment, is_first=True)
        assert protocol.render_end(transcript)
    else:
        assert protocol.render(transcript, Finished(1.0)).status_code == 200
    assert protocol.render_error(Refused("bad_request", "\ud800")).status_code == 400


ODD = [
    '{"config": {"sample_rate": [16000], "words": {}, "max_alternatives": null}}',
    '{"config": {"phrase_list": ["\\ud800"]}}',
    '{"config": {"phrase_list": "bad"}}',
    '{"config": {"sample_rate": 1e999}}',
    '{"type": ["finish"]}',
    '{"type": "session.update", "session": {"include": {"a": 1}}}',
    '{"type": "session.update", "session": {"audio": {"input": {"turn_detection": [1]}}}}',
    '{"type": "input_audio_buffer.append", "audio": "\\ud800"}',
    '{"type": "\\ud800"}',
    "[" * 5000,
    "1" * 5000,
    '{"a":' * 2000,
    "null",
    "\x00",
]


@pytest.mark.parametrize("path", LIVE)
def test_odd_messages_are_counted_as_the_clients(server, pcm, path, caplog):
    before = errors(server)
    query = "?encoding=linear16&sample_rate=16000" if path.endswith("/listen") else ""
    for message in ODD:
        with server.connect(path + query) as ws:
            ws.send(message)
            with contextlib.suppress(Exception):
                for part in pieces(pcm[:32_000], 8000):
                    ws.send(part)
            ws.close()
            assert ws.close_code != 1011
    server.wait(server.is_empty)
    assert errors(server) == before
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.slow
def test_a_minute_of_nonsense_is_nobodys_fault(server, pcm):
    """ASR_FUZZ_SECONDS of it, to every protocol at a time, while honest clients are served.

    What clients of each protocol say is taken apart (`corpus`).
    """
    deadline = time.monotonic() + float(os.environ.get("ASR_FUZZ_SECONDS", "60"))
    before, codes = errors(server), set()

    def talk(path: str, seed: int) -> None:
        random = Random(seed)
        while time.monotonic() < deadline:
            encoding = random.choice(["", "container"])
            query = f"?encoding={encoding or 'linear16'}&sample_rate=16000" * path.endswith(
                "/listen"
            )
            query = query.replace("encoding=container&", "")
            query = f"?encoding={encoding or 's16le'}" if path == "/ws" else query
            with contextlib.suppress(Exception), server.connect(path + query) as ws:
                for _ in range(random.randrange(20)):
                    ws.send(corpus.frame(random, path))
                ws.close()
                codes.add(ws.close_code)

    threads = [threading.Thread(target=talk, args=(path, i)) for i, path in enumerate(LIVE)]
    for thread in threads:
        thread.start()
    while time.monotonic() < deadline:
        assert transcribe(server, pcm) == TEXT
    for thread in threads:
        thread.join()
    server.wait(server.is_empty)
    assert 1011 not in codes
    assert errors(server) == before
