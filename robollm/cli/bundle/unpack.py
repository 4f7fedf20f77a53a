"""`robollm bundle unpack`: a bundle's weights as a run folder of `robollm train`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="RUN",
    help="Run folder to write; must be new or empty.",
)
@click.option(
    "--config",
    required=True,
    help="What its run was trained with: small, base, large, another config's name, or a path "
    "ending in .py.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="What its run changed in that config; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="What was written as JSON on stdout.")
def command(bundle: Path, out: Path, config: str, changes: tuple[str, ...], as_json: bool) -> None:
    r"""Write BUNDLE's weights as a run folder, to train on from it or to export it anew.

    \b
      robollm bundle unpack models/tote-small --config multitask_tote-small_sim --out start
      robollm train multitask --config multitask_tote-small_sim --data DATA --out mine \
        --set load_from=start/best.pth
      robollm export start --data DATA --out models/larger --set \
        "val_dataloader.dataset.datasets.segmentation.canvas_hw=(384, 512)"

    BUNDLE is one of a multitask run. Its float32 graphs give the weights, rounded as it stores
    them. Nothing is written unless they give the same graphs again. What only training uses is not
    in a bundle, and begins anew: it is named.
    """
    from robollm.export.runs import need_train

    need_train()
    from robollm.export.unpack import unpack  # needs torch

    done = unpack(bundle, out, config=config, changes=changes)
    if as_json:
        click.echo(json.dumps({**asdict(done), "run": str(done.run)}))
        return
    click.echo(
        f"{done.run}: {done.restored} weights, {done.numbers / 1e6:.2f} million numbers; anew: "
        f"{', '.join(done.fresh) or 'nothing'}",
        err=True,
    )
