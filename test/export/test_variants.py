"""What half precision and 8 bits keep of a graph, and what they cost in bytes and exactness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_kit import load
from onnxruntime.quantization import QuantType, quantize_dynamic

from robollm.core.errors import ConfigError, ModelFileError
from robollm.export import roi_graph as roi
from robollm.export import variants
from robollm.export.beit3_graph import EncoderShape, build_backbone
from robollm.export.graphs import Array, Graph
from robollm.export.head_graphs import build_defects
from robollm.export.sketch_weights import encoder_weights
from robollm.export.variants import to_fp16, to_int8_dynamic, to_int8_static

SHAPE = EncoderShape(96, 2, 384, 16, 14, 3)


def noise(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


FEEDS = [{"image": noise(i, 1, 3, 64, 96)} for i in range(3)]


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return build_backbone(encoder_weights(np.random.default_rng(0), SHAPE), heads=3, window=3)


@pytest.fixture(scope="module")
def variant(model: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    return {
        "fp16": to_fp16(model),
        "int8": to_int8_dynamic(model),
        "int8-static": to_int8_static(model, FEEDS),
    }


def far(a: Array, b: Array) -> float:
    """1 - cosine of the whole arrays."""
    return 1 - float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


@pytest.mark.parametrize(
    ("name", "share", "limit"),
    [("fp16", 0.52, 1e-5), ("int8", 0.51, 5e-3), ("int8-static", 0.51, 5e-3)],
)
def test_a_variant_is_smaller_and_close_at_every_size(
    model: onnx.ModelProto,
    variant: dict[str, onnx.ModelProto],
    name: str,
    share: float,
    limit: float,
) -> None:
    small = variant[name]
    onnx.checker.check_model(small, full_check=True)
    assert len(small.SerializeToString()) < share * len(model.SerializeToString())
    run, reference = load(small), load(model)
    for size in ((1, 3, 64, 96), (2, 3, 112, 80)):
        image = noise(9, *size)
        got, want = run(image=image), reference(image=image)
        for output in ("map", "cls"):
            assert got[output].dtype == np.float32
            assert 0 < far(got[output], want[output]) < limit


def test_every_variant_has_the_names_and_operators_of_standard_onnx(
    model: onnx.ModelProto, variant: dict[str, onnx.ModelProto]
) -> None:
    for small in variant.values():
        for kind in ("input", "output"):
            assert list(getattr(small.graph, kind)) == list(getattr(model.graph, kind))
        assert {n.domain for n in small.graph.node} == {""}
        assert [(o.domain, o.version) for o in small.opset_import] == [("", 17)]


def test_a_variant_has_the_same_bytes_each_time(
    model: onnx.ModelProto, variant: dict[str, onnx.ModelProto]
) -> None:
    before = model.SerializeToString(deterministic=True)
    again = {
        "fp16": to_fp16(model),
        "int8": to_int8_dynamic(model),
        "int8-static": to_int8_static(model, iter(FEEDS)),
    }
    for name, small in variant.items():
        one, other = (m.SerializeToString(deterministic=True) for m in (small, again[name]))
        assert one == other
    assert model.SerializeToString(deterministic=True) == before


def test_dynamic_int8_equals_that_of_onnx_runtimes_own_tool(
    model: onnx.ModelProto,
    variant: dict[str, onnx.ModelProto],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    layers = [n.name for n in model.graph.node if n.op_type == "MatMul" and "weight" in n.input[1]]
    assert len(layers) == 6 * SHAPE.depth
    path = tmp_path / "small.onnx"
    with caplog.at_level("ERROR"):
        quantize_dynamic(
            model, path, per_channel=True, weight_type=QuantType.QInt8, nodes_to_quantize=layers
        )
    image = noise(5, 1, 3, 96, 96)
    want, got = load(path)(image=image), load(variant["int8"])(image=image)
    assert far(got["map"], want["map"]) < 2e-5


def test_only_linear_layers_are_brought_to_8_bits(
    model: onnx.ModelProto, variant: dict[str, onnx.ModelProto]
) -> None:
    kinds = {n.op_type for n in variant["int8-static"].graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv", "MatMul"} <= kinds
    for name in ("int8", "int8-static"):
        stored = {t.name: t for t in variant[name].graph.initializer}
        assert stored["patch_embed.weight"].data_type == onnx.TensorProto.FLOAT
        weight = numpy_helper.to_array(stored["blocks.0.mlp.fc1.weight/int8"])
        scale = numpy_helper.to_array(stored["blocks.0.mlp.fc1.weight/scale"])
        full = {t.name: t for t in model.graph.initializer}["blocks.0.mlp.fc1.weight"]
        assert weight.dtype == np.int8
        assert (np.abs(weight).max(axis=0) == 127).all()  # the whole range of every channel
        off = np.abs(weight * scale - numpy_helper.to_array(full))
        assert (off <= 0.5 * scale * (1 + 1e-5)).all()


def test_half_precision_keeps_sums_and_softmax_in_float32(
    variant: dict[str, onnx.ModelProto],
) -> None:
    inferred = onnx.shape_inference.infer_shapes(variant["fp16"])
    kinds = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    for node in inferred.graph.node:
        if node.op_type in ("LayerNormalization", "Softmax"):
            assert kinds[node.output[0]] == onnx.TensorProto.FLOAT
        if node.op_type == "MatMul":
            assert kinds[node.output[0]] == onnx.TensorProto.FLOAT16


def test_half_precision_survives_tokens_whose_squares_do_not_fit() -> None:
    norm = np.ones(8, np.float32), np.zeros(8, np.float32)
    model = build_defects(norm, noise(0, 3, 8), noise(1, 3))
    seen = 3e4 * noise(2, 2, 8, 5, 5)
    want, got = load(model)(map=seen)["logits"], load(to_fp16(model))(map=seen)["logits"]
    np.testing.assert_allclose(got, want, atol=0.02)


def test_half_precision_puts_large_boxes_on_the_level_of_their_size() -> None:
    g = Graph("pool")  # level i holds the number i
    levels = [g.input(f"levels.{i}", [1, 1, f"h{i}", f"w{i}"]) for i in range(4)]
    boxes = g.input("boxes", ["n", 4])
    boxes = g.op("Mul", boxes, g.scalar(2.0))
    rows, which = roi.pool(g, levels, boxes, strides=(4, 8, 16, 32), finest=56, side=1, sampling=1)
    roi.in_order(g, rows, which, out="level")
    g.op("Identity", boxes, out="candidates")
    g.output("level", ["n", 1, 1, 1])
    g.output("candidates", ["n", 4])
    maps = {f"levels.{i}": np.full((1, 1, 256 >> i, 256 >> i), i, np.float32) for i in range(4)}
    sides = np.array([50, 120, 250, 300, 440, 600], np.float32)  # 300 x 300 is beyond float16
    far = np.stack([0 * sides, 0 * sides, sides, sides + 0.3], axis=1) / 2
    got = load(to_fp16(g.model()))(**maps, boxes=far)
    assert got["level"].ravel().tolist() == [0, 1, 2, 2, 2, 3]
    np.testing.assert_array_equal(got["candidates"], 2 * far)


def test_an_activation_outside_of_what_was_seen_is_clipped() -> None:
    g = Graph("one")
    g.linear(g.input("x", ["n", 1]), np.ones((1, 1), np.float32), None, "layer", out="y")
    g.output("y", ["n", 1])
    run = load(to_int8_static(g.model(), [{"x": np.linspace(-1, 3, 9, dtype=np.float32)[:, None]}]))
    got = run(x=np.array([[-5], [0], [1.5], [9]], np.float32))["y"].ravel()
    np.testing.assert_allclose(got, [-1, 0, 1.5, 3], atol=0.02)
    assert got[1] == 0


def test_no_pictures_and_broken_pictures_are_refused(model: onnx.ModelProto) -> None:
    with pytest.raises(ConfigError, match="no picture to take ranges from"):
        to_int8_static(model, [])
    with pytest.raises(ConfigError, match="'backbone' gave NaN or infinity for a calibration"):
        to_int8_static(model, [{"image": np.full((1, 3, 32, 32), np.nan, np.float32)}])


def test_a_graph_without_linear_layers_is_refused() -> None:
    g = Graph("none")
    g.op("Relu", g.input("x", ["n"]), out="y")
    g.output("y", ["n"])
    with pytest.raises(ModelFileError, match="'none' has no linear layer"):
        to_int8_dynamic(g.model())


def test_a_model_beyond_protobufs_limit_is_refused(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "LARGEST", 1000)
    for call in (to_fp16, to_int8_dynamic):
        with pytest.raises(ModelFileError, match=r"'backbone' has .* GiB, protobuf takes less"):
            call(model)
