"""ARMBench's identification folders: picks, reference images and the split.

Layout: `armbench-object-id-0.1/Picks/PICK/{VIEW.jpg, container.json, annotation.json}`,
`Reference_Images/PRODUCT/{1..6}.jpg` and `train-test-split.pickle`. ARMBench has no validation
split: ours counts as training in the pickle and is named in `validation.json` beside it.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from robollm.core.errors import ConfigError
from robollm.data.armbench_files import VIEWS, read_object, write_bytes, write_json
from robollm.data.problems import Problems

ROOT = "armbench-object-id-0.1"
SPLIT_FILE = "train-test-split.pickle"
SPLIT_KEYS = ("trainset", "testset", "trainset-objects", "testset-objects")
VALIDATION_FILE = "validation.json"


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


class _Plain(pickle.Unpickler):
    """Builds containers, strings and numbers; a pickle that wants to call something is refused."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise ConfigError(
            f"the split file wants to load {module}.{name}; only lists of ids belong there",
            fix="fetch the file again, from a source that you trust",
        )


def read_split(root: Path) -> dict[str, list[str]]:
    """Read `train-test-split.pickle` without running what may be in it.

    Raises:
        ConfigError: if it is missing, no pickle, holds more than plain values, or lacks a key.
    """
    path = root / SPLIT_FILE
    try:
        value = _Plain(io.BytesIO(path.read_bytes())).load()
    except (OSError, EOFError, ValueError, IndexError, pickle.UnpicklingError) as e:
        raise ConfigError(f"{path} is not readable: {e}", fix="fetch it again") from e
    missing = [k for k in SPLIT_KEYS if not isinstance(value, dict) or k not in value]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}", fix="fetch it again")
    return {key: [str(one) for one in value[key]] for key in SPLIT_KEYS}


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
    """What a container's entry calls its product: `title`, else `description`, else any text.

    ARMBench doesn't say how the keys inside an entry are named.
    """
    if isinstance(entry, str):
        return entry
    if not isinstance(entry, dict):
        return ""
    texts = {k: v for k, v in entry.items() if isinstance(v, str) and v}
    return next((texts[k] for k in ("title", "name", "description", *texts) if k in texts), "")


def read_pick(root: Path, pick: str) -> Pick:
    """Read one pick.

    Raises:
        ConfigError: if its JSON files are missing or `GT_ID` is.
    """
    folder = root / "Picks" / pick
    annotation = read_object(folder / "annotation.json")
    if not isinstance(annotation.get("GT_ID"), str):
        raise ConfigError(
            f"{folder / 'annotation.json'} has the keys {sorted(annotation)}, want GT_ID",
            fix="fetch it again",
        )
    views = {n: folder / f"{n}.jpg" for n in VIEWS if (folder / f"{n}.jpg").is_file()}
    container = read_object(folder / "container.json")
    titles = {product: title(entry) for product, entry in container.items()}
    return Pick(pick, annotation["GT_ID"], tuple(container), views, titles)


def read_pick_or_note(root: Path, pick: str, problems: Problems) -> Pick | None:
    """Read one pick of a folder that may be damaged; what is wrong goes to `problems`.

    Kinds: `missing_pick` (ARMBench's pickle names picks without a folder), `unreadable_pick`,
    `unreadable_container` (kept, with an empty manifest), `truth_not_in_manifest` (kept).

    Returns:
        None if the true product isn't known.
    """
    folder = root / "Picks" / pick
    if not (folder / "annotation.json").is_file():
        problems.note("missing_pick", folder, "no annotation.json")
        return None
    try:
        found = read_pick(root, pick)
    except ConfigError as e:
        try:
            truth = read_object(folder / "annotation.json").get("GT_ID")
        except ConfigError:
            truth = None
        if not isinstance(truth, str):
            problems.note("unreadable_pick", folder / "annotation.json", e.what)
            return None
        what = "kept, with an empty manifest"
        problems.note("unreadable_container", folder / "container.json", e.what, what)
        views = {n: folder / f"{n}.jpg" for n in VIEWS if (folder / f"{n}.jpg").is_file()}
        return Pick(pick, truth, (), views)
    if found.truth not in found.manifest:
        problems.note(
            "truth_not_in_manifest",
            folder / "container.json",
            f"GT_ID {found.truth} is not among {len(found.manifest)} products",
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
