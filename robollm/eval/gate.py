"""Which figures decide over two runs, what is decided of each, and whether a gate may open.

Figures that decide are corrected for their number by Holm's method (Holm, 1979).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

from robollm.core.errors import EvalError
from robollm.eval.directions import chosen, direction
from robollm.metrics.bootstrap import Difference

REGRESSION, GAIN, SAME, UNKNOWN = "regression", "gain", "no difference", "can't say"
CORRECTIONS = ("holm", "none")
_NAMED = 5
Figures: TypeAlias = Mapping[str, Mapping[str, float]]
"""Section -> figure -> value."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of two runs.

    Attributes:
        metric: patterns of the figures that decide; (): the headline figures.
        margin: a loss up to this much is accepted, in the figure's own unit.
        alpha: chance of a false alarm, over all figures that decide.
        correct: "holm", or "none": `alpha` is then each figure's own.
        draws: resamples.
        seed: of the draws.
        allow_missing: let the gate open although the second run lacks something, or a figure that
            decides can't be judged.
    """

    metric: tuple[str, ...] = ()
    margin: float = 0.0
    alpha: float = 0.05
    correct: str = "holm"
    draws: int = 1000
    seed: int = 0
    allow_missing: bool = False

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            EvalError: for one out of range.
        """
        if not (self.margin >= 0 and 0 < self.alpha < 1 and self.correct in CORRECTIONS):
            raise EvalError(
                f"margin {self.margin:g}, alpha {self.alpha:g}, correct {self.correct!r}; want a "
                f"margin of 0 or more, an alpha between 0 and 1, and {' or '.join(CORRECTIONS)}",
                fix="correct the option",
            )


@dataclass(frozen=True, slots=True)
class Change:
    """A figure in both runs.

    Attributes:
        section: `TASK` or `TASK/SUBSET`.
        figure: its name.
        direction: 1: should rise, -1: should fall, 0: neither.
        decides: whether the exit code depends on it.
        difference: values, limits, and p of no difference.
        p: of no loss beyond the margin, two-sided; corrected if it decides.
        shows: a smaller loss could not have been told from chance by these samples; inf: none
            could; NaN: not known.
        verdict: `REGRESSION`, `GAIN`, `SAME` or `UNKNOWN`.
    """

    section: str
    figure: str
    direction: int
    decides: bool
    difference: Difference
    p: float
    shows: float
    verdict: str


def judge(
    found: Sequence[tuple[str, str, Difference, Difference]], question: Question
) -> tuple[Change, ...]:
    """Decide about each figure.

    Args:
        found: section, figure, the difference, and the same with the margin given to the second
            run, whose p is that of no loss beyond the margin.
        question: what is asked.

    Raises:
        EvalError: if there are too few samples for any figure that decides.
    """
    deciding = [i for i, (_, name, _, _) in enumerate(found) if _decides(name, question)]
    # What can't be tested is no test: it must not make the others' corrections stricter.
    gate = [i for i in deciding if not math.isnan(found[i][2].low)]
    if not gate:
        names = ", ".join(found[i][1] for i in deciding[:_NAMED])
        raise EvalError(
            f"too few samples to tell anything of {names}",
            fix="evaluate more samples in both runs",
        )
    adjust = holm if question.correct == "holm" else list
    plain = dict(zip(gate, adjust([found[i][2].p for i in gate]), strict=True))
    beyond = dict(zip(gate, adjust([found[i][3].p for i in gate]), strict=True))
    changes = []
    for i, (section, name, difference, shifted) in enumerate(found):
        p_any, p_loss = plain.get(i, difference.p), beyond.get(i, shifted.p)
        sign = direction(name)
        verdict = SAME
        if math.isnan(difference.low) or math.isnan(difference.high):
            verdict = UNKNOWN
        elif p_loss < question.alpha and sign * shifted.delta < 0:
            verdict = REGRESSION
        elif p_any < question.alpha and sign * difference.delta > 0:
            verdict = GAIN
        tests = len(gate) if i in plain and question.correct == "holm" else 1
        shows = _least(difference, question.alpha / tests) + question.margin
        changes.append(
            Change(section, name, sign, i in deciding, difference, p_loss, shows, verdict)
        )
    return tuple(sorted(changes, key=lambda c: not c.decides))


def _least(difference: Difference, alpha: float) -> float:
    """The smallest loss that could have been told from chance at `alpha`.

    Twice bounded: by the spread that was seen, and, of what is from 0 to 1, by the cases that must
    fall, and none rise, for the sign test to say so: 6 at .05. It is what would just show: half of
    such losses would.
    """
    if math.isnan(difference.low):
        return math.inf
    spread = NormalDist().inv_cdf(1 - alpha / 2) * difference.error
    if math.isnan(difference.cases):
        return spread or math.nan
    falling = math.floor(1 - math.log2(alpha)) + 1
    return max(spread, falling / difference.cases) if falling <= difference.cases else math.inf


def holm(p: Sequence[float]) -> list[float]:
    """Holm's corrected p-values, in the order given: below alpha, the error of all is below it."""
    out, least = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        least = max(least, min(1.0, (len(p) - rank) * p[i]))
        out[i] = least
    return out


def check_gate(a: Figures, b: Figures, question: Question) -> None:
    """See that a question can be answered, before the work is done.

    Args:
        a: of the first run.
        b: of the second.
        question: what is asked.

    Raises:
        EvalError: if no figure of both decides; if a pattern fits none of the first run's; or if
            there are too few draws for so many figures.
    """
    known = {name for row in a.values() for name in row if direction(name)}
    idle = [p for p in question.metric if not any(chosen(name, (p,)) for name in known)]
    if idle:
        raise EvalError(
            f"--metric {idle[0]!r} fits no figure of the first run that should rise or fall; it "
            f"has {', '.join(sorted(known)[:20]) or 'none'}",
            fix="correct the pattern",
        )
    both = [name for section, row in a.items() for name in row if name in b.get(section, ())]
    gate = [name for name in both if _decides(name, question)]
    if not gate:
        raise EvalError(
            "no figure that both runs have decides; they have "
            f"{', '.join(sorted({name for name in both if direction(name)})[:20]) or 'none'}",
            fix="name figures by --metric, or evaluate the same tasks in both",
        )
    tests = len(gate) if question.correct == "holm" else 1
    if tests >= question.alpha * (question.draws + 1):
        raise EvalError(
            f"{question.draws} draws can't tell {tests} figures from chance at alpha "
            f"{question.alpha:g}",
            fix=f"--draws {math.ceil(2 * tests / question.alpha)}, or fewer figures",
        )


def lost_figures(a: Figures, b: Figures, question: Question) -> tuple[list[str], list[str]]:
    """Figures that only the first run has, for people.

    Args:
        a: of the first run.
        b: of the second; a section that it lacks is not named here.
        question: what is asked.

    Returns:
        Those that decide, one a line; and a line for the others of each section.
    """
    deciding, others = [], []
    for section, row in a.items():
        theirs = b.get(section)
        if theirs is None:
            continue
        lost = [n for n, v in row.items() if v == v and math.isnan(theirs.get(n, math.nan))]
        deciding += [
            f"{section} {name} is {row[name]:.4f} in the first run, and the second has none"
            for name in lost
            if _decides(name, question)
        ]
        rest = [name for name in lost if not _decides(name, question)]
        if rest:
            more = ", ..." if len(rest) > _NAMED else ""
            others.append(
                f"{len(rest)} other figures of {section} are in the first run only: "
                f"{', '.join(rest[:_NAMED])}{more}"
            )
    return deciding, others


def untold(changes: Sequence[Change]) -> list[str]:
    """Figures that decide and that both have, but of which nothing can be said; for people."""
    return [
        f"{c.section} {c.figure} rests on too few samples to tell"
        for c in changes
        if c.decides and c.verdict == UNKNOWN and not math.isnan(c.difference.delta)
    ]


def _decides(figure: str, question: Question) -> bool:
    return bool(direction(figure)) and chosen(figure, question.metric)
