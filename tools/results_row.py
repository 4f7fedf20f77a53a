"""What a row of the README's table is, and the words that rows share."""

from __future__ import annotations

import json
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
    """One row. With `file` a text may be made from its JSON, else it is what it says."""

    what: str
    measured: str | Callable[[Card], str]
    conditions: str | Callable[[Card], str]
    command: str = ""
    file: str = ""
    more: str = ""

    def cells(self, results: Path) -> tuple[str, str, str, str]:
        """The row's cells."""
        path = results / f"{self.file}.json"
        if self.file and not path.is_file():
            return self.what, NOT_MEASURED, "", f"`{self.command}`"
        card = json.loads(path.read_text()) if self.file else {}
        try:
            texts = [t if isinstance(t, str) else t(card) for t in (self.measured, self.conditions)]
        except NotMeasuredError:
            texts = [NOT_MEASURED, ""]
        except (KeyError, IndexError, TypeError) as e:
            raise SystemExit(f"results/{self.file}.json: the row {self.what!r} misses {e}") from e
        links = [f"[json](results/{self.file}.json)"] if self.file else []
        links += [self.more] if self.more else []
        beside = f" ({', '.join(links)})" if links else ""
        command = f"`{self.command}`{beside}" if self.command else beside.strip()
        return self.what, texts[0], texts[1], command


def case(card: Card, name: str, rows: str = "rows") -> Card:
    """A case with its rows.

    Raises:
        NotMeasuredError: there is none.
    """
    found: Card = card["cases"].get(name, {})
    if rows not in found:
        raise NotMeasuredError(name)
    return found


def cpu(card: Card) -> str:
    """Processor and cores."""
    about = card.get("machine") or card.get("conditions") or {}
    flags = [f for f in about.get("flags", ()) if "bf16" in f or "vnni" in f]
    beside = f" with {', '.join(flags)}" if flags else ""
    return f"{about.get('cores', '?')} cores of an {about.get('cpu', '?')}{beside}"


def busy(found: Card) -> str:
    """A warning where others used the machine."""
    others = found["conditions"]["others_cores"]
    return f"; others kept {others} cores busy" if others > 0.2 else ""


def seconds(ms: float) -> str:
    """Milliseconds for people."""
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1e3:.1f} s"


def times(rows: Card, names: Iterable[str]) -> str:
    """`name x ratio` of those that were measured, with the bound in brackets where there is one."""

    def one(row: Card) -> str:
        more = f" ({row['ratio_bound']:g})" if "ratio_bound" in row else ""
        return f"**x {row['ratio']:g}**{more}"

    return ", ".join(f"{n} {one(rows[n])}" for n in names if n in rows)
