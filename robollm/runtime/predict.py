"""What a bundle says of one picture of a person's own: by the calls that the nodes make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from robollm.core.decide import Identification, IdentificationPolicy
from robollm.core.defects import Verdict, ViewEvidence
from robollm.core.detections import Detections
from robollm.core.errors import ConfigError, ManifestError
from robollm.core.frame import Frame
from robollm.core.fuse import OUR_NAMES
from robollm.core.settings import (
    DefectConfig,
    IdentificationConfig,
    PickConfig,
    SegmentationConfig,
)
from robollm.gallery.catalogue import Catalogue
from robollm.gallery.manifest import Manifests, load_manifests
from robollm.gallery.plan import SearchPlan
from robollm.gallery.store import open_gallery
from robollm.runtime.lookup import AMONG_ALL
from robollm.runtime.perceiver import Perceiver, PickView
from robollm.runtime.pick_views import uninspected
from robollm.runtime.pixels import Region
from robollm.runtime.timing import Laps

KINDS = ("tote", "view")
PRE_PICK = "image"
BEFORE_PICK = "the view `image` is before the pick; defects are judged after it"
EVERYTHING = ""
"""Key of a container that holds all products; no manifest may have an empty container id."""
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Products:
    """What pictures are compared with.

    Attributes:
        folder: the gallery.
        catalogue: gallery and manifests.
        container: which container's products may be answered; `EVERYTHING`: all of the gallery.
        compared: how many products that are.
        bare: products of the container that have no reference picture, sorted.
        policy: the thresholds.
        thresholds: where they come from, for people.
    """

    folder: Path
    catalogue: Catalogue
    container: str
    compared: int
    bare: tuple[str, ...]
    policy: IdentificationPolicy
    thresholds: str

    def title(self, product_id: str) -> str:
        """A product's title: the manifest's, else the gallery's; may be empty."""
        listed = self.catalogue.manifests.products.get(product_id)
        if listed is not None and listed.title:
            return listed.title
        return self.catalogue.gallery.product(product_id).title


@dataclass(frozen=True, slots=True, eq=False)
class TotePrediction:
    """The instances on a picture of a tote.

    Attributes:
        found: instances, best first.
        products: the answer for each; None: there is no gallery to ask.
    """

    found: Detections
    products: tuple[Identification, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class ViewPrediction:
    """The object on a picture of one object.

    Attributes:
        view: which view of a pick the picture was taken for.
        window: (x1, y1, x2, y2) that was looked at, whole px.
        product: the answer; None: there is no gallery to ask.
        verdict: the defects, or `uninspected`.
        evidence: what it stands on, or why there is nothing.
    """

    view: str
    window: tuple[int, int, int, int]
    product: Identification | None
    verdict: Verdict
    evidence: ViewEvidence


def open_products(
    perceiver: Perceiver, config: IdentificationConfig, container: str | None
) -> Products | None:
    """Open the gallery that pictures will be compared with.

    Args:
        perceiver: the bundle in use.
        config: its `gallery`, if that is empty the folder `gallery` of the bundle; its `manifest`,
            if that is empty the containers that the gallery keeps; and its thresholds.
        container: whose products may be answered; None: all products of the gallery, for whose
            number no threshold was calibrated: `Products.thresholds` says so.

    Returns:
        None if no gallery was named and the bundle has none.

    Raises:
        ConfigError: for a manifest without container, or either without gallery.
        GalleryError: see `open_gallery`.
        ManifestError: see `load_manifests`; or if there is no product to compare with.
    """
    bundle = perceiver.bundle
    folder = Path(config.gallery) if config.gallery else bundle.folder / "gallery"
    if not config.gallery and not folder.exists():
        if config.manifest or container is not None:
            raise ConfigError(
                f"a manifest or container without a gallery: bundle {bundle.name!r} has none",
                fix="name the gallery: --gallery FOLDER",
            )
        return None
    if config.manifest and container is None:
        raise ConfigError(
            "--manifest without --container", fix="say which of its containers: --container ID"
        )
    opened = open_gallery(
        folder,
        embedding_sha256=bundle.embedding_sha256,
        bundle=bundle.title,
        search=SearchPlan(product_score=config.product_score, whole=config.whole_search),
    )
    policy, thresholds = perceiver.policy(config, opened)
    manifests = load_manifests(Path(config.manifest)) if config.manifest else opened.manifests
    if container is None:
        everything = {EVERYTHING: frozenset(opened.products)}
        manifests = Manifests(manifests.products, everything)
        policy, thresholds = replace(policy, elsewhere=None), thresholds + AMONG_ALL
    key = EVERYTHING if container is None else container
    catalogue = Catalogue(opened, manifests)
    allow, why = catalogue.allowed(key)
    if allow is None:
        have = ", ".join(sorted(manifests.containers)[:5]) or "none"
        empty = f"gallery {folder} has no product"
        raise ManifestError(
            empty if container is None else why,
            fix="add reference pictures: robollm gallery build"
            if container is None
            else f"choose another container; there are: {have}",
        )
    bare = tuple(sorted(manifests.containers[key] - allow))
    return Products(folder, catalogue, key, len(allow), bare, policy, thresholds)


def view_name(file: Path, asked: str | None, fused_views: Sequence[str]) -> str:
    """Which view of a pick a picture is taken for.

    Args:
        file: the picture; its name counts if it is a view's (ours or ARMBench's).
        asked: what the person said, in either's words; None: nothing.
        fused_views: what the bundle joins, see `Perceiver`; empty: any.

    Returns:
        What was asked, else the view that the file is called after, else the first post-pick view
        that the bundle joins.

    Raises:
        ConfigError: if the bundle joins certain views, and what was asked is none of them.
    """
    if asked is not None:
        asked = OUR_NAMES.get(asked, asked)
        if fused_views and asked not in fused_views:
            raise ConfigError(
                f"--view is {asked!r}, the bundle joins {', '.join(fused_views)}",
                fix="give one of these, or compare it for itself: --view-fusion max",
            )
        return asked
    own = OUR_NAMES.get(file.stem, file.stem)
    if own in (fused_views or OUR_NAMES.values()):
        return own
    after = (v for v in fused_views if v != PRE_PICK)
    return next(after, fused_views[0] if fused_views else "view")


class Predictor:
    """Looks at pictures one by one, as the nodes do.

    Args:
        perceiver: the bundle.
        products: what to compare with; None: nothing is named.
        segmentation: how a tote becomes instances.
        defects: when a pick is called defective.
        quality: limits below which a view is not looked at.

    Attributes:
        perceiver: the bundle.
        products: what is compared with; None: nothing.
        score_min: instances below this score are dropped.
        max_instances: at most this many are kept, best first.
        defect_thresholds: defect class -> probability from which it is decided.
    """

    def __init__(
        self,
        perceiver: Perceiver,
        products: Products | None,
        *,
        segmentation: SegmentationConfig,
        defects: DefectConfig,
        quality: PickConfig,
    ) -> None:
        self.perceiver, self.products = perceiver, products
        self._quality = quality
        self.max_instances = segmentation.max_instances
        self.defect_thresholds = perceiver.defect_thresholds(defects)
        own = segmentation.score_min
        self.score_min = perceiver.bundle.thresholds.score_min if own < 0 else own

    def title(self, product_id: str) -> str:
        """A product's title; may be empty."""
        return "" if self.products is None else self.products.title(product_id)

    def tote(self, frame: Frame, laps: Laps) -> TotePrediction:
        """Find the instances of a tote, and name each.

        Args:
            frame: the picture.
            laps: takes the stage times.

        Raises:
            FrameError: if the picture can't be used.
            GalleryError: if the gallery can't be read.
            InferenceError: if a model fails.
        """
        found = self.perceiver.segment(
            frame,
            score_min=self.score_min,
            max_instances=self.max_instances,
            laps=laps,
        )
        if self.products is None:
            return TotePrediction(found, None)
        boxes = [(float(b[0]), float(b[1]), float(b[2]), float(b[3])) for b in found.boxes]
        named = self.perceiver.identify_instances(
            frame,
            boxes,
            catalogue=self.products.catalogue,
            container=self.products.container,
            policy=self.products.policy,
            laps=laps,
        )
        return TotePrediction(found, tuple(named))

    def view(self, frame: Frame, name: str, box: Box | None, laps: Laps) -> ViewPrediction:
        """Name the object on a picture of one object, and judge it if it shows it after the pick.

        Args:
            frame: the picture.
            name: the view; see `view_name`. "image" is the object in its tote.
            box: (x1, y1, x2, y2) of the object, px; None: the whole picture.
            laps: takes the stage times.

        Raises:
            FrameError: for a box outside the picture.
            GalleryError: if the gallery can't be read.
            InferenceError: if a model fails.
        """
        region = Region(frame, box)
        window = region.window  # a box outside is a mistake, not a view that can't be judged
        views = [PickView(name, region)]
        product = None
        if self.products is not None:
            product = self.perceiver.identify_pick(
                views,
                catalogue=self.products.catalogue,
                container=self.products.container,
                policy=self.products.policy,
                quality=self._quality,
                laps=laps,
            )
        if name == PRE_PICK:
            verdict, (evidence,) = uninspected([name], BEFORE_PICK)
            return ViewPrediction(name, window, product, verdict, evidence)
        verdict, (evidence,) = self.perceiver.inspect_pick(
            views, thresholds=self.defect_thresholds, quality=self._quality, laps=laps
        )
        return ViewPrediction(name, window, product, verdict, evidence)
