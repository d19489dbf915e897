"""The house keeps its shape: who imports whom, what the core needs, how long a function may be."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import threading
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import pytest

import asr
from asr.packaging.bundle import Bundle

ROOT = Path(__file__).parents[1]
# Lines of code, without docstrings and comments. A file may be as long as its one idea needs.
MAX_FUNCTION_LINES, MAX_CLASS_LINES = 65, 250
MAX_FILES = 25  # of ours on the way of a recording to words
HOUSE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# A room may import rooms of its own layer and of those before it: see CONTRIBUTING.md's table.
LAYERS = [
    {*re.findall(r"`(\w+(?:/\w+)?)/?`", row)}
    for row in re.findall(r"^\| \d \| (.*?) \|", HOUSE, re.M)
]
# Each module of these folders is a room of its own: they hold what serves one purpose, from data
# to commands.
WINGS = {"analysis", "packaging", "punctuation"}
HEAVY = {
    *("torch", "torchaudio", "librosa", "hydra", "omegaconf", "jiwer", "tensorboard"),
    *("matplotlib", "onnx", "safetensors", "scipy", "lhotse"),
}
# What transcribing imports, and therefore may not need the training extra at import.
CORE = """
    types errors config files compiled writers audio text features vad lm lexicon decode acoustics
    heads words open_segment stream recognizer aligner recordings subtitles channels __init__
    __main__ analysis/metrics packaging/bundle punctuation/labels punctuation/punctuator
    punctuation/scoring
""".split()


def sources(*folders: str) -> list[Path]:
    """Python files of ours: hidden folders hold environments of others."""
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    )


def imports(path: Path, *, at_start: bool = False) -> Iterator[str]:
    """Dotted names of what a file imports; `at_start`: only what runs as it is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        inside_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if not typing_only and not (at_start and inside_function):
            nodes += ast.iter_child_nodes(node)


def room(path: Path) -> str:
    """The room of a file."""
    return _room(path.relative_to(ROOT / "asr").with_suffix("").parts)


def imported_room(name: str) -> str | None:
    """The room of a dotted name of ours, None for `asr` itself."""
    first, *rest = name.split(".")
    return _room(rest) if first == "asr" and rest and rest[0] != "__version__" else None


def _room(parts: Sequence[str]) -> str:
    return "/".join(parts[:2]) if parts[0] in WINGS else parts[0]


def rank(name: str) -> int:
    ranks = [i for i, layer in enumerate(LAYERS) if name in layer]
    assert ranks, f"asr.{name} has no layer: give it one in CONTRIBUTING.md"
    return ranks[0]


@pytest.mark.parametrize("path", sources("asr"), ids=lambda p: str(p.relative_to(ROOT)))
def test_lower_layers_do_not_import_upper_ones(path: Path) -> None:
    if path == ROOT / "asr/__init__.py":
        return  # the front door opens on the recogniser
    # types -> writers is the one lazy call upwards within a layer: Transcript.save.
    for name in imports(path):
        assert name.split(".")[0] not in {"conf", "data_prep", "serve"}, f"asr imports {name}"
        other = imported_room(name)
        assert other is None or rank(other) <= rank(room(path)), f"{room(path)} imports {name}"


def test_no_room_needs_one_that_needs_it() -> None:
    needs: dict[str, set[str]] = {}
    for path in sources("asr"):
        if path != ROOT / "asr/__init__.py":
            rooms = {other for name in imports(path) if (other := imported_room(name))}
            needs.setdefault(room(path), set()).update(rooms - {room(path)})
    needs["types"].discard("writers")  # lazily, for Transcript.save
    while free := {name for name, others in needs.items() if not others & needs.keys()}:
        needs = {name: others for name, others in needs.items() if name not in free}
    assert not needs, f"a circle of imports among {sorted(needs)}"


def test_no_file_needs_one_that_needs_it() -> None:
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sources("asr", "data_prep", "serve")
    }
    needs: dict[str, set[str]] = {}
    for name, path in files.items():
        imported = {
            other if other in files else other.rpartition(".")[0] for other in imports(path)
        }
        needs[name] = (imported & files.keys()) - {name}
    needs["asr.types"].discard("asr.writers")  # lazily, for Transcript.save
    while free := {name for name, others in needs.items() if not others & needs.keys()}:
        needs = {name: others for name, others in needs.items() if name not in free}
    assert not needs, f"a circle of imports among {sorted(needs)}"


def test_neighbours_use_only_what_they_may() -> None:
    allowed = LAYERS[0] | LAYERS[1]
    for path in sources("data_prep"):
        for name in imports(path):
            if name.startswith("asr."):
                assert name.split(".")[1] in allowed or name.startswith("asr.data.manifest"), (
                    f"{path.name} imports {name}"
                )


@pytest.mark.parametrize("name", CORE)
def test_the_core_needs_no_training_package(name: str) -> None:
    folder, file = ROOT / "asr" / name, ROOT / "asr" / f"{name}.py"
    for path in sources(f"asr/{name}") if folder.is_dir() else [file] if file.exists() else []:
        heavy = {n for n in imports(path, at_start=True) if n.split(".")[0] in HEAVY}
        assert not heavy, f"{path.relative_to(ROOT)} imports {heavy}"


def code_lines(path: Path) -> tuple[ast.Module, set[int]]:
    """A file's tree, and the numbers of its lines that are code."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    strings = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    code = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING)
        for line in range(token.start[0], token.end[0] + 1)
    }
    return tree, code - strings


@pytest.mark.parametrize(
    "path",
    sources("asr", "conf", "data_prep", "serve", "tests", "benchmarks"),
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_functions_and_classes_fit_on_a_screen(path: Path) -> None:
    tree, code = code_lines(path)
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        limit = MAX_CLASS_LINES if isinstance(node, ast.ClassDef) else MAX_FUNCTION_LINES
        lines = sum(node.lineno <= line <= (node.end_lineno or 0) for line in code)
        assert lines <= limit, f"{node.name} has {lines} lines of code"


def loaded_after(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after running `code`."""
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(result.stderr.splitlines()[-1].split())


def test_importing_asr_costs_nothing() -> None:
    assert not loaded_after("import asr") & {"numpy", "onnxruntime", "numba", *HEAVY}


def test_help_loads_nothing_heavy() -> None:
    code = (
        "from asr.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not end.code"
    )
    assert not loaded_after(code) & {"numpy", "numba", "onnxruntime", "rich", *HEAVY}


def test_transcribing_loads_no_training_package() -> None:
    code = (
        "import asr, asr.recognizer, asr.decode.beam, asr.decode.greedy, asr.lm.ngram\n"
        "import asr.cli.transcribe, asr.cli.info, asr.cli._listeners"
    )
    loaded = loaded_after(code)
    assert not loaded & (HEAVY - {"scipy"}), loaded & HEAVY


def test_greedy_decoding_loads_neither_compiler_nor_ffmpeg(bundled_model: Bundle) -> None:
    sample = ROOT / "samples" / "she-couldnt-decide.flac"
    code = f"import asr; asr.load(decoder='greedy').transcribe({str(sample)!r})"
    loaded = loaded_after(code)
    assert not loaded & {"numba", "llvmlite"}
    assert "av" not in loaded  # ffmpeg takes 18 MB, and libsndfile reads FLAC


def test_a_recording_crosses_few_files_on_its_way_to_words(bundled_model: Bundle) -> None:
    """Files of ours with a function that runs, in loading the model and in transcribing."""
    sample = ROOT / "samples" / "she-couldnt-decide.flac"
    asr.load().transcribe(sample)  # imports and compiles
    crossed = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT / "asr"):
            crossed.add(path.relative_to(ROOT / "asr").as_posix())

    load = asr.load
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        load().transcribe(sample)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    assert len(crossed) <= MAX_FILES, sorted(crossed)


def test_every_listed_command_is_there() -> None:
    import importlib

    from asr.cli import COMMANDS

    modules = {p.stem for p in (ROOT / "asr/cli").glob("*.py") if not p.stem.startswith("_")}
    assert set(COMMANDS) == modules
    for name in COMMANDS:
        assert importlib.import_module(f"asr.cli.{name}").command.help
