"""What thresholds do to picks whose truth is known: outcomes, rates, and whether scores hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from robollm.core.calibration import Mixture, Sight
from robollm.core.decide import (
    AMBIGUOUS,
    CANDIDATES,
    IDENTIFIED,
    NOT_IN_MANIFEST,
    Identification,
    IdentificationPolicy,
    Match,
    decide,
    decide_elsewhere,
)
from robollm.core.rates import Rate
from robollm.core.reliability import reliability

KINDS = ("known", "foreign", "strange")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the gallery says of a pick.

    Attributes:
        truth: the true product; one of `inside`.
        inside: the manifest's products, all of them, best first.
        outside: other products of the gallery, best first.
    """

    truth: str
    inside: tuple[Match, ...]
    outside: tuple[Match, ...]

    def case(self, kind: str) -> tuple[list[Match], list[Match]]:
        """Candidates inside and outside, if the object were of one of `KINDS`."""
        if kind == "known":
            return list(self.inside[:CANDIDATES]), list(self.outside[:CANDIDATES])
        inside = [m for m in self.inside if m.product_id != self.truth]
        outside = list(self.outside)
        if kind == "foreign":
            outside += [m for m in self.inside if m.product_id == self.truth]
            outside.sort(key=lambda m: (-m.similarity, m.product_id))
        return inside[:CANDIDATES], outside[:CANDIDATES]

    def sight(self) -> Sight:
        """The cosines alone."""
        wrong, outside = self.case("strange")
        right = next(m.similarity for m in self.inside if m.product_id == self.truth)
        return Sight(
            self.truth,
            right,
            np.array([m.similarity for m in wrong]),
            np.array([m.similarity for m in outside]),
        )


def halves(seen: Sequence[Seen], seed: int) -> tuple[list[Seen], list[Seen]]:
    """Split by product, at random, into halves of about as many picks."""
    sizes = Counter(s.truth for s in seen)
    first: set[str] = set()
    left = right = 0
    for product in np.random.default_rng(seed).permutation(sorted(sizes)).tolist():
        if left <= right:
            first.add(product)
            left += sizes[product]
        else:
            right += sizes[product]
    return [s for s in seen if s.truth in first], [s for s in seen if s.truth not in first]


def answer(seen: Seen, kind: str, policy: IdentificationPolicy) -> Identification:
    """What a node would publish, if the object were of one of `KINDS`."""
    inside, outside = seen.case(kind)
    return decide_elsewhere(decide(inside, policy), inside, outside, policy)


def came_true(found: Identification, truth: str, kind: str) -> bool:
    """Whether that came true of which the first score is the probability; see `decide`."""
    if found.decision == IDENTIFIED:
        return kind == "known" and found.ranked[0][0] == truth
    if kind == "known":
        return truth in found.left_open
    return found.decision != AMBIGUOUS


def report(
    seen: Sequence[Seen],
    policy: IdentificationPolicy,
    mixture: Mixture,
    *,
    confidence: float,
    seed: int = 0,
) -> dict[str, Any]:
    """Let a policy answer every pick as each of `KINDS`.

    Args:
        seen: picks, none of whose products helped to choose the policy.
        policy: with a `top_k` of 2 or more.
        mixture: how common each kind is.
        confidence: of the limits.
        seed: of the noise floor's draws.

    Returns:
        picks, products; outcomes, kind -> decision -> count, with `_wrong` where a false product
        is named; false_accept (strangers that are identified), false_not_in_manifest (strangers
        of no gallery that are named), wrong_product (known ones that are identified as another),
        each with at_most; false_reject (share of known ones that are not identified as anything),
        found_foreign (share of foreign ones that are named rightly), right_of_identified (by the
        mixture), and reliability.
    """
    far = mixture.strangers * mixture.foreign
    weight = {"known": 1 - mixture.strangers, "foreign": far, "strange": mixture.strangers - far}
    outcomes = {kind: Counter[str]() for kind in KINDS}
    groups = [s.truth for s in seen]
    said, true, weights = [], [], []
    for kind in KINDS:
        for s in seen:
            found = answer(s, kind, policy)
            outcomes[kind][_outcome(found, s.truth, kind)] += 1
            said.append(found.ranked[0][1])
            true.append(came_true(found, s.truth, kind))
            weights.append(weight[kind])
    held = reliability(
        np.array(said), np.array(true), np.array(weights), groups * len(KINDS),
        confidence=confidence, seed=seed,
    )  # fmt: skip
    n = len(seen)

    def rate(kind: str, name: str) -> dict[str, float]:
        counted = Rate.count(outcomes[kind][name], groups, confidence)
        return {**asdict(counted), "share": counted.share, "at_most": counted.at_most}

    right = weight["known"] * outcomes["known"][IDENTIFIED]
    named = {k: outcomes[k][IDENTIFIED] + outcomes[k][f"{IDENTIFIED}_wrong"] for k in KINDS}
    mass = sum(weight[k] * named[k] for k in KINDS)
    return {
        "picks": n,
        "products": len(set(groups)),
        "outcomes": {kind: dict(sorted(counts.items())) for kind, counts in outcomes.items()},
        "false_accept": rate("strange", f"{IDENTIFIED}_wrong"),
        "false_not_in_manifest": rate("strange", f"{NOT_IN_MANIFEST}_wrong"),
        "wrong_product": rate("known", f"{IDENTIFIED}_wrong"),
        "false_reject": 1 - named["known"] / n,
        "found_foreign": outcomes["foreign"][NOT_IN_MANIFEST] / n,
        "right_of_identified": right / mass if mass else None,
        "reliability": asdict(held),
    }


def _outcome(found: Identification, truth: str, kind: str) -> str:
    names = [name for name, _ in found.ranked]
    wrong = {
        IDENTIFIED: kind != "known" or names[0] != truth,
        NOT_IN_MANIFEST: kind != "foreign" or names[1:2] != [truth],
    }
    return f"{found.decision}_wrong" if wrong.get(found.decision) else found.decision
