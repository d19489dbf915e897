"""Every setting of the server: a flag, a variable ASR_SERVE_*, a line in a YAML file."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, fields
from typing import Annotated, Any, Literal

import click

from asr.config import build
from asr.errors import ConfigError
from asr.files import read_text

Decoder = Literal["beam", "greedy"]
Detector = Literal["auto", "silero", "energy", "none"]
LogFormat = Literal["json", "text"]


@dataclass(frozen=True)
class ServeSettings:
    """What can be set. Limits are those of one worker process."""

    host: Annotated[str, "Address to listen on; 0.0.0.0 accepts connections from everywhere."] = (
        "127.0.0.1"
    )
    port: Annotated[int, "Port of HTTP and WebSockets; 0 chooses a free one."] = 8000
    wyoming_port: Annotated[
        int | None, "Port of the Wyoming protocol (Home Assistant); without keys and TLS."
    ] = None
    wyoming_name: Annotated[
        str | None, "Name under which Home Assistant finds the Wyoming port (zeroconf)."
    ] = None
    workers: Annotated[int, "Worker processes; one that dies is restarted."] = 1
    model: Annotated[str | None, "Folder of the model.  [default: bundled English]"] = None
    decoder: Annotated[
        Decoder, "Beam search with the language model, or the most probable symbols."
    ] = "beam"
    vad: Annotated[Detector, "How to detect speech."] = "auto"
    hotwords: Annotated[
        str | None, "File of phrases to prefer, one per line, optionally with a boost after a tab."
    ] = None
    punctuate: Annotated[bool, "Write results with capitals and punctuation."] = False
    threads: Annotated[int | None, "Cores per worker.  [default: its share of all]"] = None
    api_key: Annotated[tuple[str, ...], "A key that clients must present; repeatable."] = ()
    api_key_file: Annotated[str | None, "File of keys, one per line."] = None
    tls_certificate: Annotated[str | None, "Certificate chain (PEM)."] = None
    tls_key: Annotated[str | None, "Private key of the certificate (PEM)."] = None
    cors_origin: Annotated[
        tuple[str, ...],
        "Origin whose web pages may use the server, such as https://example.org, or *.",
    ] = ()
    allowed_host: Annotated[
        tuple[str, ...],
        "Name of the server in requests, besides --host, localhost and IP addresses; "
        "*.example.org allows all names below it, * any name; repeatable.",
    ] = ()
    max_connections: Annotated[int, "Max live streams at a time; more get 503."] = 100
    max_wyoming_connections: Annotated[
        int, "Max connections of the Wyoming protocol, which needs no key."
    ] = 20
    max_uploads: Annotated[int, "Max recordings in progress or waiting; more get 503."] = 8
    upload_threads: Annotated[int, "Recordings to transcribe in parallel."] = 1
    max_message_bytes: Annotated[int, "Max size of a message in a live stream."] = 1 << 20
    max_upload_bytes: Annotated[int, "Max size of a recording."] = 26_214_400
    min_upload_rate: Annotated[
        float, "Min bytes per second of an upload, on average, after its first ten seconds."
    ] = 1000.0
    max_decoded_seconds: Annotated[
        float, "Max length of a recording after decoding, whatever the size of its file."
    ] = 4 * 3600.0
    max_session_seconds: Annotated[
        float, "Max length of a live stream, in wall-clock time and in audio."
    ] = 4 * 3600.0
    idle_seconds: Annotated[float, "Close a client that sends nothing for this long."] = 60.0
    send_seconds: Annotated[float, "Close a client that does not read for this long."] = 10.0
    drain_seconds: Annotated[float, "Time for the last results after SIGTERM."] = 30.0
    batch_wait: Annotated[float, "Seconds to wait for other streams' audio, max 0.01."] = 0.005
    log_format: Annotated[LogFormat, "One JSON object per line, or plain text."] = "json"
    log_transcripts: Annotated[bool, "Write transcripts to the log."] = False

    def __post_init__(self) -> None:
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ConfigError(
                "TLS needs both a certificate and its key", "give --tls-certificate and --tls-key"
            )
        if not 0 <= self.batch_wait <= 0.01:
            raise ConfigError(f"batch_wait is {self.batch_wait}", "it is in seconds, 0 to 0.01")
        if self.wyoming_name and self.wyoming_port is None:
            raise ConfigError("wyoming_name announces no port", "give --wyoming-port as well")
        for name in ("port", "wyoming_port"):
            if not 0 <= (getattr(self, name) or 0) < 1 << 16:
                raise ConfigError(f"{name} is {getattr(self, name)}", "ports are 0 to 65535")
        for setting in fields(self):
            value = getattr(self, setting.name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and setting.name not in ("port", "wyoming_port", "batch_wait") and value <= 0:
                raise ConfigError(f"{setting.name} is {value}", "it must be above 0")

    @property
    def keys(self) -> tuple[str, ...]:
        """Those given and those in the file. Raises ConfigError if there are none in it."""
        if self.api_key_file is None:
            return self.api_key
        try:
            lines = read_text(self.api_key_file).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.api_key_file}: cannot be read: {error}") from error
        found = tuple(line.strip() for line in lines if line.strip())
        if not found:
            raise ConfigError(f"{self.api_key_file}: no keys in it", "write one a line")
        return self.api_key + found


def read_settings(path: str) -> dict[str, Any]:
    """The settings in a YAML file. Raises ConfigError for one that is unknown or wrong."""
    import yaml

    try:
        data = yaml.safe_load(read_text(path)) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    build(ServeSettings, data, "serve")
    return dict(data)


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a click command with a flag for each setting."""
    hints = typing.get_type_hints(ServeSettings, include_extras=True)
    for setting in reversed(fields(ServeSettings)):
        kind, help = typing.get_args(hints[setting.name])
        command = _option(setting, kind, help)(command)
    return command


def from_flags(flags: Mapping[str, Any]) -> ServeSettings:
    """Raises ConfigError for settings that contradict each other."""
    return build(ServeSettings, flags)


def _option(setting: Field[Any], hint: Any, help: str) -> Callable[..., Any]:
    flag = "--" + setting.name.replace("_", "-")
    shown = setting.default not in (None, ())
    details: dict[str, Any] = {"help": help, "show_default": shown, "default": setting.default}
    if hint is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", **details)
    if typing.get_origin(hint) is tuple:
        return click.option(flag, multiple=True, metavar="TEXT", **details)
    if typing.get_origin(hint) is Literal:
        return click.option(flag, type=click.Choice(typing.get_args(hint)), **details)
    kind = next(k for k in (*typing.get_args(hint), hint) if k is not type(None))
    return click.option(flag, type=kind, **details)
