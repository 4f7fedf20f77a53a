"""Manifests: which products should be in which container. Read from JSON, CSV or ARMBench files."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robollm.core.errors import ManifestError
from robollm.gallery.records import Product as Product

FORMAT = "robollm-manifest"
FORMAT_VERSION = 1
_KNOWN = ("title", "description", "weight_kg", "dimensions_m")


@dataclass(frozen=True, slots=True)
class Manifests:
    """The containers of a station.

    Attributes:
        products: product id -> what is known of it.
        containers: container id -> ids of the products that should be in it.
    """

    products: Mapping[str, Product]
    containers: Mapping[str, frozenset[str]]


def load_manifests(path: Path) -> Manifests:
    """Read a manifest file or folder.

    Args:
        path: one of
            a .json file `{"format": "robollm-manifest", "format_version": 1, "products":
            {id: {...}}, "containers": {id: [product ids]}}`;
            a .csv file with the columns container_id, product_id and optionally title,
            description, weight_kg, length_m, width_m, height_m and any others;
            an ARMBench `container.json` (product id -> description, weight ...), whose container
            is named after its folder; or a folder of such folders (ARMBench's `Picks/`).

    Raises:
        ManifestError: if it can't be read, or an id is missing, empty or repeated.
    """
    if path.is_dir():
        files = sorted(path.glob("*/container.json"))
        if not files:
            raise _error(path, "has no */container.json in it", "give a manifest file")
        products: dict[str, Product] = {}
        containers: dict[str, frozenset[str]] = {}
        for file in files:
            one = _armbench(file, _json(file))
            products.update(one.products)
            containers.update(one.containers)
        return Manifests(products, containers)
    if not path.is_file():
        raise _error(path, "does not exist", "set the parameter `manifest` to a JSON or CSV file")
    if path.suffix.lower() == ".csv":
        return _csv(path)
    data = _json(path)
    if path.name == "container.json" and data.get("format") != FORMAT:
        return _armbench(path, data)
    return parse_manifests(data, path)


def parse_manifests(data: Mapping[str, Any], where: Path | str) -> Manifests:
    """Manifests from the object that a robollm-manifest is.

    Args:
        data: the object; see `load_manifests`.
        where: what it was read from, for messages.

    Raises:
        ManifestError: if it is of another format, or an id is missing, empty or repeated.
    """
    if data.get("format") != FORMAT:
        raise _error(
            where,
            f"is no manifest: format is {data.get('format')!r}, want {FORMAT!r}",
            "add the format key, or name the file container.json if it is ARMBench's",
        )
    if data.get("format_version") != FORMAT_VERSION:
        raise _error(
            where,
            f"has format_version {data.get('format_version')!r}, this robollm reads "
            f"{FORMAT_VERSION}",
            "write it again for this version",
        )
    return _own(where, data)


def parse_object(raw: bytes | str, where: Path | str) -> dict[str, Any]:
    """A JSON object in which no key occurs twice.

    Raises:
        ManifestError: if it is something else.
    """

    def no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [k for k, n in Counter(k for k, _ in pairs).items() if n > 1]
        if twice:
            raise _error(where, f"names {twice[0]!r} twice", "keep one of the two")
        return dict(pairs)

    try:
        data = json.loads(raw, object_pairs_hook=no_repeats)
    # Too deep for the parser: a file made to hurt, or a mistake in a generator.
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as e:
        raise _error(where, f"is not readable JSON: {e}", "correct the file") from e
    if not isinstance(data, dict):
        raise _error(where, f"holds a {type(data).__name__}, want an object", "correct the file")
    return data


def product_ids(ids: Any, container: str, where: Path | str) -> frozenset[str]:
    """The products of one container, from JSON.

    Raises:
        ManifestError: if it is no list of ids, or one is empty or repeated.
    """
    if not isinstance(ids, list) or not all(isinstance(i, str) and i.strip() for i in ids):
        raise _error(
            where,
            f"container {container!r} has a missing or empty product id",
            "name every product",
        )
    _once(where, container, ids)
    return frozenset(ids)


def _error(where: Path | str, what: str, fix: str) -> ManifestError:
    return ManifestError(f"manifest {str(where)!r} {what}", fix=fix)


def _json(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise _error(path, f"can't be read: {e}", "check the file and its rights") from e
    return parse_object(raw, path)


def _own(path: Path | str, data: Mapping[str, Any]) -> Manifests:
    raw, boxes = data.get("products", {}), data.get("containers")
    if not isinstance(raw, dict) or not isinstance(boxes, dict) or not boxes:
        raise _error(path, "has no `containers` object", "list the product ids of each container")
    products = {pid: _product(path, pid, row) for pid, row in raw.items()}
    containers = {}
    for cid, ids in boxes.items():
        containers[_named(path, cid, "container id")] = product_ids(ids, cid, path)
        for pid in ids:
            products.setdefault(pid, Product(pid))
    return Manifests(products, containers)


def _armbench(path: Path, data: Mapping[str, Any]) -> Manifests:
    products = {
        pid: _product(path, pid, row if isinstance(row, dict) else {"description": str(row)})
        for pid, row in data.items()
    }
    return Manifests(products, {path.resolve().parent.name: frozenset(products)})


def _csv(path: Path) -> Manifests:
    products: dict[str, Product] = {}
    listed: dict[str, list[str]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as f:
            reader = csv.DictReader(f)
            lost = {"container_id", "product_id"} - set(reader.fieldnames or ())
            if lost:
                raise _error(
                    path,
                    f"has the columns {', '.join(reader.fieldnames or ()) or '(none)'}; "
                    f"{', '.join(sorted(lost))} missing",
                    "give it the header container_id,product_id,...",
                )
            for line in reader:
                row: dict[str, Any] = {k: v for k, v in line.items() if k and v not in (None, "")}
                cid, pid = row.pop("container_id", ""), row.pop("product_id", "")
                cid, pid = cid.strip(), pid.strip()
                if not cid or not pid:
                    raise _error(
                        path,
                        f"line {reader.line_num} has no container_id or no product_id",
                        "fill it in",
                    )
                sides = [row.pop(k, None) for k in ("length_m", "width_m", "height_m")]
                if any(s is not None for s in sides):
                    if any(s is None for s in sides):
                        raise _error(
                            path,
                            f"line {reader.line_num} has some of length_m, width_m, height_m",
                            "give all three or none",
                        )
                    row["dimensions_m"] = sides
                products[pid] = _product(path, pid, row)
                listed.setdefault(cid, []).append(pid)
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise _error(path, f"is not readable CSV: {e}", "save it as UTF-8 CSV") from e
    if not listed:
        raise _error(path, "has no rows", "list at least one product")
    for cid, ids in listed.items():
        _once(path, cid, ids)
    return Manifests(products, {cid: frozenset(ids) for cid, ids in listed.items()})


def _once(path: Path | str, container: str, ids: list[str]) -> None:
    twice = [i for i, n in Counter(ids).items() if n > 1]
    if twice:
        raise _error(
            path,
            f"container {container!r} lists product {twice[0]!r} more than once",
            "list each product once per container",
        )


def _named(path: Path | str, value: str, what: str) -> str:
    if not value.strip():
        raise _error(path, f"has an empty {what}", "give it an id")
    return value


def _product(path: Path | str, pid: str, row: Any) -> Product:
    _named(path, pid, "product id")
    if not isinstance(row, dict):
        raise _error(path, f"product {pid!r} is {row!r}, want an object", "correct the file")
    try:
        weight = _number(row.get("weight_kg"))
        sides = row.get("dimensions_m")
        if sides is not None and not isinstance(sides, list):
            raise ValueError(f"dimensions_m is {sides!r}, want three numbers in m")
        numbers = None if sides is None else [_number(s) for s in sides]
        if numbers is not None and (len(numbers) != 3 or None in numbers):
            raise ValueError(f"dimensions_m is {sides!r}, want three numbers in m")
    except (TypeError, ValueError) as e:
        raise _error(path, f"product {pid!r}: {e}", "correct the value or leave it out") from e
    return Product(
        pid,
        str(row.get("title") or ""),
        str(row.get("description") or ""),
        weight,
        None if numbers is None else (numbers[0] or 0.0, numbers[1] or 0.0, numbers[2] or 0.0),
        {k: v for k, v in row.items() if k not in _KNOWN},
    )


def _number(value: Any) -> float | None:
    if value is None or value == "":
        return None
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{value!r} is not a number >= 0")
    return number
