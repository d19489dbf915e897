"""Training on two nodes with shards in a store: one node is killed, another takes its place."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from asr.data.manifest import read_manifest  # noqa: E402
from asr.train import checkpoint  # noqa: E402
from data_prep.shard import shard  # noqa: E402


@pytest.fixture
def index(tones, store):
    """The twelve recordings in a store, in shards of three."""
    utterances = [
        dataclasses.replace(u, extra={"id": str(i)}) for i, u in enumerate(read_manifest(tones))
    ]
    return shard(utterances, f"{store}/elastic", "train", max_bytes=60_000)


def node(run: Path, index: str, port: int, is_host: int, dies: bool) -> subprocess.Popen[bytes]:
    """The command of docs/training.md that starts training on a node; `dies`: in its fourth step,
    with all its processes."""
    torchrun = [
        *("--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "3"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "1"),
        *("--rdzv-conf", f"is_host={is_host},keep_alive_interval=1,keep_alive_max_attempt=2"),
    ]
    settings = [
        f"run={run}",
        f"data.train=[{index}]",
        f"data.dev=[{index}]",
        "data.batch_frames=60",
        "data.shuffle_shards=1",
        "features.n_mels=20",
        "model.hidden_size=24",
        "model.layers=1",
        "model.dropout=0.0",
        "augment=none",
        "trainer.device=cpu",
        "trainer.epochs=2",
        "trainer.checkpoint_minutes=0.0",
        "optimizer=sgd",
        "optimizer.learning_rate=0.1",
    ]
    program = [__file__] if dies else ["-m", "asr", "train"]
    command = [sys.executable, "-m", "torch.distributed.run", *torchrun, *program]
    run.mkdir(parents=True, exist_ok=True)
    with (run / f"node{is_host}.log").open("ab") as log:
        return subprocess.Popen(
            [*command, *settings],
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
            },
            stdout=log,
            stderr=log,
            start_new_session=True,  # so that its processes die with it
        )


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def train(run: Path, index: str, dies: bool) -> str:
    """Train on two nodes; if the second `dies`, another is started. What they have reported."""
    port = free_port()
    nodes = [node(run, index, port, is_host=1, dies=False)]
    try:
        nodes.append(node(run, index, port, is_host=0, dies=dies))
        if dies:
            assert nodes[1].wait(180) == -signal.SIGKILL
            nodes[1] = node(run, index, port, is_host=0, dies=False)
        for one in nodes:
            assert one.wait(180) == 0, (run / "node0.log").read_text()
        return "".join((run / f"node{i}.log").read_text() for i in range(2))
    finally:
        for one in nodes:
            if one.poll() is None:
                os.killpg(one.pid, signal.SIGKILL)
                one.wait()


def train_and_die(settings: list[str]) -> None:
    """Train, and end this node in the fourth step."""
    from asr.cli.train import compose
    from asr.train.setup import make_trainer

    trainer = make_trainer(compose(settings))
    update = trainer.update

    def dying(*arguments):
        if trainer.state.step == 3:
            os.kill(os.getppid(), signal.SIGKILL)  # torchrun
            os.kill(os.getpid(), signal.SIGKILL)
        return update(*arguments)

    trainer.update = dying
    trainer.fit()


@pytest.mark.slow
def test_a_lost_node_is_replaced_and_changes_nothing(index, tmp_path):
    train(tmp_path / "whole", index, dies=False)
    assert "resumed at epoch 1, step" in train(tmp_path / "killed", index, dies=True)
    whole, killed = (
        checkpoint.load_weights(tmp_path / name / checkpoint.LAST) for name in ("whole", "killed")
    )
    for name, tensor in whole.items():
        torch.testing.assert_close(tensor, killed[name], atol=1e-5, rtol=0)


if __name__ == "__main__":
    train_and_die(sys.argv[1:])
