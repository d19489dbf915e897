"""Two processes on halves of a batch are one process on the whole of it, dead or alive.

Run by itself under torchrun, this file is the worker: it writes what it computed, or it trains and
kills one of its processes on the way.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from asr.train import checkpoint  # noqa: E402
from asr.train.device import Processes  # noqa: E402


def example(rank: int | None) -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    layer, inputs = torch.nn.Linear(3, 2), torch.randn(6, 3)
    halves = {None: inputs, 0: inputs[:4], 1: inputs[4:]}
    return layer, halves[rank]


def gradients(layer: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    if len(inputs):
        layer(inputs).pow(2).sum().backward()
    return torch.tensor([float(len(inputs))])


def worker(output: Path) -> None:
    processes = Processes(torch.device("cpu"))
    layer, inputs = example(processes.rank)
    extra = processes.sum_gradients(layer.parameters(), gradients(layer, inputs))
    lonely, _ = example(processes.rank)  # one process without a batch
    count = gradients(lonely, inputs if processes.is_main else inputs[:0])
    processes.sum_gradients(lonely.parameters(), count)
    result = {
        "gradients": [p.grad.tolist() for p in layer.parameters()],
        "extra": extra.tolist(),
        "lonely": [p.grad.tolist() for p in lonely.parameters()],
    }
    (output / f"{processes.rank}.json").write_text(json.dumps(result))
    processes.wait()
    processes.close()


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*command, "--nproc-per-node", "2", "--max-restarts", "1", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_gradients_add_up(tmp_path):
    done = torchrun(__file__, tmp_path)
    assert done.returncode == 0, done.stderr
    layer, inputs = example(None)
    gradients(layer, inputs)
    _, first_half = example(0)
    lonely, _ = example(0)
    gradients(lonely, first_half)
    for rank in range(2):
        result = json.loads((tmp_path / f"{rank}.json").read_text())
        assert result["extra"] == [6.0]
        for name, module in (("gradients", layer), ("lonely", lonely)):
            for found, parameter in zip(result[name], module.parameters(), strict=True):
                torch.testing.assert_close(torch.tensor(found), parameter.grad)


@pytest.mark.slow
def test_a_run_of_two_processes_learns_and_sees_every_utterance(tones, tmp_path):
    run = tmp_path / "run"
    done = torchrun(
        "-m",
        "asr",
        "train",
        f"run={run}",
        f"data.train=[{tones}]",
        f"data.dev=[{tones}]",
        "data.batch_frames=60",
        "features.n_mels=20",
        "model.hidden_size=24",
        "model.layers=1",
        "trainer.epochs=12",
        "trainer.masks_from=99",
        "trainer.ema=0.9",
        "trainer.log_steps=1",
        "trainer.device=cpu",
        "optimizer.learning_rate=0.02",
        "optimizer.warmup_steps=5",
        "augment=none",
    )
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    dev = [record["cer"] for record in records if record["kind"] == "dev"]
    assert len(dev) == 12
    assert dev[-1] < 0.5 * dev[0]
    assert (run / "best.safetensors").exists()
    assert (run / "curves.png").exists()


def overrides(run: Path, tones: Path, **more: object) -> list[str]:
    settings = {
        "run": run,
        "data.train": f"[{tones}]",
        "data.dev": f"[{tones}]",
        "data.batch_frames": 60,
        "features.n_mels": 20,
        "model.hidden_size": 24,
        "model.layers": 1,
        "model.dropout": 0.0,
        "trainer.device": "cpu",
        "trainer.epochs": 1,
        "optimizer": "sgd",
        "optimizer.learning_rate": 0.1,
    }
    return [f"{key}={value}" for key, value in (settings | more).items()]


@pytest.fixture(scope="module")
def alone(tones, tmp_path_factory) -> dict[str, torch.Tensor]:
    """What one process learns that joins the batches of two in each step."""
    from asr.cli.train import compose
    from asr.train.setup import make_trainer

    run = tmp_path_factory.mktemp("alone")
    make_trainer(compose(overrides(run, tones, **{"optimizer.accumulate": 2}))).fit()
    return checkpoint.load_weights(run / checkpoint.LAST)


def assert_close(run: Path, expected: dict[str, torch.Tensor]) -> None:
    found = checkpoint.load_weights(run / checkpoint.LAST)
    for name, tensor in expected.items():
        torch.testing.assert_close(tensor, found[name], atol=1e-5, rtol=0)


@pytest.mark.slow
def test_two_processes_train_like_one(tones, alone, tmp_path):
    done = torchrun("-m", "asr", "train", *overrides(tmp_path / "two", tones))
    assert done.returncode == 0, done.stderr
    assert_close(tmp_path / "two", alone)


@pytest.mark.slow
def test_a_killed_process_comes_back_and_nothing_is_heard_twice_or_missed(tones, alone, tmp_path):
    run = tmp_path / "run"
    more = {"trainer.checkpoint_minutes": 0.0}
    done = torchrun(__file__, tmp_path / "killed", *overrides(run, tones, **more))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "killed").exists()
    assert "resumed at epoch 1, step 1" in done.stderr
    assert_close(run, alone)


def train_and_die(mark: Path, settings: list[str]) -> None:
    """Train; the second process dies in its second step, once, and leaves a mark."""
    from asr.cli.train import compose
    from asr.train.setup import make_trainer

    trainer = make_trainer(compose(settings))
    update = trainer.update

    def dying(*arguments):
        if trainer.state.step == 1 and not trainer.processes.is_main and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return update(*arguments)

    trainer.update = dying
    trainer.fit()


def test_alone_nothing_is_sent(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes = Processes(torch.device("cpu"))
    layer, inputs = example(None)
    count = gradients(layer, inputs)
    before = [p.grad.clone() for p in layer.parameters()]
    assert processes.is_main
    assert torch.equal(processes.sum_gradients(layer.parameters(), count), count)
    assert all(torch.equal(b, p.grad) for b, p in zip(before, layer.parameters(), strict=True))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        worker(Path(sys.argv[1]))
    else:
        train_and_die(Path(sys.argv[1]), sys.argv[2:])
