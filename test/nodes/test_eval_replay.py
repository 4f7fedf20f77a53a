"""A bag replayed into nodes: real ones, and stand-ins that answer what the test wants."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from contextlib import ExitStack

import cv2
import numpy as np
import pytest
from cell import Cell, picture
from standin_nodes import StandIn

from robollm.data.bag import BagWriter
from robollm.eval.label_map import found_in
from robollm.eval.progress import SILENT
from robollm.eval.ros_filing import BagPlan, Filing
from robollm.eval.run_folder import RunFolder
from robollm.eval.truth import Bag, StationTruth
from robollm.nodes import replay_steps
from robollm.nodes.eval_recorder import main
from robollm.nodes.replay_feed import ReplayBag, cast, look_through
from robollm.runtime.enroll import enroll

T = 1_760_000_000_000_000_000
MS = 1_000_000
S = 1000 * MS
VIEWS = ("on_arm_low", "tote_wall")
PICTURE = picture(1, (96, 128))
COUNT = iter(range(1000))
CARD = {"source": "ros", "data": {}, "predictor": {}, "settings": {}}


@pytest.fixture
def replay(capsys):
    """Call `eval_replay` in this process; its lines, its exit code and what it said on stderr."""

    def call(bag, *words, namespace):
        capsys.readouterr()
        code = main([str(bag), *words, "--ros-args", "-r", f"__ns:={namespace}"])
        said = capsys.readouterr()
        return [json.loads(line) for line in said.out.splitlines()], code, said.err

    return call


def records(lines, stream="picks"):
    return {line["record"]["key"]: line["record"] for line in lines if line.get("stream") == stream}


@pytest.fixture
def standin():
    """Start stand-in nodes in a namespace of their own."""
    made = []

    def start(**kwargs):
        name = f"/standin{os.getpid()}_{next(COUNT)}"
        made.append(StandIn(name, **kwargs))
        return made[-1], name

    yield start
    for s in made:
        s.close()


@pytest.fixture(scope="module")
def write_bag(tmp_path_factory):
    """A bag of (time in ms, topic, stamp in ms) rows in a namespace."""

    def write(rows, namespace):
        path = tmp_path_factory.mktemp("replay") / "bag"
        with BagWriter(path) as out:
            for log, what, *more in rows:
                log_ns = T + log * MS
                if what == "container":
                    out.string(f"{namespace}/container", more[0], log_ns)
                elif what == "pick":
                    out.pick(
                        f"{namespace}/pick",
                        T + more[1] * MS,
                        "cam",
                        more[0],
                        (1, 2, 30, 40),
                        log_ns,
                    )
                else:
                    topic = "image" if what == "tote" else f"views/{what}/image"
                    out.image(
                        f"{namespace}/{topic}/compressed", T + more[0] * MS, "cam", PICTURE,
                        jpeg=True, log_ns=log_ns,
                    )  # fmt: skip
        return path

    return write


def story(picks, period=1000):
    """Rows of a bag with so many whole picks."""
    rows = []
    for k in range(picks):
        t = 100 + k * period
        rows += [
            (t, "container", f"tote-{k % 3}"),
            (t + 10, "tote", t),
            (t + 20, "pick", f"p{k}", t),
            (t + 200, "on_arm_low", t + 190),
            (t + 250, "tote_wall", t + 240),
        ]
    return rows


@pytest.fixture(scope="module")
def real(sketch_bundle, perceiver, tmp_path_factory):
    """The three nodes with a small gallery of drawn products, on simulated time."""
    station = tmp_path_factory.mktemp("drawn_station")
    shutil.copytree(sketch_bundle, station / "bundle")
    products = [f"P{k}" for k in range(6)]
    for k, name in enumerate(products):
        (station / "references" / name).mkdir(parents=True)
        cv2.imwrite(str(station / "references" / name / "1.png"), picture(k, (96, 96)))
    containers = {f"tote-{k}": products[2 * k : 2 * k + 2] for k in range(3)}
    card = {"format": "robollm-manifest", "format_version": 1, "containers": containers}
    card["products"] = {p: {"title": p} for p in products}
    (station / "manifest.json").write_text(json.dumps(card))
    enroll(perceiver, station / "references", station / "gallery")
    params = {"use_sim_time": True, "view_timeout_s": 1.0}
    cell = Cell(station, tmp_path_factory.mktemp("real"), params=params, publishers=False)
    yield cell
    cell.close()


def test_lock_step_records_what_real_nodes_publish(replay, real, write_bag, tmp_path):
    rows = story(5, period=700)
    rows = [r for r in rows if r[:2] != (1750, "tote_wall")]  # pick p2 misses a view
    bag, wanted = write_bag(rows, real.namespace), T + 800 * MS
    totes = tmp_path / "totes"
    totes.write_text(f"{wanted}\n")
    lines, code, err = replay(bag, "--totes", str(totes), namespace=real.namespace)
    assert code == 0, err
    found = records(lines)
    assert sorted(found) == [f"p{k}" for k in range(5)]
    for name, record in found.items():
        verdict = real.verdict(name).detections[0]
        (named,) = real.answers("pick_identifications", name)
        seen = [v for v in VIEWS if (name, v) != ("p2", "tote_wall")]
        assert record["error"] is None
        assert record["verdict"]["ranked"] == pairs(verdict)
        assert record["identification"]["ranked"] == pairs(named.detections[0])
        assert record["verdict"]["inspected"] == seen
        assert [e["view"] for e in record["evidence"] if e["probabilities"]] == seen
        assert {"identify_search", "inspect_heads", "answer"} <= set(record["ms"])
    assert "uninspected" in dict(found["p2"]["verdict"]["ranked"])
    assert lines[-1]["event"] == "end"
    assert lines[-1]["problems"] == {}
    assert "segmentation_node" not in lines[-1]["nodes"]
    # The instances are those of the label map and of the detections with that stamp.
    (tote,) = records(lines, "totes").values()
    msg = real.detections(wanted)
    assert real.until(lambda: [m for m in real.got["masks"] if m.header == msg.header])
    (mask,) = (m for m in real.got["masks"] if m.header == msg.header)
    labels = np.frombuffer(mask.data, np.uint16).reshape(mask.height, mask.width)
    assert tote["key"] == str(wanted)
    assert tote["found"] == found_in(labels, [(int(d.id), *pairs(d)[0]) for d in msg.detections])

    # Again, from the third pick on: bag time jumps back, and the answers stay.
    for heard in real.got.values():
        heard.clear()
    done = tmp_path / "done"
    done.write_text(f"{T + 100 * MS} p0\n{T + 800 * MS} p1\n{T + 2200 * MS} p3\n")
    lines, code, err = replay(bag, "--done", str(done), namespace=real.namespace)
    assert code == 0, err
    again = records(lines)
    assert sorted(again) == ["p2", "p3", "p4"]
    for name, record in again.items():
        assert {**record, "ms": {}} == {**found[name], "ms": {}}

    # And by the clock.
    for heard in real.got.values():
        heard.clear()
    lines, code, err = replay(bag, "--real-time", "2", namespace=real.namespace)
    assert code == 0, err
    assert sorted(records(lines)) == sorted(found)
    assert lines[-1]["lateness_ms"]["p50"] >= 0


def pairs(d):
    return [[r.hypothesis.class_id, r.hypothesis.score] for r in d.results]


def test_a_pick_without_an_answer_is_recorded_with_an_error_and_the_rest_goes_on(
    replay, standin, write_bag
):
    nodes, namespace = standin(deaf=("p1",))
    bag = write_bag(story(4), namespace)
    lines, code, err = replay(bag, "--limit", "1", namespace=namespace)
    assert code == 0, err
    found = records(lines)
    assert {k: r["error"] and r["error"]["kind"] for k, r in found.items()} == {
        "p0": None, "p1": "no_answer", "p2": None, "p3": None
    }  # fmt: skip
    assert found["p1"]["error"]["what"] == "nothing on defects, defects/views within 1.5 s"
    assert found["p1"]["identification"]["decision"] == "identified"
    assert found["p1"]["verdict"] is None
    assert lines[-1]["problems"] == {"no_answer_on_defects": 1, "no_answer_on_defects/views": 1}
    assert nodes.containers == {"p0": "tote-0", "p1": "tote-1", "p2": "tote-2", "p3": "tote-0"}


def test_what_nodes_that_can_not_follow_the_clock_drop_is_a_named_part_of_the_result(
    replay, standin, write_bag, tmp_path
):
    t = T // S
    _, namespace = standin(slow=(t + 1, t + 2))
    bag = write_bag(story(4), namespace)
    lines, code, err = replay(bag, "--real-time", "4", namespace=namespace)
    assert code == 0, err
    assert sorted(records(lines)) == ["p0", "p1", "p2", "p3"]
    end = lines[-1]
    assert end["nodes"]["segmentation_node"] == {"dropped_frames": 2}
    assert end["nodes"]["identification_node"]["pick_without_tote_image"] == 2
    with ExitStack() as stack:
        run = stack.enter_context(RunFolder.create_or_resume(tmp_path / "run", CARD))
        plan = BagPlan(Bag(bag, "bag", StationTruth(), ""), {}, frozenset(), ())
        Filing(run, SILENT, stack).take(plan, end)
    counts = json.loads((tmp_path / "run" / "run.json").read_bytes())["problems"]["counts"]
    assert counts["dropped_frames"] == counts["pick_without_tote_image"] == 2


def test_no_view_is_stale_by_the_replays_own_pace(replay, standin, write_bag):
    """An hour passes between two picks, and a view was recorded long after its stamp."""
    nodes, namespace = standin()
    rows = story(2, period=3_600_000)
    rows.append((3_600_000 + 9_000, "tote_wall", 3_600_000 + 2_000))  # 7 s old: more than half
    bag = write_bag(rows, namespace)
    lines, code, err = replay(bag, namespace=namespace)
    assert code == 0, err
    assert len(records(lines)) == 2
    logged = {T + r[2] * MS: T + r[0] * MS for r in rows if r[1] in VIEWS}
    assert len(nodes.views_seen) == 5
    for _, stamp, own_time in nodes.views_seen:
        assert abs(own_time - logged[stamp]) <= 5 * S
    assert nodes.views_seen[-1][2] == T + 3_609_000 * MS  # as old as it was recorded, exactly


def test_a_tote_image_that_the_node_refuses_stops_nothing_and_is_named(replay, standin, write_bag):
    rows = story(3, period=1000)
    _, namespace = standin(blind=((T + 1100 * MS) // S,))
    bag = write_bag(rows, namespace)
    lines, code, err = replay(bag, namespace=namespace)
    assert code == 0, err
    assert len(records(lines)) == 3
    assert lines[-1]["problems"] == {"tote_bad_compressed": 1}


def test_nodes_that_fall_silent_end_the_replay_with_an_error(
    replay, standin, write_bag, monkeypatch
):
    monkeypatch.setattr(replay_steps, "SILENT_S", 1.0)
    nodes, namespace = standin(deaf=("p2",))
    bag = write_bag(story(4), namespace)
    watch = threading.Thread(
        target=lambda: until(lambda: nodes.counts["defect_node"] >= 3) and nodes.dead.set()
    )
    watch.start()
    lines, code, err = replay(bag, namespace=namespace)
    watch.join()
    assert code == 1
    assert set(records(lines)) <= {"p0", "p1", "p3"}
    assert {"p0", "p1"} <= set(records(lines))
    assert lines[-1]["event"] == "error"
    assert "said nothing for 1 s" in lines[-1]["what"]
    assert "goes on where it ended" in err


def until(true, seconds=30):
    end = time.monotonic() + seconds
    while not (value := true()) and time.monotonic() < end:
        time.sleep(0.01)
    return value


@pytest.mark.parametrize(
    ("kwargs", "rows", "words"),
    [
        ({"sim_time": False}, story(1), "use_sim_time"),
        ({"broken": "configure failed: no bundle"}, story(1), "configure failed: no bundle"),
        ({}, [r for r in story(1) if r[1] != "pick"], "no pick is in the bag"),
    ],
    ids=["machine's time", "not configured", "no pick"],
)
def test_what_makes_a_replay_meaningless_is_said(replay, standin, write_bag, kwargs, rows, words):
    _, namespace = standin(**kwargs)
    lines, code, err = replay(write_bag(rows, namespace), namespace=namespace)
    assert code == 1
    assert lines[-1]["event"] == "error"
    assert words in f"{lines[-1]['what']} {lines[-1]['fix']}"
    assert "fix:" in err


def test_without_nodes_it_says_who_is_missing(replay, write_bag):
    bag = write_bag(story(1), "/nobody")
    lines, code, _ = replay(bag, "--ready", "0.5", namespace="/nobody")
    assert code == 1
    assert "segmentation_node, identification_node, defect_node in /nobody" in lines[-1]["what"]


def test_a_signal_ends_a_replay_in_order(replay, standin, write_bag):
    nodes, namespace = standin(deaf=("p1",))
    bag = write_bag(story(3), namespace)
    ctrl_c = threading.Thread(
        target=lambda: (
            until(lambda: nodes.counts["defect_node"] > 1) and os.kill(os.getpid(), signal.SIGINT)
        )
    )
    ctrl_c.start()
    lines, code, _ = replay(bag, namespace=namespace)
    ctrl_c.join()
    assert code == 130
    assert lines[-1] == {"event": "end", "stopped": True}


def test_a_replay_that_goes_on_is_fed_only_what_the_open_picks_stand_on(write_bag):
    rows = [*story(3), (2150, "tote", 2140)]
    rows[10] = (2100, "tote", 2090)  # in place of the third pick's container
    bag = write_bag(rows, "/x")
    with ReplayBag(bag) as opened:
        topics = {t.name: t.type for t in opened.topics}
        parts = cast(
            topics, lambda n: n if n[0] == "/" else f"/x/{n}",
            {v: f"views/{v}/image" for v in VIEWS},
        )  # fmt: skip
        done = {f"{T + 100 * MS} p0", f"{T + 1100 * MS} p1"}
        plan = look_through(opened, parts.roles, done, totes={T + 100 * MS})
        assert plan.start == 2
        steps = list(plan.steps(opened.messages(list(parts.roles))))
    fed = [(s.role, s.stamp_ns and (s.stamp_ns - T) // MS) for s in steps]
    assert fed == [
        ("image", 100),  # wanted for itself
        ("image", 2100),  # what the third pick was planned on
        ("container", 0),  # the second pick's: no later one was announced
        ("pick", 2100), ("image", 2140), ("on_arm_low", 2290), ("tote_wall", 2340),
    ]  # fmt: skip
