import numpy as np
import pytest
import soundfile
import torch

from asr.data.augment import AugmentConfig, Augmenter
from asr.data.dataset import (
    Pronunciation,
    SpeechDataset,
    Spelling,
    collate,
    ctc_frames,
    feature_statistics,
    usable,
)
from asr.errors import ManifestError
from asr.features import FeatureConfig
from asr.text.vocabulary import Vocabulary
from asr.types import Utterance

FEATURES = FeatureConfig(n_mels=8, stack=1, stride=1, mean_prior=None)
TARGETS = {"characters": Spelling(Vocabulary.characters("abcdefghijklmnopqrstuvwxyz'"))}


@pytest.fixture
def utterances(tmp_path):
    rng = np.random.default_rng(0)
    made = []
    for name, seconds, text in (("a", 0.5, "One two."), ("b", 0.8, "cab")):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, rng.uniform(-0.5, 0.5, int(seconds * 16_000)), 16_000)
        made.append(Utterance(str(path), seconds, text))
    return made


def test_examples_and_batches(utterances):
    dataset = SpeechDataset(utterances, TARGETS, FEATURES)
    batch = collate([dataset[0, 0], dataset[0, 1]], ["characters"])
    assert batch.features.shape == (2, 78, 8)
    assert batch.lengths.tolist() == [48, 78]
    assert batch.target_lengths["characters"].tolist() == [7, 3]
    assert batch.targets["characters"][1].tolist() == [4, 2, 3, 0, 0, 0, 0]
    assert torch.equal(batch.features[0, 48:], torch.zeros(30, 8))


def test_the_cache_changes_nothing_audible(utterances):
    plain, cached = (SpeechDataset(utterances, TARGETS, FEATURES, cache=c) for c in (False, True))
    for _ in range(2):
        np.testing.assert_allclose(cached[0, 0].features, plain[0, 0].features, atol=1e-2)
    assert cached[0, 0].features is not cached[0, 0].features


def test_augmentation_depends_on_epoch_and_index_alone(utterances):
    augmenter = Augmenter(AugmentConfig(), FEATURES)
    one, two = (SpeechDataset(utterances, TARGETS, FEATURES, augmenter, seed=5) for _ in range(2))
    two[0, 0], two[3, 1]
    np.testing.assert_array_equal(one[1, 0].features, two[1, 0].features)
    assert not np.array_equal(one[1, 0].features, one[2, 0].features)


def test_two_views_differ_in_their_masks_alone(utterances):
    augmenter = Augmenter(AugmentConfig(frequency_width=3), FEATURES)
    one, two = (
        SpeechDataset(utterances, TARGETS, FEATURES, augmenter, masks_from=1, views=v, seed=5)
        for v in (1, 2)
    )
    early = collate([two[0, 0], two[0, 1]], ["characters"])
    assert (early.views, len(early.lengths)) == (1, 2)
    batch = collate([two[1, 0], two[1, 1]], ["characters"])
    assert batch.views == 2
    assert batch.lengths.tolist() == 2 * batch.lengths[:2].tolist()
    assert batch.ids == 2 * [u.audio_filepath for u in utterances]
    assert torch.equal(batch.targets["characters"][:2], batch.targets["characters"][2:])
    np.testing.assert_array_equal(batch.features[1].numpy(), one[1, 1].features)
    seen = (batch.features[:2] != 0) & (batch.features[2:] != 0)
    assert torch.equal(batch.features[:2][seen], batch.features[2:][seen])
    assert not torch.equal(batch.features[:2], batch.features[2:])


def test_noise_in_place_of_speech_has_no_words(utterances):
    augmenter = Augmenter(AugmentConfig(noise_only=1.0), FEATURES, [np.ones(100, np.float32)])
    example = SpeechDataset(utterances, TARGETS, FEATURES, augmenter)[0, 0]
    assert (example.text, example.targets) == ("", {"characters": []})


def test_a_bad_file_is_named_and_the_others_go_on(utterances, tmp_path):
    (tmp_path / "broken.wav").write_text("no audio")
    broken = Utterance(str(tmp_path / "broken.wav"), 1.0, "x")
    dataset = SpeechDataset([*utterances, broken], TARGETS, FEATURES)
    batch = collate([dataset[0, i] for i in range(3)], ["characters"])
    assert len(batch.lengths) == 2
    assert len(batch.failures) == 1
    assert "broken.wav" in batch.failures[0]
    nothing = collate([dataset[0, 2]], ["characters"])
    assert (nothing.texts, len(nothing.failures)) == ([], 1)


def test_a_head_without_target_is_marked(utterances):
    lexicon = {"cab": [("K", "AE", "B")]}
    phones = Pronunciation(Vocabulary.phones(["AE", "B", "K"]), lexicon)
    dataset = SpeechDataset(utterances, {**TARGETS, "phones": phones}, FEATURES)
    batch = collate([dataset[0, 0], dataset[0, 1]], ["characters", "phones"])
    assert batch.target_lengths["phones"].tolist() == [-1, 3]


def test_ctc_needs_a_blank_between_repeats():
    assert [ctc_frames(t) for t in ([], [1], [1, 1], [1, 2, 2, 2])] == [0, 1, 3, 6]


def test_unusable_utterances_are_counted_by_reason():
    utterances = [
        Utterance("good.wav", 1.0, "ab"),
        Utterance("long.wav", 99.0, "ab"),
        Utterance("short.wav", 0.01, "a"),
        Utterance("dense.wav", 0.1, "aaaaaaaa"),
        Utterance("digits.wav", 1.0, "7 of 9"),
    ]
    kept, reasons = usable(utterances, TARGETS, FEATURES, max_duration=20.0)
    assert [u.audio_filepath for u in kept] == ["good.wav"]
    assert reasons == {
        "longer than 20 s": 1,
        "shorter than 0.1 s": 1,
        "fewer frames than CTC needs for the text": 1,
        "unknown symbol '7'": 1,
    }
    with pytest.raises(ManifestError, match="no usable utterance"):
        usable(utterances[1:], TARGETS, FEATURES, max_duration=20.0)


def test_statistics_are_those_of_all_frames(utterances):
    dataset = SpeechDataset(utterances, TARGETS, FEATURES)
    mean, std = feature_statistics(dataset)
    frames = np.concatenate([dataset[0, i].features for i in range(2)])
    np.testing.assert_allclose(mean, frames.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(std, frames.std(axis=0), rtol=1e-3)
