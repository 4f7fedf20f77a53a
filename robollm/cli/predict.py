"""`robollm predict`: what a bundle sees on pictures of one's own."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from robollm.cli.gallery.show import bar, json_option, say
from robollm.cli.lazy import INTERRUPTED
from robollm.cli.options import read_box, take, with_settings
from robollm.cli.stopping import stop_kindly
from robollm.core.settings import (
    DefectConfig,
    IdentificationConfig,
    PickConfig,
    RuntimeConfig,
    SegmentationConfig,
)

_OWN = (
    "overlay", "gallery", "watch", "watch_period_s", "frame_history", "min_views",
    "views", "view_rois", "view_timeout_s", "view_delay_s", "max_view_age_s",
    "max_view_lead_s",
)  # fmt: skip
"""Settings of the nodes that are of no use here, or said in another way."""
_SOME_FAILED, _ALL_FAILED = 1, 2  # exit codes


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--kind", type=click.Choice(["tote", "view"]), default="tote", show_default=True,
              help="What the pictures show. tote: instances and their products; view: one object,"
              " after the pick or cut out, its product and its defects.")  # fmt: skip
@click.option("--gallery", default="",
              help="Gallery folder; empty: the bundle's own, if it has one.")  # fmt: skip
@click.option("--container", help="Only products of this container's manifest.")
@click.option("--box", metavar="X,Y,W,H", help="With --kind view: where the object is on every"
              " picture, px. Without it: the whole picture.")  # fmt: skip
@click.option("--view", help="With --kind view: which view of a pick the pictures are; by default"
              " by the file's name, else the first post-pick view that the bundle"
              " joins.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="New folder for predictions.json and"
              " a drawing of each picture.")  # fmt: skip
@click.option("--save-masks", is_flag=True, help="With --out: also a label map of each tote, a"
              " 16-bit PNG; pixel = the instance's number, 0 = background.")  # fmt: skip
@json_option
@with_settings(
    RuntimeConfig, SegmentationConfig, IdentificationConfig, DefectConfig, PickConfig, without=_OWN
)
def command(
    images: tuple[str, ...],
    kind: str,
    gallery: str,
    container: str | None,
    box: str | None,
    view: str | None,
    out: Path | None,
    save_masks: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    r"""Say what is on IMAGE: files, folders and patterns, JPEG or PNG.

    \b
      robollm predict tote.jpg
      robollm predict totes/ 'more/**/*.png' --out seen --save-masks
      robollm predict on_arm_low.jpg --kind view --box 310,120,200,180
      robollm predict tote.jpg --gallery G --container tote-17 --json

    A tote's instances are named out of the gallery, as the nodes do it for a container; without
    --container all products of the gallery are candidates. What is not sure is unknown or
    ambiguous, a view too dark to judge is uninspected, and without a gallery nothing is named.

    A picture that can't be used is an error of its own, and the others go on. Exit code 0: all
    worked; 1: some did; 2: none did; 130: stopped by Ctrl-C, what was seen is kept.
    docs/predict.md has the format of predictions.json.
    """
    from robollm.cli import predict_table
    from robollm.core.errors import ConfigError, FrameError, InferenceError
    from robollm.runtime import predict_card as card
    from robollm.runtime.measure import conditions
    from robollm.runtime.perceiver import Perceiver
    from robollm.runtime.predict import Predictor, open_products, view_name
    from robollm.runtime.predict_files import list_pictures, make_folder, output_names
    from robollm.runtime.predict_job import Job

    if kind == "tote" and (box is not None or view is not None):
        raise ConfigError("--box and --view are for pictures of one object", fix="add --kind view")
    if save_masks and (out is None or kind != "tote"):
        raise ConfigError("--save-masks is for totes, with a folder", fix="add --out FOLDER")
    window = None if box is None else read_box(box)
    listing = list_pictures(images)
    for note in listing.notes:
        click.echo(f"left out: {note}", err=True)
    for error in listing.bad.values():
        click.echo(f"error: {error}", err=True)
    if not listing.files:
        sys.exit(_ALL_FAILED)
    if out is not None:
        make_folder(out)
    naming = take(IdentificationConfig, {**settings, "gallery": gallery})
    began = time.perf_counter()
    perceiver = Perceiver(take(RuntimeConfig, settings))
    products = open_products(perceiver, naming, container)
    joined = perceiver.fused_views if naming.view_fusion == "fused" else ()
    views = [view_name(file, view, joined) for file in listing.files]
    perceiver.warm_up()
    load_s = time.perf_counter() - began
    predictor = Predictor(
        perceiver,
        products,
        segmentation=take(SegmentationConfig, settings),
        defects=take(DefectConfig, settings),
        quality=take(PickConfig, settings),
    )
    job = Job(predictor, out=out, save_masks=save_masks)
    if not perceiver.bundle.trained:
        click.echo("UNTRAINED: random weights, results mean nothing", err=True)
    pictures = [card.failed_card(word, None, e) for word, e in listing.bad.items()]
    names = output_names(listing.files)
    notes = list(listing.notes)
    with conditions() as machine, bar("looking") as progress, stop_kindly() as stopped:
        for i, file in enumerate(listing.files):
            if stopped():
                left = len(listing.files) - i
                notes.append(f"{left} of {len(listing.files)} pictures: stopped before them")
                break
            try:
                if kind == "tote":
                    one = job.tote(file, i + 1, names[i])
                else:
                    one = job.view(file, i + 1, names[i], views[i], window)
            except (FrameError, InferenceError) as e:
                click.echo(f"error: {e}", err=True)
                one = card.failed_card(str(file), i + 1, e)
            pictures.append(one)
            progress(i + 1, len(listing.files))
    whole = card.whole_card(
        kind, predictor, pictures, notes, card.conditions_card(perceiver, machine, load_s)
    )
    if products is not None:
        products.catalogue.gallery.close()
    if out is not None:
        job.write_card(whole)
    if as_json:
        say(whole)
    else:
        predict_table.show_all(whole)
    if len(notes) > len(listing.notes):
        click.echo(f"left out: {notes[-1]}", err=True)
        sys.exit(INTERRUPTED)
    if whole["failed"]:
        sys.exit(_ALL_FAILED if whole["failed"] == len(pictures) else _SOME_FAILED)
