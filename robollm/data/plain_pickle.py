"""Pickles of plain values, read without running what may be in them."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

from robollm.core.errors import ConfigError

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
        ConfigError: if it is missing, no pickle, or holds more than plain values.
    """
    try:
        return _Plain(io.BytesIO(path.read_bytes())).load()
    except (*_DAMAGE, pickle.UnpicklingError) as e:
        raise ConfigError(f"{path} is not readable: {e}", fix="fetch it again") from e
