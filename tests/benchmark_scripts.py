"""The scripts of `benchmarks/`, which is no package, as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def load(name: str) -> ModuleType:
    """Import a script; as when it is run, it can import those beside it."""
    full_name = f"benchmarks.{name}"  # not that of a package that is called like it
    spec = importlib.util.spec_from_file_location(full_name, BENCHMARKS / f"{name}.py")
    assert spec
    assert spec.loader
    module = sys.modules[full_name] = importlib.util.module_from_spec(spec)
    with mock.patch.object(sys, "path", [str(BENCHMARKS), *sys.path]):
        spec.loader.exec_module(module)
    return module
