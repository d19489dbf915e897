"""The site builds strictly, its links lead somewhere, and it needs no other host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr[-5000:]
    return folder


def test_all_links_within_the_site_lead_somewhere(site: Path) -> None:
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    for page, html in pages.items():
        for link in re.findall(r'(?:href|src)="([^"]*)"', html):
            if re.match(r"[a-z]+:|//", link) or page.name == "404.html":
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / unquote(path)).resolve() if path else page
            assert target.exists(), f"{page.name}: {link}"
            if anchor and target in pages:
                assert re.search(rf'id="?{re.escape(unquote(anchor))}\b', pages[target]), link


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    outside = re.compile(
        r'<(?:script|img|iframe|audio|video|source)[^>]*\ssrc="(?:https?:)?//'
        r'|<link[^>]*rel="(?:stylesheet|preconnect|icon)"[^>]*href="(?:https?:)?//'
        r'|url\(["\']?(?:https?:)?//'
    )
    for page in [*site.rglob("*.html"), *site.rglob("*.css")]:
        assert not outside.search(page.read_text(encoding="utf-8")), page


def test_the_reference_has_every_command_and_setting(site: Path) -> None:
    from asr.cli import COMMANDS

    commands = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert all(f"asr {name}" in commands for name in COMMANDS)
    settings = (site / "reference" / "settings.html").read_text(encoding="utf-8")
    for name in ("learning_rate", "beam_threshold", "min_silence", "wyoming_port", "cell"):
        assert f"<code>{name}</code>" in settings
    assert "Adam&#39;s first beta" in settings or "Adam's first beta" in settings
