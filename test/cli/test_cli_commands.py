from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from robollm import __version__
from robollm.core.masks import decode_rle
from robollm.runtime.bundle import load_bundle

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"onnxruntime", "faiss", "cv2", "onnx", "numpy", "rclpy", "torch", "rosbags"}


@pytest.fixture(scope="module")
def tote(tmp_path_factory):
    """A tote as a JPEG."""
    from robollm.export.pictures import tote

    rgb = (tote(np.random.default_rng(5), (360, 480)) * 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("tote") / "tote.jpg"
    assert cv2.imwrite(str(path), rgb[..., ::-1])
    return path


def loaded_by(*words):
    """Names of the modules that `robollm WORDS` loads, in a process of its own."""
    code = (
        f"import sys; sys.argv = {['robollm', *words]!r}\n"
        "from robollm.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "print('\\n'.join(['MODULES', *sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split("MODULES\n")[1].split())


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["predict", "--help"]])
def test_asking_for_help_loads_nothing_heavy(words):
    assert not loaded_by(*words) & HEAVY


def test_the_version_is_the_packages(robollm):
    done = robollm("--version")
    assert (done.code, done.out) == (0, f"robollm, version {__version__}\n")


# errors


@pytest.mark.parametrize(
    "words",
    [
        ["segment", "nothing.jpg"],
        ["segment", "{tote}", "--bundle", "{tmp}"],
        ["segment", "{tote}", "--bundle", "{bundle}"],
        ["segment", "{tote}", "--bundle", "{bundle}", "--score-min", "nan", "--allow-untrained"],
        ["segment", "{tote}", "--bundle", "{bundle}", "--allow-untrained",
         "--draw", "{tmp}/nowhere/x.png"],
        ["segment", "{tote}", "--bundle", "{bundle}", "--allow-untrained", "--draw", "{tmp}/x.txt"],
        ["bundle", "{tmp}"],
        ["gallery", "build", "--images", "{tmp}", "--out", "{tmp}/g"],
        ["gallery", "build", "--images", "{tmp}", "--out", "{tmp}/g", "--bundle", "{bundle}",
         "--allow-untrained"],
        ["sketch-bundle", "--out", "{tmp}"],
    ],
    ids=lambda words: " ".join(words),
)  # fmt: skip
def test_a_mistake_is_two_lines_and_exit_code_2(robollm, tmp_path, tote, sketch_bundle, words):
    (tmp_path / "something.txt").write_text("not ours")
    places = {"tote": tote, "tmp": tmp_path, "bundle": sketch_bundle}
    done = robollm(*(w.format(**places) for w in words))
    assert done.code == 2
    assert done.out == ""
    what, fix = done.err.splitlines()
    assert what.startswith("error: ")
    assert fix.startswith("  fix: ")


@pytest.mark.parametrize(
    "words",
    [
        ["nothing"],
        ["segment"],
        ["segment", "x.jpg", "--score-min", "2"],
        ["segment", "x.jpg", "--provider", "gpu"],
        ["segment", "x.jpg", "--max-instances", "0"],
        ["segment", "x.jpg", "--scoremin", "0.5"],
        ["gallery", "build", "--out", "g"],
        ["demo-data", "--out", "d", "--picks", "501"],
        ["demo-data", "--out", "d", "--storage", "zip"],
        ["generate", "--root", "/does/not/exist"],
    ],
    ids=" ".join,
)
def test_a_misuse_shows_the_usage_and_exit_code_2(robollm, words):
    done = robollm(*words)
    assert done.code == 2
    assert "Usage:" in done.err
    assert done.out == ""


# segment


def segment(robollm, tote, bundle, *more):
    done = robollm(
        "segment", tote, "--bundle", bundle, "--allow-untrained", "--score-min", "0.3", *more
    )
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_the_masks_of_an_image_decode_and_lie_inside_their_boxes(robollm, tote, sketch_bundle):
    card = segment(robollm, tote, sketch_bundle)
    assert card["image"] == str(tote)
    assert card["bundle"].endswith("UNTRAINED")
    assert set(card["ms"]) == {"preprocess", "backbone", "proposals", "rois", "masks"}
    assert card["precision"] == "fp32"
    assert "onnxruntime" in card["where"]["rois"]
    assert len(card["instances"]) >= 2, "the sketch sees something, or this test proves nothing"
    scores = [one["score"] for one in card["instances"]]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 0.3
    for one in card["instances"]:
        x1, y1, x2, y2 = one["box_xyxy"]
        assert 0 <= x1 < x2 <= 480
        assert 0 <= y1 < y2 <= 360
        assert one["label"] == "object"
        assert one["rle"]["size"] == [360, 480]
        mask = decode_rle(one["rle"]["counts"], (360, 480))
        ys, xs = np.nonzero(mask)
        if len(xs):
            assert x1 - 1 <= xs.min() <= xs.max() <= x2
            assert y1 - 1 <= ys.min() <= ys.max() <= y2
    assert any(sum(one["rle"]["counts"][1::2]) for one in card["instances"])


def test_fewer_instances_are_printed_when_asked_for(robollm, tote, sketch_bundle):
    every = segment(robollm, tote, sketch_bundle)["instances"]
    best = segment(robollm, tote, sketch_bundle, "--max-instances", "1")["instances"]
    assert best == every[:1]


def test_the_drawing_bears_the_mark_of_random_weights(robollm, tote, sketch_bundle, tmp_path):
    segment(robollm, tote, sketch_bundle, "--draw", tmp_path / "drawn.png")
    picture = cv2.imread(str(tmp_path / "drawn.png"))
    assert picture.shape[1] == 480
    assert picture.shape[0] > 360, "the banner is above the picture"


# bundle, sketch-bundle, demo-data


def test_a_bundle_is_shown_with_a_warning_when_untrained(robollm, sketch_bundle):
    done = robollm("bundle", sketch_bundle)
    assert done.code == 0
    assert "UNTRAINED" in done.err
    card = json.loads(done.out)
    got = load_bundle(sketch_bundle, allow_untrained=True)
    assert (card["sha256"], card["embedding_sha256"]) == (got.sha256, got.embedding_sha256)
    assert card["metrics"] == "not measured"
    assert list(card["variants"]) == ["fp32"]
    assert card["variants"]["fp32"]["loss_points"] == "not measured"
    assert (card["tote"]["height"], card["tote"]["width"]) == got.tote.hw


def test_the_variants_of_a_bundle_are_shown_with_what_they_lose(robollm, sketch_bundle, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(sketch_bundle, bundle)
    card = json.loads((bundle / "bundle.json").read_text())
    card["variants"]["bf16"] = {"loss": {"recall@1": 0.2}, "metrics": {"recall@1": 0.8}}
    card["variants"]["int8"] = {"graphs": {"backbone": "defects.onnx"}}
    (bundle / "bundle.json").write_text(json.dumps(card))
    got = json.loads(robollm("bundle", bundle).out)["variants"]
    assert got["bf16"]["loss_points"] == {"recall@1": 0.2}
    assert got["bf16"]["mbytes"] == got["fp32"]["mbytes"]
    assert got["int8"]["own_graphs"] == {"backbone": "defects.onnx"}
    assert got["int8"]["mbytes"] < got["fp32"]["mbytes"]


@pytest.mark.parametrize(
    ("verb", "function", "words", "want"),
    [
        ("sketch-bundle", "robollm.export.sketch.write_sketch_bundle",
         ["--seed", "3"], {"seed": 3}),
        ("demo-data", "robollm.sim.demo_bag.write_demo",
         ["--seed", "5", "--picks", "2", "--storage", "sqlite3"],
         {"seed": 5, "picks": 2, "storage": "sqlite3"}),
    ],
)  # fmt: skip
def test_a_writing_verb_passes_its_options_on(
    robollm, monkeypatch, tmp_path, verb, function, words, want
):
    calls = []
    monkeypatch.setattr(function, lambda out, **options: calls.append((out, options)))
    done = robollm(verb, "--out", tmp_path / "x", *words)
    assert done.code == 0
    assert done.out == ""
    ((out, options),) = calls
    assert out == tmp_path / "x"
    assert {k: options[k] for k in want} == want
