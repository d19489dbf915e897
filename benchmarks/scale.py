"""How long an archive takes on 2 to 10,000 cores, by simulation.

    python benchmarks/scale.py                          100,000 hours
    python benchmarks/scale.py --hours 1000 --price 0.02

Batches are handed to cores in order, as `asr transcribe --cluster` does it, by one process that
takes `--driver` seconds for each. Their service times are those of recordings of log-normal length
at the measured speed of a core; some are stragglers, and cores are lost with what they work on and
come back. All defaults are measured (docs/scale.md) but stragglers and losses, which are guesses.
"""

from __future__ import annotations

import argparse
import heapq

import numpy as np

SPEED = 85.0  # an hour in 21 s on two cores: README.md
DRIVER = 0.012  # benchmarks/cluster.py
CORES = (2, 10, 100, 1000, 3000, 10_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=100_000.0, help="of audio")
    parser.add_argument("--minutes", type=float, default=15.0, help="of audio in a batch, median")
    parser.add_argument("--spread", type=float, default=0.5, help="sigma of the log of that")
    parser.add_argument("--speed", type=float, default=SPEED, help="times real time of a core")
    parser.add_argument("--driver", type=float, default=DRIVER, help="seconds for each batch")
    parser.add_argument("--start", type=float, default=30.0, help="seconds until work begins")
    parser.add_argument("--stragglers", type=float, default=0.01, help="share, three times slower")
    parser.add_argument("--losses", type=float, default=0.01, help="of a core, each hour")
    parser.add_argument("--back", type=float, default=120.0, help="seconds until it is back")
    parser.add_argument("--price", type=float, default=0.02, help="of a core for an hour")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    mean = 60 * arguments.minutes * np.exp(arguments.spread**2 / 2)
    n = max(1, round(3600 * arguments.hours / mean))
    audio = rng.lognormal(np.log(60 * arguments.minutes), arguments.spread, n)
    work = audio * (3600 * arguments.hours / audio.sum()) / arguments.speed
    work[rng.random(n) < arguments.stragglers] *= 3
    print(f"{arguments.hours:,.0f} h in {n:,} batches, {work.sum() / 3600:,.0f} core hours")
    print(f"{'cores':>7} {'hours':>9} {'busy':>7} {'lost':>6} {'price':>10}")
    for cores in CORES:
        seconds, lost = makespan(work, cores, arguments, rng)
        busy = work.sum() / (cores * seconds)
        price = cores * seconds / 3600 * arguments.price
        print(f"{cores:7,} {seconds / 3600:9.2f} {busy:7.1%} {lost:6} {price:10,.2f}")


def makespan(
    work: np.ndarray, cores: int, arguments: argparse.Namespace, rng: np.random.Generator
) -> tuple[float, int]:
    """Seconds until the last batch is done, and how many batches were lost on the way."""
    free = [arguments.start] * cores  # when each core is
    driver = 0.0  # when the first process is free
    end, lost = 0.0, 0
    waiting = list(work[::-1])
    while waiting:
        seconds = waiting.pop()
        begin = max(heapq.heappop(free), driver)
        driver = begin + arguments.driver
        if rng.random() < arguments.losses * seconds / 3600:
            lost += 1
            waiting.append(seconds)
            heapq.heappush(free, begin + rng.random() * seconds + arguments.back)
            continue
        end = max(end, begin + seconds)
        heapq.heappush(free, begin + seconds)
    return end, lost


if __name__ == "__main__":
    main()
