"""The reference images of a run as a gallery folder, made by whoever is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from robollm.core.errors import ConfigError, FrameError
from robollm.core.frame import Frame
from robollm.data.images import decode_image
from robollm.data.problems import Problems
from robollm.eval.predictors import BundlePredictor, Predictor
from robollm.gallery.reader import GalleryReader
from robollm.gallery.schema import CARD
from robollm.gallery.store import create_gallery, open_writer
from robollm.gallery.writer import GalleryWriter
from robollm.metrics.ranks import Gallery
from robollm.runtime.embed_files import Embedding, LocalEmbedding, Seen
from robollm.runtime.pixels import Region
from robollm.runtime.references import Picture, list_pictures, read_once

FOLDER = "Reference_Images"
COMMIT = 256
"""Images in one commit: what a kill costs, at most."""


def pictures(folder: Path, wanted: set[str] | None, problems: Problems) -> list[Picture]:
    """List the reference images.

    Args:
        folder: of identification.
        wanted: products; None: all that there are.
        problems: gets `bad_reference`, files that can't be read, and
            `product_without_reference`.

    Raises:
        ConfigError: if there is no such folder, or nothing in it.
    """
    images = folder / FOLDER
    if not images.is_dir():
        raise ConfigError(
            f"there is no {images}", fix="fetch it, or give a gallery of it with --gallery"
        )
    listing = list_pictures(images)
    for name, why in listing.bad.items():
        problems.note("bad_reference", images / name, why)
    found = [p for p in listing.pictures if wanted is None or p.product_id in wanted]
    have = {p.product_id for p in found}
    for product in sorted((set(listing.products) if wanted is None else wanted) - have):
        problems.note(
            "product_without_reference", images / product, "no reference image", "never found"
        )
    problems.refuse_if_empty(len(found), str(images), "check the folder")
    return found


def build(
    out: Path,
    predictor: Predictor,
    listed: Sequence[Picture],
    problems: Problems,
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Embed references into a gallery; what is in it already, byte for byte, is not done again.

    Args:
        out: gallery folder; made if it is missing.
        predictor: makes the vectors.
        listed: what to embed.
        problems: gets `bad_reference`.
        progress: called after each picture.

    Raises:
        GalleryError: if `out` is something else, or of another predictor, or the disk is full.
        InferenceError: if the model fails.
    """
    if not (out / CARD).is_file():
        create_gallery(out, dim=predictor.dim, made_with=predictor.made_with)
    embedding: Embedding = (
        LocalEmbedding(predictor.perceiver)
        if isinstance(predictor, BundlePredictor)
        else _OneByOne(predictor)
    )
    with open_writer(out, made_with=predictor.made_with) as writer:
        known = writer.known()
        waiting: list[Seen] = []
        with closing(embedding(listed, known)) as seen:
            for one in seen:
                progress()
                if one.why_bad:
                    problems.note("bad_reference", one.picture.file, one.why_bad)
                elif one.vector is not None:
                    waiting.append(one)
                if len(waiting) >= COMMIT:
                    _commit(writer, waiting, known)
                    waiting = []
        _commit(writer, waiting, known)


def read(folder: Path, embedding_sha256: str | None) -> Gallery:
    """All references of a gallery, for the metrics.

    Args:
        folder: the gallery.
        embedding_sha256: what made the queries; None: not known, take it as it is.

    Raises:
        GalleryError: if it is missing, damaged, empty, or made with something else.
    """
    with closing(
        GalleryReader(folder, embedding_sha256=embedding_sha256, bundle="the run's")
    ) as reader:
        rows = reader.load()
    ids = np.array(rows.ids, object)
    product = np.searchsorted(rows.numbers, rows.products)
    rank = np.argsort(ids)  # from the number of a product to its place by name
    place = np.empty(len(rank), np.int64)
    place[rank] = np.arange(len(rank))
    order = np.argsort(place[product], kind="stable")
    vectors = rows.vectors[rows.slots[order]].astype(np.float32)
    _, starts = np.unique(place[product][order], return_index=True)
    return Gallery(tuple(ids[rank].tolist()), vectors, starts.astype(np.int64))


def _commit(writer: GalleryWriter, some: Sequence[Seen], known: Mapping[str, str]) -> None:
    writer.remove_references([s.picture.source for s in some if s.picture.source in known])
    by_product: dict[str, list[Seen]] = {}
    for seen in some:
        by_product.setdefault(seen.picture.product_id, []).append(seen)
    for product, mine in by_product.items():
        writer.add_references(
            product,
            np.stack([s.vector for s in mine if s.vector is not None]),
            sources=[s.picture.source for s in mine],
            sha256s=[s.sha256 for s in mine],
        )
    writer.commit()


class _OneByOne:
    """Embeds with a predictor that is no bundle."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def __call__(self, pictures: Sequence[Picture], known: Mapping[str, str]) -> Generator[Seen]:
        """See `Embedding`."""
        for picture in pictures:
            try:
                raw = read_once(picture.file)
                digest = hashlib.sha256(raw).hexdigest()
                if known.get(picture.source) == digest:
                    yield Seen(picture, digest)
                    continue
                rgb = decode_image(raw, picture.file, upright=True)
            except FrameError as e:
                yield Seen(picture, "", why_bad=e.what)
                continue
            frame = Frame(rgb, "rgb", stamp_ns=picture.number, stream=f"reference {digest}")
            vector = self._predictor.reference(Region(frame), picture.product_id)
            yield Seen(picture, digest, vector)
