"""Starting from the weights of a trained network: of a bundle, of a run, of a file.

Weights that fit are copied. An output layer for another vocabulary keeps the rows of the symbols
that both vocabularies have, so that a new letter does not cost the old ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr.config import build, differences, to_dict
from asr.errors import TrainingError
from asr.features import FeatureConfig
from asr.models.acoustic import AcousticModel
from asr.models.encoders import AnyEncoderConfig, encoder_config
from asr.packaging.bundle import WEIGHTS, Bundle
from asr.text.vocabulary import Vocabulary
from asr.train import checkpoint
from asr.train.checkpoint import BEST, LAST, MODEL_FILE

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
