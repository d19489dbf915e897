"""CTC prefix beam search with a word n-gram model, hot words, times and confidences."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from asr.decode import lattice, prefix_tree, search
from asr.decode.config import DecoderConfig
from asr.decode.grammar import build_grammar, unknown_word_cost
from asr.decode.prefix_tree import NOTHING, PATH, Beam, Grammar, grown, new_beam, start
from asr.errors import DecodeError
from asr.lexicon import Lexicon
from asr.lexicon.hotwords import NO_HOTWORDS, PreparedHotwords, with_boosts
from asr.lm.ngram import NGram
from asr.lm.phrases import phrase_model
from asr.text.vocabulary import Vocabulary
from asr.types import Hypothesis, Word
from asr.words import Confidence, Partial, Span, group, to_probabilities, to_words

_LATTICE = 4096  # frames with more than a blank, after which what is settled is forgotten
_MARGIN = 64  # of these frames, the last, which are never forgotten
_MIN_PATHS = 24  # whose exact scores are found
_DETOURS = 16  # tried for each of these
_NO_PATHS = np.zeros(0, PATH)


class BeamSearch:
    """Finds the most probable texts, not the most probable path.

    The score of a text is a sum over its paths. If words are spelled: over those of which every
    prefix was in the beam all the while. If they are pronounced: over all paths through the symbols
    that were tried, for there prefixes are recombined, and the texts found are scored again; so a
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
        hotwords: Mapping[str, float] | Iterable[str] = (),
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
        boost = self.config.hotword_boost
        self._hotwords = with_boosts(hotwords, boost) if hotwords else {}
        self._grammar = self._build_grammar()
        self.confidence: Callable[..., list[float]] = Confidence(self.config.confidence)
        self._names: dict[int, str] = {}  # of the words met so far: to find one takes a while
        self._idle: list[Beam] = []  # work space of searches that are over

    @property
    def kernel(self) -> Any:
        """The compiled function that takes in frames."""
        return search.search_pronounced if self.pronounces else search.search

    def stream(self, frame_shift: float) -> BeamSearchStream:
        return BeamSearchStream(self, frame_shift)

    def variant(
        self, config: DecoderConfig, hotwords: PreparedHotwords = NO_HOTWORDS
    ) -> BeamSearch:
        """The same search with other settings, and `hotwords` beside its own.

        It shares the language model, and the lexicon as far as the settings allow and it lacks none
        of the words. Raises DecodeError for a hot word that cannot be spelled.
        """
        changed = copy(self)
        lexicon = self.lexicon if self.pronounces else None
        if lexicon is not None:
            lacking = {w: s for w, s in hotwords.spellings.items() if w not in lexicon}
            changed.lexicon = lexicon.extended(lacking) if lacking else lexicon
        changed.config = config
        changed.confidence = Confidence(config.confidence)
        changed._hotwords = self._hotwords | with_boosts(hotwords.boosts, config.hotword_boost)
        changed._grammar = changed._build_grammar(self)
        changed._names, changed._idle = {}, []
        changed.__dict__.pop("unknown_word_cost", None)
        return changed

    def restricted(self, phrases: PreparedHotwords) -> BeamSearch:
        """A search that knows the words of some phrases alone, in sequences like theirs.

        Raises DecodeError for a word that cannot be spelled.
        """
        lm = phrase_model(phrases.boosts)
        if self.pronounces and self.lexicon is not None:
            lexicon = self.lexicon.subset(lm.words, phrases.spellings)
        else:
            lexicon = Lexicon.from_words(lm.words, self.vocabulary)
        config = replace(self.config, closed=True)
        return BeamSearch(self.vocabulary, lm=lm, lexicon=lexicon, config=config)

    def _build_grammar(self, like: BeamSearch | None = None) -> Grammar:
        weights = ("lm_weight", "word_bonus", "unknown_penalty")
        if like and (
            like.lexicon is not self.lexicon
            or any(getattr(like.config, name) != getattr(self.config, name) for name in weights)
        ):
            like = None
        return build_grammar(
            self.vocabulary,
            self.lexicon,
            self.lm,
            self._hotwords,
            self.config,
            pronounced=self.pronounces,
            like=like._grammar if like else None,
        )

    @cached_property
    def unknown_word_cost(self) -> float:
        """What a word that the lexicon has and the language model lacks costs besides `<unk>`."""
        if self.lexicon is None or self.lm is None:
            return 0.0
        return unknown_word_cost(self.lexicon, self.lm)

    def word_ends(self, nodes: np.ndarray) -> list[int]:
        """After how many of the tokens of a path (tokens,) NODE a word is complete."""
        if self.pronounces:
            return (np.flatnonzero(nodes["word"] != NOTHING) + 1).tolist()
        return np.flatnonzero(self._grammar.tokens["ends"][nodes["token"]]).tolist()

    def spans(self, nodes: np.ndarray, is_cut: bool = False) -> list[Span]:
        """The words of a path, without an unfinished last one if it is cut."""
        if not self.pronounces:
            spans = group(nodes["token"], self.vocabulary)
            return spans[:-1] if is_cut else spans
        assert self.lexicon is not None
        ends = self.word_ends(nodes)
        spans = []
        for begin, end in zip([0, *ends], ends, strict=False):
            entry = int(nodes["word"][end - 1])
            if entry not in self._names:
                self._names[entry] = self.lexicon.words[self._grammar.words["word"][entry]]
            spans.append(Span(self._names[entry], begin, end - 1))
        return spans

    def _new_beam(self) -> Beam:
        with contextlib.suppress(IndexError):  # other threads take from the list, too
            return self._idle.pop()
        return new_beam(self.config.beam, len(self.vocabulary))


@dataclass
class _Settled:
    """The beginning of an utterance that every prefix shares, and that the tree has forgotten."""

    words: list[Word] = field(default_factory=list)
    log_weight: float = 0.0
    lm_score: float = 0.0
    acoustic_score: float = 0.0


class _Found(NamedTuple):
    """A way through the tree of prefixes to an end of the search."""

    nodes: np.ndarray  # (tokens,) NODE
    end: np.void  # PATH
    score: float
    log_weight: float  # what of it is not acoustic


class BeamSearchStream:
    """A search in one utterance; the result does not depend on how the frames were cut."""

    def __init__(self, beam_search: BeamSearch, frame_shift: float):
        self._search = beam_search
        self._grammar = beam_search._grammar
        self._lm = beam_search.lm.tables if beam_search.lm else None
        self._frame_shift = frame_shift
        self._beam = beam_search._new_beam()
        self._limit = _LATTICE
        self._settled = _Settled()
        self._details: dict[str, tuple[_Found, list[Span]]] = {}  # of the texts found
        start(self._beam, self._grammar, beam_search.config.horizon / frame_shift)

    @property
    def _state(self) -> np.void:
        return self._beam.state[0]

    def feed(self, *heads: np.ndarray) -> None:
        """Continue with log-probabilities (frames, classes)."""
        probabilities = to_probabilities(heads[0], len(self._search.vocabulary))
        run = self._search.kernel
        at = 0
        while at < len(probabilities):
            at = run(probabilities, at, self._limit, self._beam, self._grammar, self._lm)
            if at < len(probabilities):
                self._make_room()

    def partial(self) -> Partial:
        """The best text so far, its last word perhaps unfinished."""
        best = self._search.spans(self._best_nodes())
        shared = self._shared_nodes()
        boundary = max(self._search.word_ends(shared), default=0)
        stable = self._search.spans(shared[:boundary])
        return Partial(self._text(best), self._text(stable))

    def finish(self, nbest: int) -> list[Hypothesis]:
        """The best `nbest` texts of all that was fed, best first, without their words."""
        ends = np.zeros(len(self._beam.slots), PATH)
        ends = ends[: search.finish(self._beam, self._grammar, self._lm, ends)]
        ranked = self._rescored_paths if self._search.pronounces else self._prefixes
        hypotheses: list[Hypothesis] = []
        for found in ranked(ends, nbest):
            spans = self._search.spans(found.nodes, bool(found.end["is_cut"]))
            text = self._text(spans)
            if text in self._details:
                continue
            self._details[text] = found, spans
            lm_score = float(found.nodes["lm_log_prob"].sum() + found.end["end_lm"])
            lm_score = self._settled.lm_score + lm_score
            acoustic_score = found.score - found.log_weight
            hypotheses.append(Hypothesis(text, (), found.score, acoustic_score, lm_score))
            if len(hypotheses) == nbest:
                break
        return hypotheses

    def complete(self, hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
        """Some of the texts found with their words; the search is over then."""
        complete = []
        for hypothesis in hypotheses:
            found, spans = self._details[hypothesis.text]
            last_lm = float(found.end["last_lm"])
            words = self._words(spans, found.nodes, *self._align(found.nodes), last_lm)
            complete.append(replace(hypothesis, words=(*self._settled.words, *words)))
        self._search._idle.append(self._beam)
        return complete

    def _prefixes(self, ends: np.ndarray, nbest: int) -> Iterator[_Found]:
        """The prefixes that the search ends with, best first."""
        scale = math.log(self._state["scale"]) + int(self._state["exponent"]) * math.log(2)
        for end in ends[np.argsort(-ends["mass"], kind="stable")]:
            nodes = self._trace(end["node"])
            score = math.log(end["mass"]) + scale
            yield _Found(nodes, end, score, self._log_weight(nodes, end))

    def _rescored_paths(self, ends: np.ndarray, nbest: int) -> Iterator[_Found]:
        """The best paths to the ends, with exact scores: in the beam those that were recombined
        had one mass, and those that left it now and then had lost some."""
        order = np.zeros(max(nbest, _MIN_PATHS), np.int64)
        paths = np.zeros(2 * len(ends) + _DETOURS * len(order), PATH)
        paths[: len(ends)] = ends
        nodes, root, share = self._beam.nodes, self._state["root"], np.zeros(self._state["n_nodes"])
        count = prefix_tree.best_paths(nodes, root, paths, len(ends), share, order)
        ways = [self._trace(paths["node"][p], paths, p) for p in order[:count]]
        best = paths[order[:count]]
        weights = np.array([self._log_weight(*pair) for pair in zip(ways, best, strict=True)])
        skipped = self._settled.acoustic_score + float(self._state["skipped"])
        acoustics = self._acoustic_scores(ways, self._state["lattice_frames"])
        scores = weights + skipped + acoustics
        for k in np.argsort(-scores, kind="stable"):
            if scores[k] > -math.inf:
                yield _Found(ways[k], best[k], float(scores[k]), float(weights[k]))

    def _log_weight(self, nodes: np.ndarray, end: np.void) -> float:
        """Logarithm of all factors but the acoustics."""
        log_weight = float(np.log(nodes["weight"], dtype=np.float64).sum())
        return self._settled.log_weight + log_weight + math.log(end["end_weight"])

    def _acoustic_scores(self, paths: Sequence[np.ndarray], frames: int) -> np.ndarray:
        """(paths,): log-probabilities of their tokens in the first `frames` of the lattice."""
        beam, vocabulary = self._beam, self._search.vocabulary
        tokens = [nodes["token"] for nodes in paths]
        return lattice.path_scores(
            beam.lattice[:frames], beam.entries, tokens, len(vocabulary), vocabulary.blank
        )

    def _make_room(self) -> None:
        if self._state["lattice_frames"] < self._limit:
            self._beam = grown(self._beam)
            return
        self._forget_settled()
        if self._state["lattice_frames"] > self._limit // 2:
            self._limit *= 2  # too much is still open: continue

    def _forget_settled(self) -> None:
        """Move settled words out of the tree, so that it stays small however long one speaks."""
        spans, probabilities = self._align(self._best_nodes())
        shared = self._shared_nodes()
        frames = self._beam.lattice["number"][: self._state["lattice_frames"]]
        cuts = [
            k
            for k in self._search.word_ends(shared)
            if 0 < k < len(shared) and spans[k - 1, 1] < frames[-_MARGIN]
        ]
        if not cuts:
            return
        cut = cuts[-1]
        settled, words = self._settled, self._search.spans(shared[:cut])
        settled.words += self._words(words, shared[: cut + 1], spans, probabilities)
        settled.log_weight += float(np.log(shared["weight"][:cut], dtype=np.float64).sum())
        settled.lm_score += float(shared["lm_log_prob"][:cut].sum())
        number = spans[cut - 1, 1] + 1
        if self._search.pronounces:
            forgotten = int(np.searchsorted(frames, number))
            settled.acoustic_score += float(self._acoustic_scores([shared[:cut]], forgotten)[0])
        prefix_tree.advance_root(self._beam, int(shared["parent"][cut]))
        lattice.forget(self._beam, number)

    def _best_nodes(self) -> np.ndarray:
        slots = self._beam.slots[: self._state["size"]]
        return self._trace(slots["node"][np.argmax(slots["blank"] + slots["label"])])

    def _shared_nodes(self) -> np.ndarray:
        """The beginning that all prefixes share."""
        return self._trace(prefix_tree.settled_node(self._beam.nodes, self._state["root"]))

    def _trace(self, at: int, paths: np.ndarray = _NO_PATHS, path: int = -1) -> np.ndarray:
        """(tokens,) NODE: the prefixes on the way to the node `at`, one token longer each."""
        nodes, root = self._beam.nodes, self._state["root"]
        room = np.empty(256, np.int64)
        length = prefix_tree.trace(nodes, root, int(at), paths, int(path), room)
        if length > len(room):
            room = np.empty(length, np.int64)
            prefix_tree.trace(nodes, root, int(at), paths, int(path), room)
        return nodes[room[:length][::-1]]

    def _align(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and last frame of each token, and its probability, see `asr.decode.lattice`."""
        frames = self._beam.lattice[: self._state["lattice_frames"]]
        return lattice.align(frames, self._beam.entries, np.ascontiguousarray(nodes["token"]))

    def _text(self, spans: list[Span]) -> str:
        settled = (word.word for word in self._settled.words)
        return " ".join([*settled, *(span.word for span in spans)])

    def _words(
        self,
        words: list[Span],
        nodes: np.ndarray,
        spans: np.ndarray,
        probabilities: np.ndarray,
        last_lm: float = 0.0,
    ) -> tuple[Word, ...]:
        """`last_lm`: the model's log-probability of a word that ends with the path."""
        lm = None
        if self._lm is not None:
            # The model is asked when a word's last token is there, or, if it may continue, with the
            # token after it.
            asked = [word.last + (not self._search.pronounces) for word in words]
            lm = np.append(nodes["lm_log_prob"], last_lm)[asked].tolist()
        return to_words(words, spans, probabilities, self._frame_shift, self._search.confidence, lm)


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
