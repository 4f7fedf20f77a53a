"""What the contrastive losses share: similarities, their transforms, sums of exponentials."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from robollm.core.errors import ConfigError

ODD_SLOPE = 5.0
SHIFTED_SLOPE = 10.0
SHIFTED_CENTRE = 0.5


def full_precision(values: Tensor) -> Tensor:
    """float16 and bfloat16 become float32; float32 and float64 stay."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def dot_products(left: Tensor, right: Tensor) -> Tensor:
    """All dot products, at least in float32, also inside an autocast region.

    Args:
        left: (n, d) float.
        right: (m, d) float.

    Returns:
        (n, m).
    """
    with torch.autocast(left.device.type, enabled=False):
        return full_precision(left) @ full_precision(right).T


def _none(cosines: Tensor) -> Tensor:
    return cosines


def _sine(cosines: Tensor) -> Tensor:
    return torch.sin(math.pi / 2 * cosines)


def _sigmoid_odd(cosines: Tensor) -> Tensor:
    # 2 sigmoid(k s) - 1 = tanh(k s / 2)
    return torch.tanh(ODD_SLOPE / 2 * cosines) / math.tanh(ODD_SLOPE / 2)


def _sigmoid_shifted(cosines: Tensor) -> Tensor:
    return torch.sigmoid(SHIFTED_SLOPE * (cosines - SHIFTED_CENTRE))


TRANSFORMS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "none": _none,
        "sine": _sine,
        "sigmoid": _sigmoid_odd,
        "sigmoid_shifted": _sigmoid_shifted,
    }
)
"""Rising functions of the cosine in [-1, 1] that pull its large and its small values apart.

The idea is of "Image-Text Connection" (IEEE Access 11, 2023): sine and two versions of sigmoid. We
have only its abstract; these definitions are ours:

- sine: sin(pi s / 2);
- sigmoid: (2 sigma(5 s) - 1) / (2 sigma(5) - 1), odd, 1 stays 1;
- sigmoid_shifted: sigma(10 (s - 1/2)), which pushes all that is below 1/2 towards 0.
"""


def masked_logsumexp(values: Tensor, mask: Tensor, empty: float = -math.inf) -> Tensor:
    """The logarithm of each row's sum of exponentials over the places that the mask names.

    Args:
        values: (n, m) float.
        mask: (n, m) bool.
        empty: the result for a row without a place; its gradient is zero.

    Returns:
        (n,).
    """
    nothing = ~mask.any(dim=1)
    # An empty row of -inf would have a gradient of NaN; zeros in its place have one that is
    # thrown away below.
    kept = values.masked_fill(~mask, -math.inf).masked_fill(nothing[:, None], 0.0)
    return kept.logsumexp(dim=1).masked_fill(nothing, empty)


def positive_pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Who is whose positive and negative in a batch.

    Args:
        labels: (n,) int.

    Returns:
        Positives P(i): the same label, without i itself; negatives N(i): other labels. Both (n, n)
        bool.
    """
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return same & ~itself, ~same


def zero_of(embeddings: Tensor) -> Tensor:
    """A scalar zero that depends on the embeddings, with a gradient of zeros."""
    return (full_precision(embeddings) * 0).sum()


def check_batch(embeddings: Tensor, labels: Tensor) -> None:
    """Raise when shapes or types don't fit.

    Args:
        embeddings: wanted (n, d) float.
        labels: wanted (n,) integer.

    Raises:
        ConfigError: otherwise.
    """
    if embeddings.ndim != 2 or not embeddings.is_floating_point():
        raise ConfigError(
            f"embeddings are {tuple(embeddings.shape)} {embeddings.dtype}, wanted (n, d) float",
            fix="pass one L2-normalised row per sample",
        )
    if labels.shape != embeddings.shape[:1] or labels.is_floating_point():
        raise ConfigError(
            f"labels are {tuple(labels.shape)} {labels.dtype}, "
            f"wanted ({len(embeddings)},) of integers",
            fix="pass one class index per embedding",
        )


def check_temperature(temperature: float) -> None:
    """Raise unless the temperature is positive and finite.

    Raises:
        ConfigError: otherwise.
    """
    if not 0 < temperature < math.inf:
        raise ConfigError(f"temperature is {temperature}, wanted > 0", fix="use about 0.1")
