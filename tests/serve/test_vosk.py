"""Vosk's protocol, by the client in vosk's own package and by `websockets`."""

from __future__ import annotations

import argparse
import asyncio
import json

import pytest
from sounds import TALK, TEXT, pieces, s16, sound


def test_vosks_own_transcriber(server, recording, pcm, transcript):
    transcriber = pytest.importorskip("vosk.transcriber.transcriber")
    client = object.__new__(transcriber.Transcriber)  # its __init__ loads a model
    client.args = argparse.Namespace(server=f"ws://127.0.0.1:{server.port}", output_type="txt")

    async def run():
        process = await asyncio.create_subprocess_exec(
            "tail", "-c", str(len(pcm)), str(recording), stdout=asyncio.subprocess.PIPE
        )
        return await client.recognize_stream_server(process)

    results, n_bytes = asyncio.run(run())
    assert n_bytes == len(pcm)
    assert client.format_result(results).split() == TEXT.split()
    words = [word for result in results for word in result.get("result", ())]
    assert [(w["word"], w["start"], w["end"]) for w in words] == [
        (w.word, round(w.start, 3), round(w.end, 3)) for w in transcript.words
    ]
    assert all(0 <= w["conf"] <= 1 for w in words)


def talk(ws, config, data, size=3200):
    """All replies: one to each binary message."""
    if config is not None:
        ws.send(json.dumps({"config": config}))
    replies = []
    for part in pieces(data, size):
        ws.send(part)
        replies.append(json.loads(ws.recv(timeout=20)))
    return replies


@pytest.mark.parametrize("eof", ['{"eof" : 1}', '{"eof":1}', '{ "eof": true }'])
def test_exactly_one_reply_to_each_message(server, pcm, eof):
    with server.connect("/") as ws:
        replies = talk(ws, {"sample_rate": 16_000}, pcm)
        ws.send(eof)
        last = list(ws)
    assert len(last) == 1
    replies.append(json.loads(last[0]))
    assert all(("partial" in r) != ("text" in r) for r in replies)
    assert " ".join(r["text"] for r in replies if r.get("text")) == TEXT
    assert "bad c" in [r.get("partial") for r in replies]


def test_the_whole_recording_in_one_message(server, pcm):
    with server.connect("/") as ws:
        [reply] = talk(ws, {"sample_rate": 16_000, "words": False}, pcm, len(pcm))
        ws.send('{"eof": 1}')
        last = json.loads(ws.recv())
    assert f"{reply['text']} {last['text']}" == TEXT
    assert set(last) == {"text"}


def test_rate_defaults_to_8000_and_alternatives_are_told(server):
    with server.connect("/") as ws:
        replies = talk(ws, {"max_alternatives": 3}, s16(TALK, 8_000))
        ws.send('{"eof": 1}')
        replies.append(json.loads(ws.recv()))
    said = [r["alternatives"][0] for r in replies if r.get("alternatives")]
    assert " ".join(a["text"] for a in said) == TEXT
    assert all(0 < a["confidence"] <= 1 and a["result"] for a in said)


def test_reset_tells_the_result_and_goes_on(server, pcm):
    half = len(pcm) // 2 // 3200 * 3200
    with server.connect("/") as ws:
        first = talk(ws, {"sample_rate": 16_000}, pcm[:half])
        ws.send('{"reset" : 1}')
        first.append(json.loads(ws.recv()))
        second = talk(ws, None, pcm[half:])
        ws.send('{"eof" : 1}')
        second.append(json.loads(ws.recv()))
    assert "text" in first[-1]
    said = [r["text"] for r in first + second if r.get("text")]
    assert " ".join(said).startswith("bad cab dad")
    assert said[-1] == "a bed fed"


def test_nothing_said(server):
    with server.connect("/") as ws:
        assert talk(ws, {"sample_rate": 16_000}, bytes(32_000)) == [{"partial": ""}] * 10
        ws.send('{"eof": 1}')
        assert json.loads(ws.recv()) == {"text": ""}


@pytest.mark.parametrize(
    "message", ["garbage", "[]", '{"config": 3}', '{"config": {"sample_rate": "high"}}']
)
def test_nonsense_closes_with_a_reason(server, message):
    from websockets.exceptions import ConnectionClosedError

    with server.connect("/") as ws:
        ws.send(message)
        with pytest.raises(ConnectionClosedError) as caught:
            ws.recv(timeout=20)
    assert caught.value.rcvd.code == 1008
    assert caught.value.rcvd.reason


@pytest.fixture(scope="module")
def searching(start):
    """A server with a search: others know no grammar and one text only."""
    return start(decoder="beam")


def said_with(server, config, data, size=8000):
    with server.connect("/") as ws:
        replies = talk(ws, config, data, size)
        ws.send('{"eof": 1}')
        replies.append(json.loads(ws.recv(timeout=20)))
    return replies


@pytest.mark.parametrize("as_text", [False, True])
def test_a_phrase_list_is_a_grammar(searching, pcm, as_text):
    phrases = ["bad cab", "a bed", "Zyxcorp"]
    config = {"sample_rate": 16_000, "phrase_list": json.dumps(phrases) if as_text else phrases}
    replies = said_with(searching, config, pcm)
    words = " ".join(r["text"] for r in replies if r.get("text")).split()
    assert set(words) <= set("bad cab a bed zyxcorp".split())
    assert words[:2] == ["bad", "cab"]
    # Without it, all is understood again.
    again = said_with(searching, {**config, "phrase_list": []}, pcm)
    assert " ".join(r["text"] for r in again if r.get("text")) == TEXT


def test_unk_stands_for_what_the_grammar_lacks(searching, pcm):
    config = {"sample_rate": 16_000, "phrase_list": ["bad cab", "a fed", "[unk]"]}
    replies = said_with(searching, config, pcm)
    assert " ".join(r["text"] for r in replies if r.get("text")) == "bad cab [unk] a [unk] fed"
    words = [word for reply in replies for word in reply.get("result", ())]
    assert [word["word"] for word in words] == "bad cab [unk] a [unk] fed".split()
    assert all(word["end"] > word["start"] for word in words)


def test_many_phrases(searching, pcm):
    many = [f"{a}{b}{c}{d}" for a in "abcd" for b in "abcde" for c in "abcde" for d in "abcd"]
    assert len(many) > 200
    config = {"sample_rate": 16_000, "phrase_list": [*many, *TEXT.split()]}
    replies = said_with(searching, config, pcm)
    assert " ".join(r["text"] for r in replies if r.get("text")) == TEXT


def test_several_alternatives(searching):
    unclear = 0.6 * sound("bad cab") + 0.4 * sound("bed cab")
    for wanted in (3, 1):
        config = {"sample_rate": 16_000, "max_alternatives": wanted}
        replies = said_with(searching, config, s16(unclear))
        [found] = [reply["alternatives"] for reply in replies if "alternatives" in reply]
        texts = [alternative["text"] for alternative in found]
        assert len(set(texts)) == len(texts) <= wanted
        assert texts[0] == "bed cab"
        assert wanted == 1 or len(texts) > 1
        assert all(alternative["result"] for alternative in found)


def test_a_change_of_rate(server, pcm):
    with server.connect("/") as ws:
        replies = talk(ws, {"sample_rate": 16_000}, pcm)
        replies += talk(ws, {"sample_rate": 8_000}, s16(TALK, 8_000))
        ws.send('{"eof": 1}')
        replies.append(json.loads(ws.recv(timeout=20)))
    assert " ".join(r["text"] for r in replies if r.get("text")) == f"{TEXT} {TEXT}"
