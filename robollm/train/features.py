"""What the shared encoder gives, and what every task's head looks like to the engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn


class Features(NamedTuple):
    """The encoder's output for B images.

    Attributes:
        map: (B, C, H/P, W/P), patch tokens after the last LayerNorm, row-major.
        cls: (B, C), the CLS token after the last LayerNorm.
    """

    map: Tensor
    cls: Tensor


Encode = Callable[[Tensor], Features]
"""(B, 3, H, W) float, RGB, normalised, sides multiples of the patch -> Features."""

Losses = dict[str, Tensor]
"""Scalars. Names that contain `loss` are summed and trained on; the others are only logged."""


class TaskHead(nn.Module, ABC):
    """What a task adds to the shared encoder. It never owns the encoder.

    The engine moves `inputs` to the device and turns uint8 pixels into normalised floats,
    (x - 127.5) / 127.5, before it calls a head; an image tensor keeps its leading axes.
    """

    task: ClassVar[str]

    @abstractmethod
    def loss(self, encode: Encode, inputs: Any, data_samples: Any) -> Losses:
        """Losses of one batch.

        Args:
            encode: the shared encoder, adapters of this task switched on.
            inputs: what the task's `collate` made of the samples' `inputs`.
            data_samples: the same for `data_samples`.
        """

    @abstractmethod
    def predict(self, encode: Encode, inputs: Any, data_samples: Any) -> list[dict[str, Any]]:
        """One dict per sample, on the CPU, with all that the task's metric needs."""
