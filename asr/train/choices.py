"""The choices of `asr train` that have no file in `conf/`: they are the defaults of dataclasses."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore

from asr.config import defaults
from asr.data.augment import AugmentConfig
from asr.features import FeatureConfig
from asr.models.encoder import EncoderConfig
from asr.models.encoders import ConformerConfig, TransformerConfig
from asr.models.reversible import ReversibleConfig
from asr.train.config import (
    DataConfig,
    HeadSettings,
    LossConfig,
    NoiseConfig,
    OptimizerConfig,
    PruningConfig,
    TeacherConfig,
    TrainerConfig,
)

CHOICES = {
    "data=manifests": defaults(DataConfig),
    "features=modern": defaults(FeatureConfig),
    "model=blstm_4x320": defaults(EncoderConfig),
    "model=conformer": defaults(ConformerConfig),
    "model=transformer": defaults(TransformerConfig),
    "model=reversible": defaults(ReversibleConfig),
    "heads=characters": {"characters": defaults(HeadSettings)},
    "augment=default": defaults(AugmentConfig),
    "optimizer=adam": defaults(OptimizerConfig),
    "loss=default": defaults(LossConfig),
    "teacher=none": defaults(TeacherConfig),
    "noise=none": defaults(NoiseConfig),
    "pruning=none": defaults(PruningConfig),
    "trainer=default": defaults(TrainerConfig),
}


def register() -> None:
    """Make Hydra know them."""
    store = ConfigStore.instance()
    for choice, settings in CHOICES.items():
        group, name = choice.split("=")
        store.store(name=name, group=group, node=settings)
