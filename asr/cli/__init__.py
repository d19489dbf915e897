"""The command line: `asr COMMAND …`.

Each command lives in a module of its own, `asr/cli/COMMAND.py`, as the click command `command`, and
is imported when it is called: `asr --help` loads none of them.
"""

from __future__ import annotations

import difflib
import importlib

import click

from asr import __version__, program
from asr.errors import ASRError
from asr.program import run

COMMANDS = {
    "transcribe": "Transcribe recordings.",
    "mic": "Transcribe a microphone live.",
    "evaluate": "Measure error rates on recordings with known text.",
    "compare": "Tell whether one recogniser makes fewer errors than another.",
    "align": "Find when each word of a known text is spoken.",
    "tune": "Tune the decoder on recordings with known text.",
    "info": "Show what a model is and where it comes from.",
    "models": "List models, fetch them from the Hugging Face Hub, import those of others.",
    "doctor": "Check the installation.",
    "train": "Train a model, or resume training.",
    "search": "Search hyperparameters for training.",
    "export": "Make a model of a training run.",
    "compress": "Make a model smaller and faster.",
    "lm": "Train, mix, prune, convert and try n-gram language models.",
    "punctuation": "Restore case and punctuation of text.",
    "uncertainty": "Measure how well a network knows where it errs.",
    "plot": "Draw learning curves, spikes, gradients or attention.",
}


class LazyGroup(click.Group):
    """Commands by name; their modules are imported on demand."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"asr.cli.{name}").command
        return program.with_output_options(command)

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = arguments[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean `asr {near[0]}`?" if near else f"one of: {', '.join(COMMANDS)}"
            raise click.UsageError(f"no such command: {name} ({hint})", context)
        return super().resolve_command(context, arguments)

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except BrokenPipeError:  # who read the output has seen enough; click would exit with 1
            context.exit(0)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`asr COMMAND --help` shows a command's options and examples.",
)
@click.version_option(__version__, prog_name="asr")
def cli() -> None:
    """Speech recognition with deep bidirectional LSTMs and CTC.

    \b
      asr transcribe talk.mp3                          print what is said
      asr transcribe *.flac --format srt --out subs/   one subtitle file each
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave the process with its exit status: see `asr.program.run`."""
    run(cli, "asr", arguments)


def warn(error: ASRError | str) -> None:
    """Print an error and its remedy to standard error."""
    program.warn("asr", error)


def note(message: str) -> None:
    """Print what is worth knowing, and no error, to standard error; --quiet leaves it out."""
    program.note("asr", message)
