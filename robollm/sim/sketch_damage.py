"""How a drawn package breaks: boxes come open at one end, pouches and bottles tear."""

from __future__ import annotations

import cv2
import numpy as np

from robollm.sim.sketch_brush import KRAFT, PAPER, Image
from robollm.sim.sketch_products import Product, texture

PAD = 0.45  # free border of a damaged texture on each side, as part of the texture's size


def damaged(product: Product, seed: int) -> Image:
    """Draw a product's front with its package broken.

    Boxes and cartons have come open at the lower end: two flaps stand out and content shows.
    Pouches and bottles are torn: a ragged hole, a curled edge and content.

    Returns:
        (H', W', 4) uint8 RGBA with a border of `PAD` on each side, where flaps stick out.
    """
    rng = np.random.default_rng(seed)
    face = texture(product)
    h, w = face.shape[:2]
    px, py = round(PAD * w), round(PAD * h)
    out = np.pad(face, ((py, py), (px, px), (0, 0)))
    if product.kind in ("box", "carton"):
        _open_end(out, product, (px, py, w, h), rng)
    else:
        _tear(out, product, (px, py, w, h), rng)
    return np.asarray(out, np.uint8)


def _open_end(
    out: Image, p: Product, face: tuple[int, int, int, int], rng: np.random.Generator
) -> None:
    """Cut the face's lower end away, hang two flaps on it and let content look out."""
    x, y, w, h = face
    rim = y + int(0.70 * h)
    out[rim : y + h, x : x + w, :3] = np.asarray(KRAFT) * 0.30
    for i in range(6):  # content first, so that the flaps stand before it
        cx = x + int((0.16 + 0.135 * i) * w)
        cy = y + int(h * rng.uniform(0.86, 1.06))
        _sachet(out, p, (cx, cy), 0.17 * min(w, h) + 12, float(rng.uniform(-35, 35)))
    torn = [(x, rim)] + [
        (x + int(w * t), rim + int(rng.integers(-5, 6))) for t in np.linspace(0.08, 0.92, 12)
    ]
    lip = np.array([*torn, (x + w, rim), (x + w, rim - 9), (x, rim - 9)], np.int32)
    cv2.fillPoly(out, [lip], (*KRAFT, 255), cv2.LINE_AA)
    for side, edge in ((-1, x), (1, x + w)):
        flap = np.array(
            [(edge, rim - 6), (edge, y + h), (edge + side * 0.30 * w, y + 1.16 * h),
             (edge + side * 0.36 * w, rim + 0.10 * h)]
        ).astype(np.int32)  # fmt: skip
        shade = 1.0 if side < 0 else 0.78
        colour = tuple(int(c * shade) for c in KRAFT)
        cv2.fillPoly(out, [flap], (*colour, 255), cv2.LINE_AA)
        cv2.polylines(out, [flap], True, (*(int(c * 0.6) for c in KRAFT), 255), 2, cv2.LINE_AA)
        crease = (flap[1] * 0.5 + flap[2] * 0.5).astype(int), (flap[0] * 0.5 + flap[3] * 0.5)
        cv2.line(out, crease[0].tolist(), crease[1].astype(int).tolist(),
                 (*(int(c * 0.8) for c in KRAFT), 255), 1, cv2.LINE_AA)  # fmt: skip


def _sachet(out: Image, p: Product, at: tuple[int, int], side: float, angle: float) -> None:
    corners = cv2.boxPoints((at, (side, 1.25 * side), angle)).astype(np.int32)
    cv2.fillPoly(out, [corners], (*PAPER, 255), cv2.LINE_AA)
    cv2.polylines(out, [corners], True, (150, 144, 132, 255), 2, cv2.LINE_AA)
    band = cv2.boxPoints((at, (0.8 * side, 0.3 * side), angle)).astype(np.int32)
    cv2.fillPoly(out, [band], (*p.tint, 255), cv2.LINE_AA)


def _tear(
    out: Image, p: Product, face: tuple[int, int, int, int], rng: np.random.Generator
) -> None:
    """Rip a ragged hole with a curled tongue; content lies in it and falls out of it."""
    x, y, w, h = face
    cx, cy = x + 0.52 * w, y + 0.66 * h
    turn = np.linspace(0, 2 * np.pi, 22, endpoint=False)
    reach = rng.uniform(0.72, 1.15, 22)[:, None]
    ring = np.stack([np.cos(turn) * 0.34 * w, np.sin(turn) * 0.17 * h], 1) * reach + (cx, cy)
    cv2.fillPoly(out, [(ring * 1.0).astype(np.int32)], (*PAPER, 255), cv2.LINE_AA)
    hole = (ring - (cx, cy)) * 0.86 + (cx, cy)
    cv2.fillPoly(out, [hole.astype(np.int32)], (46, 34, 30, 255), cv2.LINE_AA)
    bit = (250, 214, 120) if p.kind == "pouch" else p.tint
    dark = tuple(int(0.6 * c) for c in bit)
    for k in range(16):
        drop = max(0.0, k / 15 - 0.35) * 0.75 * h  # the later ones have fallen
        at = (int(cx + rng.normal(0, 0.13 * w)), int(cy + rng.normal(0, 0.04 * h) + drop))
        axes = (int(0.075 * w), int(0.045 * w))
        angle = float(rng.uniform(0, 180))
        cv2.ellipse(out, at, axes, angle, 0, 360, (*bit, 255), -1, cv2.LINE_AA)
        cv2.ellipse(out, at, axes, angle, 0, 360, (*dark, 255), 1, cv2.LINE_AA)
    tongue = np.array([(cx - 0.34 * w, cy - 0.04 * h), (cx - 0.05 * w, cy - 0.17 * h),
                       (cx - 0.20 * w, cy - 0.30 * h), (cx - 0.48 * w, cy - 0.20 * h)])  # fmt: skip
    cv2.fillPoly(out, [tongue.astype(np.int32)], (*PAPER, 255), cv2.LINE_AA)
    cv2.polylines(out, [tongue.astype(np.int32)], True, (168, 160, 146, 255), 2, cv2.LINE_AA)
