"""One picture of all picks: what the monitor drew of each, small, with the truth above it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from demo_story import NOT_INSPECTED, NOT_NAMED, RIGHT, Pick
from numpy.typing import NDArray

from robollm.runtime import overlay

COLUMNS, TILE_W, GAP = 4, 560, 8  # px
BACK = 40  # grey between tiles


def contact_sheet(
    picks: Sequence[Pick], pictures: Sequence[Path], title: str, trained: bool
) -> Path:
    """Write `contact-sheet.png` beside the pictures.

    Args:
        picks: in the order of the pictures.
        pictures: the monitor's PNG of each pick.
        title: one line above all.
        trained: False draws everything grey, under a loud mark.

    Raises:
        OSError: if a picture can't be read, or the sheet can't be written.
    """
    tiles = [_tile(p, file, trained) for p, file in zip(picks, pictures, strict=True)]
    height = max(t.shape[0] for t in tiles)
    cells = [_pad(t, height) for t in tiles]
    while len(cells) % COLUMNS:
        cells.append(np.full_like(cells[0], BACK))
    rows = [np.hstack(cells[i : i + COLUMNS]) for i in range(0, len(cells), COLUMNS)]
    sheet = np.vstack(rows)
    sheet = _line(sheet.shape[1], title, (60, 60, 60), 0.9, sheet)
    if not trained:
        sheet = overlay.untrained_mark(sheet)
    out = pictures[0].parent / "contact-sheet.png"
    if not cv2.imwrite(str(out), sheet):
        raise OSError(f"can't write {out}")
    return out


def _tile(pick: Pick, file: Path, trained: bool) -> NDArray[np.uint8]:
    picture = cv2.imread(str(file))
    if picture is None:
        raise OSError(f"can't read {file}")
    size = (TILE_W, round(picture.shape[0] * TILE_W / picture.shape[1]))
    small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    true = pick.true_event if pick.in_manifest else f"{pick.true_event}, not in manifest"
    named = f"{pick.product or 'not identified'} {pick.probability:.2f}"
    product = f"product {named}: {pick.product_mark}"
    if pick.product_mark != RIGHT:
        product += f", true {pick.true_product}"
    verdict = f"{pick.name} {pick.verdict} {pick.score:.2f}: {pick.verdict_mark}, true {true}"
    for text, mark in ((product, pick.product_mark), (verdict, pick.verdict_mark)):
        small = _line(TILE_W, text, _colour(mark) if trained else overlay.GREY, 0.5, small)
    return small


def _colour(mark: str) -> tuple[int, int, int]:
    known = {RIGHT: overlay.GOOD, NOT_NAMED: overlay.DOUBT, NOT_INSPECTED: overlay.DOUBT}
    return known.get(mark, overlay.BAD)


def _line(
    width: int, text: str, back: tuple[int, int, int], scale: float, below: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """The picture under a line of text, which is made smaller rather than cut off."""
    (w, h), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    scale *= min(1.0, (width - 12) / w)
    bar = np.empty((h + base + 10, width, 3), np.uint8)
    bar[:] = back
    ink = (0, 0, 0) if sum(back) > 330 else (255, 255, 255)
    cv2.putText(bar, text, (6, h + 5), cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1, cv2.LINE_AA)
    return np.vstack([bar, below])


def _pad(tile: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    out = np.full((height + GAP, tile.shape[1] + GAP, 3), BACK, np.uint8)
    out[: tile.shape[0], : tile.shape[1]] = tile
    return out
