"""`robollm gallery calibrate`: choose when to say 'unknown' or 'ambiguous', on data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from robollm.cli.gallery.show import bar, gallery_argument, json_option, say, show, table
from robollm.cli.options import take, with_settings
from robollm.core.settings import RuntimeConfig
from robollm.data.armbench_files import VIEWS
from robollm.data.armbench_picks import CROPS

_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
_OPTIONS = (
    click.option("--data", type=click.Path(path_type=Path), required=True,
                 help="ARMBench's identification folder, or the one around it."),
    click.option("--split", type=click.Choice(["val", "test", "train"]), default="val",
                 show_default=True, help="Picks to use; train flatters: it was learned."),
    click.option("--false-accept", type=_SHARE, default=0.01, show_default=True,
                 help="Of objects that are not in the manifest, this share at most may be named."),
    click.option("--confidence", type=click.FloatRange(0.5, 1, max_open=True), default=0.95,
                 show_default=True, help="How sure that must be, one-sided."),
    click.option("--strangers", type=_SHARE, default=0.1, show_default=True,
                 help="Share of objects in your cell that are not in their manifest."),
    click.option("--foreign", type=_SHARE, default=0.5, show_default=True,
                 help="Share of these whose product is elsewhere in the gallery."),
    click.option("--views", multiple=True, type=click.Choice(VIEWS), default=VIEWS[:3],
                 show_default=True, help="Views to ask with, as your cell has them."),
    click.option("--crop", type=click.Choice(CROPS), default="image", show_default=True,
                 help="What a view shows: the whole picture, or the box of the annotated outline."
                 " As the bundle was trained, and as your cell crops."),
    click.option("--product-score", type=click.Choice(["max", "centroid"]), default="max",
                 show_default=True, help="As the node's parameter."),
    click.option("--view-fusion", type=click.Choice(["fused", "max"]), default="fused",
                 show_default=True, help="As the node's parameter."),
    click.option("--whole-search", type=click.Choice(["auto", "exact", "approximate"]),
                 default="auto", show_default=True, help="As the node's parameter."),
    click.option("--picks", type=click.IntRange(0), default=5000, show_default=True,
                 help="At most so many, drawn evenly; 0: all."),
    click.option("--seed", type=int, default=0, help="Of the split into halves."),
    click.option("--out", type=click.Path(path_type=Path, file_okay=False),
                 help="Folder for calibration.json, curve.png and reliability.png."),
    click.option("--dry-run", is_flag=True, help="Leave the gallery as it is."),
)  # fmt: skip


def _options(function: Any) -> Any:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command()
@gallery_argument
@_options
@json_option
@with_settings(RuntimeConfig)
def command(
    gallery: Path,
    data: Path,
    split: str,
    false_accept: float,
    confidence: float,
    strangers: float,
    foreign: float,
    views: tuple[str, ...],
    crop: str,
    product_score: str,
    view_fusion: str,
    whole_search: str,
    picks: int,
    seed: int,
    out: Path | None,
    dry_run: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    r"""Choose the thresholds of a gallery's answers on picks whose product is known.

    \b
      robollm gallery calibrate G --bundle B --data armbench-object-id-0.1 --out report
      robollm gallery calibrate G --bundle B --data D --false-accept 0.02 --dry-run

    Every pick is asked three times: as it is, with its product taken out of the manifest, and with
    it taken out of the gallery. One half of the picks (by product) chooses the thresholds and the
    temperature of the probabilities; the other half tells what they are worth. The result is kept
    in the gallery, and nodes with the same bundle, --product-score and --view-fusion take it over;
    it doesn't serve others. Calibrate again when the gallery has grown by half, after `tune`
    changed how it is searched, and with every new bundle.

    A rate is only promised if the data can show it: 1 % with 95 % confidence takes 299 picks of
    different products in the choosing half, without a single false answer.
    """
    from robollm.core.calibration import Mixture
    from robollm.data.armbench_identification import find_root
    from robollm.data.armbench_picks import split_picks
    from robollm.data.problems import Problems
    from robollm.gallery.plan import SearchPlan
    from robollm.gallery.store import open_gallery, open_writer
    from robollm.runtime.calibrate import Wish, calibrate, drawn, look, write_report
    from robollm.runtime.perceiver import Perceiver
    from robollm.runtime.policy import KIND, record_name

    wish = Wish(product_score, view_fusion, false_accept, confidence,
                Mixture(strangers, foreign), seed)  # fmt: skip
    root, problems = find_root(data), Problems()
    found = drawn(list(split_picks(root, split, problems)), picks)
    perceiver = Perceiver(take(RuntimeConfig, settings))
    bundle = perceiver.bundle
    opened = open_gallery(
        gallery,
        embedding_sha256=bundle.embedding_sha256,
        bundle=bundle.title,
        search=SearchPlan(product_score=product_score, whole=whole_search),
    )
    with bar("looking at picks") as progress:
        looked = look(
            perceiver, opened, found, views=views, view_fusion=view_fusion, problems=problems,
            outlines=root if crop == "segment" else None,
            progress=lambda done: progress(done, len(found)),
        )  # fmt: skip
    for line in problems.lines():
        click.echo(line, err=True)
    record = calibrate(looked, wish, perceiver, opened, f"{root.name}, split {split}, crop {crop}")
    opened.close()
    if out is not None:
        write_report(out, record)
    if not dry_run:
        with open_writer(gallery) as writer:
            writer.put_record(KIND, record_name(product_score, view_fusion), record)
            writer.commit()
    if as_json:
        say(record)
    else:
        _tell(record, dry_run)
    if out is not None:
        from robollm.cli.gallery.calibration_pictures import draw

        draw(out, record)


def _tell(record: dict[str, Any], dry_run: bool) -> None:
    """The numbers, and what the other half of the picks says of them."""
    numbers = table("threshold", "in the manifest", "elsewhere", right=("in the manifest",
                    "elsewhere"), title="Chosen")  # fmt: skip
    far = record["elsewhere"] or {}
    for name in ("accept", "margin", "temperature", "unknown_at", "handicap"):
        cells = [f"{part[name]:.4f}" if name in part else "-" for part in (record["inside"], far)]
        numbers.add_row(name, *cells)
    show(numbers)
    if not far:
        click.echo(f"not_in_manifest is never answered: {record['elsewhere_missing']}", err=True)
    halves = {k: record[k] for k in ("chosen_on", "reported_on", "bundles_thresholds")}
    about = table("share", "chosen on", "reported on", "bundle's own thresholds", title="Worth")
    about.add_row("picks, products", *(f"{h['picks']}, {h['products']}" for h in halves.values()))
    for name in ("false_accept", "false_not_in_manifest", "wrong_product"):
        about.add_row(name, *(f"{h[name]['share']:.4f} (at most {h[name]['at_most']:.4f})"
                              for h in halves.values()))  # fmt: skip
    for name in ("false_reject", "found_foreign"):
        about.add_row(name, *(f"{h[name]:.4f}" for h in halves.values()))
    held = [h["reliability"] for h in halves.values()]
    about.add_row("calibration error", *(f"{r['ece']:.4f} (noise {r['floor']:.4f})" for r in held))
    show(about)
    shown = (record["reported_on"][k]["share"] for k in ("false_accept", "false_not_in_manifest"))
    if max(shown) > record["wanted"]["false_accept"]:
        click.echo(
            "the half that reports shows more false answers than wanted: use more picks, or count "
            "on that rate", err=True,
        )  # fmt: skip
    if dry_run:
        click.echo("the gallery was left as it is (--dry-run)", err=True)
