"""From the configuration of an acoustic model to its trainer: data, network, initial weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr.config import build, differences, to_dict
from asr.data.codes import TeacherCodes
from asr.data.dataset import Pronunciation, Spelling
from asr.data.manifest import write_manifest
from asr.data.shards import shard_numbers
from asr.errors import ConfigError, TrainingError
from asr.features import FeatureConfig
from asr.files import replacing
from asr.models.acoustic import AcousticModel, HeadConfig
from asr.models.encoders import AnyEncoderConfig, encoder_config
from asr.packaging.bundle import WEIGHTS, Bundle
from asr.text.jamo import JAMO
from asr.text.normalize import normalize
from asr.text.phones import TIMIT_61, read_lexicon
from asr.text.vocabulary import Vocabulary, train_pieces
from asr.train import checkpoint
from asr.train.acoustic import AcousticTask
from asr.train.checkpoint import BEST, LAST, MODEL_FILE
from asr.train.config import HeadSettings, TrainerConfig, TrainingConfig
from asr.train.data import (
    input_files,
    make_datasets,
    read_splits,
    shard_reader,
    usable_utterances,
    with_statistics,
)
from asr.train.device import Processes, choose_device
from asr.train.log import RunLog
from asr.train.loop import Trainer
from asr.train.losses import UnitTrigram
from asr.train.runs import check_run, digests
from asr.train.searched import DevSearch
from asr.train.teacher import CodePrediction
from asr.train.truncated import check_heads
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
    codes = TeacherCodes(config.teacher.codes) if config.teacher.codes else None
    datasets = make_datasets(config, features, targets, train, dev, reader, codes)

    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    torch.manual_seed(config.trainer.seed)
    model = make_model(config, {name: len(v) for name, v in vocabularies.items()})
    check_context(model, config.trainer)
    if init:
        log.info(start_from(init, model, vocabularies))

    search = DevSearch(Path(config.trainer.search), vocabularies) if config.trainer.search else None

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
        lengths=(_lengths(train, features), _lengths(dev, features)),
        trigrams={
            name: UnitTrigram((spell(u.text) or () for u in train), len(spell.vocabulary))
            for name, spell in targets.items()
            if config.heads[name].criterion == "ctc_crf"
        },
        inputs=inputs,
        processes=processes,
        write=write,
        search=search,
        teacher=make_teacher(config, model, codes, train, log) if codes else None,
    )
    return Trainer(task, config, log)


def make_teacher(
    config: TrainingConfig,
    model: AcousticModel,
    codes: TeacherCodes,
    train: list[Utterance],
    log: RunLog,
) -> CodePrediction:
    """What predicts the codes. Raises ConfigError where no recording has any."""
    seconds = sum(u.duration for u in train if u in codes)
    if not seconds:
        raise ConfigError(
            "teacher.codes names no recording of the training set",
            "make them from the same manifest: benchmarks/teacher.py",
        )
    log.info(f"a teacher's codes for {seconds / 3600:.2f} h")
    layer = config.teacher.layer or max(1, config.model.layers - 1)
    if not 1 <= layer <= config.model.layers:
        raise ConfigError(f"teacher.layer is {layer}", f"1 to {config.model.layers}")
    size = model.encoder.output_size
    return CodePrediction(size, codes.codebooks, layer, config.teacher.weight)


def _lengths(utterances: list[Utterance], features: FeatureConfig) -> list[int]:
    return [features.n_rows(utterance.duration) for utterance in utterances]


def _check(config: TrainingConfig) -> None:
    """Raise ConfigError for settings that contradict each other."""
    if not config.heads:
        raise ConfigError("no heads: nothing would be trained", "set heads.characters.weight=1")
    if config.teacher.codes and config.trainer.truncate is not None:
        raise ConfigError(
            "truncated back-propagation knows no teacher", "set trainer.truncate=null"
        )
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


def make_model(config: TrainingConfig, classes: Mapping[str, int]) -> AcousticModel:
    """The network for heads of these sizes. Raises ConfigError for settings that do not fit."""
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


def check_context(model: AcousticModel, trainer: TrainerConfig) -> None:
    """Raise ConfigError if a model cannot be trained with these right contexts or windows."""
    if trainer.truncate is not None:
        check_heads(model)
        model.causal_encoder()
    for right_context in trainer.right_contexts:
        with model.chunked_encoder().looking_ahead(right_context):
            if trainer.truncate is not None:
                model.causal_encoder()


# What weights do not fix.
_FREE = {"dropout", "recurrent_dropout", "init_range", "mean", "std", "chunk", "right_context"}


class Source:
    """What `trainer.init` names, for the whole network or for the part whose name is `part`.

    Raises TrainingError, or BundleError, for what has no weights.
    """

    def __init__(self, path: Path, part: str = ""):
        self.path, self._part = path, part
        self.features: FeatureConfig | None = None
        self._encoder: dict[str, Any] | None = None
        self._symbols: dict[str, tuple[str, ...]] = {}
        if path.is_dir() and (path / MODEL_FILE).exists():
            self._file = path / (BEST if (path / BEST).exists() else LAST)
            about = json.loads((path / MODEL_FILE).read_text(encoding="utf-8"))
            self.features = build(FeatureConfig, about["features"])
            self._encoder = about["model"]
            self._symbols = {name: tuple(h["symbols"]) for name, h in about["heads"].items()}
        elif path.is_dir():
            bundle = Bundle.load(path)
            self._file = path / WEIGHTS
            self.features = bundle.config.features
            self._encoder = bundle.config.model.get("encoder")
            for primary in list(bundle.config.model.get("heads", ()))[:1]:
                self._symbols = {primary: bundle.vocabulary.symbols}
        else:
            self._file = path

    def copy_to(self, model: AcousticModel, vocabularies: Mapping[str, Vocabulary]) -> list[str]:
        """Give `model` the weights that fit it; returns the names of those that stay random."""
        weights = {name: w.float() for name, w in checkpoint.load_weights(self._file).items()}
        if self._part:
            weights = checkpoint.prefixed(f"{self._part}.", weights)
        current = model.state_dict()
        taken, random = {}, []
        for name, fresh in current.items():
            known = weights.get(name)
            head = name.split(".")[1] if name.startswith("heads.") else ""
            old, new = self._symbols.get(head), vocabularies[head].symbols if head else ()
            if known is None:
                random.append(name)
            elif old is not None and old != new and len(known) == len(old):
                taken[name] = _rows(fresh, known, old, new)
                random += [f"{name} for {symbol!r}" for symbol in new if symbol not in old]
            elif known.shape == fresh.shape:
                taken[name] = known
            else:
                random.append(name)
        if not taken:
            raise TrainingError(f"{self.path}: none of its weights fits this network")
        model.load_state_dict({**current, **taken})
        return random

    def check(self, features: FeatureConfig, encoder: AnyEncoderConfig) -> None:
        """Raise TrainingError if the weights are those of another network, naming what differs."""
        wrong = []
        if self.features is not None:
            wrong += _different("features", self.features, features)
        if self._encoder is not None:
            wrong += _different("model", encoder_config(self._encoder), encoder)
        if wrong:
            raise TrainingError(
                f"{self.path}: made for another network than the one to train",
                "set " + " ".join(wrong),
            )


def sources(init: str | Sequence[str]) -> list[Source]:
    """Those of a setting `trainer.init`: PATH or PART=PATH, or a list of them."""
    found = []
    for name in [init] if isinstance(init, str) else init:
        part, _, path = name.rpartition("=")
        found.append(Source(Path(path), part))
    return found


def start_from(
    chosen: Sequence[Source], model: AcousticModel, vocabularies: Mapping[str, Vocabulary]
) -> str:
    """Give `model` the weights of all sources, of later ones where several fit.

    Returns a message: the sources, and the weights that stay random.
    """
    missing = [source.copy_to(model, vocabularies) for source in chosen]
    random = [name for name in missing[0] if all(name in others for others in missing)]
    names = " and ".join(str(source.path) for source in chosen)
    return f"started from {names}" + (f"; random: {', '.join(random)}" if random else "")


def _different(group: str, known: Any, wanted: Any) -> list[str]:
    """Overrides that make `wanted` what is `known`."""
    changed = differences(to_dict(known), to_dict(wanted))
    return [
        f"{group}.{name}={json.dumps(old).replace(' ', '')}"
        for name, old, _ in changed
        if name not in _FREE
    ]


def _rows(fresh: Tensor, known: Tensor, old: Sequence[str], new: Sequence[str]) -> Tensor:
    """An output layer for the symbols `new`: the rows `known` for `old`, where there are any."""
    place = {symbol: row for row, symbol in enumerate(old)}
    rows = [
        known[place[symbol]] if symbol in place else row
        for symbol, row in zip(new, fresh.cpu(), strict=True)
    ]
    return torch.stack(rows)
