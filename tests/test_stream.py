"""Live streams: the words of a file, as they come, however they come."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tone_speech import PAUSE_SECONDS, TONE_SECONDS, tones

from asr import audio
from asr.acoustics import Heads, Job
from asr.decode.config import DecoderConfig
from asr.errors import AudioError, ConfigError
from asr.features import FeatureConfig
from asr.open_segment import DRAFT_SECONDS
from asr.packaging.bundle import Bundle, BundleConfig
from asr.recognizer import Recognizer
from asr.stream import EndpointConfig, NetworkRun, Request, Stream
from asr.text.vocabulary import Vocabulary
from asr.types import StreamEvent
from asr.vad import VadConfig

RATE = 16_000
STEP = TONE_SECONDS + PAUSE_SECONDS


@pytest.fixture(scope="module", params=["whole utterances", "chunks"])
def hears_tones(
    request: pytest.FixtureRequest, tone_bundle: Bundle, chunked_tone_bundle: Bundle
) -> Recognizer:
    bundle = chunked_tone_bundle if request.param == "chunks" else tone_bundle
    return Recognizer(bundle, decoder="greedy", vad=VadConfig(detector="energy"), threads=1)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def sound(*parts: str | float) -> np.ndarray:
    """Words as tones, numbers as so many seconds of silence."""
    return np.concatenate([tones(p) if isinstance(p, str) else silence(p) for p in parts])


def listen(stream: Stream, blocks: Iterable[np.ndarray]) -> list[StreamEvent]:
    events = [event for block in blocks for event in stream.feed(block)]
    return events + stream.finish()


def cut(waveform: np.ndarray, sizes: Iterable[int]) -> Iterator[np.ndarray]:
    begin = 0
    for size in sizes:
        yield waveform[begin : begin + size]
        begin += size
    yield waveform[begin:]


def finals(events: Iterable[StreamEvent]) -> list[StreamEvent]:
    """Without the spikes since the last partial, which comes with the blocks."""
    return [replace(event, spikes=()) for event in events if event.is_final]


TALK = sound(1.0, "bad cafe", 0.6, "a mill", 2.0, "hike", 4.0, "badge", 0.7, "face mad kid", 0.05)


def test_utterances_and_their_rules(hears_tones: Recognizer) -> None:
    events = listen(hears_tones.stream(), cut(TALK, [800] * (len(TALK) // 800)))
    assert [(e.text, e.rule) for e in finals(events)] == [
        ("bad cafe a mill", 2),
        ("hike", 2),
        ("", 1),
        ("badge face mad kid", 0),
    ]
    words = [word for event in finals(events) for word in event.words]
    assert words == list(hears_tones.transcribe(TALK, RATE).words)
    for event in finals(events):
        assert event.stable == event.text == " ".join(word.word for word in event.words)
        assert all(event.start <= w.start < w.end <= event.end for w in event.words)
        assert all(0 < word.confidence <= 1 for word in event.words)


def test_partials_grow_and_what_is_stable_stays(hears_tones: Recognizer) -> None:
    events = listen(hears_tones.stream(), cut(TALK, [800] * (len(TALK) // 800)))
    final = ""
    for event in reversed(events):
        if event.is_final:
            final = event.text
        assert final.startswith(event.stable)
        assert event.text.startswith(event.stable)
    partials = [event.text for event in events if not event.is_final]
    assert len(partials) > 10
    assert partials[0] in ("b", "ba", "bad")
    assert "bad cafe" in partials
    assert "bad cafe a mill" in partials
    shown = [(event.kind, event.text, event.stable) for event in events]
    assert all(a != b for a, b in pairwise(shown))


def test_what_is_stable_stays_with_a_search(chunked_tone_bundle: Bundle) -> None:
    """Also where speech without a pause is cut, which takes back some of what was heard."""
    beam = Recognizer(
        chunked_tone_bundle, vad=VadConfig(detector="energy", max_length=4), threads=1
    )
    waveform = sound(" ".join("abcdefghijklm" * 3), 1.0)
    rules = EndpointConfig(rule3_min_utterance_length=60)
    events = listen(beam.stream(endpoint=rules), cut(waveform, [4_000] * (len(waveform) // 4_000)))
    assert finals(events)[0].text == beam.transcribe(waveform, RATE).text
    final = finals(events)[0].text
    assert all(final.startswith(event.stable) for event in events)
    assert sum(bool(event.stable) for event in events) > len(events) / 2


@settings(max_examples=4)
@given(sizes=st.lists(st.integers(0, 40_000), max_size=30))
def test_the_pieces_make_no_difference(hears_tones: Recognizer, sizes: list[int]) -> None:
    whole = finals(listen(hears_tones.stream(), [TALK]))
    assert finals(listen(hears_tones.stream(), cut(TALK, sizes))) == whole


@settings(max_examples=3)
@given(
    rate=st.sampled_from([8_000, 11_025, 22_050, 44_100, 48_000]),
    sizes=st.lists(st.integers(0, 90_000), max_size=12),
)
def test_any_rate(hears_tones: Recognizer, rate: int, sizes: list[int]) -> None:
    import soxr

    low = sound(0.5, "bad cab", 0.3)  # below 4 kHz
    at_rate = soxr.resample(low, RATE, rate)
    whole = finals(listen(hears_tones.stream(rate), [at_rate]))
    pieces = finals(listen(hears_tones.stream(rate), cut(at_rate, sizes)))
    assert [event.text for event in whole] == ["bad cab"]
    assert pieces == whole
    assert [w.start for w in whole[0].words] == pytest.approx([0.5, 0.5 + 4 * STEP], abs=0.05)


@settings(max_examples=5)
@given(
    words=st.lists(st.text("abcdefghijklm", min_size=1, max_size=4), min_size=1, max_size=12),
    tail=st.floats(0, 0.6),
)
def test_the_last_words_are_never_lost(
    hears_tones: Recognizer, words: list[str], tail: float
) -> None:
    waveform = sound(" ".join(words), tail)
    events = listen(hears_tones.stream(), cut(waveform, [1_600] * (len(waveform) // 1_600)))
    assert " ".join(event.text for event in finals(events)) == " ".join(words)


@settings(max_examples=3)
@given(longest=st.floats(1, 6), sizes=st.lists(st.integers(0, 20_000), max_size=20))
def test_long_utterances_end_at_pauses(
    hears_tones: Recognizer, longest: float, sizes: list[int]
) -> None:
    rules = EndpointConfig(rule3_min_utterance_length=longest)
    waveform = sound(*["a d b", 0.6] * 4)
    events = finals(listen(hears_tones.stream(endpoint=rules), cut(waveform, sizes)))
    assert " ".join(event.text for event in events) == " ".join(["a d b"] * 4)
    assert all(event.end - event.start < longest + 2.5 for event in events)
    assert events == finals(listen(hears_tones.stream(endpoint=rules), [waveform]))


def test_short_silence_ends_utterances_where_it_is_asked_for(hears_tones: Recognizer) -> None:
    rules = EndpointConfig(rule2_min_trailing_silence=0.3)
    events = finals(listen(hears_tones.stream(endpoint=rules), [sound("ad", 0.4, "be", 1)]))
    assert [(event.text, event.rule) for event in events] == [("ad", 2), ("be", 2)]


@pytest.mark.parametrize("level", [0.0, 1e-4, 1e-3])
def test_silence_is_told_once(hears_tones: Recognizer, level: float) -> None:
    noise = level * np.random.default_rng(0).standard_normal(20 * RATE).astype(np.float32)
    [event] = listen(hears_tones.stream(), cut(noise, [480] * 600))
    assert (event.kind, event.text, event.rule, event.start) == ("final", "", 1, 0.0)
    assert event.end == pytest.approx(2.4, abs=0.05)


def test_ten_minutes_in_one_block(hears_tones: Recognizer) -> None:
    waveform = sound(300, "bad", 300, "cafe")
    events = finals(listen(hears_tones.stream(), [waveform]))
    assert [event.text for event in events] == ["", "bad", "", "cafe"]
    assert events[-1].words[0].start == pytest.approx(600 + 3 * STEP, abs=0.05)


def test_flush_and_reset(hears_tones: Recognizer) -> None:
    stream = hears_tones.stream()
    stream.feed(sound(1, "bad cafe"))
    [event] = stream.flush()
    assert (event.text, event.rule) == ("bad cafe", 0)
    assert stream.flush() == []
    stream.feed(sound("mad"))
    [event] = stream.flush()
    assert event.text == "mad"
    assert event.words[0].start == pytest.approx(1 + 8 * STEP, abs=0.05)  # the clock went on
    stream.feed(sound("cage"))
    stream.reset()
    stream.feed(sound(1, "leg"))
    [event] = stream.finish()
    assert event.text == "leg"
    assert event.words[0].start == pytest.approx(1, abs=0.05)
    assert stream.duration == pytest.approx(1 + 3 * STEP)


def test_work_of_many_streams_together(hears_tones: Recognizer) -> None:
    texts = ["bad", "a cafe", "i", "hill bill"]
    streams = [hears_tones.stream() for _ in texts]
    found = [""] * len(texts)
    waveforms = [sound(text, 3) for text in texts]
    for begin in range(0, 8 * RATE, 3_000):
        steps = [
            stream.advance(waveform[begin : begin + 3_000])
            for stream, waveform in zip(streams, waveforms, strict=True)
        ]
        answers: dict[int, Any] = dict.fromkeys(range(len(steps)))
        while answers:
            requests: dict[int, Request] = {}
            for i, answer in answers.items():
                try:
                    requests[i] = steps[i].send(answer)
                except StopIteration as end:
                    found[i] += "".join(event.text for event in finals(end.value))
            runs = {i: r for i, r in requests.items() if isinstance(r, NetworkRun)}
            outputs = iter(hears_tones.run_batch([job for r in runs.values() for job in r.jobs]))
            answers = {
                i: [next(outputs) for _ in runs[i].jobs] if i in runs else request.compute()
                for i, request in requests.items()
            }
    assert found == texts


def test_what_is_no_sound_is_refused_and_changes_nothing(hears_tones: Recognizer) -> None:
    stream = hears_tones.stream()
    stream.feed(sound("bad"))
    bad = np.zeros(100, np.float32)
    bad[7] = np.nan
    for wrong in (
        bad,
        np.full(5, np.inf, np.float32),
        np.full(5, 20_000.0),
        np.zeros(5, np.int16),
        np.zeros((5, 1), np.float32),
        b"abc",
    ):
        with pytest.raises(AudioError, match="the stream"):
            stream.feed(wrong)  # type: ignore[arg-type]
    assert stream.feed(silence(0)) == []
    assert finals(stream.feed(silence(5)))[0].text == "bad"
    with pytest.raises(AudioError, match=r"sample at 5\.720 s"):
        stream.feed(bad)


def test_calls_in_the_wrong_order_are_explained(hears_tones: Recognizer) -> None:
    stream = hears_tones.stream()
    steps = stream.advance(silence(1))
    request = next(steps)
    with pytest.raises(AudioError, match="still to be searched"):
        stream.feed(silence(1))
    with contextlib.suppress(StopIteration):
        while True:
            request = steps.send(request.compute())
    with stream:
        stream.finish()
    for call in (lambda: stream.feed(silence(1)), stream.flush, stream.finish):
        with pytest.raises(AudioError, match="is finished"):
            call()


def test_finals_are_those_of_a_file_to_the_last_digit(tmp_path: Path) -> None:
    """A bidirectional network in chunks, with weights by chance: it hears something in anything."""
    torch, export = pytest.importorskip("torch"), pytest.importorskip("asr.packaging.export")
    from asr.models.acoustic import AcousticModel, HeadConfig
    from asr.models.encoder import EncoderConfig

    torch.manual_seed(0)
    vocabulary = Vocabulary.characters("abcdef")
    features = FeatureConfig()
    encoder = EncoderConfig(24, 2, subsampling=(1, 2), chunk=16, right_context=6)
    model = AcousticModel(features.size, encoder, {"letters": HeadConfig(len(vocabulary), 2)})
    with torch.no_grad():
        model.heads["letters"].weight.mul_(30)
    config = BundleConfig("chance", "en", features, 2 * features.frame_shift)
    graph = export.quantize(export.to_onnx(model.eval()))
    files = {"model.onnx": graph.SerializeToString()}
    bundle = Bundle.create(tmp_path / "chance", config, vocabulary, files, "")
    vad = VadConfig(detector="energy", max_length=3)
    recognizer = Recognizer(bundle, vad=vad, threads=1, settings=DecoderConfig(beam=8))
    waveform = np.concatenate([TALK, sound("abcdefghijklm" * 2)])
    offline = recognizer.transcribe(waveform, RATE)
    assert len(offline.words) > 5
    for size in (1_000, 7_777, len(waveform)):
        blocks = cut(waveform, [size] * (len(waveform) // size))
        events = finals(listen(recognizer.stream(), blocks))
        assert [word for event in events for word in event.words] == list(offline.words)


@pytest.mark.parametrize("rate", [0, -8000, 999, 10**7])
def test_impossible_rates(hears_tones: Recognizer, rate: int) -> None:
    with pytest.raises(AudioError, match="in Hz"):
        hears_tones.stream(rate)


@pytest.mark.parametrize("level", [1.0, 0.01])
@pytest.mark.parametrize(("before", "after"), [(0.0, 0.0), (0.4, 0.4), (1.0, 3.0)])
def test_short_and_quiet_sounds_are_those_of_a_file(
    hears_tones: Recognizer, level: float, before: float, after: float
) -> None:
    """A moment of sound between digital silence; 10 and 50 dB below full scale."""
    waveform = np.float32(level) * sound(before, "bad", after)
    expected = hears_tones.transcribe(waveform, RATE)
    assert expected.text == "bad"
    for size in (500, 3_333, len(waveform)):
        events = listen(hears_tones.stream(), cut(waveform, [size] * (len(waveform) // size)))
        spoken = tuple(event.segment for event in finals(events) if event.text)
        assert spoken == expected.segments


def test_impossible_rules() -> None:
    for rules in (
        {"rule1_min_trailing_silence": -1.0},
        {"rule2_min_trailing_silence": float("nan")},
        {"rule3_min_utterance_length": 0.5},
    ):
        with pytest.raises(ConfigError, match=next(iter(rules))):
            EndpointConfig(**rules)


def test_hot_words_of_one_stream(hears_tones: Recognizer) -> None:
    with pytest.raises(ConfigError, match="knows no hot words"):
        hears_tones.stream(hotwords=["cafe"])
    beam = Recognizer(hears_tones.bundle, vad=VadConfig(detector="energy"), threads=1)
    either = np.concatenate([tones("ba"), 0.6 * tones("d") + 0.5 * tones("e"), silence(2)])
    texts = [
        finals(listen(beam.stream(hotwords=words), [either]))[0].text
        for words in (["bad"], ["bae"], {"bad": 8.0, "bae": 2.0}, {"bad": 2.0, "bae": 8.0})
    ]
    assert texts == ["bad", "bae", "bad", "bae"]


@pytest.mark.parametrize(("beam", "drafts"), [(4, 1), (400, 100), (2000, 300)])
def test_drafts_are_searched_no_wider_than_finals(
    tone_bundle: Bundle, beam: int, drafts: int
) -> None:
    recognizer = Recognizer(tone_bundle, settings=DecoderConfig(beam=beam), threads=1)
    assert recognizer.stream(RATE)._draft_decoder.config.beam == drafts


@pytest.mark.parametrize("words", [["BAE"], ["bäe!"], ["[unk]", "bae", "你", "", "§"]], ids=str)
def test_hot_words_are_taken_as_people_write_them(hears_tones: Recognizer, words) -> None:
    beam = Recognizer(hears_tones.bundle, vad=VadConfig(detector="energy"), threads=1)
    either = np.concatenate([tones("ba"), 0.6 * tones("d") + 0.5 * tones("e"), silence(2)])
    plain = finals(listen(beam.stream(), [either]))[0].text
    hot = beam.with_hotwords(words)
    assert finals(listen(hot.stream(), [either]))[0].text == "bae" != plain
    skipped = {skipped.hotword.phrase for skipped in hot.skipped_hotwords}
    assert skipped >= {"[unk]", "你", "", "§"} & set(words)
    assert finals(listen(beam.stream(), [either]))[0].text == plain  # the others are as before
    assert finals(listen(beam.stream(hotwords=["§"]), [either]))[0].text == plain


def test_what_fits_no_words_is_taken_back(strict_tone_bundle: Bundle) -> None:
    recognizer = Recognizer(strict_tone_bundle, vad=VadConfig(detector="energy"), threads=1)
    waveform = sound("cab film elk", 2.0, "cab bad", 2.0)
    events = listen(recognizer.stream(), cut(waveform, [1_600] * (len(waveform) // 1_600)))
    shown = [event.text for event in events]
    assert shown[0] == "ca"  # what is partial,
    assert "" in shown[: shown.index("cab bad")]  # and what is taken back
    assert [event.text for event in finals(events) if event.text] == ["cab bad"]
    assert recognizer.transcribe(waveform, RATE).text == "cab bad"


def test_the_bundled_model_hears_live_what_it_reads(bundled_model: Bundle) -> None:
    recognizer = Recognizer(bundled_model, settings=DecoderConfig(beam=50), threads=1)
    samples = Path(__file__).parents[1] / "samples"
    pause = silence(1.5)
    names = ("she-couldnt-decide.flac", "the-old-observatory.opus")
    waveform = np.concatenate([w for name in names for w in (audio.read(samples / name), pause)])
    waveform = waveform[: -len(pause) - RATE // 4]  # the end comes at once
    events = listen(recognizer.stream(), cut(waveform, [1_600] * (len(waveform) // 1_600)))
    words = [word for event in finals(events) for word in event.words]
    assert words == list(recognizer.transcribe(waveform, RATE).words)
    assert len(words) > 5


def test_spikes_tell_what_the_network_saw(hears_tones: Recognizer) -> None:
    events = listen(hears_tones.stream(), cut(sound(1.0, "bad", 3.0), [800] * 100))
    spikes = [spike for event in events for spike in event.spikes]
    assert "".join(spike.symbol for spike in spikes) == "bad"
    assert [spike.time for spike in spikes] == sorted(spike.time for spike in spikes)
    times = [spike.time for spike in spikes]
    assert times == pytest.approx([1.0, 1.0 + STEP, 1.0 + 2 * STEP], abs=0.1)
    assert all(0.3 <= spike.probability <= 1 for spike in spikes)


def test_the_pieces_make_no_difference_to_spikes(chunked_tone_bundle: Bundle) -> None:
    recognizer = Recognizer(
        chunked_tone_bundle, decoder="greedy", vad=VadConfig(detector="energy"), threads=1
    )

    # Segments of a second or more: a shorter one is read again without the silence around it.
    waveform = sound(1.0, "bad cafe", 0.6, "a mill mad", 2.0, "face mad kid", 0.05)

    def spikes(size: int) -> list[tuple[str, float]]:
        events = listen(recognizer.stream(), cut(waveform, [size] * (len(waveform) // size)))
        return [(s.symbol, round(s.time, 3)) for event in events for s in event.spikes]

    whole = spikes(len(waveform))
    assert "".join(symbol for symbol, _ in whole) == "bad cafea mill madface mad kid"
    for size in (512, 800, 1_408, 7_000):
        assert spikes(size) == whole


def test_a_short_pause_settles_what_was_said(hears_tones: Recognizer) -> None:
    """Reviews: long before the segment is complete."""
    waveform = sound(0.5, "bad cafe ", 0.3, "a mill mad kid", 1.5)
    events = listen(hears_tones.stream(), cut(waveform, [800] * (len(waveform) // 800)))
    partials = [event for event in events if not event.is_final]
    settled = next(event for event in partials if event.stable == "bad cafe")
    assert settled.end < partials[-1].end - 1.0
    assert finals(events)[0].text == "bad cafe a mill mad kid"


def test_longer_drafts_come_less_often(
    tone_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer = Recognizer(
        tone_bundle, decoder="greedy", vad=VadConfig(detector="energy"), threads=1
    )
    engine = recognizer._acoustics.engine
    read: list[int] = []  # rows of features, a job each
    run = engine.run

    def noting(jobs: list[Job]) -> list[Heads]:
        read.extend(len(job.features) for job in jobs)
        return run(jobs)

    monkeypatch.setattr(engine, "run", noting)
    waveform = sound(0.5, "bad cafe a mill mad kid", 1.5)
    drafts: dict[float, list[int]] = {}
    for seconds in (DRAFT_SECONDS, 4 * DRAFT_SECONDS):
        stream = recognizer.stream()
        stream.draft_seconds = seconds
        events = listen(stream, cut(waveform, [1600] * (len(waveform) // 1600)))
        assert finals(events)[0].text == "bad cafe a mill mad kid"
        drafts[seconds], read[:] = read.copy(), []
    short, long = drafts.values()
    assert len(long) < len(short) / 2
    assert sum(long) < 0.7 * sum(short)
