"""A folder of reference images, ARMBench's way: <product id>/<n>.jpg. What is there, in order."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from robollm.core.errors import FrameError

SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class Picture:
    """One file that should be a reference image.

    Attributes:
        number: its place in the sorted list, from 1.
        product_id: name of its folder.
        file: where it is.
    """

    number: int
    product_id: str
    file: Path

    @property
    def source(self) -> str:
        """What the gallery calls it: `product/file name`."""
        return source_of(self.product_id, self.file)


def source_of(product_id: str, file: Path) -> str:
    """What the gallery calls a reference image of a product."""
    return f"{product_id}/{file.name}"


@dataclass(frozen=True, slots=True)
class Listing:
    """What a folder of references holds.

    Attributes:
        pictures: sorted by product and file name.
        products: names of the product folders, sorted.
        bad: name of a file or folder -> why it can't be used.
        unseen: folders whose content is not known, so that nothing may be said to be gone.
        others: files of other kinds, and hidden ones: not looked at.
    """

    pictures: tuple[Picture, ...]
    products: tuple[str, ...]
    bad: dict[str, str]
    unseen: frozenset[str]
    others: int


@dataclass(slots=True)
class _Found:
    files: list[tuple[str, Path]] = field(default_factory=list)
    products: list[str] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)
    unseen: set[str] = field(default_factory=set)
    others: int = 0


def list_pictures(images: Path) -> Listing:
    """List a folder of one folder per product; nothing is read yet.

    Hidden names (a leading dot) are left out: file servers keep snapshots there. So are links that
    lead nowhere or in a circle, and names that are not UTF-8: these are named.

    Raises:
        OSError: if `images` itself can't be listed.
    """
    found = _Found()
    with os.scandir(images) as entries:
        folders = sorted(entries, key=lambda e: e.name)
    for folder in folders:
        try:
            if folder.name.startswith(".") or not folder.is_dir():
                found.others += 1
                continue
        except OSError as e:  # a link to itself
            found.bad[_shown(folder.name)] = f"{_shown(folder.path)} can't be read: {e.strerror}"
            continue
        _list_product(Path(folder.path), found)
    pictures = (Picture(n, p, f) for n, (p, f) in enumerate(found.files, start=1))
    return Listing(
        tuple(pictures),
        tuple(found.products),
        found.bad,
        frozenset(found.unseen),
        found.others,
    )


def _list_product(folder: Path, found: _Found) -> None:
    name = _shown(folder.name)
    if name != folder.name or not name.strip():
        found.bad[name] = f"folder {name!r} can't be a product id: want a name in UTF-8, not blank"
        return
    found.products.append(name)
    try:
        with os.scandir(folder) as entries:
            files = sorted(e.name for e in entries)
    except OSError as e:
        found.bad[name] = f"{folder} can't be listed: {e.strerror}"
        found.unseen.add(name)
        return
    for file in files:
        if file.startswith(".") or not file.lower().endswith(SUFFIXES):
            found.others += 1
        elif _shown(file) != file:
            shown = f"{name}/{_shown(file)}"
            found.bad[shown] = f"{shown} is a name that is not UTF-8"
        else:
            found.files.append((name, folder / file))


def _shown(name: str) -> str:
    """A name as it can be printed and stored, bytes that are not UTF-8 in hexadecimal."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def read_once(file: Path) -> bytes:
    """Read a file; a pipe or a device that pretends to be a picture would never end.

    Raises:
        FrameError: if it can't be read, is gone, or no file.
    """
    try:
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            if stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                return opened.read()
            why = "no regular file"
    except OSError as e:
        why = str(e.strerror)
    raise FrameError(
        f"{file} can't be read: {why}", kind="missing_image", fix="put a JPEG or PNG file there"
    )


def digest_of(file: Path) -> str:
    """SHA-256 of a file.

    Raises:
        FrameError: see `read_once`.
    """
    return hashlib.sha256(read_once(file)).hexdigest()
