"""Word pieces learned from text by sentencepiece, as a vocabulary."""

from __future__ import annotations

import io
from collections.abc import Iterable

from asr.errors import MissingDependencyError, VocabularyError
from asr.text.vocabulary import BLANK, Vocabulary


def train_pieces(texts: Iterable[str], size: int) -> Vocabulary:
    """A vocabulary of `size` units, blank included, that spells `texts` in few pieces.

    `texts` are normalised, for what is learned is what is seen. Every character of them is a piece
    too, so none of them ever needs an unknown symbol. Pieces are learned by byte-pair encoding
    (Sennrich et al. 2016): with these, the greedy longest match of `Vocabulary.encode` needs no
    more pieces than sentencepiece's own encoder, so the vocabulary is all that is kept.

    Raises VocabularyError if `size` is too small for the characters or too large for the texts.
    """
    try:
        import sentencepiece
    except ImportError as error:
        raise MissingDependencyError(
            "sentencepiece is not installed", "pip install 'blstm-ctc-asr[data]'"
        ) from error
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            character_coverage=1.0,
            normalization_rule_name="identity",  # the texts are normalised by ourselves
            max_sentence_length=1 << 20,  # bytes; longer ones would be left out silently
            unk_id=0,  # takes the place of the blank
            bos_id=-1,
            eos_id=-1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise VocabularyError(
            f"no {size} pieces can be learned from these texts ({error})",
            "choose a size between the number of characters and that of frequent words",
        ) from error
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [processor.id_to_piece(i) for i in range(1, processor.get_piece_size())]
    return Vocabulary((BLANK, *pieces), kind="pieces")
