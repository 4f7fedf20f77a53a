"""A demo station: bag, manifest, reference pictures and truth, all drawn, all reproducible.

Two totes are emptied pick by pick. The first six picks hold one of everything that a user of
the nodes has to be ready for; see `EVENTS`. Further picks are ordinary.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from robollm.core.errors import ConfigError
from robollm.data import jpeg
from robollm.data.bag import NS, BagWriter
from robollm.sim.sketch_products import Product, catalogue
from robollm.sim.sketch_scene import Item, ToteScene, draw_tote, scatter
from robollm.sim.sketch_views import REFERENCES, VIEWS, draw_reference, draw_view

EVENTS = ("nominal", "multi_pick", "no_tote_wall", "package_defect", "stranger", "nominal")
"""What happens at each of the first picks. `stranger`: a product that its tote's manifest lacks."""

CONTAINER_TOPIC = "/robollm/container"
IMAGE_TOPIC = "/robollm/image"
PICK_TOPIC = "/robollm/pick"
VIEW_TOPICS = {
    "on_arm_low": "/robollm/views/on_arm_low/image",
    "tote_wall": "/robollm/views/tote_wall/image/compressed",
}

MS = 1_000_000
EPOCH_NS = 1_760_000_000 * NS  # the first message; October 2025
PERIOD_NS = 1_200 * MS  # from one pick to the next
FRAME_GAPS_NS = (0, 150 * MS, 300 * MS)  # tote frames after the one that the pick is planned on
PICK_NS = 300 * MS
VIEW_NS = {"on_arm_low": 550 * MS, "tote_wall": 650 * MS}
LATENCY_NS = 8 * MS  # from a camera's stamp to the recorder

_TOTES = {  # container -> colour, kinds of products that belong into it
    "tote-A": ("grey", ("box", "carton", "pouch")),
    "tote-B": ("blue", ("carton", "pouch", "bottle")),
}
_FILLING = 5  # products that stay in a tote, besides the ones that are picked
_VISIBLE_PX = 200  # an instance with fewer visible pixels is not in the truth


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """Where `write_demo` put what."""

    root: Path
    bag: Path
    manifest: Path
    references: Path
    truth: Path


@dataclass(slots=True)
class _Tote:
    """One container while it is emptied; the item to pick next is the last one."""

    name: str
    colour: str
    items: list[Item]
    allowed: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True, eq=False)
class _Pick:
    """One pick, as planned and as it went."""

    number: int
    event: str
    tote: _Tote
    scene: ToteScene
    held: tuple[Item, ...]  # the target first
    items: tuple[Item, ...]  # everything in the tote before the pick
    stamp_ns: int

    @property
    def label(self) -> str:
        return self.event if self.event in ("multi_pick", "package_defect") else "nominal"

    @property
    def id(self) -> str:
        return f"pick-{self.number + 1:04d}"


def write_demo(
    out: Path,
    *,
    seed: int = 7,
    picks: int = 6,
    storage: Literal["mcap", "sqlite3"] = "mcap",
) -> DemoFiles:
    """Write a demo station's files.

    Args:
        out: folder to write into; `out/bag` must not exist yet.
        seed: which products lie where, in which light; the same seed gives the same files.
        picks: how many picks, at least 1; from 6 on every event of `EVENTS` is there.
        storage: "mcap" (zstd, about 11 MB for 6 picks) or "sqlite3" (not compressed, 42 MB).

    Raises:
        BagError: if `out/bag` exists or can't be written.
        ConfigError: if `picks` is not from 1 to 24.
    """
    if not 1 <= picks <= 24:
        raise ConfigError(f"picks is {picks}, want 1 to 24")
    out = Path(out)
    files = DemoFiles(
        out, out / "bag", out / "manifest.json", out / "references", out / "truth.json"
    )
    totes = _fill(seed, picks)
    truth: list[dict[str, Any]] = []
    with BagWriter(files.bag, storage, compress=storage == "mcap") as bag:
        in_front = None
        for number in range(picks):
            tote = totes[0] if number < (picks + 1) // 2 else totes[-1]
            if tote is not in_front:
                change_ns = EPOCH_NS + number * PERIOD_NS
                bag.string(CONTAINER_TOPIC, tote.name, change_ns)
                in_front = tote
            pick = _carry_out(number, tote, seed)
            truth.append(_record(bag, pick, seed))
    _write_references(files.references)
    _dump(files.manifest, _manifest())
    _dump(files.truth, {"format": "robollm-truth", "format_version": 1, "seed": seed,
                        "picks": truth})  # fmt: skip
    return files


def _event(number: int) -> str:
    return EVENTS[number] if number < len(EVENTS) else "nominal"


def _fill(seed: int, picks: int) -> list[_Tote]:
    """Both totes, with the items to pick on top, the first one topmost."""
    products = catalogue()
    half = (picks + 1) // 2
    totes = []
    for i, (name, (colour, kinds)) in enumerate(_TOTES.items()):
        rng = np.random.default_rng([seed, i])
        own = [p for p in products if p.kind in kinds]
        foreign = [p for p in products if p.kind not in kinds]
        targets: list[Product] = []
        for number in range(half) if i == 0 else range(half, picks):
            pool = foreign if _event(number) == "stranger" else own
            if _event(number) == "package_defect":
                pool = [p for p in own if p.kind in ("box", "carton")]
            pool = [p for p in pool if p not in targets[-4:]] or pool
            targets.append(pool[int(rng.integers(len(pool)))])
        filling = [own[int(k)] for k in rng.permutation(len(own))[:_FILLING]]
        items = scatter([*filling, *reversed(targets)], 100 * seed + i)
        totes.append(_Tote(name, colour, items, frozenset(p.product_id for p in own)))
    return totes


def _carry_out(number: int, tote: _Tote, seed: int) -> _Pick:
    """Draw the tote, then take the topmost item (and, in a multi-pick, its neighbour) out."""
    scene = draw_tote(tote.items, tote.colour, 1000 * seed + number)
    before = tuple(tote.items)
    held = [tote.items.pop()]
    if _event(number) == "multi_pick":
        here = held[0].pose
        near = min(
            tote.items[:_FILLING],
            key=lambda item: (item.pose.x - here.x) ** 2 + (item.pose.y - here.y) ** 2,
        )
        tote.items.remove(near)
        held.append(near)
    stamp_ns = EPOCH_NS + number * PERIOD_NS + 100 * MS
    return _Pick(number, _event(number), tote, scene, tuple(held), before, stamp_ns)


def _record(bag: BagWriter, pick: _Pick, seed: int) -> dict[str, Any]:
    """Write one pick's messages in the order of their recording; return its truth."""
    target = len(pick.items) - 1
    box = [float(v) for v in pick.scene.boxes[target]]
    frame_id = "tote_camera_optical_frame"
    for gap in FRAME_GAPS_NS:
        if gap == PICK_NS:
            bag.pick(PICK_TOPIC, pick.stamp_ns, frame_id, pick.id, box, pick.stamp_ns + PICK_NS)
        stamp = pick.stamp_ns + gap
        image = pick.scene.image
        bag.image(IMAGE_TOPIC, stamp, frame_id, image, jpeg=False, log_ns=stamp + LATENCY_NS)
    labels: dict[str, str | None] = {}
    stamps: dict[str, int | None] = {}
    held = [item.product for item in pick.held]
    for view in VIEWS:
        if pick.event == "no_tote_wall" and view == "tote_wall":
            labels[view] = stamps[view] = None
            continue
        image = draw_view(
            view, held, pick.tote.colour, 1000 * seed + pick.number,
            broken=pick.label == "package_defect",
        )  # fmt: skip
        stamp = pick.stamp_ns + VIEW_NS[view]
        topic = VIEW_TOPICS[view]
        bag.image(
            topic, stamp, f"{view}_optical_frame", image,
            jpeg=topic.endswith("/compressed"), log_ns=stamp + LATENCY_NS,
        )  # fmt: skip
        labels[view], stamps[view] = pick.label, stamp
    seen = [
        i
        for i in range(len(pick.items))
        if i == target or np.count_nonzero(pick.scene.labels == i + 1) >= _VISIBLE_PX
    ]
    return {
        "id": pick.id,
        "container": pick.tote.name,
        "product_id": held[0].product_id,
        "also_picked": [p.product_id for p in held[1:]],
        "in_manifest": held[0].product_id in pick.tote.allowed,
        "label": pick.label,
        "views": labels,
        "view_stamps_ns": stamps,
        "tote_stamp_ns": pick.stamp_ns,
        "target": seen.index(target),
        "tote_instances": [
            {"product_id": pick.items[i].product.product_id,
             "box": [float(v) for v in pick.scene.boxes[i]]}
            for i in seen
        ],
    }  # fmt: skip


def _manifest() -> dict[str, Any]:
    products = catalogue()
    return {
        "format": "robollm-manifest",
        "format_version": 1,
        "products": {
            p.product_id: {
                "title": p.title,
                "description": f"{p.title}: {p.kind}, drawn for the demo",
                "weight_kg": p.weight_kg,
                "dimensions_m": list(p.dimensions_m),
                "family": p.brand,
            }
            for p in products
        },
        "containers": {
            name: [p.product_id for p in products if p.kind in kinds]
            for name, (_, kinds) in _TOTES.items()
        },
    }


def _write_references(folder: Path) -> None:
    for product in catalogue():
        (folder / product.product_id).mkdir(parents=True, exist_ok=True)
        for index in range(REFERENCES):
            packed = jpeg.encode(draw_reference(product, index), quality=92)
            (folder / product.product_id / f"{index + 1}.jpg").write_bytes(packed)


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
