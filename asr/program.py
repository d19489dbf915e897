"""What all programs share: errors become one line, never a traceback; --quiet and --verbose."""

from __future__ import annotations

import codecs
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

import click

from asr.errors import ASRError

TRACEBACK = "ASR_TRACEBACK"  # set by whoever looks for a fault of the program
cluster_option = click.option(
    "--cluster",
    metavar="ADDRESS",
    help="Work on a Ray cluster: its address, auto for the one that this machine belongs to, or"
    " local for one of this machine's cores (extra [cluster]).",
)


@dataclass
class Output:
    """How much a program tells besides its results and its errors; every call sets it."""

    quiet: bool = False
    verbose: bool = False

    @property
    def progress(self) -> bool:
        """Whether somebody looks at progress bars: standard error is a terminal."""
        return sys.stderr.isatty() and not self.quiet


OUTPUT = Output()


def with_output_options(command: click.Command) -> click.Command:
    """Give a command, or all commands of a group, the options --quiet and --verbose."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            with_output_options(inner)
    elif not any(option.callback is _set_output for option in command.params):
        command.params += [
            click.Option(flags, is_flag=True, expose_value=False, callback=_set_output, help=text)
            for flags, text in (
                (["--quiet", "-q"], "Print results and errors only: no progress, no notes."),
                (["--verbose", "-v"], "Print what is done, a line each, and tracebacks of errors."),
            )
        ]
    return command


def _set_output(context: click.Context, option: click.Parameter, value: bool) -> None:
    setattr(OUTPUT, str(option.name), value)
    if OUTPUT.verbose:
        logging.basicConfig(format="%(name)s: %(message)s")
        logging.getLogger("asr").setLevel(logging.DEBUG)


def run(
    command: click.Command,
    name: str,
    arguments: Sequence[str] | None = None,
    interrupted: str = "",
) -> NoReturn:
    """Run the program `name` and leave the process with its exit status.

    0 is success, 1 an error, 2 a wrong call, 130 an interruption (told in the words of
    `interrupted`); a command may return another.
    """
    _open_closed_streams()
    _print_any_name()
    try:
        status = command.main(arguments, prog_name=name, standalone_mode=False) or 0
        sys.stdout.flush()
    except click.ClickException as error:
        status = error.exit_code
        with suppress(OSError):
            error.show()
    except (KeyboardInterrupt, click.Abort):
        status = 130
        if interrupted:
            warn(name, interrupted)
    except BrokenPipeError:  # who read the output has seen enough, as in `asr … | head`
        status = 0
    except Exception as error:
        status = 1
        if OUTPUT.verbose or os.environ.get(TRACEBACK):
            traceback.print_exc()
        warn(name, explain(error))
    _discard_unwritten()
    sys.exit(status)


def explain(error: Exception) -> str:
    """The message of an error for users, in one line."""
    if isinstance(error, ASRError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:  # a full disk, a folder not writable
        return f"{error.filename or 'output'}: {error.strerror}"
    reason = " ".join(str(error).split()) or "no reason given"
    if isinstance(error, ImportError | OSError):  # of a library
        return f"{reason} (`asr doctor` looks for what does not load)"
    if isinstance(error, OverflowError):
        return f"a number is too large: {reason}"
    if isinstance(error, MemoryError):
        return "memory ran out (close other programs, or give it less at a time)"
    return (
        f"{type(error).__name__}: {reason} (a mistake in this program: please report it, with what"
        f" it prints with --verbose or {TRACEBACK}=1)"
    )


def warn(name: str, message: object) -> None:
    """Print an error and its remedy to standard error, if that can be written."""
    with suppress(OSError):
        click.echo(f"{name}: {message}", err=True)


def note(name: str, message: object) -> None:
    """As `warn`, of what is no error; --quiet leaves it out."""
    if not OUTPUT.quiet:
        warn(name, message)


def _open_closed_streams() -> None:
    """Where a stream was closed (`asr … >&-`) Python has None, and libraries trip over it."""
    for stream, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, stream) is None:
            setattr(sys, stream, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def _print_any_name() -> None:
    """File names are bytes: print those that no encoding has as they are, all else escaped."""
    decode_escape: Callable[[UnicodeError], tuple[str | bytes, int]]
    decode_escape = codecs.lookup_error("surrogateescape")

    def escape(error: UnicodeError) -> tuple[str | bytes, int]:
        try:
            return decode_escape(error)
        except UnicodeError:
            return codecs.backslashreplace_errors(error)

    codecs.register_error("asr-names", escape)
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="asr-names")


def _discard_unwritten() -> None:
    """What could not be written would be tried again, and be an error, as Python ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
