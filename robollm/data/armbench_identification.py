"""ARMBench's identification folders: picks, reference images and the split.

Layout: `armbench-object-id-0.1/Picks/PICK/{VIEW.jpg, container.json, annotation.json}`,
`Reference_Images/PRODUCT/{1..6}.jpg` and `train-test-split.pickle`. ARMBench has no validation
split: ours counts as training in the pickle and is named in `validation.json` beside it.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from robollm.core.errors import ConfigError
from robollm.data.armbench_files import VIEWS, read_object, write_bytes, write_json
from robollm.data.plain_pickle import read_plain
from robollm.data.problems import Problems

ROOT = "armbench-object-id-0.1"
SPLIT_FILE = "train-test-split.pickle"
SPLIT_KEYS = ("trainset", "testset", "trainset-objects", "testset-objects")
VALIDATION_FILE = "validation.json"
TITLES = ("title", "item_name", "product_name", "product_title", "name", "description")
"""Keys that hold a title in a container's entry, best first; capitals don't matter."""


@dataclass(frozen=True, slots=True)
class Pick:
    """One pick as it is on disk.

    `truth`: its Product-ID; `manifest`: the Product-IDs of its container; `views`: the pictures
    that are there, by name without suffix; `titles`: what the container's list calls its products.
    """

    id: str
    truth: str
    manifest: tuple[str, ...]
    views: Mapping[str, Path]
    titles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Split:
    """Who learns and who is tested, by product; picks follow their true product.

    Attributes:
        products: "train", "val" and "test" -> Product-IDs, sorted.
        picks: "train" (with those of validation) and "test" -> Pick-IDs as in the pickle.

    Raises:
        ConfigError: if a product is in two of the three.
    """

    products: Mapping[str, tuple[str, ...]]
    picks: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            both = sorted(set(self.products[one]) & set(self.products[other]))
            if both:
                raise ConfigError(
                    f"{len(both)} products are in {one} and in {other}, first: {both[0]}; want "
                    "none, or the score is of products that were learned",
                    fix=f"correct {VALIDATION_FILE} and {SPLIT_FILE}",
                )


def write_pick(
    root: Path,
    pick: str,
    pictures: Mapping[str, bytes],
    container: Mapping[str, Mapping[str, Any]],
    annotation: Mapping[str, Any],
) -> None:
    """Write one pick's folder.

    Args:
        root: the folder `ROOT`.
        pick: Pick-ID.
        pictures: name of `VIEWS` -> JPEG.
        container: Product-ID -> what is known of the product.
        annotation: `GT_ID`, and per picture its polygons.
    """
    folder = root / "Picks" / pick
    for name, packed in pictures.items():
        write_bytes(folder / f"{name}.jpg", packed)
    write_json(folder / "container.json", container)
    write_json(folder / "annotation.json", annotation)


def write_references(root: Path, product: str, pictures: Sequence[bytes]) -> None:
    """Write a product's reference images (JPEG), numbered from 1."""
    for number, packed in enumerate(pictures, start=1):
        write_bytes(root / "Reference_Images" / product / f"{number}.jpg", packed)


def write_split(
    root: Path,
    picks: Mapping[str, Sequence[str]],
    products: Mapping[str, Sequence[str]],
) -> None:
    """Write the pickle, and who is in the validation split.

    Args:
        root: the folder `ROOT`.
        picks: "train", "val" and "test" -> Pick-IDs.
        products: the same -> Product-IDs.
    """
    lists = (
        [*picks["train"], *picks["val"]],
        picks["test"],
        [*products["train"], *products["val"]],
        products["test"],
    )
    # Pickle refers back to an object it has seen; fresh strings make its bytes depend on values.
    split = {
        key: ["".join(list(one)) for one in ids] for key, ids in zip(SPLIT_KEYS, lists, strict=True)
    }
    write_bytes(root / SPLIT_FILE, pickle.dumps(split, protocol=2))
    write_json(
        root / VALIDATION_FILE, {"picks": list(picks["val"]), "objects": list(products["val"])}
    )


def read_split(root: Path) -> dict[str, list[str]]:
    """Read `train-test-split.pickle` without running what may be in it.

    Returns:
        `SPLIT_KEYS` -> ids; those of a list or tuple in its order, of a set or dict sorted.

    Raises:
        ConfigError: if it is missing, no pickle, holds more than plain values, or lacks a key.
    """
    path = root / SPLIT_FILE
    value = read_plain(path)
    missing = [k for k in SPLIT_KEYS if not isinstance(value, dict) or k not in value]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}", fix="fetch it again")
    return {key: _ids(path, key, value[key]) for key in SPLIT_KEYS}


def _ids(path: Path, key: str, value: Any) -> list[str]:
    if not isinstance(value, (list, tuple, set, frozenset, dict)):
        raise ConfigError(
            f"{path}: {key} is a {type(value).__name__}, want a list or set of ids",
            fix="fetch it again",
        )
    ids = [str(one) for one in value]
    return ids if isinstance(value, (list, tuple)) else sorted(ids)


def find_root(folder: Path) -> Path:
    """The folder `ROOT`, given it or the one around it.

    Raises:
        ConfigError: if neither holds a split file.
    """
    for one in (folder / ROOT, folder):
        if (one / SPLIT_FILE).is_file():
            return one
    raise ConfigError(
        f"no {SPLIT_FILE} in {folder} nor in {folder / ROOT}",
        fix="give the folder with ARMBench's identification data",
    )


def split_products(root: Path, problems: Problems, share: float = 0.1, seed: int = 0) -> Split:
    """Split by product: `VALIDATION_FILE` if there is one, else a share of the training products.

    Args:
        root: the folder `ROOT`.
        problems: gets products that ARMBench's own split trains on and tests: they only test.
        share: of the training products that validate, at least one; without `VALIDATION_FILE`.
        seed: of the draw; the same products come out every time and everywhere.

    Raises:
        ConfigError: if a file is damaged, or a validation product is not a training product.
    """
    lists = read_split(root)
    test = set(lists["testset-objects"])
    learn = set(lists["trainset-objects"])
    for one in sorted(learn & test):
        problems.note(
            "product_in_train_and_test",
            root / SPLIT_FILE,
            f"product {one} is in trainset-objects and in testset-objects",
            "left out of training",
        )
    learn -= test
    path = root / VALIDATION_FILE
    if path.is_file():
        named = read_object(path).get("objects")
        if not isinstance(named, list):
            raise ConfigError(f"{path} has no list 'objects'", fix="remove it, or write it again")
        val = {str(one) for one in named}
        strange = sorted(val - learn)
        if strange:
            raise ConfigError(
                f"{path} names {len(strange)} products that are not training products, "
                f"first: {strange[0]}",
                fix="remove it, or write it again",
            )
    else:
        if not 0 < share < 1:
            raise ConfigError(f"validation share is {share}, want 0 to 1", fix="try 0.1")
        order = np.random.default_rng([seed, 1]).permutation(sorted(learn)).tolist()
        val = set(order[: max(1, round(share * len(order)))])
    products = {"train": learn - val, "val": val, "test": test}
    return Split(
        {name: tuple(sorted(ids)) for name, ids in products.items()},
        {"train": tuple(lists["trainset"]), "test": tuple(lists["testset"])},
    )


def title(entry: Any) -> str:
    """What a container's entry calls its product: see `TITLES`, else its longest text.

    ARMBench doesn't say how the keys inside an entry are named. A text without a letter, a weight
    for example, is no title.
    """
    if isinstance(entry, str):
        return entry
    if not isinstance(entry, dict):
        return ""
    texts = {
        str(k).lower(): v
        for k, v in entry.items()
        if isinstance(v, str) and any(c.isalpha() for c in v)
    }
    known = next((texts[k] for k in TITLES if k in texts), "")
    return known or max(texts.values(), key=len, default="")


def read_pick(root: Path, pick: str) -> Pick:
    """Read one pick.

    Raises:
        ConfigError: if its JSON files are missing or `GT_ID` is.
    """
    return _with_container(root, pick, _truth(root, pick))


def _truth(root: Path, pick: str) -> str:
    file = root / "Picks" / pick / "annotation.json"
    annotation = read_object(file)
    truth = annotation.get("GT_ID")
    if not isinstance(truth, str):
        raise ConfigError(
            f"{file} has the keys {sorted(annotation)}, want GT_ID", fix="fetch it again"
        )
    return sys.intern(truth)  # ids come in thousands of containers


def _with_container(root: Path, pick: str, truth: str) -> Pick:
    container = read_object(root / "Picks" / pick / "container.json")
    titles = {sys.intern(product): title(entry) for product, entry in container.items()}
    return Pick(pick, truth, tuple(titles), _views(root, pick), titles)


def _views(root: Path, pick: str) -> dict[str, Path]:
    files = {name: root / "Picks" / pick / f"{name}.jpg" for name in VIEWS}
    return {name: file for name, file in files.items() if file.is_file()}


def read_truth_or_note(root: Path, pick: str, problems: Problems) -> str | None:
    """The true product of a pick; None, and noted, if it isn't known.

    Kinds: `missing_pick` (ARMBench's pickle names picks without a folder), `unreadable_pick`.
    """
    folder = root / "Picks" / pick
    if not (folder / "annotation.json").is_file():
        problems.note("missing_pick", folder, "no annotation.json")
        return None
    try:
        return _truth(root, pick)
    except ConfigError as e:
        problems.note("unreadable_pick", folder / "annotation.json", e.what)
        return None


def read_pick_or_note(root: Path, pick: str, truth: str, problems: Problems) -> Pick:
    """The rest of a pick whose true product is known; what is wrong goes to `problems`.

    Kinds: `unreadable_container` (kept, with an empty manifest), `truth_not_in_manifest` (kept).
    """
    file = root / "Picks" / pick / "container.json"
    try:
        found = _with_container(root, pick, truth)
    except ConfigError as e:
        what = "kept, with an empty manifest"
        problems.note("unreadable_container", file, e.what, what)
        return Pick(pick, truth, (), _views(root, pick))
    if truth not in found.titles:
        problems.note(
            "truth_not_in_manifest",
            file,
            f"GT_ID {truth} is not among {len(found.manifest)} products",
            "kept; never right within its container",
        )
    return found


def polygons(root: Path, pick: str, view: str) -> list[list[float]]:
    """The outline of the picked object in one view.

    Returns:
        Polygons as (x0, y0, x1, y1, ...), px of that picture; empty if there is none.

    Raises:
        ConfigError: if the annotation is not readable.
    """
    annotation = read_object(root / "Picks" / pick / "annotation.json")
    inner = annotation.get("segmentation")
    found = inner.get(view) if isinstance(inner, dict) else annotation.get(view)
    good = []
    for one in found if isinstance(found, list) else []:
        try:
            flat = np.asarray(one, np.float64).ravel()
        except (TypeError, ValueError):
            continue
        if flat.size >= 6 and flat.size % 2 == 0 and np.isfinite(flat).all():
            good.append([float(v) for v in flat])
    return good


def read_picks(root: Path, ids: Sequence[str]) -> Iterator[Pick]:
    """Read the picks whose folders are there; ARMBench's pickle names some that aren't."""
    for one in ids:
        if (root / "Picks" / one / "annotation.json").is_file():
            yield read_pick(root, one)


def references(root: Path, product: str) -> list[Path]:
    """The reference images of a product; none is possible."""
    folder = root / "Reference_Images" / product
    return sorted(folder.glob("*.jpg")) if folder.is_dir() else []


def referenced_products(root: Path) -> set[str]:
    """Every Product-ID that has a folder of reference images."""
    folder = root / "Reference_Images"
    return {p.name for p in folder.iterdir() if p.is_dir()} if folder.is_dir() else set()
