"""The task of acoustic models: recordings to symbols, by one or several heads."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from asr.analysis.metrics import compare
from asr.data.dataset import Batch, SpeechDataset
from asr.models.acoustic import AcousticModel
from asr.text.normalize import normalize
from asr.text.phones import TIMIT_61, fold
from asr.text.vocabulary import Vocabulary
from asr.train import checkpoint
from asr.train.config import TrainingConfig
from asr.train.data import make_loader, make_sampler
from asr.train.device import Processes, check_memory
from asr.train.losses import UnitTrigram, bad_examples, crf_term, training_loss
from asr.train.noise import make_noise
from asr.train.optimization import make_optimizer
from asr.train.pruning import make_pruning
from asr.train.searched import DevSearch
from asr.train.task import Loss, Task
from asr.train.teacher import CodePrediction
from asr.train.truncated import truncated_backward


class AcousticTask(Task):
    """Train an acoustic model.

    Args:
        vocabulary: of its first head, which is evaluated.
        train_set, dev_set: with the `lengths` of their utterances in feature rows.
        trigrams: of the heads that are trained by CTC-CRF.
        search: decodes the dev set; greedy decoding says little of what CTC-CRF trains.
        teacher: predicts the codes of the training set.
        write: writes what belongs beside the weights into the run's folder.
    """

    unit = "frame"
    logged = ("blank_ratio",)

    def __init__(
        self,
        config: TrainingConfig,
        model: AcousticModel,
        vocabulary: Vocabulary,
        train_set: SpeechDataset,
        dev_set: SpeechDataset,
        lengths: tuple[list[int], list[int]],
        trigrams: Mapping[str, UnitTrigram],
        inputs: Mapping[str, str],
        processes: Processes,
        write: Callable[[], None],
        search: DevSearch | None = None,
        teacher: CodePrediction | None = None,
    ):
        model = model.to(processes.device)
        sampler = make_sampler(config, train_set, lengths[0], processes, shuffle=True)
        super().__init__(config, model, sampler, vocabulary.symbols, inputs, processes)
        self.model: AcousticModel = model
        self.vocabulary, self.trigrams, self._write = vocabulary, trigrams, write
        self._search = search
        self.teacher = teacher.to(processes.device) if teacher else None
        self.phases = 2 if config.noise.second_phase else 1
        self.noise = make_noise(model, config.noise)
        self.pruning = make_pruning(model, config.pruning)
        self._n_train = len(lengths[0])
        self.train_loader = make_loader(config, train_set, sampler, processes.device)
        self._dev_set = dev_set
        self._dev_sampler = make_sampler(config, dev_set, lengths[1], processes, shuffle=False)
        self._dev_loader = make_loader(config, dev_set, self._dev_sampler, processes.device)
        self._weights = {name: head.weight for name, head in config.heads.items()}

    def batches(self) -> Iterator[Batch]:
        return iter(self.train_loader)

    def loss(self, batch: Batch) -> Loss:
        batch = batch.to(self.processes.device)
        settings, trigrams = self.config.loss, self._trigrams_now()
        value, blanks = training_loss(
            self.model, batch, self._weights, settings, trigrams, self.teacher
        )
        return self._loss(batch, value, blanks)

    def backward(self, batch: Batch, scaler: torch.amp.GradScaler) -> Loss:
        window = self.config.trainer.truncate
        if window is None:
            return super().backward(batch, scaler)
        batch = batch.to(self.processes.device)
        with self.autocast():
            value, blanks = truncated_backward(
                self.model, batch, self._weights, self.config.loss, window, self._trigrams_now()
            )
        return self._loss(batch, value, blanks)

    def _trigrams_now(self) -> Mapping[str, UnitTrigram]:
        return self.trigrams if self.sampler.epoch >= self.config.trainer.crf_from else {}

    def _loss(self, batch: Batch, value: Tensor, blanks: Tensor) -> Loss:
        symbols = batch.n_symbols(self.model.primary)
        return Loss(value, symbols, len(batch), batch.views, {"blank_ratio": float(blanks)})

    def evaluate(self, alone: bool = False) -> dict[str, float]:
        """Word and character error rate and loss (nats a symbol), greedily decoded.

        And the word error rate by the search, if there is one.
        """
        loader = self._dev_loader
        self._dev_sampler.set_epoch(0)
        if alone:
            sampler = self._dev_sampler.for_one_process()
            loader = make_loader(self.config, self._dev_set, sampler, self.processes.device)
        trigram = self.trigrams.get(self.model.primary)
        counts = count_errors(self.model, self._moved(loader), self.vocabulary, trigram)
        if self._search:
            searched = self._search.count_errors(self.model, self._moved(loader))
            counts = torch.cat([counts, searched])
        if not alone:
            counts = self.processes.sum(counts)
        errors, totals = counts.view(-1, 2).T
        wer, cer, loss, *by_search = (errors / totals.clamp(min=1)).tolist()
        zeros = {"zeros": self.pruning.zeros()} if self.pruning and not alone else {}
        search = {"search_wer": by_search[0]} if by_search else {}
        return {"wer": wer, "cer": cer, "loss": loss, **search, **zeros}

    def _moved(self, loader: DataLoader) -> Iterator[Batch]:
        return (batch.to(self.processes.device) for batch in loader)

    def format_metrics(self, metrics: Mapping[str, float]) -> str:
        text = "WER {wer:.1%} CER {cer:.1%} (greedy) loss {loss:.3f}".format(**metrics)
        for name, label in (("search_wer", "WER by search"), ("zeros", "zeros")):
            text += f" {label} {metrics[name]:.1%}" if name in metrics else ""
        return text

    def score(self, metrics: Mapping[str, float], phase: int) -> float:
        """The word error rate by the search, or the character error rate without one.

        The loss where greedy decoding says little: in the first of two phases, and for CTC-CRF.
        """
        if self._is_quiet(phase):
            return metrics["loss"]
        by_loss = self.model.primary in self.trigrams
        return metrics.get("search_wer", metrics["loss" if by_loss else "cer"])

    def describe(self) -> None:
        self._write()

    def parameters(self) -> list[nn.Parameter]:
        return [*self._learned_weights(), *(self.noise.parameters() if self.noise else ())]

    def make_optimizer(self) -> Optimizer:
        deviations = self.noise.parameters() if self.noise else ()
        return make_optimizer(self._learned_weights(), self.config.optimizer, deviations)

    def _learned_weights(self) -> list[nn.Parameter]:
        """Those of the model, and of what predicts the teacher's codes."""
        teacher = self.teacher.parameters() if self.teacher else ()
        return [*self.model.parameters(), *teacher]

    def check_memory(self) -> str:
        trainer, largest = self.config.trainer, self.sampler.largest()
        has_none = not all(largest)  # where there are fewer batches than processes
        if has_none or not trainer.preflight or trainer.truncate is not None:
            return ""
        return check_memory(self.model, self.config, largest, self.trigrams)

    def bad_examples(self, batch: Batch) -> list[str]:
        return bad_examples(self.model, batch)

    def may_be_result(self) -> bool:
        """Not before it is pruned."""
        return self.pruning is None or self.pruning.is_over()

    @contextmanager
    def perturbed(self, step: int, phase: int) -> Iterator[None]:
        """With noise on the weights, and with a right context that is drawn for this update."""
        with ExitStack() as stack:
            if self.noise and not self._is_quiet(phase):
                stack.enter_context(self.noise.drawn())
            trainer = self.config.trainer
            if trainer.right_contexts:  # the same in all processes
                drawn = random.Random(f"{trainer.seed} {step}").choice(trainer.right_contexts)
                stack.enter_context(self.model.chunked_encoder().looking_ahead(drawn))
            yield

    def add_gradients(self, examples: float, phase: int) -> dict[str, float]:
        """Of the description length of the weights, under adaptive noise."""
        if not self.noise or self._is_quiet(phase):
            return {}
        length = self.noise.add_cost(examples / self._n_train)
        return {} if length is None else {"description_length": length}

    def stepping(self) -> AbstractContextManager[None]:
        return self.pruning.zeros_kept() if self.pruning else nullcontext()

    def after_update(self, step: int, total_steps: int, average: dict[str, Tensor]) -> None:
        if self.pruning:
            self.pruning.prune(step, total_steps, average)

    def state_dict(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for prefix, part in self._parts():
            tensors |= checkpoint.prefixed(prefix, part.state_dict())
        return tensors

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        for prefix, part in self._parts():
            part.load_state_dict(checkpoint.select(tensors, prefix))

    def _parts(self) -> Iterator[tuple[str, nn.Module]]:
        """What learns besides the model, with its prefix in a checkpoint."""
        for prefix, part in (("noise.", self.noise), ("teacher.", self.teacher)):
            if part is not None:
                yield prefix, part

    def _is_quiet(self, phase: int) -> bool:
        """Whether this is the first of two phases, which has no noise."""
        return self.phases == 2 and phase == 1


@torch.inference_mode()
def count_errors(
    model: AcousticModel,
    batches: Iterable[Batch],
    vocabulary: Vocabulary,
    trigram: UnitTrigram | None = None,
) -> torch.Tensor:
    """(word errors, words, character errors, characters, -ln p(targets), symbols), summed.

    With the `trigram` of a first head that is trained by CTC-CRF, p is that criterion's.

    Phones are words and characters at once; the 61 of TIMIT are scored as 39 (Lee & Hon 1989).
    """
    timit = set(TIMIT_61) <= set(vocabulary.symbols)
    counts = torch.zeros(6, dtype=torch.float64)
    for batch in batches:
        if not batch.texts:
            continue
        outputs, lengths = model(batch.features, batch.lengths)
        counts[4:] += _loss(model, outputs, lengths, batch, trigram)
        decoded = model.head().decode(outputs, lengths)
        for text, symbols in zip(batch.texts, decoded, strict=True):
            hypothesis = vocabulary.decode(symbols)
            if timit:
                reference, hypothesis = (" ".join(fold(t.split())) for t in (text, hypothesis))
            else:
                reference = normalize(text)
            if not reference:
                continue
            found = compare(reference, hypothesis)
            characters = found.words if vocabulary.kind == "phones" else found.characters
            for offset, edits in ((0, found.words), (2, characters)):
                counts[offset : offset + 2] += torch.tensor([edits.errors, edits.reference])
    return counts


def _loss(
    model: AcousticModel,
    outputs: Tensor,
    lengths: Tensor,
    batch: Batch,
    trigram: UnitTrigram | None,
) -> Tensor:
    """-ln p of the targets that there are and that are possible, and their symbols."""
    head = model.primary
    known = batch.target_lengths[head] >= 0
    if not known.any():
        return torch.zeros(2, dtype=torch.float64)
    n_symbols = batch.target_lengths[head][known]
    targets = batch.targets[head][known]
    losses = model.head().losses(outputs[known], lengths[known], targets, n_symbols)
    possible = (losses != 0).cpu()
    if trigram is not None:
        losses = losses + crf_term(outputs[known], lengths[known], targets, n_symbols, trigram)
    losses = losses.cpu()
    return torch.stack([losses[possible].double().sum(), n_symbols[possible].double().sum()])
