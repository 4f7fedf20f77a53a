"""What scoring a stream gives, and what all streams have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from robollm.eval.figures import Curve, Section, Worst
from robollm.eval.latency import latency
from robollm.eval.records import Record
from robollm.metrics.bootstrap import Interval
from robollm.metrics.calibration import ReliabilityTally
from robollm.metrics.tally import Tally

WORST = 20
_SHOWN = 120  # letters of an error
R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Scored:
    """A stream that was counted.

    Attributes:
        tally: gives figures for any resample.
        section: makes the section, given the figures with their intervals.
    """

    tally: Tally
    section: Callable[[Mapping[str, Interval]], Section]


@dataclass(slots=True)
class Notes:
    """Taken while the records of a stream pass by, one at a time.

    Attributes:
        samples: how many passed.
        errors: kind -> records without an answer.
        ms: stage times of each that has some.
    """

    samples: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    ms: list[dict[str, float]] = field(default_factory=list)

    def of(self, records: Iterable[R]) -> Iterator[R]:
        """Give the records on, and note what is common to all."""
        for one in records:
            self.samples += 1
            if one.error is not None:
                self.errors[one.error["kind"]] += 1
            elif one.ms:
                self.ms.append(one.ms)
            yield one

    @property
    def counts(self) -> dict[str, int]:
        """Samples without an answer, in all and by kind."""
        out = {"no_answer": sum(self.errors.values())} if self.errors else {}
        return out | {f"no_answer_{kind}": n for kind, n in sorted(self.errors.items())}

    def complete(self, section: Section) -> Section:
        """The section with what is common to all beside its own: samples, errors, latency."""
        times, pictures = latency(self.ms)
        return replace(
            section,
            samples=self.samples,
            figures={**section.figures, **times},
            counts={**section.counts, **self.counts},
            histograms={**section.histograms, **pictures},
        )


def no_answer(record: Record) -> str:
    """One sentence about a record with an error."""
    assert record.error is not None
    what = record.error["what"].strip().splitlines()
    text = what[-1] if what else record.error["kind"]
    return f"No answer ({record.error['kind']}): {text[:_SHOWN]}"


def worst(some: Iterable[Worst]) -> tuple[Worst, ...]:
    """The worst ones, by badness, then by key."""
    return tuple(sorted(some, key=lambda w: (-w.badness, w.key))[:WORST])


def diagram(tally: ReliabilityTally, label: str) -> Curve:
    """A reliability diagram's line."""
    return Curve(
        "reliability",
        tuple(b.said for b in tally.bins),
        tuple(b.true for b in tally.bins),
        "score said",
        "share that was right",
        label,
    )
