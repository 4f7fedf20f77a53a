from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from robollm.core.errors import ConfigError
from robollm.sim.geometry import look_at, turn
from robollm.sim.render.backdrop_mesh import box
from robollm.sim.render.cycles_env import ENV_VAR, PINS, find_python, make_env
from robollm.sim.render.cycles_process import RenderError, Servant
from robollm.sim.render.cycles_renderer import WORKER, CyclesRenderer, light
from robollm.sim.world import (
    Body,
    Camera,
    Form,
    Item,
    Light,
    Lighting,
    Part,
    Pose,
    Product,
    Scene,
    Shot,
    Surface,
)

HW = (48, 64)
LIGHT = Lighting((Light((0.2, 0.3, -1.0), (0.5, 0.4, 0.3)),), (0.4, 0.4, 0.4))
SHOT = Shot(Camera(look_at((0.2, -0.3, 0.5), (0.03, 0.0, 0.05)), 40.0, HW), LIGHT, seed=2**40)

FAKE = """
import json, os, sys, time
def say(**fields):
    os.write(1, json.dumps(fields).encode() + b"\\n")
mode = {mode!r}
if mode == "no_bpy":
    sys.exit("ModuleNotFoundError: No module named 'bpy'")
say(ok=True, blender="4.5.15")
for line in sys.stdin:
    job = json.loads(line)
    if mode == "dies" and job["job"] == "shoot":
        print("Fra:1 | out of memory", file=sys.stderr, flush=True)
        os._exit(139)
    if mode == "hangs" and job["job"] == "shoot":
        time.sleep(60)
    if mode == "babbles":
        os.write(1, b"Saved: /tmp/x.png\\n")
    if mode == "fails":
        say(ok=False, error="ValueError: no such scene")
        continue
    if mode == "loud":
        print("x" * 200_000, file=sys.stderr, flush=True)
    if job["job"] == "shoot":
        import cv2, numpy
        h, w = job["camera"]["hw"]
        half = mode == "small"
        grey = numpy.full((h // 2 if half else h, w, 3), 65535 // 2, numpy.uint16)
        cv2.imwrite(job["rgb"], grey)
    say(ok=True, got=job)
"""


def product(kind: str = "box") -> Product:
    return Product("B0CYCLES01", "f", kind, "b", "t", "d", (0.1, 0.08, 0.06), 0.1, "train")  # type: ignore[arg-type]


def bodies(product: Product, form: Form) -> Body:
    alpha = 0.2 if product.kind == "clear_bag" else 1.0
    texture = np.full((8, 8, 3), (200, 30, 20), np.uint8)
    return Body((Part(box((0.1, 0.08, 0.06)), Surface(texture, (1.0, 1.0, 1.0, alpha))),), (), 0.1)


SCENE = Scene(
    (
        Item(7, product(), (Pose((0.0, 0.0, 0.04), turn((1.0, 2.0, 3.0), 0.8)),)),
        Item(600, product("clear_bag"), (Pose((0.11, 0.02, 0.03)),)),
    ),
    backdrop="sweep",
)


def fake(folder: Path, mode: str = "works") -> Path:
    """An interpreter that runs a stand-in for the worker, whatever it is told to run."""
    (folder / "fake.py").write_text(FAKE.format(mode=mode))
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{folder}/fake.py"\n')
    python.chmod(0o755)
    return python


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_colours_come_from_the_worker_and_the_rest_from_mujoco(tmp_path: Path) -> None:
    with CyclesRenderer(fake(tmp_path), bodies=bodies) as renderer:
        renderer.load(SCENE)
        picture = renderer.shoot(SCENE, SHOT)
    assert picture.rgb.shape == (*HW, 3)
    assert picture.rgb.dtype == np.uint8
    # Half of the code is 0.214 of the range, 0.856 of light; the film shows 0.828.
    assert np.unique(picture.rgb).tolist() == [234]
    assert set(np.unique(picture.labels)) == {0, 7, 600}
    assert np.isfinite(picture.depth).all()


def test_a_scene_is_sent_once_for_all_of_its_shots(tmp_path: Path) -> None:
    jobs = []
    with CyclesRenderer(fake(tmp_path), bodies=bodies) as renderer:
        ask = renderer._servant.ask
        renderer._servant.ask = lambda job, s: (jobs.append(job["job"]), ask(job, s))[1]  # type: ignore[method-assign]
        other = Scene(SCENE.items[:1], backdrop="sweep")
        renderer.load([SCENE, other])
        for scene in (SCENE, SCENE, other):
            renderer.shoot(scene, SHOT)
    assert jobs == ["load", "shoot", "shoot", "load", "shoot"]


def test_light_goes_over_with_sizes_and_unchanged_strength() -> None:
    near = Light((0.0, 0.0, -1.0), (1.0, 1.0, 1.0), position=(0.0, 0.0, 2.0))
    small, large = (light(Lighting((*LIGHT.lamps, near), softness=s)) for s in (0.0, 1.0))
    assert small["ambient"] == [0.35, 0.35, 0.35]
    far, placed = small["lamps"]
    assert (far["irradiance"], far["position"]) == ([0.5, 0.4, 0.3], None)
    assert placed["position"] == [0.0, 0.0, 2.0]
    assert all(
        a["size_m"] < b["size_m"] for a, b in zip(small["lamps"], large["lamps"], strict=True)
    )
    assert all(
        a["angle_rad"] < b["angle_rad"] for a, b in zip(small["lamps"], large["lamps"], strict=True)
    )


def test_a_worker_that_dies_is_quoted(tmp_path: Path) -> None:
    with CyclesRenderer(fake(tmp_path, "dies"), bodies=bodies) as renderer:
        renderer.load(SCENE)
        with pytest.raises(RenderError, match=r"code 139 at 'shoot'.*\n.*out of memory"):
            renderer.shoot(SCENE, SHOT)
        with pytest.raises(RenderError, match="ended with code 139"):  # and it stays dead
            renderer.shoot(SCENE, SHOT)


def test_a_worker_that_hangs_is_ended(tmp_path: Path) -> None:
    with Servant([str(fake(tmp_path, "hangs"))], name="Blender") as servant:
        servant.ask({"job": "load"}, 20)
        with pytest.raises(RenderError, match=r"did not answer 'shoot' within 0\.2 s") as e:
            servant.ask({"job": "shoot"}, 0.2)
        assert "timeout_s" in e.value.fix
        assert is_gone(servant.pid)


def test_an_environment_without_bpy_says_so_at_once(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match="No module named 'bpy'"):
        CyclesRenderer(fake(tmp_path, "no_bpy"), bodies=bodies)


def test_a_job_that_fails_leaves_the_worker_alive(tmp_path: Path) -> None:
    with Servant([str(fake(tmp_path, "fails"))], name="Blender") as servant:
        for _ in range(2):
            with pytest.raises(RenderError, match="failed at 'load': ValueError: no such scene"):
                servant.ask({"job": "load"}, 20)


def test_what_is_no_answer_is_not_taken_for_one(tmp_path: Path) -> None:
    with (
        Servant([str(fake(tmp_path, "babbles"))], name="Blender") as servant,
        pytest.raises(RenderError, match="want a JSON object"),
    ):
        servant.ask({"job": "load"}, 20)


def test_a_loud_worker_fills_neither_a_pipe_nor_the_disk(tmp_path: Path) -> None:
    with Servant([str(fake(tmp_path, "loud"))], name="Blender") as servant:
        for _ in range(3):
            servant.ask({"job": "load"}, 20)
        assert os.fstat(servant._stderr.fileno()).st_size <= 200_001


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    with CyclesRenderer(fake(tmp_path, "small"), bodies=bodies) as renderer:
        renderer.load(SCENE)
        with pytest.raises(RenderError, match=r"\(24, 64, 3\) uint16, want \(48, 64, 3\) uint16"):
            renderer.shoot(SCENE, SHOT)


def test_closing_ends_the_worker_and_removes_its_files(tmp_path: Path) -> None:
    renderer = CyclesRenderer(fake(tmp_path), bodies=bodies)
    pid, scratch = renderer._servant.pid, Path(renderer._scratch.name)
    renderer.close()
    renderer.close()
    assert is_gone(pid)
    assert not scratch.exists()


@pytest.mark.parametrize("samples", [0, 5000])
def test_a_number_of_samples_out_of_range_is_refused(samples: int) -> None:
    with pytest.raises(ConfigError, match=f"samples is {samples}"):
        CyclesRenderer(samples=samples)


def test_the_interpreter_is_found_by_argument_then_variable_then_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENV_VAR, raising=False)
    with pytest.raises(ConfigError, match="no Python interpreter for Blender") as e:
        find_python()
    assert "robollm sim cycles-env" in e.value.fix
    (tmp_path / ".cycles-venv" / "bin").mkdir(parents=True)
    default = fake(tmp_path / ".cycles-venv" / "bin")
    assert find_python() == default
    (tmp_path / "told").mkdir()
    told = fake(tmp_path / "told")
    monkeypatch.setenv(ENV_VAR, str(told))
    assert find_python() == told
    assert find_python(default) == default
    with pytest.raises(ConfigError, match="as asked for"):
        find_python(tmp_path / "nowhere")


def test_the_environment_is_made_with_exact_pins_and_tried(tmp_path: Path) -> None:
    folder, log = tmp_path / "env", tmp_path / "log"
    base = tmp_path / "python3.11"
    base.write_text(f"""#!/bin/sh
echo "$@" >> "{log}"
if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; fi
""")
    base.chmod(0o755)
    said: list[str] = []
    made = make_env(folder, python=base, say=said.append)
    assert made == folder / "bin" / "python"
    assert log.read_text().splitlines() == [
        f"-m venv {folder}", f"-m pip install {' '.join(PINS)}", "-I -c import bpy",
    ]  # fmt: skip
    assert "950 MB" in said[1]
    assert f"{ENV_VAR}={made}" in said[-1]


def test_a_pip_that_fails_is_a_clear_error(tmp_path: Path) -> None:
    base = tmp_path / "python3.11"
    base.write_text("#!/bin/sh\nexit 1\n")
    base.chmod(0o755)
    with pytest.raises(ConfigError, match="could not make the environment"):
        make_env(tmp_path / "env", python=base, say=lambda text: None)


def test_the_worker_shares_no_code_with_robollm() -> None:
    tree = ast.walk(ast.parse(WORKER.read_text()))
    roots = {
        name.split(".")[0]
        for node in tree
        for name in (
            [a.name for a in node.names] if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip
    assert roots - set(sys.stdlib_module_names) == {"numpy", "bpy"}


@pytest.fixture(scope="module")
def blender() -> Iterator[CyclesRenderer]:
    if not os.environ.get(ENV_VAR):
        pytest.skip(f"{ENV_VAR} names no interpreter with Blender's Python module")
    with CyclesRenderer(samples=4, bodies=bodies) as renderer:
        renderer.load(SCENE)
        yield renderer


def test_blenders_labels_are_mujocos(blender: CyclesRenderer) -> None:
    picture = blender.shoot(SCENE, SHOT)
    _, labels = blender.trace(SCENE, SHOT, ids=True)
    assert labels is not None
    assert (labels == picture.labels).mean() > 0.998
    for value in (0, 7, 600):
        both = ((labels == value) & (picture.labels == value)).sum()
        either = ((labels == value) | (picture.labels == value)).sum()
        assert both / either > 0.98


def test_blender_draws_the_red_box_red_and_the_same_again(blender: CyclesRenderer) -> None:
    one, two = (blender.shoot(SCENE, SHOT) for _ in range(2))
    np.testing.assert_array_equal(one.rgb, two.rgb)
    red, green, blue = one.rgb[one.labels == 7].mean(axis=0)
    assert red > 2 * max(green, blue)


def test_blender_lights_a_white_floor_as_strongly_as_asked(blender: CyclesRenderer) -> None:
    linear, _ = blender.trace(SCENE, SHOT)
    none, _ = blender.trace(SCENE, Shot(SHOT.camera, Lighting((), (0.0, 0.0, 0.0))))
    half, _ = blender.trace(
        SCENE, Shot(SHOT.camera, Lighting(tuple(
            Light(lamp.direction, (0.25, 0.2, 0.15)) for lamp in LIGHT.lamps
        ), (0.2, 0.2, 0.2))),
    )  # fmt: skip
    box = blender.shoot(SCENE, SHOT).labels == 7
    assert linear[box].mean() > 0.05
    assert none[box].mean() < 0.01
    assert half[box].mean() / linear[box].mean() == pytest.approx(0.5, abs=0.05)
