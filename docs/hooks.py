"""What MkDocs does besides: pages from the root of the project, the reference of commands and
settings, and equations as MathML, which browsers draw without a script."""

from __future__ import annotations

import ast
import importlib
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import click
import latex2mathml.converter
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[1]
ROOT_PAGES = {
    "RESULTS.md": "results.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
}
PROGRAMS = {
    "asr": "asr.cli:cli",
    "asr-prepare": "data_prep.cli:cli",
    "asr-serve": "serve.cli:command",
}
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)\s#]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fenced blocks of kind `math` become MathML; anchors of headings are GitHub's."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [
        {"name": "math", "class": "math", "format": _math}
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not files of `docs/`."""
    for source, page in ROOT_PAGES.items():
        if page != "index.md":
            text = (ROOT / source).read_text(encoding="utf-8")
            files.append(File.generated(config, page, content=text))
    for page, text in (("commands", commands()), ("settings", settings())):
        files.append(File.generated(config, f"reference/{page}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to pages of the root lead to their copies; of links to other files the text stays."""
    source = next((s for s, p in ROOT_PAGES.items() if p == page.file.src_uri != "index.md"), None)
    where = PurePosixPath(source or f"docs/{page.file.src_uri}").parent

    def lead(match: re.Match[str]) -> str:
        target = os.path.normpath(where / match[2])
        inside = ROOT_PAGES.get(target) or (
            target.removeprefix("docs/") if target.startswith("docs/") else None
        )
        if inside is None:
            assert (ROOT / target).exists(), f"{page.file.src_uri}: no {target}"
            return match[1]
        start = PurePosixPath(page.file.src_uri).parent
        return f"[{match[1]}]({os.path.relpath(inside, start)}{match[3] or ''})"

    return _LINK.sub(lead, markdown)


def _math(source: str, *_: Any, **__: Any) -> str:
    lines = [line for line in source.strip().splitlines() if line.strip()]
    return "\n".join(latex2mathml.converter.convert(line, display="block") for line in lines)


def commands() -> str:
    """The help of every command of every program."""
    text = "# Commands\n\nWhat `--help` of each command prints.\n"
    for program, where in PROGRAMS.items():
        module, name = where.split(":")
        command = getattr(importlib.import_module(module), name)
        text += f"\n## {program}\n" + "".join(_help(command, program, None, 2))
    return text


def _help(
    command: click.Command, name: str, parent: click.Context | None, level: int
) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent, max_content_width=100)
    if parent is not None:
        yield f"\n{'#' * min(level, 4)} {context.command_path}\n"
    yield f"\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for part in command.list_commands(context):
            found = command.get_command(context, part)
            assert found is not None
            yield from _help(found, part, context, level + 1)


def settings() -> str:
    """Every dataclass of settings as a table, with the comments of its source."""
    text = (
        "# Settings\n\nEach table is a dataclass, in the order of its source."
        " `asr train --show` prints values.\n"
    )
    for path in sorted([*(ROOT / "asr").rglob("*.py"), *(ROOT / "serve").rglob("*.py")]):
        source = path.read_text(encoding="utf-8")
        tables = ""
        for node in ast.parse(source).body:
            public = isinstance(node, ast.ClassDef) and not node.name.startswith("_")
            if public and re.search(r"(Config|Settings)$", node.name):
                tables += _table(node, source.splitlines())
        if tables:
            text += f"\n## {path.relative_to(ROOT).as_posix()}\n{tables}"
    return text


def _table(node: ast.ClassDef, lines: list[str]) -> str:
    rows = []
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            kind, meaning = field.annotation, _comment(field, lines)
            if isinstance(kind, ast.Subscript) and ast.unparse(kind.value) == "Annotated":
                assert isinstance(kind.slice, ast.Tuple)
                kind, text = kind.slice.elts
                meaning = ast.literal_eval(text).replace("|", "\\|")
            default, kind_text = _code(_default(field)), _code(ast.unparse(kind))
            rows.append(f"| `{field.target.id}` | {default} | {meaning} | {kind_text} |\n")
    if not rows:
        return ""
    doc = textwrap.dedent(ast.get_docstring(node) or "")
    head = "| setting | default | what it is | type |\n| --- | --- | --- | --- |\n"
    return f"\n### {node.name}\n\n{doc}\n\n{head}{''.join(rows)}"


def _default(field: ast.AnnAssign) -> str:
    value = field.value
    if (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Name)
        and value.func.id == "field"
    ):
        kept = {k.arg: ast.unparse(k.value) for k in value.keywords}
        return kept.get("default") or f"{kept['default_factory']}()".replace("lambda: ", "")
    return ast.unparse(value) if value else "required"


def _comment(field: ast.AnnAssign, lines: list[str]) -> str:
    """The comment lines above a field, and the comments behind it."""
    above: list[str] = []
    row = field.lineno - 2
    while lines[row].strip().startswith("#"):
        above.insert(0, lines[row].strip().removeprefix("#").strip())
        row -= 1
    end = field.end_lineno or field.lineno
    behind = [
        line.rsplit("  # ", 1)[1] if "  # " in line else line.strip().removeprefix("# ")
        for line in lines[field.lineno - 1 : end]
        if "  # " in line or line.strip().startswith("#")
    ]
    return " ".join(above + behind).replace("|", "\\|")


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|").replace("\n", " ") + "`"
