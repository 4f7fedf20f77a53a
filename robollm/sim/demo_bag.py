"""A recorded station: bag, manifest, reference pictures and truth, all simulated, all seeded.

Totes are emptied pick by pick (station.py); this module puts what was photographed on ROS topics
and a timeline. The first six picks hold one of everything that a user of the nodes has to be
ready for; see `EVENTS`.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.data import jpeg
from robollm.data.bag import NS, BagWriter
from robollm.sim.dataset.workers import run_jobs
from robollm.sim.events.picks import Event
from robollm.sim.products.catalogue import make_catalogue, rows
from robollm.sim.render.lens import develop
from robollm.sim.render.mujoco_renderer import MujocoRenderer
from robollm.sim.render.shots import ViewName
from robollm.sim.render.shots_reference import reference_scene, reference_shot
from robollm.sim.station import Plan, StationPick, play
from robollm.sim.world import Product

EVENTS = (
    *("nominal", "multi_pick", "no_tote_wall", "open", "stranger", "nominal"),
    *("deconstruction", "nominal", "multi_pick", "nominal", "open", "nominal"),
    *("nominal", "multi_pick", "stranger", "nominal", "no_tote_wall", "deconstruction"),
    *("nominal", "multi_pick"),
)
"""What happens at each pick, over and over. `stranger`: a product that its tote's manifest lacks;
`no_tote_wall`: a camera that delivers nothing."""
PICKS_MAX = 500

CONTAINER_TOPIC = "/robollm/container"
IMAGE_TOPIC = "/robollm/image/compressed"
PICK_TOPIC = "/robollm/pick"
VIEW_TOPICS: dict[ViewName, str] = {
    "on_arm_low": "/robollm/views/on_arm_low/image",
    "tote_wall": "/robollm/views/tote_wall/image/compressed",
}

TOTE_HW = (720, 960)  # (height, width) of a tote picture, px
VIEW_HW = (480, 480)  # of a post-pick picture
REFERENCE_HW = (320, 320)
REFERENCES = 3  # pictures per product
PRODUCTS = 16  # per tote

MS = 1_000_000
EPOCH_NS = 1_760_000_000 * NS  # the first message; October 2025
PERIOD_NS = 1_200 * MS  # from one pick to the next, with one picture per view
HOLD_NS = 2_700 * MS  # longer than any hold's first to last picture
FRAME_GAPS_NS = (0, 150 * MS, 300 * MS)  # tote frames after the one that the pick is planned on
PICK_NS = 300 * MS
VIEW_NS: dict[ViewName, int] = {"on_arm_low": 550 * MS, "tote_wall": 650 * MS}
LATENCY_NS = 8 * MS  # from a camera's stamp to the recorder

_CATALOGUE_SEED = 7
_PICKS_OF_A_TOTE = 10
_CHUNK = 4  # products that are photographed in one go

U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """Where `write_demo` put what."""

    root: Path
    bag: Path
    manifest: Path
    references: Path
    truth: Path


@dataclass(frozen=True, slots=True)
class _Portraits:
    """Products whose reference pictures are one job."""

    products: tuple[Product, ...]


class _Hand:
    """Does in one process what is asked: plays a tote, or takes reference pictures."""

    def run(self, job: Plan | _Portraits) -> Any:
        """Return (number, picks) of a plan, or {product id: JPEGs} of portraits."""
        if isinstance(job, Plan):
            return job.number, play(job)
        return {p.id: pictures for p, pictures in _portraits(job.products)}

    def close(self) -> None:
        """Nothing is kept between jobs."""


def write_demo(
    out: Path,
    *,
    seed: int = 7,
    picks: int = 20,
    frames: int = 1,
    storage: Literal["mcap", "sqlite3"] = "mcap",
    tote_hw: tuple[int, int] = TOTE_HW,
    view_hw: tuple[int, int] = VIEW_HW,
    products: int = PRODUCTS,
    workers: int = 2,
) -> DemoFiles:
    """Write a simulated station's files.

    Args:
        out: folder to write into; `out/bag` must not exist yet.
        seed: which products lie where, in which light; the same seed gives the same files.
        picks: how many picks, 1 to 500, at most ten of a tote; from 6 on every event of `EVENTS`
            is there but for `deconstruction`, from 7 on all.
        frames: pictures per view and pick, 1 to 15, spread over the some 2 s of a hold; a single
            one is its last. The nodes judge a view by its first picture; the others are for
            evaluating over time.
        storage: "mcap" (zstd) or "sqlite3" (not compressed).
        tote_hw: (height, width) of the tote's pictures, px.
        view_hw: of the post-pick pictures, px.
        products: how many each tote's manifest has, 6 to 100; not all of them are in the tote.
        workers: processes; doesn't change the files.

    Raises:
        BagError: if `out/bag` exists or can't be written.
        ConfigError: if a number is out of range, or nothing can be drawn (no OSMesa, no fonts).
    """
    for name, value, least, most in (
        ("picks", picks, 1, PICKS_MAX), ("frames", frames, 1, 15), ("products", products, 6, 100),
    ):  # fmt: skip
        if not least <= value <= most:
            raise ConfigError(f"{name} is {value}, want {least} to {most}")
    out = Path(out)
    files = DemoFiles(
        out, out / "bag", out / "manifest.json", out / "references", out / "truth.json"
    )
    with BagWriter(files.bag, storage, compress=storage == "mcap") as bag:
        plans = _plans(seed, picks, frames, (tote_hw, view_hw), products)
        everything = tuple(p for plan in plans for p in plan.products)
        chunks = [_Portraits(everything[i : i + _CHUNK]) for i in range(0, len(everything), _CHUNK)]
        played: dict[int, tuple[StationPick, ...]] = {}
        portraits: dict[str, list[bytes]] = {}
        for made in run_jobs(_Hand, (), [*plans, *chunks], workers=workers):
            if isinstance(made, dict):
                portraits |= made
            else:
                played[made[0]] = made[1]
        story = [(plan, pick) for plan in plans for pick in played[plan.number]]
        strangers = _strangers(story)
        truth = _record(bag, story, strangers, frames)
    for product in everything:
        folder = files.references / product.id
        folder.mkdir(parents=True, exist_ok=True)
        for k, packed in enumerate(portraits[product.id]):
            (folder / f"{k + 1}.jpg").write_bytes(packed)
    _dump(files.manifest, _manifest(plans, strangers))
    _dump(files.truth, {"format": "robollm-truth", "format_version": 1, "seed": seed,
                        "source": {"kind": "simulated", "split": ""}, "picks": truth})  # fmt: skip
    return files


def _plans(
    seed: int, picks: int, frames: int, sizes: tuple[tuple[int, int], tuple[int, int]], count: int
) -> tuple[Plan, ...]:
    """Two totes or more, one after the other, each with products of its own."""
    totes = max(min(2, picks), -(-picks // _PICKS_OF_A_TOTE))
    products = make_catalogue(_CATALOGUE_SEED, totes * count, "test")
    simulated: dict[str, Event] = {
        "multi_pick": "multi_pick", "open": "open", "deconstruction": "deconstruction",
    }  # fmt: skip
    events = tuple(simulated.get(_event(k), "nominal") for k in range(picks))
    ends = [-(-picks * n // totes) for n in range(totes + 1)]
    return tuple(
        Plan(seed, n, part, products[n * count : (n + 1) * count], tuple(VIEW_TOPICS),
             *sizes, frames)
        for n, part in enumerate(events[a:b] for a, b in itertools.pairwise(ends))
    )  # fmt: skip


def _portraits(products: tuple[Product, ...]) -> list[tuple[Product, list[bytes]]]:
    """Photograph products for the catalogue."""
    out = []
    with MujocoRenderer() as renderer:
        scenes = [[reference_scene(p, k) for k in range(REFERENCES)] for p in products]
        renderer.load([scene for row in scenes for scene in row])
        for product, row in zip(products, scenes, strict=True):
            packed = []
            for k, scene in enumerate(row):
                rng = np.random.default_rng([_CATALOGUE_SEED, *product.id.encode(), k])
                shot = reference_shot(k, rng, product, REFERENCE_HW)
                rgb = develop(renderer.shoot(scene, shot).rgb, shot.lens, shot.seed)
                packed.append(jpeg.encode(rgb, quality=92))
            out.append((product, packed))
    return out


def _strangers(story: list[tuple[Plan, StationPick]]) -> set[str]:
    """The products that the manifest shall not know of."""
    return {
        pick.product_id for number, (_, pick) in enumerate(story) if _event(number) == "stranger"
    }


def _record(
    bag: BagWriter, story: list[tuple[Plan, StationPick]], strangers: set[str], frames: int
) -> list[dict[str, Any]]:
    """Write all messages in the order of their recording; return the truth."""
    truth: list[dict[str, Any]] = []
    in_front = None
    period = PERIOD_NS if frames == 1 else PERIOD_NS + HOLD_NS
    for number, (plan, pick) in enumerate(story):
        start = EPOCH_NS + number * period
        container = _container(plan)
        if container != in_front:
            bag.string(CONTAINER_TOPIC, container, start)
            in_front = container
        stamp = start + 100 * MS
        row = _record_pick(bag, f"pick-{number + 1:04d}", pick, stamp, _event(number))
        row |= {"container": container, "in_manifest": pick.product_id not in strangers}
        truth.append(row)
    return truth


def _record_pick(
    bag: BagWriter, name: str, pick: StationPick, stamp_ns: int, event: str
) -> dict[str, Any]:
    frame_id = "tote_camera_optical_frame"
    box = list(pick.instances[pick.target].box)
    for gap in FRAME_GAPS_NS:
        if gap == PICK_NS:
            bag.pick(PICK_TOPIC, stamp_ns, frame_id, name, box, stamp_ns + PICK_NS)
        stamp = stamp_ns + gap
        bag.image(IMAGE_TOPIC, stamp, frame_id, pick.tote_rgb, jpeg=True, log_ns=stamp + LATENCY_NS)
    labels: dict[str, str | None] = dict.fromkeys(VIEW_TOPICS)
    stamps: dict[str, int | None] = dict.fromkeys(VIEW_TOPICS)
    over_time: dict[str, list[dict[str, Any]]] = {}
    coming: list[tuple[int, ViewName, U8]] = []
    for view in VIEW_TOPICS:
        if event == "no_tote_wall" and view == "tote_wall":
            continue
        shown = pick.views[view]
        begin = stamp_ns + VIEW_NS[view]
        times = [begin + (f.t_ns - shown[0].t_ns) for f in shown]
        labels[view], stamps[view] = shown[0].label, begin
        over_time[view] = [
            {"stamp_ns": t, "label": f.label} for t, f in zip(times, shown, strict=True)
        ]
        coming += [(t, view, f.rgb) for t, f in zip(times, shown, strict=True)]
    for stamp, view, rgb in sorted(coming, key=lambda c: (c[0], c[1])):
        topic = VIEW_TOPICS[view]
        bag.image(
            topic, stamp, f"{view}_optical_frame", rgb,
            jpeg=topic.endswith("/compressed"), log_ns=stamp + LATENCY_NS,
        )  # fmt: skip
    return {
        "id": name,
        "product_id": pick.product_id,
        "also_picked": list(pick.also_picked),
        "label": pick.label,
        "event": pick.event,
        "state": pick.truth,
        "views": labels,
        "view_stamps_ns": stamps,
        "view_frames": over_time,
        "tote_stamp_ns": stamp_ns,
        "target": pick.target,
        "tote_instances": [
            {"product_id": i.product_id, "box": list(i.box)} for i in pick.instances
        ],
    }


def _container(plan: Plan) -> str:
    return f"tote-{chr(ord('A') + plan.number)}" if plan.number < 26 else f"tote-{plan.number}"


def _event(number: int) -> str:
    return EVENTS[number % len(EVENTS)]


def _manifest(plans: tuple[Plan, ...], strangers: set[str]) -> dict[str, Any]:
    products = [p for plan in plans for p in plan.products]
    return {
        "format": "robollm-manifest",
        "format_version": 1,
        "products": {
            row["id"]: {k: v for k, v in row.items() if k != "id"} for row in rows(products)
        },
        "containers": {
            _container(plan): [p.id for p in plan.products if p.id not in strangers]
            for plan in plans
        },
    }


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
