"""From a configuration to a trainer: manifests, vocabularies, statistics, network."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from asr.config import to_dict
from asr.data.augment import Augmenter
from asr.data.dataset import SpeechDataset, feature_statistics, usable
from asr.data.manifest import hold_out, read_audio, read_manifest, write_manifest
from asr.data.shards import ShardReader, is_index, read_index, shard_numbers
from asr.errors import ConfigError
from asr.features import FeatureConfig
from asr.files import replacing
from asr.models.acoustic import AcousticModel, HeadConfig
from asr.text.korean import JAMO
from asr.text.languages import normalizer
from asr.text.normalize import normalize
from asr.text.phones import TIMIT_61, read_lexicon
from asr.text.pieces import train_pieces
from asr.text.targets import Pronunciation, Spelling, Targets
from asr.text.vocabulary import Vocabulary
from asr.train.checkpoint import LAST, MODEL_FILE
from asr.train.config import DataConfig, HeadSettings, TrainingConfig
from asr.train.crf import UnitTrigram
from asr.train.device import choose_device
from asr.train.loop import MAY_CHANGE, Trainer
from asr.train.runs import check_run, digests
from asr.train.transfer import Source, sources, start_from
from asr.types import Utterance


def make_trainer(config: TrainingConfig) -> Trainer:
    """Read the data, count what is left out, and build the network.

    Raises ConfigError or ManifestError before any time is spent on training.
    """
    if not config.heads:
        raise ConfigError("no heads: nothing would be trained", "set heads.characters.weight=1")
    augment = config.augment
    if config.loss.consistency and not (augment.time_masks or augment.frequency_masks):
        raise ConfigError(
            "loss.consistency compares two masked views, and augment has no masks",
            "set augment.time_masks and augment.frequency_masks, or loss.consistency=0",
        )
    choose_device(config.trainer)
    splits = read_splits(config.data)
    texts = [u.text for u in splits[0]]
    targets = {name: make_targets(head, texts) for name, head in config.heads.items()}
    vocabularies = {name: target.vocabulary for name, target in targets.items()}
    primary = next(iter(vocabularies.values()))
    inputs = digests(_inputs(config))
    check_run(Path(config.run), config, primary.symbols, inputs, MAY_CHANGE)
    train, dev = (
        _usable(config, targets, split, utterances)
        for split, utterances in zip(("train", "dev"), splits, strict=True)
    )
    reader = _shard_reader(config)
    begins = config.trainer.init is not None and not (Path(config.run) / LAST).exists()
    chosen = sources(config.trainer.init or ()) if begins else []
    for source in chosen:
        source.check(config.features, config.model)
    known = next((source for source in chosen if source.features is not None), None)
    features = _with_statistics(config, train, reader, known)
    augmenter = Augmenter(
        augment,
        features,
        noises=_waveforms(config.data.noises, features.sample_rate),
        rooms=_waveforms(config.data.rooms, features.sample_rate),
    )
    seed = config.trainer.seed
    train_set = SpeechDataset(
        train,
        targets,
        features,
        augmenter,
        masks_from=config.trainer.masks_from,
        views=2 if config.loss.consistency else 1,
        seed=seed,
        cache=config.data.cache,
        reader=reader,
    )
    dev_set = SpeechDataset(dev, targets, features, cache=config.data.cache, reader=reader)
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    torch.manual_seed(seed)
    model = make_model(config, {name: len(v) for name, v in vocabularies.items()})
    if config.trainer.truncate is not None:
        model.causal_encoder()
    for right_context in config.trainer.right_contexts:
        with model.chunked_encoder().looking_ahead(right_context):  # raises for what it cannot hear
            if config.trainer.truncate is not None:
                model.causal_encoder()
    if chosen:
        anew = ", ".join(start_from(chosen, model, vocabularies))
        names = " and ".join(str(source.path) for source in chosen)
        print(f"started from {names}" + (f"; anew: {anew}" if anew else ""))
    lengths = _rows(train, features), _rows(dev, features)
    trigrams = {
        name: UnitTrigram((spell(u.text) or () for u in train), len(spell.vocabulary))
        for name, spell in targets.items()
        if config.heads[name].criterion == "ctc_crf"
    }

    def describe() -> None:
        _write_description(config, features, vocabularies, model)
        if not config.data.dev and shard_numbers(splits[0]) is None:
            for name, part in zip(("train", "dev"), splits, strict=True):
                write_manifest(Path(config.run) / f"{name}.jsonl", part)

    return Trainer(config, model, primary, train_set, dev_set, lengths, trigrams, inputs, describe)


def _inputs(config: TrainingConfig) -> Iterator[str | None]:
    """The files that a run learns from."""
    data = config.data
    yield from (*data.train, *data.dev, data.noises, data.rooms)
    yield from (head.lexicon for head in config.heads.values())


def make_targets(head: HeadSettings, texts: Sequence[str] = ()) -> Spelling | Pronunciation:
    """How transcripts like `texts` are spelled for one head, with its vocabulary."""
    if head.units == "characters":
        return Spelling(Vocabulary.characters(head.alphabet))
    if head.units == "jamo":
        return Spelling(Vocabulary.characters(JAMO))
    if head.units == "pieces":
        return Spelling(train_pieces(map(normalize, texts), head.pieces))
    if head.units == "timit":
        return Spelling(Vocabulary.phones(TIMIT_61), normalizer=str)  # labels are no words
    if head.lexicon is None:
        raise ConfigError(
            "a head of phones needs a pronunciation dictionary", "set its lexicon=FILE"
        )
    lexicon = read_lexicon(head.lexicon)
    # Those that a target can hold: the first pronunciation of each word.
    phones = sorted({phone for pronunciations in lexicon.values() for phone in pronunciations[0]})
    return Pronunciation(Vocabulary.phones(phones), lexicon)


def make_model(config: TrainingConfig, classes: dict[str, int]) -> AcousticModel:
    heads = {
        name: HeadConfig(
            classes[name],
            head.layer or config.model.layers,
            head.kind,
            head.transducer,
            head.attention,
        )
        for name, head in config.heads.items()
    }
    return AcousticModel(config.features.size, config.model, heads)


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


def _usable(
    config: TrainingConfig,
    targets: Mapping[str, Targets],
    split: str,
    utterances: list[Utterance],
) -> list[Utterance]:
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
    print(f"{split}: {len(kept)} utterances, {hours:.2f} h")
    for reason, count in reasons.most_common():
        print(f"  left out {count}: {reason}")
    return kept


def _rows(utterances: list[Utterance], features: FeatureConfig) -> list[int]:
    return [features.n_rows(utterance.duration) for utterance in utterances]


def _shard_reader(config: TrainingConfig) -> ShardReader:
    folder = Path(config.data.spool or Path(config.run) / "shards")
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # For each process what it reads now and what it reads next, of train and of dev.
    return ShardReader(folder, keep=4 * config.data.shuffle_shards * processes)


def _with_statistics(
    config: TrainingConfig, train: list[Utterance], reader: ShardReader, source: Source | None
) -> FeatureConfig:
    """The feature settings with mean and deviation of the training set, measured once per run."""
    if config.features.mean is not None:
        return config.features
    run = Path(config.run)
    if (run / LAST).exists() and (run / MODEL_FILE).exists():
        known = json.loads((run / MODEL_FILE).read_text(encoding="utf-8"))["features"]
        mean, std = tuple(known["mean"]), tuple(known["std"])
    elif source is not None and source.features is not None:
        return source.features  # what its weights are used to
    else:
        single = replace(config.features, stack=1, stride=1, mean=None, std=None)
        shards = shard_numbers(train)
        if shards is not None:  # a few are enough, and all of them may be far away
            near = config.data.shuffle_shards
            train = [u for u, shard in zip(train, shards, strict=True) if shard < near]
        mean, std = feature_statistics(SpeechDataset(train, {}, single, reader=reader))
    return replace(config.features, mean=mean, std=std)


def _waveforms(manifest: str | None, sample_rate: int) -> list:
    if manifest is None:
        return []
    return [read_audio(u, sample_rate) for u in read_manifest(manifest)]


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
