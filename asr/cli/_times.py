"""Times on the command line."""

from __future__ import annotations

import re

import click

# Only seconds have a fraction, and only the first part may be 60 or more.
_TIME = re.compile(
    r"(?:(?:(\d+):(?=[0-5]?\d:))?(\d+):(?=[0-5]?\d(?:\.|$)))?(\d+(?:\.\d*)?|\.\d+)", re.ASCII
)


class Seconds(click.ParamType):
    """Seconds, or minutes and seconds, or hours too: 90, 1:30, 0:01:30.5."""

    name = "time"

    def __init__(self, may_be_zero: bool = True):
        self._may_be_zero = may_be_zero

    def convert(
        self, value: object, parameter: click.Parameter | None, context: click.Context | None
    ) -> float:
        if isinstance(value, int | float):
            return float(value)
        match = _TIME.fullmatch(str(value).strip())
        if match is None:
            self.fail(
                f"{value!r} is no time: give seconds (90) or [h:]m:s (1:30)", parameter, context
            )
        hours, minutes, seconds = match.groups(default="0")
        total = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
        if total == 0 and not self._may_be_zero:
            self.fail(f"{value!r} is no time at all", parameter, context)
        return total


SECONDS = Seconds()
SOME_SECONDS = Seconds(may_be_zero=False)
