"""Every configuration that ships is valid, and mistakes are explained."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

pytest.importorskip("hydra")
pytest.importorskip("torch")

from asr.cli import main
from asr.cli.train import compose
from asr.config import to_dict
from asr.data.manifest import read_manifest, write_manifest
from asr.errors import ConfigError
from asr.models.attention_decoder import AttentionConfig
from asr.models.language import LanguageModel
from asr.packaging.package import package_run
from asr.punctuation.tagger import Tagger
from asr.recognizer import Recognizer
from asr.train import choices
from asr.train.config import HeadSettings, TrainingConfig
from asr.train.setup import make_model, make_targets, make_trainer

CONF = Path(__file__).parents[1] / "conf"
CHOICES = [
    f"{file.parent.relative_to(CONF)}={file.stem}"
    for file in sorted(CONF.glob("*/**/*.yaml"))
    if not {"experiment", "serve"} & set(file.relative_to(CONF).parts)
] + list(choices.CHOICES)
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


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["mini_librispeech", "librispeech_100"])
def test_the_recipes_of_librispeech_run(experiment, shared, tmp_path):
    """From random weights over both criteria to a model that transcribes, in small."""
    speech, cmudict = shared / "speech" / "librispeech", shared / "text" / "cmudict.dict.xz"
    for name, count in (("train", 40), ("dev", 8)):
        utterances = sorted(read_manifest(speech / f"{name}.jsonl"), key=lambda u: u.duration)
        write_manifest(tmp_path / f"{name}.jsonl", utterances[:count])
    changes = [
        f"data.train=[{tmp_path / 'train.jsonl'}]", f"data.dev=[{tmp_path / 'dev.jsonl'}]",
        f"run={tmp_path / 'run'}", f"heads.phones.lexicon={cmudict}",
        "data.workers=0", "data.batch_frames=2000",
        "trainer.epochs=3", "trainer.masks_from=1", "trainer.crf_from=2", "trainer.device=cpu",
        "model.hidden_size=32", "model.layers=4",
    ]  # fmt: skip
    make_trainer(compose([f"experiment={experiment}", *changes])).fit()
    train = ["lm", "train", str(tmp_path / "train.jsonl"), "--order", "2"]
    with pytest.raises(SystemExit, match="0"):
        main([*train, "--output", str(tmp_path / "lm.bin")])
    bundle = package_run(
        tmp_path / "run",
        tmp_path / "model",
        name="small",
        head="phones",
        second="characters",
        lm=tmp_path / "lm.bin",
        lexicon=cmudict,
    )
    Recognizer(bundle, threads=1).transcribe(read_manifest(speech / "dev.jsonl")[0].audio_filepath)


@pytest.mark.parametrize("task", ["acoustic", "language_model", "punctuation"])
def test_every_setting_that_is_shown_can_be_set(task):
    overrides = [f"task={task}", *(["heads=transducer"] if task == "acoustic" else [])]
    config = compose(overrides)
    leaves = dict(_leaves(to_dict(config)))
    assert {"features.window", "heads.characters.kind"} <= leaves.keys() or task != "acoustic"
    given = [f"{name}={json.dumps(value)}" for name, value in leaves.items() if name != "run"]
    assert compose([*overrides, *given]) == config


def _leaves(data, prefix=""):
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_settings_have_one_default():
    """That of a dataclass; files say only what differs."""
    assert compose([]) == TrainingConfig("runs/default")
    for file in CONF.glob("*/*.yaml"):
        choice = f"{file.parent.name}={file.stem}"
        if choice in CHOICES and not choice.startswith(("data", "heads")):
            given, default = yaml.safe_load(file.read_text()), to_dict(compose([]))
            plain = default[file.parent.name]
            assert not [name for name, value in given.items() if plain[name] == value], choice
    lines = [line for file in CONF.rglob("*.yaml") for line in file.read_text().splitlines()]
    assert len(lines) <= 400


def test_a_setting_changes_what_is_asked_for_alone():
    config = compose(["features.window=0.032", "heads=jamo", "heads.jamo.attention.size=64"])
    assert config.features.window == 0.032
    (head,) = config.heads.values()
    assert head == HeadSettings("jamo", attention=AttentionConfig(size=64))
    decoder = compose(["heads=jamo", "heads.jamo.attention.decoder.layers=2"]).heads["jamo"]
    assert decoder.attention.decoder == replace(AttentionConfig().decoder, layers=2)


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
        ("heads.characters.knd=ctc", "heads.characters.knd.*did you mean heads.characters.kind"),
        ("nothing.at.all=3", "unknown setting nothing"),
    ],
)
def test_mistakes_are_explained(override, message):
    with pytest.raises(ConfigError, match=message):
        compose([override])
