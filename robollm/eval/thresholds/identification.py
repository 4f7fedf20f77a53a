"""When a bundle without a gallery's own calibration says unknown or ambiguous, and how sure it is.

A gallery's calibration (`robollm gallery calibrate`) comes first in a node; these values serve
galleries that have none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robollm.core.calibration import Mixture, Sight, leaders_inside, newton
from robollm.core.decide import IDENTIFIED, IdentificationPolicy, Match
from robollm.core.errors import CalibrationError
from robollm.core.open_set import Seen, answer, came_true
from robollm.core.rates import MARGINS, Leaders
from robollm.core.reliability import reliability
from robollm.eval.records import IDENTIFICATION, IdentificationRecord, Json
from robollm.eval.run_folder import RunFolder
from robollm.eval.tasks.given_gallery import references_of
from robollm.eval.tasks.identification_score import main_query, query_of
from robollm.eval.thresholds.parts import Chosen, Shares, Wish, between, first_half, number
from robollm.metrics.retrieval import Gallery

LEAST = 40
"""Picks: fewer choose nothing."""
_KINDS = ("known", "strange")
_MICRO = 1e6
NAMES = ("accept", "margin", "temperature")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the picks of a run show.

    Attributes:
        seen: picks whose product is among others in its manifest.
        left_out: why others can't be used -> how many.
        query: `n1` or `n3`.
        references: products of the gallery.
    """

    seen: tuple[Seen, ...]
    left_out: dict[str, int]
    query: str
    references: int


def asked(run: RunFolder) -> Asked | None:
    """Compare every pick with the references of its manifest; None: the run has no picks.

    Raises:
        GalleryError: the references are missing, damaged, or another bundle's.
        EvalError: for a record that can't be understood; or the gallery that was given to the run
            has changed since.
    """
    if IDENTIFICATION not in run.streams:
        return None
    gallery = references_of(run)
    number_of = {product: row for row, product in enumerate(gallery.products)}
    query = main_query(run.card, ("n1", "n3"))
    seen, left_out = [], Counter[str]()
    for record in run.records(IDENTIFICATION):
        assert isinstance(record, IdentificationRecord)
        vector = query_of(record).vectors.get(query)
        inside = sorted({p for p in record.manifest if p in number_of})
        if vector is None:
            left_out["no_answer" if record.error else "no_such_view"] += 1
        elif record.truth not in number_of:
            left_out["truth_without_reference"] += 1
        elif record.truth not in inside:
            left_out["truth_not_in_manifest"] += 1
        elif len(inside) < 2:  # taking out the truth leaves nothing: always unknown, tells nothing
            left_out["alone_in_manifest"] += 1
        else:
            matches = _matches(vector, gallery, inside, number_of)
            seen.append(Seen(record.truth, matches, ()))
    return Asked(tuple(seen), dict(sorted(left_out.items())), query, len(gallery.products))


def _matches(
    vector: NDArray[np.float32], gallery: Gallery, inside: Sequence[str], number_of: dict[str, int]
) -> tuple[Match, ...]:
    """Products by the cosine of their nearest reference, best first, as a node ranks them."""
    ends = gallery.ends
    found = []
    for product in inside:
        row = number_of[product]
        cosines = gallery.vectors[gallery.starts[row] : ends[row]] @ vector
        found.append(Match(product, float(cosines.max())))
    return tuple(sorted(found, key=lambda m: (-m.similarity, m.product_id)))


def cut(known: Leaders, strangers: Leaders, most: float) -> tuple[float, float]:
    """The accept and margin that reject most strangers while few known products are rejected.

    Of the margins that are tried (0 and quantiles of the gaps of known cases), each gets the
    highest accept that rejects at most a share `most` of known cases, be it as unknown or as
    ambiguous. The pair that answers fewest strangers wins, the smallest margin among equals.

    Args:
        known: cases with the truth in the manifest, at least one.
        strangers: the same with the truth taken out.
        most: share of known cases that may be rejected.
    """
    allowed = math.floor(most * len(known.best) + 1e-9)
    gaps = known.gap[np.isfinite(known.gap) & (known.gap > 0)]
    margins = [0.0]
    if len(gaps):
        some = np.quantile(gaps, np.linspace(0, most, MARGINS), method="lower")
        margins += (np.floor(some * _MICRO) / _MICRO).tolist()
    found: list[tuple[int, float, float]] = []
    for margin in sorted(set(margins)):
        clear = known.clear(margin)
        spare = allowed - int((~clear).sum())
        if spare < 0:
            continue
        mine, others = np.sort(known.best[clear]), strangers.best[strangers.clear(margin)]
        keep = float(mine[min(spare, len(mine) - 1)])
        below = np.concatenate([mine, others])
        below = below[below < keep]
        accept = between(float(below.max(initial=-1.0)), keep)
        answered = int(strangers.answered(accept, margin).sum())
        found.append((answered, margin, accept))
    if not found:  # so many first ones are equal to the next that even without a margin ...
        raise CalibrationError(
            f"more than {most:.0%} of known products have a look-alike of the very same cosine",
            fix="check that gallery, bundle and data belong together",
        )
    _, margin, accept = min(found)
    return accept, margin


def temperature(sights: Sequence[Sight], accept: float, mixture: Mixture) -> float:
    """The likeliest temperature of the softmax that `decide` makes, `unknown` being at `accept`.

    Known cases and strangers (the truth taken out) weigh as `mixture` says. One number is fitted,
    its inverse, in which the loss is convex.

    Raises:
        CalibrationError: see `newton`.
    """
    n = len(sights)
    width = 2 + max(len(s.wrong) for s in sights)
    x = np.zeros((2 * n, width, 1))  # `unknown`, the truth, the others
    there = np.zeros((2 * n, width), np.bool_)
    there[:, 0] = True
    for i, s in enumerate(sights):
        here = slice(2, 2 + len(s.wrong))
        for row in (i, n + i):
            x[row, here, 0] = s.wrong - accept
            there[row, here] = True
        x[i, 1, 0], there[i, 1] = s.right - accept, True
    truth = np.repeat([1, 0], n)
    weights = np.repeat([1 - mixture.strangers, mixture.strangers], n)
    theta, _, _ = newton(x, there, truth, weights)
    return 1 / float(theta[0])


def choose(seen: Sequence[Seen], wish: Wish, old: float) -> tuple[IdentificationPolicy, str]:
    """Accept, margin and temperature for these picks.

    Args:
        seen: at least one.
        wish: what to keep to.
        old: temperature where none can be fitted.

    Returns:
        The policy, and why its temperature is the old one; empty: it isn't.

    Raises:
        CalibrationError: see `cut`.
    """
    sights = [s.sight() for s in seen]
    accept, margin = cut(*leaders_inside(sights), wish.false_reject)
    try:
        fitted, why = temperature(sights, accept, Mixture(wish.strangers)), ""
    except CalibrationError as e:
        fitted, why = old, e.what
    return IdentificationPolicy(accept, margin, _short(fitted), top_k=2), why


def told(
    seen: Sequence[Seen], policies: Sequence[IdentificationPolicy], wish: Wish
) -> tuple[Shares, Json]:
    """What policies make of picks, each pick with its own.

    Returns:
        By product: `unknown_rejected` (strangers that get no name), `false_reject` (known products
        that get none), `wrong_product` (known ones that get another's), `right`. And whether the
        first probability holds: expected calibration error, and what it were of perfect ones.
    """
    flags: dict[str, list[bool]] = {"unknown_rejected": [], "right": [], "wrong_product": []}
    said, true, weights = [], [], []
    share = {"known": 1 - wish.strangers, "strange": wish.strangers}
    for s, policy in zip(seen, policies, strict=True):
        for kind in _KINDS:
            found = answer(s, kind, policy)
            named = found.ranked[0][0] if found.decision == IDENTIFIED else ""
            if kind == "strange":
                flags["unknown_rejected"].append(not named)
            else:
                flags["right"].append(named == s.truth)
                flags["wrong_product"].append(bool(named) and named != s.truth)
            said.append(found.ranked[0][1])
            true.append(came_true(found, s.truth, kind))
            weights.append(share[kind])
    names = [s.truth for s in seen]
    ones = np.ones(len(seen))
    rejected = ~(np.array(flags["right"]) | np.array(flags["wrong_product"]))
    parts = {k: (np.array(v), ones) for k, v in flags.items()} | {"false_reject": (rejected, ones)}
    groups = [name for name in names for _ in _KINDS]
    held = reliability(np.array(said), np.array(true), np.array(weights), groups, seed=wish.seed)
    sure = {"calibration_error": number(held.ece), "of_perfect_probabilities": number(held.floor)}
    return Shares(names, parts), sure


def calibrate(run: RunFolder, before: Json, wish: Wish) -> Chosen:
    """Choose `accept`, `margin` and `temperature`.

    Args:
        run: whose records tell.
        before: `thresholds` of the bundle that answered.
        wish: what to keep to.

    Raises:
        GalleryError: see `asked`.
        EvalError: for a record that can't be understood.
    """
    data = asked(run)
    if data is None:
        return Chosen(kept=dict.fromkeys(NAMES, "the run has no picks"))
    seen = data.seen
    products = [s.truth for s in seen]
    record: Json = {
        "picks": len(seen),
        "products": len({*products}),
        "left_out": data.left_out,
        "products_with_references": data.references,
        "query": data.query,
        "unknown": "each pick once more, its product taken out of the manifest",
        "by": f"most unknown products rejected at {wish.false_reject:g} false rejects or less",
        "strangers": wish.strangers,
    }
    try:
        if len(seen) < LEAST or len({*products}) < LEAST // 4:
            raise CalibrationError(
                f"{len(seen)} picks of {len({*products})} products can be used, want {LEAST} of "
                f"{LEAST // 4}"
            )
        return _calibrate(seen, record, before["identification"], wish)
    except CalibrationError as e:
        loud = f"identification stays as it was: {e.what}"
        return Chosen(kept=dict.fromkeys(NAMES, e.what), loud=(loud,), record=record)


def _calibrate(seen: Sequence[Seen], record: Json, before: Json, wish: Wish) -> Chosen:
    old = float(before["temperature"])
    first = first_half([s.truth for s in seen], [""] * len(seen), wish.seed)
    policy, why = choose(seen, wish, old)
    halves = [
        choose([s for s, mine in zip(seen, first, strict=True) if mine == side], wish, old)
        for side in (True, False)
    ]
    sides = [side for side, _ in halves]
    parts = {
        "held_out": [sides[1] if mine else sides[0] for mine in first],
        "on_all": [policy] * len(seen),
        "before": [IdentificationPolicy(before["accept"], before["margin"], old, top_k=2)]
        * len(seen),
    }
    for name, policies in parts.items():
        shares, sure = told(seen, policies, wish)
        record[name] = {**shares.told(wish), **sure}
    record["before"] |= {k: before[k] for k in NAMES}
    record["held_out_values"] = [
        {"accept": p.accept, "margin": p.margin, "temperature": p.temperature} for p in sides
    ]
    values = {"accept": policy.accept, "margin": policy.margin}
    kept = {"temperature": why} if why else {}
    loud = [f"identification's temperature stays {old:g}: {why}"] if why else []
    if not why:
        values["temperature"] = policy.temperature
        loud += [
            "identification.temperature: one half of the products could not choose it "
            f"({lacks}), so held-out figures of the other half are of the value before"
            for _, lacks in halves if lacks
        ]  # fmt: skip
    held = record["held_out"]["unknown_rejected"]
    if held["low"] is None or held["low"] <= wish.false_reject:
        loud.append(
            f"unknown products are hardly told from known ones: {_of(held)} of them are rejected "
            f"where {_of(record['held_out']['false_reject'])} of the known ones are"
        )
    return Chosen(values, kept, tuple(loud), record)


def _of(share: Json) -> str:
    return "none" if share["value"] is None else f"{share['value']:.3f}"


def _short(value: float) -> float:
    """To six significant digits: what is finer than that, no data tell."""
    return float(f"{value:.6g}")
