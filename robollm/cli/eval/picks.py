"""`robollm eval picks`: ARMBench's picks, answered as the station would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from robollm.cli.eval.ending import finish
from robollm.cli.eval.options import (
    gallery_option,
    json_option,
    limit_option,
    out_option,
    resumable,
    with_bundle,
    with_draws,
    with_workers,
)
from robollm.cli.eval.station_options import station, with_station

_SPLITS = ("test", "val", "train", "all")


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@out_option
@with_bundle
@click.option("--split", type=click.Choice(_SPLITS), default="test", show_default=True,
              help="Picks to answer; train flatters: it was learned.")  # fmt: skip
@gallery_option
@with_station
@limit_option
@with_workers
@with_draws
@json_option
def command(
    data: Path,
    out: Path,
    split: str,
    gallery: Path | None,
    params_file: Path | None,
    parameters: tuple[str, ...],
    limit: int | None,
    workers: int,
    ray: str,
    draws: int,
    seed: int,
    as_json: bool,
    **settings: Any,
) -> None:
    r"""Answer ARMBench's picks in DATA as the nodes would: product and verdict, with thresholds.

    The same pick protocol, settings, quality limits and decisions as in the nodes; the views are
    those of the nodes' setting `views`, among on_arm_low, tote_wall and far_tray. `eval make-bag`
    writes the same picks as a bag: `eval bag` and `eval bag --ros` then give the same numbers.

    \b
      robollm eval picks DATA --bundle B --out RUN
      robollm eval picks DATA --bundle B --gallery G --out RUN -p min_views:=2
    """
    from robollm.core.settings import view_topics
    from robollm.eval.picks import Folders, answer, data_card, list_picks, prepare
    from robollm.eval.predictors import BundlePredictor
    from robollm.eval.progress import shown
    from robollm.eval.run_folder import RunFolder

    asked = station(params_file, parameters, {**settings, "gallery": gallery})
    folders = Folders(data, split, tuple(view_topics(asked.pick)), limit or 0)
    with resumable(out, as_json=as_json), shown() as progress:
        listed = list_picks(folders)
        predictor = BundlePredictor(asked.runtime)
        card = {
            "source": "folder",
            "data": data_card(folders, listed),
            "predictor": predictor.about(),
            "settings": {**asked.card(), "limit": limit or 0},
        }
        with RunFolder.create_or_resume(out, card) as run:
            ready = prepare(run, folders, listed, asked, predictor, progress)
            predictor.close()
            answer(run, folders, listed, ready, workers=workers, ray=ray, progress=progress)
        finish(out, draws, seed, as_json=as_json, progress=progress)
