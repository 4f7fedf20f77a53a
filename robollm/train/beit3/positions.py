"""The learned position table, for every image size."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def grid_of(table: Tensor) -> int:
    """Side of the square that the patch rows of a (1 + G*G, C) table make, patches."""
    return math.isqrt(len(table) - 1)


def resize_positions(table: Tensor, height: int, width: int) -> Tensor:
    """Resize the patch rows of a position table; the CLS row is kept.

    Bicubic, `align_corners=False`, as the authors do. That is linear and separable: each axis'
    weights are the resized rows of a unit matrix, and two matrix products do the rest. Unlike
    the backward pass of CUDA's bicubic kernel, those give the same bits in every run.

    Args:
        table: (1 + G*G, C) float, row 0 is CLS, then patches row-major.
        height: rows wanted, patches.
        width: columns wanted, patches.

    Returns:
        (1 + height * width, C), of the table's dtype; the table itself where nothing changes.
    """
    side = grid_of(table)
    if (height, width) == (side, side):
        return table
    # bf16 would move the positions of neighbours into each other
    with torch.autocast(table.device.type, enabled=False):
        tall = _weights(height, table, side) @ table[1:].reshape(side, -1)
        patches = _weights(width, table, side) @ tall.reshape(height, side, -1)
    return torch.cat([table[:1], patches.flatten(0, 1)])


def _weights(size: int, table: Tensor, side: int) -> Tensor:
    """(size, side), what each old row gives to each new one."""
    unit = torch.eye(side, dtype=table.dtype, device=table.device)[None, None]
    resized = F.interpolate(unit, size=(size, side), mode="bicubic", align_corners=False)
    return resized[0, 0]
