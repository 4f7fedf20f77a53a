"""A whole pick: what is taken, what the tote is like before and after, and what was held.

Labels come from the simulator's state, frame by frame, not from what was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from robollm.core.errors import ConfigError
from robollm.sim.events.grasp import Grasp, choose_target
from robollm.sim.events.hold import OPEN_MIN_M, TOUCHING_M, Held, HeldFrame, hold
from robollm.sim.geometry import F64, matrix
from robollm.sim.physics.engine import BodyOf, UnstableError, World
from robollm.sim.products import damage
from robollm.sim.products.multipack import units
from robollm.sim.world import Form, Item, Pose, Product, Scene

Event = Literal["nominal", "multi_pick", "open", "deconstruction"]
EVENTS: tuple[Event, ...] = get_args(Event)
Label = Literal["nominal", "multi_pick", "package_defect"]
Detail = Literal["open", "deconstruction"]

NEAR_M = 0.012  # a neighbour this close may come along
TRIES = 8
SHUT = 0.8  # chance that a sound box, carton or book is drawn as a broken one that is shut


@dataclass(frozen=True, slots=True)
class PickRun:
    """One pick. `labels` and `details` have one entry per frame of `held`.

    `before` and `after`: the tote; in `before` what is taken is still whole. `truth`: plain JSON
    values: event, severity, manner, and per frame distance_m, angles_rad, gap_m and outside.
    """

    target: int
    before: Scene
    after: Scene
    held: Held
    labels: tuple[Label, ...]
    details: tuple[Detail | None, ...]
    taken: tuple[int, ...]
    truth: dict[str, Any]

    @property
    def detail(self) -> Detail | None:
        """The worst that is seen in any frame."""
        worst: tuple[Detail, ...] = ("deconstruction", "open")
        return next((d for d in worst if d in self.details), None)


def label_of(frame: HeldFrame) -> tuple[Label, Detail | None]:
    """Return a frame's label and the kind of package defect, from the simulator's state."""
    if frame.distance_m is not None and frame.distance_m <= TOUCHING_M:
        return "multi_pick", None
    if frame.outside > 0:
        return "package_defect", "deconstruction"
    if frame.gap_m >= OPEN_MIN_M:
        return "package_defect", "open"
    return "nominal", None


def draw_severity(rng: np.random.Generator) -> float:
    """Draw a severity: half of all cases are subtle (below 0.3), some are glaring."""
    return float(rng.beta(0.75, 1.35))


def carry_out(
    scene: Scene,
    seed: int,
    event: Event,
    *,
    extra: Product | None = None,
    frames: int = 12,
    fps: float = 6.0,
    severity: float | None = None,
    target: Grasp | None = None,
    resettle: bool = False,
    body_of: BodyOf | None = None,
) -> PickRun:
    """Pick from a tote.

    Args:
        scene: a settled tote.
        seed: of everything that is drawn.
        event: what shall happen. The labels say what did.
        extra: for a multi-pick: comes along when nothing lies within 12 mm of the target.
        frames: of the hold, 10 to 15.
        fps: of the hold, 1/s.
        severity: of a package defect, 0 to 1; None: drawn, often subtle.
        target: what to take and where; None: chosen as a robot would.
        resettle: let the rest of the tote fall into place (some 0.2 s).
        body_of: what makes an item's body; None: robollm.sim.bodies.body_of.

    Raises:
        ConfigError: nothing can be grasped, a multi-pick has no second product, or the event
            can't be made to happen with this tote and seed.
    """
    if event not in EVENTS:
        raise ConfigError(f"event is {event!r}", fix=f"one of {', '.join(EVENTS)}")
    from robollm.sim import bodies  # late: it imports what imports this

    make = body_of or bodies.body_of
    rng = np.random.default_rng([seed, 21])
    if severity is None:
        severity = draw_severity(rng)
    rest = scene
    for attempt in range(TRIES):
        grasp = target or choose_target(rest, make, None, rng)
        item = next(i for i in scene.items if i.instance == grasp.instance)
        run = _attempt(scene, item, grasp, seed * TRIES + attempt, event, severity, extra,
                       frames, fps, rng, make)  # fmt: skip
        if run is not None:
            if resettle and len(run.after.items) and scene.tote is not None:
                world = World(run.after.items, scene.tote, body_of=make)
                world.settle(0.8)
                run = replace(run, after=replace(run.after, items=world.items()))
            return run
        # Another target, as long as there is one.
        fewer = tuple(i for i in rest.items if i.instance != grasp.instance)
        rest = replace(rest, items=fewer) if attempt % 2 and len(fewer) else rest
    raise ConfigError(
        f"no {event} came about in {TRIES} tries", fix="another seed, or a fuller tote"
    )


def _attempt(
    scene: Scene,
    item: Item,
    grasp: Grasp,
    seed: int,
    event: Event,
    severity: float,
    extra: Product | None,
    frames: int,
    fps: float,
    rng: np.random.Generator,
    make: BodyOf,
) -> PickRun | None:
    """Try once; None when the event didn't come about."""
    taken = [item.instance]
    second: Item | None = None
    manner: str | None = None
    target = item
    bad = 0.45 + 0.55 * severity if event == "deconstruction" else severity
    form = _how(item, grasp, bad, rng)
    if event in ("nominal", "multi_pick") and form is not None and rng.random() < SHUT:
        target = _shut(item, form, make)
    if event == "multi_pick":
        second, manner = _companion(scene, item, extra, rng, make)
        if any(i.instance == second.instance for i in scene.items):
            taken.append(second.instance)
    elif event != "nominal":
        if form is None:
            return None
        root = item.poses[0]
        body = make(item.product, form)
        same = len(body.segments) == len(item.poses) and not _hinged(body.segments)
        poses = item.poses if same else damage.rest_poses(body, root)
        target = replace(item, form=form, poses=poses)
        severity = bad
    try:
        held = hold(
            target,
            grasp,
            seed,
            second=second,
            manner=manner,
            falling=event == "deconstruction",
            mouth_seed=None if form is None else form.seed,
            frames=frames,
            fps=fps,
            body_of=make,
        )
    except UnstableError:
        return None
    found = [label_of(f) for f in held.frames]
    want: dict[Event, bool] = {
        "nominal": all(label == "nominal" for label, _ in found),
        "multi_pick": all(label == "multi_pick" for label, _ in found),
        "open": all(detail == "open" for _, detail in found),
        "deconstruction": found[-1][1] == "deconstruction",
    }
    if not want[event]:
        return None
    truth: dict[str, Any] = {
        "event": event,
        "severity": severity if event in ("open", "deconstruction") else None,
        "manner": held.manner,
        "second": None if second is None else second.product.id,
        "distance_m": [f.distance_m for f in held.frames],
        "angles_rad": [list(f.angles_rad) for f in held.frames],
        "gap_m": [f.gap_m for f in held.frames],
        "outside": [f.outside for f in held.frames],
    }
    after = replace(scene, items=tuple(i for i in scene.items if i.instance not in taken))
    return PickRun(
        item.instance,
        scene,
        after,
        held,
        tuple(label for label, _ in found),
        tuple(detail for _, detail in found),
        tuple(taken),
        truth,
    )


def _shut(item: Item, form: Form, make: BodyOf) -> Item:
    """Return an item cut as a broken one is, but shut; bags and blisters as they are."""
    shut = Form("closed", form.seed, form.severity)
    count = len(make(item.product, shut).segments)
    if count != 1 or item.product.kind not in ("box", "carton", "book"):
        return item
    return replace(item, form=shut, poses=item.poses[:1])


def _hinged(segments: tuple[Any, ...]) -> bool:
    return any(s.axis is not None for s in segments)


def _companion(
    scene: Scene, item: Item, extra: Product | None, rng: np.random.Generator, make: BodyOf
) -> tuple[Item, str | None]:
    """Return what comes along, and how (None: to be drawn)."""
    centre = np.asarray(item.poses[0].position)
    others = [i for i in scene.items if i.instance != item.instance]

    def room(other: Item) -> float:
        reach = np.linalg.norm(other.product.size_m) + np.linalg.norm(item.product.size_m)
        return float(np.linalg.norm(other.poses[0].position - centre) - reach / 2)

    others = sorted((o for o in others if room(o) < NEAR_M), key=lambda o: (room(o), o.instance))
    if others:
        world = World([item, *others], body_of=make)
        gaps = [world.distance_m(0, k + 1) for k in range(len(others))]
        near = [k for k, gap in enumerate(gaps) if gap < NEAR_M]
        if near:
            k = near[int(rng.integers(len(near)))]
            # What lies on top of the target would have been taken first; from below or beside
            # a thing may keep its place. Deep overlaps of soft bags can't.
            keeps = -0.004 < gaps[k] <= 2 * TOUCHING_M and rng.random() < 0.5
            return others[k], "as_found" if keeps else None
    if extra is not None:
        number = max(i.instance for i in scene.items) + 1
        body = make(extra, Form())
        return Item(number, extra, (Pose(),) * len(body.segments)), None
    raise ConfigError(
        "nothing lies near the target, so no second product can come along",
        fix="pass extra=, or a fuller tote",
    )


def _how(item: Item, grasp: Grasp, severity: float, rng: np.random.Generator) -> Form | None:
    """Return an open form whose opening is not where the cups are, or None.

    None for multipacks as well: film that has torn is none of the defects that are told here.
    """
    if units(item.product) > 1:
        return None
    up: F64 = matrix(item.poses[0].quaternion).T @ grasp.normal
    wear = item.form.seed % damage.VARIANT
    for how in rng.permutation(12):
        seed = wear + damage.VARIANT * (int(how) + 1)
        if float(np.dot(damage.mouth(item.product, seed), up)) < 0.5:
            return Form("open", seed, severity)
    return None
