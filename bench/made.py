"""Names for what a benchmark keeps in --work, so that it never measures what other code made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import robollm
from robollm.runtime.bundle import FORMAT_VERSION

ROOMS = ("export", "train")
"""Their code decides what a model file holds, given its weights."""
PACKAGES = ("onnx", "onnxruntime", "torch")
DIGITS = 12


def key(models: Iterable[Any], options: object, sources: Sequence[Path] = ()) -> str:
    """A digest of all that model files depend on.

    Args:
        models: `torch.nn.Module`s: every weight and its name.
        options: what else decides; its `repr` counts.
        sources: files of code beside those of `ROOMS`.

    Returns:
        `DIGITS` hex digits.
    """
    h = hashlib.sha256(code(tuple(sources)).encode())
    h.update(repr(options).encode())
    for model in models:
        _add_weights(h, model)
    return h.hexdigest()[:DIGITS]


@cache
def code(sources: tuple[Path, ...] = ()) -> str:
    """A digest of the code that exports, and of the packages that it calls."""
    room = Path(robollm.__file__).parent
    files = [p for name in ROOMS for p in sorted((room / name).rglob("*.py"))]
    h = hashlib.sha256(repr((FORMAT_VERSION, [metadata.version(p) for p in PACKAGES])).encode())
    for path in (*files, *sources):
        h.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return h.hexdigest()


def _add_weights(h: Any, model: Any) -> None:
    import torch

    for name, weight in sorted(model.state_dict().items()):
        h.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        h.update(weight.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
