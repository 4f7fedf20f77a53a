from __future__ import annotations

import json

import numpy as np
import pytest

from robollm.core.errors import ConfigError
from robollm.data import armbench_defects, armbench_identification, armbench_segmentation, jpeg
from robollm.data.shortcuts import (
    balanced_accuracy,
    fit_lda,
    fit_neighbours,
    hsv_histogram,
    thumbnail,
)
from robollm.sim.dataset.audit import audit, spaced, verdicts, write_audit

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
PRODUCTS = [f"B{n:09d}" for n in range(20)]


def plain(colour, noise, rng):
    """A 24 x 24 picture of one colour with something on it."""
    picture = np.full((24, 24, 3), colour, np.float64) + rng.normal(0, noise, (24, 24, 3))
    return jpeg.encode(np.clip(picture, 0, 255).astype(np.uint8), 98)


def colours(solvable, rng):
    """A colour per product: far apart, or all the same."""
    every = [(60 + 90 * (n % 3), 20 + 110 * (n // 3 % 3), 30 + 90 * (n // 9)) for n in range(20)]
    return every if solvable else [(120, 110, 100)] * 20


def write(root, *, solvable):
    """Identification and defects that mean colour tells everything of, or nothing."""
    rng = np.random.default_rng(3)
    tone = colours(solvable, rng)
    place = root / armbench_identification.ROOT
    picks = [str(n) for n in range(40)]
    for n, pick in enumerate(picks):
        truth = n % 20
        armbench_identification.write_pick(
            place, pick, {"PickRGB": plain(tone[truth], 6, rng)}, {p: {} for p in PRODUCTS},
            {"GT_ID": PRODUCTS[truth]},
        )  # fmt: skip
    for n, product in enumerate(PRODUCTS):
        armbench_identification.write_references(place, product, [plain(tone[n], 6, rng)])
    armbench_identification.write_split(
        place,
        {"train": [], "val": [], "test": picks},
        {"train": [], "val": [], "test": PRODUCTS},
    )
    place = root / armbench_defects.IMAGE_ROOT
    ids = [f"{10**20 + n}" for n in range(180)]
    for n, induct in enumerate(ids):
        label = armbench_defects.LABELS[n % 3]
        colour = (60 + 60 * (n % 3), 100, 100) if solvable else (100, 100, 100)
        armbench_defects.write_images(
            place, induct, [(plain(colour, 20, rng), {"label": label, "box": [0, 0, 0, 0]})]
        )
    armbench_defects.write_lists(place, {"train": ids[:90], "val": [], "test": ids[90:]})
    return root


def test_where_colour_is_the_answer_the_audit_says_so(tmp_path):
    result = audit(write(tmp_path, solvable=True))
    assert result["identification"]["manifest_20"]["hsv_histogram"] > 0.9
    assert result["identification"]["manifest_20"]["picks"] == 40
    assert result["defects"]["colour_lda"] > 0.95
    assert result["defects"]["colour_neighbours"] > 0.75
    failed = {what for what, *_, good in verdicts(result) if not good}
    assert {"recall@1, hsv_histogram", "balanced accuracy, colour_area_lda"} <= failed


def test_where_colour_is_no_answer_the_audit_is_at_chance(tmp_path):
    result = audit(write(tmp_path, solvable=False))
    part = result["identification"]["manifest_20"]
    assert part["chance"] == 0.05
    assert part["hsv_histogram"] <= 0.2
    assert part["thumbnail_16x16"] <= 0.2
    assert result["defects"]["chance"] == pytest.approx(1 / 3)
    for name in ("colour_area_lda", "colour_area_neighbours", "area_lda", "colour_lda"):
        assert 0.15 <= result["defects"][name] <= 0.52, name
    assert all(good for *_, good in verdicts(result))


def test_small_and_hidden_instances_are_counted_and_polygons_measured(tmp_path):
    labels = np.zeros((100, 100), np.uint16)
    labels[:60, :60], labels[20:24, 20:24], labels[80:, 80:] = 1, 2, 9
    rows = armbench_segmentation.annotate(
        labels, {1: 2, 2: 2, 9: 1}, {1: {"visibility": 0.2}, 2: {"visibility": 1.0}}
    )
    folder = tmp_path / armbench_segmentation.ROOT / armbench_segmentation.MIX
    with armbench_segmentation.SplitWriter(folder, "test", {}) as writer:
        writer.add("a.jpg", (100, 100), rows)
    part = audit(tmp_path)["segmentation"]["mix-object-tote/test"]
    assert part == {
        "images": 1,
        "objects": 2,
        "under_32x32_px": 0.5,
        "under_30_percent_visible": 0.5,
        "polygon_iou_mean": 1.0,
    }


def test_armbenchs_own_file_without_our_keys_is_measured_as_far_as_possible(tmp_path):
    folder = tmp_path / armbench_segmentation.ROOT / armbench_segmentation.MIX
    folder.mkdir(parents=True)
    one = {"id": 1, "image_id": 1, "category_id": 2, "bbox": [0, 0, 9, 9], "area": 81,
           "iscrowd": 0, "segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]]}  # fmt: skip
    (folder / "val.json").write_text(
        json.dumps({"images": [{"id": 1}], "annotations": [one],
                    "categories": [{"id": 2, "name": "Object"}]})
    )  # fmt: skip
    part = audit(tmp_path)["segmentation"]["mix-object-tote/val"]
    assert part["under_32x32_px"] == 1.0
    assert part["under_30_percent_visible"] is None
    assert part["polygon_iou_mean"] is None


def test_a_folder_without_a_task_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="has none of armbench-segmentation"):
        audit(tmp_path)


def test_the_audit_is_written_beside_the_data(tmp_path):
    file = write_audit(tmp_path, {"goals": {}})
    assert json.loads(file.read_text()) == {"goals": {}}


def test_descriptions_are_of_unit_length_and_blind_to_what_they_should_be():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 200, (40, 60, 3), dtype=np.uint8)
    assert np.linalg.norm(hsv_histogram(picture)) == pytest.approx(1)
    assert np.linalg.norm(thumbnail(picture)) == pytest.approx(1)
    assert hsv_histogram(picture) @ hsv_histogram(picture[::-1]) == pytest.approx(1)
    assert thumbnail(picture) @ thumbnail(picture + 20) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("fit", [fit_lda, fit_neighbours])
def test_classifiers_find_what_is_apart_although_one_class_is_rare(fit):
    rng = np.random.default_rng(1)
    rows = np.concatenate([rng.normal(0, 1, (200, 3)), rng.normal(4, 1, (10, 3))])
    names = ["often"] * 200 + ["seldom"] * 10
    guesses = fit(rows, names)(rows)
    assert balanced_accuracy(names, guesses) > 0.9
    assert balanced_accuracy(names, ["often"] * 210) == 0.5


def test_spaced_takes_from_everywhere():
    assert spaced(range(10), 5) == [0, 2, 4, 6, 8]
    assert spaced("ab", 5) == ["a", "b"]
