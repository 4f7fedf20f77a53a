"""Build a gallery from reference images: again and again, over years, whatever interrupts it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from robollm.core.errors import GalleryError, InferenceError
from robollm.gallery.manifest import Manifests
from robollm.gallery.records import MadeWith
from robollm.gallery.schema import CARD
from robollm.gallery.store import create_gallery, open_writer
from robollm.gallery.writer import GalleryWriter
from robollm.runtime.build_lock import build_lock
from robollm.runtime.bundle import Bundle
from robollm.runtime.embed_files import Embedding, LocalEmbedding, Seen
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.references import Listing, list_pictures

COMMIT = 256
"""Images in one commit: what a power cut costs, at most."""
WAIT_S = 120.0  # for another writer: a robot's manifest takes milliseconds, `compact` its time
RECORD = ("build", "bad_images")


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a build did.

    Attributes:
        images: pictures that were embedded, new and changed ones.
        replaced: those among them that came in place of an older version.
        skipped: pictures that were in the gallery already, byte for byte.
        pruned: references taken out, because their pictures are gone.
        pruned_products: products taken out, because their folders are gone.
        products: product folders with at least one reference in the gallery.
        bad: what can't be used, as the gallery would call it -> why. An older reference of that
            name stays.
        empty: product folders without a reference in the gallery, sorted; () if interrupted.
        others: files that don't look like pictures, and hidden ones: left alone.
        seconds: how long it took.
        generation: of the gallery now.
        interrupted: there is more to do; the same call goes on here.
    """

    images: int
    replaced: int
    skipped: int
    pruned: int
    pruned_products: tuple[str, ...]
    products: int
    bad: Mapping[str, str]
    empty: tuple[str, ...]
    others: int
    seconds: float
    generation: int
    interrupted: bool


def enroll(
    perceiver: Perceiver,
    images: Path,
    out: Path,
    *,
    products: Manifests | None = None,
    prune: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> Enrolled:
    """Build with the Perceiver that will search; see `build_gallery`."""
    return build_gallery(
        images,
        out,
        bundle=perceiver.bundle,
        embedding=LocalEmbedding(perceiver),
        products=products,
        prune=prune,
        progress=progress,
        stop=stop,
    )


def build_gallery(
    images: Path,
    out: Path,
    *,
    bundle: Bundle,
    embedding: Embedding,
    products: Manifests | None = None,
    prune: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> Enrolled:
    """Bring a gallery to what `images/<product id>/*.jpg` (ARMBench's layout) shows.

    Pictures that are in the gallery already, byte for byte, are not embedded again. Every few
    hundred images are committed: a build that was cut off goes on where it was.

    Args:
        images: folder of one folder per product.
        out: gallery folder; made if it is missing.
        bundle: what embeds; the gallery belongs to it.
        embedding: how pictures become vectors.
        products: also put these titles, weights, containers ... into the gallery.
        prune: take out what is no longer in `images`, so that the gallery mirrors it.
        progress: called with (done, total) images.
        stop: asked after every picture; True ends the build, with what is embedded committed.

    Raises:
        GalleryError: if there is no usable image at all, `out` is something else, belongs to
            another bundle or is being built by somebody else, or the disk is full.
        InferenceError: if the model fails; what was embedded before is committed.
    """
    began = time.monotonic()
    images = images.absolute()  # names in messages are the same wherever they are made
    listing = _listing(images)
    made_with = MadeWith(bundle.embedding_sha256, bundle.title)
    if not out.exists():
        _create(out, bundle.embedding_dim, made_with)
    elif not (out / CARD).is_file():
        raise GalleryError(
            f"{str(out)!r} is there, but is no gallery: it has no {CARD}",
            fix="give --out a gallery, or a name that is free",
        )
    with open_writer(out, made_with=made_with, wait_s=WAIT_S) as writer, build_lock(out):
        build = _Build(writer, listing, products)
        if products is not None:
            writer.put_manifests(products)
            build.generation = writer.commit()
        interrupted = False
        with closing(embedding(listing.pictures, build.known)) as seen:
            try:
                for one in seen:
                    build.take(one)
                    progress(build.done, len(listing.pictures))
                    if stop():
                        interrupted = True
                        break
            except InferenceError:
                build.flush()
                raise
        build.flush()
        if not interrupted:
            build.finish(images, prune)
    return build.report(time.monotonic() - began, interrupted)


def _listing(images: Path) -> Listing:
    fix = "point --images at a folder like ARMBench's Reference_Images"
    try:
        listing = list_pictures(images)
    except OSError as e:
        raise GalleryError(
            f"no reference images under {str(images)!r}: {e.strerror}", fix=fix
        ) from e
    if not listing.pictures:
        raise GalleryError(
            f"no reference images under {str(images)!r}; want <product id>/<n>.jpg", fix=fix
        )
    return listing


def _create(out: Path, dim: int, made_with: MadeWith) -> None:
    try:
        create_gallery(out, dim=dim, made_with=made_with)
    except GalleryError:
        if not out.exists():
            raise
        # Another build was a moment faster: then the lock decides.


@dataclass(slots=True)
class _Build:
    """A build that is going on: what was seen, and what of it is not committed yet."""

    writer: GalleryWriter
    listing: Listing
    products: Manifests | None
    known: dict[str, str] = field(init=False)
    bad: dict[str, str] = field(init=False)
    waiting: list[Seen] = field(default_factory=list)
    have: set[str] = field(default_factory=set)
    done: int = 0
    images: int = 0
    replaced: int = 0
    skipped: int = 0
    pruned: int = 0
    gone: tuple[str, ...] = ()
    generation: int = 0

    def __post_init__(self) -> None:
        """Read what is there."""
        self.known = self.writer.known()
        self.bad = dict(self.listing.bad)

    def take(self, seen: Seen) -> None:
        """Note what became of one picture, and commit if there is enough."""
        self.done += 1
        source, product = seen.picture.source, seen.picture.product_id
        why = seen.why_bad
        if seen.vector is not None and not (np.isfinite(seen.vector).all() and seen.vector.any()):
            why = f"{seen.picture.file}: the model gives no usable vector, but zeros or NaN"
        if why:
            self.bad[source] = why
            if source in self.known:
                self.have.add(product)
            return
        self.have.add(product)
        if seen.vector is None:
            self.skipped += 1
            return
        self.waiting.append(seen)
        if len(self.waiting) >= COMMIT:
            self.flush()

    def flush(self) -> None:
        """Commit what is embedded."""
        if not self.waiting:
            return
        sources = [s.picture.source for s in self.waiting]
        try:
            self._write(sources)
        except GalleryError:
            # Somebody may have added or removed one of these while they were embedded.
            self.writer.rollback()
            now = self.writer.known()
            if all(now.get(s) == self.known.get(s) for s in sources):
                raise
            self.known.update(now)
            for source in sources:
                if source not in now:
                    self.known.pop(source, None)
            self._write(sources)
        self.images += len(self.waiting)
        self.replaced += sum(s in self.known for s in sources)
        self.known.update((s.picture.source, s.sha256) for s in self.waiting)
        self.waiting = []

    def _write(self, sources: Sequence[str]) -> None:
        self.writer.remove_references([s for s in sources if s in self.known])
        by_product: dict[str, list[Seen]] = {}
        for seen in self.waiting:
            by_product.setdefault(seen.picture.product_id, []).append(seen)
        for product, some in by_product.items():
            self.writer.add_references(
                product,
                np.stack([s.vector for s in some if s.vector is not None]),
                sources=[s.picture.source for s in some],
                sha256s=[s.sha256 for s in some],
            )
        self.generation = self.writer.commit()

    def finish(self, images: Path, prune: bool) -> None:
        """Prune, and note what could not be used: everything was looked at.

        Raises:
            GalleryError: if nothing at all could be used, now or before.
        """
        if not self.have:
            first = next(iter(self.bad.values()))
            raise GalleryError(
                f"none of the {len(self.listing.pictures)} files under {str(images)!r} is a "
                "readable image",
                fix=f"check the files; the first: {first}",
            )
        if prune:
            self._prune()
        self.writer.put_record(
            *RECORD, {"images": str(images), "bad": self.bad, "empty": self._empty()}
        )
        self.generation = self.writer.commit()

    def _prune(self) -> None:
        there = {p.source for p in self.listing.pictures} | self.bad.keys()
        unseen, folders = self.listing.unseen, set(self.listing.products)
        now = self.writer.known()
        gone = {s for s in now if s not in there and s.rpartition("/")[0] not in unseen}
        self.pruned = len(gone)
        keep = folders | unseen | (set(self.products.products) if self.products else set())
        left = {s.rpartition("/")[0] for s in now.keys() - gone}
        products = {s.rpartition("/")[0] for s in gone} - keep - left
        self.gone = tuple(sorted(products))
        for product in self.gone:
            self.writer.remove_product(product)
        self.writer.remove_references(
            sorted(s for s in gone if s.rpartition("/")[0] not in products)
        )

    def _empty(self) -> list[str]:
        return [p for p in self.listing.products if p not in self.have]

    def report(self, seconds: float, interrupted: bool) -> Enrolled:
        """Sum up."""
        return Enrolled(
            images=self.images,
            replaced=self.replaced,
            skipped=self.skipped,
            pruned=self.pruned,
            pruned_products=self.gone,
            products=len(self.have),
            bad=self.bad,
            empty=() if interrupted else tuple(self._empty()),
            others=self.listing.others,
            seconds=seconds,
            generation=self.generation,
            interrupted=interrupted,
        )
