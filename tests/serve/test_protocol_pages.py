"""The clients in docs/protocols/: each runs against a server and prints what is said."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sounds import TEXT

PAGES = sorted((Path(__file__).parents[2] / "docs" / "protocols").glob("*.md"))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_client_of_a_page_prints_the_transcript(page, server, recording):
    [code] = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for package in ("openai", "deepgram", "assemblyai", "httpx"):
        if re.search(rf"^(from|import) {package}\b", code, re.MULTILINE):
            pytest.importorskip(package)
    code = code.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    code = code.replace("10300", str(server.wyoming_port))
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=recording.parent,
        env={**os.environ, "NO_PROXY": "*", "no_proxy": "*"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert " ".join(ran.stdout.split()) == TEXT
