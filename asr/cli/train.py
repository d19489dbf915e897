"""`asr train`: one training run, configured by Hydra."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import click

from asr.cli._training import needs_training_extra
from asr.errors import ConfigError


@click.command(
    epilog="""\b
Examples:
  asr train data.train=[train.jsonl] data.dev=[dev.jsonl] run=runs/mine
  asr train model=blstm_3x250 features=graves trainer.epochs=50 …
  asr train --show experiment=…          the settings, without training
  asr train task=language_model data.train=[text.txt] data.dev=[dev.txt] run=runs/lm
  asr train task=punctuation data.train=[text.txt] data.dev=[dev.txt] run=runs/punctuation
  torchrun --nproc-per-node 4 -m asr train …   on four GPUs or processes
"""
)
@click.argument("overrides", nargs=-1)
@click.option("--config-dir", help="A folder to use instead of conf/.")
@click.option("--show", is_flag=True, help="Print the settings and stop.")
@needs_training_extra
def command(overrides: tuple[str, ...], config_dir: str | None, show: bool) -> None:
    """Train an acoustic or a language model, or resume a run that was interrupted.

    `task=language_model` trains a recurrent language model, with the settings of
    conf/language_model.yaml; `asr lm export` makes a file of it. `task=punctuation` trains what
    restores case and punctuation, with those of conf/punctuation.yaml. OVERRIDES are Hydra's:
    `group=choice` takes a file of conf/ or a default of asr/train/choices.py,
    `group.setting=value` changes one setting. Everything a
    run writes is in its folder (`run=FOLDER`); the same command again resumes from the last
    checkpoint there. `asr export FOLDER MODEL` makes a model of it.
    """
    import os
    from pathlib import Path

    import yaml

    from asr.analysis import plots
    from asr.config import to_dict
    from asr.punctuation.training import make_punctuation_trainer
    from asr.train.config import LanguageTrainingConfig, PunctuationTrainingConfig, TrainingConfig
    from asr.train.setup import make_trainer
    from asr.train.text import make_language_trainer

    config = compose(list(overrides), config_dir)
    if show:
        click.echo(yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True))
        return
    if isinstance(config, LanguageTrainingConfig):
        make_language_trainer(config).fit()
    elif isinstance(config, PunctuationTrainingConfig):
        make_punctuation_trainer(config).fit()
    else:
        make_trainer(config).fit()
    if isinstance(config, TrainingConfig) and int(os.environ.get("RANK", "0")) == 0:
        folder = Path(config.run)
        plots.save(plots.learning_curves(folder), folder / "curves.png")


def compose(overrides: list[str], config_dir: str | None = None) -> Any:
    """The TrainingConfig that Hydra makes of `conf/` and `overrides` (`group=choice`, `key=value`).

    The override `task=language_model` asks for a LanguageTrainingConfig instead, `task=punctuation`
    for a PunctuationTrainingConfig. Raises ConfigError for an unknown key, naming its nearest
    neighbour.
    """
    from pathlib import Path

    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir, initialize_config_module
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from asr.config import build
    from asr.train.choices import register
    from asr.train.config import LanguageTrainingConfig, PunctuationTrainingConfig, TrainingConfig

    asked = [o.removeprefix("task=") for o in overrides if o.startswith("task=")]
    overrides = [o for o in overrides if not o.startswith("task=")]
    tasks = {
        "acoustic": TrainingConfig,
        "language_model": LanguageTrainingConfig,
        "punctuation": PunctuationTrainingConfig,
    }
    task = asked[-1] if asked else "acoustic"
    if task not in tasks:
        raise ConfigError(f"unknown task {task!r}", f"one of {', '.join(tasks)}")
    root = "config" if task == "acoustic" else task

    def configuration() -> Any:
        if config_dir is None:
            return initialize_config_module("conf", version_base="1.3")
        return initialize_config_dir(str(Path(config_dir).absolute()), version_base="1.3")

    register()
    # Files name only what differs from the defaults, so `++` adds a setting that Hydra has not
    # seen; `build` refuses those that do not exist.
    overrides = [
        f"++{override.lstrip('+')}" if re.match(r"\+*[\w]+\.", override) else override
        for override in overrides
    ]
    with configuration():
        try:
            composed = hydra_compose(root, overrides)
            plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        except (HydraException, OmegaConfBaseException) as error:
            known = list(_leaves(OmegaConf.to_container(hydra_compose(root))))
            raise ConfigError(*_explain(error, overrides, known)) from error
    return build(tasks[task], cast("dict[str, Any]", plain))


def _explain(error: Exception, overrides: list[str], known: list[str]) -> tuple[str, str]:
    cause = str(error).splitlines()[0]
    for override in overrides:
        key = override.lstrip("+~").split("=")[0]
        is_setting = "." in key or "+" in override
        if is_setting and key not in known and key in cause:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            return f"unknown setting {key}", f"did you mean {near[0]}?" if near else "see conf/"
    return cause, "see conf/ for what there is"


def _leaves(data: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix
