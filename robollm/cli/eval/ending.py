"""How the verbs of `eval` end that fill or score a run: figures, report, and words about both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robollm.cli.eval.options import say_end
from robollm.cli.gallery.show import show, table

if TYPE_CHECKING:
    from robollm.eval.figures import Metrics
    from robollm.eval.progress import Progress
    from robollm.eval.run_folder import RunFolder


def finish(
    out: Path,
    draws: int,
    seed: int,
    *,
    as_json: bool,
    progress: Progress,
    report: bool = True,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Score a run folder, write metrics.json and the report, and print the headline.

    Args:
        out: the run folder.
        draws: of the bootstrap.
        seed: of the draws.
        as_json: one JSON object on stdout.
        progress: is told of samples that are counted, draws, and pictures of the report.
        report: also write report.html and report.md.
        more: further entries of that object.

    Raises:
        EvalError: see `robollm.eval.score.score` and `write_report`.
    """
    from robollm.eval.run_folder import RunFolder
    from robollm.eval.score import headline, score

    run = RunFolder.open(out)
    metrics = score(run, draws=draws, seed=seed, progress=progress)
    path = metrics.write(out)
    page = _report(run, metrics, progress) if report else None
    card = {
        "run": str(out),
        "complete": run.card["complete"],
        "partial": metrics.partial,
        "reasons": list(metrics.partial_reasons),
        "problems": run.card["problems"]["counts"],
        "figures": headline(metrics),
        "metrics": str(path),
        "report": None if page is None else str(page),
        **(more or {}),
    }
    say_end(card, as_json=as_json, lines=lambda: _tell(run, metrics, page or path))


def _report(run: RunFolder, metrics: Metrics, progress: Progress) -> Path:
    from robollm.eval.report.report import write_report

    return write_report(run, metrics, progress=progress)


def _tell(run: RunFolder, metrics: Metrics, path: Path) -> None:
    from robollm.eval.run_card import CARD
    from robollm.eval.score import headline

    columns = ("value", "low", "high", "cases")
    title = f"{100 * metrics.bootstrap['level']:g} % intervals"
    figures = table("figure", *columns, right=columns, title=title)
    sections = {s.name: s for s in metrics.sections}
    for name in headline(metrics):
        section = max((s for s in sections if name.startswith(f"{s}/")), key=len)
        one = sections[section].figures[name.removeprefix(f"{section}/")]
        cells = (f"{v:.4f}" if v == v else "-" for v in (one.value, one.low, one.high))
        figures.add_row(name, *cells, str(one.cases))
    show(figures)
    if counts := run.card["problems"]["counts"]:
        told = ", ".join(f"{n} {kind}" for kind, n in counts.items())
        click.echo(f"problems: {told}; the first of each are in {run.path / CARD}", err=True)
    for reason in metrics.partial_reasons:
        click.echo(f"partial: {reason}", err=True)
    click.echo(f"wrote {path}", err=True)
