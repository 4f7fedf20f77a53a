"""The one inference path: nodes, evaluation, CLI and benchmarks all call this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from robollm.core.content import content_box
from robollm.core.decide import Identification, IdentificationPolicy
from robollm.core.defects import Verdict, ViewEvidence
from robollm.core.defects import fuse as fuse_views
from robollm.core.detections import Detections
from robollm.core.frame import Frame
from robollm.core.settings import DefectConfig, IdentificationConfig, PickConfig, RuntimeConfig
from robollm.gallery.catalogue import Catalogue
from robollm.runtime.backbone import SharedBackbone
from robollm.runtime.bundle import Bundle, load_bundle
from robollm.runtime.crops import CropFeatures
from robollm.runtime.default_bundle import find_bundle
from robollm.runtime.heads import Embedder, Inspector, Pooler
from robollm.runtime.naming import Naming
from robollm.runtime.pick_views import PickView, evidence_of, usable
from robollm.runtime.pixels import Region, refuse_huge
from robollm.runtime.policy import Calibrated
from robollm.runtime.precision import place_for
from robollm.runtime.segmenter import Segmenter
from robollm.runtime.timing import Laps
from robollm.runtime.warm_up import patchwork, warm_up

__all__ = ["Perceiver", "PickView"]


class Perceiver:
    """All tasks of one bundle on one shared backbone. Safe to call from several threads.

    Args:
        config: which bundle, where and how it runs.

    Attributes:
        bundle: the verified bundle.
        config: what it was made with.
        precision: the variant that runs; never "auto".
        backbone: what all tasks share.
        fused_views: views that the fusion head joins, by our names; empty: any, by their mean.
        left_out: see `Naming`.
        naming: what identification is made of.

    Raises:
        ModelFileError: if the bundle is missing, damaged, foreign or untrained without leave, or
            the provider or the precision is not active.
    """

    def __init__(self, config: RuntimeConfig) -> None:
        self.bundle: Bundle = load_bundle(
            find_bundle(config.bundle), allow_untrained=config.allow_untrained
        )
        self.config = config
        place = place_for(self.bundle, config)
        self.precision = place.precision
        self._pooler = Pooler(self.bundle, place) if config.crop_features == "tote" else None
        self.backbone = SharedBackbone(
            self.bundle, place, batch_max=config.batch_max, batch_window_ms=config.batch_window_ms
        )
        self._features = CropFeatures(self.backbone, self._pooler, config.max_image_side)
        self._segmenter = Segmenter(self.bundle, place, config.proposals)
        self._embedder = Embedder(self.bundle, place)
        self._inspector = Inspector(self.bundle, place)
        self.naming = Naming(self.bundle, self._features, self._embedder, config.max_image_side)
        self.fused_views = self.naming.fused_views
        self.left_out = self.naming.left_out

    @property
    def where(self) -> dict[str, str]:
        """Role of each loaded graph -> what it runs on, for people."""
        machines = (self._segmenter, self._embedder, self._inspector, self._pooler)
        rest = {role: text for m in machines if m for role, text in m.where.items()}
        return {"backbone": self.backbone.where, **rest}

    @property
    def summary(self) -> str:
        """Precision, threads, and which graph runs where, in one line."""
        by_place: dict[str, list[str]] = {}
        for role, text in self.where.items():
            by_place.setdefault(text, []).append(role)
        places = "; ".join(f"{', '.join(roles)} on {text}" for text, roles in by_place.items())
        threads = self.config.threads or "one per core"
        return f"precision {self.precision}, threads {threads}: {places}"

    def warm_up(self) -> None:
        """Run every graph at every size and number that is common: new shapes are slow at first."""
        warm_up(
            patchwork(self.bundle.tote.hw),
            segment=lambda frame: self.segment(frame, score_min=0.0),
            features=self._features,
            embedder=self._embedder,
            inspector=self._inspector,
            batch_max=self.backbone.batch_max,
        )

    def close(self) -> None:
        """Refuse further work; memory is free when nobody refers to this object any more."""
        self.backbone.close()

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
            FrameError: if the image is too large.
            InferenceError: if a model fails.
        """
        refuse_huge(frame, self.config.max_image_side)
        laps = laps or Laps()
        shared = self.config.crop_features == "tote"  # then its crops come from it, too
        features, box = self.backbone.tote(frame, laps, remember=shared)
        if score_min is None:
            score_min = self.bundle.thresholds.score_min
        return self._segmenter.run(
            features, box, score_min=score_min, max_instances=max_instances, laps=laps
        )

    def embed(self, regions: Sequence[Region], *, laps: Laps | None = None) -> NDArray[np.float32]:
        """Embed N regions, each for itself: (N, D) float32, unit length; raises as `inspect`."""
        if not regions:
            return np.zeros((0, self.bundle.embedding_dim), np.float32)
        laps = laps or Laps()
        features = self._features.of_crops(regions, laps, "identification")
        with laps.stage("heads"):
            return self._embedder.run(features)

    def embed_references(self, frames: Sequence[Frame]) -> NDArray[np.float32]:
        """As `embed`, of N reference pictures, cropped as the bundle wants it."""
        cut = self.bundle.reference_crop == "content"
        return self.embed([Region(f, content_box(f.pixels) if cut else None) for f in frames])

    def inspect(
        self, regions: Sequence[Region], *, laps: Laps | None = None
    ) -> list[dict[str, float]]:
        """Defect class probabilities of N regions.

        Raises:
            FrameError: for a region outside its image, or an image that is too large.
            InferenceError: if a model fails.
        """
        if not regions:
            return []
        laps = laps or Laps()
        features = self._features.of_crops(regions, laps, "defects")
        with laps.stage("heads"):
            return self._inspector.run(features)

    def inspect_sequence(
        self,
        regions: Sequence[Region],
        *,
        reference: Region | None = None,
        laps: Laps | None = None,
    ) -> dict[str, float]:
        """Defect class probabilities of one object, from several pictures of it at once.

        Args:
            regions: the pictures, at least one.
            reference: how the object should look; None: not known.
            laps: takes the stage times.

        Raises:
            FrameError: for a region outside its image, or an image that is too large.
            InferenceError: if a model fails.
            ModelFileError: if the bundle has no head for sequences.
        """
        laps = laps or Laps()
        frames = self._features.of_crops(regions, laps, "defects")
        like = None if reference is None else self._features.of_crops([reference], laps, "defects")
        with laps.stage("heads"):
            return self._inspector.run_sequence(frames, like)

    def look(
        self, regions: Sequence[Region], *, laps: Laps | None = None
    ) -> tuple[NDArray[np.float32], list[dict[str, float]]]:
        """Embed and inspect N regions at once, from the features that `crop_features` asks for.

        Returns:
            What `embed` and `inspect` say; with `crop_features: tote` every frame is taken for a
            tote, and the regions for parts of its features.

        Raises:
            FrameError: for a region outside its image, or an image that is too large.
            InferenceError: if a model fails.
        """
        if not regions:
            return self.embed([]), []
        laps = laps or Laps()
        named = judged = self._features.of_totes(regions, laps, "identification")
        if not self._features.pools and {"identification", "defects"} & {*self.bundle.adapters}:
            judged = self._features.of_totes(regions, laps, "defects")
        with laps.stage("heads"):
            return self._embedder.run(named), self._inspector.run(judged)

    def embed_views(
        self, views: Mapping[str, Region], *, view_fusion: str = "fused", laps: Laps | None = None
    ) -> NDArray[np.float32]:
        """The query of one object, from several pictures of it.

        Args:
            views: name of a view -> where it shows the object, at least one; if the bundle joins
                certain views (`fused_views`) and these are fused, all among them.
            view_fusion: "fused": one query of all; "max": one each.
            laps: takes the stage times.

        Returns:
            (D,) float32 if fused, else (V, D); unit length.

        Raises:
            FrameError: for a region outside its image, or an image that is too large.
            InferenceError: if a model fails.
        """
        return self.naming.embed_views(views, view_fusion=view_fusion, laps=laps)

    def policy(
        self, config: IdentificationConfig, gallery: Calibrated
    ) -> tuple[IdentificationPolicy, str]:
        """The identification thresholds in use, and where they come from.

        A parameter that is set comes first, then the calibration that the gallery keeps for this
        bundle and this way to compare, then the bundle's own numbers.

        Args:
            config: the user's settings.
            gallery: the gallery that will be searched.

        Returns:
            The policy, and a text for people: what is used, and why a calibration is not.
        """
        return self.naming.policy(config, gallery)

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
        """Name every instance of a tote image, out of the manifest.

        The rest of the gallery is not searched: that is a search of the whole for every instance
        of every frame, on one occluded picture, with thresholds that were calibrated on picks. The
        pick, on all its views, tells what doesn't belong into the container.

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
        return self.naming.of_instances(frame, boxes, catalogue, container, policy, laps or Laps())

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

        If nothing in the manifest is near enough and the policy has thresholds for it, the rest of
        the gallery is searched, too. A search that fails leaves `unknown`.

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
        return self.naming.of_pick(views, catalogue, container, policy, quality, laps or Laps())

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
        seen, lost = usable(views, quality, max_side=self.config.max_image_side)
        judged = dict(
            zip(seen, self.inspect(list(seen.values()), laps=laps), strict=True) if seen else ()
        )
        evidence = [evidence_of(v, judged.get(v.name), lost.get(v.name, "")) for v in views]
        ways = self.bundle.thresholds.over_views
        return fuse_views(evidence, thresholds, min_views=min_views, ways=ways), evidence
