"""Every configuration that ships is valid, and mistakes are explained."""

from pathlib import Path

import pytest

pytest.importorskip("hydra")
pytest.importorskip("torch")

from asr.cli.train import compose
from asr.errors import ConfigError
from asr.train.setup import make_model

CONF = Path(__file__).parents[1] / "conf"
CHOICES = [
    f"{file.parent.relative_to(CONF)}={file.stem}"
    for file in sorted(CONF.glob("*/**/*.yaml"))
    if file.parent.name != "experiment"
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
    config = compose([f"experiment={experiment}"])
    make_model(config, dict.fromkeys(config.heads, 29))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.epoch=3", r"trainer\.epoch.*did you mean trainer\.epochs"),
        ("model=blstm_4x321", "blstm_4x321"),
        ("trainer.epochs=many", "trainer.epochs is not of type int"),
        ("trainer.precision=fp8", "'fp32', 'bf16'"),
    ],
)
def test_mistakes_are_explained(override, message):
    with pytest.raises(ConfigError, match=message):
        compose([override])
