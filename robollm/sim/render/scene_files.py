"""A scene as files that any renderer can read: meshes in the world, textures, looks and labels.

A folder of three kinds of files, format "robollm-scene", version 1:

- scene.json: {"format", "version", "units": "m", "up": "z", "parts": [...]}. A part is
  {"name", "role": "item" | "tote" | "gripper" | "backdrop", "label": value in label maps,
  "surface": {"texture": file name or null, "rgba": four numbers from 0 to 1, sRGB, times the
  texture, "specular", "shininess": as in world.Surface, "glow": true if it shows its own colour
  whatever the light}}.
- meshes.npz: for part i `vertices_i` float32 [N, 3], m, in the world; `faces_i` int32 [M, 3],
  counter-clockwise seen from outside; `uv_i` float32 [N, 2], (0, 0) = the texture's top left
  pixel; textures repeat outside of 0 to 1.
- texture_K.png: 8-bit sRGB, each once, however many parts wear it.

Cameras and lamps are not in it: they belong to a shot, and a scene has many.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np

from robollm.core.errors import ConfigError
from robollm.data.armbench_files import read_object, write_json
from robollm.sim.geometry import posed_vertices
from robollm.sim.physics.totes import tote_body
from robollm.sim.render.backdrop import GLOW, BackdropKey, GripperKey, backdrop_body, gripper_body
from robollm.sim.world import TOTE_LABEL, U8, Body, Form, Pose, Product, Scene

FORMAT, VERSION = "robollm-scene", 1
_TEXELS_MIN = 8

Bodies = Callable[[Product, Form], Body]


class Thing(NamedTuple):
    """A body in its place. `poses`: one per segment, as in world.Item."""

    name: str
    role: Literal["item", "tote", "gripper", "backdrop"]
    label: int
    body: Body
    poses: tuple[Pose, ...]


def things(scene: Scene, body_of: Bodies) -> Iterator[Thing]:
    """Yield all that there is in a scene, the backdrop last."""
    for item in scene.items:
        name = f"{item.instance}-{item.product.id}-{item.form.kind}"
        yield Thing(
            name, "item", item.instance, body_of(item.product, item.form), item.poses
        )  # fmt: skip
    if scene.tote is not None:
        yield Thing("tote", "tote", TOTE_LABEL, tote_body(scene.tote), (Pose(),))
    if scene.gripper is not None:
        body = gripper_body(GripperKey(scene.gripper.cups, scene.gripper.colour))
        yield Thing("gripper", "gripper", 0, body, (scene.gripper.pose,))
    body = backdrop_body(BackdropKey(scene.backdrop, scene.backdrop_seed))
    yield Thing(scene.backdrop, "backdrop", 0, body, (Pose(),))


def export_scene(
    scene: Scene, folder: Path, body_of: Bodies, *, texture_scale: float = 1.0
) -> Path:
    """Write a scene. The folder appears complete or not at all; same scene, same bytes.

    Args:
        scene: what to write.
        folder: where; an older scene there is replaced.
        body_of: what a product looks like in a form, such as bodies.body_of.
        texture_scale: factor on all textures' sides, in (0, 1].

    Returns:
        `folder`.

    Raises:
        ConfigError: if `folder` holds something that is not a scene, or can't be written, or
            `texture_scale` is out of range.
    """
    if not 0 < texture_scale <= 1:
        raise ConfigError(f"texture_scale is {texture_scale}, want above 0 and up to 1")
    if folder.exists() and not (folder / "scene.json").is_file():
        raise ConfigError(
            f"{folder} exists and is no exported scene", fix="name a folder that doesn't exist"
        )
    part = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old.tmp")
    try:
        part.mkdir(parents=True)
        _write(scene, part, body_of, texture_scale)
        if folder.exists():
            folder.replace(old)
        part.replace(folder)
    except OSError as e:
        raise ConfigError(
            f"the scene can't be written to {folder}: {e}", fix="choose another folder"
        ) from e
    finally:
        for rest in (part, old):
            shutil.rmtree(rest, ignore_errors=True)
    return folder


def read_scene(folder: Path) -> dict[str, Any]:
    """Return scene.json of an exported scene, its format checked.

    Raises:
        ConfigError: if it is missing, damaged or of another format or version.
    """
    scene = read_object(folder / "scene.json")
    seen = (scene.get("format"), scene.get("version"))
    if seen != (FORMAT, VERSION):
        raise ConfigError(
            f"{folder} is {seen[0]!r} version {seen[1]!r}, want {FORMAT!r} version {VERSION}",
            fix="export the scene again",
        )
    return scene


def _write(scene: Scene, folder: Path, body_of: Bodies, texture_scale: float) -> None:
    arrays: dict[str, Any] = {}
    parts: list[dict[str, Any]] = []
    textures: dict[str, str] = {}
    for thing in things(scene, body_of):
        for k, part in enumerate(thing.body.parts):
            i, surface = len(parts), part.surface
            arrays[f"vertices_{i}"] = posed_vertices(part, thing.body, thing.poses)
            arrays[f"faces_{i}"] = np.asarray(part.mesh.faces, np.int32)
            arrays[f"uv_{i}"] = np.asarray(part.mesh.uv, np.float32)
            glow = surface.specular == GLOW
            texture = None
            if surface.texture is not None:
                texture = _texture(surface.texture, folder, textures, texture_scale)
            parts.append(
                {
                    "name": f"{thing.name}-{k}",
                    "role": thing.role,
                    "label": thing.label,
                    "surface": {
                        "texture": texture,
                        "rgba": [float(v) for v in surface.rgba],
                        "specular": 0.0 if glow else float(surface.specular),
                        "shininess": float(surface.shininess),
                        "glow": glow,
                    },
                }
            )
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    (folder / "meshes.npz").write_bytes(buffer.getvalue())
    head = {"format": FORMAT, "version": VERSION, "units": "m", "up": "z"}
    write_json(folder / "scene.json", {**head, "parts": parts}, indent=1)


def _texture(pixels: U8, folder: Path, known: dict[str, str], scale: float) -> str:
    """Write a texture unless it is there, and return its file name."""
    key = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    if key not in known:
        known[key] = f"texture_{len(known)}.png"
        if scale < 1:
            h, w = (max(_TEXELS_MIN, round(side * scale)) for side in pixels.shape[:2])
            small = cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA)
            pixels = np.asarray(small, np.uint8)
        done, png = cv2.imencode(".png", pixels[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        assert done
        (folder / known[key]).write_bytes(png.tobytes())
    return known[key]
