"""Keep large buffers, so that the next image finds warm pages; but not what loading took."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc malloc.h
_LARGEST = 32 << 20  # glibc's limit for the second; a 4K rgb8 image has 25 MB
_KEPT = 256 << 20


def keep_large_buffers() -> bool:
    """Tell glibc to reuse buffers up to 32 MB instead of returning each to the kernel.

    By default every buffer above 128 kB is new memory, and an image is copied into half a dozen of
    them on its way through DDS: 6 MB of first touches cost 7 ms. docs/architecture.md, "What ROS
    costs", has what it brought; bench/ros_overhead.py measures with it.

    Returns:
        False where the C library is not glibc: slower, not wrong.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEPT))


def give_back_free_memory() -> None:
    """Return to the kernel what is free, whatever `keep_large_buffers` said. Nothing but glibc."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return
    trim(0)
