"""Times on the command line."""

from __future__ import annotations

import math

import click


class Seconds(click.ParamType):
    """Seconds, or minutes and seconds, or hours too: 90, 1:30, 0:01:30.5."""

    name = "time"

    def convert(
        self, value: object, parameter: click.Parameter | None, context: click.Context | None
    ) -> float:
        if isinstance(value, int | float):
            return float(value)
        parts = str(value).strip().split(":")
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            numbers = [math.nan]
        in_order = all(number < 60 for number in numbers[1:])
        whole = all(number == int(number) for number in numbers[:-1] if math.isfinite(number))
        plain = not any(sign in str(value) for sign in "+-")
        if (
            len(parts) > 3
            or not all(map(math.isfinite, numbers))
            or not (in_order and whole and plain)
        ):
            self.fail(
                f"{value!r} is no time: give seconds (90) or [h:]m:s (1:30)", parameter, context
            )
        return sum(number * 60**power for power, number in enumerate(reversed(numbers)))


SECONDS = Seconds()
