"""What a second node brings, and what the cluster itself costs.

    python benchmarks/cluster.py --rounds 3             a quarter of an hour on two cores

Transcribes the same recordings by plain `asr transcribe` with one job and with two, on a Ray
cluster of one node with one core, and on one of two, by turns. Each is timed with few and with many
recordings; the difference is the work without the start of processes, which is shown by itself.
Figures are medians over the rounds, ratios those within a round. What two jobs gain over one is
what the second core of this machine is worth. Then the first process's share: CPU time for each
batch, measured with batches that hold no work.
"""

from __future__ import annotations

import argparse
import functools
import operator
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from transcribe import write_recording

NODE = {"num_cpus": 1, "object_store_memory": 200 << 20}


@dataclass(frozen=True)
class Run:
    """Seconds on the clock for few and for many recordings."""

    few: float
    many: float

    @property
    def work(self) -> float:
        """Seconds for those that `many` has more."""
        return self.many - self.few


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a recording")
    parser.add_argument("--recordings", type=int, default=20, help="of the shorter run")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    n, seconds = arguments.recordings, arguments.seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, count in (("few", n), ("many", 3 * n)):
            for i in range(count):
                path = folder / part / f"{i:04d}.flac"
                path.parent.mkdir(exist_ok=True)
                write_recording(path, seconds + i % 7)
        transcribe(folder, "few", [])  # reads from the disk what later runs have in memory
        rounds = []
        for number in range(arguments.rounds):
            rounds.append([plain(1, folder), plain(2, folder), nodes(1, folder), nodes(2, folder)])
            print(f"round {number + 1}: {rounds[-1]}", file=sys.stderr, flush=True)
    audio = sum(seconds + i % 7 for i in range(3 * n)) - sum(seconds + i % 7 for i in range(n))
    report(rounds, audio)
    print(f"{driver_seconds() * 1000:.1f} ms of the first process for each batch")


def plain(jobs: int, folder: Path) -> Run:
    options = ["--jobs", str(jobs), "--threads", str(jobs)]
    return Run(*(transcribe(folder, part, options) for part in ("few", "many")))


def nodes(count: int, folder: Path) -> Run:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    for _ in range(count - 1):
        cluster.add_node(**NODE)
    try:
        options = ["--cluster", cluster.address]
        return Run(*(transcribe(folder, part, options) for part in ("few", "many")))
    finally:
        cluster.shutdown()


def report(rounds: Sequence[Sequence[Run]], audio: float) -> None:
    """`rounds`: the four ways of each; `audio`: seconds that `Run.work` transcribes."""
    titles = ["asr transcribe --jobs 1", "asr transcribe --jobs 2"]
    titles += ["cluster, 1 x 1 core", "cluster, 2 x 1 core"]
    print(f"{'':26} {'few':>8} {'many':>8} {'speed':>17} {'start':>7}")
    for title, runs in zip(titles, zip(*rounds, strict=True), strict=True):
        few, many = median(run.few for run in runs), median(run.many for run in runs)
        speed = median(audio / run.work for run in runs)
        start = median(run.few - run.work / 2 for run in runs)
        print(f"{title:26} {few:6.1f} s {many:6.1f} s {speed:6.1f}x real time {start:5.1f} s")
    for title, slower, faster in (
        ("two jobs against one", 0, 1),
        ("two nodes against one", 2, 3),
        ("one node against one job", 0, 2),
        ("two nodes against two jobs", 1, 3),
    ):
        ratio = median(each[slower].work / each[faster].work for each in rounds)
        print(f"{title:26} {ratio:5.2f} times as fast")


def driver_seconds(n: int = 300) -> float:
    from asr import cluster

    nothing = functools.partial(operator.attrgetter, "real")  # nodes import it by name
    with cluster.connected(cluster.LOCAL):
        list(cluster.run([[0]], nothing))  # starts processes
        began = time.process_time()
        assert len(list(cluster.run(([i] for i in range(n)), nothing))) == n
        return (time.process_time() - began) / n


def transcribe(folder: Path, name: str, options: list[str]) -> float:
    """Seconds on the clock."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        command = [sys.executable, "-m", "asr", "transcribe", str(folder / name), "-o", out]
        began = time.perf_counter()
        subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
