"""One picture file in, its card out, its drawings written."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.core.frame import Frame
from robollm.data.armbench_files import write_bytes, write_json
from robollm.runtime.predict import Box, Predictor
from robollm.runtime.predict_card import NO_GALLERY, picture_card, tote_card, view_card
from robollm.runtime.predict_files import read_frame
from robollm.runtime.predict_picture import Line, draw_tote, draw_view
from robollm.runtime.timing import Laps

CARD, DRAWINGS, MASKS = "predictions.json", "drawings", "masks"
Card = dict[str, Any]


class Job:
    """Looks at files, and keeps what it sees in a folder.

    Args:
        predictor: looks at pictures.
        out: an empty folder for `CARD`, `DRAWINGS`/NAME.png and `MASKS`/NAME.png; None: nothing is
            written.
        save_masks: write the label maps of totes.
    """

    def __init__(self, predictor: Predictor, *, out: Path | None, save_masks: bool) -> None:
        self._predictor, self._out, self._save_masks = predictor, out, save_masks
        self._bundle = predictor.perceiver.bundle

    def tote(self, file: Path, number: int, name: str) -> Card:
        """Find and name the instances of a tote.

        Args:
            file: the picture.
            number: its place in the list, from 1.
            name: of its drawings, without suffix.

        Raises:
            ConfigError: if a drawing can't be written.
            FrameError: if the picture can't be used.
            GalleryError: if the gallery can't be read.
            InferenceError: if a model fails.
        """
        frame, laps, began = self._read(file, number)
        seen = self._predictor.tote(frame, laps)
        card = self._card(file, number, frame, laps, began)
        card["instances"] = tote_card(seen, self._bundle.instance_labels, self._predictor.title)
        if self._out is not None:
            lines = [_instance_line(c) for c in card["instances"]]
            drawn = draw_tote(frame, seen.found, lines, title=file.name, trained=self._trained)
            card["drawing"] = self._write(f"{DRAWINGS}/{name}.png", drawn)
        if self._out is not None and self._save_masks:
            card["masks"] = self._write(f"{MASKS}/{name}.png", seen.found.label_map())
        return card

    def view(self, file: Path, number: int, name: str, view: str, box: Box | None) -> Card:
        """Name the object on a picture of one object, and judge it.

        Args:
            file: the picture.
            number: its place in the list, from 1.
            name: of its drawing, without suffix.
            view: see `view_name`.
            box: (x1, y1, x2, y2) of the object, px; None: the whole picture.

        Raises:
            ConfigError: if a drawing can't be written.
            FrameError: if the picture can't be used, or the box is outside of it.
            GalleryError: if the gallery can't be read.
            InferenceError: if a model fails.
        """
        frame, laps, began = self._read(file, number)
        seen = self._predictor.view(frame, view, box, laps)
        card = self._card(file, number, frame, laps, began)
        card |= view_card(seen, self._predictor.title)
        if self._out is not None:
            drawn = draw_view(
                frame,
                seen.window,
                _verdict_line(card["verdict"]),
                _product_line(card["product"]),
                trained=self._trained,
            )
            card["drawing"] = self._write(f"{DRAWINGS}/{name}.png", drawn)
        return card

    def write_card(self, card: Card) -> None:
        """Write the card of all pictures as `CARD`.

        Raises:
            ConfigError: if that is not possible.
        """
        assert self._out is not None, "there is a folder to write to"
        try:
            write_json(self._out / CARD, card)
        except OSError as e:
            raise _not_written(self._out / CARD, e) from e

    @property
    def _trained(self) -> bool:
        return self._bundle.trained

    def _read(self, file: Path, number: int) -> tuple[Frame, Laps, float]:
        began, laps = time.perf_counter(), Laps()
        with laps.stage("read"):
            side = self._predictor.perceiver.config.max_image_side
            frame = read_frame(file, number=number, max_side=side)
        return frame, laps, began

    def _card(self, file: Path, number: int, frame: Frame, laps: Laps, began: float) -> Card:
        """The part that all pictures share; its total ends here, before anything is drawn."""
        total = 1e3 * (time.perf_counter() - began)
        return picture_card(file, number, frame.hw, {**laps.ms, "total": total})

    def _write(self, name: str, image: NDArray[np.uint8] | NDArray[np.uint16]) -> str:
        assert self._out is not None, "there is a folder to write to"
        packed, data = cv2.imencode(".png", image)
        assert packed, "an image of bytes can be encoded"
        try:
            write_bytes(self._out / name, data.tobytes())
        except OSError as e:
            raise _not_written(self._out / name, e) from e
        return name


def _not_written(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"can't write {path}: {error.strerror}", fix="give --out a folder that can be written to"
    )


def answer_text(product: Card) -> str:
    """The answer on a product in a few words: its id, or the doubt with what it is between."""
    words = {
        NO_GALLERY: "no gallery",
        "unknown": "unknown",
        "not_in_manifest": "not in manifest",
        "ambiguous": "ambiguous",
    }
    if product["product"] is not None:
        return str(product["product"])
    text = words[product["decision"]]
    likely = [c["product"] for c in product["candidates"]]
    if product["decision"] == "ambiguous":
        return f"{text}: {' or '.join(likely[:2])}"
    return f"{text}: {likely[0]}" if product["decision"] == "not_in_manifest" else text


def _instance_line(card: Card) -> Line:
    line = _product_line(card["product"])
    parts = (line.detail, f"score {card['score']:.2f}")
    return Line(line.decision, line.text, " | ".join(filter(None, parts)))


def _product_line(product: Card) -> Line:
    text = " ".join(part for part in (answer_text(product), product["title"]) if part)
    p = product["probability"]
    return Line(product["decision"], text, "" if p is None else f"probability {p:.2f}")


def _verdict_line(verdict: Card) -> Line:
    if verdict["probabilities"] is None:
        return Line(verdict["decision"], verdict["decision"], verdict["reason"])
    told = " | ".join(f"{c} {p:.2f}" for c, p in verdict["probabilities"].items())
    return Line(verdict["decision"], verdict["decision"], f"probabilities: {told}")
