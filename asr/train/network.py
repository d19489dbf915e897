"""From settings to an untrained network: what its heads spell, and its layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asr.errors import ConfigError
from asr.models.acoustic import AcousticModel, HeadConfig
from asr.text.jamo import JAMO
from asr.text.normalize import normalize
from asr.text.phones import TIMIT_61, read_lexicon
from asr.text.pieces import train_pieces
from asr.text.targets import Pronunciation, Spelling
from asr.text.vocabulary import Vocabulary
from asr.train.config import HeadSettings, TrainerConfig, TrainingConfig
from asr.train.truncated import check_heads


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
