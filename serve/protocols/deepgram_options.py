"""The query of Deepgram's addresses: what is asked for, and what of it cannot be met.

What changes nothing but the looks or the extras of a result is a warning, told in the metadata;
what would make the answer another one is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import QueryParams

from asr.types import Word
from serve.audio_in import MAX_CHANNELS, AudioFormat
from serve.hotwords import Skipped
from serve.limits import bad_request
from serve.protocols.base import ModelInfo
from serve.protocols.languages import check_language
from serve.protocols.values import flag, number, timed_words

# Their names of encodings; the last ones come in a container.
ENCODINGS = {
    "linear16": "s16le",
    "linear32": "f32le",
    "mulaw": "mulaw",
    "alaw": "alaw",
    "opus": "container",
    "ogg-opus": "container",
    "flac": "container",
}
# What is met, or says nothing about the result.
_KNOWN = frozenset(
    "access_token bearer_token channels encoding endpointing extra interim_results keyterm "
    "keywords language mip_opt_out model multichannel no_delay paragraphs sample_rate tag tier "
    "token utt_split utterance_end_ms utterances vad_events version vad_turnoff".split()
)
_WRITTEN = ("punctuate", "smart_format")  # met where the server writes sentences
_REFUSED = ("callback", "callback_method")
_MAX_WARNINGS = 64
_MAX_NAME = 60  # characters


@dataclass(frozen=True, slots=True)
class Options:
    """What both recordings and live streams may ask for.

    tags, extra: given back as they came.
    """

    hotwords: tuple[str, ...]
    warnings: tuple[dict[str, str], ...]
    tags: tuple[str, ...]
    extra: tuple[str, ...]

    def metadata(self, skipped: Iterable[Skipped | str] = ()) -> dict[str, Any]:
        """Fields of `metadata`: those that are not empty."""
        told = [
            text if isinstance(text, str) else f"{text.hotword!r}: {text.reason}"
            for text in skipped
        ]
        warnings = [*self.warnings, *(warning("keyterm", "skipped", text) for text in told)]
        extra = dict(part.split(":", 1) for part in self.extra if ":" in part)
        fields = {"warnings": warnings, "tags": [*self.tags], "extra": extra}
        return {key: value for key, value in fields.items() if value}


def read_options(query: QueryParams, model: ModelInfo, others: Iterable[str] = ()) -> Options:
    """`others`: parameters that the address knows beside these. Raises Refused."""
    for name in _REFUSED:
        if query.get(name):
            raise bad_request(f"{name} is not supported: the answer comes to the request", name)
    if query.get("language") != "multi":
        check_language(query.get("language"), model.language)
    warnings = [
        warning(
            name[:_MAX_NAME], "unsupported_parameter", f"{name[:_MAX_NAME]} is not supported here"
        )
        for name in dict.fromkeys(query)
        if name not in _KNOWN and name not in others and _is_on(query[name])
        if not (name in _WRITTEN and model.punctuates)
    ]
    keyterms = [term for value in query.getlist("keyterm") for term in value.split(",")]
    # `keywords` are WORD or WORD:INTENSIFIER
    keywords = [word.rpartition(":") for word in query.getlist("keywords")]
    if any(head for head, *_ in keywords):
        told = "intensifiers are not used: all keywords weigh the same"
        warnings.append(warning("keywords", "unsupported_parameter", told))
    wanted = [head or word for head, _, word in keywords if not word.startswith("-") or not head]
    return Options(
        tuple(term.strip() for term in (*keyterms, *wanted) if term.strip()),
        tuple(warnings[:_MAX_WARNINGS]),
        tuple(query.getlist("tag")),
        tuple(query.getlist("extra")),
    )


def warning(parameter: str, kind: str, message: str) -> dict[str, str]:
    """As Deepgram's metadata has them."""
    return {"parameter": parameter, "type": kind, "message": message}


def read_format(query: QueryParams, split: bool) -> AudioFormat:
    """Of raw audio, or a container where there is no `encoding`. Raises Refused."""
    encoding = query.get("encoding") or None
    if encoding is not None and encoding not in ENCODINGS:
        raise bad_request(f"encoding {encoding!r:.20}: one of {', '.join(ENCODINGS)}", "encoding")
    kind = "container" if encoding is None else ENCODINGS[encoding]
    if kind != "container" and "sample_rate" not in query:
        raise bad_request("raw audio needs its sample_rate", "sample_rate")
    return AudioFormat(
        kind,
        round(number(query.get("sample_rate", 16_000), "sample_rate", 1, 1e6)),
        round(number(query.get("channels", 1), "channels", 1, MAX_CHANNELS)),
        split,
    )


def model_info(model: ModelInfo) -> dict[str, str]:
    """What `metadata` says of the model."""
    return {"name": model.name, "version": "1", "arch": "blstm-ctc"}


def result_words(words: Iterable[Word], punctuated: bool) -> list[dict[str, Any]]:
    """Words with times; `punctuated`: with their written form beside the bare one."""
    found = timed_words(words)
    if punctuated:
        for word in found:
            written = word["word"]
            word["word"] = written.strip('.,;:!?"').lower() or written
            word["punctuated_word"] = written
    return found


def error_body(message: str, reason: str, request_id: str) -> Mapping[str, str]:
    """The body of an answer that refuses."""
    return {"err_code": reason.upper(), "err_msg": message, "request_id": request_id}


def _is_on(value: str) -> bool:
    return flag(value) or value.lower() not in ("", "false", "0", "no", "off")
