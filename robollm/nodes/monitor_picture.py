"""One picture per pick: the tote with its instances, the post-pick views, the verdict above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.defects import NOMINAL, UNINSPECTED
from robollm.core.frame import Frame
from robollm.nodes import messages
from robollm.runtime import overlay

HEIGHT = 640


def compose(
    *,
    tote: Frame | None,
    masks: Any,
    found: Any,
    names: Any,
    target: messages.Box,
    views: Mapping[str, Frame | None],
    evidence: Mapping[str, Sequence[tuple[str, float]]],
    verdict: tuple[str, float],
    product: tuple[str, float],
    pick_id: str,
    trained: bool,
) -> NDArray[np.uint8]:
    """Draw one pick.

    Args:
        tote: the tote image of the pick, or None.
        masks: its mono16 label map message, or None.
        found: its Detection2DArray of instances, or None.
        names: its Detection2DArray of identifications, or None.
        target: the pick's box, tote px.
        views: judged views and their images.
        evidence: judged views and their ranked classes.
        verdict: decision and score.
        product: first hypothesis and its probability.
        pick_id: the pick's id.
        trained: False puts a loud mark on the picture.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    left = _tote(tote, masks, found, names, target)
    right = [_view(name, views[name], evidence.get(name, ())) for name in views]
    height = left.shape[0]
    panels = [left]
    if right:
        # A single view is no larger than one of two: pictures of picks are of one size.
        column = np.vstack([_fit(p, height // max(2, len(right))) for p in right])
        panels.append(_pad(column, height))
    row = np.hstack(panels)
    colour = {NOMINAL: overlay.GOOD, UNINSPECTED: overlay.DOUBT}.get(verdict[0], overlay.BAD)
    if not trained:  # a green "nominal" of random weights would be a lie
        colour = overlay.GREY
    text = (
        f"{pick_id}: {verdict[0]} {verdict[1]:.2f} on {len(evidence)} views   "
        f"product {product[0]} {product[1]:.2f}"
    )
    picture = overlay.banner(row, text, colour)
    return picture if trained else overlay.untrained_mark(picture)


def _tote(
    tote: Frame | None, masks: Any, found: Any, names: Any, target: messages.Box
) -> NDArray[np.uint8]:
    if tote is None:
        blank = np.full((HEIGHT, HEIGHT * 4 // 3, 3), 60, np.uint8)
        overlay.write(blank, "no tote image with the pick's stamp", (8, 40), overlay.GREY, 0.6)
        return blank
    image = overlay.to_bgr(tote)
    if masks is not None and found is not None:
        labels = np.frombuffer(masks.data, np.uint16).reshape(masks.height, masks.width)
        boxes = [messages.to_box(d.bbox) for d in found.detections]
        best = {}
        for d in names.detections if names is not None else ():
            best[d.id] = f" {d.results[0].hypothesis.class_id}" if d.results else ""
        texts = [d.id + best.get(d.id, "") for d in found.detections]
        image = overlay.draw_instances(image, labels, boxes, texts)
    x1, y1, x2, y2 = (round(v) for v in target)
    cv2.rectangle(image, (x1, y1), (x2, y2), (255, 255, 255), 5)
    cv2.rectangle(image, (x1, y1), (x2, y2), (0, 0, 0), 2)
    overlay.write(image, "pick", (x1, y2), (255, 255, 255), overlay.text_scale(image))
    return _fit(image, HEIGHT)


def _view(name: str, frame: Frame | None, ranked: Sequence[tuple[str, float]]) -> NDArray[np.uint8]:
    blank = np.full((240, 240, 3), 60, np.uint8)
    image = blank if frame is None else _fit(overlay.to_bgr(frame), HEIGHT // 2)
    lines = [name, *(f"{c} {p:.2f}" for c, p in ranked)]
    for i, line in enumerate(lines):
        overlay.write(image, line, (4, 18 * (i + 1) + 4), overlay.GREY, 0.42)
    return image


def _fit(image: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    width = round(image.shape[1] * height / image.shape[0])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _pad(image: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    out = np.full((height, image.shape[1], 3), 60, np.uint8)
    out[: image.shape[0]] = image
    return out
