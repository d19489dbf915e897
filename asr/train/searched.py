"""Dev errors by the search of a bundle, with its lexicon and language models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from asr.analysis.metrics import compare
from asr.config import build
from asr.data.dataset import Batch
from asr.decode import DecoderConfig, make_decoder
from asr.errors import ConfigError
from asr.models.acoustic import AcousticModel
from asr.packaging.bundle import Bundle
from asr.text.languages import normalizer
from asr.text.vocabulary import Vocabulary


class DevSearch:
    """Decodes what a network gives during its training as a bundle decodes its own network's.

    Of the bundle it takes all but the network; nothing is rejected. `vocabularies` are those of the
    heads in training. Raises ConfigError if they lack a head of the bundle, BundleError for what is
    no bundle.
    """

    def __init__(self, folder: Path, vocabularies: Mapping[str, Vocabulary]):
        bundle = Bundle.load(folder)
        bundle.check_ctc("trainer.search")
        config = build(DecoderConfig, bundle.config.decoder, "decoder")
        never = replace(config, rejection_threshold=math.inf, rejection_confidence=0.0)
        self._decoder = make_decoder(bundle, never)
        self._normalize = normalizer(bundle.config.language)
        described = bundle.config.model
        self._heads = [next(iter(described["heads"])), described.get("second")]
        for name, known in zip(
            self._heads, (bundle.vocabulary, bundle.second_vocabulary), strict=True
        ):
            if known is not None and (
                name not in vocabularies or vocabularies[name].symbols != known.symbols
            ):
                raise ConfigError(
                    f"trainer.search: {folder} has a head {name} that this run lacks",
                    "give a bundle of a network with the same heads",
                )

    @torch.inference_mode()
    def count_errors(self, model: AcousticModel, batches: Iterable[Batch]) -> torch.Tensor:
        """(word errors, words), float64."""
        counts = torch.zeros(2, dtype=torch.float64)
        heads = [name for name in self._heads if name is not None]
        for batch in batches:
            if not batch.texts:
                continue
            found = model.forward_heads(batch.features, batch.lengths, heads)
            for i, text in enumerate(batch.texts):
                outputs = tuple(
                    log_probs[i, : lengths[i]].float().cpu().numpy()
                    for log_probs, lengths in (found[name] for name in heads)
                )
                (hypothesis,) = self._decoder.decode(outputs if len(heads) > 1 else outputs[0])
                reference = self._normalize(text)
                if reference:
                    words = compare(reference, hypothesis.text).words
                    counts += torch.tensor([words.errors, words.reference])
        return counts
