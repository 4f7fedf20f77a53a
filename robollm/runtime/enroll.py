"""Build a gallery from reference images, with the same Perceiver that will search it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import GalleryError
from robollm.core.frame import Frame
from robollm.gallery.store import Row, write_gallery
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pixels import Region

SUFFIXES = (".jpg", ".jpeg", ".png")
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What `enroll` did.

    Attributes:
        images: reference images embedded.
        products: products with at least one.
        bad: files that can't be read as an image, or hold one that is too large.
        empty: product folders without any usable image.
    """

    images: int
    products: int
    bad: tuple[Path, ...]
    empty: tuple[Path, ...]


def enroll(
    perceiver: Perceiver,
    images: Path,
    out: Path,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Enrolled:
    """Embed `images/<product id>/*.jpg` (ARMBench's Reference_Images layout) into a gallery.

    Args:
        perceiver: embeds; the gallery belongs to its bundle.
        images: folder of one folder per product.
        out: gallery folder to write.
        progress: called with (done, total) images.

    Raises:
        GalleryError: if there is no usable image at all, or `out` is something else.
        InferenceError: if the model fails.
    """
    folders = sorted(p for p in images.iterdir() if p.is_dir()) if images.is_dir() else []
    files = [
        (folder.name, f)
        for folder in folders
        for f in sorted(folder.iterdir())
        if f.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise GalleryError(
            f"no reference images under {str(images)!r}; want <product id>/<n>.jpg",
            fix="point --images at a folder like ARMBench's Reference_Images",
        )
    rows: list[Row] = []
    vectors: list[NDArray[np.float32]] = []
    bad: list[Path] = []
    batch: list[tuple[Row, Region]] = []

    def embed() -> None:
        if batch:
            rows.extend(r for r, _ in batch)
            vectors.append(perceiver.embed([region for _, region in batch]))
            batch.clear()

    for done, (product, file) in enumerate(files, start=1):
        raw = file.read_bytes()
        pixels = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR) if raw else None
        if pixels is None or max(pixels.shape) > perceiver.config.max_image_side:
            bad.append(file)
        else:
            row = Row(product, f"{product}/{file.name}", hashlib.sha256(raw).hexdigest())
            frame = Frame(
                np.asarray(pixels, np.uint8), "bgr", stamp_ns=done, stream=f"reference {row.sha256}"
            )
            batch.append((row, Region(frame)))
        if len(batch) == _BATCH:
            embed()
        progress(done, len(files))
    embed()
    if not rows:
        raise GalleryError(
            f"none of the {len(files)} files under {str(images)!r} is a readable image",
            fix="check the files, the first is " + str(files[0][1]),
        )
    b = perceiver.bundle
    write_gallery(
        out, rows, np.concatenate(vectors), embedding_sha256=b.embedding_sha256, bundle=b.title
    )
    have = {r.product_id for r in rows}
    empty = tuple(f for f in folders if f.name not in have)
    return Enrolled(len(rows), len(have), tuple(bad), empty)
