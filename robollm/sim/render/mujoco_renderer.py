"""The default renderer: MuJoCo's OpenGL for what is where, shade.py for the light."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.sim.geometry import F64, apply, compose, inverse, matrix, posed_vertices
from robollm.sim.render import backdrop
from robollm.sim.render.gl import Canvas, Geom
from robollm.sim.render.model import Asset, Slot, build, is_open, rewrite
from robollm.sim.render.shade import GBuffer, shade
from robollm.sim.render.shade_maps import (
    LAMP_SIDE,
    SKY_SIDE,
    SKY_SPREAD,
    Blocker,
    aim,
    lamp_spread,
    sky_directions,
)
from robollm.sim.world import (
    TOTE_LABEL,
    Body,
    Form,
    Mesh,
    Picture,
    Pose,
    Product,
    Scene,
    Shot,
    Vec3,
)

Bodies = Callable[[Product, Form], Body]
_BENT = 2e-4  # m and quaternion units: a smaller change of shape is not drawn anew


@dataclass(slots=True, eq=False)
class _Thing:
    """A body in the model: one asset and slot per part, and the shape that it was baked in."""

    body: Body
    assets: list[Asset]
    slots: list[Slot] = field(default_factory=list)
    bend: F64 = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, slots=True, eq=False)
class _Placed:
    """Geoms of a scene, those that cast shadows first, with a row of facts for each."""

    geoms: list[Geom]
    casting: int
    labels: NDArray[np.uint16]  # row 0: nothing
    specular: NDArray[np.float32]
    shininess: NDArray[np.float32]
    centre: Vec3
    radius: float


class MujocoRenderer:
    """Photographs scenes. A context manager: it holds an OpenGL context.

    Args:
        bodies: what a product looks like in a form; by default bodies.body_of.

    Raises:
        ConfigError: if mujoco is missing or can't make an off-screen OpenGL context.
    """

    def __init__(self, bodies: Bodies | None = None) -> None:
        self._bodies = bodies or default_bodies
        self._canvas = Canvas()
        self._things: dict[object, _Thing] = {}
        self._sky: tuple[Scene, list[tuple[Blocker, float]]] | None = None

    def __enter__(self) -> MujocoRenderer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the OpenGL context back."""
        self._things, self._sky = {}, None
        self._canvas.close()

    def load(self, scenes: Sequence[Scene] | Scene, *, texture_scale: float = 1.0) -> None:
        """Upload everything that the scenes show; `shoot` then takes any of them.

        Args:
            scenes: one scene, or several that share things: each is uploaded once.
            texture_scale: factor on all textures' sides, in (0, 1]; below 1 for small pictures.

        Raises:
            ConfigError: if `texture_scale` is out of range.
        """
        if not 0 < texture_scale <= 1:
            raise ConfigError(f"texture_scale is {texture_scale}, want above 0 and up to 1")
        self._sky = None
        things: dict[object, _Thing] = {}
        for scene in [scenes] if isinstance(scenes, Scene) else scenes:
            for key, body, poses in _contents(scene, self._bodies):
                if key not in things:
                    things[key] = _bake(body, poses, key)
        assets = [asset for thing in things.values() for asset in thing.assets]
        model, slots = build(assets, texture_scale)
        rest = iter(slots)
        for thing in things.values():
            thing.slots = [next(rest) for _ in thing.assets]
        self._canvas.load(model, max_geoms=len(assets) + 1)
        self._things = things

    def shoot(self, scene: Scene, shot: Shot) -> Picture:
        """Take one picture; the lens is not applied.

        Args:
            scene: one of those loaded, or another one of the same things.
            shot: camera and light.

        Returns:
            RGB, labels and depth, all of size `shot.camera.hw`.

        Raises:
            ConfigError: if the scene has something that was not loaded.
        """
        canvas, camera = self._canvas, shot.camera
        placed = self._place(scene)
        geoms, (h, w) = placed.geoms, camera.hw
        canvas.place(geoms)
        ids, depth = canvas.ids(camera, (h, w), geoms)
        albedo = canvas.albedo(camera, (2 * h, 2 * w), geoms)
        normals, fine = canvas.normals(camera, (2 * h, 2 * w), geoms)
        lamps, sky = self._blockers(scene, placed, shot)
        g = GBuffer(albedo, normals, fine, placed.specular[ids], placed.shininess[ids])
        rgb = shade(g, camera, shot.lighting, lamps, sky)
        return Picture(rgb, placed.labels[ids], depth)

    def _place(self, scene: Scene) -> _Placed:
        geoms: list[Geom] = []
        facts: list[tuple[int, float, float]] = [(0, 0.0, 0.0)]
        casting = 0
        corners: list[F64] = []
        for key, _, poses in _contents(scene, self._bodies):
            thing = self._things.get(key)
            if thing is None:
                raise ConfigError(
                    f"the scene has something that was not loaded: {key}",
                    fix="pass the scene to load() first",
                )
            self._bend(thing, poses)
            for asset, slot, part in zip(thing.assets, thing.slots, thing.body.parts, strict=True):
                pose = poses[part.segment or 0]
                turn = matrix(pose.quaternion)
                position = turn @ slot.position + np.asarray(pose.position)
                geoms.append(
                    Geom(slot.mesh, slot.material, position, turn @ slot.rotation,
                         asset.surface.rgba, asset.sheet)
                )  # fmt: skip
                facts.append((_label(key), asset.surface.specular, asset.surface.shininess))
                if not isinstance(key, backdrop.BackdropKey):
                    casting = len(geoms)
                    low, high = asset.vertices.min(axis=0), asset.vertices.max(axis=0)
                    corners.append(apply(pose, _corners(low, high)))
        spots = np.concatenate(corners) if corners else np.zeros((1, 3))
        low, high = spots.min(axis=0), spots.max(axis=0)
        x, y, z = (float(v) for v in (low + high) / 2)
        return _Placed(
            geoms,
            casting,
            np.array([f[0] for f in facts], np.uint16),
            np.array([f[1] for f in facts], np.float32),
            np.array([f[2] for f in facts], np.float32),
            (x, y, z),
            max(0.05, float(np.linalg.norm(high - low)) / 2),
        )

    def _bend(self, thing: _Thing, poses: tuple[Pose, ...]) -> None:
        """Bring a thing whose meshes bend into its present shape."""
        if all(part.segment is not None for part in thing.body.parts):
            return
        bend = _bend_of(poses)
        if thing.bend.shape == bend.shape and np.abs(thing.bend - bend).max() < _BENT:
            return
        fresh = _bake(thing.body, poses)
        for i, part in enumerate(thing.body.parts):
            if part.segment is None:
                rewrite(self._canvas.model, thing.slots[i], fresh.assets[i])
                self._canvas.upload_mesh(thing.slots[i].mesh)
        thing.assets, thing.bend = fresh.assets, bend

    def _blockers(
        self, scene: Scene, placed: _Placed, shot: Shot
    ) -> tuple[list[Blocker], list[tuple[Blocker, float]]]:
        """Depth maps from all directions that light comes from; the backdrop casts nothing."""
        geoms = placed.geoms[: placed.casting]

        def block(towards: Vec3, side: int, spread: float) -> Blocker:
            view = aim(towards, placed.centre, placed.radius)
            return Blocker(towards, view, self._canvas.depth(view, side, geoms), spread)

        lamps = []
        for lamp in shot.lighting.lamps:
            d = -np.asarray(lamp.direction, np.float64)
            if lamp.position is not None:
                d = np.subtract(lamp.position, placed.centre)
            x, y, z = (float(v) for v in d / np.linalg.norm(d))
            lamps.append(block((x, y, z), LAMP_SIDE, lamp_spread(shot.lighting)))
        # The sky needs most passes, and is the same for all shots of a scene.
        if self._sky is None or self._sky[0] != scene:
            sky = [(block(d, SKY_SIDE, SKY_SPREAD), weight) for d, weight in sky_directions()]
            self._sky = (scene, sky)
        return lamps, self._sky[1]


def _contents(scene: Scene, bodies: Bodies) -> list[tuple[object, Body, tuple[Pose, ...]]]:
    """Everything in a scene with its key and poses; the backdrop is last."""
    out: list[tuple[object, Body, tuple[Pose, ...]]] = []
    for item in scene.items:
        key = (item.instance, item.product, item.form)
        out.append((key, bodies(item.product, item.form), item.poses))
    if scene.tote is not None:
        from robollm.sim.physics import totes

        out.append((scene.tote, totes.tote_body(scene.tote), (Pose(),)))
    if scene.gripper is not None:
        gripper = backdrop.GripperKey(scene.gripper.cups, scene.gripper.colour)
        out.append((gripper, backdrop.gripper_body(gripper), (scene.gripper.pose,)))
    around = backdrop.BackdropKey(scene.backdrop, scene.backdrop_seed)
    out.append((around, backdrop.backdrop_body(around), (Pose(),)))
    return out


def default_bodies(product: Product, form: Form) -> Body:
    """Return bodies.body_of(product, form)."""
    from robollm.sim.bodies import body_of  # artwork and fonts; a cube in a test needs none

    return body_of(product, form)


def _label(key: object) -> int:
    if isinstance(key, tuple):
        return int(key[0])
    if isinstance(key, backdrop.GripperKey | backdrop.BackdropKey):
        return 0
    return TOTE_LABEL


def _bend_of(poses: tuple[Pose, ...]) -> F64:
    """The shape of a chain, whatever its place: all segments' poses relative to the first."""
    root = inverse(poses[0])
    inner = [compose(root, pose) for pose in poses[1:]]
    return np.array([[*p.position, *p.quaternion] for p in inner]).reshape(-1, 7)


def _shows_backs(key: object, mesh: Mesh) -> bool:
    """Whether a mesh needs backs: surroundings and totes face into the room, and need none."""
    if isinstance(key, backdrop.GripperKey):  # turned upside down, insides are outside
        return True
    return isinstance(key, tuple) and is_open(mesh)


def _bake(body: Body, poses: tuple[Pose, ...], key: object = None) -> _Thing:
    """Assets of a body: rigid parts at rest, bending ones in the frame of the root segment."""
    root = inverse(poses[0])
    relative = (Pose(), *(compose(root, pose) for pose in poses[1:]))
    assets = [
        Asset(
            part.mesh,
            part.surface,
            part.mesh.vertices if part.segment is not None
            else posed_vertices(part, body, relative),
            _shows_backs(key, part.mesh),
        )
        for part in body.parts
    ]  # fmt: skip
    return _Thing(body, assets, bend=_bend_of(poses))


def _corners(low: F64, high: F64) -> F64:
    """The eight corners [8, 3] of a box."""
    pick = np.array([[k >> a & 1 for a in range(3)] for k in range(8)], bool)
    return np.where(pick, high, low)
