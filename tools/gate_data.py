"""Choose the regression gate's fixed test set out of a simulated dataset, small enough to commit.

`python tools/gate_data.py --data DATASET --out gate/data` takes a part of the *test* split, evenly
over what makes a sample hard, makes its pictures smaller, and writes ARMBench's three folders that
`robollm eval armbench` reads. The same dataset, options and OpenCV give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from gate_choice import dealt, distinct_first, shares, shuffled
from gate_words import readme
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from robollm.core.errors import ConfigError, RobollmError
from robollm.data import armbench_defects as defects
from robollm.data import armbench_identification as picks
from robollm.data import armbench_segmentation as totes
from robollm.data.armbench_defects_scan import scan_images, worst
from robollm.data.armbench_files import read_object, write_bytes, write_json
from robollm.data.armbench_instances import ImageRecord, Instance, read_instances
from robollm.data.armbench_picks import split_picks
from robollm.data.images import read_image
from robollm.data.jpeg import encode
from robollm.data.problems import Problems
from robollm.metrics.rle import exact_rle

CARD, TRUTH = "card.json", "truth.jsonl"
ITEM_BANDS = (5, 12, 25)
"""Upper ends of the groups by objects in a tote, as in the report's table; above: one more."""
EVENTS = {"nominal": 9, defects.LABELS[0]: 5, "open": 3, "deconstruction": 3}
"""Parts of 20 of the inducts; picks have no multi-pick."""
ASKED = ("PickRGB", "ToteWallRGB", "OnArmLowRGB")
"""Views of a pick: those of the published N=3. The first shows the object alone, so it may be
smaller."""
SLIVER_PX = 12
"""Instances that shrink below this are left out, as the simulator leaves them out."""
OUTLINE_PX = 1.0  # how far a simplified outline of a held object may leave the true one
MOST_BYTES = 9_000_000
"""The accepted run takes less than 1 MB beside it, and both together shall stay below 10 MB."""


class Options(NamedTuple):
    """How much is taken, and how large it is; sides in px are never made longer."""

    seed: int = 0
    totes: int = 36
    transfer_totes: int = 12
    picks: int = 120
    inducts: int = 96
    references: int = 2
    tote_side: int = 384
    pick_side: int = 176
    view_side: int = 240
    reference_side: int = 128
    quality: int = 75


def smaller(rgb: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 with its longer side at most `side` px."""
    height, width = rgb.shape[:2]
    scale = min(1.0, side / max(height, width))
    if scale == 1.0:
        return rgb
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _pixels(one: Instance, hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool: the mask of an annotation."""
    with warnings.catch_warnings():
        # pycocotools' own array type is of before NumPy 2.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        return np.asarray(coco_mask.decode(exact_rle(one, hw)), np.bool_)


class Cut:
    """One dataset's part for the gate.

    Args:
        data: of `robollm sim dataset`, with identification, defects and segmentation.
        out: an empty or new folder.
        options: how much.
    """

    def __init__(self, data: Path, out: Path, options: Options) -> None:
        self._data, self._out, self._o = data, out, options
        self._problems = Problems()
        self.counts: dict[str, Any] = {}
        self._events: dict[str, str] = {}
        self._rows: dict[str, dict[str, Any]] = {}
        for line in (data / TRUTH).read_bytes().splitlines():
            row = json.loads(line)
            self._rows[str(row["id"])] = row
            self._events[str(row["id"])] = str(row["event"])

    def write(self) -> None:
        """Write all of it.

        Raises:
            ConfigError: if a part of the data is missing, or anything of what is taken is damaged.
        """
        for subset in totes.SUBSETS:
            some = self._o.totes if subset == totes.MIX else self._o.transfer_totes
            self.counts[subset] = self._totes(subset, some)
        chosen = self._picks()
        taken = self._inducts(chosen)
        kept = ("split", "id", "event", "product_id", "images")
        rows = [self._rows[one] for one in sorted({*chosen, *taken}) if one in self._rows]
        lines = (json.dumps({k: row[k] for k in kept if k in row}) + "\n" for row in rows)
        write_bytes(self._out / TRUTH, "".join(lines).encode())
        if set(self._problems.counts) - {"box_form"}:  # few boxes may fit both forms: no damage
            raise ConfigError(
                f"the data has problems: {'; '.join(self._problems.lines()[:5])}",
                fix="make the dataset again; a gate can't stand on damaged samples",
            )

    def _jpeg(self, path: Path, side: int) -> bytes:
        return encode(smaller(read_image(path), side), self._o.quality)

    def _totes(self, subset: str, wanted: int) -> dict[str, Any]:
        folder = self._data / totes.ROOT / subset
        records = read_instances(folder / "test-rle.json", self._problems)
        by_id = {str(record.id): record for record in records}
        scene = {one: record.scene or one for one, record in by_id.items()}
        bands: dict[str, list[str]] = {}
        for one in shuffled(by_id, self._o.seed):
            items = sum(i.category == "Object" for i in by_id[one].instances)
            band = next((f"up to {top}" for top in ITEM_BANDS if items <= top), "more")
            bands.setdefault(band, []).append(one)
        bands = {name: distinct_first(ids, scene.__getitem__) for name, ids in bands.items()}
        names = sorted(bands)
        chosen = dealt(
            {name: bands[name] for name in names}, shares(wanted, dict.fromkeys(names, 1))
        )
        out = self._out / totes.ROOT / subset
        lost = objects = 0
        with totes.SplitWriter(out, "test", {"description": "simulated, no photographs"}) as to:
            for one in sorted(chosen, key=int):
                packed, hw, rows, slivers = self._tote(by_id[one])
                write_bytes(out / "images" / by_id[one].path.name, packed)
                shared = {"drop": by_id[one].scene} if by_id[one].scene else {}
                to.add(by_id[one].path.name, hw, rows, **shared)
                lost += slivers
                objects += sum(row["category_id"] == totes.OBJECT for row in rows)
        (out / "test-rle.json").unlink()  # the polygons say the same, and bytes are scarce
        return {"images": len(chosen), "scenes": len({scene[one] for one in chosen}),
                "objects": objects, "slivers_left_out": lost}  # fmt: skip

    def _tote(self, image: ImageRecord) -> tuple[bytes, tuple[int, int], list[dict[str, Any]], int]:
        rgb = smaller(read_image(image.path), self._o.tote_side)
        hw = (rgb.shape[0], rgb.shape[1])
        labels = np.zeros(image.hw, np.uint16)
        categories = {}
        ids = {row["name"]: row["id"] for row in totes.CATEGORIES}
        for value, one in enumerate(image.instances, start=1):
            labels[_pixels(one, image.hw)] = value
            categories[value] = int(ids[one.category])
        small = cv2.resize(labels, hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        rows = totes.annotate(np.asarray(small, np.uint16), categories, {})
        kept = [row for row in rows if row["area"] >= SLIVER_PX]
        for row in kept:  # whole pixels: a third of the bytes is ".0"
            row["segmentation"] = [[int(v) for v in ring] for ring in row["segmentation"]]
        return encode(rgb, self._o.quality), hw, kept, len(categories) - len(kept)

    def _picks(self) -> list[str]:
        root = picks.find_root(self._data)
        found = {pick.id: pick for pick in split_picks(root, "test", self._problems)}
        groups: dict[str, list[str]] = {}
        for one in shuffled(found, self._o.seed):
            groups.setdefault(self._events.get(one, "nominal"), []).append(one)
        named = [event for event in EVENTS if event in groups]
        alike = {e: distinct_first(groups[e], lambda one: found[one].truth) for e in named}
        parts = shares(self._o.picks, {e: EVENTS[e] for e in named})
        chosen = dealt(alike, parts)
        out = self._out / picks.ROOT
        for one in chosen:
            pick, shown, outlines = found[one], {}, {}
            for view in ASKED:
                if view not in pick.views:
                    continue
                side = self._o.pick_side if view == ASKED[0] else self._o.view_side
                rgb = read_image(pick.views[view])
                shown[view] = encode(smaller(rgb, side), self._o.quality)
                scale = min(1.0, side / max(rgb.shape[:2]))
                rings = picks.polygons(root, one, view)
                outlines[view] = [self._outline(ring, scale) for ring in rings]
            container = {product: {"title": pick.titles[product]} for product in pick.manifest}
            annotation = {"GT_ID": pick.truth, "segmentation": outlines}
            picks.write_pick(out, one, shown, container, annotation)
        listed = sorted({p for one in chosen for p in (*found[one].manifest, found[one].truth)})
        images = 0
        for product in listed:
            files = picks.references(root, product)
            some = np.linspace(0, len(files) - 1, min(self._o.references, len(files)))
            spread = [files[round(i)] for i in some.tolist()]
            images += len(spread)
            packed = [self._jpeg(file, self._o.reference_side) for file in spread]
            picks.write_references(out, product, packed)
        none: dict[str, list[str]] = {"train": [], "val": []}
        picks.write_split(out, none | {"test": sorted(chosen)}, none | {"test": listed})
        self.counts[picks.ROOT] = {
            "picks": len(chosen), "true products": len({found[one].truth for one in chosen}),
            "products": len(listed), "reference images": images,
            "with all three views": sum(set(ASKED) <= set(found[one].views) for one in chosen),
            **{f"event {e}": sum(self._events.get(one) == e for one in chosen) for e in named},
        }  # fmt: skip
        return chosen

    def _outline(self, ring: Sequence[float], scale: float) -> list[float]:
        """An outline of fewer points, on the smaller picture."""
        points = np.reshape(np.asarray(ring, np.float32) * scale, (-1, 1, 2))
        simple = cv2.approxPolyDP(points, OUTLINE_PX, closed=True)
        kept = simple if len(simple) >= 3 else points
        return [round(float(v), 1) for v in kept.ravel()]

    def _inducts(self, chosen: Sequence[str]) -> list[str]:
        """Inducts of the chosen picks come first: equal pictures are stored once by git."""
        root = self._data / defects.IMAGE_ROOT
        found = scan_images(root, defects.read_list(root / "test.csv"), self._problems)
        groups: dict[str, list[str]] = {event: [] for event in EVENTS}
        first = set(chosen)
        for one in sorted(shuffled(found, self._o.seed), key=lambda one: one not in first):
            event = self._events.get(one, worst([image.label for image in found[one]]))
            groups.setdefault(event, []).append(one)
        taken = dealt(groups, shares(self._o.inducts, EVENTS))
        labels: Counter[str] = Counter()
        for one in taken:
            pictures = []
            for image in found[one]:
                rgb = read_image(image.path)
                scale = min(1.0, self._o.view_side / max(rgb.shape[:2]))
                box = list(image.box or (0, 0, rgb.shape[1], rgb.shape[0]))
                annotation = {
                    "label": image.label,
                    "box": [round(v * scale, 1) for v in box],
                    "view": read_object(image.path.with_suffix(".json")).get("view", ""),
                }
                packed = encode(smaller(rgb, self._o.view_side), self._o.quality)
                pictures.append((packed, annotation))
                labels[image.label] += 1
            defects.write_images(self._out / defects.IMAGE_ROOT, one, pictures)
        none: dict[str, list[str]] = {"train": [], "val": []}
        defects.write_lists(self._out / defects.IMAGE_ROOT, none | {"test": sorted(taken)})
        self.counts[defects.IMAGE_ROOT] = {
            "inducts": len(taken), "images": sum(labels.values()),
            **{f"event {e}": sum(one in groups[e] for one in taken) for e in groups},
            **{f"images of {label}": labels[label] for label in defects.LABELS},
        }  # fmt: skip
        return taken


def cut(data: Path, out: Path, options: Options, most: int = MOST_BYTES) -> dict[str, Any]:
    """Write the gate's data.

    Args:
        data: a dataset of `robollm sim dataset`.
        out: new, or made by this program before: it is replaced, whole or not at all.
        options: how much.
        most: a larger result is refused, bytes.

    Returns:
        The card, as in `card.json`.

    Raises:
        ConfigError: if the data can't be used, the result is too large, or `out` is another's.
    """
    if not all((data / name).is_file() for name in (CARD, TRUTH)):
        raise ConfigError(
            f"{data} has no {CARD} and {TRUTH}", fix="give a folder of `robollm sim dataset`"
        )
    if out.exists() and any(out.iterdir()) and "gate" not in _card(out):
        raise ConfigError(f"{out} is not empty and no gate data", fix="give another --out")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        cutter = Cut(data, part, options)
        cutter.write()
        source = _card(data)
        card = {
            "format": "robollm-dataset",
            "format_version": 1,
            "gate": {"options": options._asdict(), "counts": cutter.counts},
            "source": {k: source.get(k) for k in ("command", "robollm", "catalogue_version")},
        }
        write_json(part / CARD, card, indent=1)
        write_bytes(part / "README.md", readme(card).encode())
        size = sum(file.stat().st_size for file in part.rglob("*") if file.is_file())
        if size > most:
            raise ConfigError(
                f"the gate's data would take {size / 1e6:.1f} MB, want at most {most / 1e6:.1f}",
                fix="take fewer samples, or smaller pictures; --help lists the options",
            )
        shutil.rmtree(out, ignore_errors=True)
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return {**card, "bytes": size}


def _card(folder: Path) -> dict[str, Any]:
    return read_object(folder / CARD) if (folder / CARD).is_file() else {}


def main(argv: Sequence[str] | None = None) -> int:
    """Write it, and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="of `robollm sim dataset`")
    parser.add_argument("--out", type=Path, required=True, help="folder to write or to replace")
    for name, value in Options()._asdict().items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, metavar="N",
                            help=f"default {value}")  # fmt: skip
    args = vars(parser.parse_args(argv))
    try:
        card = cut(args.pop("data"), args.pop("out"), Options(**args))
    except RobollmError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    print(json.dumps({**card["gate"]["counts"], "bytes": card["bytes"]}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
