"""The state of everything random that isn't a pure function of the step: dropout, drop path."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def state() -> dict[str, Any]:
    """The generators' states, as plain values and tensors; of GPUs, that of this process' own."""
    kind, keys, place, has, gauss = np.random.get_state(legacy=True)
    version, words, spare = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": [str(kind), np.asarray(keys).tolist(), int(place), int(has), float(gauss)],
        "python": [version, list(words), spare],
    }


def restore(saved: dict[str, Any]) -> None:
    """Put back what `state` returned."""
    torch.set_rng_state(saved["torch"].cpu())
    if saved["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(saved["cuda"].cpu())
    kind, keys, *rest = saved["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))
    version, words, spare = saved["python"]
    random.setstate((version, tuple(words), spare))


@contextmanager
def untouched() -> Iterator[None]:
    """Let a block (a validation, the start of a loader) use randomness without a trace."""
    before = state()
    try:
        yield
    finally:
        restore(before)
