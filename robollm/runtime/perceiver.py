"""The one inference path: nodes, evaluation, CLI and benchmarks all call this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robollm.core import fuse
from robollm.core.decide import Identification, IdentificationPolicy, decide
from robollm.core.defects import UNINSPECTED, Verdict, ViewEvidence
from robollm.core.defects import fuse as fuse_views
from robollm.core.detections import Detections
from robollm.core.errors import FrameError
from robollm.core.frame import Frame
from robollm.core.quality import unusable
from robollm.core.settings import DefectConfig, IdentificationConfig, PickConfig, RuntimeConfig
from robollm.gallery.catalogue import Catalogue
from robollm.runtime.backbone import SharedBackbone
from robollm.runtime.bundle import Bundle, load_bundle
from robollm.runtime.heads import Embedder, Inspector
from robollm.runtime.pixels import Region, to_canvas
from robollm.runtime.segmenter import Segmenter
from robollm.runtime.timing import Laps

CANDIDATES = 100  # products that share the probability of an answer


@dataclass(frozen=True, slots=True)
class PickView:
    """One expected view of a pick, as far as it came.

    Attributes:
        name: the view's name.
        region: where to look, or None when no image came.
        reason: why there is no region; empty when there is one.
    """

    name: str
    region: Region | None
    reason: str = ""


class Perceiver:
    """All tasks of one bundle on one shared backbone. Safe to call from several threads.

    Args:
        config: which bundle, where it runs.

    Raises:
        ModelFileError: if the bundle is missing, damaged, foreign or untrained without leave, or
            the provider is not active.
    """

    def __init__(self, config: RuntimeConfig) -> None:
        self.bundle: Bundle = load_bundle(
            Path(config.bundle), allow_untrained=config.allow_untrained
        )
        self.provider = config.provider
        place = (self.bundle, config.provider, config.threads)
        self.backbone = SharedBackbone(*place)
        self._segmenter = Segmenter(*place)
        self._embedder = Embedder(*place)
        self._inspector = Inspector(*place)

    def warm_up(self) -> None:
        """Run every graph once at both sizes, so that the first image is as fast as the next."""
        h, w = self.bundle.tote.hw
        grey = Frame(np.full((h, w, 3), 127, np.uint8), "rgb", stamp_ns=1, stream="warm-up")
        self.segment(grey)
        self.inspect([Region(grey)])
        self.embed([Region(grey)])

    def segment(
        self,
        frame: Frame,
        *,
        score_min: float | None = None,
        max_instances: int = 100,
        laps: Laps | None = None,
    ) -> Detections:
        """Find the instances of a tote image: one backbone run and the segmentation head.

        Args:
            frame: the tote image.
            score_min: drop instances below this score; None: the bundle's threshold.
            max_instances: keep at most this many.
            laps: takes the stage times.

        Raises:
            InferenceError: if a model fails.
        """
        laps = laps or Laps()
        with laps.stage("preprocess"):
            image, box = to_canvas(frame.pixels, frame.order, self.bundle.tote, self.bundle)
        with laps.stage("backbone"):
            features = self.backbone.run(image[None])
        if score_min is None:
            score_min = self.bundle.thresholds.score_min
        return self._segmenter.run(
            features, box, score_min=score_min, max_instances=max_instances, laps=laps
        )

    def embed(self, regions: Sequence[Region], *, laps: Laps | None = None) -> NDArray[np.float32]:
        """Embed N regions for retrieval: (N, D) float32, unit length.

        Raises:
            FrameError: for a region outside its image.
            InferenceError: if a model fails.
        """
        if not regions:
            return np.zeros((0, self.bundle.embedding_dim), np.float32)
        laps = laps or Laps()
        features = self.backbone.crops(regions, laps)
        with laps.stage("heads"):
            return self._embedder.run(features)

    def inspect(
        self, regions: Sequence[Region], *, laps: Laps | None = None
    ) -> list[dict[str, float]]:
        """Defect class probabilities of N regions.

        Raises:
            FrameError: for a region outside its image.
            InferenceError: if a model fails.
        """
        if not regions:
            return []
        laps = laps or Laps()
        features = self.backbone.crops(regions, laps)
        with laps.stage("heads"):
            return self._inspector.run(features)

    def policy(self, config: IdentificationConfig) -> IdentificationPolicy:
        """The bundle's identification thresholds with the user's changes on top."""
        t = self.bundle.thresholds
        return IdentificationPolicy(
            accept=t.accept if config.accept < -1 else config.accept,
            margin=t.margin if config.margin < 0 else config.margin,
            temperature=t.id_temperature,
            top_k=config.top_k,
        )

    def defect_thresholds(self, config: DefectConfig) -> dict[str, float]:
        """The bundle's defect thresholds with the user's changes on top."""
        mine = {"multi_pick": config.multi_pick_min, "package_defect": config.package_defect_min}
        return {
            name: mine[name] if mine.get(name, -1) >= 0 else limit
            for name, limit in self.bundle.thresholds.defects.items()
        }

    def identify_instances(
        self,
        frame: Frame,
        boxes: Sequence[tuple[float, float, float, float]],
        *,
        catalogue: Catalogue,
        container: str | None,
        policy: IdentificationPolicy,
        laps: Laps | None = None,
    ) -> list[Identification]:
        """Name every instance of a tote image.

        Args:
            frame: the tote image.
            boxes: one (x1, y1, x2, y2) per instance, source px.
            catalogue: gallery and manifests.
            container: selects the manifest; None or an unknown id: everything is `unknown`.
            policy: thresholds.
            laps: takes the stage times.

        Raises:
            FrameError: for a box outside the image.
            InferenceError: if a model fails.
        """
        allow, reason = catalogue.allowed(container)
        if allow is None:
            return [Identification.nothing(reason) for _ in boxes]
        laps = laps or Laps()
        queries = self.embed([Region(frame, b) for b in boxes], laps=laps)
        with laps.stage("search"):
            return [
                decide(catalogue.gallery.search(q, CANDIDATES, allow), policy, views=("image",))
                for q in queries
            ]

    def identify_pick(
        self,
        views: Sequence[PickView],
        *,
        catalogue: Catalogue,
        container: str | None,
        policy: IdentificationPolicy,
        quality: PickConfig,
        laps: Laps | None = None,
    ) -> Identification:
        """Name the picked product from its pre-pick crop and whatever post-pick views came.

        Args:
            views: the pre-pick crop (named "image") and the expected post-pick views.
            catalogue: gallery and manifests.
            container: selects the manifest.
            policy: thresholds.
            quality: limits below which a view is not looked at.
            laps: takes the stage times.

        Raises:
            InferenceError: if a model fails.
        """
        allow, reason = catalogue.allowed(container)
        if allow is None:
            return Identification.nothing(reason)
        seen, lost = _usable(views, quality)
        if not seen:
            return Identification.nothing(
                "no view to look at: " + "; ".join(f"{n} {r}" for n, r in lost.items())
            )
        laps = laps or Laps()
        vectors = self.embed(list(seen.values()), laps=laps)
        with laps.stage("search"):
            matches = catalogue.gallery.search(fuse.mean_embedding(vectors), CANDIDATES, allow)
            return decide(matches, policy, views=tuple(seen))

    def inspect_pick(
        self,
        views: Sequence[PickView],
        *,
        thresholds: Mapping[str, float],
        quality: PickConfig,
        min_views: int = 1,
        laps: Laps | None = None,
    ) -> tuple[Verdict, list[ViewEvidence]]:
        """Judge a pick from its post-pick views.

        Args:
            views: the expected views.
            thresholds: defect class -> probability from which it is decided.
            quality: limits below which a view is not judged.
            min_views: fewer judged views never make a nominal.
            laps: takes the stage times.

        Returns:
            The fused verdict, and the evidence of every expected view in the order given.

        Raises:
            InferenceError: if a model fails.
        """
        seen, lost = _usable(views, quality)
        judged = dict(
            zip(seen, self.inspect(list(seen.values()), laps=laps), strict=True) if seen else ()
        )
        evidence = []
        for v in views:
            frame = v.region.frame if v.region else None
            box = seen[v.name].window if v.name in seen else (0, 0, 0, 0)
            evidence.append(
                ViewEvidence(
                    v.name,
                    judged.get(v.name),
                    (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                    lost.get(v.name, ""),
                    frame.stamp_ns if frame else 0,
                    frame.frame_id if frame else "",
                )
            )
        return fuse_views(evidence, thresholds, min_views=min_views), evidence


def uninspected(views: Sequence[str], reason: str) -> tuple[Verdict, list[ViewEvidence]]:
    """The verdict when nothing could be judged, for one and the same reason."""
    evidence = [ViewEvidence(name, None, reason=reason) for name in views]
    verdict = Verdict(((UNINSPECTED, 1.0),), (), tuple((n, reason) for n in views))
    return verdict, evidence


def _usable(
    views: Sequence[PickView], quality: PickConfig
) -> tuple[dict[str, Region], dict[str, str]]:
    """Split views into those that can be looked at and the reasons against the others."""
    seen: dict[str, Region] = {}
    lost: dict[str, str] = {}
    for v in views:
        if v.region is None:
            lost[v.name] = v.reason or "missing"
            continue
        try:
            problem = unusable(
                v.region.pixels, dark_below=quality.dark_below, flat_below=quality.flat_below
            )
        except FrameError as e:
            problem = e.what
        if problem:
            lost[v.name] = problem
        else:
            seen[v.name] = v.region
    return seen, lost
