"""Checks of settings that augmentations share."""

from __future__ import annotations

from typing import Any

from robollm.core.errors import ConfigError


def share(name: str, value: float) -> float:
    """A chance or share, from 0 to 1.

    Raises:
        ConfigError: if it is none.
    """
    good = isinstance(value, int | float) and 0 <= value <= 1
    if not good:
        raise ConfigError(f"{name} is {value!r}, want 0 to 1", fix=f"set {name} as a share")
    return float(value)


def span(name: str, value: Any, low: float, high: float) -> tuple[float, float]:
    """Two numbers, the first not above the second, within [low, high].

    Raises:
        ConfigError: if they aren't.
    """
    try:
        first, last = (float(v) for v in value)
    except (TypeError, ValueError) as e:
        raise ConfigError(f"{name} is {value!r}, want two numbers", fix="give (low, high)") from e
    if not low <= first <= last <= high:
        raise ConfigError(
            f"{name} is {value!r}, want low <= high within [{low:g}, {high:g}]",
            fix="give (low, high)",
        )
    return first, last
