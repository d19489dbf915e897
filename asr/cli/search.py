"""`asr search`: hyperparameter search with Optuna and Hydra's syntax."""

from __future__ import annotations

from pathlib import Path

import click

from asr.cli._training import needs_training_extra
from asr.cli.train import compose


@click.command(
    epilog="""\b
Examples:
  asr search --to runs/search --trials 20 data.train=[train.jsonl] data.dev=[dev.jsonl] \\
    'optimizer.learning_rate=tag(log,interval(1e-4,1e-2))' 'model.dropout=interval(0,0.5)' \\
    'model=choice(blstm_2x128,blstm_3x250)' trainer.epochs=8
"""
)
@click.argument("overrides", nargs=-1)
@click.option(
    "--to", type=click.Path(path_type=Path), required=True, help="The folder of the search."
)
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True)
@click.option("--seed", default=1, show_default=True, help="Seed of the values to try.")
@needs_training_extra
def command(overrides: tuple[str, ...], to: Path, trials: int, seed: int) -> None:
    """Find good settings for training, by training with many.

    OVERRIDES are those of `asr train`; those with several values, interval(a,b), range(a,b) or
    choice(a,b,c), are searched. Trials that fall behind are stopped. The same command again goes
    on with a search that was interrupted, or adds to it with more --trials. In other processes, or
    on machines that share the folder, it takes part in the search.
    """
    from asr.train.search import search

    best = search(to, overrides, compose, trials=trials, seed=seed, tell=click.echo)
    click.echo(f"best of {best.trials}: dev CER {best.error:.1%} with {' '.join(best.overrides)}")
    click.echo(f"its run: {best.run}")
