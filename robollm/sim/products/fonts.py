"""TrueType fonts for print on products: always the same faces, so that a seed means one picture.

Looks in the usual system folders, or only in those of the environment variable ROBOLLM_FONTS
(separated like PATH). Text is laid out without Raqm, which not every machine has.
"""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

from robollm.core.errors import ConfigError

VARIABLE = "ROBOLLM_FONTS"
FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/Library/Fonts",
    "~/Library/Fonts",
    "C:/Windows/Fonts",
)
# Face -> file of fonts-dejavu, and the one of fonts-dejavu-core that stands in for it.
_FILES = {
    "sans": ("DejaVuSans.ttf", "DejaVuSans.ttf"),
    "bold": ("DejaVuSans-Bold.ttf", "DejaVuSans-Bold.ttf"),
    "oblique": ("DejaVuSans-BoldOblique.ttf", "DejaVuSans-Bold.ttf"),
    "light": ("DejaVuSans-ExtraLight.ttf", "DejaVuSans.ttf"),
    "condensed": ("DejaVuSansCondensed.ttf", "DejaVuSans.ttf"),
    "condensed_bold": ("DejaVuSansCondensed-Bold.ttf", "DejaVuSans-Bold.ttf"),
    "condensed_oblique": ("DejaVuSansCondensed-BoldOblique.ttf", "DejaVuSans-Bold.ttf"),
    "serif": ("DejaVuSerif.ttf", "DejaVuSerif.ttf"),
    "serif_bold": ("DejaVuSerif-Bold.ttf", "DejaVuSerif-Bold.ttf"),
    "serif_italic": ("DejaVuSerif-BoldItalic.ttf", "DejaVuSerif-Bold.ttf"),
    "serif_condensed": ("DejaVuSerifCondensed-Bold.ttf", "DejaVuSerif-Bold.ttf"),
    "mono": ("DejaVuSansMono.ttf", "DejaVuSansMono.ttf"),
    "mono_bold": ("DejaVuSansMono-Bold.ttf", "DejaVuSansMono-Bold.ttf"),
}
FACES = tuple(_FILES)
"""Names that `font` knows."""


def font(face: str, px: int) -> ImageFont.FreeTypeFont:
    """Return a face at a size.

    Args:
        face: one of `FACES`.
        px: height of the em square, at least 1.

    Raises:
        ConfigError: if there is no usable font, or no such face.
    """
    if face not in _FILES:
        raise ConfigError(f"no font face {face!r}", fix=f"known: {', '.join(FACES)}")
    return _load(str(_faces(_folders())[face]), px)


def fonts_used() -> dict[str, str]:
    """Return the file name and sha256 of every font in use, for a dataset's card.

    With fonts-dejavu-core alone fewer files stand here, and pixels differ from those of a machine
    with all of fonts-dejavu.

    Raises:
        ConfigError: if there is no usable font.
    """
    paths = sorted(set(_faces(_folders()).values()))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _folders() -> tuple[str, ...]:
    chosen = os.environ.get(VARIABLE, "")
    return tuple(f for f in chosen.split(os.pathsep) if f) or FOLDERS


@lru_cache(maxsize=8)
def _faces(folders: tuple[str, ...]) -> dict[str, Path]:
    """Return the file of every face; fonts that are not DejaVu only from a chosen folder."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(Path(folder).expanduser().rglob("*.ttf")):
            found.setdefault(path.name, path)
    if all(core in found for _, core in _FILES.values()):
        return {face: found.get(full, found[core]) for face, (full, core) in _FILES.items()}
    if found and folders != FOLDERS:
        own = [found[name] for name in sorted(found)]
        return {face: own[i % len(own)] for i, face in enumerate(_FILES)}
    raise ConfigError(
        f"no TrueType font found in {', '.join(folders)}, want e.g. DejaVu",
        fix=f"sudo apt-get install fonts-dejavu, or set {VARIABLE} to a folder of .ttf files",
    )


@lru_cache(maxsize=512)
def _load(path: str, px: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, px, layout_engine=ImageFont.Layout.BASIC)
