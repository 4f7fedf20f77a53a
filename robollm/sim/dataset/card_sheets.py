"""Contact sheets: what a dataset looks like, on a few small pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.data import armbench_defects, armbench_identification, armbench_segmentation
from robollm.data.armbench_files import VIEWS, write_bytes
from robollm.sim.world import U8

if TYPE_CHECKING:
    from robollm.sim.dataset.card import Tally

TOTES, PICKS, PRODUCTS = 20, 20, 40
_GAP, _LINE = 4, 13  # px
_PAPER, _INK = 250, (40, 40, 40)


def write_sheets(out: Path, tally: Tally) -> list[str]:
    """Write `contact_*.png` into a dataset's folder; return their names."""
    sheets: dict[str, U8] = {}
    for subset, names in sorted(tally.totes.items()):
        folder = out / armbench_segmentation.ROOT / subset / "images"
        cells = [_cell([folder / n], (144, 192), n.split(".")[0]) for n in spread(names, TOTES)]
        sheets[f"contact_totes_{subset}"] = grid(cells, 5)
    for event, ids in sorted(tally.picks.items()):
        cells = [_cell(_pictures(out, one), (96, 96), one) for one in spread(ids, PICKS)]
        sheets[f"contact_picks_{event}"] = grid(cells, 2)
    root = out / armbench_identification.ROOT
    cells = [
        _cell(armbench_identification.references(root, one), (72, 72), one)
        for one in spread(tally.products, PRODUCTS)
    ]
    if cells:
        sheets["contact_products"] = grid(cells, 2)
    for name, picture in sheets.items():
        done, packed = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
        assert done, "a uint8 picture always packs"
        write_bytes(out / f"{name}.png", packed.tobytes())
    return [f"{name}.png" for name in sheets]


def spread(names: Sequence[str], count: int) -> list[str]:
    """Return at most `count` names, evenly spread."""
    if len(names) <= count:
        return list(names)
    return [names[i * len(names) // count] for i in range(count)]


def _pictures(out: Path, pick: str) -> list[Path]:
    """The pictures of a pick: those of identification, then one more per defect frame."""
    folder = out / armbench_identification.ROOT / "Picks" / pick
    frames = out / armbench_defects.IMAGE_ROOT / "data" / pick
    own = [folder / f"{v}.jpg" for v in VIEWS if (folder / f"{v}.jpg").is_file()]
    return (own or sorted(frames.glob("*.jpg")))[:5]


def _cell(files: Sequence[Path], hw: tuple[int, int], caption: str) -> U8:
    """Pictures side by side above a caption; what isn't there stays empty."""
    thumbs = []
    for file in files:
        picture = cv2.imread(str(file), cv2.IMREAD_COLOR) if file.is_file() else None
        if picture is not None:
            thumbs.append(fit(np.asarray(picture[..., ::-1], np.uint8), hw))
    picture = np.hstack(thumbs) if thumbs else np.full((*hw, 3), 220, np.uint8)
    line = np.full((_LINE, picture.shape[1], 3), _PAPER, np.uint8)
    cv2.putText(line, caption, (1, 10), cv2.FONT_HERSHEY_SIMPLEX, 0.32, _INK, 1, cv2.LINE_AA)
    return np.vstack([picture, line])


def fit(rgb: U8, hw: tuple[int, int]) -> U8:
    """Shrink a picture into a frame, in its middle, without distorting it.

    Args:
        rgb: (h, w, 3) uint8.
        hw: (height, width) of the frame, px.
    """
    scale = min(hw[0] / rgb.shape[0], hw[1] / rgb.shape[1])
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    frame: NDArray[np.uint8] = np.full((*hw, 3), 235, np.uint8)
    y, x = (hw[0] - size[1]) // 2, (hw[1] - size[0]) // 2
    frame[y : y + size[1], x : x + size[0]] = small
    return frame


def grid(cells: Sequence[U8], columns: int) -> U8:
    """Lay pictures (h, w, 3) uint8 out in rows; column widths follow the widest."""
    height = max(c.shape[0] for c in cells) + _GAP
    width = max(c.shape[1] for c in cells) + _GAP
    rows = -(-len(cells) // columns)
    columns = min(columns, len(cells))
    sheet = np.full((rows * height + _GAP, columns * width + _GAP, 3), _PAPER, np.uint8)
    for i, cell in enumerate(cells):
        y, x = i // columns * height + _GAP, i % columns * width + _GAP
        sheet[y : y + cell.shape[0], x : x + cell.shape[1]] = cell
    return sheet
