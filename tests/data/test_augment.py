import numpy as np
import pytest

from asr.data.augment import (
    TELEPHONE_CODECS,
    AugmentConfig,
    Augmenter,
    change_speed,
    mix,
    reverberate,
    telephone,
)
from asr.errors import ConfigError
from asr.features import FeatureConfig, band_centres

RATE = 16_000


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def loudest_hertz(waveform: np.ndarray, rate: int = RATE) -> float:
    spectrum = np.abs(np.fft.rfft(waveform))
    return float(np.fft.rfftfreq(len(waveform), 1 / rate)[spectrum.argmax()])


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_speed_changes_duration_and_pitch(factor):
    faster = change_speed(tone(1000), factor)
    assert len(faster) == pytest.approx(RATE / factor, abs=2)
    assert loudest_hertz(faster) == pytest.approx(1000 * factor, abs=2)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 25.0])
def test_mix_reaches_the_ratio(snr_db):
    signal = tone(400)
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    added = mix(signal, noise, snr_db) - signal
    ratio = 10 * np.log10(np.mean(signal**2) / np.mean(added**2))
    assert ratio == pytest.approx(snr_db, abs=0.01)


def test_mixing_silence_changes_nothing():
    signal, silence = tone(400), np.zeros(RATE, np.float32)
    np.testing.assert_array_equal(mix(signal, silence, 10), signal)
    np.testing.assert_array_equal(mix(silence, signal, 10), silence)


def test_room_keeps_time_length_and_loudness():
    click = np.zeros(RATE, np.float32)
    click[5000] = 1.0
    room = np.zeros(4000, np.float32)
    room[30], room[2030] = 0.7, 0.35  # direct sound after 30 samples, one echo
    wet = reverberate(click, room)
    assert len(wet) == RATE
    assert np.argmax(np.abs(wet)) == 5000
    assert wet[7000] / wet[5000] == pytest.approx(0.5, abs=1e-3)
    assert np.mean(wet**2) == pytest.approx(np.mean(click**2), rel=1e-3)


def test_masks_hide_the_same_bands_in_all_stacked_frames():
    layout = FeatureConfig(n_mels=10, stack=3, stride=3)
    config = AugmentConfig(time_masks=0, frequency_masks=1, frequency_width=6)
    augmenter = Augmenter(config, layout)
    ones = np.ones((50, layout.size), np.float32)
    hidden = [augmenter.mask(ones, np.random.default_rng(s)) == 0 for s in range(20)]
    assert any(h.any() for h in hidden)
    for mask in hidden:
        bands = mask.reshape(50, 3, 10)
        assert (bands == bands[:1, :1]).all()
    assert (ones == 1).all()


def test_masks_reach_every_bin_of_a_spectrum_without_mel_bands():
    layout = FeatureConfig(n_mels=0, stack=1, stride=1)
    config = AugmentConfig(time_masks=0, frequency_masks=1, frequency_width=100)
    augmenter = Augmenter(config, layout)
    ones = np.ones((2, layout.size), np.float32)
    hidden = [augmenter.mask(ones, np.random.default_rng(s)) == 0 for s in range(60)]
    assert np.any(hidden, axis=(0, 1)).mean() > 0.9


def test_time_masks_leave_most_of_the_utterance():
    layout = FeatureConfig(n_mels=10, stack=1, stride=1)
    config = AugmentConfig(time_masks=2, time_share=0.1, time_width=9.0, frequency_masks=0)
    augmenter = Augmenter(config, layout)
    for seed in range(30):
        masked = augmenter.mask(np.ones((100, 10), np.float32), np.random.default_rng(seed))
        assert (masked == 0).all(axis=1).sum() <= 20


@pytest.mark.parametrize("codec", TELEPHONE_CODECS)
@pytest.mark.parametrize("rate", [16_000, 22_050])
def test_a_telephone_passes_its_band_and_keeps_the_time(codec, rate):
    speech = tone(1000, 1.003, rate)
    heard = telephone(speech + tone(100, 1.003, rate) + tone(6000, 1.003, rate), rate, codec)
    assert heard.shape == speech.shape
    assert heard.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(heard))
    hertz = np.fft.rfftfreq(len(heard), 1 / rate)
    passed = (hertz > 300) & (hertz < 3400)
    assert (spectrum[passed] ** 2).sum() > 20 * (spectrum[~passed] ** 2).sum()
    assert loudest_hertz(heard, rate) == pytest.approx(1000, abs=2)
    chirp = np.r_[np.zeros(rate // 2), tone(1000, 0.1, rate), np.zeros(rate // 2)]
    echo = telephone(chirp.astype(np.float32), rate, codec)
    lag = np.argmax(np.correlate(echo, chirp, "full")) - len(chirp) + 1
    assert abs(lag) < rate / 1000  # no more than a millisecond


@pytest.mark.parametrize("n_samples", [0, 1, 7])
def test_a_telephone_passes_next_to_nothing(n_samples):
    assert len(telephone(np.zeros(n_samples, np.float32), 16_000, "GSM610")) == n_samples


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("features", [FeatureConfig(), FeatureConfig.graves()])
def test_warping_moves_formants_and_nothing_else(features, seed):
    """A band of 1 kHz ends up where its frequency, scaled by the factor that was drawn, belongs."""
    columns = features.bands + features.energy
    rows = np.zeros((4, features.size), np.float32)
    frames = rows.reshape(4, -1, columns)
    centres = band_centres(features)
    formant = int(np.abs(centres - 1000).argmin())
    frames[:, :, formant] = 1.0
    frames[:, :, features.bands :] = 7.0
    augmenter = Augmenter(AugmentConfig(warp=0.2), features)
    warped = augmenter.warp(rows, np.random.default_rng(seed)).reshape(frames.shape)
    factor = 1 + 0.2 * np.random.default_rng(seed).uniform(-1, 1)
    width = np.diff(centres)[formant]
    loudest = centres[warped[..., : features.bands].argmax(axis=-1)]
    np.testing.assert_allclose(loudest, centres[formant] * factor, atol=width)
    np.testing.assert_array_equal(warped[..., features.bands :], frames[..., features.bands :])
    assert warped.dtype == np.float32


@pytest.mark.parametrize("warp", [-0.1, 1.0, float("nan")])
def test_a_warp_that_leaves_no_axis_is_refused(warp):
    with pytest.raises(ConfigError, match="warp"):
        AugmentConfig(warp=warp)


def test_no_rows_stay_no_rows():
    """Those of a recording that turns out to be empty, which the batch leaves out."""
    features = FeatureConfig.graves()
    augmenter = Augmenter(AugmentConfig(warp=0.1), features)
    rng, nothing = np.random.default_rng(0), np.zeros((0, features.size), np.float32)
    assert augmenter.mask(augmenter.warp(nothing, rng), rng).shape == nothing.shape


def test_without_warp_nothing_is_drawn():
    rows = np.ones((2, FeatureConfig().size), np.float32)
    rng = np.random.default_rng(0)
    assert Augmenter(AugmentConfig(), FeatureConfig()).warp(rows, rng) is rows
    assert rng.random() == np.random.default_rng(0).random()


def test_the_generator_alone_decides():
    config = AugmentConfig(noise=0.5, room=0.5, telephone=0.5)
    noises, rooms = [tone(100, 0.3)], [np.array([0.0, 1.0, 0.5], np.float32)]
    augmenter = Augmenter(config, FeatureConfig(), noises, rooms)
    first, again, other = (
        augmenter.waveform(tone(440), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert len(first) != len(other) or not np.array_equal(first, other)
