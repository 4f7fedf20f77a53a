"""A copy of one commit in plain files, for other programs and for keeps."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robollm.core.errors import GalleryError
from robollm.gallery import manifest, tables
from robollm.gallery.checksums import crc_of_texts, crc_of_values
from robollm.gallery.reader import GalleryReader
from robollm.gallery.records import Product
from robollm.gallery.rows import Rows
from robollm.gallery.schema import ours, sync_folder
from robollm.gallery.vectors import DTYPE

_BLOCK = 8192
_REFERENCE = "reference product_id source sha256 created".split()
_PRODUCT = "product_id title description weight_kg length_m width_m height_m extra".split()


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What `export_gallery` wrote.

    Attributes:
        generation: the commit.
        references: rows of vectors.npy and references.csv.
        products: rows of products.csv.
        containers: in manifest.json, which is only written if there are any.
        files: their names.
    """

    generation: int
    references: int
    products: int
    containers: int
    files: tuple[str, ...]


def export_gallery(folder: Path, out: Path) -> ExportReport:
    """Write vectors.npy, references.csv, products.csv, manifest.json, records.json and card.json.

    vectors.npy is (N, D) float16 of unit length; line n of references.csv says what row n is of.
    manifest.json is one of ours: `load_manifests` reads it. card.json names the commit, the bundle,
    and sha256 and bytes of every other file. The gallery may be written meanwhile.

    Args:
        folder: the gallery.
        out: folder to make.

    Raises:
        GalleryError: if `out` exists, the gallery is damaged, or the disk is full.
    """
    if out.exists() or out.is_symlink():
        raise GalleryError(f"{out} exists", fix="choose another folder to export to")
    part = out.with_name(f".{out.name}.part-{os.getpid()}")
    with (
        closing(GalleryReader(folder)) as reader,
        reader.snapshot() as (rows, conn),
        ours(out, "write"),
    ):
        part.mkdir(parents=True)
        try:
            products = _write(part, rows, conn)
            files = tuple(sorted(p.name for p in part.iterdir()))
            sync_folder(part)
            part.rename(out)
            sync_folder(out.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return ExportReport(
        rows.generation, len(rows.references), products, len(rows.containers), files
    )


def _write(out: Path, rows: Rows, conn: sqlite3.Connection) -> int:
    shape = rows.references.shape[0], rows.dim
    with (out / "vectors.npy").open("wb") as f:
        header = {"descr": DTYPE.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(f, header)  # type: ignore[no-untyped-call]
        for i in range(0, len(rows.slots), _BLOCK):
            f.write(rows.vectors[rows.slots[i : i + _BLOCK]].tobytes())
    _csv(out / "references.csv", _REFERENCE, _references(conn))
    found = list(_products(conn))
    _csv(
        out / "products.csv",
        _PRODUCT,
        (
            (p.product_id, p.title, p.description, p.weight_kg,
             *(p.dimensions_m or ("", "", "")), _json(p.extra))
            for p in found
        ),
    )  # fmt: skip
    if rows.containers:
        card = {
            "format": manifest.FORMAT,
            "format_version": manifest.FORMAT_VERSION,
            "products": {p.product_id: _manifest_row(p) for p in found},
            "containers": {c: sorted(ids) for c, ids in sorted(rows.containers.items())},
        }
        (out / "manifest.json").write_text(_json(card), encoding="utf-8")
    records = {f"{kind}/{name}": value for (kind, name), value in rows.records.items()}
    made = {
        "bundle": rows.made_with.bundle,
        "embedding_sha256": rows.made_with.embedding_sha256,
        "generation": rows.generation,
        "records": records,
    }
    (out / "records.json").write_text(_json(made), encoding="utf-8")
    card = {
        "format": "robollm-gallery-export",
        "format_version": 1,
        **{k: made[k] for k in ("bundle", "embedding_sha256", "generation")},
        "dim": rows.dim,
        "references": len(rows.references),
        "products": len(found),
        "containers": len(rows.containers),
        "files": {f.name: _sealed(f) for f in sorted(out.iterdir())},
    }
    (out / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    _sealed(out / "card.json")
    return len(found)


def _references(conn: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    for row in conn.execute(
        "SELECT r.id, p.id, r.source, r.sha256, r.created, r.texts FROM reference r "
        "JOIN product p ON p.number = r.product WHERE r.died IS NULL ORDER BY r.id"
    ):
        *shown, texts = row
        if crc_of_texts(*shown[2:]) != texts:
            raise _changed(f"reference {row[0]}")
        yield tuple(shown)


def _products(conn: sqlite3.Connection) -> Iterator[Product]:
    for row in conn.execute(f"SELECT {tables.PRODUCT_ROW} FROM product ORDER BY id"):
        number, pid, *values, texts, crc = row
        if crc_of_values(values) != texts or tables.product_crc(number, pid, texts) != crc:
            raise _changed(f"product {pid!r}")
        yield tables.to_product(row[1:])


def _changed(what: str) -> GalleryError:
    return GalleryError(
        f"can't export: the row of {what} is not what was written",
        fix="see what else is hit with `robollm gallery check`, then restore a backup",
    )


def _sealed(file: Path) -> dict[str, Any]:
    """Sum up a file, and wait until the disk has it."""
    digest = hashlib.sha256()
    with file.open("rb") as f:
        os.fsync(f.fileno())
        while block := f.read(1 << 20):
            digest.update(block)
    return {"sha256": digest.hexdigest(), "bytes": file.stat().st_size}


def _csv(file: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(columns)
        writer.writerows(rows)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=None)


def _manifest_row(product: Product) -> dict[str, Any]:
    known = {
        "title": product.title,
        "description": product.description,
        "weight_kg": product.weight_kg,
        "dimensions_m": product.dimensions_m,
    }
    return {**product.extra, **known}
