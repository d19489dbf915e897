"""Every setting of a training run, with its meaning. `conf/` holds values for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from asr.data.augment import AugmentConfig
from asr.data.manifest import HoldOut
from asr.errors import ConfigError
from asr.features import FeatureConfig
from asr.models.attention_decoder import AttentionConfig
from asr.models.encoder import EncoderConfig
from asr.models.encoders import AnyEncoderConfig
from asr.models.transducer import TransducerConfig


@dataclass(frozen=True)
class HeadSettings:
    """What one head is trained to spell.

    units: `characters` of `alphabet`; `jamo`, the letters of Korean syllables; `pieces`: word
    pieces learnt from the training texts, as many as `pieces` says with the blank; `phones` by the
    pronunciation dictionary `lexicon`; or `timit`: the 61 phone labels that stand in a manifest in
    place of the words (as `asr-prepare timit` writes them beside the words), scored as 39.
    layer: the encoder layer it sits on, from 1; None is the last. weight: of its loss.
    criterion: `ctc`, or `ctc_crf` (`asr.train.crf`) for a head that CTC has trained already.
    kind: `ctc`, `transducer` or `attention`, with the settings of the last two. A head of CTC and
    one of attention over the same units are joint training (Kim et al. 2017).
    """

    units: Literal["characters", "jamo", "pieces", "phones", "timit"] = "characters"
    layer: int | None = None
    weight: float = 1.0
    alphabet: str = "abcdefghijklmnopqrstuvwxyz'"
    pieces: int = 200
    lexicon: str | None = None
    criterion: Literal["ctc", "ctc_crf"] = "ctc"
    kind: Literal["ctc", "transducer", "attention"] = "ctc"
    transducer: TransducerConfig = field(default_factory=TransducerConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)

    def __post_init__(self) -> None:
        if self.kind != "ctc" and self.criterion != "ctc":
            raise ConfigError(f"a head of kind {self.kind} knows no criterion {self.criterion!r}")


@dataclass(frozen=True)
class DataConfig:
    """Which recordings, and how they are put into batches.

    train, dev: manifests, or indices of shards (`asr-prepare shard`), as paths or as addresses like
    s3://bucket/train.index.json. hold_out: without a dev manifest, this share of train is kept for
    it, as `asr-prepare split` would, parted by hold_out_by: `auto`, `speaker`, `text` or
    `recording`; both parts are written into the run's folder, train.jsonl and dev.jsonl.
    language: spell out numbers and the like in transcripts as this language does, `en` or `ko`;
    empty where `asr-prepare` did so already.
    noises, rooms: manifests of background noise and of room impulse responses. batch_frames:
    feature rows in a batch, padding included. cache: keep decoded audio in memory. workers:
    processes that prepare batches beside the one that trains.
    shuffle_shards: how many shards are read, and their utterances shuffled, at a time. spool: the
    folder for shards that are fetched, four times as many; None is `shards` in the run's folder.
    """

    train: tuple[str, ...] = ()
    dev: tuple[str, ...] = ()
    hold_out: float = 0.0
    hold_out_by: HoldOut = "auto"
    language: str = ""
    noises: str | None = None
    rooms: str | None = None
    min_duration: float = 0.2
    max_duration: float = 20.0
    batch_frames: int = 8000
    batch_utterances: int = 64
    sorted_first_epoch: bool = True
    cache: bool = True
    workers: int = 0
    shuffle_shards: int = 8
    spool: str | None = None


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam (Kingma & Ba 2015, with decoupled weight decay) or SGD with momentum.

    schedule: after the learning rate has risen over `warmup_steps`, `plateau` lets it stay, and
    fall linearly over the last `decay` share of all steps to `final` times its height; `one_cycle`
    lets it fall to there along a half cosine over all the other steps (Smith & Topin 2018); `noam`
    lets it fall with the square root of the steps, without an end (Vaswani et al. 2017);
    `on_plateau` multiplies it by `reduce_by` whenever `reduce_after` looks at the dev set, one an
    epoch, have not been better than the best before, by what the run is judged by, down to `final`
    times its height.
    accumulate: so many batches make one update. Gradients are averaged over the target symbols or
    over the utterances of it, then each is clipped to +-`clip_value`, and all of them to the norm
    `clip`.
    """

    name: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    momentum: float = 0.9
    schedule: Literal["plateau", "one_cycle", "noam", "on_plateau"] = "plateau"
    warmup_steps: int = 300
    decay: float = 0.4
    final: float = 0.02
    reduce_by: float = 0.5
    reduce_after: int = 2
    clip: float = 1.0
    clip_value: float | None = None
    accumulate: int = 1
    average_over: Literal["symbols", "utterances"] = "symbols"

    def __post_init__(self) -> None:
        if not 0 < self.reduce_by < 1 or self.reduce_after < 1:
            raise ConfigError(
                f"optimizer.reduce_by is {self.reduce_by}, reduce_after {self.reduce_after}",
                "between 0 and 1, and at least 1",
            )


@dataclass(frozen=True)
class LossConfig:
    """What is added to the loss of every head; 0 turns it off.

    consistency: CR-CTC (Yao et al., ICLR 2025; 0.2 there). From the epoch in which SpecAugment
    starts, each utterance stands twice in its batch, under different masks, and the two outputs
    are drawn to each other. A step takes twice the time and memory: halve `data.batch_frames`, and
    take about half the epochs. Likes more masking in time than one view alone, such as
    `augment.time_masks=4 augment.time_share=0.3`.
    entropy: weight of KL(output || uniform) a frame, against over-confidence (Kim et al., SLT
    2018), such as 0.01.
    crf_ctc: weight of plain CTC beside CTC-CRF, which keeps the outputs from drifting.
    """

    consistency: float = 0.0
    entropy: float = 0.0
    crf_ctc: float = 0.1


@dataclass(frozen=True)
class NoiseConfig:
    """Gaussian noise on all weights, drawn anew for each update (`asr.train.noise`).

    sigma: its deviation; 0 turns it off. adaptive: every weight learns a deviation of its own, from
    `sigma` on, and the description length of the weights is added to the loss (Graves 2011).
    second_phase: as in Graves et al. 2013, the run first goes on without noise to the least dev
    loss, until that has not fallen for `trainer.patience` epochs, and from the weights of that
    point with noise to the lowest dev error.
    """

    sigma: float = 0.0
    adaptive: bool = False
    second_phase: bool = False

    def __post_init__(self) -> None:
        if self.sigma < 0:
            raise ConfigError(f"noise.sigma is {self.sigma}", "at least 0")
        if not self.sigma and (self.adaptive or self.second_phase):
            raise ConfigError(
                "noise.adaptive and noise.second_phase need noise", "noise.sigma=0.075"
            )


@dataclass(frozen=True)
class PruningConfig:
    """Magnitude pruning while a network is trained, or trained on (`asr.train.pruning`).

    sparsity: share of each matrix of recurrent and linear layers that is zero in the end; 0 turns
    it off. begin, end: the shares of all steps between which it rises, fast at first. every: so
    many steps pass before more weights are taken away.
    """

    sparsity: float = 0.0
    begin: float = 0.0
    end: float = 0.6
    every: int = 20

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise ConfigError(f"pruning.sparsity is {self.sparsity}", "at least 0, below 1")
        if not 0 <= self.begin < self.end <= 0.9 or self.every < 1:
            raise ConfigError(
                "pruning.begin and pruning.end are shares of the run, and a tenth of it is left to "
                "train on; pruning.every is at least 1",
                "pruning.begin=0 pruning.end=0.6 pruning.every=20",
            )


@dataclass(frozen=True)
class TrainerConfig:
    """The course of a run.

    init: a bundle, a run's folder, or a file of weights to start from, whatever the vocabulary: see
    `asr.train.transfer`; or a list of them. PART=FILE takes a file's weights for a part of the
    network, as PreTrans of Graves 2013 does: heads.phones.prediction=runs/lm/best.safetensors.
    precision: `bf16` runs the network in bfloat16 by autocast, on CUDA or on CPUs that have it;
    `fp16` in float16 with scaled gradients, on CUDA.
    threads: of the arithmetic of one process on CPUs; null leaves it to torch. Small networks are
    fastest with 1, and several cores are used best by as many processes (`torchrun`).
    preflight: try the largest batch first, to see whether the memory suffices (not with truncate).
    truncate: feature rows after which back-propagation is cut (`asr.train.truncated`), so that
    memory does not grow with the recordings; for encoders that are causal, or in chunks. null: no.
    right_contexts: of a network in chunks (model.chunk): each update draws one of these, so that
    one network serves every latency; null hears whole utterances; what is there twice is drawn
    twice as often. () leaves it at model.right_context, with which dev is heard.
    masks_from: the epoch (from 0) in which SpecAugment starts. ema: decay of the moving average of
    the weights that is evaluated and kept; 0 turns it off. average: so many of the best epochs are
    averaged at the end. patience: epochs without a better dev error until the run stops early.
    """

    epochs: int = 30
    seed: int = 1
    device: str = "auto"
    init: str | tuple[str, ...] | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    threads: int | None = None
    preflight: bool = True
    truncate: int | None = None
    right_contexts: tuple[int | None, ...] = ()
    masks_from: int = 2
    ema: float = 0.999
    average: int = 5
    patience: int = 10
    checkpoint_minutes: float = 10.0
    log_steps: int = 20

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"trainer.threads is {self.threads}", "at least 1, or null")
        if self.truncate is not None and self.precision == "fp16":
            raise ConfigError(
                "trainer.truncate adds up gradients that fp16 would have to scale",
                "trainer.precision=bf16 or fp32",
            )


@dataclass(frozen=True)
class TrainingConfig:
    """One training run; its files are under `run`."""

    run: str
    data: DataConfig = field(default_factory=DataConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    model: AnyEncoderConfig = field(default_factory=EncoderConfig)
    heads: dict[str, HeadSettings] = field(default_factory=lambda: {"characters": HeadSettings()})
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    pruning: PruningConfig = field(default_factory=PruningConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
