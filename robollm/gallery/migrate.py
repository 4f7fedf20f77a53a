"""Bring galleries of older versions up to date: all of one, or nothing."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import GalleryError
from robollm.gallery import lock, schema
from robollm.gallery.records import MadeWith
from robollm.gallery.schema import CARD, DATABASE, damaged, ours, sync_folder
from robollm.gallery.store import fill_gallery, open_writer
from robollm.gallery.vectors import Progress, file_name, no_progress

_PART = "migrating"
_VERSION_1 = ("index.faiss", "rows.json")
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class MigrateReport:
    """What `migrate_gallery` did.

    Attributes:
        was: what it was: "format 1", "format 2, schema 1" ...
        changed: whether it was anything but up to date.
        references: how many were carried over from format 1.
        renamed: images of format 1 that had the name of another one; " (2)" was put behind it.
    """

    was: str
    changed: bool
    references: int = 0
    renamed: tuple[str, ...] = ()


def migrate_gallery(folder: Path, *, progress: Progress = no_progress) -> MigrateReport:
    """Bring a gallery to this version of robollm. May be interrupted and repeated.

    Format 1 (index.faiss and rows.json) stays readable for its own robollm until the last moment,
    in which one rename makes it a gallery of format 2; its vectors are kept in float16.

    Args:
        folder: the gallery.
        progress: called with (vectors done, vectors).

    Raises:
        GalleryError: if there is no gallery, it is damaged, newer, in use, or the disk is full.
    """
    card = _card(folder)
    with ours(folder, "migrate"), _alone(folder):
        card = _card(folder)
        if card.get("format_version") == 1:
            return _from_1(folder, card, progress)
        schema.read_format(folder)
        _remove_old(folder)  # a migration that was killed at its very end left it
        with closing(schema.connect(folder, write=False, older=True)) as conn:
            was = _schema(folder, conn)
        if was == schema.SCHEMA_VERSION:  # needs no lock, so a writer at work is no obstacle
            return MigrateReport(_name(was), False)
        return _upgrade(folder)


def _upgrade(folder: Path) -> MigrateReport:
    """Run the upgrades that a schema lacks, in one transaction."""
    with closing(schema.connect(folder, write=True, older=True)) as conn:
        # An upgrade may make a table again under its name; what it leaves is checked below.
        conn.execute("PRAGMA foreign_keys=OFF")
        lock.begin(conn, folder, schema.BUSY_S)
        try:
            was = _schema(folder, conn)
            for number, upgrade in enumerate(schema.UPGRADES[was - 1 :], was):
                upgrade(conn)
                if not conn.in_transaction:  # executescript() commits
                    raise RuntimeError(f"the upgrade of schema {number} ended the transaction")
            broken = conn.execute("PRAGMA foreign_key_check").fetchone()
            if broken is not None:
                raise damaged(folder, f"after the upgrade a row of {broken[0]} names nothing")
            conn.execute(f"PRAGMA user_version={schema.SCHEMA_VERSION}")
            lock.end(folder)
            conn.execute("COMMIT")
        except BaseException:
            lock.end(folder)
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise
    return MigrateReport(_name(was), was != schema.SCHEMA_VERSION)


def _schema(folder: Path, conn: sqlite3.Connection) -> int:
    version = int(conn.execute("PRAGMA user_version").fetchone()[0])
    if version < 1:
        raise damaged(folder, f"its schema is {version}, want 1 or more")
    return version


def _name(version: int) -> str:
    return f"format {schema.FORMAT_VERSION}, schema {version}"


def _remove_old(folder: Path) -> None:
    shutil.rmtree(folder / _PART, ignore_errors=True)
    for name in _VERSION_1:
        (folder / name).unlink(missing_ok=True)


def _from_1(folder: Path, card: dict[str, Any], progress: Progress) -> MigrateReport:
    rows, vectors, made_with = _read_1(folder, card)
    sources, renamed = _distinct([row[1] for row in rows])
    part = folder / _PART
    shutil.rmtree(part, ignore_errors=True)  # left by a migration that was killed
    part.mkdir()
    try:
        fill_gallery(part, dim=vectors.shape[1], made_with=made_with)
        with open_writer(part, made_with=made_with) as writer:
            done = 0
            for product, same in groupby(rows, key=lambda row: row[0]):
                digests = [row[2] for row in same]
                end = done + len(digests)
                writer.add_references(
                    product, vectors[done:end], sources=sources[done:end], sha256s=digests
                )
                if done // _BLOCK != end // _BLOCK or end == len(rows):
                    progress(end, len(rows))
                done = end
            writer.commit()
        if (part / f"{DATABASE}-wal").exists():  # SQLite removes it once all is in the database
            raise damaged(part, f"{DATABASE}-wal is left after the last commit")
        for name in (file_name(1), DATABASE, lock.GENERATION):
            (part / name).replace(folder / name)
        sync_folder(folder)
        (part / CARD).replace(folder / CARD)  # from here on it is a gallery of format 2
        sync_folder(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)  # a full disk must not stay full
    _remove_old(folder)
    return MigrateReport("format 1", True, len(rows), renamed)


def _distinct(names: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Each name once: a number is put behind the later ones of a name; and those."""
    taken, count = set(names), Counter[str]()
    out, renamed = [], []
    for name in names:
        count[name] += 1
        new = name
        while count[name] > 1 and new in taken:
            new = f"{name} ({count[name]})"
            count[name] += new in taken
        taken.add(new)
        if new != name:
            renamed.append(name)
        out.append(new)
    return out, tuple(renamed)


def _card(folder: Path) -> dict[str, Any]:
    try:
        card = json.loads((folder / CARD).read_bytes())
    except (OSError, ValueError):
        card = None
    if not isinstance(card, dict) or (card.get("format"), card.get("format_version")) != (
        schema.FORMAT,
        1,
    ):
        schema.read_format(folder)  # says what is wrong
    return card if isinstance(card, dict) else {}


def _read_1(
    folder: Path, card: dict[str, Any]
) -> tuple[list[tuple[str, str, str]], NDArray[np.float32], MadeWith]:
    """(product, image, sha256) and (N, D) float32 vectors of format 1, proved by its checksums."""
    import faiss

    try:
        made_with = MadeWith(card["embedding_sha256"], card["bundle"])
        for name in _VERSION_1:
            digest, want = _sha256(folder / name), card["files"][name]["sha256"]
            if digest != want:
                raise GalleryError(
                    f"{folder / name} is damaged: sha256 is {digest[:12]}..., want {want[:12]}...",
                    fix="copy the gallery from a backup, or build it again",
                )
        raw = json.loads((folder / "rows.json").read_bytes())
        rows = [(row["product_id"], row["image"], row["sha256"]) for row in raw]
        index = faiss.read_index(str(folder / "index.faiss"))
        if index.ntotal != len(rows):
            raise ValueError(f"{index.ntotal} vectors for {len(rows)} rows")
        return rows, index.reconstruct_n(0, index.ntotal), made_with
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as e:
        raise GalleryError(
            f"gallery {str(folder)!r} of format 1 is malformed: {e!r}",
            fix="copy it from a backup, or build the gallery again",
        ) from e


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else migrates this folder; the lock ends with the process."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise GalleryError(
                f"gallery {str(folder)!r} is being migrated by another process",
                fix="wait until that one is done",
            ) from e
        yield
    finally:
        os.close(fd)
