"""Vocabulary, lexicon, language model and settings, made into what the search reads."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from asr.decode.config import DecoderConfig
from asr.decode.prefix_tree import (
    HOTWORD_ARC,
    LEXICON_NODE,
    NOTHING,
    RULES,
    TOKEN,
    WORD,
    Grammar,
    first_prefix,
)
from asr.errors import DecodeError
from asr.lexicon import Lexicon, unit_labels
from asr.lm.backoff import NEVER
from asr.lm.ngram import NGram
from asr.text.vocabulary import (
    SPECIAL,
    UNKNOWN_ID,
    WORD_START,
    Vocabulary,
)

_MAX_LOG = 80.0  # natural logarithm of a factor
_SLACK = 1 + 1e-6  # an upper bound stays one when it is rounded to 32 bits


def build_grammar(
    vocabulary: Vocabulary,
    lexicon: Lexicon | None,
    lm: NGram | None,
    hotwords: Mapping[str, float],
    config: DecoderConfig,
    pronounced: bool,
    like: Grammar | None = None,
) -> Grammar:
    """`pronounced`: words end anywhere, without a token that says so. `like`: a grammar with the
    same weights, whose lexicon is shared.

    Raises DecodeError where the parts were made for different vocabularies.
    """
    labels = lexicon.labels if lexicon else unit_labels(vocabulary)
    index = {label: i for i, label in enumerate(labels)}
    boundary, foreign = len(labels), len(labels) + 1
    spellings = [
        _spelling(vocabulary, token, index, boundary, foreign, pronounced)
        for token in range(len(vocabulary))
    ]
    if all(foreign in spelling for spelling in spellings if spelling and spelling != [boundary]):
        raise DecodeError(
            f"the lexicon is spelled with {' '.join(labels[:5])} …, the vocabulary with"
            f" {' '.join(vocabulary.symbols[1:6])} …",
            "build the lexicon for this vocabulary",
        )
    automaton = _automaton(vocabulary, lexicon if pronounced else None, hotwords, index)
    tokens = np.zeros(len(vocabulary), TOKEN)
    tokens["last"] = np.cumsum([len(spelling) for spelling in spellings])
    tokens["first"][1:] = tokens["last"][:-1]
    tokens["ends"] = [boundary in spelling for spelling in spellings]
    units = np.array([unit for spelling in spellings for unit in spelling], np.int32)
    if like is None:
        nodes, words = _lexicon_nodes(lexicon, lm, hotwords, config)
    else:
        nodes, words = like.lexicon, like.words
    rules = _rules(vocabulary, lexicon, lm, bool(hotwords), config, pronounced)
    rules["boundary"], rules["few_units"] = boundary, len(labels) <= 64
    max_units = max(map(len, spellings)) + pronounced
    rules["max_hotword"] = float(automaton["weight"].max()) ** max_units
    root, first = first_prefix(rules[0], automaton, len(vocabulary), lm.start if lm else 0)
    grammar = Grammar(rules, tokens, units, nodes, words, automaton, root, first)
    for array in grammar:
        array.flags.writeable = False  # the search is compiled for read-only tables
    return grammar


def _rules(
    vocabulary: Vocabulary,
    lexicon: Lexicon | None,
    lm: NGram | None,
    has_hotwords: bool,
    config: DecoderConfig,
    pronounced: bool,
) -> np.ndarray:
    """(1,) RULES, without what depends on the spellings."""
    unknown_ahead = config.lm_weight * (_unknown_ahead(lm) if lexicon else 0.0)
    space = vocabulary.symbols.index(" ") if " " in vocabulary.symbols else NOTHING
    unknown = math.exp(config.unknown_penalty) if lexicon else 1.0
    max_unknown = 1.0 if has_hotwords else unknown  # in a hot phrase they cost nothing
    values = {
        "beam": config.beam,
        "beam_ratio": math.exp(-config.beam_threshold),
        "token_ratio": math.exp(-config.token_threshold),
        "blank_skip": config.blank_skip,
        "blank": vocabulary.blank,
        "space": space if vocabulary.kind == "characters" else NOTHING,
        "pronounced": pronounced,
        "closed": lexicon is not None and (config.closed or pronounced),
        "unknown": unknown,
        "leave_lexicon": math.exp(unknown_ahead),
        "leave_unknown": math.exp(-unknown_ahead),
        "word_bonus": math.exp(config.word_bonus),
        "lm_weight": config.lm_weight if lm else 0.0,
        "lm_unknown": UNKNOWN_ID,
        "lm_end": lm.end if lm else NOTHING,
        "max_bonus": max(1.0, math.exp(config.word_bonus)),
        "max_unknown": max_unknown,
        "max_leave": math.exp(unknown_ahead) * max_unknown,
    }
    rules = np.zeros(1, RULES)
    for name, value in values.items():
        rules[name] = value
    return rules


def _spelling(
    vocabulary: Vocabulary,
    token: int,
    index: Mapping[str, int],
    boundary: int,
    foreign: int,
    pronounced: bool,
) -> list[int]:
    """The labels that a token stands for, `boundary` where a word ends."""
    symbol = vocabulary.symbols[token]
    if token == vocabulary.blank:
        return []
    if vocabulary.kind == "phones":
        unit = index.get(symbol, foreign)
        return [unit] if pronounced else [boundary, unit]
    marks = {" ": boundary, WORD_START: boundary}
    return [marks.get(character, index.get(character, foreign)) for character in symbol]


def unknown_word_cost(lexicon: Lexicon, lm: NGram, hot: Collection[str] = ()) -> float:
    """Natural log, to be added to what the model says of `<unk>`: the cost of a word that the
    lexicon has and the model lacks. Words that are `hot` are not counted among them.

    All of them share the probability of `<unk>`, and none is likelier than the rarest word of the
    model. (A constant that is too small lets rare names win over words that the model knows.) A
    model that gives `<unk>` next to no probability, as a file without one, excludes them.
    """
    missing = [
        word
        for word, own in zip(lexicon.words, _language_model_words(lexicon, lm), strict=True)
        if own == UNKNOWN_ID and word not in hot and word not in SPECIAL
    ]
    unigrams = lm.unigrams()
    known = unigrams[len(SPECIAL) :]
    rarest = float(known[known > NEVER / 2].min(initial=0.0))
    return min(-math.log(max(1, len(missing))), rarest - float(unigrams[UNKNOWN_ID]))


def _lexicon_nodes(
    lexicon: Lexicon | None, lm: NGram | None, hotwords: Mapping[str, float], config: DecoderConfig
) -> tuple[np.ndarray, np.ndarray]:
    """LEXICON_NODE and WORD records with a look-ahead: every node promises the best word below it.

    The best unigram of the words below a node is charged when a prefix enters the node, and given
    back when the word ends and its true probability is known. So a prefix on its way to a rare
    word falls behind at once, not at the word's end (Ortmanns, Ney and Eiden 1996, "Language-model
    look-ahead for large vocabulary speech recognition").
    """
    if lexicon is None:
        nodes, words = np.ones(2, LEXICON_NODE), np.zeros(0, WORD)
        nodes["children"] = nodes["word_first"] = 0
        return nodes, words
    nodes = np.zeros(lexicon.nodes + 1, LEXICON_NODE)
    words = np.zeros(len(lexicon.word), WORD)
    nodes["label"][:-1] = lexicon.label
    nodes["first"], nodes["word_first"] = lexicon.first, lexicon.word_first
    words["word"], words["weight"], words["max_weight"] = lexicon.word, 1.0, 1.0
    ahead = np.zeros(lexicon.nodes)
    if lm is not None:
        lm_words = _language_model_words(lexicon, lm)
        words["lm_word"] = lm_words[lexicon.word]
        share = _unknown_words(lexicon, lm, lm_words, hotwords, config)
        words["weight"] = np.exp(share)[lexicon.word]
        words["max_weight"] = (
            np.exp(config.lm_weight * lm.max_log_probs()[words["lm_word"]]) * words["weight"]
        )
        share /= config.lm_weight or math.inf
        ahead = lexicon.best_below((lm.unigrams()[lm_words] + share).astype(np.float32))
        # What is promised is given back, so a bound does no harm: no factor leaves 32 bits.
        ahead = np.maximum(ahead, -_MAX_LOG / (config.lm_weight or math.inf))
        ahead[0] = 0.0  # before a word nothing is promised
    parents = np.repeat(np.arange(lexicon.nodes), np.diff(lexicon.first))
    np.bitwise_or.at(
        nodes["children"], parents, np.uint64(1) << (lexicon.label[1:] & 63).astype(np.uint64)
    )
    nodes["enter"][1:-1] = np.exp(config.lm_weight * (ahead[1:] - ahead[parents]))
    nodes["enter"][1 : lexicon.first[1]] *= math.exp(config.word_bonus)
    nodes["leave"][:-1] = np.exp(-config.lm_weight * ahead)
    nodes["max_step"][:-1] = _max_steps(nodes, words, parents)
    return nodes, words


def _unknown_words(
    lexicon: Lexicon,
    lm: NGram,
    lm_words: np.ndarray,
    hotwords: Mapping[str, float],
    config: DecoderConfig,
) -> np.ndarray:
    """Natural log (words,): what the words of the lexicon cost besides what the model says.

    Hot words cost `unknown_penalty` where the model lacks them: whoever names one expects it.
    """
    is_unknown = lm_words == UNKNOWN_ID
    if not is_unknown[len(SPECIAL) :].any():
        return np.zeros(len(lm_words))
    hot = {word for phrase in hotwords for word in phrase.split()}
    cost = config.lm_weight * unknown_word_cost(lexicon, lm, hot)
    costs = np.where(is_unknown, cost, 0.0)
    costs[[i for word in hot if (i := lexicon.words.index(word)) and is_unknown[i]]] = (
        config.unknown_penalty
    )
    return costs


def _max_steps(nodes: np.ndarray, words: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """Upper bounds (nodes,) of the factor of a step from a node to any of its children, whether the
    word continues there or ends, where words have no mark.

    `parents`: of all nodes but the first. Hot words are not counted.
    """
    count = len(parents) + 1
    ending, best = np.zeros(count), np.zeros(count)
    np.maximum.at(
        ending, np.repeat(np.arange(count), np.diff(nodes["word_first"])), words["max_weight"]
    )
    ending *= nodes["leave"][:-1]
    onwards = nodes["enter"][:-1] * np.maximum(ending, nodes["children"][:-1] != 0)
    np.maximum.at(best, parents, onwards[1:])
    return best * _SLACK


def _unknown_ahead(lm: NGram | None) -> float:
    """The look-ahead of unknown words."""
    return float(lm.unigrams()[UNKNOWN_ID]) if lm is not None else 0.0


def _language_model_words(lexicon: Lexicon, lm: NGram) -> np.ndarray:
    """The model's id of every word of the lexicon."""
    if np.array_equal(lexicon.words.text, lm.words.text):
        return np.arange(len(lm.words))
    ids = {word: i for i, word in enumerate(lm.words)}
    found = np.array([ids.get(word, UNKNOWN_ID) for word in lexicon.words])
    if not found[len(SPECIAL) :].any():
        raise DecodeError(
            "the language model knows no word of the lexicon",
            "use a language model and a lexicon made with the same text normalisation",
        )
    return found


def _automaton(
    vocabulary: Vocabulary,
    lexicon: Lexicon | None,
    hotwords: Mapping[str, float],
    index: Mapping[str, int],
) -> np.ndarray:
    spell: dict[str, Sequence[Sequence[int]]] = {}
    for word in {word for phrase in hotwords for word in phrase.split()}:
        if lexicon is not None:
            spell[word] = lexicon.spellings(word)
            missing = not spell[word]
        else:
            units = [word] if vocabulary.kind == "phones" else vocabulary.letters(word)
            missing = any(unit not in index for unit in units)
            spell[word] = [] if missing else [[index[unit] for unit in units]]
        if missing:
            raise DecodeError(
                f"the hot word {word!r} cannot be spelled",
                "write it in the units of the vocabulary, or name it when the recogniser is made,"
                " which learns from the lexicon how it is pronounced",
            )
    return build_automaton(hotwords, spell, units=len(index) + 2, boundary=len(index))


_MAX_PRONUNCIATIONS = 16  # of a phrase: the combinations of its words'


def build_automaton(
    phrases: Mapping[str, float],
    spell: Mapping[str, Sequence[Sequence[int]]],
    units: int,
    boundary: int,
) -> np.ndarray:
    """Transitions (states, units + 1) HOTWORD_ARC of the automaton of all phrases.

    Every unit of a phrase earns its share of the phrase's boost as it is spelled: a boost that is
    paid at the end comes too late for a prefix that has been pruned by then. What a phrase has
    earned is taken back as soon as the text takes another turn.


    State 0 is outside of all phrases. The last column takes back what is unfinished.
    `phrases`: natural-log boosts.

    `spell`: every word's spellings in labels, `boundary` the label between words. A phrase counts
    only as whole words: it is spelled boundary, units, boundary (Aho and Corasick 1975, "Efficient
    string matching").
    """
    children: list[dict[int, int]] = [{}]
    credit, bank, depth = [0.0], [0.0], [0]
    # Words of a phrase are known words wherever they stand; alone they earn nothing.
    words = dict.fromkeys((word for phrase in phrases for word in phrase.split()), 0.0)
    for phrase, boost in (words | dict(phrases)).items():
        spellings = [spell[word] for word in phrase.split()]
        for chosen in itertools.islice(itertools.product(*spellings), _MAX_PRONUNCIATIONS):
            sequence = [boundary]
            for spelling in chosen:
                sequence += [*spelling, boundary]
            node = 0
            for position, unit in enumerate(sequence):
                if unit not in children[node]:
                    children[node][unit] = len(children)
                    children.append({})
                    credit.append(0.0)
                    bank.append(0.0)
                    depth.append(position + 1)
                node = children[node][unit]
                if position + 1 < len(sequence):
                    share = boost * position / (len(sequence) - 2)
                    credit[node] = max(credit[node], share)
            bank[node] = max(bank[node], boost)

    states = len(children)
    next_state = np.zeros((states, units), np.int32)
    fail = [0] * states
    for unit, child in children[0].items():
        next_state[0, unit] = child
    queue = deque(children[0].values())
    while queue:  # breadth first: what a state falls back to is complete before it
        node = queue.popleft()
        bank[node] += bank[fail[node]]
        credit[node] = max(credit[node], credit[fail[node]])
        next_state[node] = next_state[fail[node]]
        for unit, child in children[node].items():
            fail[child] = int(next_state[fail[node], unit])
            next_state[node, unit] = child
            queue.append(child)
    earned = np.array(credit)
    log_gain = earned[next_state] + np.array(bank)[next_state] - earned[:, None]
    automaton = np.zeros((states, units + 1), HOTWORD_ARC)
    automaton["next"][:, :-1] = next_state
    automaton["weight"][:, :-1] = np.exp(log_gain)
    automaton["weight"][:, -1] = np.exp(-earned)
    automaton["inside"][:, :-1] = (np.array(depth) > 1)[next_state]
    return automaton
