"""ARMBench's identification folders: picks, reference images and the split.

Layout: `armbench-object-id-0.1/Picks/PICK/{VIEW.jpg, container.json, annotation.json}`,
`Reference_Images/PRODUCT/{1..6}.jpg` and `train-test-split.pickle`. ARMBench has no validation
split: ours counts as training in the pickle and is named in `validation.json` beside it.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from robollm.core.errors import ConfigError
from robollm.data.armbench_files import VIEWS, read_object, write_bytes, write_json

ROOT = "armbench-object-id-0.1"
SPLIT_FILE = "train-test-split.pickle"
SPLIT_KEYS = ("trainset", "testset", "trainset-objects", "testset-objects")
VALIDATION_FILE = "validation.json"


@dataclass(frozen=True, slots=True)
class Pick:
    """One pick as it is on disk.

    `truth`: its Product-ID; `manifest`: the Product-IDs of its container; `views`: the pictures
    that are there, by name without suffix.
    """

    id: str
    truth: str
    manifest: tuple[str, ...]
    views: Mapping[str, Path]


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
    manifest = tuple(read_object(folder / "container.json"))
    return Pick(pick, annotation["GT_ID"], manifest, views)


def read_picks(root: Path, ids: Sequence[str]) -> Iterator[Pick]:
    """Read the picks whose folders are there; ARMBench's pickle names some that aren't."""
    for one in ids:
        if (root / "Picks" / one / "annotation.json").is_file():
            yield read_pick(root, one)


def references(root: Path, product: str) -> list[Path]:
    """The reference images of a product; none is possible."""
    folder = root / "Reference_Images" / product
    return sorted(folder.glob("*.jpg")) if folder.is_dir() else []
