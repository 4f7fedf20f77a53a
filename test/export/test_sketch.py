"""The sketch bundle: its folder, its card, and how its random features behave."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx_kit import TINY, Run, load

from robollm.core.errors import ConfigError, ModelFileError
from robollm.export.detector_graph import DetectorRules
from robollm.export.pictures import Rgb, texture, to_input
from robollm.export.sketch import SketchSize, write_sketch_bundle
from robollm.runtime.bundle import load_bundle

Write = Callable[..., Path]
GRAPHS = ("backbone", "proposals", "rois", "identification", "defects", "regions")


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def surfaces(count: int, hw: tuple[int, int] = (224, 224)) -> list[Rgb]:
    rng = np.random.default_rng(2024)
    return [texture(rng, hw) for _ in range(count)]


def heads(bundle: Path) -> Callable[[list[Rgb]], tuple[NDArray[Any], NDArray[Any]]]:
    """From pictures to embeddings (N, D) and logits (N, 3)."""
    roles = ("backbone", "identification", "defects")
    run: dict[str, Run] = {n: load(bundle / f"{n}.onnx") for n in roles}

    def see(pictures: list[Rgb]) -> tuple[NDArray[Any], NDArray[Any]]:
        tokens = run["backbone"](image=to_input(pictures))
        embedding = run["identification"](cls=tokens["cls"])["embedding"]
        return embedding, run["defects"](map=tokens["map"])["logits"]

    return see


def test_the_same_seed_gives_the_same_bytes(write_tiny: Write) -> None:
    assert content(write_tiny("a", seed=5)) == content(write_tiny("b", seed=5))


def test_another_seed_gives_other_weights(write_tiny: Write) -> None:
    a, b = content(write_tiny("a", seed=5)), content(write_tiny("b", seed=6))
    assert a.keys() == b.keys()
    assert {name for name in a if a[name] == b[name]} == {"regions.onnx"}  # has no weights


def test_the_card_names_every_file_with_size_and_digest(write_tiny: Write) -> None:
    bundle = write_tiny()
    files = content(bundle)
    card = json.loads(files.pop("bundle.json"))
    assert sorted(card["files"]) == sorted(files) == sorted(f"{g}.onnx" for g in GRAPHS)
    for name, data in files.items():
        want = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        assert card["files"][name] == want


def test_the_card_is_sorted_and_says_what_the_sketch_is(write_tiny: Write) -> None:
    text = (write_tiny(seed=3, name="toy")).joinpath("bundle.json").read_text(encoding="utf-8")
    card = json.loads(text)
    assert text == json.dumps(card, indent=2, sort_keys=True) + "\n"
    assert (card["name"], card["status"], card["metrics"]) == ("toy", "untrained", {})
    assert card["input"]["tote"] == {"height": 96, "width": 128, "fit": "letterbox"}
    assert card["labels"]["defects"] == ["multi_pick", "nominal", "package_defect"]
    assert card["embedding"] == {"dim": TINY.embedding}
    assert card["variants"] == {"fp32": {}}
    assert card["detector"] == {"proposals": DetectorRules().proposals}
    assert (card["provenance"]["seed"], card["provenance"]["created"]) == (3, None)


def test_the_command_in_the_card_writes_the_same_bytes(write_tiny: Write, tmp_path: Path) -> None:
    bundle = write_tiny(seed=3, name="it's a toy")
    command = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))["provenance"][
        "command"
    ]
    program, *arguments = shlex.split(command)
    assert program == "python"
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        check=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert content(tmp_path / "bundle") == content(bundle)


def test_the_card_of_the_default_sketch_has_the_command_of_the_cli(sketch: Path) -> None:
    card = json.loads((sketch / "bundle.json").read_text(encoding="utf-8"))
    assert card["provenance"]["command"] == "robollm sketch-bundle --seed 0 --out sketch"


def test_the_runtime_takes_the_bundle_only_when_untrained_is_allowed(write_tiny: Write) -> None:
    folder = write_tiny()
    bundle = load_bundle(folder, allow_untrained=True)
    assert (bundle.tote.hw, bundle.crop.hw, bundle.patch) == ((96, 128), (64, 64), 16)
    with pytest.raises(ModelFileError, match="untrained"):
        load_bundle(folder)


def test_the_graphs_have_the_bindings_that_the_runtime_expects(sketch: Path) -> None:
    levels = ["levels.0", "levels.1", "levels.2"]
    candidates = [*levels, "candidates", "candidate_scores", "candidate_levels"]
    want = {
        "backbone": (["image"], ["map", "cls"]),
        "proposals": (["map"], candidates),
        "rois": ([*candidates, "proposals"], ["boxes", "scores", "labels", "masks"]),
        "identification": (["cls"], ["embedding"]),
        "defects": (["map"], ["logits"]),
        "regions": (["map", "boxes"], ["maps", "cls"]),
    }
    for name, (inputs, outputs) in want.items():
        model = onnx.load(sketch / f"{name}.onnx")
        onnx.checker.check_model(model, full_check=True)
        assert [i.name for i in model.graph.input] == inputs
        assert sorted(o.name for o in model.graph.output) == sorted(outputs)
        assert {n.domain for n in model.graph.node} == {""}
        assert ([o.version for o in model.opset_import], model.ir_version <= 9) == ([17], True)


def test_the_default_sketch_is_small(sketch: Path) -> None:
    assert sum(len(data) for data in content(sketch).values()) < 3e6


def test_different_pictures_have_different_embeddings_of_length_one(sketch: Path) -> None:
    embeddings, _ = heads(sketch)(surfaces(24))
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    cosines = (embeddings @ embeddings.T)[~np.eye(24, dtype=bool)]
    assert cosines.mean() < 0.3
    assert cosines.max() < 0.98


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (lambda p: np.clip(p * 1.08 + 0.02, 0, 1), 0.9),
        (lambda p: np.roll(p, (2, 3), (0, 1)), 0.8),
    ],
    ids=["brighter", "shifted"],
)
def test_a_changed_picture_is_nearer_to_itself_than_to_others(
    sketch: Path, change: Callable[[Rgb], Rgb], least: float
) -> None:
    see, pictures = heads(sketch), surfaces(24)
    before, after = see(pictures)[0], see([change(p) for p in pictures])[0]
    cosines = after @ before.T
    own = np.diag(cosines)
    assert own.mean() > least
    assert (cosines.argmax(1) == np.arange(24)).mean() >= 0.9


def test_the_same_picture_twice_has_cosine_one(sketch: Path) -> None:
    see, pictures = heads(sketch), surfaces(2)
    a, b = see(pictures)[0], see(pictures)[0]
    np.testing.assert_allclose((a * b).sum(1), 1, atol=1e-5)


def test_every_defect_class_wins_for_some_picture(sketch: Path) -> None:
    _, logits = heads(sketch)(surfaces(40))
    assert np.isfinite(logits).all()
    assert (np.bincount(logits.argmax(1), minlength=3) >= 4).all()


def test_a_folder_that_is_no_bundle_is_not_touched(write_tiny: Write, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "bundle.json").write_text('{"format": "holiday pictures"}')
    with pytest.raises(ModelFileError, match=r"no bundle: not overwritten[\s\S]*fix: "):
        write_tiny()
    assert [p.name for p in (tmp_path / "tiny").iterdir()] == ["bundle.json"]


def test_a_canvas_must_be_a_multiple_of_the_patch(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="100 px, want a multiple of 16"):
        write_sketch_bundle(tmp_path / "x", tote_hw=(100, 128))


@pytest.mark.parametrize("size", [{"depth": 0}, {"dim": 97}, {"heads": 5}, {"channels": -1}])
def test_an_impossible_size_is_refused(size: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(size))}|heads"):
        SketchSize(**size)
