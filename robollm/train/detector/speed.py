"""Faster layers for CPUs, with the same weights under the same names.

oneDNN's convolutions can be slow in bfloat16, above all backwards; its matrix products are not.
What is a matrix product in disguise is run as one, and 3x3 kernels are stored channels-last. How
much that brings depends on torch and the machine: measure first (bench/detector.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.wrappers import Conv2d, ConvTranspose2d
from torch import Tensor, nn

_CONVOLUTIONS = (nn.Conv2d, Conv2d)
_UNPOOLS = (nn.ConvTranspose2d, ConvTranspose2d)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution as a matrix product."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out, H, W), channels-last."""
        out = F.linear(input.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return out.permute(0, 3, 1, 2)


class Unpool(nn.ConvTranspose2d):
    """A transposed convolution whose kernels don't overlap, as a matrix product."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C, H, W) -> (B, out, h * H, w * W), channels-last."""
        del output_size  # there is only one without overlap
        (b, c, height, width), (h, w) = input.shape, self.kernel_size
        weight = self.weight.permute(2, 3, 1, 0).reshape(-1, c)
        bias = None if self.bias is None else self.bias.repeat(h * w)
        out = F.linear(input.permute(0, 2, 3, 1), weight, bias)
        out = out.view(b, height, width, h, w, self.out_channels).transpose(2, 3)
        return out.reshape(b, height * h, width * w, self.out_channels).permute(0, 3, 1, 2)


def _plain(layer: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    return layer.groups == 1 and layer.dilation == (1, 1) and layer.padding == (0, 0)


def speed_up(model: nn.Module) -> int:
    """Make the convolutions of a model fast on a CPU, in place.

    Weights keep their names, shapes and values; results are equal up to rounding.

    Returns:
        How many layers are run another way now.
    """
    changed = 0
    for layer in model.modules():
        # Exactly these: a subclass may mean something else by its forward. The object stays:
        # names, hooks and optimiser groups go on pointing to it.
        if isinstance(layer, nn.ConvTranspose2d) and type(layer) in _UNPOOLS:
            apart = layer.kernel_size == layer.stride and layer.output_padding == (0, 0)
            if apart and _plain(layer):
                layer.__class__ = Unpool
                changed += 1
        elif isinstance(layer, nn.Conv2d) and type(layer) in _CONVOLUTIONS:
            if _plain(layer) and layer.kernel_size == layer.stride == (1, 1):
                layer.__class__ = Pointwise
                changed += 1
            else:
                kernel = layer.weight.data
                layer.weight.data = kernel.contiguous(memory_format=torch.channels_last)
    return changed
