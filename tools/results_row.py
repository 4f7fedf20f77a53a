"""What a row of the README's table is, and the words that rows share."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOT_MEASURED = "not measured"
Card = Mapping[str, Any]


class NotMeasuredError(Exception):
    """A case that was left out of a run, or refused."""


@dataclass(frozen=True)
class Row:
    """One row. With `file` a text may be made from its JSON, else it is what it says.

    Attributes:
        what: the first cell.
        measured: the second one.
        conditions: the third one.
        command: of the fourth one, unless `case` says its own.
        file: results/FILE.json.
        more: a link beside it.
        case: whose command is shown, where the file has it.
        beside: another results file that the texts find under this key.
    """

    what: str
    measured: str | Callable[[Card], str]
    conditions: str | Callable[[Card], str]
    command: str = ""
    file: str = ""
    more: str = ""
    case: str = ""
    beside: str = ""

    def cells(self, results: Path) -> tuple[str, str, str, str]:
        """The row's cells."""
        path = results / f"{self.file}.json"
        if self.file and not path.is_file():
            return self.what, NOT_MEASURED, "", f"`{self.command}`"
        card = json.loads(path.read_text()) if self.file else {}
        other = results / f"{self.beside}.json"
        if self.beside and other.is_file():
            card = {**card, self.beside: json.loads(other.read_text())}
        try:
            texts = [t if isinstance(t, str) else t(card) for t in (self.measured, self.conditions)]
        except NotMeasuredError:
            texts = [NOT_MEASURED, ""]
        except (KeyError, IndexError, TypeError) as e:
            raise SystemExit(f"results/{self.file}.json: the row {self.what!r} misses {e}") from e
        links = [f"[json](results/{self.file}.json)"] if self.file else []
        links += [self.more] if self.more else []
        beside = f" ({', '.join(links)})" if links else ""
        own = card.get("cases", {}).get(self.case, {}).get("run", {}) if self.case else {}
        command = own.get("command", self.command)
        return self.what, *texts, f"`{command}`{beside}" if command else beside.strip()


def case(card: Card, name: str, rows: str = "rows") -> Card:
    """A case with its rows.

    Raises:
        NotMeasuredError: there is none.
    """
    found: Card = card["cases"].get(name, {})
    if rows not in found:
        raise NotMeasuredError(name)
    return found


def run_of(card: Card, name: str) -> Card:
    """Command, machine and more of a case's run; in an older file the file's own are those of all.

    Raises:
        NotMeasuredError: there is no such case.
    """
    if name not in card["cases"]:
        raise NotMeasuredError(name)
    found: Card = card["cases"][name].get("run", card)
    return found


def cpu(card: Card, *names: str) -> str:
    """Processor and cores.

    Args:
        card: of a results file.
        names: cases of a row; where they come of several machines, or of several commits, it is
            said which is of which. None: the file has no cases.
    """
    machines: dict[str, list[str]] = {}
    commits: dict[str, list[str]] = {}
    for name in names:
        about = run_of(card, name).get("machine", {})
        machines.setdefault(_machine(about), []).append(name)
        commits.setdefault(about.get("commit", "unknown"), []).append(name)
    if not names:
        return _machine(card.get("machine") or card.get("conditions") or {})
    words = next(iter(machines)) if len(machines) == 1 else _of_each(machines)
    return words if len(commits) == 1 else f"{words}; not of one commit: {_of_each(commits)}"


def _machine(about: Card) -> str:
    flags = [f for f in about.get("flags", ()) if "bf16" in f or "vnni" in f]
    beside = f" with {', '.join(flags)}" if flags else ""
    return f"{about.get('cores', '?')} cores of an {about.get('cpu', '?')}{beside}"


def _of_each(groups: Mapping[str, list[str]]) -> str:
    return "; ".join(f"{', '.join(names)}: {words}" for words, names in groups.items())


def busy(found: Card) -> str:
    """A warning where others used the machine."""
    others = found["conditions"]["others_cores"]
    return f"; others kept {others} cores busy" if others > 0.2 else ""


def runs(row: Card) -> str:
    """How many timed runs stand behind a figure."""
    return f"{row['runs']} runs of each"


def line(ms: Mapping[str, float]) -> str:
    """`fixed + each` of the line through milliseconds by a number of things.

    Behind ± is the slope's standard error, by what the line leaves over. A slope below twice that
    is about 0: the figures can't tell it from none.
    """
    x, y = [float(n) for n in ms], list(ms.values())
    each, fixed = statistics.linear_regression(x, y)
    if len(x) < 3:
        return f"{fixed:.1f} + {each:.2g} ms"
    mean = statistics.fmean(x)
    over = sum((b - fixed - each * a) ** 2 for a, b in zip(x, y, strict=True)) / (len(x) - 2)
    error = math.sqrt(over / sum((a - mean) ** 2 for a in x))
    slope = f"{each:.2g} ± {error:.1g}"
    return f"{fixed:.1f} + " + (f"about 0 ({slope}) ms" if abs(each) < 2 * error else f"{slope} ms")


def seconds(ms: float) -> str:
    """Milliseconds for people."""
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1e3:.1f} s"


def times(rows: Card, names: Iterable[str]) -> str:
    """`name x ratio` of those that were measured, with the bound in brackets where there is one."""

    def one(row: Card) -> str:
        more = f" ({row['ratio_bound']:g})" if "ratio_bound" in row else ""
        return f"**x {row['ratio']:g}**{more}"

    return ", ".join(f"{n} {one(rows[n])}" for n in names if n in rows)
