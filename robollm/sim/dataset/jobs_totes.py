"""Totes for segmentation: one drop, several pictures, every visible thing annotated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from robollm.data import armbench_segmentation as layout
from robollm.data.armbench_files import write_bytes
from robollm.sim.bodies import body_of
from robollm.sim.dataset.jobs_choice import choose_products, choose_tote, item_count, that_fit
from robollm.sim.dataset.plan import Job, name_of
from robollm.sim.physics.drop import Settled, capacity, fill, pack_copies, take_out
from robollm.sim.physics.engine import UnstableError
from robollm.sim.render import lens
from robollm.sim.render.shots import tote_shot
from robollm.sim.render.silhouette import amodal, visibility
from robollm.sim.world import TOTE_LABEL, Camera, Picture, Scene, Shot

if TYPE_CHECKING:
    from robollm.sim.dataset.jobs import Studio

MIN_VISIBLE_PX = 12  # of an instance; a smaller sliver is left out, and counted
_ATTEMPTS = 12
_FEW_COPIES = 5
_STATES = 3  # of one drop: with all items, and with the highest ones taken out
_Surrounding = Literal["cell", "conveyor", "concrete"]
_SURROUNDINGS: tuple[_Surrounding, ...] = ("cell", "cell", "conveyor", "concrete")
BACKDROPS = 12  # surroundings take longer to make than a picture does
_FULL_TEXTURE_PX = 1100  # from this width of a picture on textures are used at full size


@dataclass(frozen=True, slots=True)
class View:
    """One picture to take: of which state of the tote, and how."""

    scene: Scene
    shot: Shot


def make_tote(studio: Studio, job: Job) -> dict[str, Any]:
    """Write the pictures of one drop; return its record."""
    settled = _drop(studio, job)
    views = _views(studio, job, settled)
    folder = studio.root / layout.ROOT / job.subset / "images"
    images = []
    for variant, (view, picture) in enumerate(zip(views, photograph(studio, views), strict=True)):
        name = f"{name_of(studio.settings, job, variant)}.jpg"
        write_bytes(folder / name, lens.encode(picture.rgb, view.shot.lens, view.shot.seed))
        rows, left_out = annotated(picture.labels, view.scene, view.shot.camera)
        images.append(
            {
                "file_name": name,
                "hw": [int(n) for n in picture.labels.shape],
                "annotations": rows,
                "left_out": left_out,
                "extra": {"drop": job.index, "items": len(view.scene.items)},
            }
        )
    items = len(views[0].scene.items)
    wanted = items + len(settled.dropped)
    return {
        "pictures": len(images), "items": items, "placed": items, "wanted": wanted,
        "images": images,
    }  # fmt: skip


def shots_of(studio: Studio, job: Job) -> list[View]:
    """Fill a tote and say which pictures to take; the first one is of the whole content."""
    return _views(studio, job, _drop(studio, job))


def _views(studio: Studio, job: Job, settled: Settled) -> list[View]:
    zoomed_out = job.subset == layout.ZOOMED_OUT
    tote, items = settled.scene.tote, len(settled.scene.items)
    assert tote is not None, "a drop is into a tote"
    streams = [studio.rng(job, 2, variant) for variant in range(studio.settings.variants)]
    # Few states, each seen by several cameras: to bring a tote to rest takes longer than a picture.
    draw = studio.rng(job, 3)
    states = [0, *(int(draw.beta(1.0, 2.5) * items) for _ in range(_STATES - 1))]
    gone = [states[k % _STATES] for k in range(len(streams))]
    return [
        View(scene, tote_shot(rng, tote, studio.settings.hw, zoomed_out=zoomed_out))
        for scene, rng in zip(take_out(settled.scene, gone), streams, strict=True)
    ]


def _drop(studio: Studio, job: Job) -> Settled:
    for attempt in range(_ATTEMPTS):
        rng = studio.rng(job, 1, attempt)
        count = item_count(rng, studio.settings.max_items)
        tote = choose_tote(rng, job.subset, count)
        products = studio.products[job.split]
        seed = int(rng.integers(2**31))
        try:
            if job.subset != layout.SAME_OBJECT:
                chosen = that_fit(rng, choose_products(rng, products, count), products, tote)
                settled = fill(chosen, tote, seed)
            else:
                product = products[int(rng.integers(len(products)))]
                room = capacity(product, tote)
                if room < (_FEW_COPIES if attempt < _ATTEMPTS // 2 else 2):
                    continue  # two large boxes side by side are no challenge
                # Tightly packed is the point: from a third full on.
                low = max(2, min(room, studio.settings.max_items) // 3)
                high = max(low, min(room, studio.settings.max_items))
                settled = pack_copies(product, int(rng.integers(low, high + 1)), tote, seed)
        except UnstableError:
            continue
        if settled.scene.items:
            scene = replace(
                settled.scene,
                backdrop=_SURROUNDINGS[int(rng.integers(len(_SURROUNDINGS)))],
                backdrop_seed=int(rng.integers(BACKDROPS)),
            )
            return replace(settled, scene=scene)
    raise UnstableError(
        f"{job} did not come to rest in {_ATTEMPTS} attempts",
        fix="take another seed, or fewer max_items",
    )


def photograph(studio: Studio, views: Sequence[View]) -> list[Picture]:
    """Take pictures of states of one tote, before the lens, with textures as fine as needed."""
    width = max(v.shot.camera.hw[1] for v in views)
    scale = float(np.clip(width / _FULL_TEXTURE_PX, 0.25, 1.0))
    studio.renderer.load([v.scene for v in views], texture_scale=scale)
    return [studio.renderer.shoot(v.scene, v.shot) for v in views]


def annotated(
    labels: NDArray[np.uint16], scene: Scene, camera: Camera
) -> tuple[list[dict[str, Any]], int]:
    """Annotate the items and the tote of one picture.

    Args:
        labels: (H, W) uint16.
        scene: what was photographed.
        camera: that took the picture.

    Returns:
        Rows of `armbench_segmentation.annotate`, and how many slivers were left out.
    """
    pixels = np.bincount(labels.ravel(), minlength=TOTE_LABEL + 1)
    shown = [i for i in scene.items if pixels[i.instance] >= MIN_VISIBLE_PX]
    slivers = sum(0 < pixels[i.instance] < MIN_VISIBLE_PX for i in scene.items)
    categories = {i.instance: layout.OBJECT for i in shown}
    if pixels[TOTE_LABEL] >= MIN_VISIBLE_PX:
        categories[TOTE_LABEL] = layout.TOTE
    whole = amodal(scene, camera, body_of)
    seen = visibility(labels, whole)
    extras = {}
    for item in shown:
        # An outline thinner than a pixel can be drawn and not counted: then all of it is seen.
        x1, y1, x2, y2 = whole[item.instance][0] if item.instance in whole else (0, 0, 0, 0)
        extras[item.instance] = {
            "instance": item.instance,
            "product_id": item.product.id,
            "visibility": round(seen.get(item.instance, 1.0), 4),
            "amodal_bbox": [round(float(v), 2) for v in (x1, y1, x2 - x1, y2 - y1)],
        }
    return layout.annotate(labels, categories, extras), int(slivers)
