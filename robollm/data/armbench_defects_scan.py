"""ARMBench's defect images as training and evaluation read them: splits, and what is unusable.

Nothing here stops at a bad file: it is skipped, named and counted. Contradictions between the lists
do stop, and boxes of two forms.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError, FrameError
from robollm.data.armbench_defect_boxes import Annotated, form_of, outlines
from robollm.data.armbench_defects import LABELS, NOMINAL, Image, read_list
from robollm.data.armbench_files import read_object
from robollm.data.images import image_size
from robollm.data.problems import Problems

SPLITS = ("train", "val", "test")
PRODUCT_KEYS = ("product_id", "product", "GT_ID")
"""Of an image's annotation, where its product may be named."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """An image that is read but for its box."""

    induct: str
    path: Path
    label: str
    product: str
    annotated: Annotated

    def finished(self, form: str | None, problems: Problems) -> Image | None:
        """The image, `form`: of boxes, None: they don't matter. None, and a problem: a bad box."""
        box, used = None, ""
        if form is not None:
            try:
                box, used = self.annotated.held(form, problems)
            except FrameError as e:
                problems.note(e.kind, self.annotated.file, e.what)
                return None
        return Image(self.induct, self.path, self.label, box, self.product, used)


def _read_one(induct: str, file: Path, problems: Problems) -> _Draft | None:
    """Read an annotation and the head of its image; None, and a problem, if it can't be used."""
    try:
        annotation = json.loads(file.read_bytes())
    except (OSError, ValueError) as e:
        line = getattr(e, "lineno", 1)
        problems.note("bad_json", f"{file}:{line}", f"not readable JSON: {e}")
        return None
    if not isinstance(annotation, dict) or not annotation.get("label"):
        problems.note("no_label", file, f"no label in {str(annotation)[:80]}")
        return None
    label = str(annotation["label"])
    if label not in LABELS:
        problems.note("unknown_label", file, f"label {label!r}, want one of {', '.join(LABELS)}")
        return None
    path = file.with_suffix(".jpg")
    try:
        annotated = Annotated(file, annotation, image_size(path))
    except FrameError as e:
        problems.note(e.kind, file, e.what)
        return None
    product = next((str(annotation[k]) for k in PRODUCT_KEYS if annotation.get(k)), "")
    return _Draft(induct, path, label, product, annotated)


def scan_images(
    root: Path, inducts: Sequence[str], problems: Problems, *, boxes: bool = True
) -> dict[str, list[Image]]:
    """Read the images of inducts; what can't be used is skipped and noted.

    Args:
        root: the folder `IMAGE_ROOT`.
        inducts: their ids.
        problems: gets `missing_induct`, `empty_induct`, `bad_json` (with its line), `no_label`,
            `unknown_label`, `no_annotation`, `bad_box`, `clipped_box`, `box_of_polygons`, `no_box`,
            `box_form`, and what `robollm.data.images.image_size` finds. Instead of a box that is no
            box, or has no pixel of the image, that of the polygons is taken; without any the image
            is skipped.
        boxes: whether they matter; False: every image is to be looked at whole.

    Returns:
        Induct -> images in order of time; inducts without any are left out. Boxes lie within
        their image.

    Raises:
        ConfigError: if boxes are written in two ways, see `armbench_defect_boxes`.
    """
    drafts = {induct: _drafts(root, induct, problems) for induct in inducts}
    form = None
    if boxes:
        every = [one.annotated for some in drafts.values() for one in some or ()]
        form = form_of(every, root, problems)
    found: dict[str, list[Image]] = {}
    for induct, some in drafts.items():
        if some is None:
            continue
        images = [image for one in some if (image := one.finished(form, problems)) is not None]
        if images:
            found[induct] = images
        else:
            what = f"no usable image in {root / 'data' / induct}"
            problems.note("empty_induct", f"induct {induct}", what)
    return found


def _drafts(root: Path, induct: str, problems: Problems) -> list[_Draft] | None:
    """The images of an induct, in order of time; None: it has no folder."""
    folder = root / "data" / induct
    if not folder.is_dir():
        problems.note("missing_induct", f"induct {induct}", f"there is no {folder}")
        return None
    stems = {p.stem for p in folder.iterdir() if p.suffix in (".json", ".jpg")}
    out = []
    for stem in sorted(stems, key=lambda name: (len(name), name)):
        file = folder / f"{stem}.json"
        if not file.is_file():
            problems.note("no_annotation", file.with_suffix(".jpg"), f"there is no {file.name}")
        elif one := _read_one(induct, file, problems):
            out.append(one)
    return out


def read_mask(image: Image, hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Draw the outlines of what is held, all of them together.

    Args:
        image: its annotation is read again; outlines of a whole dataset fill gigabytes.
        hw: height and width of the image, px.

    Returns:
        (H, W) bool.

    Raises:
        FrameError: of kind `no_polygon`, if there is none, or the annotation can't be read.
    """
    file = image.path.with_suffix(".json")
    try:
        rings = outlines(read_object(file).get("polygons"))
    except ConfigError as e:
        raise FrameError(e.what, kind="no_polygon", fix=e.fix) from e
    if not rings:
        raise FrameError(
            f"{file} has no polygon of 3 points or more", kind="no_polygon", fix="crop by box"
        )
    mask = np.zeros(hw, np.uint8)
    for ring in rings:  # one by one: together OpenCV would leave out what two of them share
        cv2.fillPoly(mask, [np.rint(np.reshape(ring, (-1, 1, 2))).astype(np.int32)], 1)
    return mask.astype(bool)


def worst(labels: Sequence[str]) -> str:
    """The label of an induct: a defect if any image has one; the more frequent of two.

    A tie goes to the first in `LABELS`.
    """
    count = Counter(label for label in labels if label != NOMINAL)
    return max(count, key=lambda label: (count[label], -LABELS.index(label)), default=NOMINAL)


def read_split(root: Path, split: str, problems: Problems) -> tuple[list[str], bool]:
    """Read the inducts of a split.

    Args:
        root: the folder `IMAGE_ROOT`.
        split: "train", "val" or "test".
        problems: gets `repeated_induct`.

    Returns:
        The inducts, and whether they are the final ones: without a `val.csv`, "train" and "val"
        are both all of `train.csv`, still to be split (`split_inducts`).

    Raises:
        ConfigError: if a list is missing, or an induct is in two splits.
    """
    if split not in SPLITS:
        raise ConfigError(f"split is {split!r}, want one of {', '.join(SPLITS)}")
    lists: dict[str, list[str]] = {}
    for name in SPLITS:
        file = root / f"{name}.csv"
        if name != "val" or file.is_file():
            ids = read_list(file)
            lists[name] = list(dict.fromkeys(ids))
            for one in sorted(k for k, n in Counter(ids).items() if n > 1):
                problems.note("repeated_induct", file, f"{one} is listed twice", "read once")
    tested = set(lists["test"])
    for name in ("val", "train"):  # those of val.csv are in train.csv, too
        both = [one for one in lists.get(name, ()) if one in tested]
        if both:
            raise ConfigError(
                f"induct {both[0]} is in {name}.csv and in test.csv of {root}"
                + (f", and {len(both) - 1} more" if both[1:] else ""),
                fix="an induct belongs to one split: remove it from one of the files",
            )
    if "val" not in lists:
        return (lists["test"], True) if split == "test" else (lists["train"], False)
    kept = set(lists["val"])
    lists["train"] = [one for one in lists["train"] if one not in kept]
    return lists[split], True


def _place(induct: str, seed: int) -> float:
    """A number in [0, 1) that belongs to an induct, whatever others there are."""
    digest = hashlib.sha256(f"{seed}:{induct}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_inducts(
    labels: Mapping[str, str], share: float, seed: int
) -> tuple[list[str], list[str]]:
    """Split inducts into training and validation.

    Each induct is decided by its own id and the seed alone, so nobody moves when others come or
    go: what a model was trained on doesn't get into the validation of a repaired folder. The price
    is that the sizes are only about right. One exception: where this leaves validation (or
    training) without any induct of a label that has two or more, it gets the nearest one, and that
    one does depend on the others.

    Args:
        labels: induct -> its `worst` label.
        share: of validation, 0 to 1.
        seed: of the choice, which doesn't depend on the order of `labels`.
    """
    places = {one: _place(one, seed) for one in labels}
    chosen = {one for one, place in places.items() if place < share}
    for label in LABELS:
        ids = sorted((one for one in labels if labels[one] == label), key=lambda one: places[one])
        if len(ids) > 1:
            chosen.add(ids[0])
            chosen.discard(ids[-1])
    return [i for i in labels if i not in chosen], [i for i in labels if i in chosen]


def read_products(file: Path, problems: Problems) -> dict[str, str]:
    """Read induct -> Product-ID from our simulator's `truth.jsonl`; none if there is no file.

    Args:
        file: lines of JSON with `id` and `product_id`.
        problems: gets `bad_json`, with the line.
    """
    products: dict[str, str] = {}
    if not file.is_file():
        return products
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
            except ValueError as e:
                problems.note("bad_json", f"{file}:{number}", f"not readable JSON: {e}")
                continue
            if isinstance(row, dict) and row.get("id") and row.get("product_id"):
                products[str(row["id"])] = str(row["product_id"])
    return products
