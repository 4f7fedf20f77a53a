"""The database of a gallery: its tables, and connections to it.

SQLite in WAL mode: readers never wait for a writer and see one commit whole. synchronous=FULL: a
commit is on the disk when it returns. STRICT tables (SQLite >= 3.37) refuse a value of another
type, such as a text where a number was.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from robollm.core.errors import GalleryError

FORMAT = "robollm-gallery"
FORMAT_VERSION = 2
UPGRADES: tuple[Callable[[sqlite3.Connection], None], ...] = ()
"""From schema 1 to 2, from 2 to 3, ...: each changes the tables inside one transaction."""
SCHEMA_VERSION = 1 + len(UPGRADES)
CARD = "gallery.json"
DATABASE = "gallery.sqlite"
MINIMUM = (3, 37, 0)
BUSY_S = 10.0
"""How long a reader waits at most: SQLite keeps readers out only while it repairs after a crash."""

DDL = """
CREATE TABLE card(
  key TEXT PRIMARY KEY, value TEXT NOT NULL, crc32 INTEGER NOT NULL) STRICT;
CREATE TABLE space(
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, dim INTEGER NOT NULL, dtype TEXT NOT NULL,
  fingerprint TEXT NOT NULL, made_by TEXT NOT NULL, file TEXT NOT NULL, slots INTEGER NOT NULL,
  crc32 INTEGER NOT NULL) STRICT;
CREATE TABLE extent(
  space INTEGER NOT NULL REFERENCES space(id), first INTEGER NOT NULL, count INTEGER NOT NULL,
  crc32 INTEGER NOT NULL, PRIMARY KEY(space, first)) STRICT, WITHOUT ROWID;
CREATE TABLE product(
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL,
  description TEXT NOT NULL, weight_kg REAL, length_m REAL, width_m REAL, height_m REAL,
  extra TEXT NOT NULL, created TEXT NOT NULL, changed TEXT NOT NULL, texts INTEGER NOT NULL,
  crc32 INTEGER NOT NULL) STRICT;
-- product is no foreign key: the rows of the removed stay until `compact`, their product doesn't.
CREATE TABLE reference(
  id INTEGER PRIMARY KEY AUTOINCREMENT, product INTEGER NOT NULL,
  space INTEGER NOT NULL REFERENCES space(id), slot INTEGER NOT NULL, source TEXT NOT NULL,
  sha256 TEXT NOT NULL, created TEXT NOT NULL, born INTEGER NOT NULL, died INTEGER,
  texts INTEGER NOT NULL, crc32 INTEGER NOT NULL, UNIQUE(space, slot)) STRICT;
CREATE UNIQUE INDEX reference_source ON reference(source) WHERE died IS NULL;
CREATE INDEX reference_product ON reference(product) WHERE died IS NULL;
CREATE INDEX reference_born ON reference(born);
CREATE INDEX reference_died ON reference(died) WHERE died IS NOT NULL;
CREATE TABLE container(
  number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, changed INTEGER NOT NULL, removed INTEGER,
  crc32 INTEGER NOT NULL) STRICT;
CREATE INDEX container_changed ON container(changed);
CREATE TABLE container_product(
  container INTEGER NOT NULL REFERENCES container(number), product TEXT NOT NULL,
  PRIMARY KEY(container, product)) STRICT, WITHOUT ROWID;
CREATE TABLE record(
  kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, changed TEXT NOT NULL,
  crc32 INTEGER NOT NULL, PRIMARY KEY(kind, name)) STRICT;
CREATE VIRTUAL TABLE words USING fts5(
  id, title, description, content='product', content_rowid='number',
  tokenize='unicode61 remove_diacritics 2', prefix='2 3');
CREATE TRIGGER product_words_new AFTER INSERT ON product BEGIN
  INSERT INTO words(rowid, id, title, description)
  VALUES (new.number, new.id, new.title, new.description);
END;
CREATE TRIGGER product_words_gone AFTER DELETE ON product BEGIN
  INSERT INTO words(words, rowid, id, title, description)
  VALUES ('delete', old.number, old.id, old.title, old.description);
END;
CREATE TRIGGER product_words_changed AFTER UPDATE OF title, description ON product BEGIN
  INSERT INTO words(words, rowid, id, title, description)
  VALUES ('delete', old.number, old.id, old.title, old.description);
  INSERT INTO words(rowid, id, title, description)
  VALUES (new.number, new.id, new.title, new.description);
END;
"""


def require_sqlite() -> None:
    """Raise `GalleryError` if this Python's SQLite is too old."""
    if sqlite3.sqlite_version_info < MINIMUM:
        raise GalleryError(
            f"Python's SQLite is {sqlite3.sqlite_version}, want >= {'.'.join(map(str, MINIMUM))}",
            fix="use a Python with a newer SQLite",
        )


def read_format(folder: Path) -> None:
    """Look at a folder's card, before anything else of it is touched.

    Raises:
        GalleryError: if there is no gallery, or one of another format version.
    """
    file = folder / CARD
    if not file.is_file():
        raise GalleryError(
            f"no gallery at {str(folder)!r}: there is no {CARD}",
            fix="build one: robollm gallery build --bundle BUNDLE --images DIR --out GALLERY",
        )
    try:
        card = json.loads(file.read_bytes())
        name, version = card["format"], card["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise GalleryError(
            f"gallery {str(folder)!r} is malformed: {CARD}: {e!r}",
            fix="copy that file from a backup of this gallery",
        ) from e
    if name == FORMAT and version == 1:
        raise GalleryError(
            f"gallery {str(folder)!r} is of format version 1, this robollm reads {FORMAT_VERSION}",
            fix=f"robollm gallery migrate {folder}",
        )
    if name != FORMAT or version != FORMAT_VERSION:
        raise GalleryError(
            f"{file} is {name!r} version {version!r}, want {FORMAT!r} version {FORMAT_VERSION}",
            fix="use the version of robollm that made it, or build the gallery again",
        )


def connect(
    folder: Path, *, write: bool, wait_s: float = BUSY_S, older: bool = False
) -> sqlite3.Connection:
    """Connect to the database of a gallery whose `read_format` is good.

    Args:
        folder: the gallery.
        write: whether rows will be written.
        wait_s: how long to wait for a lock.
        older: whether an older schema will do.

    Raises:
        GalleryError: if it is missing, damaged, of another schema, or can't be written.
    """
    require_sqlite()
    file = folder / DATABASE
    if not file.is_file():
        raise damaged(folder, f"{DATABASE} is missing")
    with ours(folder, "open"):
        try:
            return _opened(folder, f"{_uri(file)}?mode=rw", write, wait_s, older)
        except sqlite3.OperationalError:
            if write or os.access(folder, os.W_OK):
                raise
        # A medium that can't be written has no place for SQLite's -shm file. Nobody else can
        # write there either, which is what `immutable` promises. It doesn't read the log: commits
        # that are only there show by the generation note (see `robollm.gallery.lock`).
        return _opened(folder, f"{_uri(file)}?mode=ro&immutable=1", write, wait_s, older)


def create_database(folder: Path) -> sqlite3.Connection:
    """Make the empty database of a new gallery; the caller commits."""
    require_sqlite()
    conn = sqlite3.connect(folder / DATABASE, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        conn.execute(f"PRAGMA {pragma}")
    conn.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    conn.executescript(f"BEGIN IMMEDIATE;{DDL}")
    return conn


def _uri(file: Path) -> str:
    return file.resolve().as_uri()  # quotes what a URI can't hold, such as ? and #


def _opened(folder: Path, uri: str, write: bool, wait_s: float, older: bool) -> sqlite3.Connection:
    conn = sqlite3.connect(
        uri, uri=True, timeout=wait_s, isolation_level=None, check_same_thread=False
    )
    try:
        version = conn.execute("PRAGMA user_version").fetchone()[0]
        conn.execute("SELECT 1 FROM sqlite_schema").fetchone()
        _check_schema(folder, version, older)
        for pragma in (
            "synchronous=FULL",
            "foreign_keys=ON",
            f"query_only={'OFF' if write else 'ON'}",
            "wal_autocheckpoint=1000",  # pages: the log is written back every 4 MB
            f"journal_size_limit={64 << 20}",  # and given back to the disk if it grew beyond that
        ):
            conn.execute(f"PRAGMA {pragma}")
    except BaseException:
        conn.close()
        raise
    return conn


def _check_schema(folder: Path, version: int, older: bool) -> None:
    if version > SCHEMA_VERSION:
        raise GalleryError(
            f"gallery {str(folder)!r} has schema {version}, this robollm knows {SCHEMA_VERSION}",
            fix="update robollm",
        )
    if version < SCHEMA_VERSION and not older:
        raise GalleryError(
            f"gallery {str(folder)!r} has schema {version}, this robollm writes {SCHEMA_VERSION}",
            fix=f"robollm gallery migrate {folder}",
        )


class DamagedError(GalleryError):
    """A gallery is not what was written."""


def damaged(folder: Path, what: str) -> DamagedError:
    """The error for a gallery that is not whole."""
    return DamagedError(
        f"gallery {str(folder)!r} is damaged: {what}",
        fix=f"see what is hit with: robollm gallery check {folder}; "
        "then restore it from a backup, or build it again",
    )


@contextmanager
def ours(folder: Path, doing: str) -> Iterator[None]:
    """Turn errors of SQLite and of the disk into `GalleryError`."""
    name = f"gallery {str(folder)!r}"
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as e:  # the latter for a damaged name in its message
        text = str(e)
        if "is full" in text:
            raise _full(name, doing, text) from e
        if "locked" in text or "busy" in text:
            raise GalleryError(
                f"can't {doing} {name}: {text}", fix="try again; another process is at work there"
            ) from e
        if "readonly" in text or "unable to open" in text:
            raise GalleryError(
                f"can't {doing} {name}: {text}",
                fix="make the folder and its files writable for this user",
            ) from e
        if "disk I/O" in text:
            raise GalleryError(
                f"can't {doing} {name}: {text}; nothing of this change is kept",
                fix="look at the disk (full? failing? a network share?), then try again",
            ) from e
        raise damaged(folder, f"SQLite says: {text}") from e
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _full(name, doing, str(e)) from e
        raise GalleryError(
            f"can't {doing} {name}: {e}", fix="check the folder, its rights and its disk"
        ) from e


def _full(name: str, doing: str, text: str) -> GalleryError:
    return GalleryError(
        f"disk full: can't {doing} {name} ({text}); nothing of this change is kept, "
        "nothing older is lost",
        fix="free some space on that disk, then run this again",
    )


def sync_folder(folder: Path) -> None:
    """Make new, renamed and deleted names of a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
