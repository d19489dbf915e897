"""Compiled functions also work where nothing may be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
from asr.decode.lattice import _forward, forward
import numpy as np
scores = np.empty(1)
forward(np.array([[0.5, 0.5]]), np.array([1]), np.array([0, 1]), 0, scores)
assert np.isclose(scores[0], np.log(0.5))
print(type(_forward._cache).__name__)
"""


def cache_of_a_kernel(home: str) -> str:
    environment = {
        **{key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"},
        # Only the home, as if the package's folder were read-only.
        "NUMBA_CACHE_LOCATOR_CLASSES": "UserWideCacheLocator",
        "HOME": home,
        "XDG_CACHE_HOME": home,
    }
    command = [sys.executable, "-c", CODE]
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_with_and_without_a_place_for_the_cache(tmp_path: Path) -> None:
    assert cache_of_a_kernel(str(tmp_path)) == "FunctionCache"
    assert any(path.suffix == ".nbi" for path in tmp_path.rglob("*"))
    assert cache_of_a_kernel("/proc/nowhere") == "NullCache"
