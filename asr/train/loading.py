"""Batches for the loop: which utterances when, and by which processes they are prepared."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader

from asr.data.dataset import SpeechDataset, collate
from asr.data.sampler import BucketSampler
from asr.data.shards import ShardSampler, shard_numbers
from asr.train.config import TrainingConfig
from asr.train.distributed import Processes


def make_sampler(
    config: TrainingConfig,
    dataset: SpeechDataset,
    lengths: list[int],
    processes: Processes,
    *,
    shuffle: bool,
) -> BucketSampler:
    """Batches of utterances that are `lengths` feature rows long, for one process of several."""
    data = config.data
    options: dict[str, Any] = {
        "max_utterances": data.batch_utterances,
        "seed": config.trainer.seed,
        "shuffle": shuffle,
        "sorted_first_epoch": data.sorted_first_epoch,
        "rank": processes.rank,
        "world_size": processes.world_size,
    }
    shards = shard_numbers(dataset.utterances)
    if shards is None:
        return BucketSampler(lengths, data.batch_frames, **options)
    member = dict(zip(shards, dataset.utterances, strict=True))
    reader = dataset.reader
    assert reader is not None

    def fetch(numbers: list[int]) -> None:
        reader.fetch(member[number] for number in numbers)

    return ShardSampler(
        lengths,
        data.batch_frames,
        shards=shards,
        window=data.shuffle_shards,
        fetch=fetch,
        **options,
    )


def make_loader(
    config: TrainingConfig, dataset: SpeechDataset, sampler: BucketSampler, device: torch.device
) -> DataLoader:
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=config.data.workers,
        persistent_workers=config.data.workers > 0,
        pin_memory=device.type == "cuda",
        collate_fn=partial(collate, heads=list(config.heads)),
    )
