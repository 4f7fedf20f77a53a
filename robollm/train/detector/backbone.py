"""The shared encoder as MMDetection sees it: a backbone with one feature map."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

import robollm.train.beit3.encoder  # noqa: F401  registers Beit3Encoder


@MODELS.register_module()
class BEiT3Backbone(BaseModule):  # type: ignore[misc]
    """Holds a BEiT-3 encoder, or shares one.

    Args:
        encoder: config of a `Beit3Encoder`, or a built encoder, shared with other tasks.
        init_cfg: MMEngine's, unused by the encoder, which has its own `init_weights`.
    """

    def __init__(
        self,
        encoder: dict[str, Any] | nn.Module,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        if not isinstance(encoder, nn.Module):
            encoder = MODELS.build(encoder)
        self.encoder: Any = encoder

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """(B, 3, H, W) normalised -> one map, (B, C, H / patch, W / patch); CLS is dropped."""
        return (self.encoder(image).map,)
