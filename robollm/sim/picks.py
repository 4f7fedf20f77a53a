"""Picks: what a robot takes out of a tote, what comes along, what breaks, and what is true then.

Labels come from the simulator's state at each moment, not from what was meant to happen: a
multi-pick is two products in contact while one is held; an open package gapes; content has left
its package.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from robollm.core.errors import ConfigError
from robollm.sim import damage
from robollm.sim.bodies import body_of
from robollm.sim.grasp import choose_target
from robollm.sim.hold import OPEN_MIN_M, TOUCHING_M, Held, HeldFrame, hold
from robollm.sim.physics import World
from robollm.sim.world import Form, Item, Pose, Product, Scene

Event = Literal["nominal", "multi_pick", "open", "deconstruction"]
EVENTS: tuple[Event, ...] = ("nominal", "multi_pick", "open", "deconstruction")
Label = Literal["nominal", "multi_pick", "package_defect"]

NEAR_M = 0.012  # a neighbour this close in the tote can come along as it lies
_AS_FOUND = 0.45  # chance that it does
_CALM_S = 0.8  # how long a tote is simulated after something was taken out
_HOWS = 64  # ways in which one copy can be torn


@dataclass(frozen=True, slots=True)
class PickFrame:
    """One moment of a hold: `t_ns` since the grasp, what there is, what is true."""

    t_ns: int
    scene: Scene
    label: Label
    truth: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PickRun:
    """One pick.

    `before`, `after`: the tote before and after it; `target`, `second`: instances (`second` None
    when nothing came along); `held`: the hold as simulated; `label`: the strongest of the
    frames'; `detail`: "open" or "deconstruction" of a package defect; `truth`: plain JSON values.
    """

    event: Event
    before: Scene
    after: Scene
    target: int
    second: int | None
    held: Held
    frames: tuple[PickFrame, ...]
    label: Label
    detail: Literal["open", "deconstruction"] | None
    truth: dict[str, Any]


def carry_out(
    scene: Scene,
    seed: int,
    event: Event,
    *,
    extra: Product | None = None,
    frames: int = 12,
) -> PickRun:
    """Take the best item out of a tote and hold it.

    Args:
        scene: a settled tote.
        seed: of all that varies: which of equally high items, severity, motion.
        event: what shall happen. What did happen is in the result's label.
        extra: the second product of a multi-pick; None: the target's neighbour in the tote.
        frames: moments between grasp and place, 10 to 15.

    Raises:
        ConfigError: an unknown event, nothing to grasp, no second product, or `frames`.
    """
    if event not in EVENTS:
        raise ConfigError(f"event is {event!r}", fix=f"one of {', '.join(EVENTS)}")
    rng = np.random.default_rng([seed, 21])
    grasp = choose_target(scene, body_of, rng=rng)
    target = next(i for i in scene.items if i.instance == grasp.instance)
    severity: float | None = None
    second: Item | None = None
    manner: str | None = None
    if event == "multi_pick":
        second, manner = _second(scene, target, extra, rng)
    elif event != "nominal":
        severity = _severity(rng)
        target = _broken(target, severity, rng)
    held = hold(
        target,
        grasp,
        int(rng.integers(2**31)),
        second=second,
        manner=manner,
        falling=event == "deconstruction",
        frames=frames,
    )
    moments = tuple(_moment(frame) for frame in held.frames)
    labels = [m.label for m in moments]
    label = next((x for x in labels if x != "nominal"), "nominal")
    outside = max(f.outside for f in held.frames)
    took = {target.instance} | ({second.instance} if second and extra is None else set())
    truth = {
        "event": event,
        "severity": None if severity is None else round(severity, 4),
        "manner": held.manner,
        "second_product_id": second.product.id if second else None,
        "same_product": bool(second and second.product == target.product),
        "pieces_outside": outside,
        "widest_gap_m": round(max(f.gap_m for f in held.frames), 5),
        "frames": [m.truth for m in moments],
    }
    broken: Literal["open", "deconstruction"] = "deconstruction" if outside else "open"
    return PickRun(
        event,
        scene,
        _without(scene, took),
        target.instance,
        second.instance if second else None,
        held,
        moments,
        label,
        broken if label == "package_defect" else None,
        truth,
    )


def _severity(rng: np.random.Generator) -> float:
    """Draw how bad it is: as many hardly visible cases as obvious ones."""
    return float(rng.beta(0.8, 0.9))


def _broken(target: Item, severity: float, rng: np.random.Generator) -> Item:
    """Return the target with its package opened, in the place and wear of the whole one."""
    how = int(rng.integers(1, _HOWS))
    form = Form("open", target.form.seed % damage.VARIANT + damage.VARIANT * how, severity)
    body = body_of(target.product, form)
    middle = target.poses[len(target.poses) // 2]
    return replace(target, form=form, poses=damage.rest_poses(body, middle))


def _second(
    scene: Scene, target: Item, extra: Product | None, rng: np.random.Generator
) -> tuple[Item, str | None]:
    """Return what comes along and how: None leaves the manner to chance."""
    used = {i.instance for i in scene.items}
    if extra is not None:
        body = body_of(extra, Form())
        return Item(max(used) + 1, extra, (Pose(),) * len(body.segments)), None
    others = [i for i in scene.items if i.instance != target.instance]
    if not others:
        raise ConfigError(
            "a multi-pick wants a second item in the tote, there is none", fix="give `extra`"
        )
    world = World([target, *others])
    gaps = [world.distance_m(0, k + 1) for k in range(len(others))]
    nearest = int(np.argmin(gaps))
    other = others[nearest]
    # Only a light neighbour is lifted as it lies; a heavier one hangs on in another way.
    light = other.product.weight_kg <= 1.5 * target.product.weight_kg
    if gaps[nearest] <= NEAR_M and light and rng.random() < _AS_FOUND:
        return other, "as_found"
    return other, None


def _moment(frame: HeldFrame) -> PickFrame:
    """Say what is true of one moment, from the simulator's state."""
    label: Label = "nominal"
    if frame.distance_m is not None and frame.distance_m <= TOUCHING_M:
        label = "multi_pick"
    if frame.outside or frame.gap_m >= OPEN_MIN_M:
        label = "package_defect"
    truth = {
        "t_ns": frame.t_ns,
        "label": label,
        "distance_m": None if frame.distance_m is None else round(frame.distance_m, 6),
        "gap_m": round(frame.gap_m, 5),
        "angles_rad": [round(a, 4) for a in frame.angles_rad],
        "pieces_outside": frame.outside,
    }
    return PickFrame(frame.t_ns, frame.scene, label, truth)


def _without(scene: Scene, gone: set[int]) -> Scene:
    """Return the tote without what was taken, after what lay on it has come to rest."""
    rest = tuple(i for i in scene.items if i.instance not in gone)
    if not rest or scene.tote is None:
        return replace(scene, items=rest)
    world = World(rest, scene.tote)
    world.settle(_CALM_S)
    return replace(scene, items=world.items())
