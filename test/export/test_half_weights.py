"""Weights in half the bytes: what is rounded and when, and that packing itself loses nothing."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from exported_kit import write_three
from onnx import TensorProto, numpy_helper
from onnx_kit import load

from robollm.core.errors import ConfigError, ModelFileError
from robollm.export.beit3_graph import EncoderShape, build_backbone
from robollm.export.build import build_graphs
from robollm.export.collect import Collected, collect
from robollm.export.export import Order, export
from robollm.export.graphs import Array, Graph
from robollm.export.half_weights import LEAST, NORMAL, SAME, pack, round_weights, to_half
from robollm.export.sketch_weights import encoder_weights
from robollm.export.variants import to_int8_dynamic
from robollm.runtime.bundle import load_bundle
from robollm.runtime.session import Place, Session

ENGINES = ["cpu", "openvino"]
CANVAS = "val_dataloader.dataset.canvas_hw"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """A detector, three views with adapters, sequences with references and adapters."""
    return write_three(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def parts(runs: tuple[Path, ...]) -> Collected:
    """Read only."""
    return collect(runs)


@pytest.fixture(scope="module")
def halved(
    runs: tuple[Path, ...], drawn: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A bundle with half the bytes and another tote canvas, and what its export measured."""
    out = tmp_path_factory.mktemp("half") / "bundle"
    order = Order(
        runs=runs, data=drawn, out=out, weights="half", variants=("int8",), threads=1,
        max_loss=100.0, changes=(f"{CANVAS}=(128, 160)",),
    )  # fmt: skip
    return out, export(order)


def stored(model: onnx.ModelProto) -> dict[str, Array]:
    """Name -> what a graph computes with, packed or not."""
    found = {}
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float16:
            value = value.astype(np.float32)
        found[tensor.name.removesuffix("/half")] = value
    return found


def run(model: onnx.ModelProto, provider: str, feed: dict[str, Array], folder: Path) -> list[Array]:
    """In a runtime of the nodes; outputs by name."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    names = sorted(o.name for o in model.graph.output)
    return Session(path, Place(provider, "fp32", 1), inputs=[*feed], outputs=names).run(feed)


def linear(weight: Array) -> onnx.ModelProto:
    """x (n, I) to x @ weight (n, O)."""
    g = Graph("linear")
    g.linear(g.input("x", ["n", len(weight)]), weight.T, None, "layer", out="y")
    g.output("y", ["n", weight.shape[1]])
    return g.model()


# --- packing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ENGINES)
def test_every_number_of_float16_is_read_back_exactly(provider: str, tmp_path: Path) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)].astype(np.float32)
    weight = finite[: len(finite) // 64 * 64].reshape(
        -1, 64
    )  # tiny ones below the normal range too
    model = pack(linear(weight))
    assert len(model.SerializeToString()) < 0.51 * weight.nbytes
    (got,) = run(model, provider, {"x": np.eye(len(weight), dtype=np.float32)}, tmp_path)
    np.testing.assert_array_equal(got, weight)


@pytest.mark.parametrize("provider", ENGINES)
def test_a_packed_backbone_computes_bit_for_bit_the_same(provider: str, tmp_path: Path) -> None:
    shape = EncoderShape(96, 2, 384, 16, 14, 3)
    weights = encoder_weights(np.random.default_rng(0), shape)
    rounded = {k: to_half(v).astype(np.float32) for k, v in weights.items()}
    full = build_backbone(rounded, heads=3, window=3)
    before = full.SerializeToString(deterministic=True)
    small = pack(full)
    assert full.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(small, full_check=True)
    assert small.ByteSize() < 0.56 * full.ByteSize()
    feed = {"image": np.random.default_rng(1).uniform(-1, 1, (2, 3, 64, 96)).astype(np.float32)}
    for got, want in zip(*(run(m, provider, feed, tmp_path) for m in (small, full)), strict=True):
        np.testing.assert_array_equal(got, want)


def test_small_constants_vectors_and_what_float16_cannot_hold_stay_float32() -> None:
    g = Graph("constants")
    rows = LEAST // 32
    kinds = {
        "matrix": (np.ones((32, rows)), TensorProto.FLOAT16),
        "vector": (np.ones(4 * LEAST), TensorProto.FLOAT),
        "small": (np.ones((32, rows - 1)), TensorProto.FLOAT),
        "third": (np.full((32, rows), 1 / 3), TensorProto.FLOAT),
        "one third": (np.ones((32, rows)) - np.eye(32, rows) * 2 / 3, TensorProto.FLOAT),
        "huge": (np.full((32, rows), 1e6), TensorProto.FLOAT),
        "off by a bit": (np.full((32, rows), 1 + 2.0**-23), TensorProto.FLOAT16),
        "infinite": (np.full((32, rows), np.inf), TensorProto.FLOAT),
    }
    for name, (value, _) in kinds.items():
        g.const(value.astype(np.float32), name)
    g.const(np.ones((32, rows), np.int64), "whole")
    g.op("Identity", g.input("x", ["n"]), out="y")
    g.output("y", ["n"])
    found = {t.name.removesuffix("/half"): t.data_type for t in pack(g.model()).graph.initializer}
    assert found == {"whole": TensorProto.INT64} | {name: kind for name, (_, kind) in kinds.items()}


def test_packing_twice_is_packing_once() -> None:
    once = pack(linear(np.ones((32, 32), np.float32)))
    assert pack(once) == once


_WEIGH = """
import ctypes
import gc
import sys
from pathlib import Path
import numpy as np
import onnxruntime
from robollm.runtime.session import Place, Session
def mib():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024
def settled():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return mib()
before = settled()
session = Session(Path(sys.argv[1]), Place("cpu", "fp32", 1), inputs=("x",), outputs=("y",))
for rows in (1, 9):
    session.run({"x": np.ones((rows, 2048), np.float32)})
print(settled() - before)
"""


def test_a_loaded_graph_needs_no_more_memory_for_being_packed(tmp_path: Path) -> None:
    g = Graph("deep")
    x = g.input("x", ["n", 2048])
    noise = np.random.default_rng(0).uniform(-1, 1, (2048, 2048)).astype(np.float32)
    weight = to_half(noise / 64).astype(np.float32)
    for i in range(3):
        x = g.linear(x, np.roll(weight, i), None, f"layer.{i}")
    g.op("Identity", x, out="y")
    g.output("y", ["n", 2048])
    full = g.model()
    used = {}
    for name, model in {"full": full, "half": pack(full)}.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(model.SerializeToString())
        command = [sys.executable, "-c", _WEIGH, str(path)]
        # The least of three, and the heap trimmed: what an allocator keeps for later is no weight.
        runs = [
            subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(3)
        ]
        used[name] = min(float(done.stdout) for done in runs)
    assert used["full"] > 45, "the weights are in memory: 48 MiB"
    assert used["half"] < used["full"] + 3


# --- rounding -----------------------------------------------------------------------------------


def nearest(value: float) -> float:
    """What float16 makes of a number, by Python's own conversion."""
    number: float = struct.unpack("e", struct.pack("e", value))[0]
    return number


def test_matrices_become_float16s_numbers_and_nothing_else_changes(parts: Collected) -> None:
    before = {k: v.clone() for k, v in parts.encoder.state_dict().items()}
    rounded, report = round_weights(parts)
    assert report.kept == ()
    assert report.largest_relative_error <= 2.0**-11
    assert report.largest_error_below_normal <= 2.0**-25
    low = 0
    for name, old in before.items():
        assert torch.equal(parts.encoder.state_dict()[name], old)  # a copy was rounded
        new = rounded.encoder.state_dict()[name]
        large = old.ndim > 1 and old.numel() >= LEAST
        if not large:
            assert torch.equal(new, old)
            continue
        factor = 0.6 if ".up." in name else 0.25 if ".attn.q." in name else 1.0  # 16 per head
        scaled = [float(v) for v in (old * np.float32(factor)).flatten()]
        want = np.array([nearest(v) for v in scaled])
        np.testing.assert_allclose((new * np.float32(factor)).flatten(), want, rtol=SAME)
        low += sum(0 < abs(v) < NORMAL for v in scaled)
    assert 0 < low <= report.below_normal
    assert rounded.detector.backbone.encoder is rounded.encoder


def test_rounding_again_changes_nothing(parts: Collected) -> None:
    once, _ = round_weights(parts)
    twice, report = round_weights(once)
    assert report.largest_relative_error <= SAME
    for name, value in once.encoder.state_dict().items():
        torch.testing.assert_close(twice.encoder.state_dict()[name], value, rtol=SAME, atol=0)


def test_a_weight_beyond_float16s_range_is_refused(runs: tuple[Path, ...]) -> None:
    for value, said in ((65520.0, "65520, float16 ends at 65504"), (float("nan"), "nan")):
        parts = collect(runs)
        with torch.no_grad():
            parts.encoder.blocks[1].mlp.fc1.weight[2, 3] = value
        with pytest.raises(ModelFileError, match=rf"encoder\.blocks\.1\.mlp\.fc1\.weight.*{said}"):
            round_weights(parts)


def test_a_weight_that_is_mostly_below_the_normal_range_stays_float32(
    runs: tuple[Path, ...],
) -> None:
    parts = collect(runs)
    tiny = parts.encoder.blocks[0].mlp.fc2.weight
    with torch.no_grad():
        tiny *= 1e-5 / tiny.std()
    rounded, report = round_weights(parts)
    assert report.kept == ("encoder.blocks.0.mlp.fc2.weight",)
    assert torch.equal(rounded.encoder.blocks[0].mlp.fc2.weight, tiny)
    backbone = pack(build_graphs(rounded)["backbone"])
    kinds = {t.name: t.data_type for t in backbone.graph.initializer}
    assert kinds["blocks.0.mlp.fc2.weight"] == TensorProto.FLOAT
    assert kinds["blocks.0.mlp.fc1.weight/half"] == TensorProto.FLOAT16


# --- an export ----------------------------------------------------------------------------------


def test_an_export_stores_every_rounded_weight_in_half_the_bytes(
    halved: tuple[Path, dict[str, Any]], runs: tuple[Path, ...]
) -> None:
    bundle = load_bundle(halved[0])
    rounded, _ = round_weights(collect(runs, (f"{CANVAS}=(128, 160)",)))
    for role, want in build_graphs(rounded).items():
        got = onnx.load(bundle.graphs[role])
        onnx.checker.check_model(got, full_check=True)
        values = stored(got)
        for name, value in stored(want).items():
            np.testing.assert_allclose(values[name], value, rtol=SAME, err_msg=f"{role} {name}")
        left = {t.name for t in got.graph.initializer if t.data_type == 1 and len(t.dims) > 1
                and np.prod(t.dims) >= LEAST}  # fmt: skip
        assert {name.partition(".")[0] for name in left} <= {"anchors"}
    assert halved[1]["bytes"] == sum(p.stat().st_size for p in halved[0].iterdir())


def test_int8_is_made_of_the_rounded_weights(
    halved: tuple[Path, dict[str, Any]], runs: tuple[Path, ...]
) -> None:
    bundle = load_bundle(halved[0])
    rounded, _ = round_weights(collect(runs))
    want = to_int8_dynamic(build_graphs(rounded)["backbone"])
    got = onnx.load(bundle.variant("int8").graphs["backbone"])
    assert {"MatMulInteger", "Cast"} <= {n.op_type for n in got.graph.node}
    assert got.ByteSize() < 0.95 * want.ByteSize()  # what int8 leaves in float is packed, too
    image = np.random.default_rng(2).uniform(-1, 1, (2, 3, 32, 32)).astype(np.float32)
    task = np.array([0, 2])
    outputs = [load(model)(image=image, task=task)["map"] for model in (got, want)]
    np.testing.assert_allclose(*outputs, atol=1e-5)


def test_the_card_says_what_rounding_did(halved: tuple[Path, dict[str, Any]]) -> None:
    weights = json.loads((halved[0] / "bundle.json").read_text())["provenance"]["weights"]
    assert weights == halved[1]["weights"]
    assert weights["storage"] == "half"
    assert 0 < weights["largest_relative_error"] <= 4.89e-4
    assert weights["kept_float32"] == []
    assert 0 < weights["moved"]["map"] < 5e-3
    assert 0 < weights["moved"]["embedding"] < 1e-4
    assert 0 < weights["moved"]["logits"] < 0.05


def test_another_tote_canvas_is_exported_and_said(
    halved: tuple[Path, dict[str, Any]], parts: Collected
) -> None:
    card = json.loads((halved[0] / "bundle.json").read_text())
    assert parts.tote.hw == (96, 128)
    assert load_bundle(halved[0]).tote.hw == (128, 160)
    made = [run["changes"] for run in card["provenance"]["runs"]]
    assert made == [[f"{CANVAS}=(128, 160)"], [], []]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (f"{CANVAS}=(100, 160)", "160x100 px, want sides that 32 divides"),
        ("val_dataloader.dataset.canvas_wh=(128, 160)", "has the key 'val_dataloader.dataset.canv"),
        ("model.backbone.encoder.0=1", "has the key 'model.backbone.encoder.0'"),
        ("val_dataloader.dataset.size", "no KEY=VALUE"),
        ("train_dataloader.batch_size=3", "doesn't depend on 'train_dataloader.batch_size'"),
        ("val_dataloader.dataset.split=val", "--split has the last word on 'split'"),
    ],
)
def test_a_change_that_changes_nothing_good_is_refused(
    change: str, words: str, runs: tuple[Path, ...]
) -> None:
    with pytest.raises(ConfigError, match=words):
        collect(runs, (change,))


def test_the_command_passes_weights_and_changes_on(
    runs: tuple[Path, ...], drawn: Path, tmp_path: Path, robollm: Callable[..., Any]
) -> None:
    words = ("export", *runs, "--data", drawn, "--out", tmp_path / "b", "--weights", "half")
    said = robollm(*words, "--threads", 1, "--set", f"{CANVAS}=(64, 96)", "--totes", 1)
    assert said.code == 0
    assert "weights half)" in said.out
    assert load_bundle(tmp_path / "b").tote.hw == (64, 96)


def test_unknown_ways_to_store_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="weights is 'quarter', want full or half"):
        Order(runs=(tmp_path,), data=tmp_path, out=tmp_path, weights="quarter")
