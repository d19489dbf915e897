"""An environment of its own for each program that ours is compared with, made on first use."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parent
ENVIRONMENTS = HERE / ".envs"
KENLM = "kenlm==0.3.0"  # of which there are sources only: it takes a compiler and cmake


@dataclass(frozen=True)
class Peer:
    """What to install, and the script in `peers/` that runs it, with what arguments.

    `alone`: what is installed without what it asks for.
    """

    requirements: tuple[str, ...]
    script: str
    alone: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


def interpreter(name: str, peer: Peer) -> Path | None:
    """The interpreter of a peer's environment, made now if it is not there; None if it fails."""
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    if not (folder / ".completed").exists():
        venv.create(folder, with_pip=True, clear=True)
        for packages in (peer.requirements, ("--no-deps", *peer.alone) if peer.alone else ()):
            if packages and _run([python, "-m", "pip", "install", "--quiet", *packages]):
                return None
        (folder / ".completed").touch()
    return python


def lmplz() -> Path | None:
    """KenLM's program that trains models, built now if it is not there; None if it fails."""
    folder = ENVIRONMENTS / "lmplz"
    program = folder / "build" / "bin" / "lmplz"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        if _run([*download, "--no-binary", "kenlm", "--dest", folder, KENLM]):
            return None
        with tarfile.open(next(folder.glob("kenlm-*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
        source = next(path for path in folder.glob("kenlm-*") if path.is_dir())
        build = ["cmake", "-S", source, "-B", folder / "build", "-DCMAKE_BUILD_TYPE=Release"]
        target = ["cmake", "--build", folder / "build", "--target", "lmplz", "--parallel"]
        if _run([*build, "-DCMAKE_POLICY_VERSION_MINIMUM=3.5"]) or _run(target):
            return None
    return program


def _run(command: Sequence[str | Path]) -> int:
    try:
        return subprocess.run(command, stdout=sys.stderr).returncode
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
