"""CTC prefix beam search with a word n-gram model, hot words, times and confidences."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from asr.decode import _paths
from asr.decode._alternatives import choose, follow
from asr.decode._search import search, search_pronounced
from asr.decode.checks import to_probabilities
from asr.decode.confidence import Confidence
from asr.decode.config import DecoderConfig
from asr.decode.decoder import NO_SPELLINGS, Boosts, Spellings
from asr.decode.grammar import build_grammar, unknown_word_cost
from asr.decode.hotwords import with_boosts
from asr.decode.lexicon import Lexicon
from asr.decode.likelihood import forward
from asr.decode.tables import CHOICE, NOTHING, PLACE, RESULT, Beam, Grammar, grown, new_beam, start
from asr.decode.words import Partial, Span, group, to_words
from asr.errors import DecodeError
from asr.lm.ngram import NGram
from asr.text.vocabulary import Vocabulary
from asr.types import Hypothesis, Word

_LATTICE = 4096  # frames with more than a blank, after which what is settled is let go
_MARGIN = 64  # of these frames, the last, which are never let go
_FEWEST = 24  # paths whose exact scores are found, at least
_CHOICES = 16  # paths thought of for every one of these


class BeamSearch:
    """Finds the most probable texts, not the most probable path.

    The score of a text is a sum over its paths. If words are spelled: over those of which every
    prefix was in the beam all the while. If they are pronounced: over all paths through the symbols
    that were tried, for there prefixes are recombined, and the texts found are scored anew; so a
    score says the same with any beam. A text with several pronunciations has the score of the best
    of those that were found.

    >>> from asr.decode import Decoder
    >>> frame = np.log([0.6, 1e-9, 0.4, 1e-9])  # blank, space, a, b: blank is the best path
    >>> search = BeamSearch(Vocabulary.characters("ab"), word_bonus=0.0)
    >>> best = Decoder(search, frame_shift=0.03).decode(np.array([frame, frame]))[0]
    >>> best.text, round(math.exp(best.score), 2)
    ('a', 0.64)
    """

    heads = (0,)

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        lm: NGram | None = None,
        lexicon: Lexicon | None = None,
        hotwords: Boosts = (),
        config: DecoderConfig | None = None,
        **settings: Any,
    ):
        """`hotwords`: phrases, or phrase -> boost (natural log); `settings`: see DecoderConfig.

        With a language model and no lexicon, the model's words are the lexicon; phones then are
        words themselves. Raises DecodeError where the parts do not fit the vocabulary.
        """
        self.vocabulary = vocabulary
        self.config = replace(config or DecoderConfig(), **settings)
        self.lm = lm
        self.pronounces = vocabulary.kind == "phones" and lexicon is not None
        self.lexicon = _lexicon_of(lm, vocabulary) if lm and lexicon is None else lexicon
        self._hotwords = with_boosts(hotwords, self.config.hotword_boost)
        self._grammar = self._build_grammar()
        self.confidence: Callable[..., list[float]] = Confidence(self.config.confidence)
        self._idle: list[Beam] = []  # work space of searches that are over

    def stream(self, frame_shift: float) -> BeamSearchStream:
        return BeamSearchStream(self, frame_shift)

    def variant(
        self, config: DecoderConfig, hotwords: Boosts = (), spellings: Spellings = NO_SPELLINGS
    ) -> BeamSearch:
        """The same search with other settings, and `hotwords` beside its own.

        It shares the language model, and the lexicon as far as the settings allow and it has all
        words of `spellings` (in its labels). Raises DecodeError for a hot word that cannot be
        spelled.
        """
        changed = copy(self)
        lexicon = self.lexicon if self.pronounces else None
        lacking = {w: s for w, s in spellings.items() if lexicon is not None and w not in lexicon}
        if lexicon is not None and lacking:
            changed.lexicon = lexicon.extended(lacking)
        changed.config = config
        changed.confidence = Confidence(config.confidence)
        changed._hotwords = self._hotwords | with_boosts(hotwords, config.hotword_boost)
        changed._grammar = changed._build_grammar(self)
        changed._idle = []
        return changed

    def _build_grammar(self, like: BeamSearch | None = None) -> Grammar:
        weights = ("lm_weight", "word_bonus", "unknown_penalty")
        shares = like and all(getattr(like.config, n) == getattr(self.config, n) for n in weights)
        shares = shares and like is not None and like.lexicon is self.lexicon
        return build_grammar(
            self.vocabulary,
            self.lexicon,
            self.lm,
            self._hotwords,
            self.config,
            unmarked=self.pronounces,
            like=like._grammar if like and shares else None,
        )

    @cached_property
    def unknown_word_cost(self) -> float:
        """What a word that the lexicon has and the language model lacks costs besides `<unk>`."""
        if self.lexicon is None or self.lm is None:
            return 0.0
        return unknown_word_cost(self.lexicon, self.lm)

    def _new_beam(self) -> Beam:
        with contextlib.suppress(IndexError):  # other threads take from the list, too
            return self._idle.pop()
        return new_beam(self.config.beam, len(self.vocabulary))


class BeamSearchStream:
    """A search in one utterance; the result does not depend on how the frames were cut."""

    def __init__(self, decoder: BeamSearch, frame_shift: float):
        self._decoder = decoder
        self._grammar = decoder._grammar
        self._tables = decoder.lm.tables if decoder.lm else None
        self._frame_shift = frame_shift
        self._beam = decoder._new_beam()
        self._limit = _LATTICE
        self._said: list[Word] = []  # words that are settled and let go
        self._said_gain = self._said_lm = self._said_acoustics = 0.0
        self._details: dict[str, tuple[_Found, list[Span]]] = {}  # of the texts found
        self._names: dict[int, str] = {}  # of the words met so far: to find one takes a while
        start(self._beam, self._grammar, decoder.config.horizon / frame_shift)

    def feed(self, *heads: np.ndarray) -> None:
        """Go on with log-probabilities (frames, classes)."""
        probabilities = to_probabilities(heads[0], len(self._decoder.vocabulary))
        take_in = search_pronounced if self._decoder.pronounces else search
        at = 0
        while at < len(probabilities):
            at = take_in(probabilities, at, self._limit, self._beam, self._grammar, self._tables)
            if at < len(probabilities):
                self._make_room()

    def partial(self) -> Partial:
        """The best text so far, its last word perhaps unfinished."""
        slots = self._beam.slots[: self._state["size"]]
        best = self._spans(self._trace(slots["node"][np.argmax(slots["blank"] + slots["label"])]))
        settled = self._settled()
        boundary = max(self._boundaries(settled), default=0)
        stable = self._spans(settled[:boundary])
        said = [word.word for word in self._said]
        return Partial(
            " ".join([*said, *(span.word for span in best)]),
            " ".join([*said, *(span.word for span in stable)]),
        )

    def finish(self, nbest: int) -> list[Hypothesis]:
        """The best `nbest` texts of all that was fed, best first, without their words."""
        results = np.zeros(len(self._beam.slots), RESULT)
        results = results[: _paths.finish(self._beam, self._grammar, self._tables, results)]
        search = self._merged_paths if self._decoder.pronounces else self._prefixes
        hypotheses: list[Hypothesis] = []
        for found in search(results, nbest):
            spans = self._spans(found.path, bool(found.result["is_cut"]))
            text = " ".join([*(word.word for word in self._said), *(span.word for span in spans)])
            if text in self._details:
                continue
            self._details[text] = found, spans
            lm_score = self._said_lm + float(found.path["lm"].sum() + found.result["lm"])
            acoustic_score = found.score - found.weights
            hypotheses.append(Hypothesis(text, (), found.score, acoustic_score, lm_score))
            if len(hypotheses) == nbest:
                break
        return hypotheses

    def complete(self, hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
        """Some of the texts found with their words; the search is over then."""
        complete = [replace(h, words=self._words(*self._details[h.text])) for h in hypotheses]
        self._decoder._idle.append(self._beam)
        return complete

    def _prefixes(self, results: np.ndarray, wanted: int) -> Iterator[_Found]:
        """The prefixes that the search ends with, the best first."""
        scale = math.log(self._state["scale"]) + int(self._state["exponent"]) * math.log(2)
        for result in results[np.argsort(-results["mass"], kind="stable")]:
            path = self._trace(result["node"])
            score = math.log(result["mass"]) + scale
            yield _Found(path, result, score, self._weights(path, result))

    def _merged_paths(self, results: np.ndarray, wanted: int) -> Iterator[_Found]:
        """The best paths to what the search ends with, scored anew: in the beam, those that were
        merged had one mass, and those that left it now and then had lost some."""
        order = np.zeros(max(wanted, _FEWEST), np.int64)
        choices = np.zeros(len(results) + _CHOICES * len(order), CHOICE)
        nodes, root, share = self._beam.nodes, self._state["root"], np.zeros(self._state["used"])
        order = order[: choose(nodes, root, results, len(order), share, choices, order)]
        room = np.empty(int(self._state["used"]), np.int64)
        paths = [nodes[room[: follow(nodes, root, choices, c, results, room)][::-1]] for c in order]
        ends = results[choices["result"][order]]
        weights = np.array([self._weights(*pair) for pair in zip(paths, ends, strict=True)])
        passed = self._said_acoustics + float(self._state["passed"])
        scores = weights + passed + self._acoustic_scores(paths, self._state["lattice"])
        for k in np.argsort(-scores, kind="stable"):
            if scores[k] > -math.inf:
                yield _Found(paths[k], ends[k], float(scores[k]), float(weights[k]))

    def _weights(self, path: np.ndarray, result: np.void) -> float:
        """Logarithm of all factors but the acoustics."""
        gain = float(np.log(path["gain"], dtype=np.float64).sum())
        return self._said_gain + gain + math.log(result["gain"])

    def _acoustic_scores(self, paths: Sequence[np.ndarray], frames: int) -> np.ndarray:
        """(paths,): log-probabilities of the tokens in the first `frames` of the lattice."""
        lattice = self._beam.lattice[:frames]
        entries = self._beam.entries[: lattice["last"][-1] if frames else 0]
        # Frames that are all blank had better be one row of it: that parts equal tokens.
        rows = np.arange(frames) + np.cumsum(np.diff(lattice["number"], prepend=-1) > 1)
        blank = self._decoder.vocabulary.blank
        table = np.zeros((rows[-1] + 1 if frames else 0, len(self._decoder.vocabulary)))
        table[:, blank] = 1.0
        table[rows, blank] = lattice["blank"]
        table[np.repeat(rows, lattice["last"] - lattice["first"]), entries["token"]] = entries[
            "chance"
        ]
        ends = np.cumsum([0, *map(len, paths)])
        scores = np.empty(len(paths))
        tokens = [path["token"] for path in paths]
        labels = np.concatenate([np.zeros(0, np.int64), *tokens], dtype=np.int64)
        forward(table, labels, ends, blank, scores)
        return scores

    def _words(self, found: _Found, spans: list[Span]) -> tuple[Word, ...]:
        last_lm = float(found.result["last_lm"])
        return (
            *self._said,
            *self._to_words(spans, found.path, self._align(found.path), last_lm),
        )

    @property
    def _state(self) -> np.void:
        return self._beam.state[0]

    def _make_room(self) -> None:
        if self._state["lattice"] < self._limit:
            self._beam = grown(self._beam)
            return
        self._let_go()
        if self._state["lattice"] > self._limit // 2:
            self._limit *= 2  # too much is still open: listen on

    def _let_go(self) -> None:
        """Move settled words out of the tree, so that it stays small however long one speaks."""
        slots = self._beam.slots[: self._state["size"]]
        best = self._trace(slots["node"][np.argmax(slots["blank"] + slots["label"])])
        places = self._align(best)
        settled = self._settled()
        horizon = self._beam.lattice["number"][self._state["lattice"] - _MARGIN]
        cuts = [
            k
            for k in self._boundaries(settled)
            if 0 < k < len(settled) and places["end"][k - 1] < horizon
        ]
        if not cuts:
            return
        cut = cuts[-1]
        spans = self._spans(settled[:cut])
        self._said += self._to_words(spans, settled[: cut + 1], places)
        self._said_gain += float(np.log(settled["gain"][:cut], dtype=np.float64).sum())
        self._said_lm += float(settled["lm"][:cut].sum())
        number = places["end"][cut - 1] + 1
        if self._decoder.pronounces:
            lattice = self._beam.lattice["number"][: self._state["lattice"]]
            frames = int(np.searchsorted(lattice, number))
            self._said_acoustics += float(self._acoustic_scores([settled[:cut]], frames)[0])
        _paths.advance_root(self._beam, settled["parent"][cut], number)

    def _settled(self) -> np.ndarray:
        """The beginning that all prefixes share."""
        return self._trace(_paths.settled_node(self._beam.nodes, self._state["root"]))

    def _trace(self, at: int) -> np.ndarray:
        """(tokens,) NODE: the prefixes on the way to the node `at`, one token longer each."""
        nodes, root = self._beam.nodes, self._state["root"]
        path = np.empty(256, np.int64)
        length = _paths.trace(nodes, root, at, path)
        if length > len(path):
            path = np.empty(length, np.int64)
            _paths.trace(nodes, root, at, path)
        return nodes[path[:length][::-1]]

    def _boundaries(self, path: np.ndarray) -> list[int]:
        """After how many tokens of a path a word is complete."""
        if self._decoder.pronounces:
            return (np.flatnonzero(path["word"] != NOTHING) + 1).tolist()
        return np.flatnonzero(self._grammar.tokens["ends"][path["token"]]).tolist()

    def _spans(self, path: np.ndarray, is_cut: bool = False) -> list[Span]:
        """The words of a path, without an unfinished last one if it is cut."""
        if not self._decoder.pronounces:
            spans = group(path["token"], self._decoder.vocabulary)
            return spans[:-1] if is_cut else spans
        assert self._decoder.lexicon is not None
        ends = self._boundaries(path)
        spans = []
        for begin, end in zip([0, *ends], ends, strict=False):
            entry = int(path["word"][end - 1])
            if entry not in self._names:
                self._names[entry] = self._decoder.lexicon.words[self._grammar.words["word"][entry]]
            spans.append(Span(self._names[entry], begin, end - 1))
        return spans

    def _align(self, path: np.ndarray) -> np.ndarray:
        """(tokens,) PLACE: where each token of a path was heard."""
        lattice = self._beam.lattice[: self._state["lattice"]]
        places = np.zeros(len(path), PLACE)
        tokens = np.ascontiguousarray(path["token"])
        if not _paths.align(lattice, self._beam.entries, tokens, places):
            # Possible only if what was let go took a frame that this hypothesis had used.
            places["start"] = np.sort(np.resize(lattice["number"], len(tokens)))
            places["end"], places["chance"] = places["start"], 0.0
        return places

    def _to_words(
        self, spans: list[Span], path: np.ndarray, places: np.ndarray, last_lm: float = 0.0
    ) -> tuple[Word, ...]:
        """`last_lm`: the model's log-probability of a word that ends with the path."""
        decoder, lm = self._decoder, None
        if decoder.lm is not None:
            # The model is asked when a word's last token is there, or, if it may go on, with the
            # token after it.
            asked = [span.last + (not decoder.pronounces) for span in spans]
            lm = np.append(path["lm"], last_lm)[asked].tolist()
        return to_words(spans, places, self._frame_shift, decoder.confidence, lm)


class _Found(NamedTuple):
    """A path through the tree of prefixes to one of the results."""

    path: np.ndarray  # (tokens,) NODE
    result: np.void  # RESULT
    score: float
    weights: float  # what of it is not acoustic


def _lexicon_of(lm: NGram, vocabulary: Vocabulary) -> Lexicon:
    """The model's words; the phones that it knows, if the units are phones."""
    if vocabulary.kind != "phones":
        return Lexicon.from_words(lm.words, vocabulary)
    known = {*vocabulary.symbols} & {*lm.words}
    if not known:
        raise DecodeError(
            "the language model's words are no phones, and how they are pronounced is not given",
            "give a lexicon made with Lexicon.from_pronunciations",
        )
    return Lexicon.from_pronunciations({phone: [[phone]] for phone in known}, vocabulary)
