"""The regression gate: is the shipped bundle, run by this code, as good as when it was accepted?

`make gate` evaluates the default bundle on `gate/data` and compares it, sample by sample, with the
accepted run in `gate/baseline`. Exit code 0: nothing got worse by more than its noise. 1: something
did, or fell below its floor. 2: it can't be decided, or bundle or data are not the accepted ones.
`--accept` makes the run the new baseline. docs/gate.md tells more.
"""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gate_accepted import (
    DATA,
    Accepted,
    Floors,
    below,
    digest_of,
    floors_of,
    read_accepted,
    unpack,
    write_accepted,
)
from gate_words import table

from robollm.core.errors import ConfigError, EvalError, RobollmError
from robollm.eval.compare import PASSED, REGRESSED, UNDECIDED, Comparison, compare
from robollm.eval.figures import Metrics
from robollm.eval.gate import Question
from robollm.eval.run_card import CARD
from robollm.eval.run_folder import RunFolder
from robollm.runtime.default_bundle import default_bundle

ROOT = Path(__file__).resolve().parent.parent
QUESTION = Question(margin=0.01, draws=640)
"""A loss of up to .01 passes: another processor rounds otherwise, and may have another precision.
Chance is judged by the paired resamples of both runs, at 5 % over all figures together: 640 are
enough for up to 16 figures, and they are most of what the gate costs. Figures with a floor
decide."""


class Order(NamedTuple):
    """What is asked.

    Attributes:
        bundle: its folder.
        gate: folder with `data`, `baseline` and `floors.json`.
        out: `run` and `baseline` are written there, to be looked at afterwards.
        workers: processes; 0: one per core.
        root: baselines name no place outside of it.
    """

    bundle: Path
    gate: Path = ROOT / "gate"
    out: Path = ROOT / ".cache" / "gate"
    workers: int = 0
    root: Path = ROOT


def evaluate(order: Order, *options: str) -> Path:
    """Run `robollm eval armbench`, from the beginning; returns the run folder.

    Args:
        order: what, and where.
        options: more of the command's.

    Raises:
        EvalError: if it fails; what it said is on stderr.
    """
    run = _fresh(order.out / "run")
    workers = ("--workers", str(order.workers)) if order.workers else ()
    words = [
        *("eval", "armbench", _short(order.gate / DATA, order), "--out", _short(run, order)),
        # The report takes longer than all figures, and nobody reads it here.
        *("--bundle", _short(order.bundle, order), *workers, "--json", "--no-report"),
        *options,
    ]
    done = subprocess.run(
        [sys.executable, "-m", "robollm.cli.main", *words],
        cwd=order.root,
        stdout=subprocess.DEVNULL,
    )
    if done.returncode:
        raise EvalError(
            f"`robollm {' '.join(words)}` ended with exit code {done.returncode}",
            fix="see what it said above",
        )
    return run


def check(order: Order) -> int:
    """Compare the bundle with the accepted run, print a table, and return the exit code.

    Raises:
        RobollmError: if something is missing, or can't be compared.
    """
    accepted = read_accepted(order.gate)
    if accepted is None:
        raise ConfigError(f"{order.gate} has no accepted run", fix="make gate-accept")
    digest = digest_of(order.gate / DATA)
    if digest != accepted.data:
        raise ConfigError(
            f"{order.gate / DATA} is not what was accepted: sha256 {digest[:12]}, "
            f"accepted {accepted.data[:12]}",
            fix="take it from git; for a new test set: make gate-accept",
        )
    run = evaluate(order, "--draws", "100")  # its intervals are not looked at
    found = _compare(order, run, accepted)
    return _verdict(order, accepted, run, found)


def _compare(order: Order, run: Path, accepted: Accepted) -> Comparison:
    """The baseline against a run.

    Raises:
        ConfigError: the baseline is not the run that the floors are of: accepting was cut short.
    """
    baseline = unpack(order.gate, _fresh(order.out / "baseline"))
    said, wanted = RunFolder.open(baseline).card["predictor"]["sha256"], accepted.bundle["sha256"]
    if said != wanted:
        raise ConfigError(
            f"the baseline in {order.gate} is of bundle {said[:12]}, its floors are of "
            f"{wanted[:12]}",
            fix=f"take {order.gate} from git, and make gate-accept again",
        )
    figures = tuple(dict.fromkeys(figure for _, figure in accepted.floors))
    return compare(baseline, run, replace(QUESTION, metric=figures))


def _lost(metrics: Metrics, floors: Floors) -> list[str]:
    """Figures that have a floor and that a run lacks: their floors would be gone for good."""
    there = {
        (s.name, name) for s in metrics.sections for name, one in s.figures.items()
        if not math.isnan(one.low)
    }  # fmt: skip
    return [f"{section} {figure}" for section, figure in floors if (section, figure) not in there]


def _verdict(order: Order, accepted: Accepted, run: Path, found: Comparison) -> int:
    fallen = below(Metrics.read(run), accepted.floors)
    print(table(found, accepted.floors))
    for line in (*found.unlike, *found.left_out):
        print(f"note: {line}")
    code = REGRESSED if fallen else found.exit_code
    for line in found.missing:
        print(f"missing: {line}")
    told = RunFolder.open(run).card["predictor"]
    for name in ("precision", "provider"):
        if told.get(name) != accepted.bundle.get(name):
            print(f"note: {name} is {told.get(name)}, accepted was {accepted.bundle.get(name)}")
    if told["sha256"] != accepted.bundle["sha256"]:
        print(
            f"other bundle: {told['bundle_name']} {told['sha256'][:12]}, accepted was "
            f"{accepted.bundle['bundle_name']} {accepted.bundle['sha256'][:12]}\n"
            "  fix: look at the numbers above; if they are meant: make gate-accept"
        )
        code = code or UNDECIDED
    words = {PASSED: "passed", REGRESSED: "FAILED: it got worse", UNDECIDED: "NOT DECIDED"}
    print(f"gate: {words[code]}")
    if code:
        a, b = (_short(order.out / name, order) for name in ("baseline", "run"))
        print(f"sample by sample: robollm eval compare {a} {b} --html gate.html")
    return code


def accept(order: Order, *, new_floors: bool = False) -> int:
    """Make a run of the bundle the baseline; prints what changes.

    Args:
        order: what, and where.
        new_floors: take the run's own floors, although a figure is below the old one.

    Returns:
        `PASSED`, or `REGRESSED`: a figure is below its old floor or has vanished, and nothing was
        written.

    Raises:
        RobollmError: if it can't be evaluated, or the run is partial.
    """
    if not order.bundle.resolve().is_relative_to(order.root.resolve()):
        raise ConfigError(
            f"{order.bundle} is not in {order.root}: nobody else would have it",
            fix="copy the bundle into models/ first",
        )
    old = read_accepted(order.gate)
    same_data = old is not None and old.data == digest_of(order.gate / DATA)
    run = evaluate(order)
    metrics = Metrics.read(run)
    if metrics.partial:
        raise EvalError(
            f"the run is partial: {'; '.join(metrics.partial_reasons)}", fix="repair that first"
        )
    before: Floors = {}
    if old is not None and same_data:
        found = _compare(order, run, old)
        print(table(found, old.floors))
        before = {} if new_floors else old.floors
        if below(metrics, before):
            print("not accepted: below its floor\n  fix: a better bundle, or --new-floors")
            return REGRESSED
        if lost := _lost(metrics, before):
            print(
                f"not accepted: the run says nothing of {', '.join(lost)}, and these have floors\n"
                "  fix: a bundle that does all that the old one did, or --new-floors"
            )
            return REGRESSED
    else:
        print("first run on this data: floors begin anew")
    floors = floors_of(metrics, before)
    size = write_accepted(order.gate, run, metrics, floors, order.root)
    for (section, figure), floor in sorted(floors.items()):
        print(f"  {section} {figure}: {floor.value:.4f}, limit {floor.limit:.4f}")
    print(f"accepted; the baseline takes {size / 1e6:.2f} MB")
    return PASSED


def _fresh(folder: Path) -> Path:
    """Make room: a run of another code must not be gone on with.

    Raises:
        ConfigError: if something else is there.
    """
    if folder.exists() and not (folder / CARD).is_file() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is no run", fix="give another --out")
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _short(path: Path, order: Order) -> str:
    """A path as the run's card may have it: relative to the checkout, if it is in there."""
    path, root = path.absolute(), order.root.absolute()
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def main(argv: Sequence[str] | None = None) -> int:
    """Check or accept; a deliberate error is two lines and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, help="default: the shipped one")
    parser.add_argument("--gate", type=Path, default=Order._field_defaults["gate"])
    parser.add_argument("--out", type=Path, default=Order._field_defaults["out"])
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one per core")
    parser.add_argument("--accept", action="store_true", help="this bundle is the new baseline")
    parser.add_argument("--new-floors", action="store_true", help="--accept: below old floors, too")
    args = parser.parse_args(argv)
    try:
        bundle = args.bundle or default_bundle()
        order = Order(bundle, args.gate, args.out, args.workers)
        return accept(order, new_floors=args.new_floors) if args.accept else check(order)
    except RobollmError as e:
        print(f"error: {e}", file=sys.stderr)
        return UNDECIDED


if __name__ == "__main__":
    sys.exit(main())
