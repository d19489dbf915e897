from dataclasses import replace

import numpy as np
import pytest
import soundfile

pytest.importorskip("torch")

from asr.data.manifest import hold_out, read_manifest, write_manifest
from asr.errors import ConfigError
from asr.train.config import DataConfig, HeadSettings
from asr.train.data import read_splits
from asr.train.setup import make_targets
from asr.types import Utterance
from data_prep.shard import shard


def test_dev_is_held_out_of_train_where_there_is_no_manifest_of_it(tones):
    train, dev = read_splits(DataConfig((str(tones),), hold_out=0.25))
    assert (train, dev) == hold_out(read_manifest(tones), 0.25)
    both, again = read_splits(DataConfig((str(tones),), (str(tones),), hold_out=0.25))
    assert len(both) == len(again) == 12
    with pytest.raises(ConfigError, match=r"data\.dev names no manifest.*data\.hold_out"):
        read_splits(DataConfig((str(tones),)))
    with pytest.raises(ConfigError, match=r"data\.train names no manifest"):
        read_splits(DataConfig((), (str(tones),)))


def test_numbers_are_spelled_out_in_the_language(tmp_path):
    manifest = tmp_path / "m.jsonl"
    write_manifest(manifest, [Utterance("a.wav", 1.0, "Press 1!")])
    for language, text in (("", "Press 1!"), ("en", "press one")):
        train, dev = read_splits(DataConfig((str(manifest),), (str(manifest),), language=language))
        assert train[0].text == dev[0].text == text


def test_jamo_spell_syllables_and_are_read_as_syllables():
    spell = make_targets(HeadSettings(units="jamo"))
    indices = spell("값을 읽다.")
    assert len(spell.vocabulary) == 69
    assert len(indices) == len("ㄱㅏㅄㅇㅡㄹ ㅇㅣㄺㄷㅏ")
    assert spell.vocabulary.decode(indices) == "값을 읽다"


def test_pieces_are_learnt_from_the_training_texts():
    pytest.importorskip("sentencepiece")
    texts = ["The conference is locked.", "The conference is muted.", "You have left it."] * 3
    spell = make_targets(HeadSettings(units="pieces", pieces=40), texts)
    assert (len(spell.vocabulary), spell.vocabulary.kind) == (40, "pieces")
    indices = spell("The conference!")
    assert len(indices) < len("the conference")
    assert spell.vocabulary.decode(indices) == "the conference"


def test_what_was_held_out_can_be_evaluated_later(make, settings, tones):
    make(data={"dev": [], "hold_out": 0.25}, trainer={"epochs": 1}).fit()
    train, dev = hold_out(read_manifest(tones), 0.25)
    assert read_manifest(f"{settings['run']}/dev.jsonl") == dev
    assert read_manifest(f"{settings['run']}/train.jsonl") == train


def test_parts_of_a_recording_train_like_files_of_their_own(make, settings, tones, tmp_path):
    parts, waveforms, start = [], [], 0.0
    for utterance in read_manifest(tones):
        waveforms.append(soundfile.read(utterance.audio_filepath, dtype="int16")[0])
        parts.append(replace(utterance, audio_filepath=str(tmp_path / "all.wav"), offset=start))
        start += len(waveforms[-1]) / 16_000
    soundfile.write(tmp_path / "all.wav", np.concatenate(waveforms), 16_000)
    write_manifest(tmp_path / "parts.jsonl", parts)
    index = shard(read_manifest(tmp_path / "parts.jsonl"), tmp_path / "shards", "train", seed=None)
    manifests = {"files": tones, "parts": tmp_path / "parts.jsonl", "shards": index}
    found = {}
    for name, manifest in manifests.items():
        trainer = make(run=str(tmp_path / name), data={"train": [str(manifest)]})
        dataset = trainer.task.train_loader.dataset
        found[name] = [dataset._read(i) for i in range(len(parts))]
    for name, tolerance in (("parts", 0.0), ("shards", 1e-4)):  # shards are not cached in 16 bits
        for expected, waveform in zip(found["files"], found[name], strict=True):
            np.testing.assert_allclose(expected, waveform, rtol=0, atol=tolerance)
