"""Settings as frozen dataclasses: one declaration feeds ROS, YAML, the CLI and the docs."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from robollm.core.errors import ConfigError

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Option:
    """What is known of one setting, read back from its dataclass field.

    Attributes:
        name: the field's name.
        default: the default value; its type is the setting's type. A tuple is a list of strings.
        doc: one sentence for people.
        low: the smallest allowed value, inclusive, or None.
        high: the largest allowed value, inclusive, or None.
        choices: the allowed values of a string setting; empty: any.
        live: True if it may change while the node runs.
    """

    name: str
    default: Any
    doc: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    live: bool

    @property
    def type_name(self) -> str:
        """The type as ROS users write it: bool, int, double, string or string_array."""
        names = {bool: "bool", int: "int", float: "double", str: "string", tuple: "string_array"}
        return names[type(self.default)]

    @property
    def limits(self) -> str:
        """The allowed values in words, or an empty string."""
        if self.choices:
            return " | ".join(self.choices)
        if self.low is not None:
            return f"{self.low:g} to {self.high:g}"
        return ""


def option(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    live: bool = False,
) -> Any:
    """Declare one setting as a dataclass field.

    Args:
        default: bool, int, float, str or a tuple of str.
        doc: one sentence for people.
        low: smallest allowed value, inclusive; goes with `high`.
        high: largest allowed value, inclusive.
        choices: allowed values of a string.
        live: may change while the node runs.
    """
    meta = {"doc": doc, "low": low, "high": high, "choices": choices, "live": live}
    return field(default=default, metadata=meta)


def options(kind: type[Any]) -> tuple[Option, ...]:
    """List the settings that the dataclass `kind` declares, in order."""
    return tuple(Option(f.name, f.default, **dict(f.metadata)) for f in dataclasses.fields(kind))


def problem(opt: Option, value: Any) -> str | None:
    """Say what is wrong with `value` for `opt`, or None if it is fine."""
    want = type(opt.default)
    if want is float and type(value) is int:
        value = float(value)
    if type(value) is not want:
        return f"{opt.name}: wants {opt.type_name}, got {value!r}"
    if want is tuple and not all(isinstance(v, str) for v in value):
        return f"{opt.name}: wants a list of strings, got {value!r}"
    if opt.choices and value not in opt.choices:
        return f"{opt.name}: {value!r} is not one of {', '.join(opt.choices)}"
    if opt.low is None or opt.high is None or opt.low <= value <= opt.high:
        return None
    return f"{opt.name}: {value} is outside [{opt.low:g}, {opt.high:g}]"  # NaN too


def check(config: Any) -> None:
    """Raise `ConfigError` that lists every bad field at once, not just the first."""
    kind = type(config)
    bad = [p for o in options(kind) if (p := problem(o, getattr(config, o.name)))]
    if bad:
        raise ConfigError(
            f"{kind.__name__}: " + "; ".join(bad),
            fix="correct the values in the parameter file or on the command line",
        )


def unknown_key(key: str, known: list[str], *, where: str) -> ConfigError:
    """Build the error for a misspelt key, with the nearest known one as the fix."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    fix = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return ConfigError(f"{where} has no setting {key!r}", fix=fix)


def from_mapping(kind: type[C], values: Mapping[str, Any]) -> C:
    """Build a config from YAML or ROS values.

    Args:
        kind: the settings dataclass.
        values: name -> value; lists become tuples.

    Raises:
        ConfigError: on an unknown key (with a suggestion) or on any bad value.
    """
    known = [o.name for o in options(kind)]
    for key in values:
        if key not in known:
            raise unknown_key(key, known, where=kind.__name__)
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return kind(**plain)
