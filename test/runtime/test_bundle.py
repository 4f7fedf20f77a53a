from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robollm.core.errors import ModelFileError
from robollm.runtime.bundle import GRAPHS, MORE_GRAPHS, Bundle, file_sha256, load_bundle

ONNX = [f"{role}.onnx" for role in GRAPHS]


@pytest.fixture
def folder(sketch_bundle, tmp_path):
    return Path(shutil.copytree(sketch_bundle, tmp_path / "bundle"))


def edit(folder, path, value):
    """Set one value of bundle.json, `path` with dots; `...` deletes the key."""
    card = json.loads((folder / "bundle.json").read_text())
    *parents, last = path.split(".")
    at = card
    for key in parents:
        at = at[key]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    (folder / "bundle.json").write_text(json.dumps(card))


def refusal(folder, **options):
    with pytest.raises(ModelFileError) as e:
        load_bundle(folder, **({"allow_untrained": True} | options))
    assert e.value.fix, "every refusal says what to do"
    return e.value.what


# a good one


def test_the_sketch_bundle_is_read_whole(sketch_bundle):
    got = load_bundle(sketch_bundle, allow_untrained=True)
    assert set(GRAPHS) <= set(got.graphs) <= {*GRAPHS, *MORE_GRAPHS}
    assert all(p.is_file() for p in got.graphs.values())
    assert got.variant("fp32").graphs == got.graphs
    assert got.sha256 == file_sha256(sketch_bundle / "bundle.json")
    assert set(got.thresholds.defects) == set(got.defect_labels) - {"nominal"}
    assert not got.trained
    assert got.title == f"{got.name} {got.version} ({got.sha256[:12]}) UNTRAINED"


def test_a_trained_bundle_needs_no_leave_and_bears_no_mark(folder):
    edit(folder, "status", "trained")
    got = load_bundle(folder)
    assert got.trained
    assert "UNTRAINED" not in got.title


def test_random_weights_need_leave(sketch_bundle):
    what = refusal(sketch_bundle, allow_untrained=False)
    assert "random weights" in what


def test_a_variant_shares_the_files_that_it_has_none_of_its_own_for(folder):
    card = json.loads((folder / "bundle.json").read_text())
    card["variants"]["int8"] = {
        "graphs": {"backbone": "defects.onnx"}, "parity": {"map": {"max": 0.1}},
        "metrics": {"recall@1": 0.5}, "loss": {"recall@1": 0.3},
    }  # fmt: skip
    (folder / "bundle.json").write_text(json.dumps(card))
    got = load_bundle(folder, allow_untrained=True)
    int8 = got.variant("int8")
    assert int8.graphs == {**got.graphs, "backbone": folder / "defects.onnx"}
    assert (int8.metrics, int8.loss) == ({"recall@1": 0.5}, {"recall@1": 0.3})
    assert list(got.variants) == ["fp32", "int8"]
    with pytest.raises(ModelFileError, match="has no variant 'fp16', it has fp32, int8") as e:
        got.variant("fp16")
    assert "--variants fp32,fp16" in e.value.fix


@pytest.mark.parametrize(
    ("path", "value", "changes"),
    [
        ("name", "other", False),
        ("variants.bf16", {}, False),
        ("detector.proposals", 7, False),
        ("adapters", ["identification"], True),
        ("thresholds.segmentation.score_min", 0.9, False),
        ("input.tote.height", 384, False),
        ("input.mean", [0.4, 0.5, 0.5], True),
        ("input.std", [0.4, 0.5, 0.5], True),
        ("input.crop.fit", "stretch", True),
        ("input.crop.height", 224, True),
    ],
)
def test_a_gallery_belongs_to_what_makes_an_embedding_and_to_nothing_else(
    sketch_bundle, folder, path, value, changes
):
    edit(folder, path, value)
    old, new = (load_bundle(f, allow_untrained=True) for f in (sketch_bundle, folder))
    assert old.sha256 != new.sha256
    assert (old.embedding_sha256 != new.embedding_sha256) == changes


def test_a_digest_is_what_hashlib_says_of_the_whole_file(tmp_path):
    raw = bytes(range(256)) * 9000  # more than one block
    (tmp_path / "f").write_bytes(raw)
    assert file_sha256(tmp_path / "f") == hashlib.sha256(raw).hexdigest()


# damaged files


@pytest.mark.parametrize("name", ONNX)
@pytest.mark.parametrize("where", [0, 0.5, 1])
def test_one_flipped_byte_is_noticed(folder, name, where):
    raw = bytearray((folder / name).read_bytes())
    raw[int(where * (len(raw) - 1))] ^= 1
    (folder / name).write_bytes(raw)
    what = refusal(folder)
    assert name in what
    assert "damaged" in what


@pytest.mark.parametrize("name", ONNX)
@pytest.mark.parametrize("change", [b"", b"+"])
def test_a_file_of_another_length_is_noticed(folder, name, change):
    raw = (folder / name).read_bytes()
    (folder / name).write_bytes(raw + change if change else raw[:-1])
    what = refusal(folder)
    assert name in what
    assert f"want {len(raw)}" in what


@pytest.mark.parametrize("name", ONNX)
def test_a_missing_file_is_noticed(folder, name):
    (folder / name).unlink()
    assert f"{name} is missing" in refusal(folder)


def test_a_folder_without_a_card_is_no_bundle(tmp_path):
    assert "there is no bundle.json" in refusal(tmp_path)
    assert "there is no bundle.json" in refusal(tmp_path / "nowhere")


# a card that is none


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"not json"])
def test_a_card_that_is_no_json_is_refused(folder, raw):
    (folder / "bundle.json").write_bytes(raw)
    assert "is not JSON" in refusal(folder)


@pytest.mark.parametrize("raw", [b"null", b"[]", b"3", b'{"format": "robollm-gallery"}', b"{}"])
def test_foreign_json_is_refused(folder, raw):
    (folder / "bundle.json").write_bytes(raw)
    assert "is not a robollm bundle" in refusal(folder)


@pytest.mark.parametrize("version", [0, 1, 3, "2", None])
def test_another_format_version_is_refused(folder, version):
    edit(folder, "format_version", version)
    assert f"format_version {version!r}, this robollm reads 2" in refusal(folder)


@pytest.mark.parametrize(
    "path",
    [
        "name", "version", "status", "files", "graphs", "graphs.defects", "input.mean",
        "input.std", "input.patch", "input.tote", "input.crop.fit", "input.channel_order",
        "embedding.dim", "labels.defects", "labels.segmentation",
        "thresholds.segmentation.mask_min", "thresholds.identification.temperature",
        "thresholds.defects.multi_pick", "thresholds.defects.temperature",
        "variants", "detector", "identification.views", "adapters", "opset",
    ],
)  # fmt: skip
def test_a_missing_key_is_refused_by_name(folder, path):
    edit(folder, path, ...)
    assert path.rpartition(".")[2] in refusal(folder)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("status", "fine", "status is 'fine'"),
        ("graphs.backbone", "nothing.onnx", "without a file: ['nothing.onnx']"),
        ("graphs.rois", ..., "graphs lacks ['rois']"),
        ("graphs.segmentation", "rois.onnx", "has unknown ['segmentation']"),
        ("variants", {}, "want 'fp32' among them"),
        ("variants.fp8", {}, "variant 'fp8'"),
        ("variants.int8", {"graphs": {"backbone": "lost.onnx"}}, "without a file: ['lost.onnx']"),
        ("variants.int8", {"graphs": {"fusion": "rois.onnx"}}, "variant 'int8' has graphs"),
        ("variants.int8", {"loss": {"recall@1": "much"}}, "malformed"),
        ("detector.proposals", 0, "detector.proposals is 0"),
        ("detector.proposals", 64.0, "detector.proposals is 64.0"),
        ("identification.views", ["PickRGB"], "want names with a fusion graph"),
        ("adapters", ["sorting"], "adapters is ['sorting']"),
        ("adapters", ["defects", "defects"], "want tasks, each once"),
        ("variants.fp32", {"graphs": {"rois": "backbone.onnx"}}, "'fp32' has graphs of its own"),
        ("graphs.backbone", ["backbone.onnx"], "malformed"),
        ("files", [], "malformed"),
        ("files", "backbone.onnx", "malformed"),
        ("input.channel_order", "bgr", "channel_order is 'bgr'"),
        ("input.patch", 0, "patch is 0"),
        ("input.patch", -16, "patch is -16"),
        ("input.patch", 16.5, "patch is 16.5"),
        ("input.tote.height", 100, "input.tote is"),
        ("input.tote.width", 0, "input.tote is"),
        ("input.crop.height", "96", "input.crop is"),
        ("input.crop.fit", "cover", "input.crop.fit is 'cover'"),
        ("opset", 99, "opset is 99, want 17"),
        ("opset", 16, "opset is 16, want 17"),
        ("opset", "17", "opset is '17', want 17"),
        ("input.mean", [0.5, 0.5], "malformed"),
        ("input.mean", [0.5, 0.5, float("nan")], "input.mean is [0.5, 0.5, nan], want 0 to 1"),
        ("input.mean", [123.7, 116.3, 103.5], "input.mean is [123.7, 116.3, 103.5], want 0 to 1"),
        ("input.mean", [-0.1, 0.5, 0.5], "input.mean"),
        ("input.std", [0.5, 0.5, 0], "input.std is [0.5, 0.5, 0], want more than 0.001 and at"),
        ("input.std", [0.5, 0.5, -0.5], "input.std"),
        ("input.std", [1e-30, 0.5, 0.5], "input.std"),
        ("input.std", [58.4, 57.1, 57.4], "most 10"),
        ("input.std", [0.5, float("inf"), 0.5], "input.std"),
        ("input.std", 0.5, "malformed"),
        ("embedding.dim", 0, "embedding.dim is 0"),
        ("embedding.dim", 1.5, "embedding.dim is 1.5"),
        ("labels.defects", ["multi_pick", "package_defect"], "labels.defects"),
        ("labels.defects", ["nominal"], "labels.defects"),
        ("labels.defects", ["nominal", "torn", "torn"], "labels.defects"),
        ("labels.defects", ["nominal", "torn"], "the key 'torn' is missing"),
        ("labels.segmentation", [], "labels.segmentation is empty"),
        ("thresholds.segmentation.score_min", 1.1, "score_min is 1.1, want 0 to 1"),
        ("thresholds.segmentation.mask_min", float("nan"), "mask_min is nan"),
        ("thresholds.identification.accept", -1.5, "accept is -1.5"),
        ("thresholds.identification.margin", 3, "margin is 3"),
        ("thresholds.identification.temperature", 0, "temperature is 0"),
        ("thresholds.defects.multi_pick", 0, "multi_pick is 0"),
        ("thresholds.defects.multi_pick", 1, "multi_pick is 1"),
        ("thresholds.defects.multi_pick", "x", "malformed"),
        ("thresholds.defects.temperature", -1, "temperature is -1"),
        ("thresholds.defects.temperature", 10**400, "malformed"),
        ("thresholds.over_views", {"multi_pick": "most"}, "has 'multi_pick': 'most', want of"),
        ("thresholds.over_views", {"nominal": "any"}, "has 'nominal': 'any', want of multi_pick"),
        ("thresholds.over_views", ["any"], "malformed"),
        ("provenance", 7, "malformed"),
    ],
)
def test_a_value_that_contradicts_itself_is_shown(folder, path, value, words):
    edit(folder, path, value)
    assert words in refusal(folder)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("input.mean", [0, 1, 0.456]),
        ("input.std", [1 / 255, 1, 10]),  # for a model that wants 0 to 255
    ],
)
def test_means_and_deviations_of_other_models_are_fine(folder, path, value):
    edit(folder, path, value)
    bundle = load_bundle(folder, allow_untrained=True)
    assert getattr(bundle, path.removeprefix("input.")) == tuple(value)


@pytest.mark.parametrize(
    "views", [[], ["ToteWallRGB"], ["PickRGB", "PickRGB"], ["PickRGB", "image"]]
)
def test_views_that_a_fusion_graph_can_not_have_are_refused(folder, views):
    edit(folder, "graphs.fusion", "rois.onnx")
    edit(folder, "identification.views", views)
    assert "want names with a fusion graph" in refusal(folder)


@pytest.mark.parametrize("name", ["../backbone.onnx", "/etc/passwd", "sub/backbone.onnx", "."])
def test_a_file_name_that_leaves_the_folder_is_refused(folder, name):
    (folder.parent / "backbone.onnx").write_bytes((folder / "backbone.onnx").read_bytes())
    card = json.loads((folder / "bundle.json").read_text())
    card["files"][name] = card["files"]["backbone.onnx"]
    card["graphs"]["backbone"] = name
    (folder / "bundle.json").write_text(json.dumps(card))
    assert "leaves the folder" in refusal(folder)


@pytest.fixture(scope="module")
def scratch(sketch_bundle, tmp_path_factory):
    return Path(shutil.copytree(sketch_bundle, tmp_path_factory.mktemp("flipped") / "bundle"))


def bundle_or_fix(folder):
    try:
        return load_bundle(folder, allow_untrained=True)
    except ModelFileError as e:
        return e.fix


@given(at=st.floats(0, 0.9999), bit=st.integers(0, 7))
def test_a_flipped_bit_in_the_card_is_refused_or_harmless_but_never_a_traceback(
    sketch_bundle, scratch, at, bit
):
    raw = bytearray((sketch_bundle / "bundle.json").read_bytes())
    raw[int(at * len(raw))] ^= 1 << bit
    (scratch / "bundle.json").write_bytes(raw)
    outcome = bundle_or_fix(scratch)
    assert isinstance(outcome, Bundle) or outcome
