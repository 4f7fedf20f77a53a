"""Shares of picks: what was published, against what is so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robollm.core.decide import AMBIGUOUS, IDENTIFIED, NOT_IN_MANIFEST, UNKNOWN
from robollm.core.defects import NOMINAL, UNINSPECTED
from robollm.core.errors import EvalError
from robollm.data.armbench_defects import LABELS
from robollm.eval.records import PickRecord
from robollm.metrics.tally import Share

FIRST = (1, 2, 3)
DOUBTS = (AMBIGUOUS, UNKNOWN, NOT_IN_MANIFEST)
_DEFECTS = tuple(label for label in LABELS if label != NOMINAL)
_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Said:
    """One pick: what is so, and what was published.

    Attributes:
        key: of its record.
        product: the true one; None: not known.
        in_manifest: whether it should be in the container; None: not known.
        label: true label of the pick; None: not known.
        decision: on the product; None: no answer.
        products: published (product, score), best first, without the decision's own name.
        verdict: decision on defects; None: no answer.
        verdict_score: its decision score.
    """

    key: str
    product: str | None
    in_manifest: bool | None
    label: str | None
    decision: str | None
    products: tuple[tuple[str, float], ...]
    verdict: str | None
    verdict_score: float

    @property
    def right(self) -> bool:
        """Whether the best published product is the true one."""
        return bool(self.products) and self.products[0][0] == self.product

    @property
    def known(self) -> bool:
        """Whether the manifest should have its product."""
        return self.product is not None and self.in_manifest is not False


def said_of(record: PickRecord) -> Said:
    """What a record says; one with an error has no answer."""
    truth = record.truth or {}
    named = record.identification if record.error is None else None
    judged = record.verdict if record.error is None else None
    ranked = [(str(name), float(p)) for name, p in named["ranked"]] if named else []
    return Said(
        record.key,
        truth.get("product_id"),
        truth.get("in_manifest"),
        truth.get("label"),
        str(named["decision"]) if named else None,
        tuple((name, p) for name, p in ranked if name not in DOUBTS),
        str(judged["decision"]) if judged else None,
        float(judged["ranked"][0][1]) if judged else 0.0,
    )


class PickShares:
    """Shares over picks as a `Tally`; the unit is the pick (`station_score` draws by product).

    Of products: `recall@K_published` (of picks whose product is in the manifest, those with it
    among the first K published), `identified_share` (of the same), `identified_precision` (of all
    that were identified), `strangers_rejected` (of picks whose product the manifest lacks, those
    answered otherwise than identified), `strangers_named` (those with the true product as
    `not_in_manifest`). Of verdicts: `verdict_DEFECT_precision`, `_recall`, `_fpr` for each defect
    and `combined`, `verdict_accuracy`, over picks that were inspected or have no answer;
    `verdict_false_accept` (of picks with a defect, those with the verdict nominal) and
    `uninspected_share`, `uninspected_share_defects` over all that have an answer. A pick without
    one is not found, and wrong; it is no case of a share that is better when it is small.

    Args:
        picks: at least one, each key once.

    Attributes:
        units: keys, in the order given.
        counts: picks, and what is not known of them.

    Raises:
        EvalError: if there are none, or a key is there twice.
    """

    def __init__(self, picks: Sequence[Said]) -> None:
        self.units: tuple[str, ...] = tuple(p.key for p in picks)
        if not picks or len(set(self.units)) < len(picks):
            raise EvalError(
                f"{len(picks)} picks with {len(set(self.units))} keys; want one or more, each once",
                fix="evaluate picks, then score again",
            )
        self._rows: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        # Verdicts alone: there was no gallery, and nobody was asked for products.
        if any(p.decision for p in picks) or not any(p.verdict for p in picks):
            self._products(picks)
        self._verdicts(picks)
        self.counts = {
            "picks": len(picks),
            "picks_without_product": sum(p.product is None for p in picks),
            "picks_without_label": sum(p.label is None for p in picks),
            "strangers": sum(p.product is not None and p.in_manifest is False for p in picks),
            "uninspected": sum(p.verdict == UNINSPECTED for p in picks),
        }

    def figures(self, counts: NDArray[np.int64] | None = None) -> dict[str, float]:
        """All figures; see `Tally`."""
        each = np.ones(len(self.units)) if counts is None else counts.astype(np.float64)
        out = {}
        for name, (hits, cases) in self._rows.items():
            of = float(each @ cases)
            out[name] = float(each @ hits) / of if of else _NAN
        return out

    def share(self, name: str) -> Share:
        """Hits and cases: every pick is one case; see `Tally`."""
        return self._rows[name]

    def _add(self, name: str, cases: list[bool], hits: list[bool]) -> None:
        of = np.array(cases, np.float64)
        self._rows[name] = np.array(hits, np.float64) * of, of

    def _products(self, picks: Sequence[Said]) -> None:
        known = [p.known for p in picks]
        strange = [p.product is not None and p.in_manifest is False for p in picks]
        named = [p.decision == IDENTIFIED for p in picks]
        for k in FIRST:
            first = [p.product in [name for name, _ in p.products[:k]] for p in picks]
            self._add(f"recall@{k}_published", known, first)
        self._add("identified_share", known, named)
        told = [n and p.product is not None for n, p in zip(named, picks, strict=True)]
        self._add("identified_precision", told, [p.right for p in picks])
        refused = [p.decision is not None and p.decision != IDENTIFIED for p in picks]
        self._add("strangers_rejected", strange, refused)
        elsewhere = [p.decision == NOT_IN_MANIFEST and p.right for p in picks]
        self._add("strangers_named", strange, elsewhere)

    def _verdicts(self, picks: Sequence[Said]) -> None:
        labelled = [p.label is not None for p in picks]
        # One without an answer is no negative: else every error would lower the FPR.
        told = [p.verdict is not None for p in picks]
        open_ = [p.verdict == UNINSPECTED for p in picks]
        judged = [a and not b for a, b in zip(labelled, open_, strict=True)]
        groups = {**{d: (d,) for d in _DEFECTS}, "combined": _DEFECTS}
        for name, group in groups.items():
            true = [j and p.label in group for j, p in zip(judged, picks, strict=True)]
            other = [
                j and t and p.label not in group
                for j, t, p in zip(judged, told, picks, strict=True)
            ]
            called = [j and p.verdict in group for j, p in zip(judged, picks, strict=True)]
            self._add(f"verdict_{name}_precision", called, true)
            self._add(f"verdict_{name}_recall", true, called)
            self._add(f"verdict_{name}_fpr", other, called)
        self._add("verdict_accuracy", judged, [p.verdict == p.label for p in picks])
        defective = [t and p.label in _DEFECTS for t, p in zip(told, picks, strict=True)]
        self._add("verdict_false_accept", defective, [p.verdict == NOMINAL for p in picks])
        self._add("uninspected_share", told, open_)
        self._add("uninspected_share_defects", defective, open_)
