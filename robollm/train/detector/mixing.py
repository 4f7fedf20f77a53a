"""One training view of a tote, with what other pictures give to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import FrameError
from robollm.core.letterbox import Letterbox
from robollm.data.armbench_instances import ImageRecord, Instance
from robollm.data.problems import Problem
from robollm.train.detector import paste
from robollm.train.detector.tote_view import Pixels, Placed


class Picture(NamedTuple):
    """A picture with its annotations: `record`, and `rgb`, (H, W, 3) uint8."""

    record: ImageRecord
    rgb: Pixels


class Mixer:
    """Draws a view's masks, and mixes it with other pictures by chance.

    Args:
        mix: how.
        canvas_hw: (height, width) of the model's input, px.
        category: "tote", "object" or another name, of an annotation.
        labels: category -> class; others aren't trained.
        min_area: smaller masks are ignored, source px.
        min_visible: smaller masks are ignored, canvas px.
    """

    def __init__(
        self,
        mix: paste.Mix,
        canvas_hw: tuple[int, int],
        *,
        category: Callable[[Instance], str],
        labels: Mapping[str, int],
        min_area: float,
        min_visible: float,
    ) -> None:
        self.mix, self.canvas_hw = mix, canvas_hw
        self._category, self._labels = category, labels
        self._min_area, self._min_visible = min_area, min_visible

    def __call__(
        self,
        record: ImageRecord,
        pixels: Pixels,
        place: Placed,
        other: Callable[[], Picture],
        rng: np.random.Generator,
        problems: list[Problem],
    ) -> tuple[Pixels, list[paste.Part]]:
        """Make one view.

        Args:
            record: what the view shows.
            pixels: (h, w, 3) uint8, the placed picture; not modified.
            place: where it lies on the canvas.
            other: reads a random picture; a `FrameError` of it is noted, and the view does
                without.
            rng: where all chance comes from.
            problems: takes what can't be used of other pictures.

        Returns:
            (h, w, 3) uint8, and what is on it, with a label.

        Raises:
            FrameError: if a mask of `record` can't be decoded.
        """
        mix = self.mix
        swap = bool(mix.background) and rng.random() < mix.background
        more = bool(mix.paste) and rng.random() < mix.paste
        parts: list[paste.Part] = []
        totes: list[NDArray[np.bool_]] = []
        content: list[NDArray[np.bool_]] = []
        for one in record.instances:
            kind = self._category(one)
            label = self._labels.get(kind)
            if label is None and not (swap or more):
                continue
            mask = place.mask(one, record.hw)
            (totes if kind == "tote" else content).append(mask)
            area = np.count_nonzero(mask)
            if area and label is not None:
                small = one.crowd or one.area < self._min_area or area < self._min_visible
                parts.append(paste.Part(label, mask, small))
        tote = paste.tote_area(totes, content, place.inner_hw) if swap or more else None
        if swap and tote is not None and tote.any():
            behind = self._background(record, place, other, rng, problems)
            pixels = np.where(tote[..., None], pixels, behind)
        if more and tote is not None:
            zoom = abs(place.a[0]) / self._fit(record.hw)
            pixels, parts = self._pasted(pixels, parts, tote, zoom, other, rng, problems)
        if mix.erase and rng.random() < mix.erase:
            pixels = paste.erased(pixels, mix, rng)
        return pixels, parts

    def _fit(self, hw: tuple[int, int]) -> float:
        return Letterbox.fit(hw, self.canvas_hw).scale_xy[0]

    def _background(
        self,
        record: ImageRecord,
        place: Placed,
        other: Callable[[], Picture],
        rng: np.random.Generator,
        problems: list[Problem],
    ) -> Pixels:
        """Another picture's surroundings, or, half of the time or if it has none, a texture."""
        found = None
        if rng.random() < 0.5:
            try:
                there, rgb = other()
            except FrameError as e:
                problems.append(Problem(e.kind, str(record.path), e.what, "no background of it"))
            else:
                scale = self._fit(there.hw) * abs(place.a[0]) / self._fit(record.hw)
                boxes = [one.box for one in there.instances]
                # Without a tote's box a strip may show its rim.
                if any(self._category(one) == "tote" for one in there.instances):
                    found = paste.surroundings(rgb, boxes, scale, place.inner_hw)
        return paste.texture(place.inner_hw, rng) if found is None else found

    def _pasted(
        self,
        pixels: Pixels,
        parts: list[paste.Part],
        tote: NDArray[np.bool_],
        zoom: float,
        other: Callable[[], Picture],
        rng: np.random.Generator,
        problems: list[Problem],
    ) -> tuple[Pixels, list[paste.Part]]:
        where = "copy-paste"
        count = int(rng.integers(1, self.mix.paste_most + 1))
        try:
            record, rgb = other()
            where = str(record.path)
            usable = [
                one
                for one in record.instances
                if self._category(one) == "object" and not one.crowd and one.area >= self._min_area
            ]
            for i in rng.permutation(len(usable))[:count]:
                scale = self._fit(record.hw) * zoom * rng.uniform(*self.mix.paste_scale)
                left, up, at = rng.random() < 0.5, rng.random() < 0.5, paste.spot(tote, rng)
                one = paste.cut(rgb, usable[i], scale, (left, up), tote.size)
                if one is not None:
                    label = self._labels["object"]
                    pixels, parts = paste.paste(pixels, parts, one, label, at, self._min_visible)
        except FrameError as e:
            problems.append(Problem(e.kind, where, e.what, "not pasted"))
        return pixels, parts
