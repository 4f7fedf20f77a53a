"""A gallery on disk: a folder that says which bundle made it and proves that it is whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import GalleryError
from robollm.gallery.faiss_gallery import FaissGallery, read_index

FORMAT = "robollm-gallery"
FORMAT_VERSION = 1
_FILES = ("index.faiss", "rows.json")


@dataclass(frozen=True, slots=True)
class Row:
    """Where one reference vector comes from.

    Attributes:
        product_id: the product.
        image: file name of the reference image, relative to the folder it was built from.
        sha256: digest of that file.
    """

    product_id: str
    image: str
    sha256: str


def write_gallery(
    out: Path,
    rows: Sequence[Row],
    vectors: NDArray[np.float32],
    *,
    embedding_sha256: str,
    bundle: str,
) -> None:
    """Write a gallery folder; a reader sees the old one or the new one, never half of it.

    Args:
        out: the folder; replaced if it is a gallery.
        rows: one per vector.
        vectors: (N, D) float32, not zero.
        embedding_sha256: `Bundle.embedding_sha256` of the bundle that made the vectors.
        bundle: that bundle's title, for messages.

    Raises:
        GalleryError: if `out` exists and is no gallery, or a vector is unusable.
    """
    if out.exists() and not (out / "gallery.json").is_file():
        raise GalleryError(f"{out} exists and is not a gallery", fix="choose another --out")
    gallery = FaissGallery.of([r.product_id for r in rows], vectors)
    part = out.with_name(f".{out.name}.part-{os.getpid()}")
    old = out.with_name(f".{out.name}.old-{os.getpid()}")
    part.mkdir(parents=True)
    try:
        gallery.write(part / "index.faiss")
        (part / "rows.json").write_text(json.dumps([asdict(r) for r in rows], indent=0))
        card = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "embedding_sha256": embedding_sha256,
            "bundle": bundle,
            "dim": gallery.dim,
            "vectors": len(rows),
            "products": len(gallery.products),
            "files": {
                name: {
                    "sha256": _sha256(part / name),
                    "bytes": (part / name).stat().st_size,
                }
                for name in _FILES
            },
        }
        (part / "gallery.json").write_text(json.dumps(card, indent=2, sort_keys=True))
        if out.exists():
            out.rename(old)
        try:
            part.rename(out)
        except BaseException:
            if old.exists():
                old.rename(out)
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def open_gallery(folder: Path, *, embedding_sha256: str, bundle: str) -> FaissGallery:
    """Open a gallery folder for search.

    Args:
        folder: the gallery.
        embedding_sha256: `Bundle.embedding_sha256` of the bundle that will embed the queries.
        bundle: that bundle's title, for messages.

    Raises:
        GalleryError: if it is missing, damaged, of another format, or made with another bundle.
    """
    for _ in range(3):  # a rebuild may replace the folder between two of our reads
        before = _card_bytes(folder)
        gallery = _open(folder, embedding_sha256, bundle)
        if _card_bytes(folder) == before:
            return gallery
    raise GalleryError(
        f"gallery {str(folder)!r} was replaced three times while it was read",
        fix="wait for the rebuild to end, then reload",
    )


def _card_bytes(folder: Path) -> bytes:
    try:
        return (folder / "gallery.json").read_bytes()
    except OSError:
        return b""


def _open(folder: Path, embedding_sha256: str, bundle: str) -> FaissGallery:
    card_file = folder / "gallery.json"
    if not card_file.is_file():
        raise GalleryError(
            f"no gallery at {str(folder)!r}: there is no gallery.json",
            fix="build one: robollm gallery build --bundle BUNDLE --images DIR --out GALLERY",
        )
    try:
        card = json.loads(card_file.read_bytes())
        if card["format"] != FORMAT or card["format_version"] != FORMAT_VERSION:
            raise GalleryError(
                f"{card_file} is {card['format']!r} version {card['format_version']!r}, want "
                f"{FORMAT!r} version {FORMAT_VERSION}",
                fix="build the gallery again with this version of robollm",
            )
        for name in _FILES:
            got, want = _sha256(folder / name), card["files"][name]["sha256"]
            if got != want:
                raise GalleryError(
                    f"{folder / name} is damaged: sha256 is {got[:12]}..., want {want[:12]}...",
                    fix="copy or build the gallery again",
                )
        if card["embedding_sha256"] != embedding_sha256:
            raise GalleryError(
                f"gallery {str(folder)!r} was made with bundle {card['bundle']}, the loaded bundle "
                f"is {bundle}: their embeddings can't be compared",
                fix="build the gallery again with this bundle",
            )
        rows = [Row(**row) for row in json.loads((folder / "rows.json").read_bytes())]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise GalleryError(
            f"gallery {str(folder)!r} is malformed: {e!r}", fix="copy or build the gallery again"
        ) from e
    return FaissGallery([r.product_id for r in rows], read_index(folder / "index.faiss"))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
