from __future__ import annotations

import csv
import json
import os
import pickle
from collections import OrderedDict

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from robollm.core.errors import ConfigError
from robollm.core.masks import encode_rle
from robollm.data import armbench_defects as defects
from robollm.data import armbench_files as files
from robollm.data import armbench_identification as identification
from robollm.data import armbench_segmentation as segmentation
from robollm.data import jpeg

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)  # pycocotools with NumPy 2
TOTE_LABEL = 65535


def heap(seed, hw=(96, 128), count=14):
    """A label map: rectangles and ellipses over each other, a tote around."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(hw, np.uint16)
    labels[4:-4, 6:-6] = TOTE_LABEL
    for value in range(1, count + 1):
        x, y = (int(v) for v in rng.integers(0, [hw[1], hw[0]]))
        w, h = (int(v) for v in rng.integers(4, 40, 2))
        angle = float(rng.uniform(0, 180))
        if rng.random() < 0.5:
            corners = cv2.boxPoints(((x, y), (w, h), angle)).astype(np.int32)
            cv2.fillPoly(labels, [corners], value)
        else:
            cv2.ellipse(labels, (x, y), (w // 2 + 1, h // 2 + 1), angle, 0, 360, value, -1)
    return labels


def categories(labels):
    return {
        int(v): segmentation.TOTE if v == TOTE_LABEL else segmentation.OBJECT
        for v in np.unique(labels)
        if v
    }


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Two files of four pictures, and the label maps that they were made from."""
    folder = tmp_path_factory.mktemp("seg") / segmentation.MIX
    maps = [heap(seed) for seed in range(4)]
    with segmentation.SplitWriter(folder, "train", {"seed": 1}) as writer:
        for number, labels in enumerate(maps):
            found = segmentation.annotate(
                labels, categories(labels), {1: {"visibility": 0.5, "product_id": "B0"}}
            )
            writer.add(f"{number:010d}.jpg", labels.shape, found)
    return folder, maps


def load(file):
    return COCO(str(file))


# segmentation


@pytest.mark.parametrize("name", ["train.json", "train-rle.json"])
def test_pycocotools_draws_every_mask_as_the_label_map_has_it(split, name):
    folder, maps = split
    coco = load(folder / name)
    assert sorted(coco.getCatIds()) == [1, 2]
    assert coco.getImgIds() == [1, 2, 3, 4]
    for image_id, labels in enumerate(maps, start=1):
        found = coco.loadAnns(coco.getAnnIds(image_id))
        values = sorted(categories(labels))
        assert len(found) == len(values)
        for value, one in zip(values, found, strict=True):
            mask = labels == value
            drawn = coco.annToMask(one).astype(bool)
            assert (drawn == mask).all()
            assert one["category_id"] == categories(labels)[value]


def test_ids_boxes_and_areas_of_the_two_files_agree_with_the_masks(split):
    folder, _ = split
    polygons, exact = (load(folder / n) for n in ("train.json", "train-rle.json"))
    assert [a["id"] for a in polygons.dataset["annotations"]] == list(
        range(1, len(polygons.anns) + 1)
    )
    for number, one in polygons.anns.items():
        other = exact.anns[number]
        same = {k: v for k, v in one.items() if k != "segmentation"}
        assert same == {k: v for k, v in other.items() if k != "segmentation"}
        rle = exact.annToRLE(other)
        assert one["area"] == int(coco_mask.area(rle))
        assert one["bbox"] == coco_mask.toBbox(rle).tolist()
        assert one["iscrowd"] == 0
        assert all(len(p) >= 6 and len(p) % 2 == 0 for p in one["segmentation"])
    assert {"visibility", "product_id"} <= set(polygons.anns[1])


@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.98))
def test_polygons_of_any_mask_lose_nothing(seed, share):
    mask = np.random.default_rng(seed).random((9, 13)) < share
    if not mask.any():
        return
    drawn = coco_mask.merge(coco_mask.frPyObjects(segmentation.outlines(mask), *mask.shape))
    assert (coco_mask.decode(drawn).astype(bool) == mask).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 90), st.integers(1, 90))
def test_packed_run_lengths_are_those_of_pycocotools(seed, height, width):
    rng = np.random.default_rng(seed)
    mask = cv2.resize(rng.random((7, 7)), (width, height)) < rng.random()
    want = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    assert segmentation.compress_rle(encode_rle(mask)).encode() == want


def test_a_split_without_pictures_is_a_valid_file(tmp_path):
    with segmentation.SplitWriter(tmp_path, "val", {}):
        pass
    assert load(tmp_path / "val.json").getImgIds() == []


def test_a_split_that_fails_half_way_leaves_no_file(tmp_path):
    def fail():
        with segmentation.SplitWriter(tmp_path, "val", {}) as writer:
            writer.add("x.jpg", (4, 4), [])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_coco_file_is_refused_in_words(tmp_path):
    file = tmp_path / "train.json"
    with pytest.raises(ConfigError, match="not readable JSON"):
        segmentation.read_split(file)
    file.write_text('{"images": []}')
    with pytest.raises(ConfigError, match=r"has the keys \['images'\], want"):
        segmentation.read_split(file)


# identification

PICTURE = jpeg.encode(np.full((8, 8, 3), 90, np.uint8))


def write_identification(root):
    container = {"B000000001": {"description": "a"}, "B000000002": {"description": "b"}}
    for pick, names in (("1", files.VIEWS), ("2", files.VIEWS[:2])):
        identification.write_pick(
            root, pick, dict.fromkeys(names, PICTURE), container, {"GT_ID": "B000000001"}
        )
    identification.write_references(root, "B000000001", [PICTURE] * 6)
    identification.write_split(
        root,
        {"train": ["1"], "val": ["3"], "test": ["2"]},
        {"train": ["B000000001"], "val": [], "test": ["B000000002"]},
    )


def test_the_split_has_armbenchs_keys_and_is_plain(tmp_path):
    write_identification(tmp_path)
    want = {
        "trainset": ["1", "3"],
        "testset": ["2"],
        "trainset-objects": ["B000000001"],
        "testset-objects": ["B000000002"],
    }
    assert pickle.loads((tmp_path / "train-test-split.pickle").read_bytes()) == want
    assert identification.read_split(tmp_path) == want
    validation = json.loads((tmp_path / "validation.json").read_text())
    assert validation == {"picks": ["3"], "objects": []}


def test_a_split_file_that_would_run_something_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "caught"),)

    (tmp_path / "train-test-split.pickle").write_bytes(pickle.dumps({"trainset": Trap()}))
    with pytest.raises(ConfigError, match=r"wants to load posix\.mkdir"):
        identification.read_split(tmp_path)
    assert not (tmp_path / "caught").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_ids_in_sets_or_dicts_come_sorted_and_those_in_lists_as_they_are(tmp_path, protocol):
    ids = [f"p{k}" for k in (7, 3, 11, 5)]
    value = OrderedDict(
        {"trainset": ids, "testset": tuple(ids), "trainset-objects": set(ids)}
        | {"testset-objects": frozenset(ids)}
    )
    file = tmp_path / "train-test-split.pickle"
    file.write_bytes(pickle.dumps(value, protocol=protocol))
    found = identification.read_split(tmp_path)
    assert found["trainset"] == found["testset"] == ids
    assert found["trainset-objects"] == found["testset-objects"] == sorted(ids)
    value["testset"] = dict.fromkeys(ids)
    file.write_bytes(pickle.dumps(value, protocol=protocol))
    assert identification.read_split(tmp_path)["testset"] == sorted(ids)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", r"wants to load os\.system"),
        (b"c__builtin__\neval\n(S'1'\ntR.", r"wants to load __builtin__\.eval"),
        (b"cbuiltins\ngetattr\n.", r"wants to load builtins\.getattr"),
        (b"ccollections\ndefaultdict\n.", r"wants to load collections\.defaultdict"),
        (b"cbuiltins\nset\nI1\nR.", "is not readable"),
    ],
)
def test_a_pickle_that_calls_for_more_than_containers_is_refused(tmp_path, code, words):
    (tmp_path / "train-test-split.pickle").write_bytes(code)
    with pytest.raises(ConfigError, match=words):
        identification.read_split(tmp_path)


def test_a_split_that_is_no_container_is_refused(tmp_path):
    value = dict.fromkeys(identification.SPLIT_KEYS, "B000000001")
    (tmp_path / "train-test-split.pickle").write_bytes(pickle.dumps(value))
    with pytest.raises(ConfigError, match="trainset is a str, want a list or set of ids"):
        identification.read_split(tmp_path)


@pytest.mark.parametrize("content", [b"", b"nonsense", pickle.dumps([]), pickle.dumps({})])
def test_a_split_file_without_its_keys_is_refused(tmp_path, content):
    (tmp_path / "train-test-split.pickle").write_bytes(content)
    with pytest.raises(ConfigError, match=r"is not readable|lacks trainset"):
        identification.read_split(tmp_path)


def test_a_pick_comes_back_with_the_views_that_it_has(tmp_path):
    write_identification(tmp_path)
    whole, part = identification.read_picks(tmp_path, ["1", "2", "missing"])
    assert tuple(whole.views) == files.VIEWS
    assert tuple(part.views) == ("PickRGB", "ToteWallRGB")
    assert whole.truth == "B000000001"
    assert whole.manifest == ("B000000001", "B000000002")
    names = [p.name for p in identification.references(tmp_path, "B000000001")]
    assert names == [f"{n}.jpg" for n in range(1, 7)]
    assert identification.references(tmp_path, "B000000002") == []


def test_an_annotation_without_truth_is_refused(tmp_path):
    files.write_json(tmp_path / "Picks" / "1" / "annotation.json", {"gt": 1})
    with pytest.raises(ConfigError, match=r"has the keys \['gt'\], want GT_ID"):
        identification.read_pick(tmp_path, "1")


# defects

INDUCT = "123456789012345678901"


def test_images_of_an_induct_are_named_and_listed_as_armbenchs(tmp_path):
    rows = [
        (PICTURE, {"label": "nominal", "box": [0, 0, 0, 0]}),
        *[(PICTURE, {"label": "multi_pick", "box": [1, 2, 6, 7]})] * 10,
    ]
    defects.write_images(tmp_path, INDUCT, rows)
    defects.write_lists(tmp_path, {"train": [INDUCT], "val": ["5"], "test": []})
    folder = tmp_path / "data" / INDUCT
    annotation = json.loads((folder / f"{INDUCT}_10.json").read_text())
    assert annotation["id"] == f"{INDUCT}_10"
    assert (folder / f"{INDUCT}_10.jpg").is_file()
    with (tmp_path / "train.csv").open(newline="") as f:
        assert list(csv.reader(f)) == [[INDUCT], ["5"]]
    inducts = defects.read_list(tmp_path / "train.csv")
    found = list(defects.read_images(tmp_path, inducts))
    assert [i.path.stem for i in found] == [f"{INDUCT}_{k}" for k in range(11)]
    assert [i.box for i in found[:2]] == [None, (1, 2, 6, 7)]
    assert defects.read_list(tmp_path / "test.csv") == []


def test_an_unknown_label_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="label 'open', want one of multi_pick"):
        defects.write_images(tmp_path, INDUCT, [(PICTURE, {"label": "open"})])
    with pytest.raises(ConfigError, match="label 'multi_pick', want one of nominal"):
        defects.write_video(tmp_path, "1", [], {"label": "multi_pick"})


def test_a_video_is_of_armbenchs_size_and_the_same_bytes_every_time(tmp_path):
    frames = [np.full((*defects.VIDEO_HW, 3), 20 * k, np.uint8) for k in range(6)]
    packed = set()
    for name in ("a", "b"):
        defects.write_video(tmp_path / name, "77", frames, {"label": "open"})
        packed.add((tmp_path / name / "videos" / "77.mp4").read_bytes())
    assert len(packed) == 1
    film = cv2.VideoCapture(str(tmp_path / "a" / "videos" / "77.mp4"))
    size = [film.get(k) for k in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
    assert size == [1280, 560]
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 6
    film.release()
    annotation = json.loads((tmp_path / "a" / "annotations" / "77.json").read_text())
    assert annotation == {"id": "77", "label": "open"}
    assert not list(tmp_path.rglob(".*"))


def test_a_video_of_another_size_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"want \(560, 1280, 3\)"):
        defects.write_video(tmp_path, "1", [np.zeros((8, 8, 3), np.uint8)], {"label": "open"})


# files


def test_what_a_killed_process_left_is_swept_away(tmp_path):
    files.write_bytes(tmp_path / "a" / "x.jpg", b"1")
    files.part_of(tmp_path / "a" / "y.jpg").write_bytes(b"half")
    files.sweep(tmp_path)
    assert [p.name for p in tmp_path.rglob("*.*")] == ["x.jpg"]


def test_a_json_file_that_holds_a_list_is_refused(tmp_path):
    files.write_json(tmp_path / "x.json", [1])
    with pytest.raises(ConfigError, match="holds a list, want an object"):
        files.read_object(tmp_path / "x.json")
