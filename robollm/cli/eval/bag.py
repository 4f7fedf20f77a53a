"""`robollm eval bag`: recorded bags, without ROS or through the running nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from robollm.cli.eval.ending import finish
from robollm.cli.eval.options import (
    json_option,
    out_option,
    resumable,
    with_bundle,
    with_draws,
    with_workers,
)
from robollm.cli.eval.station_options import station, with_station

_OPTIONS = (
    click.option("--truth", "truths", multiple=True, type=click.Path(path_type=Path),
                 help="truth.json of the bags, or one for each. Default: in or beside the bag."),
    click.option("--manifest", type=click.Path(path_type=Path),
                 help="Manifest file; default: the containers kept in the gallery."),
    click.option("--gallery", type=click.Path(path_type=Path),
                 help="Gallery; default: the folder `gallery` beside the manifest."),
    click.option("--namespace", default="",
                 help="Of the station's topics; default: that of the bag's topic `pick`."),
    click.option("--remap", "remaps", multiple=True, metavar="FROM:=TO",
                 help="A topic of the nodes that has another name in the bag; repeatable."),
    click.option("--ros", is_flag=True,
                 help="Play the bags through DDS into the nodes and evaluate what they publish."),
    click.option("--attach", is_flag=True,
                 help="With --ros: use nodes that run already, in this ROS domain."),
    click.option("--predictor", type=click.Choice(["bundle", "oracle"]), default="bundle",
                 show_default=True,
                 help="Who answers; the oracle reads the truth: every figure must be perfect."),
    click.option("--real-time", type=click.FloatRange(0, min_open=True), metavar="RATE",
                 help="With --ros: play by the clock, so that what is dropped counts."),
)  # fmt: skip


def _options(function: Any) -> Any:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command()
@click.argument("bags", type=click.Path(path_type=Path), nargs=-1, required=True)
@out_option
@with_bundle
@_options
@with_station
@with_workers
@with_draws
@json_option
def command(
    bags: tuple[Path, ...],
    out: Path,
    truths: tuple[Path, ...],
    manifest: Path | None,
    gallery: Path | None,
    namespace: str,
    remaps: tuple[str, ...],
    ros: bool,
    attach: bool,
    predictor: str,
    real_time: float | None,
    params_file: Path | None,
    parameters: tuple[str, ...],
    workers: int,
    ray: str,
    draws: int,
    seed: int,
    as_json: bool,
    **settings: Any,
) -> None:
    r"""Answer the picks of BAGS as the nodes would, faster than real time, and score the answers.

    Which picture belongs to which pick, what is stale, dark or missing, thresholds and words: all
    is the nodes' own code, on the bag's clock. Damaged bags are read as far as it goes, and what
    is lost is counted.

    \b
      robollm eval bag F/bag --bundle B --manifest F/manifest.json --out RUN
      robollm eval bag MON/bag TUE/bag --truth MON/truth.json --truth TUE/truth.json ...
      robollm eval bag F/bag --bundle B --manifest F/manifest.json --out RUN_ROS --ros
    """
    from robollm.data.problems import Problems
    from robollm.eval.bag import data_card, find_bags, look, replay
    from robollm.eval.predictors import make
    from robollm.eval.progress import shown
    from robollm.eval.run_folder import RunFolder
    from robollm.eval.station import StationDesk
    from robollm.eval.station_oracle import StationOracle

    _refuse_odd(ros, attach, real_time, ray, predictor)
    given = {**settings, "manifest": manifest, "gallery": gallery}
    asked = station(params_file, parameters, given)
    with resumable(out, as_json=as_json), shown() as progress:
        problems = Problems()
        found = find_bags(bags, truths)
        looked = [look(b, asked, namespace, remaps, problems, progress) for b in found]
        who = make(predictor, asked.runtime, {})
        about = who.about()
        who.close()
        told = {"real_time": real_time, "attach": attach} if ros else {}
        card = {
            "source": "ros" if ros else "bag",
            "data": data_card(found, looked),
            "predictor": about,
            "settings": {**asked.card(), **told},
        }
        with RunFolder.create_or_resume(out, card) as run:
            run.problems.merge(problems)
            if ros:
                from robollm.eval.ros import RosSettings, replay_bags

                how = RosSettings(
                    parameters={} if attach else asked.given(),
                    namespace=namespace or looked[0].namespace,
                    remaps=remaps,
                    attach=attach,
                    real_time=real_time,
                )
                replay_bags(run, found, how, progress=progress)
            else:
                replay(
                    run, found, looked, asked, workers=workers, ray=ray, progress=progress,
                    answerer=StationOracle if predictor == "oracle" else StationDesk,
                )  # fmt: skip
        finish(out, draws, seed, as_json=as_json, progress=progress)


def _refuse_odd(ros: bool, attach: bool, real_time: float | None, ray: str, predictor: str) -> None:
    """See that options fit together.

    Raises:
        EvalError: if they don't.
    """
    from robollm.core.errors import EvalError

    if not ros and (attach or real_time is not None):
        raise EvalError("--attach and --real-time go with --ros only", fix="add --ros")
    if ros and predictor != "bundle":
        raise EvalError(
            f"--ros and --predictor {predictor} don't go together: nodes have a bundle",
            fix="leave out one of them",
        )
    if ros and ray:
        raise EvalError("--ros and --ray don't go together", fix="leave out one of them")
