"""How large things would be in a picture if nothing hid them, and how much of them shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.sim.geometry import F64, posed_vertices, project
from robollm.sim.products.multipack import units
from robollm.sim.world import U8, Body, Camera, Form, Product, Scene

Box = tuple[float, float, float, float]
Bodies = Callable[[Product, Form], Body]

_FINE, _FINER = 3, 7  # samples per pixel side; the middle one is the pixel's centre
_SMALL_PX = 12_000  # boxes below this area get the finer ones
_SHIFT = 6  # bits of fraction in cv2's coordinates
_NEAR_M = 0.01
_CONVEX = ("box", "carton", "book", "can")


def amodal(scene: Scene, camera: Camera, bodies: Bodies) -> dict[int, tuple[Box, int]]:
    """Project every item as if it were alone.

    Args:
        scene: items in their poses.
        camera: from where.
        bodies: what a product looks like in a form.

    Returns:
        For each instance that is in the picture at all: its box (x1, y1, x2, y2) in px, clipped
        to the picture, and the number of pixels that it would cover. Pixel centres decide, as in
        OpenGL; counts differ from a rendered item's by its outline's last fraction of a pixel.
    """
    boxes: dict[int, list[Box]] = {}
    masks: dict[int, U8] = {}
    for item in scene.items:
        body = bodies(item.product, item.form)
        projected = [project(camera, posed_vertices(p, body, item.poses)) for p in body.parts]
        box = _bounds(projected, camera.hw)
        if box is None:
            continue
        mask = masks.setdefault(item.instance, np.zeros(camera.hw, np.uint8))
        if _is_convex(item.product, item.form) and all(
            (p[:, 2] > _NEAR_M).all() for p in projected
        ):
            hull = cv2.convexHull(np.concatenate(projected)[:, :2].astype(np.float32))
            _fill(mask, box, np.asarray(hull, np.float64).reshape(1, -1, 2))
        else:
            for points, part in zip(projected, body.parts, strict=True):
                closed = item.form.kind == "whole"
                _fill(mask, box, _triangles(points, part.mesh.faces, closed))
        boxes.setdefault(item.instance, []).append(box)
    out: dict[int, tuple[Box, int]] = {}
    for instance, found in boxes.items():
        count = int(np.count_nonzero(masks[instance]))
        if count:
            x1, y1, x2, y2 = zip(*found, strict=True)
            out[instance] = ((min(x1), min(y1), max(x2), max(y2)), count)
    return out


def visibility(
    labels: NDArray[np.uint16], amodal: Mapping[int, tuple[Box, int]]
) -> dict[int, float]:
    """Return the share of each instance's pixels that is seen, 0 to 1.

    Args:
        labels: uint16 [H, W], Picture.labels from the camera of `amodal`.
        amodal: what `amodal` returned; its instances are the result's.
    """
    counts = np.bincount(labels.ravel(), minlength=65536)
    return {i: min(1.0, float(counts[i]) / px) for i, (_, px) in amodal.items()}


def _is_convex(product: Product, form: Form) -> bool:
    return form.kind == "whole" and product.kind in _CONVEX and units(product) == 1


def _bounds(projected: list[F64], hw: tuple[int, int]) -> Box | None:
    """The clipped box of all points in front of the camera; None if it is outside."""
    points = np.concatenate(projected)
    points = points[points[:, 2] > _NEAR_M]
    if not len(points):
        return None
    x1, y1 = (float(v) for v in np.maximum(points[:, :2].min(axis=0), 0))
    x2, y2 = (float(v) for v in np.minimum(points[:, :2].max(axis=0), (hw[1], hw[0])))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def _triangles(points: F64, faces: NDArray[np.int32], closed: bool) -> F64:
    """Triangles [T, 3, 2] in front of the camera that have an area.

    Of a closed surface those that face the camera cover all that the others do.
    """
    corners = points[faces]
    front = (corners[..., 2] > _NEAR_M).all(axis=1)
    flat = corners[front][..., :2]
    a, b = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    # v points down, so what is counter-clockwise from outside has a negative area.
    area = a[:, 1] * b[:, 0] - a[:, 0] * b[:, 1]
    kept: F64 = flat[(area if closed else np.abs(area)) > 1e-4]
    return kept


def _fill(mask: U8, box: Box, polygons: F64) -> None:
    """Set the pixels of convex polygons [P, K, 2] px whose centre is inside."""
    x1, y1 = int(box[0]), int(box[1])
    x2, y2 = int(np.ceil(box[2])), int(np.ceil(box[3]))
    # cv2 fills every sample that an edge touches, so small things want small samples.
    n = _FINER if (y2 - y1) * (x2 - x1) < _SMALL_PX else _FINE
    fine = np.zeros(((y2 - y1) * n, (x2 - x1) * n), np.uint8)
    # cv2 counts from the centre of the first sample.
    spots = np.round(((polygons - (x1, y1)) * n - 0.5) * (1 << _SHIFT)).astype(np.int32)
    for polygon in spots:
        cv2.fillConvexPoly(fine, polygon, 1, cv2.LINE_8, _SHIFT)
    mask[y1:y2, x1:x2] |= fine[n // 2 :: n, n // 2 :: n]
