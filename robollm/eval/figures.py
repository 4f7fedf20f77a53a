"""What `metrics.json` holds: figures with intervals, curves, tables, counts, the worst samples."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from robollm.core.errors import EvalError
from robollm.eval.run_card import write_json
from robollm.metrics.bootstrap import Interval

FORMAT = "robollm-eval-metrics"
FORMAT_VERSION = 1
FILE = "metrics.json"

Cell: TypeAlias = str | int | float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of a plot.

    Attributes:
        kind: what is drawn, the same for all lines of one plot: "roc", "pr", "open-set",
            "reliability", ...
        x: (N,) values.
        y: (N,) values; nan: no value there.
        x_label: of the axis.
        y_label: of the axis.
        label: of this line.
    """

    kind: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    x_label: str
    y_label: str
    label: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells, and one sentence about them."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts between edges: one edge more than counts. `unit` is that of the edges."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    unit: str


@dataclass(frozen=True, slots=True)
class Worst:
    """A sample that went wrong.

    Attributes:
        key: of its record.
        badness: larger is worse, comparable within a section.
        why: one plain sentence.
        facts: `outcome` (a short phrase, by which a report filters), and what else a report draws:
            `answer` (what was said), `threshold` (score above which finds were counted).
    """

    key: str
    badness: float
    why: str
    facts: Mapping[str, str | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Queries and references in a plane, for a plot.

    Attributes:
        points: (x, y, product, right): `right` is None for a reference image.
        method: how the plane was found.
    """

    points: tuple[tuple[float, float, str, bool | None], ...]
    method: str


@dataclass(frozen=True, slots=True)
class Section:
    """All figures of one stream of records.

    Attributes:
        task: "segmentation", "identification", "defects", "videos" or "station".
        subset: part of the task's data, "" if it has no parts.
        split: "test", "val" or "train".
        protocol: what was asked and how it was counted, in one line for people.
        samples: records that were scored.
        units: what was resampled, and how many: products, inducts, images.
        unit: what one of these is.
        figures: name -> value with its interval.
        curves: name -> curve.
        tables: name -> table.
        histograms: name -> histogram.
        counts: name -> how many.
        worst: the worst samples first, at most 20.
        embeddings: the embedding space in a plane; None: not of this task.
        crop: what of a picture was looked at: "image", "segment", "box"; "": there is no choice,
            or an older robollm wrote it.
    """

    task: str
    subset: str
    split: str
    protocol: str
    samples: int
    units: int
    unit: str
    figures: Mapping[str, Interval]
    curves: Mapping[str, Curve] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    worst: tuple[Worst, ...] = ()
    embeddings: Embeddings | None = None
    crop: str = ""

    @property
    def name(self) -> str:
        """`TASK` or `TASK/SUBSET`."""
        return f"{self.task}/{self.subset}" if self.subset else self.task


@dataclass(frozen=True, slots=True)
class Metrics:
    """Everything that was scored in a run.

    Attributes:
        partial: samples are missing, or have no prediction.
        partial_reasons: why, for people.
        bootstrap: `draws`, `level` and `seed` of the intervals.
        sections: of the run itself.
        baselines: predictor -> its sections, over the same samples.
    """

    partial: bool
    partial_reasons: tuple[str, ...]
    bootstrap: Mapping[str, float]
    sections: tuple[Section, ...]
    baselines: Mapping[str, tuple[Section, ...]] = field(default_factory=dict)

    def section(self, task: str, subset: str = "") -> Section | None:
        """The section of a task's subset; None if it was not scored."""
        return next((s for s in self.sections if (s.task, s.subset) == (task, subset)), None)

    def to_json(self) -> dict[str, Any]:
        """As JSON values: nan becomes null."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "partial": self.partial,
            "partial_reasons": list(self.partial_reasons),
            "bootstrap": dict(self.bootstrap),
            "sections": [_section_json(s) for s in self.sections],
            "baselines": {n: [_section_json(s) for s in ss] for n, ss in self.baselines.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Metrics:
        """Read what `to_json` gave.

        Raises:
            EvalError: if it is something else, of another version, or something is missing.
        """
        kind, version = data.get("format"), data.get("format_version")
        if (kind, version) != (FORMAT, FORMAT_VERSION):
            raise EvalError(
                f"the metrics are of format {kind!r}, version {version!r}; "
                f"want {FORMAT!r}, version {FORMAT_VERSION}",
                fix="score the run folder again: robollm eval score RUN",
            )
        try:
            return cls(
                partial=bool(data["partial"]),
                partial_reasons=tuple(data["partial_reasons"]),
                bootstrap=dict(data["bootstrap"]),
                sections=tuple(_section(s) for s in data["sections"]),
                baselines={n: tuple(map(_section, ss)) for n, ss in data["baselines"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise EvalError(
                f"the metrics are damaged: {type(e).__name__} {e}",
                fix="score the run folder again: robollm eval score RUN",
            ) from e

    def write(self, folder: Path) -> Path:
        """Write `metrics.json` into a run folder, whole or not at all; returns its path.

        Raises:
            EvalError: if it can't be written.
        """
        write_json(folder / FILE, self.to_json())
        return folder / FILE

    @classmethod
    def read(cls, folder: Path) -> Metrics:
        """Read `metrics.json` of a run folder.

        Raises:
            EvalError: if it is missing or damaged.
        """
        path = folder / FILE
        try:
            data = json.loads(path.read_bytes())
        except (OSError, ValueError) as e:
            raise EvalError(
                f"{path} is not readable: {e}",
                fix=f"score the run folder first: robollm eval score {folder}",
            ) from e
        return cls.from_json(data if isinstance(data, dict) else {})


def _number(value: float) -> float | None:
    return None if not math.isfinite(value) else float(value)


def _back(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _cell(value: Cell) -> Cell:
    return _number(value) if isinstance(value, float) else value


def _section_json(s: Section) -> dict[str, Any]:
    figures = {
        name: {"value": _number(i.value), "low": _number(i.low), "high": _number(i.high),
               "cases": i.cases}
        for name, i in s.figures.items()
    }  # fmt: skip
    curves = {
        name: {"kind": c.kind, "x": [_number(v) for v in c.x], "y": [_number(v) for v in c.y],
               "x_label": c.x_label, "y_label": c.y_label, "label": c.label}
        for name, c in s.curves.items()
    }  # fmt: skip
    tables = {
        name: {"columns": list(t.columns), "rows": [[_cell(c) for c in row] for row in t.rows],
               "note": t.note}
        for name, t in s.tables.items()
    }  # fmt: skip
    histograms = {
        name: {"edges": list(h.edges), "counts": list(h.counts), "unit": h.unit}
        for name, h in s.histograms.items()
    }
    space = s.embeddings
    return {
        "task": s.task,
        "subset": s.subset,
        "split": s.split,
        "protocol": s.protocol,
        "crop": s.crop,
        "samples": s.samples,
        "units": s.units,
        "unit": s.unit,
        "figures": figures,
        "curves": curves,
        "tables": tables,
        "histograms": histograms,
        "counts": dict(s.counts),
        "worst": [
            {"key": w.key, "badness": _number(w.badness), "why": w.why, "facts": dict(w.facts)}
            for w in s.worst
        ],
        "embeddings": space and {"points": [list(p) for p in space.points], "method": space.method},
    }


def _numbers(values: Sequence[float | None]) -> tuple[float, ...]:
    return tuple(_back(v) for v in values)


def _section(d: Mapping[str, Any]) -> Section:
    space = d["embeddings"]
    return Section(
        task=d["task"],
        subset=d["subset"],
        split=d["split"],
        protocol=d["protocol"],
        crop=str(d.get("crop", "")),
        samples=int(d["samples"]),
        units=int(d["units"]),
        unit=d["unit"],
        figures={
            name: Interval(_back(i["value"]), _back(i["low"]), _back(i["high"]), int(i["cases"]))
            for name, i in d["figures"].items()
        },
        curves={
            name: Curve(c["kind"], _numbers(c["x"]), _numbers(c["y"]), c["x_label"], c["y_label"],
                        c["label"])
            for name, c in d["curves"].items()
        },
        tables={
            name: Table(tuple(t["columns"]), tuple(tuple(row) for row in t["rows"]), t["note"])
            for name, t in d["tables"].items()
        },
        histograms={
            name: Histogram(tuple(h["edges"]), tuple(h["counts"]), h["unit"])
            for name, h in d["histograms"].items()
        },
        counts={name: int(n) for name, n in d["counts"].items()},
        worst=tuple(
            Worst(w["key"], _back(w["badness"]), w["why"], w["facts"]) for w in d["worst"]
        ),
        embeddings=space
        and Embeddings(tuple((p[0], p[1], p[2], p[3]) for p in space["points"]), space["method"]),
    )  # fmt: skip
