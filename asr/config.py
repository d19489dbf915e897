"""Plain data (YAML, JSON, Hydra) into dataclasses, strictly: nothing unknown is ever ignored."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from asr.errors import ConfigError

T = TypeVar("T")


def build(cls: type[T], data: Mapping[str, Any], where: str = "") -> T:
    """An instance of the dataclass `cls`, nested ones included.

    What `data` leaves out has the default of its field, also inside a nested dataclass. Raises
    ConfigError for an unknown key (naming its nearest neighbour), a missing one, or a value of the
    wrong kind.

    >>> from asr.features import FeatureConfig
    >>> build(FeatureConfig, {"n_mels": 40}).n_mels
    40
    >>> build(FeatureConfig, {"n_mel": 40}, "features")
    Traceback (most recent call last):
        ...
    asr.errors.ConfigError: unknown setting features.n_mel (did you mean features.n_mels?)
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where or cls.__name__} is not a group of settings: {data!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    prefix = f"{where}." if where else ""
    for key in data:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.4)
            remedy = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(fields)}"
            raise ConfigError(f"unknown setting {prefix}{key}", remedy)
    for name, field in fields.items():
        has_default = (
            field.default is not dataclasses.MISSING
            or field.default_factory is not dataclasses.MISSING
        )
        if name not in data and not has_default:
            raise ConfigError(f"setting {prefix}{name} is missing")
    values = {
        name: _convert(hints[name], _completed(hints[name], fields[name], value), f"{prefix}{name}")
        for name, value in data.items()
    }
    return cls(**values)


def _completed(hint: Any, field: dataclasses.Field[Any], value: Any) -> Any:
    """A group of settings, with those of the field's own default that it leaves out.

    What has no default in the group's dataclass has to be given with it.
    """
    factory = field.default_factory
    if not dataclasses.is_dataclass(hint) or not isinstance(value, Mapping):
        return value
    if factory is dataclasses.MISSING or factory is hint:
        return value
    optional = defaults(hint)  # type: ignore[arg-type]
    own = {name: v for name, v in to_dict(factory()).items() if name in optional}
    return {**own, **value}


def build_one_of(classes: Sequence[type], data: Mapping[str, Any], where: str = "") -> Any:
    """As `build`, for dataclasses that have a literal `kind` each; the first one if none is named.

    Raises ConfigError for an unknown kind.
    """
    kinds = {typing.get_args(typing.get_type_hints(c)["kind"])[0]: c for c in classes}
    chosen = data.get("kind", next(iter(kinds))) if isinstance(data, Mapping) else next(iter(kinds))
    if chosen not in kinds:
        raise ConfigError(f"{where}.kind is {chosen!r}", f"one of {', '.join(kinds)}")
    return build(kinds[chosen], data, where)


def to_dict(config: Any) -> dict[str, Any]:
    """The plain data that `build` takes; tuples become lists."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config) if f.init}


def defaults(cls: type) -> dict[str, Any]:
    """The plain data of those fields of a dataclass that have a default.

    >>> from asr.features import FeatureConfig
    >>> defaults(FeatureConfig)["n_mels"]
    80
    """
    found = {}
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            found[field.name] = _plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = _plain(field.default_factory())
    return found


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], where: str = ""
) -> list[tuple[str, Any, Any]]:
    """(setting, old value, new value) for every leaf that differs between two nested mappings."""
    found: list[tuple[str, Any, Any]] = []
    for key in {**old, **new}:
        a, b = old.get(key), new.get(key)
        name = f"{where}{key}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{name}.")
        elif a != b:
            found.append((name, a, b))
    return found


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        inner = [a for a in arguments if a is not type(None)]
        if len(inner) > 1 and all(map(dataclasses.is_dataclass, inner)):
            return build_one_of(inner, value, where)
        return _convert(inner[0], value, where) if len(inner) == 1 else value
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise ConfigError(f"{where} is not a list: {value!r}")
        inside = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(inside) != len(value):
            raise ConfigError(f"{where} needs {len(inside)} values, not {len(value)}")
        return tuple(_convert(h, v, where) for h, v in zip(inside, value, strict=True))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is not a group of settings: {value!r}")
        return {str(k): _convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where} is {value!r}", f"one of {', '.join(map(repr, arguments))}")
        return value
    return _convert_scalar(hint, value, where)


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if (hint is int and isinstance(value, bool)) or not isinstance(value, hint):
        raise ConfigError(f"{where} is not of type {hint.__name__}: {value!r}")
    return value
