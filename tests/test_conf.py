"""Every configuration that ships is valid, and mistakes are explained."""

from pathlib import Path

import pytest

pytest.importorskip("hydra")
pytest.importorskip("torch")

from asr.cli.train import compose
from asr.errors import ConfigError
from asr.models.language import LanguageModel
from asr.models.punctuation import Tagger
from asr.train.setup import make_model, make_targets

CONF = Path(__file__).parents[1] / "conf"
CHOICES = [
    f"{file.parent.relative_to(CONF)}={file.stem}"
    for file in sorted(CONF.glob("*/**/*.yaml"))
    if not {"experiment", "serve"} & set(file.relative_to(CONF).parts)
]
EXPERIMENTS = [
    str(file.relative_to(CONF / "experiment").with_suffix(""))
    for file in sorted(CONF.glob("experiment/**/*.yaml"))
]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_makes_a_network(choice):
    config = compose([choice])
    model = make_model(config, dict.fromkeys(config.heads, 29))
    assert model.input_size == config.features.size


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_makes_a_network(experiment):
    if experiment.startswith("language_model/"):
        config = compose(["task=language_model", f"experiment={experiment}"])
        LanguageModel(29, config.model, config.model.tied)
        return
    if experiment.startswith("punctuation/"):
        Tagger(compose(["task=punctuation", f"experiment={experiment}"]).model)
        return
    config = compose([f"experiment={experiment}"])
    make_model(config, dict.fromkeys(config.heads, 29))


@pytest.mark.parametrize(
    ("row", "printed"),
    [
        ("ctc_3l_500h_tanh", "3.7M"),
        ("ctc_1l_250h", "0.8M"),
        ("ctc_1l_622h", "3.8M"),
        ("ctc_2l_250h", "2.3M"),
        ("ctc_3l_421h_uni", "3.8M"),
        ("ctc_3l_250h", "3.8M"),
        ("ctc_5l_250h", "6.8M"),
        ("trans_3l_250h", "4.3M"),
        ("pretrans_3l_250h", "4.3M"),
    ],
)
def test_networks_of_graves_2013_have_as_many_weights_as_in_its_table_1(row, printed):
    config = compose([f"experiment=graves2013/{row}"])
    vocabulary = make_targets(config.heads["phones"]).vocabulary
    assert (config.features.size, len(vocabulary)) == (123, 62)
    model = make_model(config, {"phones": len(vocabulary)})
    assert f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}M" == printed
    assert max(float(p.detach().abs().max()) for p in model.parameters()) <= 0.1 + 1e-6


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.epoch=3", r"trainer\.epoch.*did you mean trainer\.epochs"),
        ("model=blstm_4x321", "blstm_4x321"),
        ("trainer.epochs=many", "trainer.epochs is not of type int"),
        ("trainer.precision=fp8", "'fp32', 'bf16'"),
        ("task=language_models", "one of acoustic, language_model"),
    ],
)
def test_mistakes_are_explained(override, message):
    with pytest.raises(ConfigError, match=message):
        compose([override])
