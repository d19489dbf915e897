"""Word pieces learned from real transcripts."""

import io
import json

import pytest

from asr.errors import VocabularyError
from asr.text.normalize import normalize
from asr.text.vocabulary import train_pieces

sentencepiece = pytest.importorskip("sentencepiece")


@pytest.fixture(scope="module")
def texts(shared):
    manifest = shared / "speech" / "commonvoice-en" / "train.jsonl"
    lines = manifest.read_text(encoding="utf-8").splitlines()
    return [normalize(json.loads(line)["text"]) for line in lines]


def test_pieces_spell_the_texts_back_and_words_they_never_saw(texts):
    vocabulary = train_pieces(texts, 200)
    assert (len(vocabulary), vocabulary.kind, vocabulary.symbols[0]) == (200, "pieces", "<blank>")
    assert all(vocabulary.decode(vocabulary.encode(text)) == text for text in texts)
    unheard = "zyx quixotic don't"
    assert vocabulary.decode(vocabulary.encode(unheard)) == unheard


def test_more_pieces_make_shorter_spellings(texts):
    lengths = []
    for size in (50, 200):
        vocabulary = train_pieces(texts, size)
        lengths.append(sum(len(vocabulary.encode(text)) for text in texts))
    assert lengths[1] < 0.7 * lengths[0] < 0.7 * sum(map(len, texts))


def test_greedy_encoding_is_as_short_as_sentencepieces_own(texts):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, model_type="bpe", vocab_size=200,
        character_coverage=1.0, bos_id=-1, eos_id=-1, minloglevel=2,
    )  # fmt: skip
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    vocabulary = train_pieces(texts, 200)
    ours = sum(len(vocabulary.encode(text)) for text in texts)
    theirs = sum(len(processor.encode(text)) for text in texts)
    assert ours <= 1.01 * theirs


@pytest.mark.parametrize(
    ("size", "reason"), [(5, "no 5 pieces"), (10**6, "no 1000000 pieces"), (0, "no 0 pieces")]
)
def test_sizes_that_the_texts_do_not_allow(texts, size, reason):
    with pytest.raises(VocabularyError, match=reason):
        train_pieces(texts[:200], size)


def test_no_text_no_pieces():
    with pytest.raises(VocabularyError):
        train_pieces([], 30)
