"""Pictures for parity and calibration, through the runtime's own pre-processing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.export.parity import Probes, open_session
from robollm.export.reference import Array, TorchModels
from robollm.export.split_data import Rgb, SplitData
from robollm.export.variants import Feed
from robollm.runtime.bundle import Bundle, Canvas
from robollm.runtime.pixels import to_canvas
from robollm.runtime.session import Place

TOTES, CROPS = 8, 32
"""How many are looked at, where there are as many; half of the crops are of the defect data."""
_BATCH = 8


def take(bundle: Bundle, data: SplitData, *, blank: bool = True) -> Probes:
    """Tote images, views of picks, reference images and defect crops of a split.

    Args:
        bundle: for its input geometry.
        data: the split.
        blank: put a tote and a crop without any content behind them.
    """
    totes = [_canvas(t.rgb, bundle.tote, bundle) for t in islice(data.totes(), TOTES)]
    crops = [_canvas(rgb, bundle.crop, bundle) for rgb in _crops(data)]
    if blank:
        totes.append(np.zeros((1, 3, *bundle.tote.hw), np.float32))
        crops.append(np.zeros((1, 3, *bundle.crop.hw), np.float32))
    return Probes(totes, np.concatenate(crops))


def feeds(bundle: Bundle, torch: TorchModels, probes: Probes) -> dict[str, list[Feed]]:
    """Inputs of the graphs that int8 changes, to take the ranges of activations from.

    Args:
        bundle: its graphs in fp32.
        torch: the models; gives the maps that the detector sees.
        probes: real pictures.

    Returns:
        Of `backbone` totes and crops, with every task's adapters; of `rois` what the totes lead to.
    """
    shown = [(tote, "segmentation") for tote in probes.totes]
    for first in range(0, len(probes.crops), _BATCH):
        some = probes.crops[first : first + _BATCH]
        shown += [
            (some, task) for task in ("identification", "defects")[: 1 + bool(bundle.adapters)]
        ]
    backbone: list[Feed] = []
    for images, task in shown:
        feed: dict[str, NDArray[Any]] = {"image": images}
        if bundle.adapters:
            code = bundle.adapters.index(task) + 1 if task in bundle.adapters else 0
            feed["task"] = np.full(len(images), code, np.int64)
        backbone.append(feed)
    session = open_session("proposals", bundle.graphs["proposals"], Place("cpu"))
    count = np.array([bundle.proposals], np.int64)
    rois: list[Feed] = []
    for tote in probes.totes:
        found = session.run({"map": torch.encode(tote, "segmentation")[0]})
        candidates = dict(zip(session.outputs, found, strict=True))
        rois.append({**candidates, "proposals": count, "score_min": np.zeros(1, np.float32)})
    return {"backbone": backbone, "rois": rois}


def _crops(data: SplitData) -> Iterator[Rgb]:
    defects = [f for one in islice(data.inducts(), CROPS) for f in one.frames][: CROPS // 2]
    picks = [v for one in islice(data.picks(), CROPS) for v in one.views.values()]
    references = [rgb for _, rgb in islice(data.references(), CROPS // 4)]
    yield from defects
    yield from references
    yield from picks[: max(CROPS - len(defects) - len(references), 1)]


def _canvas(rgb: Rgb, canvas: Canvas, bundle: Bundle) -> Array:
    return to_canvas(rgb, "rgb", canvas, bundle)[0][None]
