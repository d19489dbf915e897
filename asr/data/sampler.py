"""Batches of utterances of similar length, a function of (seed, epoch) alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np

from asr.errors import ConfigError


class BucketSampler:
    """Length-bucketed batches, split over processes, that can start in the middle of an epoch.

    Utterances are sorted by a slightly blurred length and cut into batches whose padded size,
    (longest utterance) x (utterances), stays within `max_frames`. The batches that the processes
    take at the same step are neighbours in length, so that none waits for another. The order of
    the steps is shuffled; in the first epoch it is shortest first if `sorted_first_epoch`
    (SortaGrad, Amodei et al. 2016).

    Yields lists of (epoch, index), which is all that a dataset needs to make an example.

    >>> sampler = BucketSampler([3, 9, 4, 8], max_frames=20, shuffle=False)
    >>> list(sampler)
    [[(0, 0), (0, 2)], [(0, 3), (0, 1)]]
    """

    BLUR = 0.1

    def __init__(
        self,
        lengths: Sequence[int],
        max_frames: int,
        *,
        max_utterances: int = 1_000_000,
        seed: int = 0,
        shuffle: bool = True,
        sorted_first_epoch: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ):
        longest = max(lengths, default=0)
        if longest > max_frames:
            raise ConfigError(
                f"an utterance of {longest} frames does not fit into a batch of {max_frames}",
                "raise data.batch_frames or lower data.max_duration",
            )
        self.epoch = 0
        self.start = 0  # steps of this epoch that are already done
        self._lengths = np.asarray(lengths, np.int64)
        self._max_frames, self._max_utterances = max_frames, max_utterances
        self._seed, self._shuffle = seed, shuffle
        self._sorted_first_epoch = sorted_first_epoch
        self._rank, self._world_size = rank, world_size
        self._planned: tuple[int, list[list[np.ndarray]]] | None = None  # epoch, steps

    def for_one_process(self) -> BucketSampler:
        """The same batches, all of them for one process."""
        alone = copy.copy(self)
        alone._rank, alone._world_size, alone._planned = 0, 1, None
        return alone

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Say which epoch comes next, and how many of its steps to leave out."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return len(self._steps())

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in self._steps()[self.start :]:
            yield [(self.epoch, int(index)) for index in step[self._rank]]

    def padding(self) -> float:
        """The share of frames in this epoch that are padding."""
        batches = [batch for step in self._steps() for batch in step if len(batch)]
        padded = sum(self._lengths[b].max() * len(b) for b in batches)
        return 1 - sum(self._lengths[b].sum() for b in batches) / padded if padded else 0.0

    def largest(self) -> tuple[int, int]:
        """Utterances and frames of the batch of this epoch that is largest with its padding."""
        batches = [step[self._rank] for step in self._steps()]
        sizes = [(len(b), int(self._lengths[b].max())) for b in batches if len(b)]
        return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))

    def _steps(self) -> list[list[np.ndarray]]:
        """For each step, one batch of indices a process. The last steps may leave some without."""
        if self._planned is None or self._planned[0] != self.epoch:
            self._planned = self.epoch, self._plan()
        return self._planned[1]

    def _plan(self) -> list[list[np.ndarray]]:
        rng = np.random.default_rng([self._seed, self.epoch])
        batches = self._cut(self._by_length(np.arange(len(self._lengths)), rng))
        world = self._world_size
        batches += [np.zeros(0, np.int64)] * (-len(batches) % world)
        steps = [batches[i : i + world] for i in range(0, len(batches), world)]
        if self._shuffle and not (self._sorted_first_epoch and self.epoch == 0):
            steps = [steps[i] for i in rng.permutation(len(steps))]
        return steps

    def _by_length(self, indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Shortest first, by a length that is blurred if there is any shuffling."""
        key = self._lengths[indices].astype(np.float64)
        if self._shuffle:
            key *= rng.uniform(1 - self.BLUR, 1 + self.BLUR, len(key))
        return indices[np.argsort(key, kind="stable")]

    def _cut(self, order: np.ndarray) -> list[np.ndarray]:
        batches: list[np.ndarray] = []
        first, longest = 0, 0
        for position, index in enumerate(order):
            longest = max(longest, int(self._lengths[index]))
            count = position - first + 1
            if count > 1 and (longest * count > self._max_frames or count > self._max_utterances):
                batches.append(order[first:position])
                first, longest = position, int(self._lengths[index])
        if first < len(order):
            batches.append(order[first:])
        return batches
