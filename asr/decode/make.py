"""Making the decoder of a bundle, for files, streams, evaluation and tuning alike."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from threading import Thread
from typing import Literal, TypeAlias

import numpy as np

from asr.config import build
from asr.decode.config import DecoderConfig
from asr.decode.decoder import Decoder, Search
from asr.decode.greedy import GreedySearch
from asr.decode.rescorers import LanguageModel, Rescorer, SecondHead
from asr.errors import ASRError, ConfigError
from asr.lexicon.hotwords import NO_HOTWORDS, PreparedHotwords
from asr.packaging.bundle import Bundle

_TRIAL_FRAMES = 20
DecoderKind: TypeAlias = Literal["beam", "greedy"]


def make_decoder(
    bundle: Bundle,
    settings: DecoderConfig | None = None,
    *,
    kind: DecoderKind = "beam",
    hotwords: PreparedHotwords = NO_HOTWORDS,
    for_tuning: bool = False,
) -> Decoder:
    """A decoder for the outputs of a bundle's network.

    Args:
        settings: the bundle's own unless given.
        kind: `beam`, which knows the language model, or `greedy`, which needs no search.
        hotwords: as `asr.lexicon.hotwords.prepare_hotwords` gives them; for `beam` with a CTC head.
        for_tuning: with all rescorers of the bundle, whatever their weights, and without the
            acceptance test.

    Raises ConfigError for a combination that does not exist, DecodeError where the parts of the
    bundle do not fit together or a hot word cannot be spelled.
    """
    config = settings or build(DecoderConfig, bundle.config.decoder, "decoder")
    shift = bundle.config.frame_shift
    if kind not in ("beam", "greedy"):
        raise ConfigError(f"unknown decoder {kind!r}", "one of: beam, greedy")
    if hotwords.boosts:
        check_takes_hotwords(bundle, kind)
    if bundle.head_kind != "ctc":
        return Decoder(_head_search(bundle, config, kind), shift)
    if kind == "greedy":
        return Decoder(_greedy_search(bundle), shift)
    search = _beam_search(bundle, config, hotwords)
    rejects = config.rejection_threshold < math.inf or config.rejection_confidence > 0
    return Decoder(
        search, shift, _rescorers(bundle, config, for_tuning), rejects and not for_tuning
    )


def compile_ahead(decoder: Decoder, bundle: Bundle) -> Thread | None:
    """Compile a search on a thread, while its caller loads other things; None if it is compiled.

    That takes some ten seconds on the first start after an installation. Who decodes meanwhile
    waits for it.
    """
    kernel = getattr(decoder.search, "kernel", None)
    if kernel is None:  # greedy decoding compiles nothing
        return None
    from asr.compiled import is_cached

    if kernel.signatures or is_cached(kernel):
        return None
    vocabularies = [v for v in (bundle.vocabulary, bundle.second_vocabulary) if v is not None]
    outputs = tuple(
        np.full((_TRIAL_FRAMES, len(v)), -math.log(len(v)), np.float32) for v in vocabularies
    )

    def decode() -> None:
        with suppress(ASRError):  # decoding itself reports it
            decoder.decode(outputs)

    thread = Thread(target=decode, name="compiling the search")
    thread.start()
    return thread


def check_takes_hotwords(bundle: Bundle, kind: DecoderKind) -> None:
    """Raise ConfigError if the decoder of this kind knows no hot words."""
    if bundle.head_kind != "ctc":
        raise ConfigError(f"a {bundle.head_kind} knows no hot words", "use a model with a CTC head")
    if kind == "greedy":
        raise ConfigError("greedy decoding knows no hot words", "choose the decoder 'beam'")


def _greedy_search(bundle: Bundle) -> GreedySearch:
    """Without a search nobody makes words of phones: a second head that spells is better then."""
    second = bundle.second_vocabulary
    if second is not None and bundle.vocabulary.kind == "phones":
        return GreedySearch(second, heads=(1,))
    return GreedySearch(bundle.vocabulary)


def _beam_search(bundle: Bundle, config: DecoderConfig, hotwords: PreparedHotwords) -> Search:
    # Compiled code and the language model take a moment to load: only who searches waits for it.
    from asr.decode.beam import BeamSearch
    from asr.lexicon import Lexicon
    from asr.lm.ngram import NGram

    lm = NGram.load(bundle.lm_path) if bundle.lm_path else None
    lexicon = Lexicon.load(bundle.lexicon_path) if bundle.lexicon_path else None
    if lexicon is not None and hotwords.spellings:
        lexicon = lexicon.extended(hotwords.spellings)
    return BeamSearch(
        bundle.vocabulary, lm=lm, lexicon=lexicon, hotwords=hotwords.boosts, config=config
    )


def _rescorers(bundle: Bundle, config: DecoderConfig, keep_all: bool) -> tuple[Rescorer, ...]:
    rescorers: list[Rescorer] = []
    second = bundle.second_vocabulary
    if second is not None and (config.second_weight or keep_all):
        rescorers.append(SecondHead(second))
    if bundle.rescorer_path is not None and (config.rescore_weight or keep_all):
        from asr.lm.recurrent import RecurrentLM

        rescorers.append(LanguageModel(RecurrentLM(bundle.rescorer_path)))
    return tuple(rescorers)


def _head_search(bundle: Bundle, config: DecoderConfig, kind: DecoderKind) -> Search:
    """Of a transducer or an attention decoder; a language model of its units joins in."""
    from asr.decode.onnx_heads import SameUnits, attention_search, transducer_search
    from asr.lm.recurrent import RecurrentLM

    folder, vocabulary, lm = bundle.folder, bundle.vocabulary, None
    if kind == "greedy":
        config = replace(config, beam=1, second_weight=0.0)
    elif bundle.rescorer_path:
        lm = SameUnits(RecurrentLM(bundle.rescorer_path), vocabulary)
    if bundle.head_kind == "transducer":
        limit = next(iter(bundle.config.model["heads"].values()))["transducer"]["most_symbols"]
        return transducer_search(folder, vocabulary, config, max_symbols=limit, lm=lm)
    has_ctc = bundle.second_vocabulary is not None
    return attention_search(folder, vocabulary, config, has_ctc=has_ctc, lm=lm)
