"""What tests of whole pages share: their commands as a script, and one speaker's recordings."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import forking
import numpy as np
import soundfile

from asr.data.manifest import read_manifest

ROOT = Path(__file__).parents[1]
# What needs a package index, a microphone or a screen, or does not end.
NOT_HERE = r".*pip install|python3 -m venv|source |asr mic|asr-serve|chromium"
# Several processes are tested elsewhere (tests/train/test_distributed.py).
ALONE = re.compile(r"torchrun --nproc-per-node \d+ -m asr ")


def record(shared: Path, take: int, folder: Path, max_hz: float = math.inf) -> None:
    """One speaker's digits as somebody would record them: a file and its text for each.

    `max_hz`: the highest frequency that the microphone passes.
    """
    folder.mkdir(exist_ok=True)
    for utterance in read_manifest(shared / "speech" / "digits-fsdd" / "train.jsonl"):
        if str(utterance.extra["id"]).endswith(f"_jackson_{take}"):
            waveform, rate = soundfile.read(utterance.audio_filepath)
            spectrum, n = np.fft.rfft(waveform), len(waveform)
            waveform = np.fft.irfft(spectrum * (np.fft.rfftfreq(n, 1 / rate) < max_hz), n)
            name = folder / f"{utterance.text}-{take}"
            soundfile.write(name.with_suffix(".wav"), waveform, rate)
            name.with_suffix(".txt").write_text(utterance.text + "\n")


def run_page(
    page: Path, folder: Path, shared: Path, *, train: str = "", skip: str = "", **replaced: str
) -> str:
    """What the commands of a page print in a folder that has the bundled model.

    `train`: settings for every `asr train`, so that it takes seconds. `skip`: pattern of lines for
    which the folder has what they would make. `trainer_epochs="1"` replaces the value of every
    `trainer.epochs=…`.
    """
    shutil.copytree(ROOT / "asr" / "bundled" / "en", folder / "asr" / "bundled" / "en")
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    programs = folder / "bin"
    programs.mkdir()
    forking.program(programs / "asr", "asr.cli.main")
    forking.program(programs / "asr-prepare", "data_prep.cli.main")
    forking.program(programs / "python")
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = (line for block in blocks for line in block.splitlines())
    not_here = f"{NOT_HERE}|{skip}" if skip else NOT_HERE
    # `python` and `torchrun` of this environment, which need not be activated
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    script = "\n".join(["set -e", *(line for line in lines if not re.match(not_here, line))])
    script = ALONE.sub("asr ", script)
    if train:
        script = script.replace("asr train ", f"asr train {train} ")
    for setting, value in replaced.items():
        name = setting.replace("_", ".", 1)
        script, count = re.subn(rf"\b{re.escape(name)}=[^\s\"]+", f"{name}={value}", script)
        assert count, f"{page} has no {name}"
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={
            **os.environ,
            "ASR_SHARED": str(shared),
            "PYTHONPATH": str(ROOT),
            "PATH": path,
        },
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
