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
from robollm.sim.demo_bag import (
    EVENTS,
    IMAGE_TOPIC,
    PICK_TOPIC,
    VIEW_HW,
    VIEW_TOPICS,
    _plans,
    write_demo,
)

DEMO_TOTE_HW = (480, 640)  # of the fixture `demo`

pytest.importorskip("rosbags")

MS = 1_000_000
SMALL = {
    "tote_hw": (96, 128),
    "view_hw": (96, 96),
    "products": 6,
}  # physics and labels don't depend on it


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


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two picks, small, in mcap."""
    return write_demo(tmp_path_factory.mktemp("small"), seed=3, picks=2, **SMALL)


def test_the_same_seed_gives_the_same_files_however_many_processes_work(tmp_path, small):
    write_demo(tmp_path, seed=3, picks=2, workers=1, **SMALL)
    assert digest(tmp_path) == digest(small.root)


def test_another_seed_gives_another_world_of_the_same_products(tmp_path, small):
    other = write_demo(tmp_path, seed=8, picks=2, storage="sqlite3", **SMALL)
    states = [
        [p["state"] for p in json.loads(f.truth.read_text())["picks"]] for f in (other, small)
    ]
    assert states[0] != states[1]
    products = [json.loads(f.manifest.read_text())["products"] for f in (other, small)]
    assert products[0] == products[1]


def test_both_storages_hold_the_same_messages(tmp_path, small):
    other = write_demo(tmp_path, seed=3, picks=2, storage="sqlite3", **SMALL)
    with BagReader(small.bag) as one, BagReader(other.bag) as two:
        assert list(one.messages()) == list(two.messages())
    assert small.truth.read_text() == other.truth.read_text()


def test_a_hold_can_be_recorded_as_a_sequence(tmp_path):
    files = write_demo(tmp_path, seed=3, picks=2, frames=12, **SMALL)
    with BagReader(files.bag) as bag:
        on_topic = Counter(m.topic for m in bag.messages())
    assert on_topic[VIEW_TOPICS["on_arm_low"]] == on_topic[VIEW_TOPICS["tote_wall"]] == 24
    for pick in json.loads(files.truth.read_text())["picks"]:
        for name, shown in pick["view_frames"].items():
            stamps = [f["stamp_ns"] for f in shown]
            assert stamps == sorted(set(stamps))
            assert stamps[0] == pick["view_stamps_ns"][name]
            assert 1 < (stamps[-1] - stamps[0]) / 1e9 < 2.7
            assert shown[0]["label"] == pick["views"][name]


def test_every_topic_has_the_messages_that_the_timeline_promises(messages):
    assert Counter(m.topic for m, _ in messages) == {
        "/robollm/container": 2,
        IMAGE_TOPIC: 18,
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
        h, w = DEMO_TOTE_HW
        assert 0 <= corners[0] < corners[2] <= w
        assert 0 <= corners[1] < corners[3] <= h


def test_the_six_events_are_there(truth):
    events = EVENTS[: len(truth)]
    labels = {"multi_pick": "multi_pick", "open": "package_defect"}
    assert set(events) == {"nominal", "multi_pick", "no_tote_wall", "open", "stranger"}
    assert [t["label"] for t in truth] == [labels.get(e, "nominal") for e in events]
    assert [t["in_manifest"] for t in truth] == [e != "stranger" for e in events]
    assert [t["views"]["tote_wall"] is None for t in truth] == [e == "no_tote_wall" for e in events]
    assert [len(t["also_picked"]) for t in truth] == [e == "multi_pick" for e in events]
    assert all(t["views"]["on_arm_low"] == t["label"] for t in truth)


def test_a_label_is_what_the_simulators_state_says(truth):
    for t in truth:
        state = t["state"]
        touched = [d is not None and d <= 0.001 for d in state["distance_m"]]
        gapes = [gap >= 0.003 for gap in state["gap_m"]]
        assert all(touched) == (t["label"] == "multi_pick")
        assert all(gapes) == (t["label"] == "package_defect")


def test_a_long_recording_has_ten_picks_a_tote_at_most():
    for picks, counts in ((1, [1]), (2, [1, 1]), (7, [4, 3]), (20, [10, 10]), (21, [7, 7, 7])):
        plans = _plans(7, picks, 1, ((96, 96), (96, 96)), 6)
        assert [len(p.events) for p in plans] == counts
        ids = [product.id for p in plans for product in p.products]
        assert len(set(ids)) == len(ids) == 6 * len(plans)


def test_the_whole_demo_has_both_defects_strangers_and_missing_views():
    assert len(EVENTS) == 20
    assert {"multi_pick", "open", "deconstruction", "stranger", "no_tote_wall"} <= set(EVENTS)
    assert Counter(EVENTS)["nominal"] >= 8


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
            # Each product is in a tote once. What lay below comes to light, so counts say little.
            gone = {before["product_id"], *before["also_picked"]}
            assert not gone & {i["product_id"] for i in after["tote_instances"]}


def test_images_have_the_sizes_and_encodings_that_were_promised(messages):
    for _, d in on(messages, IMAGE_TOPIC):
        assert d.format == "jpeg"
        assert jpeg.decode(d.data).shape == (*DEMO_TOTE_HW, 3)
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
        twins = sum(n for n in families.values() if n > 1)
        assert twins >= len(allowed) / 2, "a manifest without near-duplicates proves nothing"


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


@pytest.mark.parametrize(("name", "value", "wanted"), [
    ("picks", 0, "1 to 500"), ("picks", -1, "1 to 500"), ("picks", 501, "1 to 500"),
    ("frames", 0, "1 to 15"), ("frames", 16, "1 to 15"), ("products", 5, "6 to 100"),
])  # fmt: skip
def test_numbers_out_of_range_are_refused_and_nothing_is_written(tmp_path, name, value, wanted):
    with pytest.raises(ConfigError, match=f"{name} is {value}, want {wanted}"):
        write_demo(tmp_path / "out", **{name: value})
    assert not (tmp_path / "out").exists()


def test_the_truth_says_that_all_is_simulated(demo):
    assert json.loads(demo.truth.read_text())["source"]["kind"] == "simulated"
