"""Honest messages of every live protocol, and what becomes of them under a fuzzer's hands."""

from __future__ import annotations

import base64
import json
from random import Random
from typing import Any

_AUDIO = base64.b64encode(bytes(range(256)) * 4).decode()
_FORMAT = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
_REALTIME: list[Any] = [
    {
        "type": "session.update",
        "session": {
            "type": "transcription",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000},
                    "transcription": {"model": "any", "language": "en", "prompt": "Kyiv"},
                    "turn_detection": {"type": "server_vad", "silence_duration_ms": 300},
                }
            },
            "include": ["item.input_audio_transcription.logprobs"],
        },
    },
    {
        "type": "transcription_session.update",
        "session": {
            "input_audio_format": "g711_ulaw",
            "input_audio_transcription": {"model": "any", "language": "en", "prompt": ""},
            "turn_detection": {"type": "semantic_vad", "eagerness": "high"},
        },
    },
    {"type": "input_audio_buffer.append", "audio": _AUDIO, "event_id": "1"},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
]
# What clients of each path say, by its beginning.
MESSAGES: dict[str, list[Any]] = {
    "/v1/realtime": _REALTIME,
    "/v1/listen": [{"type": "KeepAlive"}, {"type": "Finalize"}, {"type": "CloseStream"}],
    "/v2/listen": [
        {"type": "Configure", "keyterms": ["Kyiv"], "thresholds": {"eot_timeout_ms": 3000}},
        {"type": "CloseStream"},
    ],
    "/v3/ws": [
        {"type": "UpdateConfiguration", "keyterms_prompt": ["Kyiv"], "max_turn_silence": 900},
        {"type": "ForceEndpoint"},
        {"type": "Terminate"},
    ],
    "/twilio": [
        {"event": "connected", "protocol": "Call", "version": "1.0.0"},
        {
            "event": "start",
            "sequenceNumber": "1",
            "start": {
                "tracks": ["inbound"],
                "mediaFormat": _FORMAT,
                "customParameters": {"a": "b"},
            },
            "streamSid": "MZ1",
        },
        {"event": "media", "media": {"track": "inbound", "chunk": "1", "payload": _AUDIO}},
        {"event": "mark", "streamSid": "MZ1", "mark": {"name": "here"}},
        {"event": "stop", "stop": {"callSid": "CA1"}},
    ],
    "/ws": [{"type": "flush"}, {"type": "reset"}, {"type": "finish"}],
    "/": [
        {"config": {"sample_rate": 16000, "phrase_list": ["bad cab", "[unk]"], "words": 1}},
        {"config": {"max_alternatives": 3, "phrase_list": '["bad"]'}},
        {"reset": 1},
        {"eof": 1},
    ],
}
_SPECIAL = (
    *(None, True, False, 0, -1, 1, 2**31, 10**30, 1e308, 0.5, "", "x", "\ud800", "\0", "😀"),
    *("1e999", [], {}, [[]], {"": ""}, "a" * 5000, ["a"] * 300, "finish", "en", "audio/pcm"),
)


def of(path: str) -> list[Any]:
    """The messages of the protocol that this path speaks."""
    return MESSAGES[max(filter(path.startswith, MESSAGES), key=len)]


def mutated(random: Random, message: Any) -> Any:
    """A message of which something is missing, doubled, of another type, or from somewhere else."""
    if random.random() < 0.15 or not isinstance(message, dict | list) or not message:
        return random.choice(_SPECIAL)
    if isinstance(message, list):
        items = [mutated(random, item) if random.random() < 0.5 else item for item in message]
        return items * random.choice([0, 1, 1, 3])
    changed = dict(message)
    key = random.choice(list(changed))
    match random.randrange(5):
        case 0:
            del changed[key]
        case 1:
            changed[random.choice(list(changed))] = changed[key]
        case 2:
            changed[str(random.choice(_SPECIAL))[:100]] = random.choice(_SPECIAL)
        case _:
            changed[key] = mutated(random, changed[key])
    return changed


def frame(random: Random, path: str) -> str | bytes:
    """The next message: honest, mutated, cut off, or bytes."""
    kind = random.random()
    if kind < 0.25:
        return random.randbytes(random.randrange(5000))
    message = random.choice(of(path))
    for _ in range(random.randrange(4)):
        message = mutated(random, message)
    text = json.dumps(message)
    return text[: random.randrange(len(text) + 1)] if kind < 0.35 else text
