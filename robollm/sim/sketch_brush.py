"""Strokes from which labels are drawn: text, barcodes, pictograms, gradients, gloss."""

from __future__ import annotations

import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Rgb = tuple[int, int, int]

KRAFT: Rgb = (196, 160, 116)
PAPER: Rgb = (244, 241, 232)
INK: Rgb = (38, 34, 40)


def rounded(mask: Image, box: tuple[int, int, int, int], r: int) -> None:
    """Fill a rounded rectangle (x1, y1, x2, y2), px, of corner radius `r` with 255."""
    x1, y1, x2, y2 = box
    cv2.rectangle(mask, (x1 + r, y1), (x2 - r, y2), 255, -1)
    cv2.rectangle(mask, (x1, y1 + r), (x2, y2 - r), 255, -1)
    for x in (x1 + r, x2 - r - 1):
        for y in (y1 + r, y2 - r - 1):
            cv2.circle(mask, (x, y), r, 255, -1, cv2.LINE_AA)


def gradient(w: int, h: int, top: Rgb, bottom: Rgb) -> Image:
    """(h, w, 3) uint8 that goes part of the way from `top` to `bottom`, faster further down."""
    t = (np.linspace(0, 1, h, dtype=np.float32) ** 1.6)[:, None, None]
    rows = np.asarray(top, np.float32) * (1 - 0.6 * t) + np.asarray(bottom, np.float32) * 0.6 * t
    return np.ascontiguousarray(np.broadcast_to(rows, (h, w, 3)).astype(np.uint8))


def lit(art: Image, shade: NDArray[np.float32]) -> Image:
    """Multiply by light; above 1 it goes towards white, as gloss does."""
    s = shade[..., None]
    light = np.where(s > 1, art + (255 - art) * (s - 1), art * s)
    return np.ascontiguousarray(np.clip(light, 0, 255).astype(np.uint8))


def text(
    art: Image, text: str, centre: tuple[float, float], width: float, ink: Rgb, weight: int
) -> None:
    """Write `text` so that its ink is `width` px wide, centred: measured, as fonts differ."""
    font = cv2.FONT_HERSHEY_DUPLEX
    (w1, _), _ = cv2.getTextSize(text, font, 1.0, weight)
    scale = width / w1
    (w, h), _ = cv2.getTextSize(text, font, scale, weight)
    scratch = np.zeros((3 * h, w + 2 * h), np.uint8)
    cv2.putText(scratch, text, (h, 2 * h), font, scale, 255, weight, cv2.LINE_AA)
    x, y, w, h = cv2.boundingRect(scratch)
    x0, y0 = round(centre[0] - w / 2), round(centre[1] - h / 2)
    under = art[y0 : y0 + h, x0 : x0 + w]
    a = scratch[y : y + h, x : x + w, None][: under.shape[0], : under.shape[1]] / 255.0
    under[:] = under * (1 - a) + np.asarray(ink) * a


def small_print(art: Image, at: tuple[float, float], width: float, ink: Rgb) -> None:
    """Four lines that stand for text nobody reads; `at` is their top left, px."""
    for i, part in enumerate((1.0, 0.82, 0.93, 0.55)):
        y = int(at[1] + i * 0.05 * width + i * 8)
        cv2.line(art, (int(at[0]), y), (int(at[0] + part * width), y), ink, 3, cv2.LINE_AA)


def barcode(art: Image, code: str, box: tuple[int, int, int, int]) -> None:
    """Bars in a white (x1, y1, x2, y2) px field; the same code gives the same bars."""
    x1, y1, x2, y2 = box
    cv2.rectangle(art, (x1, y1), (x2, y2), (250, 250, 250), -1)
    rng = np.random.default_rng(zlib.crc32(code.encode()))
    x, margin = x1 + 8, int(0.14 * (y2 - y1))
    while x < x2 - 10:
        bar, gap = (int(v) for v in rng.integers(2, 7, 2))
        cv2.rectangle(art, (x, y1 + margin), (min(x + bar, x2 - 8), y2 - margin), (20, 20, 20), -1)
        x += bar + gap + 1


def pictogram(art: Image, flavour: str, at: tuple[int, int], r: int, tint: Rgb) -> None:
    """A leaf, a fruit, a cluster, a drop or a flower, in the flavour's colour."""
    dark = (int(0.55 * tint[0]), int(0.55 * tint[1]), int(0.55 * tint[2]))
    (x, y), line = at, max(2, r // 12)

    def blob(dx: float, dy: float, rx: float, ry: float, angle: float) -> None:
        centre, axes = (int(x + dx * r), int(y + dy * r)), (int(rx * r), int(ry * r))
        cv2.ellipse(art, centre, axes, angle, 0, 360, tint, -1, cv2.LINE_AA)
        cv2.ellipse(art, centre, axes, angle, 0, 360, dark, line, cv2.LINE_AA)

    if flavour in ("MINT", "ALOE"):
        for angle in (-50, 50, 0):
            a = np.deg2rad(angle - 90)
            blob(0.5 * np.cos(a), 0.3 + 0.5 * np.sin(a), 0.55, 0.22, angle - 90)
    elif flavour in ("LEMON", "ONION"):
        blob(0, 0, 0.95, 0.70, -25)
        blob(0, 0, 0.55, 0.70, -25)
    elif flavour == "BERRY":
        for dx, dy in ((-0.45, 0.25), (0.45, 0.25), (0.0, -0.45)):
            blob(dx, dy, 0.45, 0.45, 0)
    elif flavour == "PAPRIKA":
        blob(-0.2, 0.1, 0.45, 0.85, 12)
        blob(0.3, 0.1, 0.45, 0.80, -12)
    elif flavour == "ROSE":
        for k in range(5):
            a = 2 * np.pi * k / 5
            blob(0.5 * np.cos(a), 0.5 * np.sin(a), 0.42, 0.42, 0)
        blob(0, 0, 0.35, 0.35, 0)
    else:  # SALT, OCEAN: waves of drops
        for dx, s in ((-0.5, 0.8), (0.0, 1.0), (0.5, 0.8)):
            blob(dx, 0.1, 0.24, 0.62 * s, 0)
