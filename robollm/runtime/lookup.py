"""A product looked up for a person: what a robot would decide, with what it stands on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robollm.core.decide import (
    AMBIGUOUS,
    CANDIDATES,
    IDENTIFIED,
    NOT_IN_MANIFEST,
    UNKNOWN,
    Identification,
    IdentificationPolicy,
    decide,
    decide_elsewhere,
)
from robollm.core.errors import ConfigError
from robollm.core.fuse import OUR_NAMES
from robollm.gallery.snapshot import StoredGallery
from robollm.runtime.naming import find
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pixels import Region

AMONG_ALL = "; meant for a container: among all products more look alike"
"""What thresholds need said of them where no container limits the answer."""


@dataclass(frozen=True, slots=True)
class FoundProduct:
    """One product that a picture was compared with.

    Attributes:
        product_id: the product.
        title: its title; may be empty.
        similarity: its cosine.
        probability: its probability.
        source: name of its most similar reference picture.
        source_similarity: cosine of that picture; with a centroid not the product's.
        chosen: it is (one of those in) the decision.
        outside: it is not in the manifest that was asked.
    """

    product_id: str
    title: str
    similarity: float
    probability: float
    source: str
    source_similarity: float
    chosen: bool
    outside: bool


@dataclass(frozen=True, slots=True)
class Lookup:
    """The answer.

    Attributes:
        answer: what a robot would publish.
        found: the products, in the order of the answer.
        compared: number of products that it was compared with at first.
        elsewhere: the rest of the gallery was searched, too.
        policy: the thresholds.
        thresholds: where they come from.
    """

    answer: Identification
    found: tuple[FoundProduct, ...]
    compared: int
    elsewhere: bool
    policy: IdentificationPolicy
    thresholds: str

    @property
    def headline(self) -> str:
        """The decision in a few words."""
        ids = [p.product_id for p in self.found if p.chosen]
        words = {
            IDENTIFIED: f"IDENTIFIED  {self._called(0)}",
            AMBIGUOUS: f"AMBIGUOUS  {' or '.join(ids)}",
            NOT_IN_MANIFEST: f"NOT IN MANIFEST  it is {self._called(0)}",
            UNKNOWN: "UNKNOWN",
        }
        return words[self.answer.decision]

    @property
    def reason(self) -> str:
        """Why, in a sentence; for an identified product, too."""
        if self.answer.decision != IDENTIFIED:
            score, of = self.answer.ranked[0][1], ""
            if self.answer.decision == NOT_IN_MANIFEST:
                of = " that it is not in the manifest"
            elif self.answer.decision == AMBIGUOUS:
                of = " that it is one of the two"
            return f"{self.answer.reason} (probability {score:.3f}{of})"
        best, p = self.found[0], self.policy
        text = (
            f"probability {best.probability:.3f}; cosine {best.similarity:.3f} is above "
            f"{p.accept:.3f}"
        )
        if len(self.found) > 1:
            second = self.found[1]
            gap = best.similarity - second.similarity
            text += f", and {gap:.4f} before {second.product_id}, want {p.margin:.4f}"
        return text

    def _called(self, at: int) -> str:
        one = self.found[at]
        return f"{one.product_id}  {one.title}".rstrip()


def look_up(
    perceiver: Perceiver,
    gallery: StoredGallery,
    views: Mapping[str, Region],
    *,
    allow: AbstractSet[str] | None,
    policy: IdentificationPolicy,
    thresholds: str,
) -> Lookup:
    """Search as `Perceiver.identify_pick` does, and keep what it stands on.

    Args:
        perceiver: embeds, with the bundle that made the gallery.
        gallery: where to search.
        views: name of a view -> where it shows the object; see `name_views`.
        allow: products of the manifest; None: all of the gallery are candidates, for whose number
            no threshold was calibrated: `Lookup.thresholds` says so.
        policy: thresholds.
        thresholds: where they come from, for people.

    Raises:
        FrameError: for a region outside its image.
        GalleryError: if the gallery can't be read.
        InferenceError: if a model fails.
    """
    query = perceiver.embed_views(views, view_fusion=policy.view_fusion)
    inside = find(gallery, query, CANDIDATES, allow=allow)
    answer = decide(inside, policy, views=tuple(views))
    cosines = {m.product_id: m.similarity for m in inside}
    farther = answer.decision == UNKNOWN and policy.elsewhere is not None and allow is not None
    if farther:
        outside = find(gallery, query, CANDIDATES, exclude=allow)
        answer = decide_elsewhere(answer, inside, outside, policy)
        cosines.update((m.product_id, m.similarity) for m in outside)
    ranked = [(pid, p) for pid, p in answer.ranked if pid in cosines]
    n_chosen = {UNKNOWN: 0, AMBIGUOUS: 2}.get(answer.decision, 1)
    found = []
    for rank, (pid, p) in enumerate(ranked):
        source, cosine = _nearest(gallery, pid, np.atleast_2d(query))
        found.append(
            FoundProduct(
                pid,
                gallery.product(pid).title,
                cosines[pid],
                p,
                source,
                cosine,
                rank < n_chosen,
                allow is not None and pid not in allow,
            )
        )
    compared = len(gallery.products) if allow is None else len(allow)
    if allow is None:
        thresholds += AMONG_ALL
    return Lookup(answer, tuple(found), compared, farther, policy, thresholds)


def _nearest(
    gallery: StoredGallery, product_id: str, queries: NDArray[np.float32]
) -> tuple[str, float]:
    """The product's most similar reference and its cosine, for (V, D) queries."""
    references, vectors = gallery.vectors_of(product_id)
    if not references:  # removed in this moment
        return "", math.nan
    cosines = (vectors @ queries.T).max(axis=1)
    best = int(cosines.argmax())
    return references[best].source, float(cosines[best])


def name_views(files: Sequence[Path], fused_views: Sequence[str]) -> list[str]:
    """Give pictures of one object the names that the bundle wants.

    Args:
        files: the pictures' files.
        fused_views: what the bundle joins, see `Perceiver`; empty: any.

    Returns:
        A name each: by the file's name if that is a view's (ours or ARMBench's), else the first
        view that is free. Without such a bundle, the files' names.

    Raises:
        ConfigError: if there are more pictures than views.
    """
    if not fused_views:
        names = [f.name for f in files]
        alike = len(set(names)) < len(names)
        return [f"{name} ({i})" for i, name in enumerate(names, 1)] if alike else names
    if len(files) > len(fused_views):
        raise ConfigError(
            f"{len(files)} pictures, but the bundle joins {len(fused_views)} views: "
            f"{', '.join(fused_views)}",
            fix="give fewer, or compare each for itself: --view-fusion max",
        )
    by_name = [OUR_NAMES.get(f.stem, f.stem) for f in files]
    named = [n if n in fused_views and by_name.count(n) == 1 else "" for n in by_name]
    free = [v for v in fused_views if v not in named]
    return [n or free.pop(0) for n in named]
