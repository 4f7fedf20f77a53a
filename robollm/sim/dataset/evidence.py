"""What a picture shows of a defect, in pixels: a label must be about what can be seen.

A multi-pick shows as the second product's pixels. A broken package shows where the picture would
have been another one had the package stayed whole: the same moment is drawn once more with it
whole, and the pixels are counted at which something else, or the same thing at another depth, is
seen.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.sim.bodies import body_of
from robollm.sim.world import TOTE_LABEL, Picture, Scene

SECOND_PX, SECOND_SHARE = 40, 0.015
"""Least pixels, and share of what is held, of a second product that is seen."""
BROKEN_PX, BROKEN_SHARE = 25, 0.005
"""The same of the pixels that a broken package changes."""
MOVED_M = 0.003  # a surface that is nearer or farther by more is not where it was


def second_px(labels: NDArray[np.uint16], target: int) -> tuple[int, bool]:
    """Return how many pixels are a second product's, and whether that is enough to be seen.

    Args:
        labels: uint16 [H, W], of a held item and what hangs on it.
        target: the held item's label.
    """
    held = int(np.count_nonzero((labels > 0) & (labels < TOTE_LABEL)))
    second = held - int(np.count_nonzero(labels == target))
    return second, second >= max(SECOND_PX, SECOND_SHARE * held)


def whole_again(scene: Scene, target: int) -> Scene:
    """Return a moment of a hold as it would be had the package not broken.

    Args:
        scene: with the broken package, and maybe its content.
        target: the package's label.
    """
    items = []
    for item in scene.items:
        if item.instance != target:
            items.append(item)
        elif item.form.kind != "content":
            form = replace(item.form, kind="closed")
            count = len(body_of(item.product, form).segments)
            # Hinges of flaps are no segments of the shut package; a bag's are the same.
            poses = item.poses if len(item.poses) == count else (item.poses[0],) * count
            items.append(replace(item, form=form, poses=poses))
    return replace(scene, items=tuple(items))


def broken_px(picture: Picture, whole: Picture, target: int) -> tuple[int, bool]:
    """Return how many pixels a broken package changes, and whether that is enough to be seen.

    Args:
        picture: of the broken package.
        whole: of `whole_again`, from the same camera.
        target: the package's label.
    """
    either = (picture.labels == target) | (whole.labels == target)
    moved = np.abs(picture.depth - whole.depth) > MOVED_M
    other = either & ((picture.labels != whole.labels) | moved)
    # Lines one or two pixels wide are where an outline is drawn a little otherwise.
    solid = cv2.morphologyEx(other.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    changed = int(np.count_nonzero(solid))
    held = int(np.count_nonzero(picture.labels == target))
    return changed, changed >= max(BROKEN_PX, BROKEN_SHARE * held)
