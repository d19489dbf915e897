"""The web interfaces of whisper.cpp's server and of whisper-asr-webservice."""

from __future__ import annotations

import json

import pytest
from sounds import TALK, TEXT, s16

from asr.writers import render

httpx = pytest.importorskip("httpx")
SEGMENTS = "bad cab\ndad\na bed fed\n"


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        yield client


def inference(client, recording, **fields):
    files = {"file": ("talk.wav", recording.read_bytes())}
    return client.post("/inference", data=fields, files=files)


def test_inference(client, recording, transcript):
    assert inference(client, recording).json() == {"text": SEGMENTS}
    for format in ("srt", "vtt"):
        assert inference(client, recording, response_format=format).text == render(
            transcript, format
        )
    assert inference(client, recording, response_format="text").text == SEGMENTS
    body = inference(client, recording, response_format="verbose_json", language="en").json()
    assert (body["language"], body["task"], body["text"]) == ("english", "transcribe", SEGMENTS)
    words = [w for segment in body["segments"] for w in segment["words"]]
    assert [w["word"].strip() for w in words] == TEXT.split()
    assert words[0]["end"] > words[0]["start"] > 0


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"response_format": "xml"}, "response_format"),
        ({"language": "korean"}, "not spoken"),
        ({"translate": "true"}, "translate is not supported"),
        ({"offset_t": "1000"}, "offset_t is not supported"),
        ({"temperature": "warm"}, "temperature"),
    ],
)
def test_what_inference_cannot_do(client, recording, fields, told):
    answer = inference(client, recording, **fields)
    assert answer.status_code == 400
    assert told in answer.json()["error"]


def test_inference_without_a_recording(client):
    answer = client.post("/inference", data={"response_format": "json"})
    assert answer.status_code == 400
    assert "'file'" in answer.json()["error"]


def test_whats_not_supported_is_told(client, recording):
    body = inference(client, recording, diarize="true", language="auto").json()
    assert body["notices"] == ["diarize is not supported"]


def test_load(client, server):
    name = server.hub.info.name
    for model in (name, f"models/{name}.bin"):
        answer = client.post("/load", files={"model": (None, model)})
        assert (answer.status_code, answer.text) == (200, "Load was successful!")
    for data in ({"model": "models/ggml-large.bin"}, {}):
        answer = client.post("/load", data=data)
        assert answer.status_code == 400
        assert answer.json()["error"]


def asr(client, recording, **query):
    files = {"audio_file": ("talk.wav", recording.read_bytes(), "audio/wav")}
    return client.post("/asr", params=query, files=files)


def test_asr(client, recording, transcript):
    assert asr(client, recording).text == SEGMENTS
    assert asr(client, recording, output="srt").text == render(transcript, "srt")
    tsv = asr(client, recording, output="tsv").text.splitlines()
    assert tsv[0] == "start\tend\ttext"
    assert tsv[2].split("\t")[2] == "dad"
    answer = asr(client, recording, output="json", language="en", word_timestamps="true")
    body = answer.json()
    assert (body["text"], body["language"]) == (TEXT, "en")
    assert [w["word"] for w in body["segments"][1]["words"]] == [" dad"]
    assert answer.headers["asr-engine"] == "tones"
    assert "words" not in asr(client, recording, output="json").json()["segments"][0]


def test_asr_of_samples_without_a_header(client):
    files = {"audio_file": ("talk.pcm", s16(TALK))}
    answer = client.post("/asr", params={"encode": "false", "output": "json"}, files=files)
    assert answer.json()["text"] == TEXT


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"output": "docx"}, "output"),
        ({"task": "translate"}, "translate"),
        ({"language": "ko"}, "not spoken"),
    ],
)
def test_what_asr_cannot_do(client, recording, query, told):
    answer = asr(client, recording, **query)
    assert answer.status_code == 400
    assert told in answer.json()["detail"]


def test_languages_are_not_detected(client, recording):
    files = {"audio_file": ("talk.wav", recording.read_bytes())}
    answer = client.post("/detect-language", files=files)
    assert answer.status_code == 501
    assert "en" in json.dumps(answer.json())
