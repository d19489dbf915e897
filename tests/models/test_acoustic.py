import pytest
import torch

from asr.errors import ConfigError
from asr.models.acoustic import AcousticModel, HeadConfig
from asr.models.encoder import EncoderConfig

CONFIGS = {
    "convolutional": EncoderConfig(6, 3, convolutions=(3, 2), convolution_stride=3),
    "normalised": EncoderConfig(6, 2, utterance_norm=True),
    "bidirectional": EncoderConfig(hidden_size=6, layers=3),
    "unidirectional": EncoderConfig(hidden_size=6, layers=2, bidirectional=False),
    "subsampled": EncoderConfig(hidden_size=6, layers=3, subsampling=(1, 2, 2)),
    "as Graves initialised": EncoderConfig(6, 2, layer_norm=False, init_range=0.1),
}


def make(config: EncoderConfig) -> AcousticModel:
    torch.manual_seed(0)
    heads = {"characters": HeadConfig(5, config.layers), "phones": HeadConfig(7, 1)}
    return AcousticModel(4, config, heads).eval()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_an_utterance_does_not_depend_on_its_batch(config):
    model = make(config)
    features, lengths = torch.randn(8, 40, 4), torch.randint(1, 41, (8,))
    batched, batched_lengths = model(features, lengths)
    for i, length in enumerate(lengths.tolist()):
        alone, (n,) = model(features[i : i + 1, :length], lengths[i : i + 1])
        padded, _ = model(features[i : i + 1], lengths[i : i + 1])
        assert n == batched_lengths[i]
        torch.testing.assert_close(batched[i, :n], alone[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(padded[0, :n], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_outputs_are_log_probabilities_of_every_head(config):
    model = make(config)
    outputs = model.forward_heads(torch.randn(2, 20, 4), torch.tensor([20, 11]))
    for name, classes, layer in (("characters", 5, config.layers), ("phones", 7, 1)):
        log_probs, lengths = outputs[name]
        assert lengths.tolist() == [-(-n // config.rate(layer)) for n in (20, 11)]
        assert log_probs.shape == (2, int(lengths.max()), classes)
        torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(log_probs.shape[:2]))


def test_initial_range_holds_for_every_weight_and_bias():
    for parameter in make(CONFIGS["as Graves initialised"]).parameters():
        assert parameter.abs().max() <= 0.1


def test_impossible_shapes_are_refused():
    with pytest.raises(ConfigError, match="sits on layer 4"):
        AcousticModel(4, EncoderConfig(6, 3), {"characters": HeadConfig(5, 4)})
    with pytest.raises(ConfigError, match="subsampling"):
        EncoderConfig(6, 2, subsampling=(1, 1, 2))
