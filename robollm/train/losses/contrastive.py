"""InfoNCE, LaCViT and CLCE as functions. Inputs are L2-normalised, results are means."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from robollm.core.errors import ConfigError
from robollm.train.losses.similarity import (
    TRANSFORMS,
    check_batch,
    check_temperature,
    dot_products,
    full_precision,
    masked_logsumexp,
    positive_pairs,
    zero_of,
)

Same = Literal["mask", "multi"]


def info_nce(
    queries: Tensor,
    references: Tensor,
    scale: Tensor | float,
    labels: Tensor,
    *,
    transform: str = "none",
    same: Same = "mask",
) -> Tensor:
    """Symmetric InfoNCE between queries and their references (thesis fig. 8.4, eq. 4.3).

    Row i of both is a pair. What else in the batch has the label of i is no negative of i:
    `same="mask"` leaves it out, `same="multi"` counts it as a positive beside the pair itself (the
    mean of -log p over the positives).

    Args:
        queries: (n, d) float, L2-normalised.
        references: (n, d) float, L2-normalised.
        scale: 1 / temperature; the cosines are transformed first, then multiplied by it.
        labels: (n,) integer; products.
        transform: a key of `TRANSFORMS`.
        same: what equal labels off the diagonal are.

    Returns:
        The mean over n of both directions, scalar; 0 for n = 0.

    Raises:
        ConfigError: shapes don't fit, or an option is unknown.
    """
    check_info_nce(transform, same)
    check_batch(queries, labels)
    if references.shape != queries.shape:
        raise ConfigError(
            f"references are {tuple(references.shape)}, queries {tuple(queries.shape)}",
            fix="pass one reference per query",
        )
    if len(labels) == 0:
        return zero_of(queries) + zero_of(references)
    logits = TRANSFORMS[transform](dot_products(queries, references)) * scale
    others, different = positive_pairs(labels)
    pair = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    if same == "mask":
        positives, counted = pair, pair | different
    else:
        positives, counted = pair | others, torch.ones_like(pair)
    # Both masks are symmetric, so one direction's are the other's.
    forth = _mean_negative_log(logits, positives, counted)
    back = _mean_negative_log(logits.T, positives, counted)
    return (forth.mean() + back.mean()) / 2


def check_info_nce(transform: str, same: str) -> None:
    """Raise when an option of `info_nce` is unknown.

    Raises:
        ConfigError: it is.
    """
    for what, value, known in (
        ("transform", transform, TRANSFORMS),
        ("same", same, get_args(Same)),
    ):
        if value not in known:
            raise ConfigError(f"{what} is {value!r}", fix=f"use one of {', '.join(known)}")


def lacvit(embeddings: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """LaCViT's label-aware contrastive loss (thesis eq. 5.1).

    For anchor i, the mean over its positives p of -log(exp(s_ip) / sum over a != i of exp(s_ia)).

    Args:
        embeddings: (n, d) float, L2-normalised; all views of the batch.
        labels: (n,) integer.
        temperature: divides the cosines.

    Returns:
        The mean over the anchors that have a positive, scalar; 0 when none has.

    Raises:
        ConfigError: shapes don't fit, or the temperature is not positive.
    """
    check_batch(embeddings, labels)
    check_temperature(temperature)
    positives, negatives = positive_pairs(labels)
    anchors = positives.any(dim=1)
    if not anchors.any():
        return zero_of(embeddings)
    similar = dot_products(embeddings[anchors], embeddings) / temperature
    positives, negatives = positives[anchors], negatives[anchors]
    return _mean_negative_log(similar, positives, positives | negatives).mean()


def lacln(embeddings: Tensor, labels: Tensor, temperature: float = 0.5) -> Tensor:
    """CLCE's contrastive half, with weights for hard negatives (thesis eq. 5.4).

    Args:
        embeddings: (n, d) float, L2-normalised; all views of the batch.
        labels: (n,) integer.
        temperature: divides the cosines.

    Returns:
        The mean over the anchors that have a positive, scalar; 0 when none has.

    Raises:
        ConfigError: shapes don't fit, or the temperature is not positive.
    """
    check_batch(embeddings, labels)
    check_temperature(temperature)
    positives, negatives = positive_pairs(labels)
    anchors = positives.any(dim=1)
    if not anchors.any():
        return zero_of(embeddings)
    similar = dot_products(embeddings[anchors], embeddings) / temperature
    positives, negatives = positives[anchors], negatives[anchors]
    good = masked_logsumexp(similar, positives)
    # |N| sum exp(s)^2 / sum exp(s); nothing where there is no negative
    many = negatives.sum(dim=1).clamp(min=1).to(similar.dtype).log()
    hard = masked_logsumexp(2 * similar, negatives, empty=0.0)
    hard = many + hard - masked_logsumexp(similar, negatives, empty=0.0)
    hard = hard.masked_fill(~negatives.any(dim=1), -torch.inf)
    share = positives.sum(dim=1).to(similar.dtype).log()
    return (share + log_one_plus_exp(hard - good)).mean()


def clce(
    embeddings: Tensor,
    labels: Tensor,
    logits: Tensor,
    logit_labels: Tensor,
    *,
    weight: float = 0.9,
    temperature: float = 0.5,
) -> Tensor:
    """(1 - weight) cross-entropy + weight LACLN (thesis eq. 5.2 and 5.3).

    Args:
        embeddings: (n, d) float, L2-normalised; all views of the batch.
        labels: (n,) integer.
        logits: (m, classes) float, of the classifier.
        logit_labels: (m,) int64 in [0, classes).
        weight: lambda, in [0, 1].
        temperature: of LACLN.

    Returns:
        Scalar.

    Raises:
        ConfigError: shapes don't fit, or a setting is out of range.
    """
    check_weight(weight)
    check_batch(logits, logit_labels)
    contrastive = lacln(embeddings, labels, temperature)
    if len(logits) == 0:
        return (1 - weight) * zero_of(logits) + weight * contrastive
    return (1 - weight) * F.cross_entropy(full_precision(logits), logit_labels) + (
        weight * contrastive
    )


def check_weight(weight: float) -> None:
    """Raise unless CLCE's weight is in [0, 1].

    Raises:
        ConfigError: otherwise.
    """
    if not 0 <= weight <= 1:
        raise ConfigError(f"weight is {weight}, wanted 0 to 1", fix="the thesis uses 0.9")


def log_one_plus_exp(values: Tensor) -> Tensor:
    """log(1 + exp(x)) for any x, -inf included; unlike softplus without a linear end."""
    return torch.logaddexp(values, torch.zeros_like(values))


def _mean_negative_log(logits: Tensor, positives: Tensor, counted: Tensor) -> Tensor:
    """Per row: the mean over its positives of logsumexp(counted) - logit. Each row has one."""
    near = logits.masked_fill(~positives, 0.0).sum(dim=1) / positives.sum(dim=1)
    return masked_logsumexp(logits, counted) - near
