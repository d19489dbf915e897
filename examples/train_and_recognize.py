"""A model from a folder of recordings with a .txt beside each, and what it recognises in another:

python examples/train_and_recognize.py my-recordings new-recordings

Runs the commands of docs/train-your-own.md. Needs the extras `train` and `data`.
"""

import subprocess
import sys
from pathlib import Path

import asr
from asr.packaging.bundle import bundled
from asr.vad import VadConfig


def run(*command: str) -> None:
    print("+", *command)
    subprocess.run([sys.executable, "-m", *command], check=True)


recordings, new, *changes = sys.argv[1:]
data = "corpora/mine/folder/train.jsonl"
run("data_prep", "folder", "--from-folder", recordings, "--to", "corpora/mine")
run(
    *["asr", "train", f"trainer.init={bundled()}", "model=blstm_4x256", "run=runs/mine"],
    *[
        f"data.train=[{data}]",
        f"data.dev=[{data}]",
        "optimizer.warmup_steps=10",
        "trainer.epochs=8",
    ],
    *changes,  # such as trainer.epochs=4
)
run("asr", "lm", "train", data, "--order", "2", "--output", "runs/mine/lm.bin")
run(
    *["asr", "export", "runs/mine", "models/mine", "--lm", "runs/mine/lm.bin"],
    *["--decoder", '{"closed": true}'],
)
recognizer = asr.load("models/mine", vad=VadConfig(detector="none"))
for path in sorted(Path(new).glob("*.wav")):
    print(f"{path.name}: {recognizer.transcribe(path).text}")
