"""Every setting of a training run: what it is, its unit, its default, when to change it.

`conf/` says only what a choice or an experiment changes. The tasks of `asr train` have one
configuration each: TrainingConfig, LanguageTrainingConfig and PunctuationTrainingConfig.
"""

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
from asr.models.language import SymbolConfig
from asr.models.transducer import TransducerConfig
from asr.punctuation.tagger import TaggerConfig


@dataclass(frozen=True)
class HeadSettings:
    """One head of the network: what it spells, and how it is trained.

    A CTC head and an attention head over the same units are joint training (Kim et al. 2017).
    """

    # characters: of `alphabet`. jamo: the letters of Korean syllables. pieces: word pieces learned
    # from the training texts. phones: by the pronunciation dictionary `lexicon`. timit: the 61
    # phone labels that a manifest of `asr-prepare timit` has for text, scored as 39.
    units: Literal["characters", "jamo", "pieces", "phones", "timit"] = "characters"
    layer: int | None = None  # encoder layer below the head, from 1; null: the last
    weight: float = 1.0  # of its loss
    alphabet: str = "abcdefghijklmnopqrstuvwxyz'"
    pieces: int = 200  # how many, with the blank
    lexicon: str | None = None  # a file in CMUdict's format
    # ctc_crf (asr.train.losses) is for a head that CTC has trained already: see trainer.crf_from.
    criterion: Literal["ctc", "ctc_crf"] = "ctc"
    kind: Literal["ctc", "transducer", "attention"] = "ctc"
    transducer: TransducerConfig = field(default_factory=TransducerConfig)  # of that kind alone
    attention: AttentionConfig = field(default_factory=AttentionConfig)  # of that kind alone

    def __post_init__(self) -> None:
        if self.kind != "ctc" and self.criterion != "ctc":
            raise ConfigError(f"a head of kind {self.kind} knows no criterion {self.criterion!r}")


@dataclass(frozen=True)
class DataConfig:
    """Which recordings, and how they are put into batches."""

    # Manifests, or indices of shards (`asr-prepare shard`), as paths or as addresses such as
    # s3://bucket/train.index.json.
    train: tuple[str, ...] = ()
    dev: tuple[str, ...] = ()
    # Without a dev manifest: the share of train that is held out for it, as `asr-prepare split`
    # does. Both parts are written into the run's folder, train.jsonl and dev.jsonl.
    hold_out: float = 0.0
    hold_out_by: HoldOut = "auto"  # what is never in both: auto, speaker, text or recording
    language: str = (
        ""  # spell out numbers in transcripts, en or ko; "": they are spelled out already
    )
    noises: str | None = None  # manifest of background noise, for augment.noise
    rooms: str | None = None  # manifest of room impulse responses, for augment.room
    min_duration: float = 0.2  # s; shorter utterances are left out
    max_duration: float = 20.0  # s; longer utterances are left out
    batch_frames: int = 8000  # feature rows in a batch, padding included; lower it to save memory
    batch_utterances: int = 64  # at most
    sorted_first_epoch: bool = True  # shortest utterances first, which helps CTC to start
    cache: bool = True  # keep decoded audio in memory: 115 MB an hour
    workers: int = 0  # processes that prepare batches; 0: the training process does
    shuffle_shards: int = 8  # shards that are read, and shuffled, at a time
    spool: str | None = None  # folder for fetched shards; null: `shards` in the run's folder


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam (Kingma & Ba 2015, with decoupled weight decay) or SGD with momentum, and a schedule."""

    name: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 1e-3  # at its peak
    weight_decay: float = 0.01
    momentum: float = 0.9  # Adam's first beta
    # After the warm-up, `plateau` keeps the rate and lowers it linearly over the last `decay` of
    # all steps; `one_cycle` lowers it along a half cosine (Smith & Topin 2018); `noam` with the
    # square root of the steps (Vaswani et al. 2017); `on_plateau` when the dev score stagnates.
    schedule: Literal["plateau", "one_cycle", "noam", "on_plateau"] = "plateau"
    warmup_steps: int = 300
    decay: float = 0.4  # share of all steps, for `plateau`
    final: float = 0.02  # lowest rate, as a share of learning_rate
    reduce_by: float = 0.5  # factor of `on_plateau`
    reduce_after: int = 2  # evaluations without improvement before `on_plateau` reduces the rate
    clip: float = 1.0  # maximum norm of the gradient
    clip_value: float | None = None  # maximum absolute value of each of its elements, before `clip`
    accumulate: int = 1  # batches in one update; raise it where batches must be small
    # What the gradient is averaged over: target symbols, or utterances.
    average_over: Literal["symbols", "utterances"] = "symbols"

    def __post_init__(self) -> None:
        if not 0 < self.reduce_by < 1 or self.reduce_after < 1:
            raise ConfigError(
                f"optimizer.reduce_by is {self.reduce_by}, reduce_after {self.reduce_after}",
                "between 0 and 1, and at least 1",
            )


@dataclass(frozen=True)
class LossConfig:
    """What is added to the loss of every head; 0 turns a term off."""

    # CR-CTC (Yao et al., ICLR 2025; 0.2 there): from the epoch in which SpecAugment starts, each
    # utterance is in its batch twice, under different masks, and the two outputs are pulled
    # together. Steps take twice the time and memory: halve data.batch_frames and the epochs. More
    # time masking helps: augment.time_masks=4 augment.time_share=0.3.
    consistency: float = 0.0
    # Weight of KL(output || uniform) per frame, against over-confidence (Kim et al., SLT 2018),
    # such as 0.01.
    entropy: float = 0.0
    crf_ctc: float = 0.1  # weight of plain CTC beside CTC-CRF, which keeps outputs from drifting


@dataclass(frozen=True)
class TeacherConfig:
    """What another network makes of the recordings, as a further target (`asr.train.teacher`)."""

    codes: tuple[str, ...] = ()  # files of codes (benchmarks/teacher.py); empty: no teacher
    layer: int | None = None  # encoder layer that predicts them, from 1; null: the last but one
    weight: float = 0.1  # of -ln p of a frame's codes, averaged over codebooks

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ConfigError(f"teacher.weight is {self.weight}", "at least 0")


@dataclass(frozen=True)
class NoiseConfig:
    """Gaussian noise on all weights, drawn for each update (`asr.train.noise`)."""

    sigma: float = 0.0  # standard deviation; 0: no noise
    # Every weight learns its own deviation, starting at `sigma`, and the description length of the
    # weights is added to the loss (Graves 2011).
    adaptive: bool = False
    # As in Graves et al. 2013: train without noise until the dev loss has not fallen for
    # trainer.patience epochs, then from the best weights with noise to the lowest dev error.
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
    """Magnitude pruning during training (`asr.train.pruning`)."""

    sparsity: float = 0.0  # final share of zeros in recurrent and linear layers; 0: no pruning
    begin: float = 0.0  # share of all steps after which pruning begins
    end: float = 0.6  # share of all steps after which `sparsity` is reached
    every: int = 20  # steps from one pruning to the next

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
    """The course of a run of an acoustic model."""

    epochs: int = 30
    # End after this time instead, on any machine: the learning rate follows the clock,
    # so no two runs are alike. The evaluations count, the last one and the average do not. For
    # machines that are lent for a time; null: `epochs` tell the end.
    minutes: float | None = None
    seed: int = 1
    device: str = "auto"  # cpu, cuda, cuda:1, …; auto: a GPU if there is one
    # A bundle, a run's folder or a file of weights to start from, whatever the vocabulary
    # (asr.train.setup), or a list of them. PART=FILE takes the weights of one part of the
    # network, as PreTrans of Graves 2013 does: heads.phones.prediction=runs/lm/best.safetensors.
    init: str | tuple[str, ...] | None = None
    # bf16: autocast to bfloat16; on a CPU that has none it is fp32, and the run says so. fp16: on
    # CUDA, gradients scaled.
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    # CPU threads of one process; null: torch decides. Small networks are fastest with 1, and with
    # as many processes as cores (`torchrun`).
    threads: int | None = None
    preflight: bool = True  # try the largest batch first, to see that it fits into memory
    # Feature rows after which back-propagation is cut (asr.train.truncated), so that memory does
    # not grow with the recordings; for causal or chunked encoders. null: not cut.
    truncate: int | None = None
    # For a chunked network (model.chunk): each update draws one of these right contexts, so that
    # one network serves every latency; null: the whole utterance; a value that is listed twice is
    # drawn twice as often. Empty: always model.right_context, which dev is evaluated with anyway.
    right_contexts: tuple[int | None, ...] = ()
    # A bundle whose lexicon, language models and decoder settings give the dev error, since greedy
    # decoding says little of what CTC-CRF trains. Its heads are those of this run.
    search: str | None = None
    masks_from: int = 2  # epoch, from 0, in which SpecAugment starts
    crf_from: int = 0  # epoch, from 0, in which CTC-CRF takes over from CTC (criterion: ctc_crf)
    ema: float = 0.999  # decay of the moving average of weights, which is evaluated; 0: no average
    average: int = 5  # best epochs whose weights are averaged at the end
    patience: int = 10  # epochs without a better dev score before the run stops
    checkpoint_minutes: float = 10.0
    log_steps: int = 20

    def __post_init__(self) -> None:
        if self.minutes is not None and self.minutes <= 0:
            raise ConfigError(f"trainer.minutes is {self.minutes}", "more than 0, or null")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"trainer.threads is {self.threads}", "at least 1, or null")
        if self.truncate is not None and self.precision == "fp16":
            raise ConfigError(
                "trainer.truncate adds up gradients that fp16 would have to scale",
                "trainer.precision=bf16 or fp32",
            )


@dataclass(frozen=True)
class TrainingConfig:
    """A run of an acoustic model; its files are in the folder `run`."""

    run: str
    data: DataConfig = field(default_factory=DataConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    model: AnyEncoderConfig = field(default_factory=EncoderConfig)
    heads: dict[str, HeadSettings] = field(default_factory=lambda: {"characters": HeadSettings()})
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    pruning: PruningConfig = field(default_factory=PruningConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


@dataclass(frozen=True)
class SequenceTrainerConfig:
    """The course of a run that learns from text."""

    steps: int = 10_000  # updates, over however many epochs
    evaluate_steps: int = 1000  # updates between two evaluations of the dev text
    patience: int = 5  # evaluations without a better one before the run stops
    seed: int = 1
    device: str = "auto"  # as TrainerConfig.device
    init: str | None = None  # file of weights to start from, with their vocabulary
    precision: Literal["fp32", "bf16"] = "fp32"
    checkpoint_minutes: float = 10.0
    log_steps: int = 20


@dataclass(frozen=True)
class TextConfig:
    """Text for a language model, and the units in which it is predicted."""

    train: tuple[str, ...] = ()  # texts, a sentence a line, plain or compressed, or manifests
    dev: tuple[str, ...] = ()
    # characters: of `alphabet`. pieces: learned by byte-pair encoding. words: the most frequent.
    # timit: phone labels, as in the manifests of `asr-prepare timit`. What none of these units
    # spells becomes <unk>.
    units: Literal["characters", "pieces", "words", "timit"] = "pieces"
    size: int = 4000  # pieces or words
    alphabet: str = "abcdefghijklmnopqrstuvwxyz'"
    language: str | None = "en"  # whose rules normalise the text; null: it is taken as it is
    most_symbols: int = 100  # in a sentence; longer ones are cut
    batch_symbols: int = 3000  # in a batch, padding included


@dataclass(frozen=True)
class LanguageModelConfig(SymbolConfig):
    """The network of a language model."""

    projection: int | None = 256
    dropout: float = 0.1
    tied: bool = True  # the embedding is also the weight of the output layer


@dataclass(frozen=True)
class LanguageTrainingConfig:
    """A run of a language model; its files are in the folder `run`."""

    run: str
    data: TextConfig = field(default_factory=TextConfig)
    model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: SequenceTrainerConfig = field(default_factory=SequenceTrainerConfig)


@dataclass(frozen=True)
class WrittenConfig:
    """Cased and punctuated text. Lines that do not show how they are written are left out."""

    # Texts, a sentence or paragraph a line, plain or compressed, or manifests; what is given twice
    # counts twice.
    train: tuple[str, ...] = ()
    dev: tuple[str, ...] = ()
    language: str = "en"  # whose rules spell out numbers
    join: int = 3  # an example has up to this many neighbouring lines
    most_words: int = 60  # in an example; longer lines are cut
    batch_words: int = 4000  # in a batch, padding included


@dataclass(frozen=True)
class PunctuationTrainingConfig:
    """A run of a tagger that restores case and punctuation; its files are in the folder `run`."""

    run: str
    data: WrittenConfig = field(default_factory=WrittenConfig)
    model: TaggerConfig = field(default_factory=TaggerConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: SequenceTrainerConfig = field(
        default_factory=lambda: SequenceTrainerConfig(steps=3000, evaluate_steps=500)
    )
