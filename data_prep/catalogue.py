"""All corpora by name: those with a recipe of our own, and those that lhotse reads."""

from __future__ import annotations

from data_prep.corpus import Corpus, CorpusError, did_you_mean
from data_prep.lhotse_corpora import CORPORA as LHOTSE_CORPORA
from data_prep.recipes import an4, folder, fsdd, kaldi, nemo, tables, timit, zeroth

# Formats rather than corpora: what people bring themselves.
FORMATS = (folder.CORPUS, tables.CORPUS, kaldi.CORPUS, nemo.CORPUS)
OWN = (
    an4.CORPUS,
    fsdd.CORPUS,
    tables.LJSPEECH,
    kaldi.SPEECHOCEAN762,
    timit.CORPUS,
    zeroth.CORPUS,
)
CATALOGUE = {corpus.name: corpus for corpus in (*FORMATS, *OWN, *LHOTSE_CORPORA)}


def find(name: str) -> Corpus:
    """Raise CorpusError, naming its nearest neighbour, for an unknown corpus."""
    try:
        return CATALOGUE[name]
    except KeyError:
        raise CorpusError(
            f"no corpus is called {name!r}{did_you_mean(name, CATALOGUE)}",
            "`asr-prepare list` shows them all",
        ) from None
