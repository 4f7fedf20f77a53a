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
_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_WITHOUT_LENGTH = (0x01, 0xD8)
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_HEAD = 1 << 16
_END = b"\xff\xd9"
_OTHER_BITS = b"\xa5\x3c" * 64
"""Begins with a 1: a decoder that runs out of data before the marker goes on with zeros."""


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


def _every_scan_has_begun(raw: bytes) -> bool:
    """Tell if the scans bring all 64 coefficients of every component, to their last bit."""
    wanted = b""
    brought: dict[int, set[int]] = {}
    for code, at in _segments(raw):
        body = raw[at + 2 : at + int.from_bytes(raw[at : at + 2], "big")]
        if code in _FRAME_HEADERS and len(body) > 6:
            wanted = body[6::3][: body[5]]
        elif code == _SCAN and body and len(body) >= 4 + 2 * body[0]:
            first, last, bits = body[1 + 2 * body[0] :][:3]
            if bits & 15 == 0:
                for component in body[1 : 1 + 2 * body[0] : 2]:
                    brought.setdefault(component, set()).update(range(first, last + 1))
    return bool(wanted) and all(len(brought.get(c, ())) == 64 for c in wanted)


def _without_end(raw: bytes, upright: bool) -> NDArray[np.uint8] | None:
    """Decode a JPEG that has no end-of-image marker but all of its data.

    All pixels are there if they don't depend on what would follow. So the file is decoded twice:
    ended at once, and with some more bits first.

    Returns:
        (H, W, 3) uint8, BGR; None if something is missing.
    """
    if not _every_scan_has_begun(raw):
        return None
    # What the rest of a download was filled up with would pass for data. One 0 may be data.
    body = raw.rstrip(b"\0\xff")
    tail = raw[len(body) :]
    if tail in (b"\0", b"\0\xff"):
        body += b"\0"
    elif tail.startswith(b"\xff\0"):
        body += b"\xff\0"
    scan = max(at for code, at in _segments(raw) if code == _SCAN)
    passed = _RESTART.findall(body, scan)
    restart = bytes([0xFF, 0xD0 + (passed[-1][1] + 1) % 8 if passed else 0xD0])
    found = _decode(body + _END, upright)
    other = _decode(body + _OTHER_BITS + restart + _OTHER_BITS + _END, upright)
    if found is None or other is None or not np.array_equal(found, other):
        return None
    return found


def _decode(raw: bytes, upright: bool) -> NDArray[np.uint8] | None:
    """Decode to (H, W, 3) uint8, BGR; None if OpenCV can't.

    Raises:
        cv2.error: for more pixels than OpenCV's limit, for one.
    """
    flags = cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    found = cv2.imdecode(np.frombuffer(raw, np.uint8), flags)
    return None if found is None else np.asarray(found, np.uint8)


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
        FrameError: if there are none, or they don't begin an image.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(size)
    except OSError as e:
        raise FrameError(
            f"{path} can't be read: {e.strerror}", kind="missing_image", fix="fetch it again"
        ) from e
    _refuse_other(raw, path)
    return raw


def _refuse_other(raw: bytes, path: Path) -> None:
    """Raise `FrameError` for bytes that don't begin a JPEG or PNG image."""
    if not raw:
        raise FrameError(f"{path} is empty", kind="empty_image", fix="fetch it again")
    if not (raw.startswith((_JPEG, _PNG)) or _JPEG.startswith(raw) or _PNG.startswith(raw)):
        raise FrameError(
            f"{path} is not a JPEG or PNG image: it begins with {raw[:8]!r}",
            kind="corrupt_image",
            fix="fetch it again",
        )


def _size(raw: bytes) -> tuple[int, int] | None:
    """Height and width of an image as far as its first bytes tell, px."""
    if raw.startswith(_PNG) and len(raw) >= 24:
        return int.from_bytes(raw[20:24], "big"), int.from_bytes(raw[16:20], "big")
    for code, at in _segments(raw):
        if code in _FRAME_HEADERS and at + 7 <= len(raw):
            return (
                int.from_bytes(raw[at + 3 : at + 5], "big"),
                int.from_bytes(raw[at + 5 : at + 7], "big"),
            )
    return None


def _refuse_huge(hw: tuple[int, ...] | None, max_side: int | None, path: Path) -> None:
    """Raise `FrameError` for an image whose size is known and too large."""
    if hw is not None and max_side is not None and max(hw) > max_side:
        raise FrameError(
            f"{path} is {hw[1]}x{hw[0]} px, want sides of at most {max_side} px",
            kind="image_too_large",
            fix="make it smaller, or raise max_image_side",
        )


def image_size(path: Path | str) -> tuple[int, int]:
    """Read the height and width of a JPEG or PNG file from its head: as stored, px.

    Raises:
        FrameError: as `read_image`, for as much as the head tells.
    """
    path = Path(path)
    raw = _head(path, _HEAD)
    if found := _size(raw):
        return found
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

    Some versions of OpenCV decode a JPEG that was cut off without a word, the rest of it grey; so
    the file's structure is read first (a few percent of the time of decoding).

    A JPEG without an end-of-image marker is accepted if no pixel depends on what is missing. That
    takes decoding it twice, and libjpeg may complain on stderr. Two zeros or more at its end, and
    0xFF, are taken for filling. Damage within a JPEG's scan is not found: the format has no
    checksum.

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
    return decode_image(_head(path, -1), path)


def decode_image(
    raw: bytes, path: Path, *, upright: bool = False, max_side: int | None = None
) -> NDArray[np.uint8]:
    """Decode the bytes of a JPEG or PNG file.

    Args:
        raw: the whole file.
        path: what to call it in errors.
        upright: turn the pixels as an EXIF orientation says.
        max_side: refuse an image with a longer side, px; before it is decoded, if its head tells.

    Returns:
        (H, W, 3) uint8, RGB, C-contiguous.

    Raises:
        FrameError: as `read_image`; of kind `image_too_large`.
    """
    _refuse_other(raw, path)
    _refuse_huge(_size(raw), max_side, path)
    png = raw[:1] == _PNG[:1]
    whole = _png_is_whole(raw, path) if png else _jpeg_is_whole(raw)
    why = ""
    try:
        bgr = _decode(raw, upright) if whole else None if png else _without_end(raw, upright)
    except cv2.error as e:
        bgr, why = None, f": {e.err}"
    if bgr is None and not whole and not why:
        raise FrameError(
            f"{path} is cut off: {len(raw)} bytes without an end of image",
            kind="truncated_image",
            fix="fetch it again",
        )
    if bgr is None:
        raise FrameError(
            f"{path} has the marks of an image, but OpenCV can't decode it{why}",
            kind="corrupt_image",
            fix="fetch it again",
        )
    _refuse_huge(bgr.shape[:2], max_side, path)  # its head may not have told
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
