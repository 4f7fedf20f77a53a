"""Blender Cycles as a servant: reads jobs from stdin, one JSON object a line, answers likewise.

This file is a program of its own and must not import robollm, nor be imported by it. Blender's
Python module (bpy) is under the GPL-3 and needs NumPy 1, so it lives in another environment and
another process; all that the two share are the lines below and files.

    {"job": "load", "scene": FOLDER}    -> {"ok": true, "meshes": 12}    (see scene_files.py)
    {"job": "shoot", "camera": {"position", "quaternion", "fovy_deg", "hw"},
     "lamps": [{"direction", "position" | null, "irradiance", "size_m", "angle_rad"}],
     "ambient": [r, g, b], "samples": 8, "seed": 0, "range": 4.0,
     "rgb": PNG, "ids": PNG | null}     -> {"ok": true, "seconds": 1.2}
    {"job": "quit"}                     -> {"ok": true}, and the process ends

A job that fails is answered {"ok": false, "error": "..."}, and the next one may come. The first
line, unasked, is {"ok": true, "blender": "4.5.15"}. Light is relative: an irradiance of 1 (or an
ambient of 1) makes a white matte surface that faces it shine with 1. `rgb` is a 16-bit PNG: linear
light divided by `range`, sRGB-encoded; the film is the caller's. `ids` is an 8-bit RGB PNG with
label = 256 * red + green, where clear film is a thing like all others.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

# Blender writes on file descriptor 1 whenever it likes: keep the real one, and send the rest to
# where nobody mistakes it for an answer. Before bpy is imported, because that writes too.
ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)

import bpy  # type: ignore[import-not-found] # noqa: E402

FORMAT, VERSION = "robollm-scene", 1
_FILM = 0.95  # surfaces with less alpha than this are clear film
_IOR = 1.45  # of plastic
# Our camera looks along +z with y down, Blender's along -z with y up.
_FLIP = np.diag([1.0, -1.0, -1.0])


def _answer(**fields: Any) -> None:
    ANSWERS.write(json.dumps(fields) + "\n")
    ANSWERS.flush()


def _linear(rgb: Any) -> list[float]:
    """Return the linear light of sRGB values from 0 to 1."""
    v = np.asarray(rgb, np.float64)
    return [float(x) for x in np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)]


def _matrix(quaternion: list[float]) -> Any:
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _place(thing: Any, rotation: Any, position: Any) -> None:
    """Set a Blender object's pose, rows of a 4x4 matrix."""
    m = np.eye(4)
    m[:3, :3], m[:3, 3] = rotation, position
    thing.matrix_world = [list(row) for row in m.T]  # Blender takes columns


def _facing(direction: Any) -> Any:
    """Return a rotation that turns -z, where Blender's lamps shine, to `direction`."""
    z = -np.asarray(direction, np.float64)
    z /= np.linalg.norm(z)
    x = np.cross([0.0, 1.0, 0.0] if abs(z[1]) < 0.9 else [1.0, 0.0, 0.0], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


def _material(name: str, surface: dict[str, Any], folder: Path) -> Any:
    """Plastic, cardboard or paper as a Principled BSDF; clear film lets most light through."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    principled, out = nodes["Principled BSDF"], nodes["Material Output"]
    *rgb, alpha = surface["rgba"]
    tint = [*_linear(rgb), 1.0]
    roughness = min(0.95, max(0.06, 1 - surface["shininess"]))
    principled.inputs["Roughness"].default_value = roughness
    principled.inputs["Specular IOR Level"].default_value = min(
        1.0, 0.2 + 0.8 * surface["specular"]
    )
    principled.inputs["Base Color"].default_value = tint
    if surface["texture"]:
        image = nodes.new("ShaderNodeTexImage")
        image.image = bpy.data.images.load(str(folder / surface["texture"]), check_existing=True)
        image.extension = "REPEAT"
        mix = nodes.new("ShaderNodeVectorMath")
        mix.operation = "MULTIPLY"
        links.new(image.outputs["Color"], mix.inputs[0])
        mix.inputs[1].default_value = tint[:3]
        links.new(mix.outputs["Vector"], principled.inputs["Base Color"])
    if surface["glow"]:
        glow = nodes.new("ShaderNodeEmission")
        source = principled.inputs["Base Color"]
        if source.is_linked:
            links.new(source.links[0].from_socket, glow.inputs["Color"])
        else:
            glow.inputs["Color"].default_value = tint
        links.new(glow.outputs[0], out.inputs["Surface"])
        _brighter_in_mirrors(nodes, links, glow)
        return material
    if alpha >= _FILM:
        return material
    # A thin sheet doesn't bend light, so no refraction; but its reflections are as strong as
    # those of a solid sheet, so they are added outside of the alpha.
    clear, gloss = nodes.new("ShaderNodeBsdfTransparent"), nodes.new("ShaderNodeBsdfGlossy")
    fresnel = nodes.new("ShaderNodeFresnel")
    body, skin = nodes.new("ShaderNodeMixShader"), nodes.new("ShaderNodeMixShader")
    gloss.inputs["Roughness"].default_value = min(roughness, 0.3)
    # Seen from behind, the node would invert the index and find total reflection. And a lamp's
    # light comes through on paths that are not traced, so film casts half a shadow.
    geometry, path = nodes.new("ShaderNodeNewGeometry"), nodes.new("ShaderNodeLightPath")
    ior, share = nodes.new("ShaderNodeMath"), nodes.new("ShaderNodeMath")
    ior.operation = share.operation = "MULTIPLY_ADD"
    links.new(geometry.outputs["Backfacing"], ior.inputs[0])
    ior.inputs[1].default_value, ior.inputs[2].default_value = 1 / _IOR - _IOR, _IOR
    links.new(ior.outputs[0], fresnel.inputs["IOR"])
    links.new(path.outputs["Is Shadow Ray"], share.inputs[0])
    share.inputs[1].default_value, share.inputs[2].default_value = -0.5 * alpha, alpha
    links.new(share.outputs[0], body.inputs["Fac"])
    links.new(clear.outputs[0], body.inputs[1])
    links.new(principled.outputs[0], body.inputs[2])
    links.new(fresnel.outputs[0], skin.inputs["Fac"])
    links.new(body.outputs[0], skin.inputs[1])
    links.new(gloss.outputs[0], skin.inputs[2])
    links.new(skin.outputs[0], out.inputs["Surface"])
    return material


def _brighter_in_mirrors(nodes: Any, links: Any, glow: Any) -> None:
    """Give white parts of a wall, its lamps, the strength that an 8-bit texture can't hold.

    Only in reflections: seen directly they are white anyway.
    """
    grey, path = nodes.new("ShaderNodeRGBToBW"), nodes.new("ShaderNodeLightPath")
    if glow.inputs["Color"].is_linked:
        links.new(glow.inputs["Color"].links[0].from_socket, grey.inputs["Color"])
    else:
        grey.inputs["Color"].default_value = glow.inputs["Color"].default_value
    power, times, strength = (nodes.new("ShaderNodeMath") for _ in range(3))
    power.operation, times.operation, strength.operation = "POWER", "MULTIPLY", "MULTIPLY_ADD"
    links.new(grey.outputs[0], power.inputs[0])
    power.inputs[1].default_value = 4.0
    links.new(power.outputs[0], times.inputs[0])
    links.new(path.outputs["Is Glossy Ray"], times.inputs[1])
    links.new(times.outputs[0], strength.inputs[0])
    strength.inputs[1].default_value, strength.inputs[2].default_value = 8.0, 1.0
    links.new(strength.outputs[0], glow.inputs["Strength"])


def _mesh(name: str, vertices: Any, faces: Any, uv: Any) -> Any:
    """Make a mesh; numpy goes in by foreach_set, which is far faster than lists."""
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(vertices))
    mesh.vertices.foreach_set("co", np.ascontiguousarray(vertices, np.float32).ravel())
    mesh.loops.add(faces.size)
    mesh.loops.foreach_set("vertex_index", np.ascontiguousarray(faces, np.int32).ravel())
    mesh.polygons.add(len(faces))
    mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
    mesh.polygons.foreach_set("use_smooth", np.ones(len(faces), bool))
    corners = uv[faces.ravel()].astype(np.float32)
    corners[:, 1] = 1 - corners[:, 1]  # ours starts at the top, Blender's at the bottom
    mesh.uv_layers.new(name="uv").data.foreach_set("uv", corners.ravel())
    mesh.update()
    return mesh


def _clear() -> None:
    kinds = "objects meshes materials images lights cameras".split()
    for kind in kinds:
        bpy.data.batch_remove(list(getattr(bpy.data, kind)))


def load(job: dict[str, Any]) -> dict[str, Any]:
    """Build the scene of an exported folder."""
    folder = Path(job["scene"])
    scene = json.loads((folder / "scene.json").read_text(encoding="utf-8"))
    if (scene.get("format"), scene.get("version")) != (FORMAT, VERSION):
        raise ValueError(
            f"{folder} is {scene.get('format')} {scene.get('version')}, want {FORMAT} {VERSION}"
        )
    _clear()
    with np.load(folder / "meshes.npz") as arrays:
        for i, part in enumerate(scene["parts"]):
            mesh = _mesh(
                part["name"], arrays[f"vertices_{i}"], arrays[f"faces_{i}"], arrays[f"uv_{i}"]
            )
            mesh.materials.append(_material(part["name"], part["surface"], folder))
            thing = bpy.data.objects.new(part["name"], mesh)
            # Read by the flat material of `ids`; clear film counts as a thing there.
            thing.color = (part["label"] // 256 / 255, part["label"] % 256 / 255, 0, 1)
            if part["role"] == "backdrop":
                thing.visible_shadow = False  # lamps may stand behind it
                # What glows is a far wall: seen and mirrored, but the ambient light stands for
                # what comes from there.
                thing.visible_diffuse = not part["surface"]["glow"]
            bpy.context.scene.collection.objects.link(thing)
    return {"meshes": len(scene["parts"])}


def _add_lamp(i: int, lamp: dict[str, Any]) -> None:
    strength = np.asarray(lamp["irradiance"], np.float64)
    peak = max(float(strength.max()), 1e-9)
    far = lamp["position"] is None
    data = bpy.data.lights.new(f"lamp{i}", "SUN" if far else "AREA")
    data.color = [float(c) for c in strength / peak]
    position = np.zeros(3) if far else np.asarray(lamp["position"], np.float64)
    if far:
        data.angle = lamp["angle_rad"]
        data.energy = math.pi * peak
    else:
        data.shape, data.size = "DISK", lamp["size_m"]
        # The wanted irradiance arrives where the lamp's beam meets the floor (or at 2 m).
        fall = -float(lamp["direction"][2]) / float(np.linalg.norm(lamp["direction"]))
        reach = position[2] / fall if fall > 0.1 and position[2] > 0 else 2.0
        data.energy = math.pi**2 * peak * (reach**2 + (lamp["size_m"] / 2) ** 2)
    thing = bpy.data.objects.new(f"lamp{i}", data)
    thing.visible_camera = False
    _place(thing, _facing(lamp["direction"]), position)
    bpy.context.scene.collection.objects.link(thing)


def _set_up(job: dict[str, Any], threads: int) -> Any:
    """Camera, light, and the fast settings: few bounces, few samples, a denoiser."""
    scene = bpy.context.scene
    for kind in ("lights", "cameras"):  # with their objects: thousands of shots leave nothing
        bpy.data.batch_remove(list(getattr(bpy.data, kind)))
    for i, lamp in enumerate(job["lamps"]):
        _add_lamp(i, lamp)
    camera, (height, width) = job["camera"], job["camera"]["hw"]
    data = bpy.data.cameras.new("camera")
    data.sensor_fit, data.sensor_height = "VERTICAL", 24.0
    data.lens = 12.0 / math.tan(math.radians(camera["fovy_deg"]) / 2)
    data.clip_start, data.clip_end = 0.01, 100.0
    scene.camera = bpy.data.objects.new("camera", data)
    _place(scene.camera, _matrix(camera["quaternion"]) @ _FLIP, camera["position"])
    scene.collection.objects.link(scene.camera)

    world = scene.world or bpy.data.worlds.new("world")
    scene.world = world
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs["Color"].default_value = [*job["ambient"], 1.0]

    render, cycles = scene.render, scene.cycles
    render.engine, cycles.device = "CYCLES", "CPU"
    render.resolution_x, render.resolution_y, render.resolution_percentage = width, height, 100
    render.threads_mode = "FIXED" if threads else "AUTO"
    if threads:
        render.threads = threads
    render.use_persistent_data = True  # several shots of one scene share its BVH
    render.image_settings.file_format = "PNG"
    render.image_settings.color_mode, render.image_settings.compression = "RGB", 15
    render.dither_intensity = 0.0
    cycles.seed = job["seed"] % 2**31
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 3, 1, 2
    cycles.transmission_bounces, cycles.transparent_max_bounces = 2, 8
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.sample_clamp_indirect = 3.0
    return scene


def _write(scene: Any, path: str) -> None:
    scene.render.filepath = path
    bpy.ops.render.render(write_still=True)
    if not Path(path).is_file():
        raise OSError(f"Blender wrote no {path}")


def _flat() -> Any:
    """A material that shows an object's colour and nothing else."""
    material = bpy.data.materials.get("flat") or bpy.data.materials.new("flat")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    info, glow = nodes.new("ShaderNodeObjectInfo"), nodes.new("ShaderNodeEmission")
    out = nodes.new("ShaderNodeOutputMaterial")
    links.new(info.outputs["Color"], glow.inputs["Color"])
    links.new(glow.outputs[0], out.inputs["Surface"])
    return material


def shoot(job: dict[str, Any], threads: int) -> dict[str, Any]:
    """Render the loaded scene."""
    began = time.perf_counter()
    scene = _set_up(job, threads)
    cycles, layer = scene.cycles, scene.view_layers[0]
    layer.material_override = None
    scene.render.image_settings.color_depth = "16"
    scene.view_settings.view_transform = "Standard"
    scene.view_settings.exposure = -math.log2(job["range"])
    cycles.samples, cycles.use_adaptive_sampling = job["samples"], True
    cycles.adaptive_threshold = 0.05
    cycles.use_denoising, cycles.denoiser = True, "OPENIMAGEDENOISE"
    cycles.denoising_prefilter, cycles.denoising_quality = "ACCURATE", "BALANCED"
    cycles.use_light_tree = False  # pays with many lamps; we have few
    cycles.pixel_filter_type, cycles.filter_width = "BLACKMAN_HARRIS", 1.5
    _write(scene, job["rgb"])
    seconds = time.perf_counter() - began
    if job.get("ids"):
        layer.material_override = _flat()
        scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = [0, 0, 0, 1]
        scene.render.image_settings.color_depth = "8"
        scene.view_settings.view_transform = "Raw"
        scene.view_settings.exposure = 0.0
        cycles.samples, cycles.use_adaptive_sampling, cycles.use_denoising = 1, False, False
        cycles.pixel_filter_type, cycles.filter_width = "BOX", 0.01  # the pixel's centre
        _write(scene, job["ids"])
    return {"seconds": round(seconds, 4)}


def main() -> None:
    """Serve until `quit` or until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=0, help="0: one per core")
    threads: int = parser.parse_args().threads
    bpy.ops.wm.read_factory_settings(use_empty=True)
    _answer(ok=True, blender=bpy.app.version_string.split()[0])
    for line in sys.stdin:
        try:
            job = json.loads(line)
            if job["job"] == "quit":
                _answer(ok=True)
                return
            if job["job"] not in ("load", "shoot"):
                raise ValueError(f"job {job['job']!r}, want load, shoot or quit")
            done = load(job) if job["job"] == "load" else shoot(job, threads)
            _answer(ok=True, **done)
        except Exception as e:  # the border: everything goes to the one who asked
            _answer(ok=False, error=f"{type(e).__name__}: {e}")


if __name__ == "__main__":
    main()
