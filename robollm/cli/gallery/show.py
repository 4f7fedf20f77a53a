"""What the gallery verbs share: their argument, tables, progress bars, sizes in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

gallery_argument = click.argument("gallery", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="JSON on stdout, no table.")
_PIPE_WIDTH = 160  # where there is no terminal, nothing should be folded


def say(card: dict[str, Any]) -> None:
    """One line of JSON on stdout."""
    click.echo(json.dumps(card, ensure_ascii=False))


def table(*columns: str, right: Sequence[str] = (), title: str = "") -> Table:
    """An empty table.

    Args:
        columns: their names.
        right: those of them that hold numbers.
        title: above it; may be empty.
    """
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made


def show(made: Table) -> None:
    """Print a table on stdout."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=_PIPE_WIDTH)
    console.print(made)


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, on a terminal only: call what it gives with (done, total)."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def size(count: int) -> str:
    """Bytes in words."""
    number, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"


def named(many: Sequence[str], most: int = 5) -> str:
    """The first names of a list, and how many more there are."""
    rest = len(many) - most
    return ", ".join(many[:most]) + (f" and {rest:,} more" if rest > 0 else "")
