"""Every setting of every node, declared once. ROS, YAML, CLI and docs are made from these."""

from __future__ import annotations

from dataclasses import dataclass

from robollm.core.config import check, option
from robollm.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeConfig:
    """Which models run, and where."""

    bundle: str = option(
        "",
        "folder of the model bundle (holds bundle.json), or the name of one that robollm ships; "
        "empty: the shipped one, tote-small",
    )
    provider: str = option(
        "cpu",
        "where the models run; one that is not active is an error, there is no fallback",
        choices=("cpu", "openvino", "cuda", "tensorrt"),
    )
    precision: str = option(
        "auto",
        "arithmetic of the models, among those that the bundle was accepted in; auto: the fastest "
        "of these that provider and processor have",
        choices=("auto", "fp32", "bf16", "fp16", "int8", "int8-static"),
    )
    threads: int = option(0, "threads of one model run; 0: one per core", low=0, high=256)
    proposals: int = option(
        0,
        "boxes that the RoI heads look at; 0: the bundle's, with which it was validated; fewer are "
        "faster and find less, more can make it worse",
        low=0,
        high=10_000,
    )
    batch_max: int = option(
        0,
        "crops that share a run of the backbone, which takes memory for as many; "
        "0: by provider (cpu 1, openvino 4, cuda and tensorrt 16), more if crops are small",
        low=0,
        high=256,
    )
    batch_window_ms: float = option(
        0.0,
        "how long crops wait for those of other callers when the model is idle, to share a run; "
        "no effect where batch_max is 1",
        low=0,
        high=1000,
    )
    crop_features: str = option(
        "crops",
        "instances of a tote are looked at as crops of their own, or as parts of the tote's own "
        "features (faster, coarser; the bundle must have the graph `regions` and no adapters)",
        choices=("crops", "tote"),
    )
    max_image_side: int = option(
        8192, "an image with a longer side than this, px, is refused", low=16, high=65_535
    )
    engine_cache: str = option(
        "",
        "folder for engines that TensorRT builds, which takes minutes, and for graphs that "
        "OpenVINO maps, so that weights take half the memory; empty: none",
    )
    allow_untrained: bool = option(
        False, "run a bundle with random weights (tests and demos only: its verdicts mean nothing)"
    )

    def __post_init__(self) -> None:
        """Check every field."""
        check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """What all nodes have in common."""

    autostart: bool = option(True, "configure and activate by itself when launched")
    image_qos: str = option(
        "auto",
        "reliability of image subscriptions; auto: what the publisher offers",
        choices=("auto", "reliable", "best_effort"),
    )
    image_transport: str = option(
        "auto",
        "raw: Image; compressed: CompressedImage on <topic>/compressed; auto: raw if published",
        choices=("auto", "raw", "compressed"),
    )
    no_image_warn_s: float = option(
        5.0,
        "warn after this many seconds without an image, or without one that can be used; 0: never",
        low=0,
        high=3600,
        live=True,
    )
    diagnostics_period_s: float = option(1.0, "seconds between diagnostics", low=0.1, high=60)

    def __post_init__(self) -> None:
        """Check every field."""
        check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationConfig:
    """How one tote image becomes instances."""

    score_min: float = option(
        -1.0, "drop instances below this score; -1: the bundle's", low=-1, high=1, live=True
    )
    max_instances: int = option(
        100, "keep at most this many, best first", low=1, high=1000, live=True
    )
    overlay: bool = option(
        True, "offer overlay/compressed (drawn only while somebody subscribes)", live=True
    )

    def __post_init__(self) -> None:
        """Check every field."""
        check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class PickConfig:
    """How post-pick views are gathered for a pick."""

    views: tuple[str, ...] = option(
        ("on_arm_low", "tote_wall"),
        "post-pick views; NAME subscribes to views/NAME/image, NAME=TOPIC to TOPIC; []: none",
    )
    view_rois: tuple[str, ...] = option(
        ("",), "part of a view to look at, NAME=X,Y,WIDTH,HEIGHT in px; others: the whole image"
    )
    view_timeout_s: float = option(
        2.0,
        "answer a pick this long after its message, with the views that came",
        low=0.05,
        high=60,
    )
    view_delay_s: float = option(
        0.0, "ignore view images captured sooner than this after the tote image", low=0, high=60
    )
    max_view_age_s: float = option(
        10.0,
        "a view image older than this on arrival is stale and not judged; 0: any age",
        low=0,
        high=3600,
        live=True,
    )
    max_view_lead_s: float = option(
        0.5,
        "a view image stamped further than this in the future is not judged: its camera's clock "
        "is ahead, and it would be taken for the next pick's; 0: any. Not with use_sim_time",
        low=0,
        high=3600,
        live=True,
    )
    dark_below: float = option(
        12.0, "a view with a mean grey level below this can't be judged", low=0, high=255, live=True
    )
    flat_below: float = option(
        3.0,
        "a view whose grey levels spread less than this can't be judged",
        low=0,
        high=128,
        live=True,
    )

    def __post_init__(self) -> None:
        """Check every field, and that views and regions make sense."""
        check(self)
        view_topics(self)
        view_regions(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentificationConfig:
    """Which products are searched, and how sure an answer must be."""

    manifest: str = option(
        "",
        "manifest file (JSON or CSV): the products of each container; empty: the containers that "
        "are kept in the gallery",
    )
    gallery: str = option("", "gallery folder; empty: the folder `gallery` beside the manifest")
    watch: bool = option(
        False, "take over what others change in the manifest file and in the gallery", live=True
    )
    watch_period_s: float = option(
        1.0, "with `watch`: seconds between two looks for changes", low=0.1, high=3600
    )
    product_score: str = option(
        "max",
        "what a product's references count for: the most similar one, or their normalised mean",
        choices=("max", "centroid"),
    )
    view_fusion: str = option(
        "fused",
        "how the views of a pick are compared: joined into one query, or each for itself and the "
        "best counts",
        choices=("fused", "max"),
    )
    whole_search: str = option(
        "auto",
        "how the whole gallery is searched (a container is always searched exactly); auto: by its "
        "size and what `robollm gallery tune` measured",
        choices=("auto", "exact", "approximate"),
    )
    search_elsewhere: bool = option(
        True,
        "look in the whole gallery for what is nothing in the manifest, to answer "
        "`not_in_manifest`",
        live=True,
    )
    top_k: int = option(
        5,
        "publish at most this many product hypotheses; of `ambiguous` both",
        low=1,
        high=100,
        live=True,
    )
    accept: float = option(
        -2.0,
        "a best cosine at or below this is unknown; -2: the gallery's calibration, else the "
        "bundle's",
        low=-2,
        high=1,
        live=True,
    )
    margin: float = option(
        -1.0,
        "two best cosines closer than this are ambiguous; -1: the gallery's calibration, else the "
        "bundle's",
        low=-1,
        high=2,
        live=True,
    )
    frame_history: int = option(
        16, "tote images kept for picks planned on them (1080p: 6 MB each)", low=1, high=256
    )

    def __post_init__(self) -> None:
        """Check every field."""
        check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class DefectConfig:
    """When a pick is called defective."""

    multi_pick_min: float = option(
        -1.0,
        "probability from which a pick is a multi_pick; -1: the bundle's",
        low=-1,
        high=0.999,
        live=True,
    )
    package_defect_min: float = option(
        -1.0,
        "probability from which a pick is a package_defect; -1: the bundle's",
        low=-1,
        high=0.999,
        live=True,
    )
    min_views: int = option(
        1, "fewer judged views than this never make a nominal", low=1, high=16, live=True
    )

    def __post_init__(self) -> None:
        """Check every field."""
        check(self)


NODE_SETTINGS: dict[str, tuple[type, ...]] = {
    "segmentation_node": (NodeConfig, RuntimeConfig, SegmentationConfig),
    "identification_node": (NodeConfig, RuntimeConfig, PickConfig, IdentificationConfig),
    "defect_node": (NodeConfig, RuntimeConfig, PickConfig, DefectConfig),
}


def view_topics(config: PickConfig) -> dict[str, str]:
    """View name -> image topic, in the order of the setting.

    Raises:
        ConfigError: for an empty or repeated name.
    """
    topics: dict[str, str] = {}
    for entry in config.views:
        if not entry:  # how the nodes hold an empty list, for which ROS has no type
            continue
        name, _, topic = entry.partition("=")
        plain = name.isidentifier() and name.isascii()
        if not plain or name in topics or name == "image":  # image: the tote's, in pick_desk
            raise ConfigError(
                f"views: {entry!r} has the name {name!r}; "
                "want letters, digits and _, each name once, not image",
                fix="for example views: ['on_arm_low', 'tote_wall=/camera2/image_raw']",
            )
        topics[name] = topic or f"views/{name}/image"
    return topics


def view_regions(config: PickConfig) -> dict[str, tuple[int, int, int, int]]:
    """View name -> (x, y, width, height), px, for the views that have one.

    Raises:
        ConfigError: for a region of an unknown view or one that is not four whole numbers.
    """
    known = view_topics(config)
    regions: dict[str, tuple[int, int, int, int]] = {}
    for entry in config.view_rois:
        name, _, text = entry.partition("=")
        if not entry:  # how the nodes hold an empty list, for which ROS has no type
            continue
        parts = [p.strip() for p in text.split(",")]
        if name not in known or len(parts) != 4 or not all(map(_whole, parts)):
            raise ConfigError(
                f"view_rois: {entry!r}, want NAME=X,Y,WIDTH,HEIGHT with one of the views "
                f"{', '.join(known) or '(none)'}",
                fix="for example view_rois: ['on_arm_low=100,50,400,400']",
            )
        x, y, w, h = (int(p) for p in parts)
        if w == 0 or h == 0:
            raise ConfigError(f"view_rois: {entry!r} is empty", fix="give width and height > 0")
        if name in regions:
            raise ConfigError(f"view_rois: {name!r} has two regions", fix="keep one of the two")
        regions[name] = (x, y, w, h)
    return regions


def _whole(text: str) -> bool:
    return text.isascii() and text.isdigit()  # isdigit alone takes a superscript two, int doesn't
