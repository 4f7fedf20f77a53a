"""A part of many samples, the same every time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def spread(items: Sequence[T], limit: int) -> list[T]:
    """The first, the last, and evenly spread ones between.

    Args:
        items: of all samples.
        limit: how many, at most; 0: all.
    """
    if not limit or len(items) <= limit:
        return list(items)
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, limit).round()]
