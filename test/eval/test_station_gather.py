"""A recording's clock drives the nodes' own pick protocol."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from robollm.core.errors import ConfigError, GalleryError
from robollm.data.jpeg import encode
from robollm.data.problems import Problems
from robollm.eval.gather import CONTAINER, IMAGE, NS, PICK, VIEW, Gatherer, Heard
from robollm.eval.pictures import Header, PackedPicture, RawPicture
from robollm.eval.settings import station_settings
from robollm.eval.truth import StationTruth
from robollm.gallery.records import MadeWith
from robollm.gallery.store import create_gallery, open_writer

T = 1_760_000_000 * NS
MS = 1_000_000


def packed(ns: int) -> PackedPicture:
    return PackedPicture(Header.at(ns, "cam"), "jpeg", b"not looked at")


def container(name: str, at: int) -> Heard:
    return Heard(CONTAINER, CONTAINER, "", SimpleNamespace(data=name), at)


def tote(ns: int) -> Heard:
    return Heard(IMAGE, IMAGE, "compressed", packed(ns), ns + MS)


def view(name: str, ns: int, at: int | None = None) -> Heard:
    return Heard(VIEW, name, "compressed", packed(ns), ns + MS if at is None else at)


def pick(name: str, ns: int, at: int) -> Heard:
    point = SimpleNamespace(x=10.0, y=10.0)
    box = SimpleNamespace(center=SimpleNamespace(position=point), size_x=4.0, size_y=6.0)
    header = Header.at(ns, "cam")
    return Heard(PICK, PICK, "", SimpleNamespace(header=header, bbox=box, id=name), at)


def gather(messages, *parameters, truth=None, prefix=""):
    problems = Problems()
    settings = station_settings(None, parameters, {})
    gatherer = Gatherer("bag", settings, truth or StationTruth(), problems, prefix)
    return list(gatherer.jobs(messages)), problems.counts


def one_pick(name: str, start: int, *views: str) -> list[Heard]:
    shown = [view(v, start + 500 * MS + 50 * MS * k) for k, v in enumerate(views)]
    return [tote(start), pick(name, start, start + 200 * MS), *shown]


BOTH = ("on_arm_low", "tote_wall")


def test_a_pick_gets_its_tote_image_its_views_and_the_container_of_its_moment():
    messages = [
        container("A", T - NS),
        *one_pick("p1", T, *BOTH),
        container("B", T + NS),
        *one_pick("p2", T + 2 * NS, *BOTH),
    ]
    jobs, problems = gather(messages, prefix="mon/")
    assert problems == {}
    assert [(j.key, j.pick.container, j.tote.header.stamp.sec - T // NS) for j in jobs] == [
        ("mon/p1", "A", 0), ("mon/p2", "B", 2),
    ]  # fmt: skip
    assert [sorted(j.views) for j in jobs] == [list(BOTH), list(BOTH)]
    assert jobs[0].pick.box == (8.0, 7.0, 12.0, 13.0)


def test_every_pick_finds_its_tote_image_however_many_there_were_before():
    messages = []
    for n in range(30):  # the camera goes on while the controller plans, as in the demo
        start = T + n * NS
        first, announced, *views = one_pick(f"p{n}", start, *BOTH)
        messages += [first, tote(start + 60 * MS), tote(start + 120 * MS), announced, *views]
    jobs, problems = gather(messages, "frame_history:=4")
    assert problems == {}
    assert [j.tote.header.stamp.sec - T // NS for j in jobs] == list(range(30))


def test_a_missing_view_lets_the_pick_time_out_on_the_bags_clock():
    later = one_pick("p2", T + 5 * NS, *BOTH)
    jobs, problems = gather([*one_pick("p1", T, "on_arm_low"), *later])
    assert [sorted(j.views) for j in jobs] == [["on_arm_low"], list(BOTH)]
    assert problems == {"picks_timed_out": 1}


def test_a_view_that_comes_after_the_time_limit_is_not_the_picks():
    late = view("tote_wall", T + 600 * MS, at=T + 3 * NS)
    jobs, problems = gather([*one_pick("p1", T, "on_arm_low"), late])
    assert sorted(jobs[0].views) == ["on_arm_low"]
    assert problems["picks_timed_out"] == 1
    jobs, _ = gather([*one_pick("p1", T, "on_arm_low"), late], "view_timeout_s:=4.0")
    assert sorted(jobs[0].views) == list(BOTH)


def test_a_stale_view_is_dropped_unless_any_age_will_do():
    old = view("tote_wall", T + 550 * MS, at=T + 1500 * MS)
    messages = [*one_pick("p1", T, "on_arm_low"), old]
    jobs, problems = gather(messages, "max_view_age_s:=0.5")
    assert (sorted(jobs[0].views), problems["stale_view"]) == (["on_arm_low"], 1)
    jobs, _ = gather(messages, "max_view_age_s:=0.0")
    assert sorted(jobs[0].views) == list(BOTH)


def test_a_view_taken_too_soon_after_the_tote_image_is_not_the_picks():
    jobs, problems = gather(one_pick("p1", T, *BOTH), "view_delay_s:=0.52")
    assert sorted(jobs[0].views) == ["tote_wall"]
    assert problems["picks_timed_out"] == 1


def test_the_first_picture_of_a_view_counts_and_the_same_stamp_twice_is_refused():
    again = [view("on_arm_low", T + 500 * MS), view("on_arm_low", T + 540 * MS)]
    first, *rest = one_pick("p1", T, "on_arm_low")
    jobs, problems = gather([first, *rest, *again, view("tote_wall", T + 700 * MS)])
    assert jobs[0].views["on_arm_low"].header.stamp.nanosec == 500 * MS
    assert problems["repeated_stamp"] == 1


def test_both_transports_of_one_image_count_once():
    raw = RawPicture(Header.at(T, "cam"), 2, 2, "rgb8", 6, bytes(12))
    both = [Heard(IMAGE, IMAGE, "raw", raw, T), tote(T)]
    _, problems = gather([*both, *one_pick("p1", T, *BOTH)[1:]])
    assert problems == {}


def test_bad_input_is_counted_by_the_nodes_words():
    bad = RawPicture(Header.at(T, "cam"), 4, 4, "rgb8", 12, bytes(5))
    unstamped = PackedPicture(Header.at(0, "cam"), "jpeg", b"")
    messages = [
        container(" ", T),
        Heard(IMAGE, IMAGE, "raw", bad, T),
        Heard(VIEW, "tote_wall", "compressed", unstamped, T),
        pick("", T, T + MS),
        *one_pick("p1", T + NS, *BOTH),
        pick("p1", T + NS, T + 2 * NS),
    ]
    jobs, problems = gather(messages)
    assert len(jobs) == 1
    assert problems == {
        "bad_container": 1, "bad_data_length": 1, "bad_stamp": 1, "bad_pick": 1,
        "duplicate_pick": 1,
    }  # fmt: skip


def test_a_pick_without_its_tote_image_is_told_and_still_answered():
    jobs, problems = gather(one_pick("p1", T, *BOTH)[1:])
    assert jobs[0].tote is None
    assert problems == {"pick_without_tote_image": 1}


def test_a_streaming_tote_camera_does_not_push_out_the_image_that_was_planned_on():
    first, asked, *views = one_pick("p1", T, *BOTH)
    stream = [tote(T + 210 * MS + k * MS) for k in range(40)]
    jobs, problems = gather([first, asked, *stream, *views], "frame_history:=4")
    assert jobs[0].tote.header.stamp.nanosec == 0
    assert problems == {}


def test_an_id_that_comes_again_gets_a_key_of_its_own():
    jobs, problems = gather([*one_pick("p1", T, *BOTH), *one_pick("p1", T + 3 * NS, *BOTH)])
    assert [j.key for j in jobs] == ["p1", f"p1@{T + 3 * NS}"]
    assert problems["repeated_pick_id"] == 1


def test_later_pictures_with_a_truth_come_with_their_pick_even_after_its_answer():
    stamps = [T + 500 * MS + k * 300 * MS for k in range(4)]
    later = {("on_arm_low", ns): ("p1", "nominal") for ns in stamps}
    truth = StationTruth("t", {"p1": {"views": {}}}, {}, later)
    more = [view("on_arm_low", ns) for ns in stamps[1:]]
    jobs, problems = gather([*one_pick("p1", T, *BOTH), *more], truth=truth)
    (job,) = jobs
    assert problems == {}
    assert [f.picture.header.stamp.nanosec for f in job.frames] == [
        (ns - T) % NS for ns in stamps[1:]
    ]
    jobs, _ = gather([*one_pick("p1", T, *BOTH), *more[:1]], truth=truth)
    assert len(jobs[0].frames) == 1  # the others never came


def test_views_that_no_pick_claims_are_counted():
    stray = [view("tote_wall", T - NS + k * MS) for k in range(30)]
    jobs, problems = gather([*stray, *one_pick("p1", T, *BOTH)])
    assert len(jobs) == 1
    assert problems == {"unclaimed_view": 30}


def test_pictures_decode_as_the_nodes_decode_them():
    import numpy as np

    rgb = np.random.default_rng(0).integers(0, 255, (8, 9, 3)).astype(np.uint8)
    raw = RawPicture(Header.at(T, "cam"), 8, 9, "rgb8", 27, rgb.tobytes())
    assert (raw.frame("image").pixels == rgb).all()
    jpeg = PackedPicture(Header.at(T, "cam"), "jpeg", encode(rgb)).frame("tote_wall")
    assert (jpeg.order, jpeg.stream, jpeg.stamp_ns, jpeg.hw) == ("bgr", "tote_wall", T, (8, 9))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/**:\n  ros__parameters:\n    min_view: 2\n", "min_views"),
        ("/**:\n  ros__parameters:\n    min_views: two\n", "wants int"),
        ("defect_node:\n  ros__parameters:\n    min_views: 2\n", "one section"),
        ("- a\n- b\n", "one section"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_parameter_file_is_read_as_strictly_as_the_nodes_read_it(tmp_path, text, words):
    file = tmp_path / "p.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        station_settings(file, (), {})


def test_options_come_after_parameters_and_these_after_the_file(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("/**:\n  ros__parameters:\n    min_views: 2\n    top_k: 3\n    accept: 0.5\n"
                    "    use_sim_time: true\n")  # fmt: skip
    got = station_settings(file, ("top_k:=4", "accept:=0.25"), {"accept": 0.75})
    assert (got.defects.min_views, got.identification.top_k) == (2, 4)
    assert got.identification.accept == 0.75
    assert got.card() == {"min_views": 2, "top_k": 4, "accept": 0.75}


def test_another_manifest_or_gallery_is_another_run(tmp_path):
    def card(**places):
        return station_settings(None, (), {k: str(v) for k, v in places.items()}).card()

    made = MadeWith("0" * 64, "b")
    for name in ("gallery", "copy"):
        create_gallery(tmp_path / name, dim=4, made_with=made)
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").write_text("{ }")
    one = card(manifest=tmp_path / "a.json")  # the gallery beside it
    assert set(one) == {"manifest", "gallery"}
    assert card(manifest=tmp_path / "a.json", gallery=tmp_path / "gallery") == one
    assert card(manifest=tmp_path / "b.json")["manifest"] != one["manifest"]
    with open_writer(tmp_path / "gallery", made_with=made) as writer:
        writer.add_references("A", np.eye(4, dtype=np.float32)[:1], sources=["a"], sha256s=["0"])
        writer.commit()
    assert card(manifest=tmp_path / "a.json")["gallery"] != one["gallery"]
    with pytest.raises(GalleryError):
        card(gallery=tmp_path / "none")
