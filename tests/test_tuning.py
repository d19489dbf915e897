"""Tuning: weights that help are found, written into the bundle, and the bundle stays intact."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from ctc_reference import synthetic_log_probs
from tone_speech import tones

from asr import audio
from asr.analysis import tuning
from asr.analysis.tuning import DevSet, tune
from asr.cli import cli
from asr.cli.tune import _dev_set, _spoken
from asr.config import build
from asr.decode import BeamSearch, Decoder, DecoderConfig
from asr.errors import ConfigError
from asr.lexicon import Lexicon
from asr.lm.files import read_arpa
from asr.lm.ngram import NGram
from asr.packaging.bundle import Bundle
from asr.text.vocabulary import Vocabulary
from asr.types import Hypothesis, Utterance

SAMPLE = Path(__file__).parents[1] / "samples" / "she-couldnt-decide.flac"
WORDS = ("bad", "dad", "bed", "dead", "add", "head", "lead")


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> NGram:
    """A model in which "dead" and "head" are rare."""
    unigrams = {"<unk>": -6, "<s>": -99, "</s>": -0.8, "dead": -3, "head": -3}
    unigrams |= {word: -0.9 for word in WORDS if word not in unigrams}
    lines = "\n".join(f"{log}\t{word}" for word, log in unigrams.items())
    path = tmp_path_factory.mktemp("lm") / "words.arpa"
    path.write_text(f"\\data\\\nngram 1={len(unigrams)}\n\n\\1-grams:\n{lines}\n\n\\end\\\n")
    return NGram.compile(read_arpa(path))


def test_finds_weights_beam_and_confidence(lm: NGram) -> None:
    vocabulary = Vocabulary.characters("abdehl")
    rng = np.random.default_rng(0)
    common = [word for word in WORDS if word not in ("dead", "head")]
    texts = [" ".join(rng.choice(common, 4)) for _ in range(40)]
    dev = DevSet([synthetic_log_probs(t, vocabulary, rng, error=0.3) for t in texts], texts)
    lexicon = Lexicon.from_words(lm.words, vocabulary)

    lines: list[str] = []
    start = DecoderConfig(beam=30, lm_weight=0.0, word_bonus=-2.0, unknown_penalty=0.0)
    decoder = Decoder(BeamSearch(vocabulary, lm=lm, lexicon=lexicon, config=start), 0.03)
    found = tune(dev, decoder, lines.append)
    assert found.error_rate < 0.6 * found.error_rate_before
    assert found.config.lm_weight > 0
    assert found.config.horizon == start.horizon
    assert len(found.config.confidence) == 6
    assert found.calibration_error is not None
    assert found.calibration_error < 0.1
    assert lines[0].startswith("before: WER")
    widths = [line.partition(":")[0] for line in lines]
    assert f"token_threshold {found.config.token_threshold:g}" in widths
    assert f"beam {found.config.beam}" in widths
    again = tune(dev, decoder.variant(replace(found.config, beam=30)), lines.append)
    assert again.error_rate <= found.error_rate_before

    alone = tune(dev, decoder, lines.append, confidence_only=True)
    assert alone.config == replace(start, confidence=alone.config.confidence)
    assert len(alone.config.confidence) == 6
    assert alone.error_rate == alone.error_rate_before


def test_weighs_a_second_language_model() -> None:
    """Of two texts that all else finds alike, only the other model tells which is right."""

    class TwoTexts:
        lexicon = lm = None

    lists = tuning._Lists()
    for text, other, errors in (("bad", -9.0, 1), ("bed", -1.0, 0)):
        hypothesis = Hypothesis(text, lm_score=-5.0, acoustic_score=-1.0)
        lists.texts[text] = tuning._parts(hypothesis, {"lm_score": other}, TwoTexts())
        lists.errors.append(errors)
    best = tuning._best_weights([lists], DecoderConfig())
    assert best.rescore_weight > 0
    assert best.lm_weight > 0


def test_needs_texts() -> None:
    dev = DevSet([np.zeros((0, 3))], [""])
    with pytest.raises(ConfigError, match="no recording has a text"):
        tune(dev, Decoder(BeamSearch(Vocabulary.characters("a")), 0.03), print)


def test_command_hears_what_transcribing_would() -> None:
    spoken = audio.read(SAMPLE)
    silence = np.zeros(3 * 16_000, np.float32)
    heard = _spoken(np.concatenate([silence, spoken, silence]))
    assert 0.5 * len(spoken) < len(heard) < len(spoken) + 16_000
    assert len(_spoken(silence)) == len(silence)


def test_command_writes_the_bundle(tone_bundle: Bundle, tmp_path: Path) -> None:
    files = {
        "model.onnx": tone_bundle.model_path,
    }
    folder = tmp_path / "model"
    bundle = Bundle.create(folder, tone_bundle.config, tone_bundle.vocabulary, files, "a card")
    lines = []
    for i, text in enumerate(["bad cab", "a bee", "dice"]):
        soundfile.write(tmp_path / f"{i}.wav", tones(text), 16_000)
        duration = len(tones(text)) / 16_000
        lines.append(json.dumps({"audio_filepath": f"{i}.wav", "duration": duration, "text": text}))
    manifest = tmp_path / "dev.jsonl"
    manifest.write_text("\n".join(lines))

    dry = CliRunner().invoke(cli, ["tune", str(manifest), "-m", str(folder), "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert Bundle.load(folder).config == bundle.config
    result = CliRunner().invoke(cli, ["tune", str(manifest), "-m", str(folder)])
    assert result.exit_code == 0, result.output
    assert "WER 0.00% -> 0.00%" in result.output
    assert "confidence stays as it is" in result.output
    config = build(DecoderConfig, Bundle.load(folder).config.decoder)
    # All are as good: the narrowest.
    narrowest = tuning.BEAMS[0], tuning.BEAM_THRESHOLDS[0], tuning.TOKEN_THRESHOLDS[0]
    assert (config.beam, config.beam_threshold, config.token_threshold) == narrowest


def test_command_hears_parts_of_recordings_and_goes_on_after_bad_ones(
    tone_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ["bad cab", "a bee"]
    parts = [tones(text) for text in said]
    soundfile.write(tmp_path / "all.wav", np.concatenate(parts), 16_000)
    alone, within, start = [], [], 0.0
    for i, (text, part) in enumerate(zip(said, parts, strict=True)):
        soundfile.write(tmp_path / f"{i}.wav", part, 16_000)
        seconds = len(part) / 16_000
        alone.append(Utterance(str(tmp_path / f"{i}.wav"), seconds, text))
        within.append(Utterance(str(tmp_path / "all.wav"), seconds, text, offset=start))
        start += seconds
    expected, found = _dev_set(tone_bundle, alone), _dev_set(tone_bundle, within)
    assert expected.references == found.references == said
    for a, b in zip(expected.log_probs, found.log_probs, strict=True):
        np.testing.assert_array_equal(a, b)
    bad = Utterance(str(tmp_path / "gone.wav"), 1.0, "gone")
    assert _dev_set(tone_bundle, [bad, alone[0]]).references == said[:1]
    assert "gone.wav: no such file" in capsys.readouterr().err
