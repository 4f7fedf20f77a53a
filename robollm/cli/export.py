"""`robollm export`: turn training runs into the bundle that the nodes run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_COUNT = click.IntRange(0)
_HELP = """Turn training runs into the bundle that the nodes run.

RUN is a run folder of `robollm train`; its best checkpoint is taken. One multitask run has all that
a bundle needs. Several runs fit together if they share a frozen encoder, for example a detector,
then adapters or heads trained on it with --init DETECTOR/best.pth.

Every graph is compared with torch on real pictures, output by output. If one differs, nothing is
written. Variants (bf16, fp16, int8, int8-static) are judged by task metrics on --split, through the
runtime that will serve them, and left out if they lose more than --max-loss points.

\b
  robollm export runs/multi --data armbench --out models/mine
  robollm export runs/multi --data armbench --out models/mine --variants fp32,int8,bf16
  robollm export runs/detector runs/products runs/defects --data armbench --out models/mine
  robollm export runs/multi --data armbench --out models/mine --weights half

Exit code 1: none of the variants that were asked for was accepted. 2: there is no bundle.
"""


def _names(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(n.strip() for n in value.split(",") if n.strip()))


@click.command(help=_HELP)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=_FOLDER,
    required=True,
    help="Folder that holds ARMBench's folders: pictures to compare and to judge on.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="The bundle's folder; a bundle that is there is replaced, anything else refused.",
)
@click.option(
    "--variants",
    default="fp32",
    show_default=True,
    callback=_names,
    metavar="A,B,...",
    help="Of fp32, bf16, fp16, int8, int8-static; fp32 is always made.",
)
@click.option(
    "--split",
    type=click.Choice(["val", "test"]),
    default="test",
    show_default=True,
    help="Split to compare and to judge on.",
)
@click.option(
    "--max-loss",
    type=click.FloatRange(0, 100),
    default=0.5,
    show_default=True,
    help="Points of 100 that a variant may lose against fp32 in any task; 100: all are accepted.",
)
@click.option(
    "--totes",
    type=_COUNT,
    default=0,
    show_default=True,
    help="Judge on at most so many tote images; 0: all.",
)
@click.option(
    "--picks",
    type=_COUNT,
    default=0,
    show_default=True,
    help="Judge on at most so many picks, and so many defect samples; 0: all. With 200 picks, one "
    "pick is half a point.",
)
@click.option(
    "--adapters",
    type=click.Choice(["switched", "baked"]),
    default="switched",
    show_default=True,
    help="switched: one encoder, the task chosen per picture. baked: always on, for one task.",
)
@click.option(
    "--weights",
    type=click.Choice(["full", "half"]),
    default="full",
    show_default=True,
    help="half: round matrices and kernels to float16 before anything is measured, and store them "
    "so: half the bytes. Arithmetic stays float32.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change the config of every run that has the key, for example the tote canvas "
    'val_dataloader.dataset.canvas_hw="(288, 384)"; repeatable.',
)
@click.option(
    "--thresholds",
    type=_FILE,
    help="JSON with keys as in `thresholds` of bundle.json; without it the card says that nothing "
    "was calibrated.",
)
@click.option("--name", default="", help="The bundle's name; default: the folder's.")
@click.option(
    "--threads",
    type=click.IntRange(0, 256),
    default=0,
    show_default=True,
    help="Of a model run; 0: one per core.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was measured as one JSON object.")
def command(runs: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Export."""
    from robollm.export.export import Order, export

    options["changes"] = tuple(options["changes"])
    done = export(Order(runs=runs, **options), say=lambda text: click.echo(text, err=True))
    click.echo(json.dumps(done) if as_json else _table(done))
    for name, why in done["refused"].items():
        click.echo(f"\nREFUSED, not in the bundle: {name}: {why}", err=True)
    if not set(options["variants"]) & set(done["accepted"]):
        sys.exit(1)


def _table(done: dict[str, Any]) -> str:
    """For people: a line per variant and metric."""
    about = done["metrics"]
    lines = [
        f"{done['bundle']} ({done['sha256'][:12]}, {done['status']}, "
        f"{done['bytes'] / 1e6:.1f} MB, weights {done['weights']['storage']})",
        f"compared with torch on {done['compared']['totes']} totes and "
        f"{done['compared']['crops']} crops; judged on {about['data']}, split {about['split']}:",
    ]
    for name, variant in done["variants"].items():
        for metric, value in variant["metrics"].items():
            count = done["cases"].get(metric, about["samples"][metric.partition("/")[0]])
            lost = variant["loss"].get(metric)
            change = "" if lost is None else f"  {0 - lost:+.2f} points"
            mark = "  REFUSED" if name in done["refused"] else ""
            lines.append(f"  {name:<12} {metric:<42} {value:.4f} (n={count}){change}{mark}")
    return "\n".join(lines)
