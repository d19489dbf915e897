import math

import numpy as np
from decoding import main
from flashlight.lib.text.decoder import (
    CriterionType,
    LexiconDecoder,
    LexiconDecoderOptions,
    SmearingMode,
    Trie,
)
from flashlight.lib.text.decoder.kenlm import KenLM
from flashlight.lib.text.dictionary import Dictionary

TOKENS = 25  # tried in a frame
UNKNOWN = "<unk>"


def make(settings):
    if not settings["lm"]:
        raise SystemExit("is compared with a language model only")
    labels = settings["labels"]
    index = {label: i for i, label in enumerate(labels)}
    space = index[" "]
    spelled = {word: [[*word, " "]] for word in settings["words"]}
    dictionary = Dictionary()
    for word in (UNKNOWN, *spelled):
        dictionary.add_entry(word)
    dictionary.set_default_index(dictionary.get_index(UNKNOWN))
    lm = KenLM(settings["lm"], dictionary)
    trie = Trie(len(labels), space)
    start = lm.start(False)
    for word, [spelling] in spelled.items():
        entry = dictionary.get_index(word)
        _, score = lm.score(start, entry)
        trie.insert([index[label] for label in spelling], entry, score)
    trie.smear(SmearingMode.MAX)
    options = LexiconDecoderOptions(
        beam_size=settings["beam"],
        beam_size_token=TOKENS,
        beam_threshold=14.0,
        lm_weight=settings["lm_weight"] * math.log(10),  # its model speaks in powers of ten
        word_score=settings["word_bonus"],
        unk_score=-math.inf,
        sil_score=0.0,
        log_add=False,
        criterion_type=CriterionType.CTC,
    )
    decoder = LexiconDecoder(options, trie, lm, space, 0, dictionary.get_index(UNKNOWN), [], False)
    # Words end with a space here, the last one too: it is heard in one frame more.
    last = np.full((1, len(labels)), -30.0, np.float32)
    last[0, space] = 0.0

    def decode(log_probs):
        rows = np.ascontiguousarray(np.concatenate([log_probs, last]), np.float32)
        results = decoder.decode(rows.ctypes.data, *rows.shape)
        words = [dictionary.get_entry(entry) for entry in results[0].words if entry >= 0]
        return " ".join(words) if results else ""

    return decode


main(make)
