"""What the verbs of `eval` share: their options, how Ctrl-C ends them, what they print."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from robollm.cli.lazy import INTERRUPTED
from robollm.core.errors import RobollmError

F = TypeVar("F", bound=Callable[..., Any])

out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="RUN",
    help="Run folder to fill; the same command goes on with it.",
)
gallery_option = click.option(
    "--gallery",
    type=click.Path(path_type=Path),
    help="Gallery to search, made with this bundle; default: the references are embedded first.",
)
predictor_option = click.option(
    "--predictor",
    default="bundle",
    show_default=True,
    help="Who answers: bundle, oracle (reads the truth), chance, or one of the baselines "
    "majority, colour-histogram, thumbnail, efficientnet-lite0.",
)
limit_option = click.option(
    "--limit",
    type=click.IntRange(1),
    help="At most so many samples of each kind; such a run says that it is a part.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on stdout at the end, no tables."
)


def with_bundle(function: F) -> F:
    """`--bundle`, `--allow-untrained`, `--precision` and `--provider`, as the nodes have them.

    They arrive under the names of `RuntimeConfig`; `cli.options.take` makes one of them. `bundle`
    is empty, hence the default one, where none was given. `threads` is not among them: each worker
    has one.
    """
    from robollm.cli.options import click_option
    from robollm.core.config import options
    from robollm.core.settings import RuntimeConfig

    wanted = ("bundle", "allow_untrained", "precision", "provider")
    known = {o.name: o for o in options(RuntimeConfig)}
    for name in reversed(wanted):
        function = click_option(known[name])(function)
    return function


def with_workers(function: F) -> F:
    """`--workers`, 0 if not given, and `--ray`, an address, "local" or empty: as `predict` has."""
    ray = click.option(
        "--ray",
        metavar="[ADDRESS]",
        is_flag=False,
        flag_value="local",
        default="",
        help="Work on Ray: on the cluster at ADDRESS (HOST:PORT, or auto), or on this machine. "
        "All machines must see the data and the bundle under the same path.",
    )
    workers = click.option(
        "--workers",
        type=click.IntRange(1),
        callback=lambda context, option, value: value or 0,
        help="Processes that work at once, each with one thread and a model of its own; default: "
        "one per core, with --ray of the whole cluster.",
    )
    return workers(ray(function))


def with_draws(function: F) -> F:
    """`--draws` and `--seed` of the bootstrap."""
    seed = click.option(
        "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of what is drawn."
    )
    draws = click.option(
        "--draws",
        type=click.IntRange(100, 100_000),
        default=1000,
        show_default=True,
        help="Resamples of the bootstrap that makes the intervals.",
    )
    return draws(seed(function))


@contextmanager
def resumable(out: Path, *, as_json: bool = False) -> Iterator[None]:
    """Let Ctrl-C, and SIGTERM likewise, end a verb with words and exit code 130.

    Put it around everything that works on a run folder.

    Args:
        out: the run folder.
        as_json: also print the one JSON object that `say_end` would have printed, without figures.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _interrupt) if main else None
    try:
        yield
    except KeyboardInterrupt:
        click.echo(
            f"interrupted: what is done is kept in {str(out)!r}; the same command goes on from "
            "there",
            err=True,
        )
        if as_json:
            click.echo(json.dumps(_interrupted(out), ensure_ascii=False))
        raise SystemExit(INTERRUPTED) from None
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _interrupted(out: Path) -> dict[str, Any]:
    """What is known of a run that was stopped."""
    from robollm.eval.run_folder import RunFolder

    card: dict[str, Any] = {"complete": False}
    reasons = ["interrupted before the figures were made"]
    with suppress(RobollmError):  # it was stopped before there was a run
        run = RunFolder.open(out)
        card = run.card
        reasons += run.partial_reasons()
    return {
        **{"run": str(out), "complete": card["complete"], "partial": True, "reasons": reasons},
        **{"figures": {}, "metrics": None, "report": None},
    }


def say_end(card: Mapping[str, Any], *, as_json: bool, lines: Callable[[], None]) -> None:
    """Print what came out, once, at the end of a verb.

    Args:
        card: `run`, `complete`, `reasons`, `figures`, `report` and what else a program may want.
        as_json: print the card on stdout, in one line.
        lines: prints for people otherwise.

    Raises:
        ValueError: if the card holds a number that JSON doesn't know; None stands for nan.
    """
    if as_json:
        click.echo(json.dumps(card, ensure_ascii=False, allow_nan=False))
    else:
        lines()
