from dataclasses import dataclass, field
from typing import Literal

import pytest

from asr.config import build, differences, to_dict
from asr.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    size: int
    rate: float = 0.5
    shape: tuple[int, ...] = ()
    span: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Outer:
    name: str
    mode: Literal["fast", "slow"] = "fast"
    limit: int | None = None
    inner: Inner = field(default_factory=lambda: Inner(1))
    many: dict[str, Inner] = field(default_factory=dict)


FULL = {
    "name": "x",
    "mode": "slow",
    "limit": None,
    "inner": {"size": 2, "rate": 1, "shape": [1, 2], "span": [0, 2.5]},
    "many": {"a": {"size": 3}},
}


def test_plain_data_becomes_dataclasses_and_back():
    built = build(Outer, FULL)
    assert built.inner == Inner(2, 1.0, (1, 2), (0.0, 2.5))
    assert isinstance(built.inner.rate, float)
    assert build(Outer, to_dict(built)) == built


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": "x"}, r"nmae \(did you mean name\?\)"),
        ({"inner": {"size": 1, "rat": 1}}, r"inner\.rat \(did you mean inner\.rate\?\)"),
        ({"inner": {}}, r"inner\.size is missing"),
        ({"inner": {"size": "1"}}, r"inner\.size is not of type int"),
        ({"inner": {"size": True}}, r"inner\.size is not of type int"),
        ({"inner": {"size": 1, "span": [1]}}, r"inner\.span needs 2 values"),
        ({"inner": {"size": 1, "shape": "12"}}, r"inner\.shape is not a list"),
        ({"mode": "medium"}, "'fast', 'slow'"),
        ({"many": {"a": {"size": None}}}, r"many\.a\.size"),
        ({"inner": 3}, "not a group of settings"),
    ],
)
def test_errors_name_the_setting(change, message):
    with pytest.raises(ConfigError, match=message):
        build(Outer, {"name": "x", **change})


def test_differences_name_the_leaves():
    other = {**FULL, "inner": {**FULL["inner"], "size": 9}, "new": 1}
    assert differences(FULL, other) == [("inner.size", 2, 9), ("new", None, 1)]
