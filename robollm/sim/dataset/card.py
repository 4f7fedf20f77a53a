"""The dataset card: what is in a dataset, counted from its jobs' records."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from robollm.sim.dataset.plan import DatasetSettings, Job, identity, product_counts
from robollm.sim.products import catalogue
from robollm.sim.products.fonts import fonts_used
from robollm.sim.world import Product, Split

SIDES_PX = (8, 16, 32, 64, 96, 128, 192, 256, 384)
"""Upper ends of the size histogram's bins: the square root of an instance's visible area."""
_SHEET_POOL = 50_000  # pictures remembered per sheet, of which 20 are shown

NOTES = {
    "reproducible": "the same settings, version of robollm and fonts give the same labels, poses "
    "and, on one machine, the same bytes; between machines a picture may differ by rounding "
    "in OpenGL and JPEG",
    "masks": "SPLIT-rle.json holds each mask as the renderer's instance ids, pixel for pixel; "
    "the polygons of SPLIT.json run along the pixels' edges and are cut open at holes, so that "
    "pycocotools draws the same pixels: the loss is 0 at the picture's own size",
    "instances": "boxes and areas are those of the visible mask; visibility is visible pixels / "
    "pixels that the thing would cover alone; amodal_bbox is its box [x, y, width, height] then, "
    "within the picture; slivers under 12 px are no instances, and counted as left out",
    "tote": "the Tote instance is what one sees of the tote itself, without what lies in it",
    "identification": "nominal and damaged picks; a multi-pick has no single right answer",
    "defect_labels": "per image, by what it shows: multi_pick where at least 1.5 % of the held "
    "pixels (and 40 px) are the second product's; package_defect where at least 0.5 % (and 25 px) "
    "would look or lie otherwise were the package shut; else nominal. truth.jsonl has the state",
    "validation": "ARMBench has no validation split for picks; ours is part of the training lists "
    "and named in validation.json and val.csv",
    "multipacks": "a product of two or three units in film or a band; nominal when it is held, and "
    "never broken",
    "rest": "no two things in a tote overlap by more than 2 mm, and everything stays within 1.5 mm "
    "for half a second without help",
    "transfer": "zoomed-out totes, camera heights, fields of view and lights are in no other set",
}


class Tally:
    """Counts records one by one, and remembers which pictures the contact sheets may show."""

    def __init__(self, settings: DatasetSettings) -> None:
        self.settings = settings
        self.totes: dict[str, list[str]] = {}  # subset -> file names
        self.picks: dict[str, list[str]] = {}  # event -> ids
        self.products: list[str] = []
        self._images: Counter[str] = Counter()
        self._annotations: Counter[str] = Counter()
        self._items: dict[str, Counter[int]] = {}
        self._visible: Counter[int] = Counter()
        self._sides: Counter[int] = Counter()
        self._left_out = 0
        self._skipped: Counter[str] = Counter()
        self._short = 0
        self._picks: Counter[str] = Counter()
        self._labels: Counter[str] = Counter()
        self._videos: Counter[str] = Counter()
        self._views: Counter[str] = Counter()
        self._manifests: Counter[int] = Counter()

    def add(self, job: Job, record: Mapping[str, Any]) -> None:
        """Count one job."""
        if "skipped" in record:
            self._skipped[job.kind] += 1
        elif job.kind == "tote":
            self._tote(job, record)
        elif job.kind == "pick":
            self._pick(job, record)
        else:
            _remember(self.products, record["id"])

    def _tote(self, job: Job, record: Mapping[str, Any]) -> None:
        where = f"{job.subset}/{job.split}"
        self._short += record.get("placed", 0) < record.get("wanted", 0)
        for image in record["images"]:
            _remember(self.totes.setdefault(job.subset, []), image["file_name"])
            self._images[where] += 1
            self._annotations[where] += len(image["annotations"])
            self._left_out += image.get("left_out", 0)
            objects = [a for a in image["annotations"] if "visibility" in a]
            self._items.setdefault(job.subset, Counter())[len(objects)] += 1
            for one in objects:
                self._visible[min(int(one["visibility"] * 10), 9)] += 1
                side = math.sqrt(one["area"])
                self._sides[sum(side >= s for s in SIDES_PX)] += 1

    def _pick(self, job: Job, record: Mapping[str, Any]) -> None:
        self._picks[f"{job.split}/{record['event']}"] += 1
        _remember(self.picks.setdefault(record["event"], []), record["id"])
        self._labels.update(f"{job.split}/{label}" for label in record.get("labels", ()))
        self._views.update(record.get("views", ()))
        if record.get("video"):
            self._videos[f"{job.split}/{record['video']}"] += 1
        if record.get("identification"):
            self._manifests[min(int(record["manifest"]) // 10, 10)] += 1

    def card(self) -> dict[str, Any]:
        """What the card says."""
        sides = ("0", *map(str, SIDES_PX), "")
        return {
            **identity(self.settings, fonts_used()),
            "catalogue_version": catalogue.VERSION,
            "command": command(self.settings),
            "jobs_skipped": _sorted(self._skipped),
            "segmentation": {
                "images": _sorted(self._images),
                "annotations": _sorted(self._annotations),
                "objects_per_image": {
                    k: {str(n): c for n, c in sorted(v.items())}
                    for k, v in sorted(self._items.items())
                },
                "visibility": {f"{n / 10:.1f}-{(n + 1) / 10:.1f}": self._visible[n]
                               for n in range(10)},
                "side_px": {f"{sides[n]}-{sides[n + 1]}": self._sides[n]
                            for n in range(len(SIDES_PX) + 1)},
                "slivers_left_out": self._left_out,
                "drops_with_fewer_items_than_wanted": self._short,
            },
            "picks": {
                "events": _sorted(self._picks),
                "defect_image_labels": _sorted(self._labels),
                "videos": _sorted(self._videos),
                "views": _sorted(self._views),
                "manifest_size": {f"{n * 10}-{n * 10 + 9}" if n < 10 else "100": c
                                  for n, c in sorted(self._manifests.items())},
            },
            "catalogue": {s: summary(p) for s, p in catalogues(self.settings).items()},
            "notes": NOTES,
        }  # fmt: skip


def summary(products: tuple[Product, ...]) -> dict[str, Any]:
    """Count a catalogue's kinds and families."""
    families = Counter(p.family for p in products)
    return {
        "products": len(products),
        "families": len(families),
        "in_families_of_two_or_more": sum(n for n in families.values() if n > 1),
        "largest_family": max(families.values(), default=0),
        "brands": len({p.brand for p in products}),
        "kinds": _sorted(Counter(p.kind for p in products)),
    }


def command(settings: DatasetSettings) -> str:
    """The command that makes this dataset again."""
    words = ["robollm sim dataset --out D"]
    for name, value in identity(settings, {})["settings"].items():
        flag = f"--{name.replace('_', '-')}"
        words += [f"{flag} {v}" for v in (value if isinstance(value, list) else [value])]
    return " ".join(words)


def catalogues(settings: DatasetSettings) -> dict[Split, tuple[Product, ...]]:
    """The products of each split that has any."""
    return {
        split: catalogue.make_catalogue(settings.seed, n, split)
        for split, n in product_counts(settings).items()
        if n
    }


def _remember(pool: list[str], name: str) -> None:
    if len(pool) < _SHEET_POOL:
        pool.append(name)


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))
