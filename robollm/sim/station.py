"""A simulated picking station: totes that are emptied pick by pick, ready to be recorded.

First physics plays a tote's whole story, then renderers photograph it: what is in a picture, what
is true about it, and when it was taken come from the same simulated states.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.sim.events.picks import Event, PickRun, carry_out
from robollm.sim.physics.drop import fill
from robollm.sim.physics.engine import UnstableError
from robollm.sim.physics.totes import TOTES
from robollm.sim.render import shots
from robollm.sim.render.lens import develop
from robollm.sim.render.mujoco_renderer import MujocoRenderer
from robollm.sim.world import Product, Scene, Shot, Tote

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]

VISIBLE = 3e-4  # share of a picture: an instance with fewer visible pixels is not in its truth
_FRAMES = 12  # moments that are simulated of a hold
_TRIES = 5  # totes that are filled until one can be emptied as the events say
FILLING = 5  # products that stay in a tote, besides the ones that are picked
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
    for attempt in range(_TRIES):
        try:
            tote, runs = _story(plan, attempt)
            break
        except (ConfigError, UnstableError):
            if attempt + 1 == _TRIES:
                raise
    shot = shots.tote_shot(np.random.default_rng([plan.seed, plan.number, 2]), tote, plan.tote_hw)
    with MujocoRenderer() as renderer:
        before = _photograph_totes(renderer, [run.before for run in runs], shot)
        return tuple(
            _photograph_hold(renderer, plan, number, run, *picture)
            for number, (run, picture) in enumerate(zip(runs, before, strict=True))
        )


def _story(plan: Plan, attempt: int) -> tuple[Tote, list[PickRun]]:
    """Simulate one tote's picks."""
    rng = np.random.default_rng([plan.seed, plan.number, 1, attempt])
    count = len(plan.events) + plan.events.count("multi_pick") + FILLING
    order = rng.permutation(len(plan.products))
    chosen = [plan.products[int(k)] for k in order[:count]]
    tote = TOTES[_TOTES[plan.number % len(_TOTES)]]
    scene = fill(chosen, tote, int(rng.integers(2**31))).scene
    runs: list[PickRun] = []
    for event in plan.events:
        extra = plan.products[int(rng.integers(len(plan.products)))]
        run = carry_out(
            scene,
            int(rng.integers(2**31)),
            event,
            extra=extra,
            resettle=True,
            frames=max(_FRAMES, plan.frames),
        )
        runs.append(run)
        scene = run.after
    return tote, runs


def _photograph_totes(
    renderer: MujocoRenderer, scenes: list[Scene], shot: Shot
) -> list[tuple[U8, U16]]:
    """Return picture and labels of each state of one tote, seen by one fixed camera."""
    renderer.load(scenes)
    pictures = []
    for number, scene in enumerate(scenes):
        picture = renderer.shoot(scene, shot)
        pictures.append((develop(picture.rgb, shot.lens, shot.seed + number), picture.labels))
    return pictures


def _photograph_hold(
    renderer: MujocoRenderer, plan: Plan, number: int, run: PickRun, rgb: U8, labels: U16
) -> StationPick:
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
    # One cell, so one surrounding.
    scenes = [replace(f.scene, backdrop_seed=plan.seed % 1000) for f in run.held.frames]
    end, second = scenes[-1].gripper, run.truth["second"]
    assert end is not None, "something holds it"
    rng = np.random.default_rng([plan.seed, plan.number, number, 3])
    last = len(scenes) - 1
    moments = [int(m) for m in np.unique(np.linspace(last, 0, plan.frames).round())]
    views: dict[str, tuple[ViewFrame, ...]] = {}
    renderer.load([scenes[m] for m in moments])
    for view in plan.views:
        shot = shots.view_shot(view, rng, end.pose, plan.view_hw)
        shown = []
        for m in moments:
            picture = renderer.shoot(scenes[m], shot)
            developed = develop(picture.rgb, shot.lens, shot.seed + m)
            shown.append(ViewFrame(developed, run.held.frames[m].t_ns, run.labels[m]))
        views[view] = tuple(shown)
    return StationPick(
        rgb,
        tuple(Instance(i.instance, i.product.id, box) for i, box in seen),
        target,
        seen[target][0].product.id,
        () if second is None else (second,),
        run.truth["event"],
        next((x for x in run.labels if x != "nominal"), "nominal"),
        views,
        run.truth,
    )


def _box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float] | None:
    """Return the box of a mask's pixels, or None if there are too few to speak of."""
    if np.count_nonzero(mask) < max(1.0, VISIBLE * mask.size):
        return None
    ys, xs = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)
