"""What a second node brings, and what the cluster itself costs.

    python benchmarks/cluster.py                        about four minutes on two cores

Transcribes the same recordings by plain `asr transcribe --jobs 2`, on a Ray cluster of one node
with one core, and on one of two. Each is timed with few and with many recordings; the difference is
the work without the start of processes, which is shown by itself. Then the first process's share:
CPU time for each batch, measured with batches that hold no work.
"""

from __future__ import annotations

import argparse
import functools
import operator
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from transcribe import write_recording

NODE = {"num_cpus": 1, "object_store_memory": 200 << 20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a recording")
    parser.add_argument("--recordings", type=int, default=20, help="of the shorter run")
    arguments = parser.parse_args()
    n, seconds = arguments.recordings, arguments.seconds
    with tempfile.TemporaryDirectory() as folder:
        for name, count in (("few", n), ("many", 3 * n)):
            for i in range(count):
                path = Path(folder, name, f"{i:04d}.flac")
                path.parent.mkdir(exist_ok=True)
                write_recording(path, seconds + i % 7)
        columns = f"{'few':>8} {'many':>8} {'speed':>17} {'start':>7}"
        print(f"{'':26} {columns}", flush=True)
        report("asr transcribe --jobs 2", folder, n, seconds, ["--jobs", "2", "--threads", "2"])
        for nodes in (1, 2):
            on_nodes(nodes, folder, n, seconds)
    print(f"{driver_seconds() * 1000:.1f} ms of the first process for each batch")


def driver_seconds(n: int = 300) -> float:
    from asr import cluster

    nothing = functools.partial(operator.attrgetter, "real")  # nodes import it by name
    with cluster.connected(cluster.LOCAL):
        list(cluster.run([[0]], nothing))  # starts processes
        began = time.process_time()
        assert len(list(cluster.run(([i] for i in range(n)), nothing))) == n
        return (time.process_time() - began) / n


def on_nodes(nodes: int, folder: str, n: int, seconds: float) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    for _ in range(nodes - 1):
        cluster.add_node(**NODE)
    try:
        title = f"cluster, {nodes} x 1 core"
        report(title, folder, n, seconds, ["--cluster", cluster.address])
    finally:
        cluster.shutdown()


def report(title: str, folder: str, n: int, seconds: float, options: list[str]) -> None:
    few, many = (transcribe(Path(folder), name, options) for name in ("few", "many"))
    work = many - few
    audio = sum(seconds + i % 7 for i in range(3 * n)) - sum(seconds + i % 7 for i in range(n))
    print(
        f"{title:26} {few:6.1f} s {many:6.1f} s {audio / work:6.1f}x real time"
        f" {few - work / 2:5.1f} s",
        flush=True,
    )


def transcribe(folder: Path, name: str, options: list[str]) -> float:
    """Seconds on the clock."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        command = [sys.executable, "-m", "asr", "transcribe", str(folder / name), "-o", out]
        began = time.perf_counter()
        subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
