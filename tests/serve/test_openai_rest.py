"""OpenAI's own client, and curl, against the REST interface."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import time

import numpy as np
import pytest
import soundfile
from sounds import TALK, TEXT, encode
from tone_speech import tones

from asr.writers import render
from serve.limits import RETRY_AFTER

openai = pytest.importorskip("openai")


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def ask(client, recording, **options):
    with recording.open("rb") as file:
        return client.audio.transcriptions.create(model="whisper-1", file=file, **options)


def test_json(client, recording, transcript):
    answer = ask(client, recording)
    assert answer.text == transcript.text == TEXT
    assert answer.usage.seconds == 8


def test_transcripts_are_written_if_the_server_is_told_to(start, writing_tone_bundle, recording):
    server = start(model=str(writing_tone_bundle.folder), punctuate=True)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        answer = ask(client, recording, response_format="verbose_json")
        assert answer.text == "Bad cab, dad a bed fed."
        assert answer.segments[0].text.strip() == "Bad cab,"


@pytest.mark.parametrize("format", ["text", "srt", "vtt"])
def test_plain_formats_are_the_files_of_asr_transcribe(client, recording, transcript, format):
    answer = ask(client, recording, response_format=format)
    if format == "text":
        assert answer == TEXT + "\n"
    else:
        assert answer == render(transcript, format)


def test_channels(client, tmp_path):
    left, right = tones("bad"), tones("cafe")
    pause = np.zeros(32_000, np.float32)
    call = np.stack(
        [np.concatenate([left, pause, 0 * right]), np.concatenate([0 * left, pause, right])], axis=1
    )
    path = tmp_path / "call.wav"
    soundfile.write(path, call, 16_000)

    def heard(channels, format="verbose_json"):
        return ask(client, path, response_format=format, extra_body={"channels": channels})

    found = [(s.channel, s.text) for s in heard("each").segments]
    assert found == [(0, "bad"), (1, "cafe")]
    assert heard("each", "text") == "channel 0: bad\nchannel 1: cafe\n"
    assert "<v channel 1>cafe" in heard("each", "vtt")
    assert heard("1").text == "cafe"
    for wrong, message in (("left", "channels is 'left'"), ("2", "no channel 2")):
        with pytest.raises(openai.BadRequestError, match=message):
            heard(wrong)


def test_verbose_json(client, recording, transcript):
    answer = ask(
        client,
        recording,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
        language="en",
        prompt="names",
        temperature=0,
    )
    assert (answer.text, answer.language, answer.task) == (TEXT, "english", "transcribe")
    assert answer.duration == pytest.approx(transcript.duration, abs=0.001)
    assert [(w.word, w.start, w.end) for w in answer.words] == [
        (w.word, round(w.start, 3), round(w.end, 3)) for w in transcript.words
    ]
    assert [s.text for s in answer.segments] == [s.text for s in transcript.segments]
    assert all(s.avg_logprob <= 0 for s in answer.segments)
    only_segments = ask(client, recording, response_format="verbose_json")
    assert only_segments.words is None
    assert only_segments.segments


def test_streamed(client, recording, transcript):
    events = list(ask(client, recording, stream=True, include=["logprobs"]))
    deltas = [e for e in events if e.type == "transcript.text.delta"]
    assert "".join(e.delta for e in deltas) == TEXT
    assert len(deltas) == len(transcript.segments) == 3
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == TEXT
    assert [entry.token for entry in events[-1].logprobs] == TEXT.split()


def test_models(client, server):
    assert [model.id for model in client.models.list()] == [server.hub.info.name]
    for name in (server.hub.info.name, "whisper-1", "openai/whisper-large-v3"):
        assert client.models.retrieve(name).id == name  # every name is accepted
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("x" * 300)
    assert caught.value.param == "model"


@pytest.mark.parametrize("language", ["en", "EN", "en-US", "en_gb", "english", "English", "eng"])
def test_languages_by_code_and_by_name(client, recording, language):
    answer = ask(client, recording, language=language, response_format="verbose_json")
    assert (answer.text, answer.language) == (TEXT, "english")


def test_streamed_with_verbose_json(client, recording, transcript):
    events = list(ask(client, recording, stream=True, response_format="verbose_json"))
    assert "".join(e.delta for e in events[:-1]) == TEXT
    assert events[-1].language == "english"
    assert len(events[-1].segments) == len(transcript.segments)


def test_prompts_and_keywords_are_hot_words(client, recording):
    answer = ask(client, recording, prompt="cab, Café Bad", keywords=["dad", "bed"])
    # This server's search knows none, and says so.
    told = [notice.partition(":")[0] for notice in answer.notices]
    assert told == ["'dad'", "'bed'", "'cab'", "'Café Bad'"]


def test_translations_are_refused_with_the_reason(client, recording):
    with recording.open("rb") as file, pytest.raises(openai.BadRequestError, match="not translate"):
        client.audio.translations.create(model="whisper-1", file=file)


@pytest.mark.parametrize(
    ("format", "codec", "rate"),
    [("webm", "libopus", 48_000), ("mp4", "aac", 44_100), ("mp3", "mp3", 22_050)],
)
def test_containers_of_browsers_and_phones(client, format, codec, rate):
    file = (f"talk.{format}", encode(TALK, format, codec, rate))
    answer = client.audio.transcriptions.create(model="any", file=file)
    assert answer.text == TEXT


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"response_format": "diarized_json"}, "one of json"),
        ({"language": "ko"}, "'ko' is not spoken here"),
        ({"language": "korean"}, "'korean' is not spoken here"),
        ({"languages": ["ko", "fr"]}, "'ko' is not spoken here"),
        ({"temperature": 2}, "temperature is 2"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"include": ["speakers"]}, "include"),
        ({"timestamp_granularities": ["word"]}, "verbose_json"),
        ({"stream": True, "response_format": "srt"}, "streamed"),
    ],
)
def test_what_cannot_be_done_is_told(client, recording, options, told):
    with pytest.raises(openai.BadRequestError, match=told) as caught:
        ask(client, recording, **options)
    assert caught.value.type == "invalid_request_error"
    name = next(iter(options)).replace("languages", "language")
    assert caught.value.param == ("response_format" if name == "stream" else name)


def test_no_recordings(client, server):
    for data in (b"garbage" * 1000, b""):
        with pytest.raises(openai.BadRequestError, match=r"talk\.wav"):
            client.audio.transcriptions.create(model="any", file=("talk.wav", data))
    with pytest.raises(openai.BadRequestError, match="no recording in its field"):
        client.post("/audio/transcriptions", body={}, cast_to=object)
    assert server.hub.loaded.uploads.places.free == server.hub.settings.max_uploads


def test_too_large_and_too_long(start):
    server = start(max_upload_bytes=200_000, max_decoded_seconds=20)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        for size in (210_000, 5_000_000):  # beyond the limit, and beyond what a form may add to it
            with pytest.raises(openai.APIStatusError) as caught:
                client.audio.transcriptions.create(model="any", file=("talk.wav", bytes(size)))
            assert caught.value.status_code == 413
        bomb = encode(np.zeros(60 * 16_000, np.float32), "ogg", "libopus", 48_000, b="6000")
        assert len(bomb) < 100_000
        with pytest.raises(openai.BadRequestError, match="longer than 20 s"):
            client.audio.transcriptions.create(model="any", file=("talk.ogg", bomb))
        silence = encode(np.zeros(2 * 16_000, np.float32), "ogg", "libopus", 48_000)
        answer = client.audio.transcriptions.create(model="any", file=("quiet.ogg", silence))
        assert answer.text == ""


def test_full(start, recording):
    server = start(max_uploads=1)
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
    with server.hub.loaded.uploads.places.taken():
        with pytest.raises(openai.InternalServerError) as caught:
            ask(client, recording)
        assert caught.value.status_code == 503
        assert caught.value.response.headers["retry-after"] == str(RETRY_AFTER)
    assert ask(client, recording).text == TEXT


def test_what_is_left_of_a_cut_recording_comes_with_what_is_missing(client, recording):
    cut = recording.read_bytes()[:-20_000]
    for format in ("json", "text", "verbose_json"):
        answer = client.audio.transcriptions.with_raw_response.create(
            model="any", file=(f"cut{recording.suffix}", cut), response_format=format
        )
        assert answer.headers["x-audio-losses"].count("-") == 1
        assert "bad cab" in answer.text
    [loss] = json.loads(answer.text)["losses"]
    assert loss["end"] is None or loss["end"] > loss["start"] > 5
    assert "truncated" in loss["reason"]


def test_who_leaves_is_not_worked_for(start, monkeypatch):
    server = start()
    stopped = []

    def endless(*_):
        """A recording that is never through."""
        try:
            while True:
                time.sleep(0.01)
                yield np.zeros((16_000, 1), np.float32)
        finally:
            stopped.append(True)

    monkeypatch.setattr(server.hub.loaded.decoders, "recording", endless)
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0, timeout=0.5)
    with client, pytest.raises(openai.APITimeoutError):
        client.audio.transcriptions.create(model="any", file=("talk.wav", b"x"))
    server.wait(lambda: bool(stopped))
    server.wait(lambda: server.hub.loaded.uploads.places.free == server.hub.settings.max_uploads)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_curl(server, recording):
    def curl(*arguments: str) -> str:
        command = ["curl", "-sS", "--noproxy", "*", f"{server.url}/v1/audio/transcriptions"]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, check=True, timeout=60
        ).stdout

    form = ["-F", f"file=@{recording}", "-F", "model=whisper-1"]
    assert json.loads(curl(*form))["text"] == TEXT
    assert curl(*form, "-F", "response_format=text") == TEXT + "\n"
    lines = curl(*form, "-F", "stream=true").splitlines()
    assert json.loads(lines[-2].removeprefix("data: "))["text"] == TEXT


def test_files_without_a_name(client, recording):
    answer = client.audio.transcriptions.create(
        model="any", file=io.BytesIO(recording.read_bytes())
    )
    assert answer.text == TEXT
