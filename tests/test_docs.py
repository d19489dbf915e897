"""The documentation: its commands exist with their options, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from asr.cli import cli
from data_prep.cli import cli as prepare_cli
from serve.cli import command as serve_command

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT)
    for path in [ROOT / "RESULTS.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
)
README = Path("README.md")
GENERATED = {
    ROOT / "docs/reference/commands.md",
    ROOT / "docs/reference/settings.md",
}  # docs/hooks.py
PROGRAMS = {"asr": cli, "asr-prepare": prepare_cli, "asr-serve": serve_command}
INTERPRETERS = ("python", "torchrun", "time", "chromium")
BASH = shutil.which("bash")
# Every program writes its arguments down instead of doing something.
STUB = f"""#!{BASH}
{{ printf '%s\\0' "${{0##*/}}" "$@"; printf '\\n\\0'; }} >> "$CALLS"
"""


def shell_text(text: str) -> str:
    """The shell blocks of a page, and the commands within its sentences, as one script."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    # One after the other: programs that run beside each other would write into each other's lines.
    blocks = [re.sub(r" &$", "", block, flags=re.MULTILINE) for block in blocks]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    inline = [
        re.sub(r"\s+", " ", command)
        for command in re.findall(r"`([^`]+)`", prose)
        if re.match(r"(asr|asr-prepare|asr-serve|time|python benchmarks/\S+) ", command)
        and not re.search(r"[A-Z]{4,}|…", command)  # `asr COMMAND --help`, `asr train …`
    ]
    return "\n".join([*blocks, *inline])


def calls(text: str, folder: Path) -> list[list[str]]:
    """The commands that the shell blocks and sentences of a page run, after bash expanded them."""
    programs = folder / "bin"
    programs.mkdir()
    for name in (*PROGRAMS, *INTERPRETERS):
        (programs / name).write_text(STUB)
        (programs / name).chmod(0o755)
    log = folder / "calls"
    log.touch()
    environment = {"PATH": str(programs), "CALLS": str(log), "ASR_SHARED": str(folder / "shared")}
    environment["S"] = f"{folder}/shared/speech"
    assert BASH
    script = [BASH, "-c", shell_text(text)]
    subprocess.run(script, cwd=folder, env=environment, capture_output=True, check=False)
    found = []
    for record in log.read_text().split("\n\0")[:-1]:
        program, *arguments = record.split("\0")[:-1]
        if program == "time":
            program, *arguments = arguments
        if program in INTERPRETERS and "asr" in arguments:  # python -m asr, torchrun … -m asr
            program, arguments = "asr", arguments[arguments.index("asr") + 1 :]
        found.append([program, *arguments])
    return found


def check_options(program: str, arguments: list[str]) -> None:
    """Raise a click.UsageError if the command or one of its options does not exist."""
    command: click.Command = PROGRAMS[program]
    # With the settings of the group: click keeps what its first context calls the help option.
    context = click.Context(command, info_name=program, **command.context_settings)
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        _, found, arguments = command.resolve_command(context, arguments)
        assert found is not None, arguments
        command = found
        context = click.Context(command, info_name=command.name, parent=context)
    try:
        options, _, _ = command.make_parser(context).parse_args(list(arguments))
    except click.BadOptionUsage:  # a sentence names an option without its value
        return
    for parameter in command.params:
        value = options.get(parameter.name or "")
        if isinstance(parameter.type, click.Choice) and isinstance(value, str):
            parameter.type.convert(value, parameter, context)


def check_script(arguments: list[str]) -> None:
    """Assert that a script of `benchmarks/` and its options exist."""
    script, *rest = arguments
    source = (ROOT / script).read_text(encoding="utf-8")
    for argument in rest:
        if argument.startswith("--") and argument != "--help":
            option = argument.split("=")[0]
            assert f'"{option}"' in source or '"--{name}"' in source, f"{script} {option}"


@pytest.mark.parametrize("page", [README, *PAGES], ids=str)
def test_every_command_of_a_page_exists(page: Path, tmp_path: Path) -> None:
    for program, *arguments in calls((ROOT / page).read_text(encoding="utf-8"), tmp_path):
        if program in PROGRAMS:
            check_options(program, arguments)
        elif arguments and arguments[0].startswith("benchmarks/"):
            check_script(arguments)


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, *PAGES], ids=str)
def test_every_training_setting_of_a_page_exists(page: Path, tmp_path: Path) -> None:
    from asr.cli.train import compose

    for program, *arguments in calls((ROOT / page).read_text(encoding="utf-8"), tmp_path):
        if program == "asr" and arguments[:1] == ["train"] and "=" in " ".join(arguments):
            compose([argument for argument in arguments[1:] if not argument.startswith("-")])


@pytest.mark.parametrize("page", [README, *PAGES], ids=str)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = Path(os.path.normpath(ROOT / page.parent / path)) if path else ROOT / page
        if linked in GENERATED:
            continue
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, target


def pictures(page: Path) -> Iterator[tuple[Path, str]]:
    """Each picture of a page, and the text below it as far as the next picture or section."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for image in re.finditer(r"!\[[^\]]*\]\(([^)\s]+)\)", text):
        below = re.split(r"!\[|^##", text[image.end() :], maxsplit=1, flags=re.MULTILINE)[0]
        yield Path(os.path.normpath(page.parent / image[1])), below


def writes(arguments: list[str], picture: Path) -> bool:
    """Whether a command names the picture, or the page beside it, as what it writes."""
    named = (Path(argument.rpartition("=")[2]) for argument in arguments)
    return any(path.name and path.with_suffix(picture.suffix) == picture for path in named)


@pytest.mark.parametrize("page", [README, *PAGES], ids=str)
def test_below_every_picture_stands_the_command_that_makes_it(page: Path, tmp_path: Path) -> None:
    for number, (picture, below) in enumerate(pictures(page)):
        (tmp_path / str(number)).mkdir()
        made = [c for c in calls(below, tmp_path / str(number)) if writes(c[1:], picture)]
        assert made, f"{picture}: no command below it writes it"
        before = re.split(r"```bash|`(?:asr|python) ", below)[0]
        assert before.count("\n") <= 8, f"{picture}: its command is too far below"


def test_every_picture_is_on_a_page_with_words_for_it() -> None:
    shown = {picture for page in [README, *PAGES] for picture, _ in pictures(page)}
    files = {
        path.relative_to(ROOT)
        for kind in ("png", "svg")
        for path in (ROOT / "docs").rglob(f"*.{kind}")
    }
    assert shown == files
    for page in [README, *PAGES]:
        assert "![](" not in (ROOT / page).read_text(encoding="utf-8"), (
            f"{page}: a picture without words"
        )


def test_results_are_one_page_without_scripts_inside() -> None:
    text = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    for page in ("RESULTS.md", *map(str, PAGES)):
        assert "<<" not in (ROOT / page).read_text(encoding="utf-8"), page
