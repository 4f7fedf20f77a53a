"""Image files of datasets: RGB pixels, or an error that names the file and what is wrong."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import FrameError

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"
# In a scan 0xFF is a byte of data (00 follows) or a restart (D0 to D7); FF only fills.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_END_OF_IMAGE = 0xD9
_WITHOUT_LENGTH = (0x01, 0xD8)
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HEAD = 1 << 16


def _segments(raw: bytes) -> Iterator[tuple[int, int]]:
    """Yield every JPEG marker after the first, and where its segment begins."""
    at = 2
    while found := _MARKER.search(raw, at):
        code, at = raw[found.end() - 1], found.end()
        yield code, at
        if code not in _WITHOUT_LENGTH:
            at += max(2, int.from_bytes(raw[at : at + 2], "big"))


def _jpeg_is_whole(raw: bytes) -> bool:
    """Tell if the end-of-image marker is there; the one of a thumbnail within doesn't count."""
    return any(code == _END_OF_IMAGE for code, _ in _segments(raw))


def _png_is_whole(raw: bytes, path: Path) -> bool:
    """Tell if the last chunk is there.

    Raises:
        FrameError: if a checksum is wrong.
    """
    at = len(_PNG)
    while at + 12 <= len(raw):
        end = at + 12 + int.from_bytes(raw[at : at + 4], "big")
        if end > len(raw):
            return False
        if zlib.crc32(raw[at + 4 : end - 4]) != int.from_bytes(raw[end - 4 : end], "big"):
            raise FrameError(
                f"{path} is a damaged PNG: wrong checksum at byte {at}",
                kind="corrupt_image",
                fix="fetch it again",
            )
        if raw[at + 4 : at + 8] == b"IEND":
            return True
        at = end
    return False


def _head(path: Path, size: int) -> bytes:
    """Read the first bytes of a file, -1: all.

    Raises:
        FrameError: if there are none.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(size)
    except OSError as e:
        raise FrameError(
            f"{path} can't be read: {e.strerror}", kind="missing_image", fix="fetch it again"
        ) from e
    if not raw:
        raise FrameError(f"{path} is empty", kind="empty_image", fix="fetch it again")
    if not (raw.startswith((_JPEG, _PNG)) or _JPEG.startswith(raw) or _PNG.startswith(raw)):
        raise FrameError(
            f"{path} is not a JPEG or PNG image: it begins with {raw[:8]!r}",
            kind="corrupt_image",
            fix="fetch it again",
        )
    return raw


def image_size(path: Path | str) -> tuple[int, int]:
    """Read the height and width of a JPEG or PNG file from its head: as stored, px.

    Raises:
        FrameError: as `read_image`, for as much as the head tells.
    """
    path = Path(path)
    raw = _head(path, _HEAD)
    if raw.startswith(_PNG) and len(raw) >= 24:
        return int.from_bytes(raw[20:24], "big"), int.from_bytes(raw[16:20], "big")
    for code, at in _segments(raw):
        if code in _FRAME_HEADERS and at + 7 <= len(raw):
            return (
                int.from_bytes(raw[at + 3 : at + 5], "big"),
                int.from_bytes(raw[at + 5 : at + 7], "big"),
            )
    if len(raw) == _HEAD:
        height, width, _ = read_image(path).shape  # a long preface, of thumbnails for example
        return height, width
    raise FrameError(
        f"{path} is cut off: {len(raw)} bytes without a size",
        kind="truncated_image",
        fix="fetch it again",
    )


def read_image(path: Path | str) -> NDArray[np.uint8]:
    """Read a JPEG or PNG file.

    OpenCV decodes a JPEG that was cut off without a word, the rest of it grey; so the file's
    structure is read first (a few percent of the time of decoding). Damage within a JPEG's scan is
    not found: the format has no checksum.

    Args:
        path: the file.

    Returns:
        (H, W, 3) uint8, RGB, C-contiguous, pixels as stored: an EXIF orientation is not applied,
        because annotations are in stored pixels.

    Raises:
        FrameError: of kind `missing_image` (no file, or not readable), `empty_image` (no bytes),
            `truncated_image` (cut off), `corrupt_image` (something else, or damaged).
    """
    path = Path(path)
    raw = _head(path, -1)
    png = raw[:1] == _PNG[:1]
    if not (_png_is_whole(raw, path) if png else _jpeg_is_whole(raw)):
        raise FrameError(
            f"{path} is cut off: {len(raw)} bytes without an end of image",
            kind="truncated_image",
            fix="fetch it again",
        )
    try:
        bgr = cv2.imdecode(
            np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error as e:  # more pixels than OpenCV's limit, for one
        bgr, why = None, f": {e.err}"
    else:
        why = ""
    if bgr is None:
        raise FrameError(
            f"{path} has the marks of an image, but OpenCV can't decode it{why}",
            kind="corrupt_image",
            fix="fetch it again",
        )
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
