"""From settings to data: utterances, feature statistics, data sets and batches."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from asr.data.augment import Augmenter
from asr.data.codes import TeacherCodes
from asr.data.dataset import SpeechDataset, Targets, collate, feature_statistics, usable
from asr.data.manifest import hold_out, read_audio, read_manifest
from asr.data.sampler import BucketSampler
from asr.data.shards import ShardReader, ShardSampler, is_index, read_index, shard_numbers
from asr.errors import ConfigError, TrainingError
from asr.features import FeatureConfig
from asr.text.languages import normalizer
from asr.train.checkpoint import LAST, MODEL_FILE
from asr.train.config import DataConfig, TrainingConfig
from asr.train.device import Processes
from asr.types import Utterance


def read_splits(data: DataConfig) -> tuple[list[Utterance], list[Utterance]]:
    """The utterances to train on and those to evaluate on."""
    if not data.train:
        raise ConfigError("data.train names no manifest", "data.train=[FILE.jsonl]")
    train = _read(data, data.train)
    if data.dev:
        return train, _read(data, data.dev)
    if not data.hold_out:
        raise ConfigError(
            "data.dev names no manifest", "data.dev=[FILE.jsonl], or data.hold_out=0.1 of train"
        )
    return hold_out(train, data.hold_out, data.hold_out_by)


def _read(data: DataConfig, manifests: Iterable[str]) -> list[Utterance]:
    utterances = [
        u for m in manifests for u in (read_index(m) if is_index(m) else read_manifest(m))
    ]
    if not data.language:
        return utterances
    spell_out = normalizer(data.language)
    return [replace(u, text=spell_out(u.text)) for u in utterances]


def input_files(config: TrainingConfig) -> Iterator[str | None]:
    """The files that a run learns from."""
    data = config.data
    yield from (*data.train, *data.dev, data.noises, data.rooms)
    yield from (head.lexicon for head in config.heads.values())
    yield from config.teacher.codes


def usable_utterances(
    config: TrainingConfig,
    targets: Mapping[str, Targets],
    split: str,
    utterances: list[Utterance],
    info: Callable[[str], None],
) -> list[Utterance]:
    """Those that can be trained on; `info` reports how many are excluded, and why.

    Raises ManifestError if none is left.
    """
    kept, reasons = usable(
        utterances,
        targets,
        config.features,
        subsampling=max(
            config.model.rate(h.layer or config.model.layers) for h in config.heads.values()
        ),
        min_duration=config.data.min_duration,
        max_duration=config.data.max_duration,
        fastest=max(config.augment.speeds) if split == "train" else 1.0,
    )
    hours = sum(u.duration for u in kept) / 3600
    info(f"{split}: {len(kept)} utterances, {hours:.2f} h")
    for reason, count in reasons.most_common():
        info(f"  left out {count}: {reason}")
    return kept


def with_statistics(
    config: TrainingConfig, train: list[Utterance], reader: ShardReader, known: FeatureConfig | None
) -> FeatureConfig:
    """The feature settings with mean and deviation of the training set, measured once per run.

    `known`: those that the weights to start from were trained with.
    """
    if config.features.mean is not None:
        return config.features
    run = Path(config.run)
    if (run / LAST).exists() and (run / MODEL_FILE).exists():
        mean, std = _statistics_of(run)
    elif known is not None:
        return known
    else:
        single = replace(config.features, stack=1, stride=1, mean=None, std=None)
        shards = shard_numbers(train)
        if shards is not None:  # a few are enough, and all of them may be far away
            near = config.data.shuffle_shards
            train = [u for u, shard in zip(train, shards, strict=True) if shard < near]
        mean, std = feature_statistics(SpeechDataset(train, {}, single, reader=reader))
    return replace(config.features, mean=mean, std=std)


def _statistics_of(run: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    try:
        features = json.loads((run / MODEL_FILE).read_text(encoding="utf-8"))["features"]
        return tuple(features["mean"]), tuple(features["std"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{run / MODEL_FILE}: damaged ({error!r})", "remove it: it will be written again"
        ) from error


def make_datasets(
    config: TrainingConfig,
    features: FeatureConfig,
    targets: Mapping[str, Targets],
    train: list[Utterance],
    dev: list[Utterance],
    reader: ShardReader,
    codes: TeacherCodes | None = None,
) -> tuple[SpeechDataset, SpeechDataset]:
    """The training set with its augmentation, and the dev set."""
    cache = config.data.cache
    augmenter = Augmenter(
        config.augment,
        features,
        noises=_waveforms(config.data.noises, features.sample_rate),
        rooms=_waveforms(config.data.rooms, features.sample_rate),
    )
    train_set = SpeechDataset(
        train,
        targets,
        features,
        augmenter,
        masks_from=config.trainer.masks_from,
        views=2 if config.loss.consistency else 1,
        seed=config.trainer.seed,
        cache=cache,
        reader=reader,
        codes=codes,
    )
    return train_set, SpeechDataset(dev, targets, features, cache=cache, reader=reader)


def shard_reader(config: TrainingConfig) -> ShardReader:
    folder = Path(config.data.spool or Path(config.run) / "shards")
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # For each process what it reads now and what it reads next, of train and of dev.
    return ShardReader(folder, keep=4 * config.data.shuffle_shards * processes)


def _waveforms(manifest: str | None, sample_rate: int) -> list[np.ndarray]:
    if manifest is None:
        return []
    return [read_audio(u, sample_rate) for u in read_manifest(manifest)]


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
