"""Pictures that a person names: files, folders and patterns become a list, files become frames."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robollm.core.errors import ConfigError, FrameError
from robollm.core.frame import Frame
from robollm.data.images import decode_image

SUFFIXES = (".jpg", ".jpeg", ".png")
_MAGIC = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Listing:
    """What a person's words stand for.

    Attributes:
        files: the pictures, each once, in the order of the words and sorted by name within one.
        bad: the word -> why it stands for no picture.
        others: the word -> how many of its files are no pictures by their names, or hidden.
        folders: the word -> how many folders in it were not entered.
        repeated: pictures that were named more than once.
    """

    files: tuple[Path, ...]
    bad: dict[str, FrameError] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)
    repeated: int = 0

    @property
    def notes(self) -> list[str]:
        """What was left out, for people; a line each."""
        out = [
            f"{word}: {n} files left out, which are hidden or not {', '.join(SUFFIXES)}"
            for word, n in self.others.items()
        ]
        out += [
            f"{word}: {n} folders in it left out; name them, or give {word}/**"
            for word, n in self.folders.items()
        ]
        if self.repeated:
            out.append(f"{self.repeated} pictures were named more than once; each is taken once")
        return out


def list_pictures(words: Sequence[str]) -> Listing:
    """Find the pictures that words stand for.

    Args:
        words: each a file, whatever its name; a folder, for the JPEG and PNG files directly in it;
            or a pattern with `*`, `?`, `[...]` or `**` (any depth), for such files that match. A
            file or folder of just that name comes before the pattern.
    """
    taken: dict[Path, Path] = {}
    listing = Listing(())
    repeated = 0
    for word in words:
        for file in _of(word, listing):
            real = Path(os.path.realpath(file))  # Path.resolve has no answer for a link to itself
            repeated += real in taken
            taken.setdefault(real, file)
    return Listing(tuple(taken.values()), listing.bad, listing.others, listing.folders, repeated)


def _of(word: str, listing: Listing) -> list[Path]:
    path = Path(word)
    try:
        if path.is_dir():
            return _pictures(word, path.iterdir(), "has no JPEG or PNG file in it", listing)
        if path.exists() or not _MAGIC & set(word):
            return [path]  # reading it tells what is wrong with it
        # Path.glob knows no absolute patterns, and for it folder/** are folders only.
        found = (Path(p) for p in glob.glob(word, recursive=True))  # noqa: PTH207
        return _pictures(word, found, "matches no JPEG or PNG file", listing, pattern=True)
    except OSError as e:
        listing.bad[word] = FrameError(
            f"{word} can't be read: {e.strerror}",
            kind="missing_image",
            fix="give a JPEG or PNG file that you may read",
        )
        return []


def _pictures(
    word: str, found: Iterable[Path], problem: str, listing: Listing, *, pattern: bool = False
) -> list[Path]:
    """Sort out what a folder holds or a pattern matches."""
    every = sorted(found)
    folders = sum(p.is_dir() for p in every)
    files = [p for p in every if not p.is_dir()]
    own = [p for p in files if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    if len(own) < len(files):
        listing.others[word] = len(files) - len(own)
    if folders and not pattern:  # a pattern says itself how deep it goes
        listing.folders[word] = folders
    if not own:
        listing.bad[word] = FrameError(
            f"{word} {problem}",
            kind="missing_image",
            fix="give pictures, a folder of them, or a pattern such as 'totes/*.png'",
        )
    return own


def read_frame(file: Path, *, number: int = 1, max_side: int, stream: str = "image") -> Frame:
    """Read a person's picture, the way people see it: turned as its EXIF orientation says.

    Args:
        file: a JPEG or PNG file. Grey pictures get three equal channels, 16 bits become 8, alpha
            is dropped.
        number: stands for the capture time, ns, > 0: pictures of different numbers are different.
        max_side: longest side that is accepted, px.
        stream: see `Frame`.

    Returns:
        An RGB frame.

    Raises:
        FrameError: if it can't be read or decoded, or is too large.
    """
    try:
        raw = file.read_bytes()
    except OSError as e:
        raise FrameError(
            f"{file} can't be read: {e.strerror}",
            kind="missing_image",
            fix="give a JPEG or PNG file",
        ) from e
    pixels = decode_image(raw, file, upright=True, max_side=max_side)
    return Frame(pixels, "rgb", stamp_ns=number, stream=stream)


def make_folder(out: Path) -> None:
    """Make a folder for results.

    Raises:
        ConfigError: if it is there and holds something, is a file, or can't be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        full = any(out.iterdir())
    except OSError as e:
        raise ConfigError(
            f"can't make the folder {out}: {e.strerror}", fix="give --out another folder"
        ) from e
    if full:
        raise ConfigError(
            f"--out {out} is not empty, and nothing is overwritten",
            fix="give a new or an empty folder",
        )


def output_names(files: Sequence[Path]) -> list[str]:
    """One name for the outputs of each picture, without suffix, no two alike.

    Returns:
        The file's own name without suffix, or if one before it has that name, with its number in
        the list. Capitals don't count: some file systems don't tell them from small letters.
    """
    own = {f.stem.casefold() for f in files}
    taken: set[str] = set()
    names = []
    for number, file in enumerate(files, 1):
        name = file.stem
        while name.casefold() in taken or (name != file.stem and name.casefold() in own):
            name += f"-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names
