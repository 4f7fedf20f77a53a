"""Faster layers for CPUs, with the same weights under the same names.

oneDNN's convolutions are slow in bfloat16, above all backwards; its matrix products are not. What
is a matrix product in disguise is run as one, and 3x3 kernels are stored channels-last.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.wrappers import Conv2d, ConvTranspose2d
from torch import Tensor, nn


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
        out = F.linear(input.permute(0, 2, 3, 1), weight)
        out = out.view(b, height, width, h, w, self.out_channels)
        if self.bias is not None:
            out = out + self.bias
        out = out.permute(0, 5, 1, 3, 2, 4)
        return out.reshape(b, self.out_channels, height * h, width * w).contiguous(
            memory_format=torch.channels_last
        )


def _plain(layer: nn.Module) -> bool:
    return (layer.groups, layer.dilation, layer.padding) == (1, (1, 1), (0, 0))


def speed_up(model: nn.Module) -> int:
    """Make the convolutions of a model fast on a CPU, in place.

    Weights keep their names, shapes and values; results are equal up to rounding.

    Returns:
        How many layers are run another way now.
    """
    changed = 0
    for layer in model.modules():
        # Exactly these: a subclass may mean something else by its forward.
        if type(layer) in (nn.ConvTranspose2d, ConvTranspose2d):
            if (
                _plain(layer)
                and layer.kernel_size == layer.stride
                and layer.output_padding == (0, 0)
            ):
                # The object stays: names, hooks and optimiser groups go on pointing to it.
                layer.__class__ = Unpool
                changed += 1
        elif type(layer) in (nn.Conv2d, Conv2d):
            if _plain(layer) and layer.kernel_size == layer.stride == (1, 1):
                layer.__class__ = Pointwise
                changed += 1
            else:
                kernel = layer.weight.data
                layer.weight.data = kernel.contiguous(memory_format=torch.channels_last)
    return changed
