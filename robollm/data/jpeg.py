"""JPEG to pixels and back, in RGB order. OpenCV's own order is BGR; nobody else has to know."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import FrameError


def encode(rgb: NDArray[np.uint8], quality: int = 90) -> bytes:
    """Compress one image.

    Args:
        rgb: (H, W, 3) uint8, RGB.
        quality: 1 (small) to 100 (good).

    Raises:
        FrameError: if `rgb` is not such an array, or OpenCV can't compress it.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise FrameError(f"image is {rgb.shape} {rgb.dtype}, want a non-empty (H, W, 3) uint8")
    bgr = np.ascontiguousarray(rgb[:, :, ::-1])
    done, packed = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise FrameError(f"OpenCV did not compress an image of {rgb.shape[1]}x{rgb.shape[0]} px")
    return packed.tobytes()


def decode(packed: bytes | memoryview | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Decompress one JPEG (or PNG) image.

    Args:
        packed: the file's bytes.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        FrameError: if the bytes are not an image that OpenCV knows.
    """
    raw = np.frombuffer(packed, np.uint8)
    bgr = cv2.imdecode(raw, cv2.IMREAD_COLOR) if raw.size else None
    if bgr is None:
        raise FrameError(
            f"{raw.size} bytes are not a JPEG or PNG image",
            fix="check the message's format field and the camera driver",
        )
    return np.asarray(bgr[:, :, ::-1], np.uint8)
