"""Utterances of a manifest as training examples, and examples as batches."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from asr.data.augment import Augmenter
from asr.data.codes import UNKNOWN, TeacherCodes
from asr.data.manifest import read_audio, read_part
from asr.data.shards import ShardReader
from asr.errors import AudioError, ManifestError
from asr.features import FeatureConfig, Features
from asr.text.normalize import normalize
from asr.text.phones import Pronunciations
from asr.text.vocabulary import Vocabulary
from asr.types import Utterance

# text, optional counter of unknown symbols -> class indices, or None: no target for this text
Targets = Callable[..., "list[int] | None"]


class Spelling:
    """Characters or pieces of the normalised text.

    >>> Spelling(Vocabulary.characters("abc"))("A cab!")
    [2, 1, 4, 2, 3]
    """

    def __init__(self, vocabulary: Vocabulary, normalizer: Callable[[str], str] = normalize):
        self.vocabulary = vocabulary
        self._normalize = normalizer

    def __call__(self, text: str, unknown: Counter[str] | None = None) -> list[int]:
        return self.vocabulary.encode(self._normalize(text), unknown)


class Pronunciation:
    """Phones of the normalised text: the most usual pronunciation of each word.

    A text with a word that the dictionary lacks has no target (None): a network's other heads
    learn from it, this one does not.

    >>> lexicon = {"a": [("AH",), ("EY",)], "cab": [("K", "AE", "B")]}
    >>> spell = Pronunciation(Vocabulary.phones(["AE", "AH", "B", "K"]), lexicon)
    >>> spell("A cab!"), spell("a taxi")
    ([2, 4, 1, 3], None)
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        lexicon: Pronunciations,
        normalizer: Callable[[str], str] = normalize,
    ):
        self.vocabulary = vocabulary
        self._lexicon = lexicon
        self._normalize = normalizer

    def __call__(self, text: str, unknown: Counter[str] | None = None) -> list[int] | None:
        words = self._normalize(text).split()
        if not all(word in self._lexicon for word in words):
            return None
        return self.vocabulary.encode(" ".join(p for w in words for p in self._lexicon[w][0]))


@dataclass(frozen=True)
class Example:
    """`features` (rows, size); `targets` class indices for each head that has any.

    `other`: the same utterance under other masks, where two views of it are wanted. `codes` (rows,
    codebooks): a teacher's for each row (`asr.data.codes`). `id` names the utterance in messages.
    """

    features: np.ndarray
    targets: Mapping[str, Sequence[int]]
    text: str
    id: str = ""
    other: np.ndarray | None = None
    codes: np.ndarray | None = None


@dataclass
class Batch:
    """B utterances, T rows of features, F columns, U target symbols.

    features (B, T, F) and targets[head] (B, U) are padded with zeros; lengths are integers.
    A head's target length is -1 where the utterance has no target for it. With two `views`, B is
    even, and row B/2 + i is row i under other masks. `codes` (B, T, codebooks) are a teacher's,
    UNKNOWN where there are none, or None if no utterance has any.
    """

    features: torch.Tensor
    lengths: torch.Tensor
    targets: dict[str, torch.Tensor]
    target_lengths: dict[str, torch.Tensor]
    texts: list[str]
    failures: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    views: int = 1
    codes: torch.Tensor | None = None

    def __len__(self) -> int:
        """Utterances, each counted once for each view."""
        return len(self.texts)

    @property
    def n_units(self) -> int:
        """Rows of features, without padding."""
        return int(self.lengths.sum())

    def n_symbols(self, head: str) -> int:
        """Symbols in the targets of a head, at least 1 for each utterance."""
        return int(self.target_lengths[head].clamp(min=1).sum())

    def to(self, device: torch.device) -> Batch:
        """Move what the network reads; lengths stay on the CPU, where they are used."""
        self.features = self.features.to(device, non_blocking=True)
        self.targets = {h: t.to(device, non_blocking=True) for h, t in self.targets.items()}
        if self.codes is not None:
            self.codes = self.codes.to(device, non_blocking=True)
        return self


class SpeechDataset(Dataset):
    """Examples by (epoch, index). A file that cannot be read gives its error text instead.

    `targets` spells the transcripts for each head of the network. With an `augmenter` every epoch
    gets another version of an utterance, drawn from (seed, epoch, index) alone; SpecAugment starts
    in epoch `masks_from`, and with it the second of two `views`. `cache` keeps decoded audio in
    memory as 16-bit integers: 115 MB an hour. Recordings in shards are read by `reader`, and never
    kept. `codes`: a teacher's, for the versions too, but not for pure noise.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        targets: Mapping[str, Targets],
        features: FeatureConfig,
        augmenter: Augmenter | None = None,
        *,
        masks_from: int = 0,
        views: int = 1,
        seed: int = 0,
        cache: bool = False,
        reader: ShardReader | None = None,
        codes: TeacherCodes | None = None,
    ):
        self.utterances = utterances
        self.targets = targets
        self._masks_from = masks_from
        self._views = views
        self._features = Features(features)
        self._augmenter = augmenter
        self._seed = seed
        self._cache: dict[int, np.ndarray] | None = {} if cache else None
        self.reader = reader
        self._codes = codes

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, key: tuple[int, int]) -> Example | str:
        epoch, index = key
        utterance = self.utterances[index]
        try:
            waveform = self._read(index)
        except AudioError as error:
            return str(error)
        targets = {head: spell(utterance.text) for head, spell in self.targets.items()}
        text = utterance.text
        if self._augmenter is None:
            return Example(self._features(waveform), _known(targets), text, name_of(utterance))
        rng = np.random.default_rng([self._seed, epoch, index])
        n_samples, codes = len(waveform), self._codes
        if self._augmenter.is_noise_only(rng):
            codes = None
            noise = self._augmenter.noise(len(waveform), rng)
            waveform, text = self._augmenter.volume(noise, rng), ""
            targets = {head: [] for head in targets}
        else:
            waveform = self._augmenter.waveform(waveform, rng)
        plain = self._augmenter.warp(self._features(waveform), rng)
        features, other = plain, None
        if epoch >= self._masks_from:
            features = self._augmenter.mask(plain, rng)
            if self._views == 2:
                other = self._augmenter.mask(plain, rng)
        of_teacher = None
        if codes is not None:
            speed = n_samples / max(len(waveform), 1)
            of_teacher = codes.rows(utterance, self._features.config, len(plain), speed)
        return Example(features, _known(targets), text, name_of(utterance), other, of_teacher)

    def _read(self, index: int) -> np.ndarray:
        if self._cache is None or "shard" in self.utterances[index].extra:
            return self._decode(index)
        if index not in self._cache:
            self._cache[index] = np.round(self._decode(index) * 32767).astype(np.int16)
        # Also the first time from 16 bits, so that a resumed run gets the same samples.
        return self._cache[index].astype(np.float32) / 32767

    def _decode(self, index: int) -> np.ndarray:
        utterance, rate = self.utterances[index], self._features.config.sample_rate
        if self.reader is not None and "shard" in utterance.extra:
            waveform = read_part(self.reader.open(utterance), utterance, rate)
        else:
            waveform = read_audio(utterance, rate)
        return np.clip(waveform, -1, 1)


def collate(examples: Sequence[Example | str], heads: Sequence[str]) -> Batch:
    """Pad examples into a batch, which has no rows if every one of them failed."""
    failures = [e for e in examples if isinstance(e, str)]
    good = [e for e in examples if isinstance(e, Example) and len(e.features)]
    if not good:
        nothing = torch.zeros(0, dtype=torch.long)
        return Batch(torch.zeros(0, 0, 0), nothing, {}, {}, [], failures)
    others = [replace(e, features=e.other) for e in good if e.other is not None]
    views = 2 if len(others) == len(good) else 1
    if views == 2:
        good += others
    targets, target_lengths = {}, {}
    for head in heads:
        spelled = [e.targets.get(head) for e in good]
        rows = [torch.tensor(s or [], dtype=torch.long) for s in spelled]
        targets[head] = pad_sequence(rows, batch_first=True)
        lengths = [-1 if s is None else len(s) for s in spelled]
        target_lengths[head] = torch.tensor(lengths, dtype=torch.long)
    n_codebooks = next((e.codes.shape[1] for e in good if e.codes is not None), 0)
    codes = [
        torch.full((len(e.features), n_codebooks), UNKNOWN)
        if e.codes is None
        else torch.from_numpy(e.codes)
        for e in good
    ]
    return Batch(
        features=pad_sequence([torch.from_numpy(e.features) for e in good], batch_first=True),
        lengths=torch.tensor([len(e.features) for e in good]),
        targets=targets,
        target_lengths=target_lengths,
        texts=[e.text for e in good],
        failures=failures,
        ids=[e.id for e in good],
        views=views,
        codes=pad_sequence(codes, batch_first=True, padding_value=UNKNOWN) if n_codebooks else None,
    )


def name_of(utterance: Utterance) -> str:
    """What to call an utterance in a message: its id, or its file."""
    return str(utterance.extra.get("id") or utterance.name)


def ctc_frames(target: Sequence[int]) -> int:
    """The least number of frames in which CTC can spell `target`: repeats need a blank between.

    >>> ctc_frames([5, 5, 3])
    4
    """
    return len(target) + sum(a == b for a, b in itertools.pairwise(target))


def usable(
    utterances: Sequence[Utterance],
    targets: Mapping[str, Targets],
    features: FeatureConfig,
    *,
    subsampling: int = 1,
    min_duration: float = 0.1,
    max_duration: float = 20.0,
    fastest: float = 1.0,
) -> tuple[list[Utterance], Counter[str]]:
    """The utterances that can be trained on, and how many were left out for which reason.

    `fastest` is the greatest speed factor of the augmentation, `subsampling` that of the network.
    Symbols outside a vocabulary are reasons too: `unknown symbol 'é'` with the utterances it cost.
    """
    kept, reasons = [], Counter[str]()
    for utterance in utterances:
        reason = ""
        frames = features.n_rows(utterance.duration / fastest) // subsampling
        unknown: Counter[str] = Counter()
        needed = max(ctc_frames(t(utterance.text, unknown) or []) for t in targets.values())
        if utterance.duration > max_duration:
            reason = f"longer than {max_duration:g} s"
        elif utterance.duration < min_duration:
            reason = f"shorter than {min_duration:g} s"
        elif unknown:
            reason = f"unknown symbol {min(unknown)!r}"
        elif frames < max(needed, 1):
            reason = "fewer frames than CTC needs for the text"
        if reason:
            reasons[reason] += 1
        else:
            kept.append(utterance)
    if not kept:
        raise ManifestError(f"no usable utterance: {dict(reasons) or 'the manifest is empty'}")
    return kept, reasons


def feature_statistics(
    dataset: SpeechDataset, limit: int = 1000, seed: int = 0
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each feature column over at most `limit` utterances."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(dataset))[:limit]
    count, total, squares = 0, np.zeros(0), np.zeros(0)
    for index in chosen:
        example = dataset[0, int(index)]
        if isinstance(example, str):
            continue
        frames = example.features.astype(np.float64)
        if not count:
            total, squares = np.zeros(frames.shape[1]), np.zeros(frames.shape[1])
        count += len(frames)
        total += frames.sum(axis=0)
        squares += (frames**2).sum(axis=0)
    if not count:
        raise ManifestError("no recording of the training set can be read")
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1e-10))
    return tuple(mean.tolist()), tuple(std.tolist())


def _known(targets: Mapping[str, Sequence[int] | None]) -> dict[str, Sequence[int]]:
    return {head: target for head, target in targets.items() if target is not None}
