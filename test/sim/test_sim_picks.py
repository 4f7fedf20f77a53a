"""A pick's labels are what the simulator's state says."""

from __future__ import annotations

import json
from functools import lru_cache

import pytest

from robollm.core.errors import ConfigError
from robollm.sim.bodies import body_of
from robollm.sim.events.grasp import choose_target
from robollm.sim.events.hold import OPEN_MIN_M, TOUCHING_M, HeldFrame, is_outside
from robollm.sim.events.picks import EVENTS, Event, PickRun, carry_out, draw_severity, label_of
from robollm.sim.physics.engine import World
from robollm.sim.products import damage
from robollm.sim.products.catalogue import make_catalogue
from robollm.sim.world import Item, Pose, Scene


@lru_cache(maxsize=1)
def _tote() -> Scene:
    """Boxes and cartons side by side, as if they had been dropped."""
    products = [p for p in make_catalogue(3, 120, "train") if p.kind in ("box", "carton")][:4]
    items, x = [], -0.3
    for k, p in enumerate(products):
        x += p.size_m[0] / 2
        items.append(Item(k + 1, p, (Pose((x, 0.0, p.size_m[2] / 2)),)))
        x += p.size_m[0] / 2 + 0.001
    return Scene(tuple(items))


@lru_cache(maxsize=8)
def _run(event: Event) -> PickRun:
    return carry_out(_tote(), 4, event, severity=None if event == "nominal" else 0.6, frames=11)


@pytest.mark.parametrize("event", EVENTS)
def test_same_seed_gives_the_same_pick(event: Event) -> None:
    first = _run(event)
    again = carry_out(_tote(), 4, event, severity=None if event == "nominal" else 0.6, frames=11)
    assert first == again


@pytest.mark.parametrize("event", EVENTS)
def test_a_pick_has_a_label_for_every_frame_and_plain_truth(event: Event) -> None:
    run = _run(event)
    assert len(run.labels) == len(run.details) == len(run.held.frames) == 11
    assert json.loads(json.dumps(run.truth)) == run.truth
    assert run.target in run.taken
    assert {i.instance for i in run.before.items} - {i.instance for i in run.after.items} == set(
        run.taken
    )


def test_a_nominal_pick_takes_one_whole_item() -> None:
    run = _run("nominal")
    assert set(run.labels) == {"nominal"}
    assert run.detail is None
    assert all(len(f.scene.items) == 1 for f in run.held.frames)
    assert all(f.scene.items[0].form.kind in ("whole", "closed") for f in run.held.frames)


def test_a_multi_pick_touches_in_every_frame_when_measured_anew() -> None:
    run = _run("multi_pick")
    assert set(run.labels) == {"multi_pick"}
    assert len(run.taken) == 2
    for frame in run.held.frames[::4]:
        world = World(frame.scene.items, body_of=body_of)
        assert -0.002 < world.distance_m(0, 1) <= TOUCHING_M
        assert world.distance_m(0, 1) == pytest.approx(frame.distance_m, abs=1e-5)


def test_an_open_package_gapes_in_every_frame_when_measured_anew() -> None:
    run = _run("open")
    assert run.detail == "open"
    for frame in run.held.frames:
        item = frame.scene.items[0]
        gap = damage.gap_m(item.product, item.form.seed, item.form.severity, item.poses)
        assert gap == frame.gap_m >= OPEN_MIN_M


def test_a_deconstruction_has_as_many_pieces_outside_as_its_truth_says() -> None:
    run = _run("deconstruction")
    assert run.details[-1] == run.detail == "deconstruction"
    for frame, counted, detail in zip(
        run.held.frames, run.truth["outside"], run.details, strict=True
    ):
        package, *pieces = frame.scene.items
        assert sum(is_outside(package, p) for p in pieces) == counted
        assert (detail == "deconstruction") == (counted > 0)


def test_labels_follow_the_state_and_not_the_intention() -> None:
    scene = Scene(())
    assert label_of(HeldFrame(0, scene, distance_m=0.02)) == ("nominal", None)
    assert label_of(HeldFrame(0, scene, distance_m=0.0005)) == ("multi_pick", None)
    assert label_of(HeldFrame(0, scene, gap_m=0.001)) == ("nominal", None)
    assert label_of(HeldFrame(0, scene, gap_m=0.004)) == ("package_defect", "open")
    assert label_of(HeldFrame(0, scene, outside=2)) == ("package_defect", "deconstruction")


def test_the_package_opens_away_from_the_cups() -> None:
    for seed in range(3):
        run = carry_out(_tote(), seed, "open", severity=0.5)
        form = run.held.frames[0].scene.items[0].form
        product = run.held.frames[0].scene.items[0].product
        assert damage.mouth(product, form.seed)[2] < 0.5  # the tote's items lie flat


def test_something_extra_comes_along_when_nothing_is_near() -> None:
    alone = Scene(_tote().items[:1])
    with pytest.raises(ConfigError, match="nothing lies near the target"):
        carry_out(alone, 1, "multi_pick")
    other = _tote().items[2].product
    run = carry_out(alone, 1, "multi_pick", extra=other)
    assert run.truth["second"] == other.id
    assert run.taken == (1,)
    assert set(run.labels) == {"multi_pick"}


def test_a_given_target_is_taken() -> None:
    grasp = choose_target(_tote(), body_of)
    assert carry_out(_tote(), 1, "nominal", target=grasp).target == grasp.instance


def test_many_defects_are_subtle_and_some_are_not() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    drawn = [draw_severity(rng) for _ in range(400)]
    assert 0.4 < sum(s < 0.3 for s in drawn) / 400 < 0.65
    assert sum(s > 0.8 for s in drawn) / 400 > 0.05


def test_impossible_requests_say_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="event is 'explosion'"):
        carry_out(_tote(), 1, "explosion")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="tote is empty"):
        carry_out(Scene(()), 1, "nominal")
