"""Files that are whole or not there, and JSON that says what was wrong with it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from robollm.core.errors import ConfigError

VIEWS = ("PickRGB", "ToteWallRGB", "OnArmLowRGB", "FarTrayRGB")
"""The pictures of a pick; PickRGB is from before it. All but the first may be missing."""

_CARD, _SIMULATED = "card.json", "robollm-dataset"


def is_simulated(data: Path) -> bool:
    """Whether the folder that holds ARMBench's folders is one of `robollm sim dataset`."""
    try:
        card = json.loads((data / _CARD).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(card, dict) and card.get("format") == _SIMULATED


def part_of(path: Path) -> Path:
    """Where a file is written before it gets its name; one per process."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file that appears complete, in a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any, *, indent: int | None = None) -> None:
    """Write a value as JSON, complete or not at all."""
    write_bytes(path, (json.dumps(value, indent=indent) + "\n").encode())


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ConfigError: if the file is missing or holds something else.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as e:
        raise ConfigError(f"{path} is not readable JSON: {e}", fix="write it again") from e
    if not isinstance(value, dict):
        raise ConfigError(
            f"{path} holds a {type(value).__name__}, want an object", fix="write it again"
        )
    return value


def sweep(root: Path) -> None:
    """Remove what processes that were killed left half-written under a folder."""
    for path in root.rglob(".*.tmp*"):
        path.unlink(missing_ok=True)
