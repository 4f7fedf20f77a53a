"""From similarities to an answer that admits doubt: identified, ambiguous or unknown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

IDENTIFIED = "identified"
AMBIGUOUS = "ambiguous"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Match:
    """One candidate of a gallery search.

    Attributes:
        product_id: the product.
        similarity: cosine in [-1, 1], the best of the product's reference vectors.
    """

    product_id: str
    similarity: float


@dataclass(frozen=True, slots=True)
class IdentificationPolicy:
    """When an answer is good enough. Calibrated with the bundle, never a constant in code.

    Attributes:
        accept: a best cosine at or below this is `unknown`.
        margin: best and second cosines closer than this are `ambiguous`.
        temperature: softmax temperature of the published probabilities, > 0.
        top_k: how many product hypotheses to publish.
    """

    accept: float
    margin: float
    temperature: float
    top_k: int = 5


@dataclass(frozen=True, slots=True)
class Identification:
    """The answer for one object.

    Attributes:
        decision: `identified`, `ambiguous` or `unknown`.
        ranked: (class_id, score) pairs in the order they are published. The first one IS the
            decision: a product id only when identified, else `ambiguous` or `unknown`.
        reason: why the answer is not a product, for logs; empty when identified.
        views: names of the views that the answer stands on.
    """

    decision: str
    ranked: tuple[tuple[str, float], ...]
    reason: str = ""
    views: tuple[str, ...] = ()

    @classmethod
    def nothing(cls, reason: str) -> Identification:
        """The answer when nothing could be compared: unknown, with certainty about that."""
        return cls(UNKNOWN, ((UNKNOWN, 1.0),), reason)


def decide(
    matches: Sequence[Match], policy: IdentificationPolicy, *, views: tuple[str, ...] = ()
) -> Identification:
    """Turn candidates into an answer.

    The probability of a product is a softmax over the candidates and one more class, `unknown`,
    whose logit is the acceptance threshold. So `unknown` outranks every product exactly when no
    cosine is above `policy.accept`, and the scores of `unknown` and the products sum to at most 1.
    `ambiguous` is no further class: its score is the sum of the two that it stands for.

    Args:
        matches: candidates, best first, at most one per product.
        policy: thresholds of the bundle.
        views: names of the views behind the query.
    """
    if not matches:
        return Identification.nothing("no product to compare with")
    if any(math.isnan(m.similarity) for m in matches):
        reason = f"the cosine of {matches[0].product_id} is not a number"
        return Identification(UNKNOWN, ((UNKNOWN, 1.0),), reason, views)
    t = policy.temperature
    logits = [m.similarity / t for m in matches] + [policy.accept / t]
    top = max(logits)
    weights = [math.exp(v - top) for v in logits]
    total = sum(weights)
    p = [w / total for w in weights]
    products = tuple((m.product_id, q) for m, q in zip(matches, p[:-1], strict=True))[
        : policy.top_k
    ]
    best = matches[0]
    if best.similarity <= policy.accept:
        reason = f"best cosine {best.similarity:.3f} is not above {policy.accept:.3f}"
        return Identification(UNKNOWN, ((UNKNOWN, p[-1]), *products), reason, views)
    if len(matches) > 1 and best.similarity - matches[1].similarity < policy.margin:
        gap = best.similarity - matches[1].similarity
        reason = (
            f"{best.product_id} and {matches[1].product_id} are {gap:.4f} apart, "
            f"want {policy.margin:.4f}"
        )
        both = p[0] + p[1]
        return Identification(AMBIGUOUS, ((AMBIGUOUS, both), *products), reason, views)
    return Identification(IDENTIFIED, products, "", views)
