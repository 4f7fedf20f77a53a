"""Settings dataclasses as command-line options: the same names, defaults, limits and words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from robollm.core.config import Option, from_mapping, options
from robollm.core.errors import ConfigError

_BOX = re.compile(r"\d+,\d+,\d+,\d+")

C = TypeVar("C")
F = TypeVar("F", bound=Callable[..., Any])


def flag(opt: Option) -> str:
    """The option's name on the command line."""
    name = opt.name.replace("_", "-")
    return f"--{name}/--no-{name}" if isinstance(opt.default, bool) else f"--{name}"


def click_option(opt: Option) -> Callable[[F], F]:
    """One setting as a click option."""
    kind: Any
    if opt.choices:
        kind = click.Choice(list(opt.choices))
    elif isinstance(opt.default, bool):
        kind = None
    elif isinstance(opt.default, float):
        kind = click.FloatRange(opt.low, opt.high)
    elif isinstance(opt.default, int):
        kind = click.IntRange(
            None if opt.low is None else int(opt.low), None if opt.high is None else int(opt.high)
        )
    else:
        kind = str
    many = isinstance(opt.default, tuple)
    return click.option(
        flag(opt),
        opt.name,
        type=kind,
        default=opt.default,
        multiple=many,
        show_default=True,
        help=opt.doc,
    )


def with_settings(*kinds: type[Any], without: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Give a command the settings of `kinds` as options, but for the names in `without`."""

    def wrap(function: F) -> F:
        for kind in reversed(kinds):
            for opt in reversed([o for o in options(kind) if o.name not in without]):
                function = click_option(opt)(function)
        return function

    return wrap


def take(kind: type[C], values: dict[str, Any]) -> C:
    """Build one settings object from a command's keyword arguments.

    Raises:
        ConfigError: if a value is refused.
    """
    return from_mapping(kind, {o.name: values[o.name] for o in options(kind) if o.name in values})


def read_box(text: str) -> tuple[float, float, float, float]:
    """The value of a `--box X,Y,W,H` as (x1, y1, x2, y2), px.

    Raises:
        ConfigError: if it can't be understood.
    """
    plain = text.replace(" ", "")
    if not _BOX.fullmatch(plain):
        raise ConfigError(f"--box is {text!r}, want X,Y,W,H in px", fix="such as 310,120,200,180")
    x, y, w, h = map(int, plain.split(","))
    return x, y, x + w, y + h
