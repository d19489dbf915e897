from ctc_beam_decoder import build_ctcdecoder
from decoding import main


def make(settings):
    decoder = build_ctcdecoder(
        ["", *settings["labels"][1:]],
        settings["lm"],
        settings["words"] if settings["lm"] else None,
        alpha=settings["lm_weight"],
        beta=settings["word_bonus"],
    )
    return lambda log_probs: decoder.decode(log_probs, beam_width=settings["beam"])


main(make)
