"""Pickles of plain values, read without running what may be in them."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path
from typing import Any

from robollm.core.errors import ConfigError

MOST_BYTES = 1 << 28
"""Of a file: 235,000 ids, as many as ARMBench has picks, are a few MB."""
_PLACES = ("PUT", "BINPUT", "LONG_BINPUT")
_DAMAGE = (OSError, EOFError, ValueError, TypeError, LookupError, AttributeError)
_CONTAINERS: dict[str, type] = {t.__name__: t for t in (set, frozenset, list, dict, tuple)}


class _Plain(pickle.Unpickler):
    """Builds containers, strings and numbers; a pickle that wants to call more is refused."""

    def find_class(self, module: str, name: str) -> type:
        # Protocol 2 writes sets as calls, and Python 2's name of the module.
        if module in ("builtins", "__builtin__") and name in _CONTAINERS:
            return _CONTAINERS[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise ConfigError(
            f"the file wants to load {module}.{name}; only containers of ids belong there",
            fix="fetch the file again, from a source that you trust",
        )


def read_plain(path: Path) -> Any:
    """Read a pickle of containers, strings and numbers.

    Raises:
        ConfigError: if it is missing, too large, no pickle, asks for more memory than a file of
            its size needs, or holds more than plain values.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ConfigError(
                f"{path} has {size} bytes, want at most {MOST_BYTES}", fix="fetch it again"
            )
        raw = path.read_bytes()
        _weigh(raw)
        return _Plain(io.BytesIO(raw)).load()
    except (*_DAMAGE, pickle.UnpicklingError, MemoryError) as e:
        why = str(e) or "it asks for more memory than there is"
        raise ConfigError(f"{path} is not readable: {why}", fix="fetch it again") from e


def _weigh(raw: bytes) -> None:
    """Go through a pickle without building anything: lengths beyond its end are errors here.

    Raises:
        ValueError: if it is none, or numbers its values higher than there can be: a place in the
            unpickler's memo costs 8 bytes for itself and for all below it.
    """
    for code, place, at in pickletools.genops(raw):
        if code.name in _PLACES and not 0 <= int(place or 0) <= len(raw):
            raise ValueError(f"value {place} at byte {at}, of {len(raw)} bytes")
