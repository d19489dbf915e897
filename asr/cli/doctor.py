"""`asr doctor`: check the installation."""

from __future__ import annotations

import click

SIGNS = {"ok": "ok", "missing": "-", "broken": "BROKEN"}


@click.command()
def command() -> int:
    """Check the installation and explain how to fix it.

    Exit status 1 if something is.
    """
    from asr.doctor import examine

    broken = 0
    for finding in examine():
        broken += finding.state == "broken"
        click.echo(f"{SIGNS[finding.state]:8}{finding.subject:18}{finding.detail}")
        if finding.remedy:
            click.echo(f"{'':26}-> {finding.remedy}")
    return int(broken > 0)
