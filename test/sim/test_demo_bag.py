"""The demo station keeps its promises: timeline, events, truth, and the same bytes every time."""

import hashlib
import itertools
import json
from collections import Counter

import numpy as np
import pytest

from robollm.core.errors import BagError, ConfigError
from robollm.data import jpeg
from robollm.data.bag import BagReader
from robollm.sim.demo_bag import EVENTS, IMAGE_TOPIC, PICK_TOPIC, VIEW_TOPICS, write_demo
from robollm.sim.sketch_scene import TOTE_HW
from robollm.sim.sketch_views import VIEW_HW

pytest.importorskip("rosbags")

MS = 1_000_000


def ns(stamp):
    return stamp.sec * 10**9 + stamp.nanosec


@pytest.fixture(scope="module")
def messages(demo):
    with BagReader(demo.bag) as bag:
        return [(m, bag.decode(m.type, m.raw)) for m in bag.messages()]


@pytest.fixture(scope="module")
def truth(demo):
    return json.loads(demo.truth.read_text())["picks"]


@pytest.fixture(scope="module")
def manifest(demo):
    return json.loads(demo.manifest.read_text())


def on(messages, topic):
    return [(m, d) for m, d in messages if m.topic == topic]


def digest(root):
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_bag_is_small_enough_to_carry_around(demo):
    assert sum(p.stat().st_size for p in demo.bag.iterdir()) < 12_000_000


def test_the_same_seed_gives_the_same_files(tmp_path):
    for name in "ab":
        write_demo(tmp_path / name, seed=3, picks=2)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_another_seed_gives_another_world(tmp_path, demo):
    other = write_demo(tmp_path, seed=8, picks=1)
    assert (
        json.loads(other.truth.read_text())["picks"][0]
        != json.loads(demo.truth.read_text())["picks"][0]
    )
    assert other.manifest.read_text() == demo.manifest.read_text()


def test_both_storages_hold_the_same_messages(tmp_path):
    a, b = (write_demo(tmp_path / s, picks=1, storage=s) for s in ("mcap", "sqlite3"))
    with BagReader(a.bag) as one, BagReader(b.bag) as two:
        assert list(one.messages()) == list(two.messages())
    assert a.truth.read_text() == b.truth.read_text()


def test_every_topic_has_the_messages_that_the_timeline_promises(messages):
    assert Counter(m.topic for m, _ in messages) == {
        "/robollm/container": 2,
        "/robollm/image": 18,
        "/robollm/pick": 6,
        "/robollm/views/on_arm_low/image": 6,
        "/robollm/views/tote_wall/image/compressed": 5,
    }


def test_messages_are_recorded_after_their_stamps_and_in_order(messages):
    times = [m.log_ns for m, _ in messages]
    assert times == sorted(set(times))
    for m, d in messages:
        if hasattr(d, "header"):
            assert 0 < m.log_ns - ns(d.header.stamp) <= 300 * MS


def test_each_pick_names_its_tote_image_and_comes_before_its_views(messages, truth):
    images = {ns(d.header.stamp): d for _, d in on(messages, IMAGE_TOPIC)}
    picks = on(messages, PICK_TOPIC)
    assert [d.id for _, d in picks] == [t["id"] for t in truth]
    starts = [t["tote_stamp_ns"] for t in truth]
    for (m, d), t, after in zip(picks, truth, [*starts[1:], None], strict=True):
        start = t["tote_stamp_ns"]
        assert ns(d.header.stamp) == start
        assert d.header.frame_id == images[start].header.frame_id
        assert m.log_ns == start + 300 * MS
        for view, stamp in t["view_stamps_ns"].items():
            assert (stamp is None) == (t["views"][view] is None)
            if stamp is not None:
                assert m.log_ns < stamp
                assert after is None or stamp < after


def test_three_frames_show_the_same_tote_before_anything_moves(messages, truth):
    frames = on(messages, IMAGE_TOPIC)
    for k, t in enumerate(truth):
        three = frames[3 * k : 3 * k + 3]
        gaps = [ns(d.header.stamp) - t["tote_stamp_ns"] for _, d in three]
        assert gaps == [0, 150 * MS, 300 * MS]
        assert all(np.array_equal(d.data, three[0][1].data) for _, d in three)
        assert k == 0 or not np.array_equal(three[0][1].data, frames[3 * k - 1][1].data)


def test_the_target_of_the_pick_is_the_box_in_the_truth(messages, truth):
    for (_, d), t in zip(on(messages, PICK_TOPIC), truth, strict=True):
        box, c = d.bbox, d.bbox.center.position
        corners = [c.x - box.size_x / 2, c.y - box.size_y / 2,
                   c.x + box.size_x / 2, c.y + box.size_y / 2]  # fmt: skip
        instance = t["tote_instances"][t["target"]]
        assert corners == instance["box"]
        assert instance["product_id"] == t["product_id"]
        h, w = TOTE_HW
        assert 0 <= corners[0] < corners[2] <= w
        assert 0 <= corners[1] < corners[3] <= h


def test_the_six_events_are_there(truth):
    assert [t["label"] for t in truth] == [
        e if e in ("multi_pick", "package_defect") else "nominal" for e in EVENTS
    ]
    assert [t["in_manifest"] for t in truth] == [e != "stranger" for e in EVENTS]
    assert [t["views"]["tote_wall"] is None for t in truth] == [e == "no_tote_wall" for e in EVENTS]
    assert [len(t["also_picked"]) for t in truth] == [e == "multi_pick" for e in EVENTS]
    assert all(t["views"]["on_arm_low"] == t["label"] for t in truth)


def test_the_container_changes_in_mid_stream_before_its_first_image(messages, truth):
    assert [t["container"] for t in truth] == ["tote-A"] * 3 + ["tote-B"] * 3
    changes = on(messages, "/robollm/container")
    assert [d.data for _, d in changes] == ["tote-A", "tote-B"]
    for (m, _), t in zip(changes, truth[::3], strict=True):
        assert m.log_ns < t["tote_stamp_ns"]
    assert changes[1][0].log_ns > truth[2]["tote_stamp_ns"] + 650 * MS


def test_a_tote_empties_by_what_was_picked(truth):
    for before, after in itertools.pairwise(truth):
        if before["container"] == after["container"]:
            gone = 1 + len(before["also_picked"])
            assert len(after["tote_instances"]) >= len(before["tote_instances"]) - gone
            assert len(after["tote_instances"]) < len(before["tote_instances"])


def test_images_have_the_sizes_and_encodings_that_were_promised(messages):
    for _, d in on(messages, IMAGE_TOPIC):
        assert (d.height, d.width, d.encoding) == (*TOTE_HW, "rgb8")
    for _, d in on(messages, VIEW_TOPICS["on_arm_low"]):
        assert (d.height, d.width, d.encoding) == (*VIEW_HW, "rgb8")
    for _, d in on(messages, VIEW_TOPICS["tote_wall"]):
        assert d.format == "jpeg"
        assert jpeg.decode(d.data).shape == (*VIEW_HW, 3)


def test_the_manifest_knows_every_product_that_is_in_the_truth(manifest, truth):
    assert (manifest["format"], manifest["format_version"]) == ("robollm-manifest", 1)
    for t in truth:
        listed = manifest["containers"][t["container"]]
        assert (t["product_id"] in listed) == t["in_manifest"]
        assert {i["product_id"] for i in t["tote_instances"]} <= set(manifest["products"])
    for allowed in manifest["containers"].values():
        assert set(allowed) < set(manifest["products"])
        families = Counter(manifest["products"][p]["family"] for p in allowed)
        assert min(families.values()) >= 3, "a manifest without near-duplicates proves nothing"


def test_every_product_has_three_reference_pictures(demo, manifest):
    for product_id in manifest["products"]:
        assert len(product_id) == 10
        pictures = sorted((demo.references / product_id).iterdir())
        assert [p.name for p in pictures] == ["1.jpg", "2.jpg", "3.jpg"]
        assert all(jpeg.decode(p.read_bytes()).std() > 20 for p in pictures)


def test_an_existing_bag_stays_as_it_is(demo):
    before = digest(demo.root)
    with pytest.raises(BagError, match="exists already"):
        write_demo(demo.root)
    assert digest(demo.root) == before


@pytest.mark.parametrize("picks", [0, -1, 25])
def test_the_number_of_picks_is_checked(tmp_path, picks):
    with pytest.raises(ConfigError, match="want 1 to 24"):
        write_demo(tmp_path, picks=picks)


def test_further_picks_are_ordinary(tmp_path):
    picks = json.loads(write_demo(tmp_path, picks=7).truth.read_text())["picks"]
    assert [t["container"] for t in picks] == ["tote-A"] * 4 + ["tote-B"] * 3
    assert [t["in_manifest"] for t in picks] == [True] * 4 + [False] + [True] * 2
    assert picks[6]["label"] == "nominal"
