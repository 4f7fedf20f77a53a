"""CRC-32 of rows: one at a time when they are written, all at once when a gallery is opened.

A row's sum covers its numbers and, as one number more, the CRC-32 of its texts. So the search
proves the numbers that it loads without reading any text; `check` reads the texts, too.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def crc_of_texts(*texts: str) -> int:
    """CRC-32 of some texts, told apart from the same letters cut in other places."""
    return crc_of_values(texts)


def crc_of_values(values: Sequence[Any]) -> int:
    """CRC-32 of numbers, texts and None, exactly as they are."""
    # `default`: bytes, which a damaged row may have, have a sum as well, and it is another one.
    text = json.dumps(values, ensure_ascii=False, default=repr)
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def crc_of_numbers(*numbers: int) -> int:
    """CRC-32 of integers, as little-endian int64."""
    return zlib.crc32(struct.pack(f"<{len(numbers)}q", *numbers))


def crc_of_columns(columns: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """`crc_of_numbers` of every row: (N,) of as many columns (N,) as there are numbers."""
    table = _table()
    crc: NDArray[np.uint32] | None = None
    for column in columns:
        pairs = np.ascontiguousarray(column, "<i8").view("<u2").reshape(-1, 4)
        if crc is None:
            crc = np.full(len(pairs), 0xFFFFFFFF, np.uint32)
        for i in range(4):
            crc = table[(crc ^ pairs[:, i]) & 0xFFFF] ^ (crc >> np.uint32(16))
    if crc is None:
        raise ValueError("no columns")
    return (crc ^ np.uint32(0xFFFFFFFF)).astype(np.int64)


@cache
def _table() -> NDArray[np.uint32]:
    """CRC-32 (IEEE 802.3, reflected) by two bytes at a time."""
    table: NDArray[np.uint32] = np.arange(65536, dtype=np.uint32)
    for _ in range(16):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0xEDB88320), table >> 1)
    return table
