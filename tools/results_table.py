"""Write the README's table of results from results/*.json, so that no number is typed by hand.

`python tools/results_table.py` writes it between two marks in README.md, `--check` says whether it
is up to date, and a test of the house asks. `results_rows.py` has the rows. A row whose file or
case is missing says "not measured".
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from results_row import Row
from results_rows import ROWS

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- made by tools/results_table.py from results/*.json -->"
END = "<!-- end of what tools/results_table.py made -->"


def table(results: Path, rows: Iterable[Row] = ROWS) -> str:
    """The table in Markdown, between its marks."""
    lines = ["| what | measured | conditions | command |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(row.cells(results)) + " |" for row in rows]
    return "\n".join([BEGIN, *lines, END])


def replaced(text: str, new: str) -> str:
    """A document with the table between its marks replaced.

    Raises:
        SystemExit: it hasn't got both marks, each once and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise SystemExit(f"want the lines {BEGIN!r} and {END!r} in README.md, each once")
    return before + new + after


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if it is stale")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    args = parser.parse_args()
    old = args.readme.read_text()
    new = replaced(old, table(args.results))
    if args.check:
        if new != old:
            print("the table is stale: python tools/results_table.py", file=sys.stderr)
        return int(new != old)
    args.readme.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
