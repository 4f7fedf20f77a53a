import dataclasses
import os
import shutil
import stat
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_kit import TINY, load
from tensorrt_kit import BACKBONES, backbone, images, kinds

from robollm.cli.tensorrt import command
from robollm.core.errors import ConfigError, ModelFileError
from robollm.export.graphs import Graph
from robollm.export.sketch import write_sketch_bundle
from robollm.export.tensorrt import engines
from robollm.export.tensorrt.coverage import check
from robollm.export.tensorrt.operators import OPERATORS
from robollm.export.tensorrt.quantised import has_unsigned, signed
from robollm.export.tensorrt.static import fix_shapes, study
from robollm.export.variants import to_int8_static
from robollm.runtime.bundle import load_bundle
from robollm.runtime.providers import tensorrt_options
from robollm.runtime.shapes import backbone_profiles, covering

SHAPE_ARITHMETIC = {"Shape", "Range", "Resize", "Cast", "Relu"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    write_sketch_bundle(folder, size=TINY, tote_hw=(96, 128), crop_hw=(64, 64))
    return load_bundle(folder, allow_untrained=True)


# --- static graphs ------------------------------------------------------------------------------


@pytest.mark.parametrize("options", BACKBONES.values(), ids=BACKBONES)
def test_a_backbone_of_one_size_computes_the_same_without_shape_arithmetic(options):
    model = backbone(**options)
    feed = {"image": images(2, 3, 96, 160)}
    if "adapters" in options:
        feed["task"] = np.array([1, 0])
    fixed = fix_shapes(model, {name: value.shape for name, value in feed.items()})
    assert not kinds(fixed) & (SHAPE_ARITHMETIC - {"Relu"} if "task" in feed else SHAPE_ARITHMETIC)
    assert kinds(fixed) <= kinds(model)
    want, got = load(model)(**feed), load(fixed)(**feed)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, atol=3e-6)
    dims = fixed.graph.output[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims] == [2, 16, 6, 10]


def test_proposals_of_one_canvas_compute_the_same_without_shape_arithmetic(bundle):
    model = onnx.load(bundle.graphs["proposals"])
    grid = images(1, TINY.dim, 6, 8)
    fixed = fix_shapes(model, {"map": grid.shape})
    assert not kinds(fixed) & {"Shape", "Range", "Cast"}
    want, got = load(model)(map=grid), load(fixed)(map=grid)
    assert want.keys() == got.keys()
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, atol=1e-5)


def test_some_axes_may_stay_open():
    g = Graph("open")
    x = g.input("x", ["N", "W"])
    g.op("Add", x, g.op("Cast", g.dim(x, 1), to=TensorProto.FLOAT), out="y")
    g.output("y", ["N", "W"])
    facts = study(g.model())
    assert facts.shape("y") == (None, None)
    fixed = fix_shapes(g.model(), {"x": [2, 3]})
    assert kinds(fixed) == {"Add"}
    np.testing.assert_array_equal(load(fixed)(x=np.zeros((2, 3), np.float32))["y"], 3)


@pytest.mark.parametrize(
    "shapes", [{"x": [1, 3, 64, 64]}, {"image": [1, 4, 64, 64]}, {"image": [3, 64, 64]}]
)
def test_a_shape_that_does_not_fit_is_refused(shapes):
    with pytest.raises(ModelFileError, match="image"):
        fix_shapes(backbone(), shapes)


# --- 8 bits ------------------------------------------------------------------------------------


def test_int8_is_made_symmetric_for_tensorrt_and_stays_close():
    model = backbone()
    feed = {"image": images(1, 3, 64, 64)}
    unsigned = to_int8_static(model, [feed])
    symmetric = signed(unsigned)
    assert has_unsigned(unsigned)
    assert check(unsigned, {"image": [1, 3, 64, 64]})
    assert not has_unsigned(symmetric)
    assert check(symmetric, {"image": [1, 3, 64, 64]}) == []
    exact, got = load(model)(**feed)["cls"], load(symmetric)(**feed)["cls"]
    assert np.corrcoef(exact.ravel(), got.ravel())[0, 1] > 0.99
    fixed = fix_shapes(symmetric, {"image": [1, 3, 64, 64]})
    eight = [t for t in fixed.graph.initializer if t.data_type == TensorProto.INT8]
    assert len([t for t in eight if len(t.dims) == 2]) == 18  # 6 matrices in each of 3 blocks


# --- shapes and commands -----------------------------------------------------------------------


def test_the_backbone_has_one_profile_for_totes_and_one_for_crops(bundle):
    with_adapters = dataclasses.replace(bundle, adapters=("identification",))
    profiles = backbone_profiles(with_adapters, batch_max=10, totes=2)
    assert profiles == {
        "tote": {"image": ((1, 3, 96, 128), (2, 3, 96, 128), (2, 3, 96, 128)),
                 "task": ((1,), (2,), (2,))},
        "crops": {"image": ((1, 3, 64, 64), (10, 3, 64, 64), (10, 3, 64, 64)),
                  "task": ((1,), (10,), (10,))},
    }  # fmt: skip
    whole = covering(profiles.values())
    assert whole["image"] == ((1, 3, 64, 64), (2, 3, 96, 128), (10, 3, 96, 128))
    assert whole["task"] == ((1,), (2,), (10,))
    # the same words for ONNX Runtime as for trtexec
    options = tensorrt_options("fp16", "", whole)
    assert options["trt_profile_max_shapes"] == "image:10x3x96x128,task:10"
    assert engines.shapes_text(whole, 2) == options["trt_profile_max_shapes"]


@pytest.mark.parametrize("sizes", [{"batch_max": 0}, {"totes": 0}])
def test_a_batch_of_nothing_is_refused(bundle, sizes):
    with pytest.raises(ConfigError, match="want at least 1"):
        backbone_profiles(bundle, **sizes)


def test_tensorrt_takes_the_sketch_but_for_what_depends_on_the_boxes(bundle):
    plan = engines.plan(bundle, "fp32")
    assert {role for role, found in plan.findings.items() if found} == {"rois"}
    assert {f.operator for f in plan.findings["rois"]} == {"NonMaxSuppression", "NonZero"}


def test_one_engine_holds_both_sizes_of_the_backbone(bundle, tmp_path):
    plan = engines.plan(bundle, "fp32", batch_max=8)
    first, second, *_ = plan.engines
    assert first.command(bundle.folder, tmp_path) == [
        "trtexec",
        f"--onnx={bundle.graphs['backbone']}",
        f"--saveEngine={tmp_path}/backbone-fp32.engine",
        f"--timingCacheFile={tmp_path}/timing.cache",
        "--stronglyTyped",
        "--skipInference",
        "--profile=0",
        "--minShapes=image:1x3x96x128",
        "--optShapes=image:1x3x96x128",
        "--maxShapes=image:1x3x96x128",
        "--profile=1",
        "--minShapes=image:1x3x64x64",
        "--optShapes=image:8x3x64x64",
        "--maxShapes=image:8x3x64x64",
    ]
    # the sketch's proposals are for any canvas: they are fixed to the tote's
    assert (second.role, second.profiles) == ("proposals", {})
    assert second.command(bundle.folder, tmp_path)[1:3] == [
        f"--onnx={tmp_path}/proposals-fp32-tote.onnx",
        f"--saveEngine={tmp_path}/proposals-fp32-tote.engine",
    ]
    assert {e.role for e in plan.engines} == set(bundle.graphs) - {"rois", "regions"}


def test_totes_can_have_a_static_engine_of_their_own(bundle):
    plan = engines.plan(bundle, "fp32", static=True)
    tote, crops = (e for e in plan.engines if e.role == "backbone")
    assert not kinds(tote.graph) & {"Shape", "Range"}
    assert list(crops.profiles) == ["crops"]
    assert "--profile=0" not in crops.options()


def test_an_axis_of_an_unknown_name_is_refused(bundle, tmp_path):
    g = Graph("odd")
    g.op("Relu", g.input("cls", ["many", 4]), out="y")
    g.output("y", ["many", 4])
    shutil.copytree(bundle.folder, tmp_path / "odd")
    (tmp_path / "odd" / "identification.onnx").write_bytes(g.model().SerializeToString())
    graphs = {role: tmp_path / "odd" / path.name for role, path in bundle.graphs.items()}
    fp32 = dataclasses.replace(bundle.variants["fp32"], graphs=graphs)
    bundle = dataclasses.replace(bundle, variants={"fp32": fp32})
    with pytest.raises(ModelFileError, match="axes many"):
        engines.plan(bundle, "fp32")


@pytest.fixture
def trtexec(tmp_path, monkeypatch):
    """A program of that name that notes its arguments, and makes the engine unless told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "trtexec"
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/calls\n'
        'for a in "$@"; do case "$a" in --onnx=*) test -f "${a#*=}" || exit 9;; '
        '--saveEngine=*) echo plan > "${a#*=}";; esac; done\n'
        "exit ${TRTEXEC_CODE:-0}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "calls"


def invoke(*arguments):
    command([str(a) for a in arguments], standalone_mode=False)


def test_the_script_builds_what_the_command_would(bundle, tmp_path, trtexec, capsys):
    out = tmp_path / "a folder"
    invoke(bundle.folder, "--precision", "fp32", "--out", out, "--dry-run")
    assert not trtexec.exists()
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(line.startswith("trtexec ") for line in lines)
    script = out / "build_engines.sh"
    assert script.stat().st_mode & stat.S_IXUSR
    subprocess.run([script, bundle.folder], check=True)
    by_script = trtexec.read_text()
    built = sorted(p.name for p in out.glob("*.engine"))
    assert len(built) == len(bundle.graphs.keys() - {"rois", "regions"})
    trtexec.unlink()
    invoke(bundle.folder, "--precision", "fp32", "--out", out)
    assert trtexec.read_text() == by_script


@pytest.fixture
def small_plan(monkeypatch):
    """One engine from a graph that is quickly checked."""

    def plan(bundle, precision, **_):
        file = bundle.graphs["identification"].name
        engine = engines.Engine("identification-fp32", "identification", file, None, {})
        return engines.Plan([engine], {role: [] for role in engines.TRUNK})

    monkeypatch.setattr(engines, "plan", plan)


@pytest.mark.usefixtures("small_plan")
def test_without_trtexec_the_script_is_written_and_the_user_is_told(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelFileError, match="no engine was built"):
        invoke(bundle.folder, "--precision", "fp32", "--out", tmp_path / "e")
    assert (tmp_path / "e" / "build_engines.sh").is_file()


@pytest.mark.usefixtures("small_plan")
def test_a_failing_trtexec_is_an_error(bundle, tmp_path, trtexec, monkeypatch):
    monkeypatch.setenv("TRTEXEC_CODE", "3")
    with pytest.raises(ModelFileError, match="ended with 3 for identification-fp32"):
        invoke(bundle.folder, "--precision", "fp32", "--out", tmp_path / "e")
    assert len(trtexec.read_text().splitlines()) == 1


def test_a_precision_that_the_bundle_lacks_is_refused(bundle, tmp_path):
    with pytest.raises(ModelFileError, match="no variant 'fp16'"):
        invoke(bundle.folder, "--out", tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_a_trunk_that_tensorrt_does_not_take_is_refused(bundle, tmp_path, monkeypatch):
    monkeypatch.delitem(OPERATORS, "Conv")
    with pytest.raises(ModelFileError, match="does not take backbone and proposals"):
        invoke(bundle.folder, "--precision", "fp32", "--out", tmp_path / "e")
    assert not (tmp_path / "e").exists()
