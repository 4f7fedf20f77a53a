"""A simulated picking station: totes that are emptied pick by pick, ready to be recorded.

First physics plays a tote's whole story, then renderers photograph it: what is in a picture, what
is true about it, and when it was taken come from the same simulated states.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.sim import shots
from robollm.sim.drop import fill
from robollm.sim.lens import develop
from robollm.sim.picks import PickRun, carry_out
from robollm.sim.render import MujocoRenderer
from robollm.sim.totes import TOTES
from robollm.sim.world import Product, Scene, Shot

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
Event = Literal["nominal", "multi_pick", "open", "deconstruction"]

VISIBLE_PX = 200  # an instance with fewer visible pixels is not in a tote picture's truth
FILLING = 5  # products that stay in a tote, besides the ones that are picked
_TRIES = 6  # seeds tried until a pick goes as the script says
_TOTES = ("grey_large", "blue_large", "yellow_large")


@dataclass(frozen=True, slots=True)
class Plan:
    """One tote of a station: which events, in which order, at what size."""

    seed: int
    number: int
    events: tuple[Event, ...]
    products: tuple[Product, ...]
    views: tuple[shots.ViewName, ...]
    tote_hw: tuple[int, int]
    view_hw: tuple[int, int]
    frames: int


@dataclass(frozen=True, slots=True)
class Instance:
    """What a tote picture shows of one item. `box`: its visible pixels, xyxy, pixel edges."""

    instance: int
    product_id: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class ViewFrame:
    """One post-pick picture.

    `rgb` uint8 [H, W, 3]; `t_ns`: since the start of the hold; `label`: true at that moment.
    """

    rgb: U8
    t_ns: int
    label: str


@dataclass(frozen=True, slots=True, eq=False)
class StationPick:
    """One pick, as it went.

    `tote_rgb` uint8 [H, W, 3], before the pick; `target`: index into `instances`; `views`: name
    -> pictures in the order of time; `truth`: of the event, from simulator state.
    """

    tote_rgb: U8
    instances: tuple[Instance, ...]
    target: int
    product_id: str
    also_picked: tuple[str, ...]
    event: str
    label: str
    views: dict[str, tuple[ViewFrame, ...]]
    truth: dict[str, Any]


def play(plan: Plan) -> tuple[StationPick, ...]:
    """Fill a tote, take items out as the events say, and photograph everything.

    Raises:
        ConfigError: if the tote can't be filled with these products, or no seed makes an event
            come true.
    """
    rng = np.random.default_rng([plan.seed, plan.number, 1])
    count = len(plan.events) + plan.events.count("multi_pick") + FILLING
    order = rng.permutation(len(plan.products))
    chosen = [plan.products[int(k)] for k in order[:count]]
    tote = TOTES[_TOTES[plan.number % len(_TOTES)]]
    scene = fill(chosen, tote, int(rng.integers(2**31))).scene
    runs: list[PickRun] = []
    for number, event in enumerate(plan.events):
        run = _run(scene, event, [plan.seed, plan.number, number])
        runs.append(run)
        scene = run.after
    shot = shots.tote_shot(np.random.default_rng([plan.seed, plan.number, 2]), tote, plan.tote_hw)
    before = _photograph_totes([run.before for run in runs], shot)
    return tuple(
        _photograph_hold(plan, number, run, *picture)
        for number, (run, picture) in enumerate(zip(runs, before, strict=True))
    )


def _run(scene: Scene, event: Event, seed: list[int]) -> PickRun:
    """Carry a pick out; with another seed, until what happens is what the script says."""
    wanted = {"open": "package_defect", "deconstruction": "package_defect"}.get(event, event)
    for attempt in range(_TRIES):
        draw = int(np.random.default_rng([*seed, attempt]).integers(2**31))
        run = carry_out(scene, draw, event)
        if run.label == wanted:
            return run
    raise ConfigError(
        f"{_TRIES} tries at a pick with {event} among {len(scene.items)} items went otherwise",
        fix="take another seed, or fewer picks",
    )


def _photograph_totes(scenes: list[Scene], shot: Shot) -> Iterator[tuple[U8, U16]]:
    """Yield picture and labels of each state of one tote, seen by one fixed camera."""
    with MujocoRenderer() as renderer:
        renderer.load(scenes)
        for number, scene in enumerate(scenes):
            picture = renderer.shoot(scene, shot)
            yield develop(picture.rgb, shot.lens, shot.seed + number), picture.labels


def _photograph_hold(plan: Plan, number: int, run: PickRun, rgb: U8, labels: U16) -> StationPick:
    """Take the post-pick pictures, and say what is in all of them."""
    seen = [
        (item, box)
        for item in run.before.items
        if (box := _box(labels == item.instance)) is not None
    ]
    target = next((k for k, (i, _) in enumerate(seen) if i.instance == run.target), None)
    if target is None:
        raise ConfigError(
            f"the target of pick {number + 1} can't be seen from the tote camera",
            fix="take another seed",
        )
    also = {i.instance: i.product.id for f in run.frames for i in f.scene.items}
    also.pop(run.target, None)
    rng = np.random.default_rng([plan.seed, plan.number, number, 3])
    last = len(run.frames) - 1
    moments = np.unique(np.linspace(last // 2, last, plan.frames).round().astype(int))
    views: dict[str, tuple[ViewFrame, ...]] = {}
    with MujocoRenderer() as renderer:
        renderer.load([run.frames[int(m)].scene for m in moments])
        for view in plan.views:
            end = run.frames[last].scene.gripper
            assert end is not None, "something holds it"
            shot = shots.view_shot(view, rng, end.pose, plan.view_hw)
            views[view] = tuple(_view_frame(renderer, run, int(m), shot) for m in moments)
    return StationPick(
        rgb,
        tuple(Instance(i.instance, i.product.id, box) for i, box in seen),
        target,
        seen[target][0].product.id,
        tuple(also[k] for k in sorted(also)),
        run.event,
        run.label,
        views,
        run.truth,
    )


def _view_frame(renderer: MujocoRenderer, run: PickRun, moment: int, shot: Shot) -> ViewFrame:
    frame = run.frames[moment]
    picture = renderer.shoot(frame.scene, shot)
    rgb = develop(picture.rgb, shot.lens, shot.seed + moment)
    return ViewFrame(rgb, frame.t_ns, frame.label)


def _box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float] | None:
    """Return the box of a mask's pixels, or None if there are too few to speak of."""
    if np.count_nonzero(mask) < VISIBLE_PX:
        return None
    ys, xs = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)
