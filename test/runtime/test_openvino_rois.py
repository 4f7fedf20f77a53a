"""The RoI heads in OpenVINO: pooled fast, from exact boxes, with ONNX Runtime's answers."""

from __future__ import annotations

import numpy as np
import pytest
from providers_kit import needs_bf16, needs_openvino, plugin

from robollm.core.boxes import iou
from robollm.runtime.bundle import load_bundle
from robollm.runtime.default_bundle import default_bundle
from robollm.runtime.session import Place, Session

pytestmark = needs_openvino
LIMITS = ("proposals", "score_min")
FOUND = ("boxes", "scores", "labels", "masks")
PRECISIONS = ["fp32", pytest.param("bf16", marks=needs_bf16)]


@pytest.fixture(scope="module")
def shipped():
    return load_bundle(default_bundle())


@pytest.fixture(scope="module")
def candidates(shipped):
    """What `proposals` gives of a map of noise: boxes of all sizes, on all levels."""
    names = ("levels.*", "candidates", "candidate_scores", "candidate_levels")
    path = shipped.graphs["proposals"]
    session = Session(path, Place("cpu", threads=1), inputs=("map",), outputs=names)
    shape = session._engine._ort.get_inputs()[0].shape
    noise = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return dict(zip(session.outputs, session.run({"map": noise}), strict=True))


@pytest.fixture
def opened(shipped, candidates, monkeypatch):
    plugin(monkeypatch)

    def make(provider, precision="fp32"):
        place = Place(provider, precision, 1)
        inputs = (*candidates, *LIMITS)
        return Session(shipped.graphs["rois"], place, inputs=inputs, outputs=FOUND)

    return make


def run(session, candidates, count=60, score_min=0.05):
    limits = {"proposals": np.array([count]), "score_min": np.array([score_min], np.float32)}
    return session.run({**candidates, **limits})


def test_in_float32_the_heads_say_what_they_say_in_onnxruntime(opened, candidates):
    ours, reference = opened("openvino"), opened("cpu")
    assert ours.outputs == reference.outputs == FOUND
    for count in (60, 7, 60):
        found, want = run(ours, candidates, count), run(reference, candidates, count)
        assert len(want[0]) > 3
        np.testing.assert_array_equal(found[2], want[2])
        for a, b, within in zip(found, want, (0.01, 1e-4, 0, 1e-3), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=within)


def test_nothing_found_is_no_error(opened, candidates):
    boxes, scores, labels, masks = run(opened("openvino"), candidates, score_min=1.0)
    assert (boxes.shape, scores.shape, labels.shape) == ((0, 4), (0,), (0,))
    assert masks.shape == (0, 28, 28)


@needs_bf16
def test_in_bf16_boxes_are_nearly_where_they_are_in_float32(opened, candidates):
    found, want = (run(opened("openvino", p), candidates) for p in ("bf16", "fp32"))
    overlap = iou(want[0], found[0])
    assert (overlap.max(axis=1) > 0.9).mean() > 0.9
    near = found[0][overlap.argmax(axis=1)]
    assert np.median(np.abs(near - want[0]).max(axis=1)) < 0.5


@pytest.mark.parametrize("precision", PRECISIONS)
def test_pooling_reads_channels_side_by_side_and_boxes_in_float32(opened, precision):
    compiled = opened("openvino", precision)._engine._compiled

    def told(node, key):
        info = node.get_rt_info()[key]
        return str(getattr(info, "value", info))

    layers = compiled.get_runtime_model().get_ops()
    pooled = [op for op in layers if told(op, "layerType") == "ROIAlign"]
    assert pooled
    for op in pooled:
        features, boxes, _ = (value.get_node() for value in op.input_values())
        assert told(features, "layerType") == "Convolution"
        assert told(op, "outputLayouts") != "abcd", "it takes many times as long"
        assert told(boxes, "outputPrecisions") == "f32", "bf16 counts whole pixels from 128 on"
