"""One file that a person opens: `report.html`, with `report.md` beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from robollm.core.errors import EvalError
from robollm.eval.progress import SILENT, Progress, stage
from robollm.eval.report import published, summary
from robollm.eval.report.album import Album
from robollm.eval.report.drawings import Drawing, section_drawings, task_drawings
from robollm.eval.report.grid import Grid, plural
from robollm.eval.report.markdown import to_markdown
from robollm.eval.report.pictures import Card, cards
from robollm.eval.report.tables import section_grid, table_8_1, table_8_2, table_8_3

if TYPE_CHECKING:
    from robollm.eval.figures import Metrics, Section, Table
    from robollm.eval.run_folder import RunFolder

HTML, MARKDOWN = "report.html", "report.md"
TASKS = {
    "segmentation": "Segmentation",
    "identification": "Identification",
    "defects": "Defects",
    "videos": "Defect videos",
    "station": "Station",
}
_PARTS = {**published.SUBSETS, "picks": "Picks", "totes": "Tote images"}
_MATRICES = ("confusion", "decisions", "verdicts")
"""Begin the names of tables whose rows are what is so, and whose columns are what was said."""
_TABLES = {
    "Table 8.1": ("segmentation", table_8_1),
    "Table 8.2": ("identification", table_8_2),
    "Table 8.3": ("defects", table_8_3),
}


@dataclass(frozen=True, slots=True)
class Matrix:
    """A table of counts, shaded by the share of its row.

    Attributes:
        title: what it is.
        columns: names of the columns, that of the rows' names first.
        rows: name, then (count, share of the row in percent).
        note: one sentence.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[int, int], ...]], ...]
    note: str


@dataclass(frozen=True, slots=True)
class Part:
    """One section of the metrics, as the page shows it."""

    section: Section
    title: str
    grid: Grid
    drawings: tuple[Drawing, ...]
    matrices: tuple[Matrix, ...]
    tables: Mapping[str, Table]
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """One task of the page: plots over all subsets, then a part per subset."""

    id: str
    title: str
    drawings: tuple[Drawing, ...]
    parts: tuple[Part, ...]


def write_report(
    run: RunFolder, metrics: Metrics, *, out: Path | None = None, progress: Progress = SILENT
) -> Path:
    """Write the report of a run: one HTML file that needs no other, and Markdown beside it.

    Pictures come from the data's folder, if it is still where it was; without it there are places
    with a word instead. The same run gives the same file.

    Args:
        run: to read; its records are read for the worst samples only.
        metrics: its figures.
        out: the HTML file; None: `report.html` in the run folder.
        progress: is told of every card of a sample.

    Returns:
        The HTML file. The Markdown has the same name with the suffix `.md`.

    Raises:
        EvalError: if a file can't be written, or a package of the extra `eval` is missing.
    """
    _need_packages()
    path = run.path / HTML if out is None else out
    grids, absent = thesis_tables(run.card, metrics)
    root = (run.card.get("data") or {}).get("root")
    album = Album(Path(root) if root else None)
    shown = sum(len(section.worst) for section in metrics.sections)
    with stage(progress, "report: samples to draw", shown) as drawn:
        tasks = _tasks(run, metrics, album, drawn)
    page = _render(run, metrics, grids, absent, tasks, album)
    _write(path, page)
    _write(path.with_suffix(".md"), to_markdown(run, metrics, grids, absent))
    return path


def thesis_tables(card: summary.Card, metrics: Metrics) -> tuple[list[Grid], list[str]]:
    """Tables 8.1 to 8.3 as far as the run has their task; a sentence for each that it has not.

    A run that has none of them, as of a bag, needs no sentence.
    """
    ours, conditions = summary.name_of(card), summary.conditions(card, metrics)
    grids, absent = [], []
    for name, (task, make) in _TABLES.items():
        grid = make(metrics, ours, conditions)
        if grid is None:
            absent.append(f"{name}: this run has no {task}.")
        else:
            grids.append(grid)
    return grids, absent if grids else []


def _tasks(run: RunFolder, metrics: Metrics, album: Album, drawn: Callable[[], None]) -> list[Task]:
    names = dict.fromkeys([*TASKS, *(s.task for s in metrics.sections)])
    found = []
    for task in names:
        of_task = {s.subset: s for s in metrics.sections if s.task == task}
        sections = [of_task[subset] for subset in published.in_order(list(of_task))]
        if sections:
            parts = tuple(_part(run, s, metrics, album, drawn) for s in sections)
            title = TASKS.get(task, task.capitalize())
            found.append(Task(task, title, tuple(task_drawings(task, metrics)), parts))
    return found


def _part(
    run: RunFolder, section: Section, metrics: Metrics, album: Album, drawn: Callable[[], None]
) -> Part:
    beside = {
        name: s for name, ss in metrics.baselines.items() for s in ss if s.name == section.name
    }
    matrices = {n: t for n, t in section.tables.items() if n.startswith(_MATRICES)}
    return Part(
        section=section,
        title=_PARTS.get(section.subset, section.subset or TASKS.get(section.task, "")),
        grid=section_grid(section, metrics, summary.name_of(run.card)),
        drawings=tuple(section_drawings(section, beside)),
        matrices=tuple(_matrix(n, t) for n, t in matrices.items()),
        tables={n: t for n, t in section.tables.items() if n not in matrices},
        cards=tuple(cards(run, section, album, drawn)),
    )


def _matrix(name: str, table: Table) -> Matrix:
    rows = []
    for label, *cells in table.rows:
        counts = [int(c) if isinstance(c, int | float) else 0 for c in cells]
        total = max(sum(counts), 1)
        rows.append((str(label), tuple((n, round(100 * n / total)) for n in counts)))
    title = name.replace("_", " ")
    return Matrix(title[:1].upper() + title[1:], table.columns, tuple(rows), table.note)


def _need_packages() -> None:
    """Raises `EvalError` if something is missing that only reports need."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as e:
        raise EvalError(
            f"a report needs jinja2 and matplotlib: {e}", fix="pip install 'robollm[eval]'"
        ) from e


def _render(
    run: RunFolder,
    metrics: Metrics,
    grids: Sequence[Grid],
    absent: Sequence[str],
    tasks: Sequence[Task],
    album: Album,
) -> str:
    import jinja2

    folder = resources.files(__package__)
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text("utf-8")),
    )
    cards = [c for t in tasks for p in t.parts for c in p.cards]
    return environment.get_template("template.html.j2").render(
        run=run.path.resolve().name,
        card=run.card,
        metrics=metrics,
        banners=summary.banners(run.card, metrics),
        rows=summary.rows(run.card, metrics),
        tiles=summary.tiles(metrics),
        grids=grids,
        absent=absent,
        tasks=tasks,
        subsets=list(dict.fromkeys(p.section.subset for t in tasks for p in t.parts)),
        outcomes=sorted({c.outcome for c in cards}),
        card_count=len(cards),
        missing=album.problems,
        sources=published.SOURCES,
        style=(folder / "style.css").read_text("utf-8"),
        plural=plural,
        script=(folder / "script.js").read_text("utf-8"),
    )


def _write(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, "utf-8")
        part.replace(path)
    except OSError as e:
        with suppress(OSError):
            part.unlink()
        raise EvalError(
            f"{path} can't be written: {e.strerror}", fix="make room, or give another --out"
        ) from e
