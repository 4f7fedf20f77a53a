"""A gallery on disk: make one, open it for writing, open it for search.

The folder: `gallery.json` (what it is), `gallery.sqlite` (rows; the truth), `vectors-*.fp16` (the
vectors that the rows name), `index/` (derived, may be missing), `generation` and `writer.json`
(notes, see `robollm.gallery.lock`).

Don't copy a folder while it is written; `robollm gallery export` writes a copy of one commit. A
torn copy doesn't go unnoticed: opening it fails.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from robollm.core.errors import GalleryError
from robollm.gallery.lock import note_generation, now
from robollm.gallery.plan import SearchPlan
from robollm.gallery.reader import GalleryReader
from robollm.gallery.records import GalleryCard, MadeWith
from robollm.gallery.schema import (
    CARD,
    FORMAT,
    FORMAT_VERSION,
    create_database,
    ours,
    sync_folder,
)
from robollm.gallery.snapshot import StoredGallery
from robollm.gallery.tables import IMAGE, Space, State, write_card, write_space
from robollm.gallery.vectors import file_name
from robollm.gallery.writer import GalleryWriter as GalleryWriter


def create_gallery(folder: Path, *, dim: int, made_with: MadeWith) -> None:
    """Make an empty gallery: it is there whole, or not at all.

    Args:
        folder: the gallery to make; missing parents are made.
        dim: length of a vector.
        made_with: the bundle that its vectors will be of.

    Raises:
        GalleryError: if the folder exists, or can't be made.
    """
    if dim < 1:
        raise GalleryError(f"dim is {dim}, want >= 1", fix="give the length of the embedding")
    if folder.exists() or folder.is_symlink():
        raise _exists(folder)
    part = folder.with_name(f".{folder.name}.part-{os.getpid()}")
    with ours(folder, "make"):
        part.mkdir(parents=True)
        try:
            fill_gallery(part, dim=dim, made_with=made_with)
            try:
                part.rename(folder)
            except OSError as e:
                if folder.exists():  # made by another process in this moment
                    raise _exists(folder) from e
                raise
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def fill_gallery(folder: Path, *, dim: int, made_with: MadeWith) -> None:
    """Write the files of an empty gallery into a folder that nobody else knows yet."""
    created = now()
    (folder / file_name(1)).touch()
    conn = create_database(folder)
    try:
        write_card(conn, "gallery", os.urandom(16).hex())
        write_card(conn, "created", created)
        write_card(conn, "state", State().text())
        write_space(conn, Space(1, IMAGE, dim, "float16", made_with, file_name(1), 0))
        conn.execute("COMMIT")
    finally:
        conn.close()
    note_generation(folder, 0)
    card = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created": created,
        "dim": dim,
        "bundle": made_with.bundle,
        "embedding_sha256": made_with.embedding_sha256,
    }
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n")
    for file in folder.iterdir():
        fd = os.open(file, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    sync_folder(folder)


def open_writer(
    folder: Path, *, made_with: MadeWith | None = None, wait_s: float = 10.0
) -> GalleryWriter:
    """Open a gallery for changes.

    Args:
        folder: the gallery.
        made_with: the bundle of the vectors that will be added; None: none will be.
        wait_s: how long a change waits for another writer.

    Raises:
        GalleryError: if it is missing, damaged, of another format, made with another bundle, or
            can't be written.
    """
    return GalleryWriter(folder, made_with, wait_s)


def open_gallery(
    folder: Path, *, embedding_sha256: str | None, bundle: str, search: SearchPlan | None = None
) -> StoredGallery:
    """Open a gallery for search, as the newest commit left it; the whole of it is verified.

    Args:
        folder: the gallery.
        embedding_sha256: `Bundle.embedding_sha256` of the bundle that will embed the queries;
            None: any, to look at it only.
        bundle: that bundle's title, for messages.
        search: how to search; None: `SearchPlan()`.

    Raises:
        GalleryError: if it is missing, damaged, of another format, or made with another bundle; or
            if approximate search is asked for and there is no index for it.
    """
    return StoredGallery.opened(
        folder, embedding_sha256=embedding_sha256, bundle=bundle, search=search
    )


def read_card(folder: Path) -> GalleryCard:
    """What a gallery is, without reading its vectors.

    Raises:
        GalleryError: see `GalleryReader`.
    """
    reader = GalleryReader(folder)
    try:
        return reader.card()
    finally:
        reader.close()


def _exists(folder: Path) -> GalleryError:
    return GalleryError(f"{folder} exists", fix="choose another name, or add to the gallery there")
