"""A transformer block of BEiT-3, and the patch embedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robollm.train.beit3.attention import EPS, Attention
from robollm.train.beit3.settings import EncoderSettings


class PatchEmbed(nn.Conv2d):
    """One token per patch: a convolution whose stride is its size.

    Computed as one matrix product: on a CPU, the backward pass of such a convolution in bf16
    is far slower than that of a product.

    Args:
        dim: channels of a token.
        patch: side of a patch, px.
    """

    def __init__(self, dim: int, patch: int) -> None:
        super().__init__(3, dim, kernel_size=patch, stride=patch)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, H/P * W/P, C), row-major."""
        p = self.kernel_size[0]
        x = torch.unflatten(torch.unflatten(image, 3, (-1, p)), 2, (-1, p))
        x = x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        return F.linear(x, self.weight.flatten(1), self.bias)


class Mlp(nn.Module):
    """The feed-forward part, with a LayerNorm between GELU and the second matrix ("subln").

    Args:
        dim: channels of a token.
        hidden: channels inside.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.norm = nn.LayerNorm(hidden, eps=EPS)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        out: Tensor = self.fc2(self.norm(F.gelu(self.fc1(x))))
        return out


class Block(nn.Module):
    """A pre-LN block. Its adapters, if it has any, work beside and on top of the MLP.

    Args:
        settings: of the encoder.
        index: which block, from 0.

    Attributes:
        adapters: by task; each maps (x, LN(x), MLP(LN(x))) to what is added to x instead of
            MLP(LN(x)). See `robollm.train.adapters`.
    """

    def __init__(self, settings: EncoderSettings, index: int) -> None:
        super().__init__()
        self.window = 0 if index in settings.global_blocks else settings.window
        self.drop_path = settings.drop_path * index / max(1, settings.depth - 1)
        self.norm1 = nn.LayerNorm(settings.dim, eps=EPS)
        self.attn = Attention(settings.dim, settings.heads)
        self.norm2 = nn.LayerNorm(settings.dim, eps=EPS)
        self.mlp = Mlp(settings.dim, settings.hidden)
        self.adapters = nn.ModuleDict()

    def forward(self, x: Tensor, grid: tuple[int, int], task: str | None = None) -> Tensor:
        """One step deeper.

        Args:
            x: (B, 1 + h*w, C), CLS first, then patches row-major.
            grid: h and w, patches.
            task: whose adapter is on. An argument, not state: gradient checkpointing runs this
                a second time, when another task may be on.

        Returns:
            The same shape.
        """
        x = x + self._drop(self.attn(self.norm1(x), grid, self.window))
        normed = self.norm2(x)
        y = self.mlp(normed)
        if task is not None:
            y = self.adapters[task](x, normed, y)
        return x + self._drop(y)

    def _drop(self, x: Tensor) -> Tensor:
        """Stochastic depth: in training, leave out this branch for some of the samples."""
        if not self.training or not self.drop_path:
            return x
        keep = 1 - self.drop_path
        return x * x.new_empty(len(x), 1, 1).bernoulli_(keep).div_(keep)
