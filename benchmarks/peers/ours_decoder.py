from decoding import main

from asr.decode import BeamSearch, Decoder
from asr.lm.files import read_arpa
from asr.lm.ngram import NGram
from asr.text.vocabulary import BLANK, Vocabulary


def make(settings):
    # Without a model, as fast-ctc-decode does: nothing but the cut-off and the beam.
    options = {"word_bonus": 0.0, "token_threshold": 6.9}
    lm = None
    if settings["lm"]:
        lm = NGram.compile(read_arpa(settings["lm"]))
        options = {"lm_weight": settings["lm_weight"], "word_bonus": settings["word_bonus"]}
        options["closed"] = True
    vocabulary = Vocabulary((BLANK, *settings["labels"][1:]))
    search = BeamSearch(vocabulary, lm=lm, beam=settings["beam"], **options)
    decoder = Decoder(search, frame_shift=0.03)
    return lambda log_probs: decoder.decode(log_probs)[0].text


main(make)
