from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from robollm.core.errors import ConfigError
from robollm.sim.geometry import posed_parts, turn
from robollm.sim.physics.totes import TOTES
from robollm.sim.render.backdrop_mesh import box
from robollm.sim.render.scene_files import export_scene, read_scene, things
from robollm.sim.world import (
    TOTE_LABEL,
    Body,
    Form,
    Gripper,
    Item,
    Part,
    Pose,
    Product,
    Scene,
    Segment,
    Surface,
)

TEXTURE = np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3)
CUBE = Body((Part(box((0.1, 0.08, 0.06)), Surface(TEXTURE, shininess=0.7)),), (), 0.1)
FILM = Part(box((0.2, 0.08, 0.01)), Surface(None, (0.9, 0.9, 1.0, 0.2)), None)
BENT = Body((FILM, Part(box((0.02, 0.02, 0.02)), Surface(TEXTURE), 1)), (), 0.1,
            (Segment(), Segment(0)))  # fmt: skip
TURNED = Pose((0.1, -0.05, 0.2), turn((1.0, 2.0, 3.0), 0.8))


def body_of(product: Product, form: Form) -> Body:
    return BENT if product.kind == "pouch" else CUBE


def product(kind: str) -> Product:
    return Product("B0EXPORT01", "f", kind, "b", "t", "d", (0.1, 0.08, 0.06), 0.1, "train")  # type: ignore[arg-type]


SCENE = Scene(
    (Item(3, product("box"), (TURNED,)), Item(700, product("pouch"), (Pose(), TURNED))),
    TOTES["blue_small"],
    Gripper(Pose((0.0, 0.0, 0.5))),
)


def test_the_vertices_on_disk_are_the_posed_ones(tmp_path: Path) -> None:
    folder = export_scene(SCENE, tmp_path / "deep" / "scene", body_of)
    parts = read_scene(folder)["parts"]
    arrays = np.load(folder / "meshes.npz")
    expected = [v for item in SCENE.items for v in posed_parts(item, body_of(item.product, Form()))]
    assert len(arrays.files) == 3 * len(parts)
    for i, vertices in enumerate(expected):
        np.testing.assert_array_equal(arrays[f"vertices_{i}"], vertices)
    np.testing.assert_array_equal(arrays["faces_0"], CUBE.parts[0].mesh.faces)
    np.testing.assert_array_equal(arrays["uv_0"], CUBE.parts[0].mesh.uv)
    assert [p["label"] for p in parts[:3]] == [3, 700, 700]
    labels = {p["role"]: p["label"] for p in parts[3:]}
    assert labels == {"tote": TOTE_LABEL, "gripper": 0, "backdrop": 0}


def test_looks_are_kept_and_a_texture_is_written_once(tmp_path: Path) -> None:
    folder = export_scene(SCENE, tmp_path / "scene", body_of)
    cube, film, lid = (p["surface"] for p in read_scene(folder)["parts"][:3])
    assert cube["texture"] == lid["texture"]
    assert (cube["shininess"], cube["glow"]) == (0.7, False)
    assert (film["texture"], film["rgba"]) == (None, [0.9, 0.9, 1.0, 0.2])
    pixels = cv2.imread(str(folder / cube["texture"]))
    np.testing.assert_array_equal(pixels[..., ::-1], TEXTURE)


def test_textures_can_be_made_smaller(tmp_path: Path) -> None:
    folder = export_scene(SCENE, tmp_path / "scene", body_of, texture_scale=0.5)
    name = read_scene(folder)["parts"][0]["surface"]["texture"]
    assert cv2.imread(str(folder / name)).shape == (20, 15, 3)


def test_walls_that_glow_say_so(tmp_path: Path) -> None:
    parts = read_scene(export_scene(SCENE, tmp_path / "scene", body_of))["parts"]
    assert {p["role"] for p in parts if p["surface"]["glow"]} == {"backdrop"}
    assert all(0 <= p["surface"]["specular"] <= 1 for p in parts)


def test_the_same_scene_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = (export_scene(SCENE, tmp_path / name, body_of) for name in ("one", "two"))
    names = sorted(p.name for p in one.iterdir())
    assert names == sorted(p.name for p in two.iterdir())
    assert all((one / n).read_bytes() == (two / n).read_bytes() for n in names)


def test_an_older_scene_is_replaced_and_nothing_else_is_left_over(tmp_path: Path) -> None:
    export_scene(SCENE, tmp_path / "scene", body_of)
    export_scene(Scene(()), tmp_path / "scene", body_of)
    assert {p["role"] for p in read_scene(tmp_path / "scene")["parts"]} == {"backdrop"}
    assert [p.name for p in tmp_path.iterdir()] == ["scene"]


def test_a_body_that_fails_leaves_the_older_scene_as_it_was(tmp_path: Path) -> None:
    folder = export_scene(SCENE, tmp_path / "scene", body_of)
    before = (folder / "scene.json").read_bytes()

    def broken(product: Product, form: Form) -> Body:
        raise ConfigError("no such product")

    with pytest.raises(ConfigError, match="no such product"):
        export_scene(SCENE, folder, broken)
    assert (folder / "scene.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scene"]


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="is no exported scene"):
        export_scene(SCENE, tmp_path, body_of)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can't be written"):
        export_scene(SCENE, tmp_path / "file" / "scene", body_of)


@pytest.mark.parametrize("scale", [0.0, 1.5])
def test_a_texture_scale_out_of_range_is_refused(tmp_path: Path, scale: float) -> None:
    with pytest.raises(ConfigError, match="texture_scale"):
        export_scene(SCENE, tmp_path / "scene", body_of, texture_scale=scale)


def test_a_scene_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = export_scene(SCENE, tmp_path / "scene", body_of)
    (folder / "scene.json").write_text(json.dumps({"format": "robollm-scene", "version": 2}))
    with pytest.raises(ConfigError, match="version 2, want 'robollm-scene' version 1"):
        read_scene(folder)


def test_everything_in_a_scene_is_listed_with_the_backdrop_last() -> None:
    roles = [t.role for t in things(SCENE, body_of)]
    assert roles == ["item", "item", "tote", "gripper", "backdrop"]
