"""`asr info`: what a model is."""

from __future__ import annotations

import json

import click


@click.command(epilog="Example: asr info models/mine")
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="All settings as JSON.")
def command(model: str | None, as_json: bool) -> None:
    """Show what the bundle in the folder MODEL is (the bundled English one by default), after
    checking that it is intact.
    """
    from asr.config import to_dict
    from asr.packaging.bundle import Bundle, bundled

    bundle = Bundle.load(model or bundled())
    config = bundle.config
    if as_json:
        click.echo(json.dumps(to_dict(config), ensure_ascii=False, indent=2))
        return
    vocabulary = bundle.vocabulary
    click.echo(f"{config.name}: {config.language}, in {bundle.folder}, intact")
    click.echo(f"input    {config.features.sample_rate} Hz, {config.features.size} features")
    click.echo(f"output   {len(vocabulary)} {vocabulary.kind} every {config.frame_shift:g} s")
    if "weights" in config.model:
        click.echo(f"weights  {config.model['weights']}")
    for title, settings in (("network", config.model), ("decoder", config.decoder)):
        click.echo(f"{title:8} {_one_line(settings)}")
    for name, size in bundle.files.items():
        click.echo(f"{size / 1e6:8.2f} MB  {name}")
    click.echo(f"{sum(bundle.files.values()) / 1e6:8.2f} MB  in all")
    click.echo(f"\n{bundle.card.strip()}")


def _one_line(settings: object) -> str:
    return json.dumps(settings, ensure_ascii=False).replace('"', "").strip("{}") or "-"
