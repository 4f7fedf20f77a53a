"""How soon a defect is flagged, on the frames of an induct, a video or a pick in order of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import EvalError
from robollm.data.armbench_defects import NOMINAL
from robollm.metrics.curves import NAN, Vector
from robollm.metrics.defects import NORMAL, DefectImage, probabilities
from robollm.metrics.tally import Share

QUANTILES = {"median": 0.5, "p90": 0.9}


@dataclass(frozen=True, slots=True)
class FlagSequence:
    """Frames of one thing, in order of time.

    Attributes:
        key: of the induct, video or pick; one sequence has it.
        defect: F, at least 2, whether the frame's label is a defect.
        flagged: F, whether it was called a defect; a frame that was not judged wasn't.
        seconds: F, when it was taken, not descending; None: not known.
    """

    key: str
    defect: tuple[bool, ...]
    flagged: tuple[bool, ...]
    seconds: tuple[float, ...] | None = None


def sequences(images: Sequence[DefectImage]) -> list[FlagSequence]:
    """Sequences of inducts with 2 frames or more; flagged: the most probable class is a defect.

    Frames are in order of time if all of an induct's are stamped, else in order of `frame`, and
    then seconds are not known.

    Raises:
        EvalError: as `probabilities`.
    """
    judged = probabilities(images)
    called = np.where(np.isnan(judged), -np.inf, judged).argmax(axis=1) != NORMAL
    called &= ~np.isnan(judged).any(axis=1)
    order = sorted(range(len(images)), key=lambda i: images[i].induct)
    out = []
    for key, group in groupby(order, key=lambda i: images[i].induct):
        rows = list(group)
        stamps = {i: images[i].seconds for i in rows}
        known = {i: s for i, s in stamps.items() if s is not None}
        stamped = len(known) == len(rows)
        rows.sort(key=lambda i: (known[i] if stamped else 0.0, images[i].frame))
        if len(rows) > 1:
            out.append(
                FlagSequence(
                    key,
                    tuple(any(label != NOMINAL for label in images[i].labels) for i in rows),
                    tuple(bool(called[i]) for i in rows),
                    tuple(known[i] for i in rows) if stamped else None,
                )
            )
    return out


class FlagTally:
    """How soon defects are flagged as a `Tally`; the unit is the sequence.

    Figures, of sequences with a frame whose label is a defect:
    `flagged_share`: those flagged in the first such frame or in a later one;
    `frames_to_flag_median`, `_p90`: of these, frames from the first defect to the first flag at
    or after it, 0: the same frame; `seconds_to_flag_median`, `_p90`: of these, those that are
    stamped; `early_flags`: of those with a frame before the defect, those flagged before it.
    Of the other sequences: `false_flag_share`: those with any flag.

    The times are of the flagged ones only: read them beside `flagged_share`.

    Args:
        sequences: at least one.

    Attributes:
        units: keys, in the order given.
        counts: `sequences`, `defect_sequences`, `sequences_without_time`.

    Raises:
        EvalError: if there are no sequences, or one has less than 2 frames, falling times, or the
            key of another one.
    """

    def __init__(self, sequences: Sequence[FlagSequence]) -> None:
        _check(sequences)
        self.units: tuple[str, ...] = tuple(s.key for s in sequences)
        frames = np.full(len(sequences), np.nan)
        seconds = frames.copy()
        early, before, false = (np.zeros(len(sequences)) for _ in range(3))
        defect = np.array([any(s.defect) for s in sequences])
        for row, s in enumerate(sequences):
            if not any(s.defect):
                false[row] = any(s.flagged)
                continue
            first = s.defect.index(True)
            before[row] = first > 0
            early[row] = any(s.flagged[:first])
            if True in s.flagged[first:]:
                flag = s.flagged.index(True, first)
                frames[row] = flag - first
                if s.seconds is not None:
                    seconds[row] = s.seconds[flag] - s.seconds[first]
        self._times = {"frames": frames, "seconds": seconds}
        self._shares = {
            "flagged_share": ((~np.isnan(frames)).astype(float), defect.astype(float)),
            "early_flags": (early, before),
            "false_flag_share": (false, (~defect).astype(float)),
        }
        self.counts = {
            "sequences": len(sequences),
            "defect_sequences": int(defect.sum()),
            "sequences_without_time": sum(s.seconds is None for s in sequences),
        }

    def figures(self, counts: NDArray[np.int64] | None = None) -> dict[str, float]:
        """All figures; see `Tally`."""
        each = np.ones(len(self.units), np.int64) if counts is None else counts
        out = {}
        for name, (hits, cases) in self._shares.items():
            out[name] = float(each @ hits / (each @ cases)) if each @ cases else NAN
        for unit, values in self._times.items():
            drawn = np.repeat(values, each)
            drawn = drawn[~np.isnan(drawn)]
            for name, q in QUANTILES.items():
                value = float(np.quantile(drawn, q)) if len(drawn) else NAN
                out[f"{unit}_to_flag_{name}"] = value
        return out

    def share(self, name: str) -> Share | None:
        """Hits and cases of a share; see `Tally`."""
        return self._shares.get(name)

    def times(self, unit: str) -> Vector:
        """What the quantiles are of, "frames" or "seconds", for a histogram; ascending."""
        values = self._times[unit]
        return np.sort(values[~np.isnan(values)])


def _check(sequences: Sequence[FlagSequence]) -> None:
    if not sequences:
        raise EvalError("there is no sequence to count", fix="evaluate inducts of several frames")
    seen: set[str] = set()
    for s in sequences:
        falls = s.seconds is not None and any(np.diff(s.seconds) < 0)
        lengths = {len(s.defect), len(s.flagged), len(s.seconds or s.defect)}
        if s.key in seen or falls or len(lengths) > 1 or len(s.defect) < 2:
            raise EvalError(
                f"sequence {s.key} has {len(s.defect)} labels, {len(s.flagged)} flags and the "
                f"times {s.seconds}; want 2 of each or more, times that don't fall, and one "
                "sequence of this key",
                fix="correct the records of this sequence",
            )
        seen.add(s.key)
