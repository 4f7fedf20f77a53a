"""From similarities to an answer that admits doubt: which product it is, or why that is open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

IDENTIFIED = "identified"
AMBIGUOUS = "ambiguous"
UNKNOWN = "unknown"
NOT_IN_MANIFEST = "not_in_manifest"
CANDIDATES = 100  # products, of the manifest and of the rest, that share the probability


# A tuple, not a dataclass: a search makes a hundred of them in microseconds.
class Match(NamedTuple):
    """One candidate of a gallery search.

    Attributes:
        product_id: the product.
        similarity: cosine in [-1, 1] of the query and the product's reference vectors.
    """

    product_id: str
    similarity: float


@dataclass(frozen=True, slots=True)
class ElsewherePolicy:
    """When a product outside the manifest is an answer. The gallery's rest has many look-alikes.

    Attributes:
        accept: a best cosine outside the manifest at or below this is no answer.
        margin: the best one must be this far before any other, inside or outside; equal ones are
            never an answer.
        temperature: softmax temperature over inside, outside and `unknown`, > 0.
        unknown_at: cosine inside the manifest that is as likely as `unknown`, in that softmax.
        handicap: a product outside needs a cosine this much higher than one inside to be as likely.
    """

    accept: float
    margin: float
    temperature: float
    unknown_at: float
    handicap: float


@dataclass(frozen=True, slots=True)
class IdentificationPolicy:
    """When an answer is good enough. Calibrated with gallery or bundle, never a constant in code.

    Attributes:
        accept: a best cosine at or below this is `unknown`.
        margin: best and second cosines closer than this are `ambiguous`; equal ones always.
        temperature: softmax temperature of the published probabilities, > 0.
        top_k: how many product hypotheses to publish; of `ambiguous` both, whatever it is.
        unknown_at: cosine at which a product is as likely as `unknown`; None: `accept`.
        elsewhere: when to name a product outside the manifest; None: never.
        view_fusion: how the views of a pick ask, which the other numbers are for: "fused", one
            query of all; "max", each view for itself, and a product's best cosine counts.
    """

    accept: float
    margin: float
    temperature: float
    top_k: int = 5
    unknown_at: float | None = None
    elsewhere: ElsewherePolicy | None = None
    view_fusion: str = "fused"


@dataclass(frozen=True, slots=True)
class Identification:
    """The answer for one object.

    Attributes:
        decision: `identified`, `ambiguous`, `unknown` or `not_in_manifest`.
        ranked: (class_id, score) pairs in the order they are published; scores never rise. The
            first one IS the decision: a product id only when identified, else the decision's name.
        reason: why the answer is not a product, for logs; empty when identified.
        views: names of the views that the answer stands on.
        left_open: products that a doubt leaves open: both of `ambiguous`, and of `unknown` the best
            one where it is the likeliest answer, but not accepted.
    """

    decision: str
    ranked: tuple[tuple[str, float], ...]
    reason: str = ""
    views: tuple[str, ...] = ()
    left_open: tuple[str, ...] = ()

    @classmethod
    def nothing(cls, reason: str) -> Identification:
        """The answer when nothing could be compared: unknown, with certainty about that."""
        return cls(UNKNOWN, ((UNKNOWN, 1.0),), reason)

    def because(self, more: str) -> Identification:
        """The same answer with one more reason."""
        return replace(self, reason=f"{self.reason}; {more}" if self.reason else more)


def decide(
    matches: Sequence[Match], policy: IdentificationPolicy, *, views: tuple[str, ...] = ()
) -> Identification:
    """Turn candidates into an answer.

    The probability of a product is a softmax over the candidates and one more class, `unknown`,
    whose logit is that of a product at `unknown_at`.

    The score of a doubt is the probability of all that it leaves open, so that no product after
    it outranks it, whoever sorts: for `ambiguous` the two products', for `unknown` its own, and
    the best product's where that is more likely but not accepted.

    Args:
        matches: candidates, best first, at most one per product.
        policy: thresholds.
        views: names of the views behind the query.
    """
    if not matches:
        return Identification.nothing("no product to compare with")
    if strange := _not_finite(matches):
        reason = f"the cosine of {strange} is not a number"
        return Identification(UNKNOWN, ((UNKNOWN, 1.0),), reason, views)
    t = policy.temperature
    unknown_at = policy.accept if policy.unknown_at is None else policy.unknown_at
    *p, p_unknown = _softmax([*(m.similarity / t for m in matches), unknown_at / t])
    pairs = tuple((m.product_id, q) for m, q in zip(matches, p, strict=True))
    products = pairs[: policy.top_k]
    best = matches[0]
    if best.similarity <= policy.accept:
        reason = f"best cosine {best.similarity:.3f} is not above {policy.accept:.3f}"
        if best.similarity <= unknown_at:
            return Identification(UNKNOWN, ((UNKNOWN, p_unknown), *products), reason, views)
        reason = f"{reason}, though {best.product_id} is the likeliest"
        ranked = ((UNKNOWN, min(1.0, p_unknown + p[0])), *products)
        return Identification(UNKNOWN, ranked, reason, views, (best.product_id,))
    gap = best.similarity - matches[1].similarity if len(matches) > 1 else math.inf
    if not is_clear(gap, policy.margin):
        reason = (
            f"{best.product_id} and {matches[1].product_id} are {gap:.4f} apart, "
            f"want {policy.margin:.4f}"
        )
        ranked = ((AMBIGUOUS, min(1.0, p[0] + p[1])), *pairs[: max(2, policy.top_k)])
        pair = (best.product_id, matches[1].product_id)
        return Identification(AMBIGUOUS, ranked, reason, views, pair)
    return Identification(IDENTIFIED, products, "", views)


def is_clear(gap: float, margin: float) -> bool:
    """Whether the best cosine is far enough before the next; what is equal is never clear."""
    return gap > 0 and gap >= margin


def decide_elsewhere(
    first: Identification,
    inside: Sequence[Match],
    outside: Sequence[Match],
    policy: IdentificationPolicy,
) -> Identification:
    """Look at the rest of the gallery after the manifest failed.

    The answer becomes `not_in_manifest` when a product outside is clear: above its threshold,
    far enough before every other product, and likelier than every other. The score is then the
    probability that the object is not in the manifest: that of all products outside and of
    `unknown`. Anything less leaves the first answer as it is, with a reason more.

    Args:
        first: what `decide` said of `inside`.
        inside: candidates of the manifest, best first.
        outside: candidates of the rest of the gallery, best first; none among `inside`.
        policy: thresholds; with `elsewhere`.
    """
    far = policy.elsewhere
    if far is None or first.decision != UNKNOWN or not inside or _not_finite(inside):
        return first
    if not outside:
        return first.because("the gallery has no other product")
    if strange := _not_finite(outside):
        return first.because(f"outside the manifest the cosine of {strange} is not a number")
    best, rival = outside[0], max([*inside[:1], *outside[1:2]], key=lambda m: m.similarity)
    if best.similarity <= far.accept:
        return first.because(
            f"best cosine outside the manifest {best.similarity:.3f} is not above {far.accept:.3f}"
        )
    gap = best.similarity - rival.similarity
    if not is_clear(gap, far.margin):
        return first.because(
            f"outside the manifest {best.product_id} is only {gap:.4f} before "
            f"{rival.product_id}, want {far.margin:.4f}"
        )
    if best.similarity - far.handicap <= max(inside[0].similarity, far.unknown_at):
        return first.because(f"{best.product_id} outside the manifest is not the likeliest answer")
    t = far.temperature
    logits = [m.similarity / t for m in inside]
    logits += [(m.similarity - far.handicap) / t for m in outside]
    *p, p_unknown = _softmax([*logits, far.unknown_at / t])
    pairs = zip((*outside, *inside), (*p[len(inside) :], *p[: len(inside)]), strict=True)
    # The sort is stable, and the clear one comes first: rounding can't put an equal before it.
    products = sorted(((m.product_id, q) for m, q in pairs), key=lambda one: -one[1])
    score = min(1.0, sum(p[len(inside) :]) + p_unknown)
    reason = f"it is {best.product_id}, which is not in the manifest (cosine {best.similarity:.3f})"
    ranked = ((NOT_IN_MANIFEST, score), *products[: policy.top_k])
    return Identification(NOT_IN_MANIFEST, ranked, reason, first.views)


def _not_finite(matches: Sequence[Match]) -> str:
    """The first product whose similarity is not finite; empty: there is none."""
    return next((m.product_id for m in matches if not math.isfinite(m.similarity)), "")


def _softmax(logits: Sequence[float]) -> list[float]:
    top = max(logits)
    weights = [math.exp(v - top) for v in logits]
    total = sum(weights)
    return [w / total for w in weights]
