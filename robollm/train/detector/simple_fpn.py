"""ViTDet's simple feature pyramid: every scale from the encoder's last map alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from robollm.core.errors import ConfigError

HALVES = ("max_pool", "conv")


@MODELS.register_module()
class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W), at each place.

    Its output is channels-last in memory, whatever comes in: that is what convolutions like.
    """

    _abbr_ = "ln"

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _resampled(channels: int, factor: float, halve: str) -> tuple[nn.Module, int]:
    """What brings the map to `factor` times its size, and how many channels it has then."""
    if factor == 1:
        return nn.Identity(), channels
    if factor == 0.5:
        if halve == "conv":
            return nn.Conv2d(channels, channels, 3, stride=2, padding=1), channels
        return nn.MaxPool2d(2), channels
    layers: list[nn.Module] = []
    while factor > 1:
        if layers:
            layers += [LayerNorm2d(channels, eps=1e-6), nn.GELU()]
        layers.append(nn.ConvTranspose2d(channels, channels // 2, 2, stride=2))
        channels, factor = channels // 2, factor / 2
    return nn.Sequential(*layers), channels


@MODELS.register_module()
class SimpleFPN(BaseModule):  # type: ignore[misc]
    """Maps of several strides from one map.

    Args:
        in_channels: of the encoder's map.
        out_channels: of every level.
        patch: stride of the encoder's map, px.
        strides: of the levels, px, each twice the one before; finer than `patch`: transposed
            convolutions; the one after it: see `halve`; coarser still: every second place of
            the level before.
        halve: how to make the level of stride 2 x patch: "max_pool" (ViTDet) or "conv", a
            convolution of stride 2 (thesis, section 8.3.3).
        init_cfg: MMEngine's.

    Raises:
        ConfigError: for strides that don't double, or can't be made from this patch.

    Source: arXiv:2203.16527, section 3: 1x1 and 3x3 convolution without bias, each followed by a
        LayerNorm; the last level by pooling.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        patch: int = 16,
        strides: Sequence[int] = (4, 8, 16, 32, 64),
        halve: str = "max_pool",
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        steps = [b / a for a, b in itertools.pairwise(strides)]
        fits = bool(strides) and strides[0] <= 2 * patch and math.log2(strides[0] / patch) % 1 == 0
        if not fits or any(s != 2 for s in steps) or halve not in HALVES:
            raise ConfigError(
                f"strides {tuple(strides)}, patch {patch}, halve {halve!r}; want strides that "
                f"double, from a power of 2 times the patch, and halve one of {', '.join(HALVES)}",
                fix="strides=(4, 8, 16, 32, 64) belong to patch 16",
            )
        self.strides = tuple(strides)
        own = [s for s in strides if s <= 2 * patch]
        self.scales = nn.ModuleList()
        self.levels = nn.ModuleList()
        for stride in own:
            scale, channels = _resampled(in_channels, patch / stride, halve)
            self.scales.append(scale)
            self.levels.append(
                nn.Sequential(
                    nn.Conv2d(channels, out_channels, 1, bias=False),
                    LayerNorm2d(out_channels, eps=1e-6),
                    nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                    LayerNorm2d(out_channels, eps=1e-6),
                )
            )

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Build the levels.

        Args:
            maps: the encoder's map, (B, C, h, w), alone in a tuple.

        Returns:
            One (B, out_channels, h', w') per stride: float32, whatever autocast does, because
            boxes of 1000 px don't fit into bfloat16, and contiguous, because mmcv's compiled
            RoIAlign reads raw memory.
        """
        (x,) = maps
        out = [
            level(scale(x)).float().contiguous()
            for scale, level in zip(self.scales, self.levels, strict=True)
        ]
        while len(out) < len(self.strides):
            out.append(F.max_pool2d(out[-1], kernel_size=1, stride=2))
        return tuple(out)
