"""Unpacks chunks of mcap files, of damaged ones too, and never more than a chunk says it has."""

from __future__ import annotations

import importlib

MOST = 1 << 30
"""Bytes of one chunk, unpacked; recorders make a few megabytes."""


def unpack(packed: bytes, compression: str, whole: int) -> bytes:
    """The records of a chunk, as far as they are there.

    Args:
        packed: its bytes, maybe cut off.
        compression: "", "zstd" or "lz4".
        whole: bytes that it says it has.

    Returns:
        At most one byte more than `whole`: so who compares sees that it is wrong.

    Raises:
        ValueError: if the compression is not known, or `whole` is over `MOST`.
        Exception: whatever the compression's library raises on damaged bytes.
    """
    if not compression:
        return packed
    if whole > MOST:
        raise ValueError(f"it says that it has {whole} bytes, want at most {MOST}")
    if compression == "zstd":
        return _unpack_zstd(packed, whole + 1)
    if compression == "lz4":
        one = importlib.import_module("lz4.frame").LZ4FrameDecompressor()
        return bytes(one.decompress(packed, max_length=whole + 1))
    raise ValueError(f"compression {compression!r} is not known")


def _unpack_zstd(packed: bytes, most: int) -> bytes:
    """By the library that `rosbags` came with."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return bytes(importlib.import_module(name).ZstdDecompressor().decompress(packed, most))
        except ImportError:
            continue
    reader = importlib.import_module("zstandard").ZstdDecompressor().stream_reader(packed)
    return bytes(reader.read(most))
