"""The pick protocol over DDS: one answer per pick, whatever comes, in whatever order."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from cell import pick, stamp
from std_msgs.msg import String

number = itertools.count()
CLASSES = {"nominal", "multi_pick", "package_defect", "uninspected"}


def announce(cell, tote_ns, pick_id=None, **kw):
    pick_id = pick_id or f"p{next(number)}"
    cell.pick_pub.publish(pick(pick_id, tote_ns, **kw))
    return pick_id


def opened(cell, n):
    """Both pick nodes have taken note of n picks in all."""
    nodes = ("defect_node", "identification_node")
    return cell.until(lambda: all(cell.count(node, "picks") >= n for node in nodes))


def picks_so_far(cell):
    return max(cell.count(n, "picks") for n in ("defect_node", "identification_node"))


def check_verdict(msg, pick_id, tote_ns, frame_id="tote_cam"):
    assert stamp(msg) == tote_ns
    assert msg.header.frame_id == frame_id
    (d,) = msg.detections
    assert d.id == pick_id
    assert stamp(d) == tote_ns
    ranked = [(r.hypothesis.class_id, r.hypothesis.score) for r in d.results]
    assert {c for c, _ in ranked} <= CLASSES
    assert [s for _, s in ranked] == sorted((s for _, s in ranked), reverse=True)
    assert ranked[0][1] >= 0.5
    return ranked


def test_a_pick_with_both_views_gets_one_verdict_with_its_own_header_box_and_id(cell):
    t = cell.tote()
    cell.detections(t)
    p = announce(cell, t, box=(30, 40, 130, 150))
    stamps = {f"{v}_cam": cell.view(v) for v in ("on_arm_low", "tote_wall")}
    msg = cell.verdict(p)
    ranked = check_verdict(msg, p, t)
    assert "uninspected" not in dict(ranked)
    box = msg.detections[0].bbox
    assert (box.center.position.x, box.size_y) == (80, 110)
    evidence = cell.evidence(p)
    assert stamp(evidence) == t
    assert {d.id for d in evidence.detections} == {f"{p}/on_arm_low", f"{p}/tote_wall"}
    assert {d.header.frame_id: stamp(d) for d in evidence.detections} == stamps
    for d in evidence.detections:
        assert sum(r.hypothesis.score for r in d.results) == pytest.approx(1)
        assert (d.bbox.size_x, d.bbox.size_y) == (320, 240)  # the whole image was inspected


def test_views_that_come_before_the_pick_message_and_in_reverse_are_used(cell):
    t = cell.tote()
    a, b = cell.now(), cell.now()
    before = picks_so_far(cell)
    cell.view("tote_wall", b)
    cell.view("on_arm_low", a)
    cell.settle()
    p = announce(cell, t)
    assert opened(cell, before + 1)
    check_verdict(cell.verdict(p), p, t)
    evidence = cell.evidence(p)
    assert {stamp(d) for d in evidence.detections} == {a, b}


def test_a_view_that_never_arrives_ends_in_a_verdict_that_says_so(cell):
    t = cell.tote()
    p = announce(cell, t)
    cell.view("on_arm_low")
    ranked = dict(check_verdict(cell.verdict(p), p, t))
    assert ranked["uninspected"] == pytest.approx(0.5 * 1 / 2)  # half the share of missing views
    evidence = cell.evidence(p)
    assert len(evidence.detections) == 1


def test_without_any_view_nothing_is_called_nominal(cell):
    t = cell.tote()
    p = announce(cell, t)
    ranked = check_verdict(cell.verdict(p), p, t)
    assert ranked == [("uninspected", 1.0)]


@pytest.mark.parametrize("level", [0, 4], ids=["black", "nearly black"])
def test_a_view_too_dark_to_judge_does_not_count(cell, level):
    t = cell.tote()
    p = announce(cell, t)
    for v in ("on_arm_low", "tote_wall"):
        cell.view(v, rgb=np.full((240, 320, 3), level, np.uint8))
    assert check_verdict(cell.verdict(p), p, t) == [("uninspected", 1.0)]


def test_a_saturated_view_does_not_count(cell):
    t = cell.tote()
    p = announce(cell, t)
    for v in ("on_arm_low", "tote_wall"):
        cell.view(v, rgb=np.full((240, 320, 3), 255, np.uint8))
    assert check_verdict(cell.verdict(p), p, t) == [("uninspected", 1.0)]


def test_a_view_from_a_clock_that_is_off_by_a_minute_is_stale_and_counted(cell):
    t = cell.tote()
    before = cell.count("defect_node", "stale_view")
    p = announce(cell, t)
    for v in ("on_arm_low", "tote_wall"):
        cell.view(v, ns=t + 60_000_000_000)
    assert check_verdict(cell.verdict(p), p, t) == [("uninspected", 1.0)]
    assert cell.until(lambda: cell.count("defect_node", "stale_view") == before + 2)


def test_a_camera_that_is_ahead_shows_no_picture_of_this_pick_as_the_next_one(cell):
    """Its stamp is newer than the next tote image, which alone would make it the next pick's."""
    t = cell.tote()
    before, picks = cell.count("defect_node", "future_view"), picks_so_far(cell)
    a = announce(cell, t)
    ahead = cell.view("on_arm_low", ns=cell.now() + 5_000_000_000)  # its second view is lost
    assert cell.until(lambda: cell.count("defect_node", "future_view") == before + 1)
    second = cell.tote()
    b = announce(cell, second)
    assert opened(cell, picks + 2)
    views = {cell.view("on_arm_low"), cell.view("tote_wall")}
    check_verdict(cell.verdict(b), b, second)
    assert {stamp(d) for d in cell.evidence(b).detections} == views
    assert check_verdict(cell.verdict(a), a, t) == [("uninspected", 1.0)]
    assert ahead not in views
    assert "synchronise the camera's clock" in cell.log


def test_a_view_that_moves_to_a_later_pick_is_counted_and_said(cell):
    t, before = cell.tote(), picks_so_far(cell)
    a = announce(cell, t)
    assert opened(cell, before + 1)
    second = cell.tote()
    moved = cell.count("defect_node", "views_moved")
    low = cell.view("on_arm_low")  # before its pick's message
    stale = cell.count("defect_node", "stale_view")
    cell.view("on_arm_low", ns=cell.now() - 60_000_000_000)  # once this is counted, `low` was filed
    assert cell.until(lambda: cell.count("defect_node", "stale_view") == stale + 1)
    b = announce(cell, second)
    cell.view("tote_wall")
    check_verdict(cell.verdict(b), b, second)
    assert low in {stamp(d) for d in cell.evidence(b).detections}
    assert cell.until(lambda: cell.count("defect_node", "views_moved") == moved + 1)
    assert "set view_delay_s" in cell.log
    assert check_verdict(cell.verdict(a), a, t) == [("uninspected", 1.0)]


def test_views_captured_before_the_tote_image_belong_to_no_pick(cell):
    old = cell.now()
    t = cell.tote()
    p = announce(cell, t)
    for v in ("on_arm_low", "tote_wall"):
        cell.view(v, ns=old)
    assert check_verdict(cell.verdict(p), p, t) == [("uninspected", 1.0)]


def test_picks_that_overlap_in_time_keep_their_own_views(cell):
    first = cell.tote()
    a = announce(cell, first)
    views = {a: [cell.view("on_arm_low")]}  # its second view is late
    second = cell.tote()
    before = picks_so_far(cell)
    b = announce(cell, second)
    assert opened(cell, before + 1)
    views[b] = [cell.view("on_arm_low"), cell.view("tote_wall")]
    for p, t in ((a, first), (b, second)):
        check_verdict(cell.verdict(p), p, t)
        evidence = cell.evidence(p)
        assert {stamp(d) for d in evidence.detections} == set(views[p])


def test_a_pick_announced_twice_is_answered_once_and_counted(cell):
    t = cell.tote()
    before = cell.count("defect_node", "duplicate_pick")
    p = announce(cell, t)
    announce(cell, t, p)
    cell.view("on_arm_low")
    cell.view("tote_wall")
    cell.verdict(p)
    announce(cell, t, p)
    assert cell.until(lambda: cell.count("defect_node", "duplicate_pick") == before + 2)
    cell.settle()
    assert len(cell.answers("defects", p)) == 1
    assert len(cell.answers("pick_identifications", p)) == 1


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda m: setattr(m, "id", ""), "bad_pick"),
        (lambda m: setattr(m.bbox, "size_x", float("nan")), "bad_box"),
        (lambda m: setattr(m.bbox, "size_y", 0.0), "bad_box"),
        (lambda m: setattr(m.bbox.center.position, "x", float("inf")), "bad_box"),
        (lambda m: setattr(m.header.stamp, "sec", 0), "bad_stamp"),
        (lambda m: setattr(m.header.stamp, "sec", -5), "bad_stamp"),
        (lambda m: setattr(m.header.stamp, "nanosec", 2_000_000_000), "bad_stamp"),
    ],
)
def test_an_unusable_pick_is_refused_and_counted_and_the_next_one_is_served(cell, change, kind):
    t = cell.tote()
    before = {n: cell.count(n, kind) for n in ("defect_node", "identification_node")}
    bad = pick(f"bad{next(number)}", t)
    change(bad)
    if kind == "bad_stamp" and bad.header.stamp.sec == 0:
        bad.header.stamp.nanosec = 0
    cell.pick_pub.publish(bad)
    assert cell.until(lambda: all(cell.count(n, kind) == before[n] + 1 for n in before)), cell.log
    assert not cell.answers("defects", bad.id)
    assert not cell.answers("pick_identifications", bad.id)
    p = announce(cell, t)
    cell.view("on_arm_low")
    cell.view("tote_wall")
    cell.verdict(p)


def product_of(cell, p):
    assert cell.until(lambda: cell.answers("pick_identifications", p)), cell.log
    (msg,) = cell.answers("pick_identifications", p)
    return [r.hypothesis.class_id for r in msg.detections[0].results]


def in_container(cell, container):
    cell.container_pub.publish(String(data=container))
    assert cell.until(
        lambda: (
            cell.values("identification_node").get("container") == (container or "none announced")
        )
    ), cell.log


def whole_pick(cell):
    t = cell.tote()
    cell.detections(t)
    p = announce(cell, t)
    cell.view("on_arm_low")
    cell.view("tote_wall")
    return p


def test_a_container_change_mid_stream_changes_the_products_that_may_be_answered(cell, demo):
    manifest = json.loads(demo.manifest.read_text())["containers"]
    assert len(manifest) == 2
    for container, products in manifest.items():
        in_container(cell, container)
        p = whole_pick(cell)
        named = set(product_of(cell, p)) - {"unknown", "ambiguous"}
        assert named
        assert named <= set(products)


def test_a_pick_belongs_to_the_container_that_was_there_when_it_was_announced(cell, demo):
    containers = json.loads(demo.manifest.read_text())["containers"]
    (first, products), (second, others) = containers.items()
    in_container(cell, first)
    t = cell.tote()
    before = picks_so_far(cell)
    p = announce(cell, t)
    assert opened(cell, before + 1)
    in_container(cell, second)
    cell.view("on_arm_low")
    cell.view("tote_wall")
    named = set(product_of(cell, p)) - {"unknown", "ambiguous"}
    assert named <= set(products)
    assert not named <= set(others), "else the answer fits both containers and shows nothing"


@pytest.mark.parametrize("container", ["no-such-tote", ""])
def test_an_unknown_or_empty_container_makes_every_product_unknown(cell, container):
    in_container(cell, container)
    p = whole_pick(cell)
    assert product_of(cell, p) == ["unknown"]
    cell.verdict(p)
    if container:
        assert cell.until(lambda: cell.count("identification_node", "unknown_container") >= 1)
        assert f"container {container!r} is not in the manifest" in cell.log
        assert "is not in the manifest" in cell.diagnostics["identification_node"].message


def test_a_region_of_interest_is_what_gets_inspected(make_cell):
    cell = make_cell(params={"view_rois": ["on_arm_low=40,20,100,90"]})
    t = cell.tote()
    p = announce(cell, t)
    cell.view("on_arm_low")
    cell.view("tote_wall")
    cell.evidence(p)
    boxes = {
        d.id.rpartition("/")[2]: (d.bbox.center.position.x, d.bbox.center.position.y, d.bbox.size_x)
        for m in cell.got["defects/views"]
        for d in m.detections
    }
    assert boxes == {"on_arm_low": (90, 65, 100), "tote_wall": (160, 120, 320)}


def test_a_region_that_leaves_the_image_is_not_judged_by_what_is_left_of_it(make_cell):
    cell = make_cell(params={"view_rois": ["on_arm_low=250,200,90,60"]})
    t = cell.tote()
    p = announce(cell, t)
    cell.view("on_arm_low")
    cell.view("tote_wall")
    assert ("uninspected", 0.25) in check_verdict(cell.verdict(p), p, t)
    assert cell.until(lambda: cell.count("defect_node", "bad_roi") == 1)
    assert "90x60 px at (250, 200), leaves the image of 320x240" in cell.log
