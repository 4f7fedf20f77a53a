"""Calibrate a gallery's answers: pictures -> queries -> cosines -> thresholds -> a record of it.

Picks are split by product into two halves. One chooses every number, the other reports what they
are worth; so the report is of products that the numbers have not seen.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from robollm.core import calibration as fits
from robollm.core.decide import CANDIDATES, ElsewherePolicy, IdentificationPolicy
from robollm.core.errors import CalibrationError, FrameError
from robollm.core.frame import Frame
from robollm.core.fuse import our_views
from robollm.core.open_set import Seen, halves, report
from robollm.core.rates import open_set_curve, thresholds_for
from robollm.core.settings import PickConfig
from robollm.data.armbench_identification import Pick
from robollm.data.armbench_picks import Outlines, outline_box
from robollm.data.images import read_image
from robollm.data.problems import Problems
from robollm.gallery.snapshot import StoredGallery
from robollm.runtime.naming import find
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pick_views import PickView
from robollm.runtime.pixels import Region
from robollm.runtime.policy import INSIDE, is_exact

LEAST_PICKS = 20  # per half: two or three numbers are fitted
_STAMPS = count(1)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a calibration shall keep to.

    Attributes:
        product_score: what a product's references count for, of the gallery that is searched.
        view_fusion: see `IdentificationPolicy`.
        false_accept: rate of objects that don't belong to the manifest, and are named all the same.
        confidence: one-sided, of the upper limit of that rate.
        mixture: how common such objects are.
        seed: of the split into halves.
    """

    product_score: str = "max"
    view_fusion: str = "fused"
    false_accept: float = 0.01
    confidence: float = 0.95
    mixture: fits.Mixture = field(default_factory=fits.Mixture)
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the two probabilities."""
        if not (0 < self.false_accept < 1 and 0.5 <= self.confidence < 1):
            raise CalibrationError(
                f"false accept {self.false_accept}, confidence {self.confidence}; want a rate "
                "between 0 and 1, and a confidence from .5 to below 1",
                fix="for example --false-accept 0.01 --confidence 0.95",
            )


@dataclass(frozen=True, slots=True)
class Looked:
    """Picks that were looked at.

    Attributes:
        seen: those that can be used.
        left_out: why others can't -> how many.
        views: view -> how many picks have it.
        manifest_sizes: number of products with a reference in the manifest, per used pick.
    """

    seen: tuple[Seen, ...]
    left_out: Mapping[str, int]
    views: Mapping[str, int]
    manifest_sizes: tuple[int, ...]


def look(
    perceiver: Perceiver,
    gallery: StoredGallery,
    picks: Iterable[Pick],
    *,
    views: Sequence[str],
    view_fusion: str,
    problems: Problems,
    outlines: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Looked:
    """Ask the gallery about picks, as a node would: all usable views, manifest, and the rest.

    Args:
        perceiver: embeds.
        gallery: made with the same bundle.
        picks: with truth and manifest.
        views: ARMBench's names of the views to use; those that are missing are missing.
        view_fusion: see `IdentificationPolicy`.
        problems: gets pictures that can't be read, and those without a wanted outline.
        outlines: ARMBench's folder, to look at the annotated object alone; None: at whole pictures.
        progress: called with the number of picks done.

    Raises:
        InferenceError: if the model fails.
        GalleryError: if the gallery can't be searched.
        ConfigError: if outlines are asked for and no picture has one.
    """
    seen: list[Seen] = []
    cut = Outlines(outlines, problems) if outlines else None
    left_out: Counter[str] = Counter()
    used: Counter[str] = Counter()
    sizes: list[int] = []
    quality = PickConfig()
    for done, pick in enumerate(picks, start=1):
        progress(done)
        allow = frozenset(p for p in pick.manifest if p in gallery.products)
        if pick.truth not in gallery.products:
            left_out["truth_without_reference"] += 1
            continue
        if pick.truth not in allow:
            left_out["truth_not_in_manifest"] += 1
            continue
        if len(allow) < 2:  # taking out the truth leaves nothing: always unknown, tells nothing
            left_out["alone_in_manifest"] += 1
            continue
        if cut is not None:
            cut.look(pick.id, (name for name in views if name in pick.views))
        shown = [_view(pick, name, outlines, problems) for name in views if name in pick.views]
        regions, _ = perceiver.naming.usable_views(shown, quality, view_fusion)
        if not regions:
            left_out["no_usable_view"] += 1
            continue
        query = perceiver.embed_views(regions, view_fusion=view_fusion)
        inside = find(gallery, query, len(allow), allow=allow)
        outside = find(gallery, query, CANDIDATES, exclude=allow)
        seen.append(Seen(pick.truth, tuple(inside), tuple(outside)))
        used.update(regions.keys())
        sizes.append(len(allow))
    if cut is not None:
        cut.refuse_if_none(str(outlines), "--crop image")
    return Looked(tuple(seen), dict(left_out), dict(used), tuple(sizes))


def _view(pick: Pick, name: str, outlines: Path | None, problems: Problems) -> PickView:
    (ours,) = our_views([name])
    try:
        frame = Frame(read_image(pick.views[name]), "rgb", stamp_ns=next(_STAMPS))
    except FrameError as e:
        problems.note(e.kind, f"pick {pick.id}", e.what, "view left out")
        return PickView(ours, None, e.what)
    box = None if outlines is None else outline_box(outlines, pick.id, name)
    return PickView(ours, Region(frame, box))


def calibrate(
    looked: Looked, wish: Wish, perceiver: Perceiver, gallery: StoredGallery, data: str
) -> dict[str, Any]:
    """Choose the numbers on one half of the picks, measure them on the other.

    Args:
        looked: what `look` found, with the wish's view fusion and on a gallery with its score.
        wish: what to keep to.
        perceiver: the one that looked.
        gallery: the one that was searched.
        data: where the picks come from, for people.

    Returns:
        The record, which `policy_of` reads and the pictures are drawn from.

    Raises:
        CalibrationError: if the picks are too few for the wish, or cosines tell nothing.
    """
    fit_on, report_on = halves(looked.seen, wish.seed)
    if min(len(fit_on), len(report_on)) < LEAST_PICKS:
        raise CalibrationError(
            f"{len(looked.seen)} picks can be used, {len(fit_on)} of them to choose and "
            f"{len(report_on)} to report; want {LEAST_PICKS} of each; left out: "
            f"{dict(looked.left_out) or 'none'}",
            fix="give more picks whose products are in the gallery",
        )
    chosen, fit = choose(fit_on, wish)
    t = perceiver.bundle.thresholds
    before = IdentificationPolicy(t.accept, t.margin, t.id_temperature)
    sights = [s.sight() for s in fit_on]
    known, strangers = fits.leaders_inside(sights)

    def told(seen: Sequence[Seen], policy: IdentificationPolicy) -> dict[str, Any]:
        return report(seen, policy, wish.mixture, confidence=wish.confidence, seed=wish.seed)

    return {
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "bundle": perceiver.bundle.title,
        "query_sha256": perceiver.naming.query_digest(wish.view_fusion),
        "precision": perceiver.precision,
        "product_score": wish.product_score,
        "view_fusion": wish.view_fusion,
        "products": len(gallery.products),
        "generation": gallery.generation,
        "plan": gallery.plan,
        "exact": is_exact(gallery.plan),
        "data": data,
        "views": dict(looked.views),
        "left_out": dict(looked.left_out),
        "manifest_size": _spread(looked.manifest_sizes),
        "wanted": {
            "false_accept": wish.false_accept,
            "confidence": wish.confidence,
            **asdict(wish.mixture),
        },
        "inside": {k: getattr(chosen, k) for k in INSIDE},
        "elsewhere": None if chosen.elsewhere is None else asdict(chosen.elsewhere),
        **fit,
        "chosen_on": {
            **told(fit_on, chosen),
            "curve": open_set_curve(
                known, strangers, chosen.margin, [s.truth for s in fit_on], wish.confidence
            ),
        },
        "reported_on": told(report_on, chosen),
        "bundles_thresholds": told(report_on, before),
    }


def choose(seen: Sequence[Seen], wish: Wish) -> tuple[IdentificationPolicy, dict[str, Any]]:
    """Fit and choose every number on these picks.

    Returns:
        The policy; and how well the fits went, with the reason if there is nothing for products
        outside the manifest.

    Raises:
        CalibrationError: if the picks are too few for the wish, or cosines tell nothing.
    """
    sights, groups = [s.sight() for s in seen], [s.truth for s in seen]
    near = fits.fit_inside(sights, wish.mixture)
    known, strangers = fits.leaders_inside(sights)
    accept, margin = thresholds_for(
        known, strangers, groups, wish.false_accept,
        confidence=wish.confidence, floor=_cosine(near.unknown_at),
    )  # fmt: skip
    policy = IdentificationPolicy(
        accept, margin, near.temperature,
        unknown_at=near.unknown_at, view_fusion=wish.view_fusion,
    )  # fmt: skip
    about: dict[str, Any] = {"fit_inside": asdict(near), "fit_elsewhere": None}
    if not any(s.outside for s in seen):
        return policy, about | {"elsewhere_missing": "every product is in every manifest"}
    try:
        far = fits.fit_elsewhere(sights, wish.mixture)
    except CalibrationError as e:
        return policy, about | {"elsewhere_missing": e.what}
    foreign, strange = fits.leaders_elsewhere(
        sights, handicap=far.handicap, unknown_at=far.unknown_at
    )
    accept, margin = thresholds_for(
        foreign, strange, groups, wish.false_accept,
        confidence=wish.confidence, floor=_cosine(far.unknown_at + far.handicap),
    )  # fmt: skip
    elsewhere = ElsewherePolicy(accept, margin, far.temperature, far.unknown_at, far.handicap)
    return replace(policy, elsewhere=elsewhere), about | {"fit_elsewhere": asdict(far)}


def _cosine(value: float) -> float:
    return min(1.0, max(-1.0, value))


def drawn(picks: Sequence[Pick], most: int) -> list[Pick]:
    """At most so many picks, evenly from first to last; 0: all."""
    if not most or len(picks) <= most:
        return list(picks)
    return [picks[i] for i in np.linspace(0, len(picks) - 1, most).round().astype(int)]


def write_report(out: Path, record: Mapping[str, Any]) -> None:
    """Write `calibration.json` into a folder, which is made."""
    out.mkdir(parents=True, exist_ok=True)
    part = out / ".calibration.json.tmp"
    part.write_text(json.dumps(record, indent=1) + "\n")
    part.replace(out / "calibration.json")


def _spread(sizes: Sequence[int]) -> dict[str, float]:
    low, middle, high = np.quantile(sizes, (0, 0.5, 1)).tolist()
    return {"least": low, "median": middle, "most": high}
