"""`robollm bench`: how fast a bundle is on this machine, by the path that the nodes use."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

_PROVIDERS = ("cpu", "openvino", "cuda", "tensorrt")
_PRECISIONS = ("fp32", "bf16", "fp16", "int8", "int8-static")
_WAYS = ("crops", "tote")
_COLUMNS = ("p50_ms", "p95_ms", "cpu_ms", "ratio", "load_s", "verdict_s", "rss_mib", "points_lost")
_SYNTHETIC = "drawn, seeded (no --images)"


@click.command(
    help="Measure a bundle on this machine: a tote to masks, then crops identified and inspected. "
    "Providers and precisions take turns in one run; ratios are against the first that runs, "
    "cpu/fp32 by default. Identification is the embedding alone, without the search in a manifest."
)
@click.option("--bundle", type=click.Path(path_type=Path), required=True, help="Bundle folder.")
@click.option("--images", type=click.Path(path_type=Path), help="Folder of tote pictures.")
@click.option("--providers", default="cpu", show_default=True, help=f"Of {', '.join(_PROVIDERS)}.")
@click.option("--precisions", default="all", show_default=True, help="all: what the bundle has.")
@click.option("--crop-features", default="crops", show_default=True,
              help="crops: encode each; tote: pool from the tote's features; both.")  # fmt: skip
@click.option("--crops", type=click.IntRange(0, 1000), default=10, show_default=True,
              help="Crops of each tote.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(1, 10_000), default=20, show_default=True,
              help="Timed runs of each.")  # fmt: skip
@click.option("--threads", type=click.IntRange(0, 256), default=0, show_default=True,
              help="Threads of one model run; 0: one per core.")  # fmt: skip
@click.option("--proposals", type=click.IntRange(0, 10_000), default=0, show_default=True,
              help="Boxes that go to the RoI heads; 0: the bundle's.")  # fmt: skip
@click.option("--engine-cache", default="",
              help="Folder for engines that TensorRT builds, which takes minutes; empty: build each"
              " time.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this file.")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout instead of tables.")
def command(**options: Any) -> None:
    """Measure, and say what couldn't be."""
    from robollm.core.errors import ModelFileError
    from robollm.runtime.bundle import load_bundle
    from robollm.runtime.measure import conditions

    if options["out"]:
        _check_out(options["out"])
    bundle = load_bundle(options["bundle"], allow_untrained=True)
    pictures, about = _pictures(options["images"], bundle.tote.hw)
    places = _places(options, tuple(bundle.variants))
    with conditions() as record:
        rows, stages, refused = _measure(options, places, pictures)
    if not rows:
        words = "; ".join(f"{name}: {why}" for name, why in refused.items())
        raise ModelFileError(f"nothing could be measured: {words}", fix="see `robollm bundle`")
    card = {
        "bundle": bundle.title,
        "input": {"tote": bundle.tote.hw, "crop": bundle.crop.hw, "pictures": about},
        "crops": options["crops"],
        "proposals": options["proposals"] or bundle.proposals,
        "threads": options["threads"] or "one per core",
        "machine": record,
        "reference": next(iter(rows)),
        "rows": rows,
        "stages_ms": stages,
        "refused": refused,
        "loss": {p: dict(v.loss) for p, v in bundle.variants.items()},
    }
    if options["as_json"]:
        click.echo(json.dumps(card))
    else:
        _print(card)
    if options["out"]:
        _write(options["out"], card)


def _check_out(out: Path) -> None:
    """Refuse a file that can't be written, before anything is measured.

    Raises:
        ConfigError: its folder is missing or not ours to write to, or it is a folder itself.
    """
    from robollm.core.errors import ConfigError

    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder, want a file", fix=f"--out {out}/bench.json")
    folder = out.parent
    if not folder.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {folder}", fix=f"mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"--out {out}: {folder} may not be written to", fix="give a folder of your own"
        )


def _write(out: Path, card: dict[str, Any]) -> None:
    """Write the file in one step.

    Raises:
        ConfigError: it can't be written.
    """
    from robollm.core.errors import ConfigError
    from robollm.data.armbench_files import write_json

    try:
        write_json(out, card, indent=1)
    except OSError as e:
        raise ConfigError(
            f"--out {out} can't be written: {e.strerror or e}",
            fix="what was measured is on stdout, and with --json all of it",
        ) from e


def _words(text: str, known: Sequence[str], option: str) -> list[str]:
    from robollm.core.errors import ConfigError

    words = [w.strip() for w in text.split(",") if w.strip()]
    odd = [w for w in words if w not in known]
    if odd or not words:
        raise ConfigError(
            f"{option} is {text!r}, want some of {', '.join(known)}", fix="separate by commas"
        )
    return list(dict.fromkeys(words))


def _places(options: dict[str, Any], variants: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Name of a row -> settings; cpu/fp32 first if it is among them."""
    providers = _words(options["providers"], _PROVIDERS, "--providers")
    every = options["precisions"] == "all"
    asked = variants if every else _words(options["precisions"], _PRECISIONS, "--precisions")
    ways = _words(options["crop_features"], (*_WAYS, "both"), "--crop-features")
    modes = _WAYS if "both" in ways else ways
    places = {}
    for mode in modes:
        for provider in providers:
            for precision in asked:
                name = f"{provider}/{precision}" + (", features once" if mode == "tote" else "")
                where = {"provider": provider, "precision": precision, "crop_features": mode}
                places[name] = where
    return dict(sorted(places.items(), key=lambda item: item[0] != "cpu/fp32"))


def _pictures(folder: Path | None, hw: tuple[int, int]) -> tuple[list[Any], str]:
    """RGB pictures, and where they come from."""
    import numpy as np

    from robollm.core.errors import FrameError
    from robollm.data.images import read_image

    if folder is None:
        from robollm.export.pictures import tote

        rng = np.random.default_rng(0)
        drawn = [np.rint(255 * tote(rng, hw)).astype(np.uint8) for _ in range(4)]
        return drawn, _SYNTHETIC
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not files:
        raise FrameError(f"{folder} holds no JPEG or PNG", fix="give a folder of tote pictures")
    few = files[:: max(1, len(files) // 16)][:16]
    return [read_image(p) for p in few], f"{len(few)} of {len(files)} from --images"


def _measure(
    options: dict[str, Any], places: dict[str, dict[str, str]], pictures: list[Any]
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]], dict[str, str]]:
    """Rows, stages, and why something was left out."""
    from robollm.core.errors import RobollmError
    from robollm.core.settings import RuntimeConfig
    from robollm.runtime.measure import interleave, table
    from robollm.runtime.perceiver import Perceiver
    from robollm.runtime.probe import start
    from robollm.runtime.workload import Workload

    shared = {k: options[k] for k in ("threads", "proposals", "engine_cache")}
    shared |= {"bundle": str(options["bundle"]), "allow_untrained": True}
    jobs: dict[str, Workload] = {}
    began: dict[str, dict[str, float]] = {}
    refused: dict[str, str] = {}
    for name, where in places.items():
        if name.partition(",")[0] in refused:
            continue  # and once is enough to say
        config = RuntimeConfig(**{**shared, **where})
        try:
            job = Workload(Perceiver(config), pictures, options["crops"])
            job(0)
            began[name] = start(config)
        except RobollmError as e:
            refused[name] = e.what
        else:
            jobs[name] = job
    if not jobs:
        return {}, {}, refused
    times = interleave(jobs, rounds=options["rounds"])
    rows = table(times, next(iter(jobs)))
    for name, row in rows.items():
        seen = began[name]
        row["load_s"] = round(seen["loaded_s"] - seen["imports_s"], 2)
        row["instances"] = jobs[name].instances()
        row |= {k: seen[k] for k in ("verdict_s", "rss_mib", "peak_mib")}
        perceiver = jobs[name].perceiver
        if loss := perceiver.bundle.variant(perceiver.precision).loss:
            row["points_lost"] = max(loss.values())
    return rows, {n: j.stages_ms() for n, j in jobs.items()}, refused


def _print(card: dict[str, Any]) -> None:
    about, m = card["input"], card["machine"]
    click.echo(
        f"{card['bundle']}: tote {about['tote'][1]}x{about['tote'][0]} px, "
        f"{card['proposals']} proposals, {card['crops']} crops of "
        f"{about['crop'][1]}x{about['crop'][0]} px; pictures: {about['pictures']}"
    )
    click.echo(
        f"{m['cpu']}, {m['cores']} cores ({', '.join(m['flags'])}), threads: {card['threads']}; "
        f"load {m['load_before']} before, {m['load_after']} after, others used "
        f"{m['others_cores']} cores\n"
    )
    rows = card["rows"]
    _table({n: {c: r.get(c, "") for c in _COLUMNS} for n, r in rows.items()})
    click.echo("\nmedian ms of each stage")
    _table(card["stages_ms"])
    click.echo()
    for name, why in card["refused"].items():
        click.echo(f"not measured: {name}: {why}")
    click.echo(
        f"\nratio: times as fast as {card['reference']}, median over rounds. verdict_s: process "
        "start to the first verdict, in a process of its own, whose memory rss_mib is. points_lost "
        "(of 100): the most that the precision costs in one task, as the bundle's card says."
    )
    if m["others_cores"] > 0.2:
        click.echo("Others used this machine meanwhile: trust the ratios, not the milliseconds.")


def _table(rows: dict[str, dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(c for row in rows.values() for c in row))
    width = max(map(len, rows))
    wide = {c: max(9, len(c)) for c in columns}
    click.echo(" " * width + "".join(f"  {c:>{wide[c]}}" for c in columns))
    for name, row in rows.items():
        cells = "".join(f"  {row.get(c, '')!s:>{wide[c]}}" for c in columns)
        click.echo(f"{name:{width}}{cells}")
