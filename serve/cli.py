"""`asr-serve`: the command."""

from __future__ import annotations

import os
from typing import Any

import click

from asr.errors import MissingDependencyError
from asr.program import run
from serve.settings import ServeSettings, from_flags, options, read_settings


def _read(context: click.Context, parameter: click.Parameter, path: str | None) -> None:
    """Settings of the file become the defaults of the flags."""
    if path is not None:
        context.default_map = read_settings(path)


@click.command(context_settings={"auto_envvar_prefix": "ASR_SERVE"})
@click.option(
    "--config",
    metavar="FILE",
    callback=_read,
    is_eager=True,
    expose_value=False,
    help="YAML file of settings, named as the flags with underscores.",
)
@options
def command(**flags: Any) -> int:
    """Serve speech recognition: a web page, and the protocols of Vosk, OpenAI, Deepgram and Home
    Assistant.

    Each flag may also be a variable: --max-connections is ASR_SERVE_MAX_CONNECTIONS. Flags go
    before variables, variables before the file.

    \b
      asr-serve
      asr-serve --host 0.0.0.0 --api-key-file keys.txt --workers 4
    """
    return serve_with(from_flags(flags))


def serve_with(settings: ServeSettings) -> int:
    """Serve until told to stop; returns the exit status."""
    # Workers share the cores by themselves: threads of the matrix library would only wait for each
    # other. It reads this when it is loaded.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from serve import logs, server
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"asr-serve needs {error.name}", "pip install 'blstm-ctc-asr[serve]'"
        ) from error
    logs.configure(settings.log_format)
    return server.serve(settings)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave the process with its exit status."""
    run(command, "asr-serve", arguments)
