import numpy as np
from decoding import main
from fast_ctc_decode import beam_search


def make(settings):
    if settings["lm"]:
        raise SystemExit("knows no language model")

    def decode(log_probs):
        text, _ = beam_search(
            np.exp(log_probs), settings["labels"], settings["beam"], beam_cut_threshold=1e-3
        )
        return text

    return decode


main(make)
