"""What the tests share: real recordings, where they are at hand, and a tiny bundle."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared recordings: $ASR_SHARED, or `shared` beside the checkout."""
    folder = Path(os.environ.get("ASR_SHARED") or Path(__file__).parents[2] / "shared")
    if not (folder / "speech").is_dir():
        pytest.skip(f"no shared recordings in {folder} (set ASR_SHARED)")
    return folder
