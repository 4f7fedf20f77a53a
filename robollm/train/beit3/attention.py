"""Attention over the whole image, or in windows that also see the CLS token."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-5
"""Of every LayerNorm of BEiT-3; PyTorch's own default, written down because it must be this."""

_SHORT = 600  # tokens


class Attention(nn.Module):
    """Multi-head self-attention with a LayerNorm before the last projection ("subln").

    `q`, `k`, `v`, `inner_norm` and `proj` are one branch (expert); what mixes tokens has no
    weights. Tokens of a second branch would be projected by their own five modules and
    concatenated before the mixing.

    Args:
        dim: channels of a token.
        heads: attention heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.inner_norm = nn.LayerNorm(dim, eps=EPS)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, grid: tuple[int, int], window: int) -> Tensor:
        """Mix tokens.

        Args:
            x: (B, 1 + h*w, C), CLS first, then patches row-major.
            grid: h and w, patches.
            window: side of the windows, patches; 0 is the whole image.

        Returns:
            (B, 1 + h*w, C).
        """
        q, k, v = (
            torch.unflatten(part(x), -1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        y = attend_in_windows(q, k, v, grid, window) if window else attend(q, k, v)
        out: Tensor = self.proj(self.inner_norm(y.transpose(1, 2).flatten(-2)))
        return out


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention, (B, heads, n, d) each.

    PyTorch's fused attention is slow on a CPU where gradients are wanted and sequences are short:
    in bfloat16, forward and backward, one core of an AMD EPYC (zen 4), 4 heads of 64 channels, it
    takes 72 ms for 80 pictures of 50 tokens, the plain formula 15 ms; for 4 of 321 tokens 32 and
    23 ms. The plain formula keeps a matrix of n x n.
    """
    if q.device.type == "cpu" and q.requires_grad and q.shape[2] <= _SHORT:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        exact = torch.promote_types(scores.dtype, torch.float32)
        return torch.softmax(scores, dim=-1, dtype=exact).to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v)


def attend_in_windows(
    q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], window: int
) -> Tensor:
    """Attention in windows that don't overlap, after ViTDet (arXiv:2203.16527, section 3).

    Unlike there, the CLS token stays: it attends to all tokens, and the patches of every window
    see it beside their own window. It costs one key a window, and one window that covers the
    image is attention over the whole image, exactly. An image that doesn't divide into windows
    is padded at the right and the bottom; unlike in ViTDet, nobody attends to the padding.

    Args:
        q: (B, heads, 1 + h*w, d), CLS first, then patches row-major.
        k: the same.
        v: the same.
        grid: h and w, patches.
        window: side of the windows, patches.

    Returns:
        (B, heads, 1 + h*w, d).
    """
    sides = min(window, grid[0]), min(window, grid[1])
    inside = _cut(q.new_ones(1, 1, grid[0] * grid[1], 1, dtype=torch.bool), grid, sides)
    windows = len(inside)
    keys, values = (
        torch.cat(
            [x[:, :, :1].repeat_interleave(windows, 0), _cut(x[:, :, 1:], grid, sides)], dim=2
        )
        for x in (k, v)
    )
    mask = None
    if not (grid[0] % sides[0] == 0 == grid[1] % sides[1]):
        mask = F.pad(inside.transpose(2, 3), (1, 0), value=True).repeat(len(q), 1, 1, 1)
    patches = F.scaled_dot_product_attention(
        _cut(q[:, :, 1:], grid, sides), keys, values, attn_mask=mask
    )
    cls = F.scaled_dot_product_attention(q[:, :, :1], k, v)
    return torch.cat([cls, _join(patches, grid, sides, len(q))], dim=2)


def _cut(x: Tensor, grid: tuple[int, int], sides: tuple[int, int]) -> Tensor:
    """(B, n, h*w, d) -> (B * windows, n, tokens of a window, d), padded with zeros."""
    down, right = -grid[0] % sides[0], -grid[1] % sides[1]
    x = F.pad(torch.unflatten(x, 2, grid), (0, 0, 0, right, 0, down))
    x = torch.unflatten(torch.unflatten(x, 3, (-1, sides[1])), 2, (-1, sides[0]))
    # (B, n, rows of windows, y, columns of windows, x, d)
    return x.permute(0, 2, 4, 1, 3, 5, 6).flatten(4, 5).flatten(0, 2)


def _join(x: Tensor, grid: tuple[int, int], sides: tuple[int, int], batch: int) -> Tensor:
    """The inverse of `_cut`; the padding is dropped."""
    rows, columns = (-(-g // s) for g, s in zip(grid, sides, strict=True))
    x = torch.unflatten(torch.unflatten(x, 2, sides), 0, (batch, rows, columns))
    # (B, rows of windows, columns of windows, n, y, x, d)
    x = x.permute(0, 3, 1, 4, 2, 5, 6).flatten(4, 5).flatten(2, 3)
    return x[:, :, : grid[0], : grid[1]].flatten(2, 3)
