"""Probabilities out of cosines, fitted to data, and whether they hold.

Open-set identification knows three kinds of objects: known (the true product is in the manifest),
foreign (it is elsewhere in the gallery) and strange (it is in no gallery). One pick with a known
product gives a case of each kind: the truth is left where it is, taken out of the manifest, or
taken out of the gallery. How common each kind is can't be read off such data; it is stated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import CalibrationError
from robollm.core.rates import Leaders

Vector = NDArray[np.float64]
T_MIN, T_MAX = 1e-4, 1e3
_START = (10.0, 5.0, 0.0)  # T .1, unknown at .5, no handicap
_STEPS = 100
_ENOUGH = 1e-12  # half the Newton decrement, per unit of weight


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """A pick as the gallery sees it.

    Attributes:
        product: the true product.
        right: cosine of the true product, which is in the manifest.
        wrong: (K,) float64, cosines of the manifest's other products, best first.
        outside: (M,) float64, cosines of the gallery's other products, best first.
    """

    product: str
    right: float
    wrong: Vector
    outside: Vector


@dataclass(frozen=True, slots=True)
class Mixture:
    """How common each kind of object is taken to be.

    Attributes:
        strangers: share of objects whose product is not in the manifest.
        foreign: share of these whose product is elsewhere in the gallery.
    """

    strangers: float = 0.1
    foreign: float = 0.5

    def __post_init__(self) -> None:
        """Check both shares."""
        if not (0 < self.strangers < 1 and 0 < self.foreign < 1):
            raise CalibrationError(
                f"share of strangers {self.strangers}, of foreign ones among them {self.foreign}; "
                "want more than 0 and less than 1",
                fix="state how common they are in your cell",
            )


@dataclass(frozen=True, slots=True)
class Fit:
    """Numbers of a softmax over the products and `unknown`.

    Attributes:
        temperature: of the softmax.
        unknown_at: cosine at which a product of the manifest is as likely as `unknown`.
        handicap: of a product outside the manifest, see `ElsewherePolicy`; 0 where there is none.
        loss: mean negative log-likelihood of the weighted cases, nat.
        steps: Newton steps taken.
    """

    temperature: float
    unknown_at: float
    handicap: float
    loss: float
    steps: int


def fit_inside(sights: Sequence[Sight], mixture: Mixture) -> Fit:
    """Fit temperature and `unknown_at` on what the manifest alone shows.

    Maximum likelihood over known cases (weight 1 - strangers) and strangers (the truth taken out).
    The logits, cosine / T and unknown_at / T, are linear in 1/T and unknown_at/T, so the loss is
    convex with one minimum, which `newton` finds.

    Raises:
        CalibrationError: see `newton`.
    """
    rows = [(s, -math.inf, True) for s in sights] + [(s, -math.inf, False) for s in sights]
    weights = np.repeat([1 - mixture.strangers, mixture.strangers], len(sights))
    return _fit(rows, weights, outside=False)


def fit_elsewhere(sights: Sequence[Sight], mixture: Mixture) -> Fit:
    """Fit temperature, `unknown_at` and handicap on manifest and rest of the gallery together.

    As `fit_inside`, with known, foreign and strange cases weighted as `mixture` says, and a third
    number: products outside have the logit (cosine - handicap) / T.

    Raises:
        CalibrationError: see `newton`.
    """
    known = [(s, -math.inf, True) for s in sights]
    foreign = [(s, s.right, False) for s in sights]
    strange = [(s, -math.inf, False) for s in sights]
    far = mixture.strangers * mixture.foreign
    shares = [1 - mixture.strangers, far, mixture.strangers - far]
    return _fit(known + foreign + strange, np.repeat(shares, len(sights)), outside=True)


def _fit(rows: Sequence[tuple[Sight, float, bool]], weights: Vector, *, outside: bool) -> Fit:
    """Fit rows of (sight, the truth's cosine if it is outside or -inf, whether it is inside).

    Columns: `unknown`, the truth inside, the truth outside, the others inside, those outside.
    """
    inner = max((len(s.wrong) for s, _, _ in rows), default=0)
    outer = max((len(s.outside) for s, _, _ in rows), default=0) if outside else 0
    cosines = np.full((len(rows), 3 + inner + outer), -math.inf)
    truth = np.zeros(len(rows), np.int64)
    cosines[:, 0] = 0
    for i, (s, far, here) in enumerate(rows):
        cosines[i, 1] = s.right if here else -math.inf
        cosines[i, 2] = far
        cosines[i, 3 : 3 + len(s.wrong)] = s.wrong
        if outside:
            cosines[i, 3 + inner : 3 + inner + len(s.outside)] = s.outside
        truth[i] = 1 if here else 2 if math.isfinite(far) else 0
    there = np.isfinite(cosines)
    x = np.zeros((*cosines.shape, 3 if outside else 2))
    x[..., 0] = np.where(there, cosines, 0)
    x[:, 0, 1] = 1
    if outside:
        x[:, 2, 2] = x[:, 3 + inner :, 2] = -1
    theta, loss, steps = newton(x, there, truth, weights)
    t = 1 / float(theta[0])
    handicap = float(theta[2]) * t if outside else 0.0
    return Fit(t, float(theta[1]) * t, handicap, loss, steps)


def newton(
    x: NDArray[np.float64],
    there: NDArray[np.bool_],
    truth: NDArray[np.int64],
    weights: Vector,
) -> tuple[Vector, float, int]:
    """Maximum likelihood of a softmax with linear logits x @ theta.

    Starts at T = .1, unknown at .5, no handicap. Newton's step is halved until it lowers the loss
    by a ten-thousandth of what its slope promises; ends when half the squared Newton decrement is
    below 1e-12. The truth's target is not 1 but 1 - 1/(n + 2), the rest shared by the other
    candidates (Platt 1999), so that a minimum exists even where cosines separate without error.

    Args:
        x: (N, K, P) float64, of each candidate of each case; the first one weighs the cosine.
        there: (N, K) bool, the candidates that exist.
        truth: (N,) int, the true candidate.
        weights: (N,) float64, > 0.

    Returns:
        (P,) theta, mean loss in nat (of the plain truth), and steps taken.

    Raises:
        CalibrationError: there are no cases, it doesn't converge, or the best temperature is not
            within `T_MIN` and `T_MAX`: a higher cosine is no sign of the right product.
    """
    n, _, p = x.shape
    if not n:
        raise CalibrationError("there is no pick to calibrate on", fix="give picks of the gallery")
    w = weights / weights.sum()
    soft = 1 / (n + 2)
    rivals = np.maximum(there.sum(axis=1) - 1, 1)
    target = np.where(there, (soft / rivals)[:, None], 0.0)
    target[np.arange(n), truth] = np.where(there.sum(axis=1) > 1, 1 - soft, 1.0)

    def log_p(theta: Vector) -> Vector:
        logits = np.where(there, x @ theta, -np.inf)
        top = logits.max(axis=1, keepdims=True)
        return np.asarray(logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True)))

    def loss(logs: Vector) -> float:
        return -float(w @ np.where(there, target * np.where(there, logs, 0), 0).sum(axis=1))

    theta = np.array(_START[:p])
    logs = log_p(theta)
    steps = 0
    while steps < _STEPS:
        q = np.exp(logs)
        mean = np.einsum("nk,nkp->np", q, x)
        slope = w @ (mean - np.einsum("nk,nkp->np", target, x))
        curve = np.einsum("n,nk,nkp,nkq->pq", w, q, x, x, optimize=True)
        curve -= np.einsum("n,np,nq->pq", w, mean, mean)
        direction = -np.linalg.solve(curve + 1e-12 * np.eye(p), slope)
        promise = -float(slope @ direction)
        if promise / 2 < _ENOUGH:
            break
        length, now = 1.0, loss(logs)
        while length > 1e-9 and loss(log_p(theta + length * direction)) > (
            now - 1e-4 * length * promise
        ):
            length /= 2
        theta = theta + length * direction
        logs = log_p(theta)
        steps += 1
    else:
        raise CalibrationError(
            f"the fit did not converge in {_STEPS} steps", fix="calibrate on more picks"
        )
    if not 1 / T_MAX <= theta[0] <= 1 / T_MIN:
        raise CalibrationError(
            f"the best inverse temperature is {theta[0]:.3g}, want {1 / T_MAX:g} to {1 / T_MIN:g}: "
            "the true product's cosine is hardly higher than those of others",
            fix="check that gallery, bundle and data belong together; or train the bundle longer",
        )
    return theta, -float(w @ logs[np.arange(n), truth]), steps


def leaders_inside(sights: Sequence[Sight]) -> tuple[Leaders, Leaders]:
    """Who leads in the manifest: with the truth in it, and with the truth taken out."""
    right = np.array([s.right for s in sights])
    first, second = (_nth([s.wrong for s in sights], n) for n in (0, 1))
    known = Leaders(
        np.maximum(right, first),
        _gap(np.maximum(right, first), np.maximum(np.minimum(right, first), second)),
        right > first,
    )
    return known, Leaders(first, _gap(first, second), np.zeros(len(first), np.bool_))


def leaders_elsewhere(
    sights: Sequence[Sight], *, handicap: float, unknown_at: float
) -> tuple[Leaders, Leaders]:
    """Who leads outside the manifest, the truth being there (foreign), or nowhere (strange).

    There is no leader where a product of the manifest or `unknown` is likelier, as in
    `decide_elsewhere`. Whether the manifest failed is not asked: so the thresholds hold for any
    accept, and err on the safe side.
    """
    right = np.array([s.right for s in sights])
    inside = _nth([s.wrong for s in sights], 0)
    first, second = (_nth([s.outside for s in sights], n) for n in (0, 1))

    def likely(leader: Vector) -> Vector:
        return np.where(leader - handicap > np.maximum(inside, unknown_at), leader, -np.inf)

    leader = np.maximum(right, first)
    rival = np.maximum(np.maximum(np.minimum(right, first), second), inside)
    foreign = Leaders(likely(leader), _gap(leader, rival), right > first)
    strange = Leaders(
        likely(first), _gap(first, np.maximum(second, inside)), np.zeros(len(first), np.bool_)
    )
    return foreign, strange


def _nth(rows: Sequence[Vector], n: int) -> Vector:
    return np.array([r[n] if len(r) > n else -math.inf for r in rows])


def _gap(first: Vector, second: Vector) -> Vector:
    with np.errstate(invalid="ignore"):  # nobody against nobody
        return np.where(np.isfinite(second), first - second, np.inf)
