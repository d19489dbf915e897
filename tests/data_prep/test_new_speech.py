"""Training data that nobody transcribed, and that nobody said."""

import os
import random
import sys

import librosa
import numpy as np
import pytest
import soundfile
from tone_speech import tones

from asr.data.manifest import read_manifest
from asr.errors import AudioError, MissingDependencyError
from asr.packaging.bundle import Bundle
from asr.recognizer import Recognizer
from asr.types import Segment, Transcript, Word
from asr.vad import VadConfig
from data_prep.clips import Skipped
from data_prep.corpus import CorpusError
from data_prep.pseudo_label import Journal, pseudo_label, recordings
from data_prep.synthesize import Hibari, choose_engine, synthesize


def said(text: str, start: float, confidence: float) -> Segment:
    words = tuple(Word(w, start, start + 1, confidence) for w in text.split())
    return Segment(start, start + 2, text, words)


def test_what_the_model_is_sure_of_is_kept(tmp_path):
    transcripts = {
        "short": Transcript((said("turn left", 0, 0.9), said("now", 2, 0.9)), 5.0, "m"),
        "long": Transcript((said("go on", 1.5, 0.95), said("or so", 9, 0.5)), 60.0, "m"),
        "silent": Transcript((), 3.0, "m"),
    }

    def transcribe(path):
        name = path.rpartition("/")[2].removesuffix(".wav")
        if name not in transcripts:
            raise AudioError(f"{name}: damaged")
        return transcripts[name]

    for name in (*transcripts, "broken"):
        (tmp_path / f"{name}.wav").touch()
    skipped = Skipped()
    clips = list(
        pseudo_label(
            recordings([tmp_path]), transcribe, confidence=0.8, min_words=2, skipped=skipped
        )
    )
    assert [(c.id, c.text, c.start, c.duration) for c in clips] == [
        ("long-0000", "go on", 1.5, 2.0),
        ("short", "turn left now", 0.0, None),
    ]
    assert clips[0].extra == {"confidence": 0.95, "pseudo_label": "m"}
    assert skipped.reasons == {
        "cannot be read": 1, "confidence below 0.8": 1, "fewer than 2 words": 1,
    }  # fmt: skip


def test_an_interrupted_run_goes_on(tmp_path):
    """Killed at the third of four recordings, in the middle of a line."""
    heard = []

    def transcribe(path):
        name = path.rpartition("/")[2]
        heard.append(name)
        if name == "c.wav" and heard.count(name) == 1:
            raise KeyboardInterrupt
        return Transcript((said(f"it is {name[0]}", 0.125, 0.9),), 5.0, "m")

    def label(model="m1"):
        journal = Journal(tmp_path / "out" / "transcripts.jsonl", model, transcribe)
        clips = pseudo_label(
            recordings([tmp_path]), journal, confidence=0.8, min_words=2, skipped=Skipped()
        )
        return [(c.id, c.text, c.extra["confidence"]) for c in clips], journal.reused

    for name in "abcd":
        (tmp_path / f"{name}.wav").touch()
    with pytest.raises(KeyboardInterrupt):
        label()
    with (tmp_path / "out" / "transcripts.jsonl").open("a") as file:
        file.write('{"heard": "cut off')
    expected = [(name, f"it is {name}", 0.9) for name in "abcd"]
    assert label() == (expected, 2)
    assert heard == ["a.wav", "b.wav", "c.wav", "c.wav", "d.wav"]
    assert label() == (expected, 4)
    (tmp_path / "b.wav").write_bytes(b"another recording")
    assert label() == (expected, 3)
    assert label("m2") == (expected, 0)


def test_what_is_remembered_is_the_whole_transcript(tmp_path):
    transcript = Transcript((said("it is so", 0.125, 0.9), said("ähem", 3, 0.1)), 5.0, "m")
    (tmp_path / "a.wav").touch()
    for _ in range(2):
        journal = Journal(tmp_path / "transcripts.jsonl", "m", lambda path: transcript)
        assert journal(str(tmp_path / "a.wav")) == transcript
    assert journal.reused == 1


def test_where_there_are_no_recordings(tmp_path):
    with pytest.raises(CorpusError, match="no recordings"):
        recordings([tmp_path])


def test_a_bundle_labels_a_folder(run, tone_bundle, tmp_path, monkeypatch):
    energy = VadConfig(detector="energy")  # tones are no speech
    monkeypatch.setattr(
        "asr.recognizer.load", lambda model: Recognizer(Bundle.load(model), vad=energy, threads=1)
    )
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", tones("ab ba"), 16_000)
    code, out, err = run("pseudo-label", tmp_path / "in", "--model", tone_bundle.folder,
                         "--to", tmp_path / "out", "--confidence", "0")  # fmt: skip
    assert code == 0, err
    assert "1 utterances" in out
    (utterance,) = read_manifest(tmp_path / "out" / "pseudo.jsonl")
    assert utterance.text == "ab ba"
    assert utterance.extra["pseudo_label"] == "tones"
    code, out, err = run("pseudo-label", tmp_path / "in", "--model", tone_bundle.folder,
                         "--to", tmp_path / "out", "--min-words", "3")  # fmt: skip
    assert code == 0, err
    assert "1 of 1 recordings were transcribed before" in out
    assert read_manifest(tmp_path / "out" / "pseudo.jsonl") == []


@pytest.fixture
def fake_engine(tmp_path, monkeypatch):
    """An espeak-ng that plays a tone as long as the text, and knows one voice."""
    program = tmp_path / "bin" / "espeak-ng"
    program.parent.mkdir()
    program.write_text(
        f"""#!{sys.executable}
import sys
import numpy as np, soundfile
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if options["-v"] != "en-us":
    sys.exit("no such voice")
n = 1000 * len(open(options["-f"]).read())
soundfile.write(options["-w"], np.sin(np.arange(n) / 20) / 2, 22050, format="WAV")
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return program


def test_lines_are_said_once_and_the_same_each_time(run, fake_engine, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("Turn left.\n\n$(rm -rf /) -w now\n")
    arguments = ("synthesize", text, "--to", tmp_path / "out", "--engine", "espeak-ng")
    code, out, err = run(*arguments, "--voices", "en-us")
    assert code == 0, err
    assert "2 utterances" in out
    made = read_manifest(tmp_path / "out" / "synthetic.jsonl")
    assert [u.text for u in made] == ["turn left", "rm rf w now"]
    assert made[0].speaker == "espeak-ng-en-us"
    assert made[0].extra["synthetic"] == "espeak-ng"
    clips = tmp_path / "out" / "clips"
    before = {path: path.stat().st_mtime_ns for path in clips.iterdir()}
    lines = text.read_text().splitlines()
    (again, _) = synthesize(lines, clips, choose_engine("espeak-ng"), ["en-us"])
    assert str(again.audio) == made[0].audio_filepath
    # What is there is not made again.
    assert before == {path: path.stat().st_mtime_ns for path in clips.iterdir()}


def test_an_unknown_voice_is_told(fake_engine, tmp_path):
    with pytest.raises(CorpusError, match=r"made no sound \(no such voice\).*--voices"):
        list(synthesize(["hi"], tmp_path / "out", choose_engine("espeak-ng"), ["nobody"]))
    assert not list((tmp_path / "out").iterdir())


def test_no_engine_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"flite is not installed.*apt-get install"):
        choose_engine("flite")
    monkeypatch.setattr(Hibari, "is_installed", lambda _: False)
    with pytest.raises(MissingDependencyError, match=r"a synthesiser is not installed.*\[data\]"):
        choose_engine()


def test_pseudo_speakers_differ_and_stay_themselves(tmp_path):
    pytest.importorskip("hibari")
    engine = Hibari()
    low, high = (engine.speaker(name) for name in ("man-1", "child-1"))
    assert low.pitch < 0.7 < 1.2 < high.pitch
    assert low == Hibari().speaker("man-1") != engine.speaker("man-2")
    with pytest.raises(CorpusError, match="no voice 'robot'"):
        list(synthesize(["hi"], tmp_path, engine, ["robot"]))
    line = "Please call one two three."
    waveforms = [engine.speak(line, "man-1", random.Random(0)) for _ in range(2)]
    np.testing.assert_array_equal(*waveforms)
    assert 1 < len(waveforms[0]) / 16_000 < 6
    assert pitch_of(engine.speak(line, "child-1", random.Random(0))) > 1.8 * pitch_of(waveforms[0])


def pitch_of(waveform: np.ndarray) -> float:
    """Hz, the median."""
    return float(np.median(librosa.yin(waveform, fmin=60, fmax=600, sr=16_000)))


@pytest.mark.parametrize("program", ["hibari", "espeak-ng", "flite"])
def test_a_real_engine_speaks(program, tmp_path):
    try:
        engine = choose_engine(program)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    (clip,) = synthesize(["turn the light on"], tmp_path, engine)
    assert 0.5 < soundfile.info(clip.audio).duration < 5
    assert soundfile.read(clip.audio)[0].std() > 0.01
