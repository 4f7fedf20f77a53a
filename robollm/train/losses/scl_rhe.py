"""SCL-RHE, the supervised contrastive loss that expects wrong labels (thesis section 5.4.5)."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from robollm.core.errors import ConfigError
from robollm.train.losses.contrastive import log_one_plus_exp
from robollm.train.losses.similarity import (
    check_batch,
    check_temperature,
    dot_products,
    masked_logsumexp,
    positive_pairs,
    zero_of,
)

Positives = Literal["aim", "printed"]


def scl_rhe(
    embeddings: Tensor,
    labels: Tensor,
    *,
    temperature: float = 0.5,
    tau_plus: float = 0.935,
    tau_minus: float = 0.999,
    beta_positive: float = 1.0,
    beta_negative: float = 1.0,
    q: float | None = None,
    w: float | None = None,
    positives: Positives = "aim",
) -> Tensor:
    """Supervised contrastive loss, de-biased for label errors (thesis eq. 5.9 to 5.19).

    With K positives and N negatives by label, s = cosine / temperature, and <.>_A^b the mean of
    exp(s) over the set A with weights exp(b s):

        U = q / tau_plus  max(<.>_P^bp - (1 - tau_plus)  <.>_N^bp, tau_plus  exp(-1/temperature))
        V = w / tau_minus max(<.>_N^bn - (1 - tau_minus) <.>_P^bn, tau_minus exp(-1/temperature))
        loss = -log(1/K  U / (U + V))

    bn is +beta_negative: hard negatives count more. bp is -beta_positive, so that easy positives
    count less (eq. 5.11, the stated aim), or +beta_positive as eq. 5.16 to 5.18 are printed. An
    anchor without negatives has V = 0 and the loss log K.

    Args:
        embeddings: (n, d) float, L2-normalised; all views of the batch.
        labels: (n,) integer; as assigned, possibly wrong.
        temperature: divides the cosines; the thesis prints none, which is 1.
        tau_plus: tau+ of the first bracket, how many of those with equal labels truly are equal.
            Its tau- is 1 - tau_plus. See `pair_error_rates`.
        tau_minus: tau- of the second bracket, how many with different labels truly differ. Its
            tau+ is 1 - tau_minus. The thesis prints one pair, so tau_minus = 1 - tau_plus.
        beta_positive: beta of the first bracket, >= 0.
        beta_negative: beta of the second bracket, >= 0.
        q: the weight of the positives; None is K.
        w: the weight of the negatives; None is N.
        positives: the sign of the weights in the first bracket.

    Returns:
        The mean over the anchors that have a positive, scalar; 0 when none has.

    Raises:
        ConfigError: shapes don't fit, or a setting is out of range.
    """
    check_scl_rhe(temperature, tau_plus, tau_minus, beta_positive, beta_negative, q, w, positives)
    check_batch(embeddings, labels)
    near, far = positive_pairs(labels)
    anchors = near.any(dim=1)
    if not anchors.any():
        return zero_of(embeddings)
    near, far = near[anchors], far[anchors]
    s = dot_products(embeddings[anchors], embeddings) / temperature
    lonely = ~far.any(dim=1)
    tilt = beta_positive if positives == "printed" else -beta_positive
    u = _log_debiased(
        _log_tilted_mean(s, near, tilt),
        _log_tilted_mean(s, far, tilt).masked_fill(lonely, -math.inf),
        tau_plus,
        -1 / temperature,
    )
    v = _log_debiased(
        _log_tilted_mean(s, far, beta_negative),
        _log_tilted_mean(s, near, beta_negative),
        tau_minus,
        -1 / temperature,
    )
    k = near.sum(dim=1).to(s.dtype).log()
    u = u + (k if q is None else math.log(q))
    v = v + (far.sum(dim=1).clamp(min=1).to(s.dtype).log() if w is None else math.log(w))
    return (k + log_one_plus_exp((v - u).masked_fill(lonely, -math.inf))).mean()


def check_scl_rhe(
    temperature: float,
    tau_plus: float,
    tau_minus: float,
    beta_positive: float,
    beta_negative: float,
    q: float | None,
    w: float | None,
    positives: str,
) -> None:
    """Raise when a setting of `scl_rhe` is out of range.

    Raises:
        ConfigError: it is.
    """
    check_temperature(temperature)
    for name, tau in (("tau_plus", tau_plus), ("tau_minus", tau_minus)):
        if not 0 < tau <= 1:
            raise ConfigError(f"{name} is {tau}, wanted > 0 and <= 1", fix="1 trusts all labels")
    for name, beta in (("beta_positive", beta_positive), ("beta_negative", beta_negative)):
        if not 0 <= beta < math.inf:
            raise ConfigError(f"{name} is {beta}, wanted >= 0", fix="0 weighs all alike")
    for name, weight in (("q", q), ("w", w)):
        if weight is not None and not 0 < weight < math.inf:
            raise ConfigError(f"{name} is {weight}, wanted > 0", fix="None takes the batch's count")
    if positives not in get_args(Positives):
        raise ConfigError(
            f"positives is {positives!r}", fix=f"use one of {', '.join(get_args(Positives))}"
        )


def pair_error_rates(error_rate: float, classes: int) -> tuple[float, float]:
    """How many pairs are wrong when labels are (thesis section 5.4.4).

    Args:
        error_rate: the share of wrong labels, 0 to 1; 0.033 is the thesis' average of data sets.
        classes: their number, > 2.

    Returns:
        The share of false positives among pairs with equal labels (1 - tau_plus), and of false
        negatives among pairs with different labels (1 - tau_minus).

    Raises:
        ConfigError: a number is out of range.
    """
    if not 0 <= error_rate < 1 or classes < 3:
        raise ConfigError(
            f"error_rate {error_rate} with {classes} classes, wanted 0 to 1 with at least 3",
            fix="give tau_plus and tau_minus yourself",
        )
    square = error_rate**2
    false_positives = 2 * error_rate - square - square / (classes - 1) ** 2
    false_negatives = square / (classes - 2) ** 2 + (2 * error_rate - 2 * square) / (classes - 1)
    return false_positives, false_negatives


def _log_tilted_mean(s: Tensor, members: Tensor, tilt: float) -> Tensor:
    """The log of the mean of exp(s) with weights exp(tilt s): eq. 5.16 with Z of 5.18, and 5.17."""
    top = masked_logsumexp((1 + tilt) * s, members, empty=0.0)
    return top - masked_logsumexp(tilt * s, members, empty=0.0)


def _log_debiased(mixed: Tensor, foreign: Tensor, pure: float, floor: float) -> Tensor:
    """log((exp(mixed) - (1 - pure) exp(foreign)) / pure), at least `floor` (eq. 5.13).

    The mean of exp(s) over true members can't be less than its smallest possible value, exp(floor).
    A sample's estimate can, even below zero: there the value is `floor`, and the gradient zero.
    """
    if pure == 1:
        return mixed
    ratio = foreign + math.log(1 - pure) - mixed
    with torch.no_grad():
        inside = ratio < 0
        inside &= mixed + _log_one_minus_exp(ratio.where(inside, -1.0)) - math.log(pure) > floor
    # The inner choice keeps log(0) and its infinite slope out of the gradient.
    value = mixed + _log_one_minus_exp(ratio.where(inside, -1.0)) - math.log(pure)
    return value.where(inside, floor)


def _log_one_minus_exp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0."""
    return torch.log(-torch.expm1(x))
