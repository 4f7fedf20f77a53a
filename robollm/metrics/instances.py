"""Average precision of masks and boxes, under the protocols that are used for ARMBench, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError, EvalError
from robollm.metrics.average_precision import (
    Cut,
    Matched,
    Ranking,
    Vector,
    best_cut,
    counted,
    mean_precision,
)
from robollm.metrics.overlap import ImageResult, Overlap, Truth, Wanted

__all__ = [
    "FULL",
    "GROUPS",
    "KINDS",
    "PROTOCOLS",
    "ImageResult",
    "InstanceTally",
    "Protocol",
    "Truth",
    "check_settings",
]

KINDS = ("mask", "box")
GROUPS = (5, 12, 25)
"""Upper ends of the groups of images by their number of objects, after the thesis' figure 8.5."""
FULL = (13,)
"""Lower end of one more group of `robollm eval`, which lies across the others."""
_LEVELS = {"": list(range(10)), "50": [0], "75": [5]}


class Protocol(NamedTuple):
    """What counts.

    Attributes:
        truth: category -> class; absent: left out.
        found: predicted label -> class; absent: left out.
        others: categories whose finds are taken out first, since no label tells them apart.
    """

    truth: Mapping[str, int]
    found: Mapping[int, int]
    others: Sequence[str] = ()


PROTOCOLS: dict[str, dict[str, Protocol]] = {
    "agnostic": {
        "class_agnostic": Protocol({"tote": 0, "object": 0, "other": 0}, {0: 0}),
        "object_only": Protocol({"object": 0}, {0: 0}, ("tote", "other")),
    },
    "two": {
        "two_class": Protocol({"tote": 0, "object": 1}, {0: 0, 1: 1}),
        "class_agnostic": Protocol({"tote": 0, "object": 0}, {0: 0, 1: 0}),
        "object_only": Protocol({"object": 0}, {1: 0}),
    },
    "object": {"object_only": Protocol({"object": 0}, {0: 0})},
}
"""By how a model's labels were made of categories: "agnostic" has one label for all, "two" has
0 = tote and 1 = object, "object" knows objects alone."""


class InstanceTally:
    """Average precision over images. A unit is an image.

    Figures are PROTOCOL_KIND_mAP (mean over IoU .50:.05:.95), _mAP50 and _mAP75, and
    PROTOCOL_KIND_mAP50_1-5 and so on of the images with so many objects. None is a share; each
    rests on the images that have something to find, of the class for which these are fewest.

    - `two_class`: mean over Tote and Object (ARMBench's devkit).
    - `class_agnostic`: everything is one class (RoboLLM's code).
    - `object_only`: objects alone. A class-agnostic model can't tell, so what it finds of a tote
      (or of a category of another name) is taken out, at all thresholds alike: whatever has an
      IoU of .5 and more with one, and less with every object.

    Equal to `COCOeval` with area "all". In a resample an image that is drawn twice counts as two
    images would, but for the order of finds of equal score within it.

    Args:
        results: read once, one at a time; only what was matched is kept.
        protocols: name -> protocol, for example `PROTOCOLS["agnostic"]`.
        kinds: of "mask" and "box".
        groups: upper ends of groups of images by their number of objects; (5, 12): 1-5, 6-12,
            13+.
        full: lower ends of groups that lie across those, if there are groups; (13,): 13+.
        max_detections: per image and class, the best ones.

    Attributes:
        units: keys of the images, in their order.

    Raises:
        ConfigError: for a setting out of range.
        EvalError: if an image comes twice, has masks of several sizes, or a score that is none.
    """

    def __init__(
        self,
        results: Iterable[ImageResult],
        protocols: Mapping[str, Protocol],
        kinds: Sequence[str] = KINDS,
        groups: Sequence[int] = GROUPS,
        *,
        full: Sequence[int] = (),
        max_detections: int = 100,
    ) -> None:
        check_settings(kinds, groups, max_detections)
        keys: dict[str, None] = {}
        self._parts = {
            f"{name}_{kind}": [Wanted(kind, *of) for of in _classes(protocol)]
            for name, protocol in protocols.items()
            for kind in kinds
        }
        matched: dict[Wanted, list[Matched | None]] = {
            one: [] for classes in self._parts.values() for one in classes
        }
        objects: list[int] = []
        for result in results:
            if result.key in keys:
                raise EvalError(f"image {result.key} comes twice", fix="give each image once")
            keys[result.key] = None
            if np.isnan(result.scores).any():
                raise EvalError(
                    f"image {result.key} has a find whose score is not a number",
                    fix="evaluate it again, with a bundle whose scores are numbers",
                )
            objects.append(sum(t.category == "object" for t in result.truth))
            overlaps = {kind: Overlap(result, kind) for kind in kinds}
            for one, rows in matched.items():
                rows.append(overlaps[one.kind].matched(one, max_detections))
        self.units: tuple[str, ...] = tuple(keys)
        inside = {
            label: [low <= n <= high for n in objects] for label, low, high in _ranges(groups, full)
        }
        self._rankings: dict[Wanted, Ranking] = {}
        self._groups: dict[str, dict[Wanted, Ranking]] = {label: {} for label in inside}
        while matched:
            one, rows = matched.popitem()
            self._rankings[one] = Ranking(rows)
            for label, members in inside.items():
                some = [m if is_in else None for m, is_in in zip(rows, members, strict=True)]
                self._groups[label][one] = Ranking(some, levels=1)

    def figures(self, counts: NDArray[np.int64] | None = None) -> dict[str, float]:
        """As `Tally`."""
        whole = {one: r.precision(counts) for one, r in self._rankings.items()}
        grouped = {
            label: {one: r.precision(counts, [0]) for one, r in rankings.items()}
            for label, rankings in self._groups.items()
        }
        out = {}
        for part, classes in self._parts.items():
            precision = mean_precision([whole[one] for one in classes])
            for suffix, levels in _LEVELS.items():
                out[f"{part}_mAP{suffix}"] = float(precision[levels].mean())
            for label, of in grouped.items():
                some = mean_precision([of[one] for one in classes])
                out[f"{part}_mAP50_{label}"] = float(some.mean())
        return out

    def share(self, name: str) -> tuple[None, Vector]:
        """Which images have something to find; see `Tally`."""
        sides = [ranking.truths > 0 for ranking in self._rankings_of(name)]
        return None, min((s for s in sides if s.any()), key=np.sum, default=sides[0]).astype(float)

    def curve(self, name: str) -> Vector:
        """Precision at `RECALLS`, mean over the figure's classes and IoU levels.

        Args:
            name: a figure's.

        Returns:
            (101,) float64, falling; its mean is the figure. NaN: there is nothing to find.

        Raises:
            EvalError: for another name.
        """
        suffix, _, label = name.partition("_mAP")[2].partition("_")
        if suffix not in _LEVELS or (label and suffix != "50"):
            raise EvalError(f"{name} is no figure of instances; want {', '.join(self.figures())}")
        some = [r.precision(None, _LEVELS[suffix]) for r in self._rankings_of(name)]
        return np.asarray(mean_precision(some).mean(0), np.float64)

    def at_best(self, name: str) -> Cut:
        """What is left at the one score with the best F1 over all images, at IoU .5.

        A protocol's classes are taken together.

        Args:
            name: PROTOCOL_KIND, or a figure's that starts so.

        Raises:
            EvalError: for another name.
        """
        return best_cut(self._rankings_of(name.partition("_mAP")[0]))

    def instances(self, name: str) -> tuple[Vector, NDArray[np.bool_], NDArray[np.intp]]:
        """All finds that count, best first: for the reliability of scores.

        Args:
            name: PROTOCOL_KIND, or a figure's that starts so.

        Returns:
            scores (N,) float64; whether each is right at IoU .5 (N,); its image's place in
            `units` (N,).

        Raises:
            EvalError: for another name.
        """
        return counted(self._rankings_of(name.partition("_mAP")[0]))

    def _rankings_of(self, name: str) -> list[Ranking]:
        """Of the figure's classes, in the images of its group."""
        part, _, rest = name.partition("_mAP")
        label = rest.partition("_")[2]
        if part not in self._parts or (label and label not in self._groups):
            raise EvalError(f"no {name} was counted; want one of {', '.join(self._parts)}")
        rankings = self._groups[label] if label else self._rankings
        return [rankings[one] for one in self._parts[part]]


def check_settings(kinds: Sequence[str], groups: Sequence[int], max_detections: int) -> None:
    """Raise unless settings are in range.

    Raises:
        ConfigError: says which isn't.
    """
    if not set(kinds) <= set(KINDS) or not kinds or max_detections < 1:
        raise ConfigError(
            f"kinds {tuple(kinds)}, max_detections {max_detections}; want kinds of "
            f"{', '.join(KINDS)}, and 1 detection or more",
            fix="leave them out for the devkit's: both kinds, 100 detections",
        )
    if list(groups) != sorted(set(groups)) or any(g < 1 for g in groups):
        raise ConfigError(f"groups are {tuple(groups)}, want rising numbers from 1")


def _ranges(groups: Sequence[int], full: Sequence[int]) -> list[tuple[str, int, float]]:
    """Label, lowest and highest number of objects of each group."""
    if not groups:
        return []
    rest = [(f"{low}+", low, float("inf")) for low in full if low != groups[-1] + 1]
    lows = [1, *(g + 1 for g in groups)]
    named = [(f"{a}-{b}", a, float(b)) for a, b in zip(lows, groups, strict=False)]
    return [*named, (f"{lows[-1]}+", lows[-1], float("inf")), *rest]


def _classes(protocol: Protocol) -> list[tuple[frozenset[str], frozenset[int], frozenset[str]]]:
    return [
        (
            frozenset(c for c, label in protocol.truth.items() if label == one),
            frozenset(x for x, label in protocol.found.items() if label == one),
            frozenset(protocol.others),
        )
        for one in sorted({*protocol.truth.values(), *protocol.found.values()})
    ]
