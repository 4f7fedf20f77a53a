"""Picks: one tote, one item taken out, photographed before and after; and its films."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.data import armbench_defects, armbench_identification, jpeg
from robollm.data.armbench_segmentation import MIX, outlines
from robollm.sim.dataset.evidence import broken_px, second_px, whole_again
from robollm.sim.dataset.jobs_choice import (
    choose_manifest,
    choose_products,
    choose_tote,
    item_count,
)
from robollm.sim.dataset.jobs_totes import BACKDROPS, View, photograph
from robollm.sim.dataset.plan import Job, induct_of
from robollm.sim.events.picks import PickRun, carry_out
from robollm.sim.physics.drop import fill
from robollm.sim.physics.engine import UnstableError
from robollm.sim.products import catalogue
from robollm.sim.render import lens
from robollm.sim.render.shots import ViewName, tote_shot, view_shot
from robollm.sim.world import U8, Product, Shot

if TYPE_CHECKING:
    from robollm.sim.dataset.jobs import Studio

FILE_NAMES: dict[ViewName, str] = {
    "on_arm_low": "OnArmLowRGB", "tote_wall": "ToteWallRGB", "far_tray": "FarTrayRGB",
}  # fmt: skip
_ATTEMPTS = 20
_MARGIN = 0.08  # around a pre-pick crop, of its side
_LOOSE = (0.05, 0.45)  # the same around what is held
_MISSING = 0.06  # chance that a camera that took a picture didn't deliver it
_MAX_ITEMS, _MIN_ITEMS = 24, 3
_FILM_HW = (280, 320)  # one camera's half of a film's frame, enlarged to twice its size
_FILM_FPS = 5.0
Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """One post-pick picture: JPEG, visible instances, the box of what is held, its label.

    `state`: the label of the moment, whether this camera sees it or not; `evidence_px`: how many
    pixels show it.
    """

    view: ViewName
    packed: bytes
    labels: NDArray[np.uint16]
    box: Box | None
    label: str
    state: str
    evidence_px: int
    t_ns: int


def make_pick(studio: Studio, job: Job) -> dict[str, Any]:
    """Write the files of one pick for every task that wants it; return its record."""
    run = _run(studio, job)
    happened = _event(run)
    pick, tasks = induct_of(studio.settings, job), studio.settings.task
    held = _photograph(studio, job, run)
    record: dict[str, Any] = {
        "id": pick, "pictures": len(held), "event": happened,
        "product_id": _target(run).id, "truth": run.truth,
        "images": [
            {"view": FILE_NAMES[h.view], "t_ns": h.t_ns, "state": h.state, "label": h.label,
             "evidence_px": h.evidence_px} for h in held
        ],
        "labels": [], "views": [FILE_NAMES[h.view] for h in held],
    }  # fmt: skip
    # A multi-pick has no single right answer, so it is no task for identification.
    if "identification" in tasks and job.event != "multi_pick":
        record |= _identification(studio, job, run, pick, held)
        record["pictures"] += 1
    if "defects" in tasks:
        rows = [(h.packed, _annotation(h)) for h in held]
        armbench_defects.write_images(studio.root / armbench_defects.IMAGE_ROOT, pick, rows)
        record |= {"defects": True, "labels": [h.label for h in held]}
    if job.video:
        frames = _film(studio, job, run)
        armbench_defects.write_video(
            studio.root / armbench_defects.VIDEO_ROOT, pick, frames, {"label": happened},
            fps=_FILM_FPS,
        )  # fmt: skip
        record |= {"video": happened}
        record["pictures"] += 2 * len(frames)
    return record


def _target(run: PickRun) -> Product:
    return next(i.product for i in run.before.items if i.instance == run.target)


def _label_of(run: PickRun) -> str:
    """The label of a pick as a whole: a defect that shows in any frame."""
    return next((label for label in run.labels if label != "nominal"), "nominal")


def _event(run: PickRun) -> str:
    """What happened: "nominal", "multi_pick", "open" or "deconstruction"."""
    return run.detail or _label_of(run)


def _run(studio: Studio, job: Job) -> PickRun:
    """Fill a tote and take something out, until what happens is what the plan says."""
    want = {"open": "package_defect", "deconstruction": "package_defect"}.get(job.event, job.event)
    products = studio.products[job.split]
    for attempt in range(_ATTEMPTS):
        rng = studio.rng(job, 1, attempt)
        count = max(_MIN_ITEMS, item_count(rng, min(_MAX_ITEMS, studio.settings.max_items)))
        tote = choose_tote(rng, MIX, count)
        chosen = choose_products(rng, products, count)
        try:
            scene = fill(chosen, tote, int(rng.integers(2**31))).scene
            scene = replace(scene, backdrop_seed=int(rng.integers(BACKDROPS)))
            run = carry_out(scene, int(rng.integers(2**31)), job.event)
        except (ConfigError, UnstableError):
            continue
        # Whether content falls out is up to physics: wanted first, then taken as it comes.
        exact = run.detail in (None, job.event)
        if _label_of(run) == want and (exact or attempt >= _ATTEMPTS // 2):
            return run
    raise UnstableError(
        f"{job} went otherwise {_ATTEMPTS} times", fix="take another seed or more products"
    )


def _photograph(studio: Studio, job: Job, run: PickRun) -> list[Held]:
    """Two to four pictures of what hangs under the gripper, in the order of time."""
    rng = studio.rng(job, 3)
    count = int(rng.integers(2, 5))
    names: list[ViewName] = ["on_arm_low", "tote_wall", "far_tray"]
    more = names[int(rng.integers(len(names)))]
    views = [*names, more][:count]
    moments = np.sort(rng.permutation(len(run.held.frames))[:count])
    order = rng.permutation(count)
    backdrop = int(rng.integers(BACKDROPS))
    scenes = [replace(run.held.frames[int(m)].scene, backdrop_seed=backdrop) for m in moments]
    wholes = [whole_again(s, run.target) for s in scenes] if run.detail else []
    studio.renderer.load([*scenes, *wholes])
    out = []
    for n, (moment, scene, which) in enumerate(zip(moments, scenes, order, strict=True)):
        view, state = views[int(which)], run.labels[int(moment)]
        assert scene.gripper is not None, "something holds it"
        shot = view_shot(view, rng, scene.gripper.pose, studio.settings.view_hw)
        picture = studio.renderer.shoot(scene, shot)
        packed = lens.encode(picture.rgb, shot.lens, shot.seed)
        pixels, seen = 0, False
        if state == "multi_pick":
            pixels, seen = second_px(picture.labels, run.target)
        elif wholes:
            whole = studio.renderer.shoot(wholes[n], shot)
            pixels, seen = broken_px(picture, whole, run.target)
        label = state if seen else "nominal"
        # A detector's boxes are not tight; a tight one would tell a multi-pick by its size.
        box = _box_of(picture.labels > 0, float(rng.uniform(*_LOOSE)))
        t_ns = run.held.frames[int(moment)].t_ns
        out.append(Held(view, packed, picture.labels, box, label, state, pixels, t_ns))
    return out


def _box_of(mask: NDArray[np.bool_], margin: float) -> Box | None:
    """The box (x1, y1, x2, y2) of a mask with a margin (of its sides); None if it is empty."""
    ys, xs = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    if not len(ys):
        return None
    x1, y1, x2, y2 = int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1
    mx, my = round((x2 - x1) * margin) + 2, round((y2 - y1) * margin) + 2
    height, width = mask.shape
    return max(0, x1 - mx), max(0, y1 - my), min(width, x2 + mx), min(height, y2 + my)


def _annotation(held: Held) -> dict[str, Any]:
    box = list(held.box) if held.box else [0, 0, 0, 0]
    mask = held.labels > 0
    return {
        "label": held.label,
        "box": box,
        "polygons": outlines(mask) if mask.any() else [],
        "view": held.view,
    }


def _identification(
    studio: Studio, job: Job, run: PickRun, pick: str, held: Sequence[Held]
) -> dict[str, Any]:
    """Write a pick of the identification task; return what its record says of it."""
    rng, target = studio.rng(job, 4), _target(run)
    crop, polygons = _before(studio, job, run)
    pictures, segments = {"PickRGB": crop}, {"PickRGB": polygons}
    for one in held:
        name = FILE_NAMES[one.view]
        if name in pictures or rng.random() < _MISSING:
            continue
        mask = one.labels == run.target
        pictures[name] = one.packed
        segments[name] = outlines(mask) if mask.any() else []
    manifest = choose_manifest(
        rng,
        studio.products[job.split],
        target,
        [i.product for i in run.before.items],
        studio.settings.manifest,
    )
    container = {
        row["id"]: {k: row[k] for k in ("title", "description", "weight_kg", "dimensions_m")}
        for row in catalogue.rows(manifest)
    }
    annotation = {"GT_ID": target.id, "segmentation": segments, "event": _event(run)}
    root = studio.root / armbench_identification.ROOT
    armbench_identification.write_pick(root, pick, pictures, container, annotation)
    return {"identification": True, "manifest": len(manifest),
            "views": [n for n in pictures if n != "PickRGB"]}  # fmt: skip


def _before(studio: Studio, job: Job, run: PickRun) -> tuple[bytes, list[list[float]]]:
    """The target cut out of a picture of its tote; JPEG, and its polygons in the crop."""
    side = max(studio.settings.view_hw)
    tote = run.before.tote
    assert tote is not None, "a pick is out of a tote"
    shot: Shot = tote_shot(studio.rng(job, 2), tote, (2 * side, 8 * side // 3))
    [picture] = photograph(studio, [View(run.before, shot)])
    mask = picture.labels == run.target
    box = _box_of(mask, _MARGIN)
    if box is None:  # the camera may lose what lies at a wall; then the whole tote is the crop
        box = (0, 0, mask.shape[1], mask.shape[0])
    x1, y1, x2, y2 = box
    rgb = lens.develop(picture.rgb, shot.lens, shot.seed)[y1:y2, x1:x2]
    inside = mask[y1:y2, x1:x2]
    return jpeg.encode(np.ascontiguousarray(rgb), 95), outlines(inside) if inside.any() else []


def _film(studio: Studio, job: Job, run: PickRun) -> list[U8]:
    """Two cameras side by side, frame by frame, 560 x 1280 px."""
    rng = studio.rng(job, 5)
    backdrop = int(rng.integers(BACKDROPS))
    scenes = [replace(f.scene, backdrop_seed=backdrop) for f in run.held.frames]
    # The cameras hang still; what they look at moves.
    middle = scenes[len(scenes) // 2].gripper
    assert middle is not None, "something holds it"
    shots = [view_shot(v, rng, middle.pose, _FILM_HW) for v in ("on_arm_low", "tote_wall")]
    studio.renderer.load(scenes)
    frames: list[U8] = []
    for number, scene in enumerate(scenes):
        halves = []
        for shot in shots:
            rgb = studio.renderer.shoot(scene, shot).rgb
            halves.append(lens.develop(rgb, shot.lens, shot.seed + number))
        both = np.hstack(halves)
        size = armbench_defects.VIDEO_HW[::-1]
        frames.append(np.asarray(cv2.resize(both, size, interpolation=cv2.INTER_CUBIC), np.uint8))
    return frames
