"""`robollm bundle calibrate`: choose a bundle's decision values on validation data."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from robollm.core.defects import OVER_VIEWS
from robollm.core.errors import ConfigError
from robollm.runtime.card import PRECISIONS

_SHARE = click.FloatRange(0, 1, max_open=True)
_OPTIONS = (
    click.option("--data", type=click.Path(path_type=Path),
                 help="Folder with ARMBench's folders; the bundle is evaluated on it first."),
    click.option("--split", type=click.Choice(["val", "test", "train"]), default="val",
                 show_default=True, help="Samples of DATA to use; test is refused, train flatters: "
                 "it was learned."),
    click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="RUN",
                 help="Keep that evaluation there; the same command goes on with it."),
    click.option("--run", "given", type=click.Path(path_type=Path, file_okay=False), metavar="RUN",
                 help="Take an evaluation that is there, instead of --data: of "
                 "`robollm eval armbench` with this bundle. No model runs."),
    click.option("--mask-precision", type=_SHARE, default=0.0, show_default=True,
                 help="Of published instances, this share at least is right at IoU .5; "
                 "0: the best F1."),
    click.option("--false-reject", type=_SHARE, default=0.05, show_default=True,
                 help="Of known products, this share at most may be called unknown or ambiguous."),
    click.option("--strangers", type=click.FloatRange(0, 1, min_open=True, max_open=True),
                 default=0.1, show_default=True,
                 help="Share of objects in your cell that are not in their manifest; for the "
                 "probabilities only."),
    click.option("--recall", type=_SHARE, default=0.95, show_default=True,
                 help="Of inducts with a defect, more than this share is found, each defect for "
                 "itself."),
    click.option("--confidence", type=_SHARE, default=0.0, show_default=True,
                 help="How sure that must be, one-sided; 0: the share itself, as counted."),
    click.option("--fpr-limit", type=_SHARE, default=0.05, show_default=True,
                 help="A defect whose recall costs more false alarms than this is reported "
                 "loudly; its threshold stays the recall's."),
    click.option("--over-views", type=click.Choice(("auto", *OVER_VIEWS)), default="auto",
                 show_default=True, help="How a pick's views are joined for each defect: any view "
                 "is enough, or their mean; auto: the mean where it ranks inducts better beyond "
                 "doubt."),
    click.option("--draws", type=click.IntRange(100, 100_000), default=1000, show_default=True,
                 help="Resamples of the bootstrap that makes intervals."),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
                 help="Of the halves, and of the draws."),
    click.option("--precision", type=click.Choice(PRECISIONS), default=PRECISIONS[0],
                 show_default=True, help="Variant of the bundle that --data is evaluated with."),
    click.option("--workers", type=click.IntRange(1), default=1, show_default=True,
                 help="Processes that evaluate at once."),
    click.option("--dry-run", is_flag=True, help="Leave the bundle as it is."),
    click.option("--json", "as_json", is_flag=True, help="The whole record as JSON on stdout."),
)  # fmt: skip


def _options(function: Any) -> Any:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@_options
def command(
    bundle: Path,
    data: Path | None,
    split: str,
    out: Path | None,
    given: Path | None,
    precision: str,
    workers: int,
    dry_run: bool,
    as_json: bool,
    **wish: Any,
) -> None:
    r"""Choose the decision values of BUNDLE on samples whose truth is known.

    \b
      robollm bundle calibrate models/tote-small --data DATA --out run-val
      robollm bundle calibrate models/tote-small --run run-val --dry-run

    Chosen are: the score from which on an instance is published; when a product is unknown or
    ambiguous, and how sure an identification is; the probability from which on each defect is
    decided, and how sure that is. They go into bundle.json with where they come from, and
    everything that was counted into calibration.json beside it. What can't be chosen stays as it
    was, with the reason.

    Figures are held out: of two halves, each is measured with what the other chose. The values
    themselves are chosen on all samples.
    """
    from robollm.eval.run_folder import RunFolder
    from robollm.eval.thresholds.calibrate import calibrate, refuse_split, write
    from robollm.eval.thresholds.parts import Wish

    kept = Wish(**wish)
    if (data is None) == (given is None) or (given is not None and out is not None):
        raise ConfigError(
            "want an evaluation: either --data, with or without --out to keep it, or --run",
            fix="give --data DATA, or --run RUN",
        )
    refuse_split(split)
    if data is not None:
        with _evaluated(bundle, data, split, out, precision, workers) as folder:
            record = calibrate(RunFolder.open(folder), bundle, kept)
    else:
        assert given is not None
        record = calibrate(RunFolder.open(given), bundle, kept)
    sha256 = "" if dry_run else write(bundle, record)
    if as_json:
        from robollm.cli.gallery.show import say

        say({**record, "sha256": sha256})
    else:
        from robollm.cli.bundle.calibration_tables import tell

        tell(record)
        for line in record["loud"]:
            click.echo(f"ATTENTION: {line}", err=True)
        if dry_run:
            click.echo("the bundle was left as it is (--dry-run)", err=True)
        else:
            click.echo(f"{bundle}: written, its sha256 is {sha256[:12]} from now on", err=True)


@contextmanager
def _evaluated(
    bundle: Path, data: Path, split: str, out: Path | None, precision: str, workers: int
) -> Iterator[Path]:
    """Evaluate the bundle, into a folder that goes away again unless it was named."""
    from robollm.cli.eval.options import resumable
    from robollm.core.settings import RuntimeConfig
    from robollm.eval.armbench import Order, evaluate
    from robollm.eval.progress import shown

    with tempfile.TemporaryDirectory(prefix="robollm-calibrate-") as place:
        folder = Path(place) / "run" if out is None else out
        config = RuntimeConfig(bundle=str(bundle), precision=precision, allow_untrained=True)
        order = Order(
            data=data,
            out=folder,
            config=config,
            split=split,
            references="manifests",
            workers=workers,
        )
        with resumable(folder), shown() as progress:
            evaluate(order, progress)
        yield folder
