"""Naming objects: their views become queries, the gallery answers, thresholds decide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray

from robollm.core.decide import (
    CANDIDATES,
    UNKNOWN,
    Identification,
    IdentificationPolicy,
    Match,
    decide,
    decide_elsewhere,
)
from robollm.core.errors import GalleryError, InferenceError
from robollm.core.frame import Frame
from robollm.core.settings import IdentificationConfig, PickConfig
from robollm.gallery.base import Gallery
from robollm.gallery.catalogue import Catalogue
from robollm.runtime.bundle import Bundle
from robollm.runtime.crops import CropFeatures
from robollm.runtime.heads import Embedder
from robollm.runtime.pick_views import PickView, usable
from robollm.runtime.pixels import Region
from robollm.runtime.policy import Calibrated, policy_of, query_digest
from robollm.runtime.timing import Laps


class Naming:
    """The part of a `Perceiver` that answers which product something is.

    Args:
        bundle: the bundle in use.
        features: encodes pictures.
        embedder: makes queries.
        max_side: longest side of an image that is looked at, px.

    Attributes:
        fused_views: views that the fusion head joins, by our names; empty: any, by their mean.
        left_out: view -> how often it came for a pick and was not looked at, because the bundle's
            fusion head doesn't know it.
        elsewhere: "searched" and "failed" -> how often the rest of the gallery was asked after the
            manifest had failed, and how often that was not possible.
    """

    def __init__(
        self, bundle: Bundle, features: CropFeatures, embedder: Embedder, max_side: int
    ) -> None:
        self._bundle, self._features, self._embedder = bundle, features, embedder
        self._max_side = max_side
        self.fused_views = embedder.views
        self.left_out: Counter[str] = Counter()
        self.elsewhere: Counter[str] = Counter()
        self._digests = {how: query_digest(bundle, how) for how in ("fused", "max")}

    def policy(
        self, config: IdentificationConfig, gallery: Calibrated
    ) -> tuple[IdentificationPolicy, str]:
        """The thresholds in use, and a text that says where they come from; see `policy_of`."""
        digest = self._digests[config.view_fusion]
        return policy_of(config, self._bundle, gallery, query_sha256=digest)

    def query_digest(self, view_fusion: str) -> str:
        """What makes a query: two are comparable if this is equal."""
        return self._digests[view_fusion]

    def embed_views(
        self, views: Mapping[str, Region], *, view_fusion: str = "fused", laps: Laps | None = None
    ) -> NDArray[np.float32]:
        """The query of one object; see `Perceiver.embed_views`."""
        laps = laps or Laps()
        features = self._features.of_crops(list(views.values()), laps, "identification")
        with laps.stage("heads"):
            if view_fusion == "fused":
                return _finite(self._embedder.join(features, tuple(views)))
            return _finite(self._embedder.run(features))

    def of_instances(
        self,
        frame: Frame,
        boxes: Sequence[tuple[float, float, float, float]],
        catalogue: Catalogue,
        container: str | None,
        policy: IdentificationPolicy,
        laps: Laps,
    ) -> list[Identification]:
        """See `Perceiver.identify_instances`."""
        allow, reason = catalogue.allowed(container)
        if allow is None:
            return [Identification.nothing(reason) for _ in boxes]
        if not boxes:
            return []
        regions = [Region(frame, b) for b in boxes]
        features = self._features.of_totes(regions, laps, "identification")
        fused = policy.view_fusion == "fused"
        with laps.stage("heads"):
            queries = self._embedder.queries(features) if fused else self._embedder.run(features)
            queries = _finite(queries)
        with laps.stage("search"):
            found = catalogue.gallery.search_many(queries, CANDIDATES, allow)
            return [decide(matches, policy, views=("image",)) for matches in found]

    def of_pick(
        self,
        views: Sequence[PickView],
        catalogue: Catalogue,
        container: str | None,
        policy: IdentificationPolicy,
        quality: PickConfig,
        laps: Laps,
    ) -> Identification:
        """See `Perceiver.identify_pick`."""
        allow, reason = catalogue.allowed(container)
        if allow is None:
            return Identification.nothing(reason)
        seen, lost = self.usable_views(views, quality, policy.view_fusion)
        if not seen:
            return Identification.nothing(
                "no view to look at: " + "; ".join(f"{n} {r}" for n, r in lost.items())
            )
        query = self.embed_views(seen, view_fusion=policy.view_fusion, laps=laps)
        with laps.stage("search"):
            inside = find(catalogue.gallery, query, CANDIDATES, allow=allow)
            answer = decide(inside, policy, views=tuple(seen))
        if answer.decision != UNKNOWN:
            return answer
        if policy.elsewhere is not None:
            with laps.stage("elsewhere"):
                answer = self._elsewhere(answer, query, inside, catalogue.gallery, allow, policy)
        bare = len(catalogue.manifests.containers.get(container or "", ())) - len(allow)
        if bare:  # it may be one of them
            return answer.because(f"{bare} products of the manifest have no reference")
        return answer

    def _elsewhere(
        self,
        answer: Identification,
        query: NDArray[np.float32],
        inside: Sequence[Match],
        gallery: Gallery,
        allow: AbstractSet[str],
        policy: IdentificationPolicy,
    ) -> Identification:
        self.elsewhere["searched"] += 1
        try:
            outside = find(gallery, query, CANDIDATES, exclude=allow)
        except GalleryError as e:
            self.elsewhere["failed"] += 1
            return answer.because(f"the rest of the gallery can't be searched: {e.what}")
        return decide_elsewhere(answer, inside, outside, policy)

    def usable_views(
        self, views: Sequence[PickView], quality: PickConfig, view_fusion: str
    ) -> tuple[dict[str, Region], dict[str, str]]:
        """Split views into those that are looked at and the reasons against the others."""
        seen, lost = usable(views, quality, max_side=self._max_side)
        known = self.fused_views if view_fusion == "fused" else ()
        for name in [n for n in seen if known and n not in known]:
            self.left_out[name] += 1
            del seen[name]
            lost[name] = f"is not among {', '.join(known)}, which the bundle joins"
        return seen, lost


def _finite(queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """The queries as they are.

    Raises:
        InferenceError: if one is not finite.
    """
    if np.isfinite(queries).all():
        return queries
    raise InferenceError(
        "the model gives an embedding that is not finite",
        fix="run another precision of the bundle, or verify it: robollm bundle",
    )


def find(
    gallery: Gallery,
    query: NDArray[np.float32],
    k: int,
    *,
    allow: AbstractSet[str] | None = None,
    exclude: AbstractSet[str] | None = None,
) -> list[Match]:
    """Search by a query of all views, (D,), or by one per view, (V, D); see `Gallery`."""
    if query.ndim == 1:
        return gallery.search(query, k, allow, exclude=exclude)
    return gallery.search_views(query, k, allow, exclude=exclude)
