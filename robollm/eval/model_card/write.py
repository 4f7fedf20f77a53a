"""Write a bundle's model card into its folder: `card.md`, and its pictures in `card/`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robollm.core.errors import ModelFileError
from robollm.eval.model_card.costs import read_calibration
from robollm.eval.model_card.pictures import MOST_BYTES, curves, packed, worst
from robollm.eval.model_card.sources import datasets, eval_runs, train_runs
from robollm.eval.model_card.text import text
from robollm.export.writer import said_clearly, workplace
from robollm.runtime.bundle import load_bundle

CARD, FOLDER = "card.md", "card"
_CURVES = "learning_curves.png"
_OURS = (".png", ".jpg")


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        path: of `card.md`.
        pictures: how many.
        bytes: of all pictures.
        unread: pictures of failures that could not be read.
    """

    path: Path
    pictures: int
    bytes: int
    unread: int


def write_card(
    folder: Path,
    *,
    runs: Sequence[Path] = (),
    evals: Sequence[Path] = (),
    data_cards: Sequence[Path] = (),
    failures: int = 6,
) -> Written:
    """Write the model card of a bundle.

    Neither file is named in `bundle.json`: the bundle stays the one that it is. The same inputs
    give the same bytes. No folder of this machine is told.

    Args:
        folder: the bundle.
        runs: run folders of `robollm train`, in their order.
        evals: scored runs of `robollm eval armbench` with this bundle.
        data_cards: `card.json` of datasets.
        failures: so many of the worst samples, at most.

    Raises:
        ModelFileError: the bundle is damaged, or the card can't be written.
        EvalError: a run or a card is not what it should be, or another bundle answered.
        ConfigError: Matplotlib is missing, or pictures don't fit into 600 kB.
    """
    bundle = load_bundle(folder, allow_untrained=True)
    card = json.loads((folder / "bundle.json").read_bytes())
    trained, measured = train_runs(runs), eval_runs(evals, bundle)
    made: dict[str, bytes] = {}
    drawn = curves(trained)
    if drawn is not None:
        made[_CURVES] = drawn
    found, unread = worst(measured, failures)
    strips = [f.strip for f in found if f.strip is not None]
    jpegs = iter(packed(strips, MOST_BYTES - sum(map(len, made.values()))))
    shown = []
    for number, one in enumerate(found, start=1):
        name = f"failure_{number:02}_{one.task}.jpg" if one.strip is not None else ""
        if name:
            made[name] = next(jpegs)
        shown.append((one, f"{FOLDER}/{name}" if name else ""))
    words = text(
        bundle, card, read_calibration(folder, bundle), trained, measured, datasets(data_cards),
        shown, f"{FOLDER}/{_CURVES}" if drawn is not None else "",
    )  # fmt: skip
    _write(folder, words, made)
    return Written(folder / CARD, len(made), sum(map(len, made.values())), unread)


def _write(folder: Path, words: str, pictures: dict[str, bytes]) -> None:
    """Pictures first, so that the card never names one that isn't there."""
    old = folder / FOLDER
    strange = sorted(p.name for p in old.iterdir() if p.suffix not in _OURS) if old.is_dir() else []
    if strange:
        raise ModelFileError(
            f"{old} holds {', '.join(strange[:3])}, which no model card has written",
            fix="move these files away",
        )
    with workplace(folder) as place, said_clearly(folder):
        new = place / FOLDER
        new.mkdir()
        for name, data in pictures.items():
            _put(new / name, data)
        _put(place / CARD, words.encode())
        if old.exists():
            old.replace(place / "old")
        if pictures:
            new.replace(old)
        (place / CARD).replace(folder / CARD)
        shutil.rmtree(place / "old", ignore_errors=True)


def _put(path: Path, data: bytes) -> None:
    with path.open("wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
