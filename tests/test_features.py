import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import ConfigError
from asr.features import FeatureConfig, Features, band_centres

CONFIGS = {
    "modern": FeatureConfig(mean=(-3.0,) * 80, std=(2.0,) * 80),
    "graves": FeatureConfig.graves(),
    "overlapping stacks": FeatureConfig(n_mels=20, stack=5, stride=3),
    "gaps between stacks": FeatureConfig(n_mels=20, stack=2, stride=5),
    "spectrum": FeatureConfig(n_mels=0, stack=1, stride=1, window=0.02),
    "stacks of spectra": FeatureConfig(n_mels=0, stack=3, stride=3, deltas=1, window=0.03),
}


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(n_samples) * 0.1).astype(np.float32)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@given(n_samples=st.integers(0, 20_000), seed=st.integers(0, 1000))
def test_stream_equals_whole(config, n_samples, seed):
    waveform, rng = noise(n_samples), np.random.default_rng(seed)
    features = Features(config)
    cuts = np.sort(rng.integers(0, n_samples + 1, rng.integers(0, 12)))
    stream = features.stream()
    pieces = [stream.feed(block) for block in np.split(waveform, cuts)]
    streamed = np.concatenate([*pieces, stream.finish()])
    whole = features(waveform)
    assert whole.shape == streamed.shape == (config.n_rows(n_samples / 16_000), config.size)
    np.testing.assert_array_equal(streamed, whole)


@pytest.mark.parametrize("name", ["modern", "graves", "spectrum", "stacks of spectra"])
@pytest.mark.parametrize("rows", [1, 7])
def test_how_many_samples_rows_take(name, rows):
    config = CONFIGS[name]
    needed = config.n_samples(rows)
    assert len(Features(config).stream().feed(np.zeros(needed, np.float32))) == rows
    assert len(Features(config).stream().feed(np.zeros(needed - 1, np.float32))) == rows - 1


def test_filter_bank_equals_kaldi():
    torch = pytest.importorskip("torch")
    kaldi = pytest.importorskip("torchaudio").compliance.kaldi
    waveform = noise(32_000)
    config = FeatureConfig(n_mels=40, energy=True, stack=1, stride=1)
    ours = Features(config)(waveform)
    theirs = kaldi.fbank(
        torch.from_numpy(waveform)[None] * 32768,
        num_mel_bins=40,
        use_energy=True,
        dither=0.0,
        energy_floor=0.0,
        htk_compat=True,  # energy last
    ).numpy() - 2 * np.log(32768)  # Kaldi's samples are 16-bit integers
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


@pytest.mark.parametrize("n_samples", [161, 4000, 16_001])
def test_spectrum_equals_torchs(n_samples):
    torch = pytest.importorskip("torch")
    waveform = noise(n_samples)
    stft = torch.stft(
        torch.from_numpy(waveform),
        n_fft=320,
        hop_length=160,
        window=torch.hamming_window(320),
        return_complex=True,
    )
    ours = Features(CONFIGS["spectrum"])(waveform)
    np.testing.assert_allclose(ours, stft.abs().log1p().T, atol=1e-5)


def test_the_bins_of_a_spectrum_are_equally_spaced():
    centres = band_centres(CONFIGS["spectrum"])
    assert (len(centres), centres[1], centres[-1]) == (161, 50.0, 8000.0)


def test_a_spectrum_has_no_energy_beside_it():
    with pytest.raises(ConfigError, match="no energy beside it"):
        FeatureConfig(n_mels=0, energy=True)


def test_deltas_equal_torchaudio():
    torch = pytest.importorskip("torch")
    compute_deltas = pytest.importorskip("torchaudio").functional.compute_deltas
    features = Features(FeatureConfig.graves())(noise(16_000))
    static = torch.from_numpy(features[:, :41].T.copy())
    first = compute_deltas(static)
    np.testing.assert_allclose(features[:, 41:82], first.numpy().T, atol=1e-4)
    np.testing.assert_allclose(features[:, 82:], compute_deltas(first).numpy().T, atol=1e-4)


def test_graves_has_123_inputs_every_10_ms():
    config = FeatureConfig.graves()
    assert (config.size, config.frame_shift) == (123, 0.01)


def test_fixed_normalisation_uses_the_training_statistics():
    plain = FeatureConfig(n_mels=4, stack=1, stride=1, mean_prior=None)
    raw = Features(plain)(noise(8000))
    mean, std = raw.mean(axis=0), raw.std(axis=0)
    config = FeatureConfig(
        n_mels=4, stack=1, stride=1, mean_prior=None, mean=tuple(mean), std=tuple(std)
    )
    normalised = Features(config)(noise(8000))
    np.testing.assert_allclose(normalised.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(normalised.std(axis=0), 1, atol=1e-4)


def test_following_mean_takes_the_gain_away():
    config = FeatureConfig(mean=(-3.0,) * 80, std=(2.0,) * 80)
    quiet, loud = (Features(config)(noise(160_000) * gain) for gain in (0.05, 1.0))
    # The prior's weight fades: at first the gain shows, after ten seconds little is left.
    assert np.abs(quiet[0] - loud[0]).mean() > 1.0
    assert np.abs(quiet[-1] - loud[-1]).mean() < 0.4


def test_silence_is_finite():
    assert np.isfinite(Features(FeatureConfig.graves())(np.zeros(16_000, np.float32))).all()


def test_wrong_statistics_are_refused():
    with pytest.raises(ConfigError, match="3 numbers for 80 columns"):
        FeatureConfig(mean=(0.0,) * 3)
