"""From the configuration of an acoustic model to its trainer: data, network, initial weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from asr.config import to_dict
from asr.data.manifest import write_manifest
from asr.data.shards import shard_numbers
from asr.errors import ConfigError
from asr.features import FeatureConfig
from asr.files import replacing
from asr.models.acoustic import AcousticModel
from asr.text.vocabulary import Vocabulary
from asr.train.acoustic import AcousticTask
from asr.train.checkpoint import MODEL_FILE
from asr.train.config import TrainingConfig
from asr.train.crf import UnitTrigram
from asr.train.data import (
    input_files,
    make_datasets,
    read_splits,
    shard_reader,
    usable_utterances,
    with_statistics,
)
from asr.train.device import choose_device
from asr.train.distributed import Processes
from asr.train.log import RunLog
from asr.train.loop import Trainer
from asr.train.network import check_context, make_model, make_targets
from asr.train.runs import check_run, digests
from asr.train.transfer import sources, start_from
from asr.types import Utterance


def make_trainer(config: TrainingConfig) -> Trainer:
    """Read the data, build the network, and give it its initial weights. Nothing is written.

    Raises ConfigError, ManifestError or TrainingError before any time is spent on training.
    """
    _check(config)
    run = Path(config.run)
    processes = Processes(choose_device(config.trainer))
    log = RunLog(run, processes.is_main)
    splits = read_splits(config.data)
    targets = {n: make_targets(h, [u.text for u in splits[0]]) for n, h in config.heads.items()}
    vocabularies = {name: target.vocabulary for name, target in targets.items()}
    primary = next(iter(vocabularies.values()))
    inputs = digests(input_files(config))
    resumes = check_run(run, config, primary.symbols, inputs)

    init = sources(config.trainer.init) if config.trainer.init and not resumes else []
    for source in init:
        source.check(config.features, config.model)
    train, dev = (
        usable_utterances(config, targets, split, utterances, log.info)
        for split, utterances in zip(("train", "dev"), splits, strict=True)
    )
    reader = shard_reader(config)
    known = next((source.features for source in init if source.features is not None), None)
    features = with_statistics(config, train, reader, known)
    datasets = make_datasets(config, features, targets, train, dev, reader)

    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    torch.manual_seed(config.trainer.seed)
    model = make_model(config, {name: len(v) for name, v in vocabularies.items()})
    check_context(model, config.trainer)
    if init:
        log.info(start_from(init, model, vocabularies))

    def write() -> None:
        _write_description(config, features, vocabularies, model)
        if not config.data.dev and shard_numbers(splits[0]) is None:
            for name, part in zip(("train", "dev"), splits, strict=True):
                write_manifest(run / f"{name}.jsonl", part)

    task = AcousticTask(
        config,
        model,
        primary,
        *datasets,
        lengths=(_rows(train, features), _rows(dev, features)),
        trigrams={
            name: UnitTrigram((spell(u.text) or () for u in train), len(spell.vocabulary))
            for name, spell in targets.items()
            if config.heads[name].criterion == "ctc_crf"
        },
        inputs=inputs,
        processes=processes,
        write=write,
    )
    return Trainer(task, config, log)


def _rows(utterances: list[Utterance], features: FeatureConfig) -> list[int]:
    return [features.n_rows(utterance.duration) for utterance in utterances]


def _check(config: TrainingConfig) -> None:
    """Raise ConfigError for settings that contradict each other."""
    if not config.heads:
        raise ConfigError("no heads: nothing would be trained", "set heads.characters.weight=1")
    augment = config.augment
    if config.loss.consistency and not (augment.time_masks or augment.frequency_masks):
        raise ConfigError(
            "loss.consistency compares two masked views, and augment has no masks",
            "set augment.time_masks and augment.frequency_masks, or loss.consistency=0",
        )


def _write_description(
    config: TrainingConfig,
    features: FeatureConfig,
    vocabularies: dict[str, Vocabulary],
    model: AcousticModel,
) -> None:
    description = {
        "features": to_dict(features),
        "model": to_dict(config.model),
        "heads": {
            name: {
                "layer": head.layer or config.model.layers,
                "weight": head.weight,
                "kind": vocabularies[name].kind,
                "symbols": list(vocabularies[name].symbols),
                "config": to_dict(model.head_configs[name]),
            }
            for name, head in config.heads.items()
        },
        "training": to_dict(config),
    }
    with replacing(Path(config.run) / MODEL_FILE) as temporary:
        temporary.write_text(json.dumps(description, indent=1), encoding="utf-8")
