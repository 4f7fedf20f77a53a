"""Two runs, sample by sample: what got worse, and is that more than chance?

Both runs are drawn again and again by the same units (paired bootstrap), so that what is hard for
both cancels out. What is decided of the differences: see gate.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.eval.compare_samples import SampleChange, common, sample_changes
from robollm.eval.directions import direction
from robollm.eval.gate import (
    REGRESSION,
    Change,
    Question,
    check_gate,
    judge,
    lost_figures,
    untold,
)
from robollm.eval.progress import SILENT, Progress
from robollm.eval.run_card import differences as unlike
from robollm.eval.run_folder import RunFolder
from robollm.eval.score import tallies
from robollm.metrics.bootstrap import Difference, paired
from robollm.metrics.tally import Share, Tally

FORMAT, FORMAT_VERSION = "robollm-eval-comparison", 1
PASSED, REGRESSED, UNDECIDED = 0, 1, 2
_WITH_MARGIN = "\0margin"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of it.

    Attributes:
        a: of the first run: `run`, `predictor`, `data`, `partial`.
        b: of the second.
        question: what was asked.
        changes: of all figures that both have; those that decide come first.
        samples: stream -> how many were right in both, lost, won ..., see `sample_changes`.
        lost: right in the first run and wrong in the second, or worse by far; largest loss first.
        won: the other way round.
        missing: why the comparison can't vouch for the second run, for people: samples, tasks and
            figures that it lost, runs that are not complete, figures that can't be judged.
        left_out: what else is in one run only, for people.
        unlike: settings that differ, for people.
    """

    a: Mapping[str, Any]
    b: Mapping[str, Any]
    question: Question
    changes: tuple[Change, ...]
    samples: Mapping[str, Mapping[str, int]]
    lost: tuple[SampleChange, ...]
    won: tuple[SampleChange, ...]
    missing: tuple[str, ...]
    left_out: tuple[str, ...]
    unlike: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Change, ...]:
        """Figures that decide and got worse, beyond margin and chance."""
        return tuple(c for c in self.changes if c.decides and c.verdict == REGRESSION)

    @property
    def exit_code(self) -> int:
        """`REGRESSED`; `UNDECIDED`: something is missing, and must not be; else `PASSED`."""
        if self.regressions:
            return REGRESSED
        return UNDECIDED if self.missing and not self.question.allow_missing else PASSED

    def to_json(self) -> dict[str, Any]:
        """As JSON values: nan becomes null."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "a": dict(self.a),
            "b": dict(self.b),
            "question": asdict(self.question),
            "exit_code": self.exit_code,
            "regressed": bool(self.regressions),
            "missing": list(self.missing),
            "changes": [_plain(asdict(c)) for c in self.changes],
            "samples": {name: dict(row) for name, row in self.samples.items()},
            "lost": [asdict(s) for s in self.lost],
            "won": [asdict(s) for s in self.won],
            "left_out": list(self.left_out),
            "unlike": list(self.unlike),
        }


def compare(
    a: Path,
    b: Path,
    question: Question,
    *,
    progress: Progress = SILENT,
) -> Comparison:
    """Compare two run folders.

    Where the samples differ, those that both have are compared, and the others are named.

    Args:
        a: the run that was good.
        b: the run that may be worse.
        question: what is asked.
        progress: shows how far it is.

    Raises:
        EvalError: if they have no sample, or no figure that decides, in common; if a sample has
            another truth in each; or if there are too few draws for so many figures.
    """
    runs = RunFolder.open(a), RunFolder.open(b)
    keep, missing, left_out = common(*runs)
    progress.say(f"{sum(map(len, keep.values()))} samples are in both runs")
    of_a, of_b = (_named(tallies(run, keep)) for run in runs)
    values = [{name: one.figures() for name, one in of.items()} for of in (of_a, of_b)]
    check_gate(values[0], values[1], question)
    shared = [n for n in of_a if n in of_b]
    for letter, run in zip("AB", runs, strict=True):
        missing += [f"run {letter}: {why}" for why in run.gaps()]
    deciding, others = lost_figures(values[0], values[1], question)
    missing += deciding
    left_out += others
    found: list[tuple[str, str, Difference, Difference]] = []
    for name in shared:
        progress.begin(f"{name}, {len(of_a[name].units)} units: draws", question.draws)
        found += differences(name, of_a[name], of_b[name], question, progress.advance)
        progress.end()
    changes = judge(found, question)
    counts: dict[str, Mapping[str, int]] = {}
    lost: list[SampleChange] = []
    won: list[SampleChange] = []
    for stream, keys in keep.items():
        progress.say(f"{stream}: sample by sample")
        counts[stream], worse, better = sample_changes(*runs, stream, keys)
        lost += worse
        won += better
    return Comparison(
        a=_about(a, runs[0]),
        b=_about(b, runs[1]),
        question=question,
        changes=changes,
        samples=counts,
        lost=tuple(lost),
        won=tuple(won),
        missing=(*missing, *untold(changes)),
        left_out=tuple(left_out),
        unlike=tuple(_unlike(*runs)),
    )


class _Shifted:
    """A tally with its figures twice: as they are, and better by the margin."""

    def __init__(
        self, tally: Tally, margin: float, drawn: Callable[[], None] = lambda: None
    ) -> None:
        self._tally, self._margin, self._drawn = tally, margin, drawn

    @property
    def units(self) -> tuple[str, ...]:
        return self._tally.units

    def figures(self, counts: NDArray[np.int64] | None = None) -> dict[str, float]:
        plain = self._tally.figures(counts)
        if counts is not None:
            self._drawn()
        better = {n + _WITH_MARGIN: v + self._margin * direction(n) for n, v in plain.items()}
        return {**plain, **better}

    def share(self, name: str) -> Share | None:
        return self._tally.share(name.removesuffix(_WITH_MARGIN))


def differences(
    section: str, a: Tally, b: Tally, question: Question, drawn: Callable[[], None] = lambda: None
) -> list[tuple[str, str, Difference, Difference]]:
    """All figures of two tallies of the same units, for `judge`.

    Args:
        section: the tallies' name.
        a: of the first run.
        b: of the second.
        question: what is asked.
        drawn: called after each draw.
    """
    both = paired(
        _Shifted(a, 0.0), _Shifted(b, question.margin, drawn),
        draws=question.draws, seed=question.seed,
    )  # fmt: skip
    names = [n for n in both if not n.endswith(_WITH_MARGIN)]
    return [(section, name, both[name], both[name + _WITH_MARGIN]) for name in names]


def _named(found: Mapping[tuple[str, str], Tally]) -> dict[str, Tally]:
    return {"/".join(part for part in key if part): tally for key, tally in found.items()}


def _unlike(a: RunFolder, b: RunFolder) -> list[str]:
    """What was asked otherwise of the two, apart from who answers."""
    mine, theirs = (
        {"source": run.card.get("source"), "settings": run.card.get("settings", {})}
        for run in (a, b)
    )
    return [f"{what} is {x} in A and {y} in B" for what, x, y in unlike(mine, theirs, "")]


def _about(path: Path, run: RunFolder) -> dict[str, Any]:
    card = run.card
    limit = card.get("settings", {}).get("limit")
    asked = [f"asked for at most {limit} samples of each kind (--limit)"] if limit else []
    return {
        "run": str(path),
        "predictor": card.get("predictor", {}),
        "data": card.get("data", {}),
        "settings": card.get("settings", {}),
        "partial": run.partial_reasons() + asked,
    }


def _plain(value: Any) -> Any:
    """What is not finite becomes None, all the way down."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value
