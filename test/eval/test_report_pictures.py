"""Pictures of a report: from files, films and bags, with outlines where the instances are."""

import base64
import dataclasses

import cv2
import numpy as np
import pytest
from compare_kit import image, square, write_run
from pycocotools import mask as rle

from robollm.data.armbench_defects import write_video
from robollm.data.bag import BagWriter
from robollm.data.jpeg import decode, encode
from robollm.data.problems import Problems
from robollm.eval.figures import Section, Worst
from robollm.eval.records import PICKS, TOTES, PickRecord, SegmentationRecord
from robollm.eval.report.album import Album, crop, pack
from robollm.eval.report.bag_pictures import TOTE, bag_pictures
from robollm.eval.report.outlines import overlay
from robollm.eval.report.pictures import cards
from robollm.eval.run_folder import RunFolder
from robollm.eval.score import score

HW = (80, 100)
S = 1_000_000_000


def flat(value, hw=HW):
    return np.full((*hw, 3), value, np.uint8)


def instance(x, y, w, h, score=None, crowd=0, hole=False):
    bits = np.zeros(HW, np.uint8)
    bits[y : y + h, x : x + w] = 1
    if hole:
        bits[y + 5 : y + h - 5, x + 5 : x + w - 5] = 0
    code = rle.encode(np.asfortranarray(bits))
    one = {"category": "object", "bbox": [x, y, w, h], "iscrowd": crowd}
    one["segmentation"] = {"size": list(HW), "counts": code["counts"].decode()}
    return one if score is None else {**one, "score": score}


def area(path):
    """Area of an SVG path of straight lines: holes count too, even-odd does the rest."""
    rings = [r for r in path.strip("MZ").split("ZM") if r]
    points = [np.array([p.split() for p in r.split("L")], float) for r in rings]
    return [cv2.contourArea(p.astype(np.float32)) for p in points]


def test_each_truth_takes_one_find_and_the_rest_is_missed_or_false():
    truth = [instance(0, 0, 20, 20), instance(40, 40, 20, 20), instance(70, 0, 20, 20)]
    found = [
        instance(0, 0, 20, 19, 0.5),
        instance(0, 0, 20, 20, 0.9),  # the better one takes the truth
        instance(40, 40, 20, 9, 0.8),  # IoU .45
    ]
    outlines, counts = overlay(truth, found, 1.0)
    assert counts == {"truth": 1, "missed": 2, "found": 1, "false": 2}
    labels = {o.label for o in outlines if o.kind == "false"}
    assert labels == {
        "found, but not there: object, score 0.50",
        "found, but not there: object, score 0.80",
    }


def test_a_crowd_takes_many_finds_and_is_never_missed():
    truth = [instance(0, 0, 60, 60, crowd=1)]
    found = [instance(5, 5, 10, 10, 0.9), instance(30, 30, 10, 10, 0.8)]
    assert overlay(truth, found, 1.0)[1] == {"truth": 1, "missed": 0, "found": 2, "false": 0}
    assert overlay(truth, [], 1.0)[1]["missed"] == 0


def test_what_a_model_of_objects_was_not_asked_for_is_drawn_aside_and_not_missed():
    tote = {**instance(0, 0, 90, 70), "category": "tote"}
    truth = [tote, instance(5, 5, 20, 20), instance(40, 40, 20, 20)]
    found = [instance(5, 5, 20, 20, 0.9), instance(0, 0, 90, 70, 0.8)]
    outlines, counts = overlay(truth, found, 1.0, objects_only=True)
    assert counts == {"truth": 1, "missed": 1, "found": 1, "false": 1}
    assert [(o.kind, o.label) for o in outlines if "tote" in o.label] == [
        ("aside", "tote: not asked for")
    ]
    assert overlay(truth, found, 1.0)[1] == {"truth": 2, "missed": 1, "found": 2, "false": 0}


@pytest.mark.parametrize(("classes", "kinds"), [("object", "aside"), ("agnostic", "missed")])
def test_a_card_draws_what_its_model_was_asked_for(tmp_path, classes, kinds):
    one = image(1, 2)
    tote = {**square(0, 0, 31), "category": "tote", "iscrowd": 0}
    one = dataclasses.replace(one, truth=[*one.truth, tote])
    run = RunFolder.open(write_run(tmp_path / "run", {"segmentation/mix": [one]}))
    run.card["predictor"]["classes"] = classes
    section = dataclasses.replace(
        next(iter(score(run, draws=100).sections)), worst=(Worst("1", 1.0, "why", {}),)
    )
    album = Album(tmp_path)
    album.load = lambda file: flat(0, (32, 32))
    (card,) = cards(run, section, album)
    assert [o.kind for o in card.pictures[0].outlines if "tote" in o.label] == [kinds]


def test_outlines_follow_the_mask_in_shrunk_pixels():
    (outline,), _ = overlay([instance(10, 20, 40, 30)], [], 0.5)
    (seen,) = area(outline.d)
    assert seen == pytest.approx(39 * 29 / 4, rel=0.02)  # through the middle of border pixels


def test_a_hole_is_an_outline_of_its_own():
    (outline,), _ = overlay([instance(10, 10, 40, 40, hole=True)], [], 1.0)
    assert len(area(outline.d)) == 2


def test_an_instance_without_a_pixel_shows_its_box():
    nothing = instance(10, 10, 0, 0)
    nothing["bbox"] = [10, 20, 30, 5]
    (outline,), _ = overlay([nothing], [], 2.0)
    assert outline.d == "M20.0 40.0H80.0V50.0H20.0Z"


def test_a_packed_picture_is_shrunk_and_is_the_picture():
    picture = pack(flat(200, (400, 800)), "one", 200)
    assert (picture.width, picture.height) == (200, 100)
    seen = decode(base64.b64decode(picture.uri.partition(",")[2]))
    assert seen.shape == (100, 200, 3)
    assert abs(int(seen.mean()) - 200) < 3


def test_a_small_picture_is_not_made_larger():
    assert pack(flat(1), "one", 640).width == HW[1]


def test_a_crop_stays_within_the_picture_and_is_never_empty():
    image = flat(0)
    assert crop(image, (10, 10, 30, 50)).shape == (40, 20, 3)
    assert crop(image, (-5, -5, 500, 500)).shape == image.shape
    assert crop(image, (200, 200, 300, 300)).shape == (1, 1, 3)
    assert crop(image, None) is image


def test_a_frame_of_a_film_is_the_one_with_that_number(tmp_path):
    write_video(tmp_path, "v", [flat(v, (560, 1280)) for v in (20, 120, 220)], {"label": "nominal"})
    album = Album(tmp_path)
    means = [album.load("videos/v.mp4", n).mean() for n in (0, 1, 2)]
    assert means == pytest.approx([20, 120, 220], abs=6)
    assert album.load("videos/v.mp4", 3) is None
    assert album.problems.counts == {"missing_picture": 1}


def test_a_missing_file_is_counted_once_for_each_time_it_is_wanted(tmp_path):
    album = Album(tmp_path)
    (tmp_path / "cut.jpg").write_bytes(encode(flat(9))[:60])
    assert album.load("gone.jpg") is None
    assert album.load("cut.jpg") is None
    assert album.problems.counts == {"missing_picture": 2}


@pytest.fixture
def bag(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        for i in range(3):
            writer.image("/cell/views/wall/image", (i + 1) * S, "cam", flat(100 + i), jpeg=True)
            writer.image("/cell/image", (i + 1) * S, "cam", flat(10 * i), jpeg=False)
            target = (10.0, 20.0, 60.0, 70.0)
            writer.pick("/cell/pick", (i + 1) * S, "cam", f"p{min(i, 1)}", target, (i + 1) * S + 1)
    return tmp_path / "bag"


def test_pictures_of_a_bag_are_found_by_view_and_stamp(bag):
    problems = Problems()
    found = bag_pictures(bag, {("wall", 2 * S), (TOTE, 3 * S)}, problems, side=50)
    assert (found[TOTE, 3 * S].image.shape, found[TOTE, 3 * S].scale) == ((40, 50, 3), 0.5)
    assert found[TOTE, 3 * S].image.mean() == pytest.approx(20, abs=1)
    assert found["wall", 2 * S].image.mean() == pytest.approx(101, abs=2)
    assert not problems.counts


def test_a_stamp_that_a_bag_lacks_is_counted(bag):
    problems = Problems()
    assert bag_pictures(bag, {("wall", 7 * S)}, problems, side=50) == {}
    assert problems.counts == {"missing_picture": 1}


def test_what_is_no_bag_is_counted_and_nothing_is_raised(tmp_path):
    problems = Problems()
    (tmp_path / "x.mcap").write_bytes(b"not a bag")
    assert bag_pictures(tmp_path / "x.mcap", {("wall", S)}, problems, side=50) == {}
    assert problems.counts["missing_picture"] == 2


def test_an_album_reads_a_bag_once_and_passes_by_what_is_none(bag):
    album = Album(bag.parent)
    (bag.parent / "folder").mkdir()
    album.open_bags({"bag": {("wall", S)}, "folder": {("wall", S)}, "": set()})
    assert album.from_bag("bag", "wall", S).image.mean() == pytest.approx(100, abs=2)
    assert album.from_bag("bag", "wall", 2 * S) is None
    assert album.from_bag("folder", "wall", S) is None
    assert not album.problems.counts
    album.open_bags({"gone": {("wall", S)}})
    assert album.problems.counts == {"missing_picture": 1}


def bag_cards(bag, records, stream=PICKS):
    """Cards of records about the bag, and what was missing."""
    card = {"source": "bag", "data": {"root": str(bag.parent)}, "predictor": {}, "settings": {}}
    with (
        RunFolder.create_or_resume(bag.parent / "run", card) as run,
        run.journal(stream) as journal,
    ):
        for record in records:
            journal.append(record)
    worst = tuple(Worst(record.key, 1.0, "why") for record in records)
    section = Section("station", stream, "", "", 1, 1, "pick", {}, worst=worst)
    album = Album(bag.parent)
    return cards(RunFolder.open(bag.parent / "run"), section, album), album.problems.counts


def judged(key, views):
    evidence = [
        {"view": v, "stamp_ns": ns, "probabilities": None, "box": [0] * 4, "reason": ""}
        for v, ns in views.items()
    ]
    named = {"decision": "ambiguous", "ranked": [["ambiguous", 0.6], ["B0ONE", 0.3]]}
    return PickRecord(key=key, bag="bag", truth=None, evidence=evidence, identification=named)


def test_a_pick_of_a_bag_shows_its_tote_image_with_the_target(bag):
    picks = [judged("p0", {"wall": S, "arm": 0}), judged(f"bag/p1@{3 * S}", {})]
    (first, again), missing = bag_cards(bag, picks)
    assert first.facts["first product"] == "B0ONE"  # and not the decision, which is ranked, too
    assert [p.caption for p in first.pictures] == ["tote image, target", "wall"]
    assert [o.d for o in first.pictures[0].outlines] == ["M10.0 20.0H60.0V70.0H10.0Z"]
    shades = [decode(base64.b64decode(c.pictures[0].uri.partition(",")[2])) for c in (first, again)]
    assert [s.mean().round() for s in shades] == [0, 20]
    assert not missing  # a view that never came is no picture that is missing


def test_a_tote_image_of_a_bag_is_shown_with_what_was_found(bag):
    found = [instance(0, 0, 20, 20, 0.9)]
    record = SegmentationRecord(
        key=str(2 * S),
        file=f"bag at {2 * S} ns",
        hw=HW,
        truth=[instance(0, 0, 20, 20)],
        found=found,
    )
    (card,), missing = bag_cards(bag, [record], TOTES)
    assert card.pictures[0].uri
    assert {o.kind for o in card.pictures[0].outlines} == {"truth", "found"}
    assert not missing
