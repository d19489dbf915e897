"""Case and punctuation: what the network says, where sentences end, and what stays as it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from tagging import tagger_for  # noqa: E402
from tone_speech import tones  # noqa: E402

from asr.errors import BundleError  # noqa: E402
from asr.packaging.bundle import Bundle  # noqa: E402
from asr.punctuation.export import tagger_to_onnx  # noqa: E402
from asr.punctuation.labels import rows_of  # noqa: E402
from asr.punctuation.punctuator import Punctuator  # noqa: E402
from asr.punctuation.tagger import Tagger, TaggerConfig  # noqa: E402
from asr.recognizer import Recognizer  # noqa: E402
from asr.types import Segment, Transcript, Word  # noqa: E402
from asr.vad import VadConfig  # noqa: E402

WORDS = "so did mister smith call yes he did and then it was over".split()


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Punctuator]:
    def load(model: Tagger, *, small: bool = False, **forms: str) -> Punctuator:
        path = tmp_path_factory.mktemp("punctuation") / "punctuation.onnx"
        path.write_bytes(tagger_to_onnx(model, forms, small=small).SerializeToString())
        return Punctuator(path)

    return load


@pytest.fixture(scope="module")
def random_tagger() -> Tagger:
    torch.manual_seed(0)
    model = Tagger(TaggerConfig(rows=64, embedding=8, hidden_size=8, layers=2)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


def segments(*texts: str, gap: float = 0.6) -> list[Segment]:
    """Words of half a second, without pauses but for those between the texts."""
    made, now = [], 0.0
    for text in texts:
        words = []
        for word in text.split():
            words.append(Word(word, now, now + 0.5, 0.9))
            now += 0.5
        made.append(Segment(words[0].start, now, text, tuple(words)))
        now += gap
    return made


@pytest.mark.parametrize("small", [False, True])
def test_the_graph_says_what_the_network_says(
    load: Callable[..., Punctuator], random_tagger: Tagger, small: bool
) -> None:
    rows = torch.tensor([[rows_of(word, 64) for word in WORDS]])
    with torch.no_grad():
        expected = random_tagger(rows, torch.tensor([len(WORDS)]))
    given = load(random_tagger, small=small)._log_probs(WORDS)
    for ours, theirs in zip(given, expected, strict=True):
        np.testing.assert_allclose(ours, theirs[0], atol=0.2 if small else 1e-4)


def test_the_batch_makes_no_difference(random_tagger: Tagger) -> None:
    rows = torch.randint(64, (2, 6, 4))
    with torch.no_grad():
        alone = random_tagger(rows[:1, :4], torch.tensor([4]))
        together = random_tagger(rows, torch.tensor([4, 6]))
    for a, b in zip(alone, together, strict=True):
        torch.testing.assert_close(a[0], b[0, :4])


def test_sentences_begin_and_end(load: Callable[..., Punctuator]) -> None:
    marks = {"call": "?", "yes": ",", "did": ".", "then": ","}
    punctuator = load(tagger_for(marks))
    written = " ".join(punctuator("so can he call yes he did and then it was over".split()))
    assert written == "So can he call? Yes, he did. And then, it was over."
    assert punctuator(["call"]) == ["Call?"]
    assert punctuator(["then"]) == ["Then."]
    assert punctuator([]) == []


def test_silences_are_witnesses(load: Callable[..., Punctuator]) -> None:
    model = tagger_for({})
    with torch.no_grad():
        model.output.bias[:4] = torch.tensor([2.0, 0.0, 0.0, -9.0])
    punctuator = load(model)
    words = ["so", "he", "did"]
    assert punctuator(words) == ["So", "he", "did."]
    assert punctuator(words, [0.0, 2.0]) == ["So", "he.", "Did."]
    assert punctuator(words, [0.0, 0.1]) == ["So", "he", "did."]


def test_segments_are_one_text_and_keep_all_else(load: Callable[..., Punctuator]) -> None:
    punctuator = load(tagger_for({"did": "."}))
    given = segments("he said he", "did so she", "went")
    done = list(punctuator.segments(given))
    assert [s.text for s in done] == ["He said he", "did. So she", "went."]
    for before, after in zip(given, done, strict=True):
        assert after.text == " ".join(word.word for word in after.words)
        words = tuple(
            dataclasses.replace(new, word=old.word)
            for new, old in zip(after.words, before.words, strict=True)
        )
        assert dataclasses.replace(after, text=before.text, words=words) == before
    assert punctuator.segment(given[1]).text == "Did. So she."
    assert list(punctuator.segments([])) == []


def test_long_recordings_are_written_as_they_come(load: Callable[..., Punctuator]) -> None:
    """Some words behind the first, and as if the whole were one text."""
    punctuator = load(tagger_for({"he": ",", "did": "."}))
    texts = [" ".join(WORDS[i % 7 : i % 7 + 6]) for i in range(120)]
    given, taken = segments(*texts, gap=0.0), 0

    def source():
        nonlocal taken
        for segment in given:
            taken += 1
            yield segment

    running = punctuator.segments(source())
    done = [next(running)]
    assert taken < 40
    done += running
    whole = punctuator([w.word for s in given for w in s.words], [0.0] * (120 * 6 - 1))
    assert [w.word for s in done for w in s.words] == whole
    assert whole[-1].endswith(".")


def test_special_forms(load: Callable[..., Punctuator]) -> None:
    model = tagger_for({})
    with torch.no_grad():
        model.output.bias[5] = 9.0  # all words are names
    assert load(model, mcduff="McDuff")(["mcduff", "and", "mcfee"]) == ["McDuff", "And", "Mcfee."]


def test_what_is_no_model_is_refused(tmp_path: Path, tone_bundle: Bundle) -> None:
    (tmp_path / "p.onnx").write_bytes(b"garbage")
    for path in (tmp_path / "p.onnx", tmp_path / "missing.onnx", tone_bundle.model_path):
        with pytest.raises(BundleError, match="no model of punctuation"):
            Punctuator(path)
    with pytest.raises(BundleError, match="restores neither case nor punctuation"):
        Recognizer(tone_bundle, decoder="greedy", punctuate=True)


def recognizer(bundle: Bundle, *, punctuate: bool) -> Recognizer:
    vad = VadConfig(detector="energy")
    return Recognizer(bundle, decoder="greedy", vad=vad, threads=1, punctuate=punctuate)


TALK = np.concatenate(
    [tones("cab bad"), np.zeros(9_600), tones("dad"), np.zeros(40_000), tones("fed")]
).astype(np.float32)


def test_a_recogniser_writes_where_it_is_asked_to(writing_tone_bundle: Bundle) -> None:
    plain, writing = (recognizer(writing_tone_bundle, punctuate=p) for p in (False, True))
    as_heard, as_written = (r.transcribe(TALK, 16_000) for r in (plain, writing))
    assert as_heard.text == "cab bad dad fed"
    assert as_written.text == "Cab, bad dad fed."
    assert isinstance(as_written, Transcript)
    for heard, written in zip(as_heard.words, as_written.words, strict=True):
        assert (heard.start, heard.end) == (written.start, written.end)
        assert heard.confidence == written.confidence
    assert writing.recognize([TALK])[0].text == plain.recognize([TALK])[0].text


def test_a_stream_writes_its_finals(writing_tone_bundle: Bundle) -> None:
    stream = recognizer(writing_tone_bundle, punctuate=True).stream()
    blocks = np.split(TALK[: len(TALK) // 1600 * 1600], len(TALK) // 1600)
    events = [event for block in blocks for event in stream.feed(block)]
    events += stream.finish()
    assert [e.text for e in events if e.is_final and e.text] == ["Cab, bad dad.", "Fed."]
    partials = [e for e in events if not e.is_final]
    assert "cab bad" in [e.text for e in partials]
    assert {e.stable for e in partials} == {""}


def test_the_bundled_model_writes_english(bundled_model: Bundle) -> None:
    assert bundled_model.punctuation_path is not None
    assert bundled_model.files["punctuation.onnx"] < 2_000_000
    punctuator = Punctuator(bundled_model.punctuation_path)
    written = " ".join(punctuator("hello tom how are you i live in london".split()))
    assert written.replace(",", "") == "Hello Tom how are you? I live in London."
