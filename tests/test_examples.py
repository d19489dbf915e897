"""The scripts of examples/ and the Python snippets of the pages run as they stand."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, record

SNIPPETS = [
    (page, number)
    for page in (
        Path("README.md"),
        *(
            Path("docs") / p
            for p in ("start.md", "python.md", "streaming.md", "decoding.md", "ko/index.md")
        ),
    )
    for number, _ in enumerate(re.findall("```python\n", (ROOT / page).read_text(encoding="utf-8")))
]
# What the text around a snippet takes for granted.
GIVEN = {
    "streaming.md": """
import numpy as np
blocks = [np.zeros(4800, np.float32)] * 3
""",
    "decoding.md": """
import numpy as np
from asr.packaging.bundle import Bundle, bundled
bundle = Bundle.load(bundled("en"))
log_probs = tuple(
    np.full((20, len(v)), -np.log(len(v)), np.float32)
    for v in (bundle.vocabulary, bundle.second_vocabulary)
)
""",
}
pytestmark = pytest.mark.slow


def run(*arguments: str, folder: Path) -> str:
    """What Python prints in a folder that has the samples."""
    if not (folder / "samples").exists():
        shutil.copytree(ROOT / "samples", folder / "samples")
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    ran = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "no_proxy": "*"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def example(name: str, *arguments: str, folder: Path) -> str:
    return run(str(ROOT / "examples" / f"{name}.py"), *arguments, folder=folder)


@pytest.mark.parametrize(("page", "number"), SNIPPETS, ids=str)
def test_a_snippet_of_a_page_runs(page: Path, number: int, tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    run("-c", GIVEN.get(page.name, "") + code[number], folder=tmp_path)


def test_transcribe_folder(tmp_path: Path) -> None:
    printed = example("transcribe_folder", "samples", "out", folder=tmp_path)
    assert len(printed.splitlines()) == 4
    assert len([*(tmp_path / "out").glob("*.srt")]) == 4
    assert json.loads((tmp_path / "out" / "the-upper-house.json").read_text())["segments"]


def test_live_captions(tmp_path: Path) -> None:
    printed = example("live_captions", "samples/the-upper-house.wav", folder=tmp_path)
    kinds = [line.split()[0] for line in printed.splitlines()]
    assert {"partial", "final"} == set(kinds)


def test_find_names(tmp_path: Path) -> None:
    printed = example(
        "find_names", "samples/the-old-observatory.opus", "observatory", folder=tmp_path
    )
    assert printed.startswith("without:")
    assert "observatory" in printed.splitlines()[1]


def test_train_and_recognize(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    record(shared, 0, tmp_path / "mine")
    record(shared, 1, tmp_path / "new")
    printed = example("train_and_recognize", "mine", "new", "trainer.epochs=2", folder=tmp_path)
    recognised = dict(re.findall(r"^(\w+)-1\.wav: (.*)$", printed, re.MULTILINE))
    assert len(recognised) == 10
    assert sum(name == text for name, text in recognised.items()) >= 8


def test_ask_server(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    sys.path.insert(0, str(ROOT / "tests" / "serve"))
    try:
        from running import Running
    finally:
        sys.path.pop(0)
    from serve.settings import ServeSettings

    server = Running(ServeSettings())
    try:
        printed = example("ask_server", server.url, "samples/the-upper-house.wav", folder=tmp_path)
    finally:
        server.stop()
        server.join()
    assert len(printed.splitlines()[-1].split()) > 3
