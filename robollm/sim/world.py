"""What a simulated scene is made of: products, their bodies, and where everything is.

Plain records. Physics writes poses into them, renderers draw them, writers label them; none of
the three knows the others.

Frames. World: metres, z up, origin at the centre of the tote's inner floor, x along the tote's
long side. Product: metres, origin at the centre of its bounding box, z up when it lies on its
largest face, x along its longest side. Camera: ROS optical frame (x right, y down, z forward).
Quaternions are (w, x, y, z), of unit length, and turn the local frame into the world.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Vec3 = tuple[float, float, float]
Quat = tuple[float, float, float, float]
Rgb = tuple[float, float, float]
F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]

Kind = Literal[
    "box", "carton", "book", "polybag", "pouch", "clear_bag", "blister", "bottle", "can", "tube"
]
KINDS: tuple[Kind, ...] = (
    "box",
    "carton",
    "book",
    "polybag",
    "pouch",
    "clear_bag",
    "blister",
    "bottle",
    "can",
    "tube",
)
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Pose:
    """A rigid transform from a local frame into the world."""

    position: Vec3 = (0.0, 0.0, 0.0)  # m
    quaternion: Quat = (1.0, 0.0, 0.0, 0.0)  # wxyz


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """Triangles with a texture map.

    `vertices` float32 [N, 3] m; `faces` int32 [M, 3], counter-clockwise seen from outside; `uv`
    float32 [N, 2], (0, 0) = the texture's top left pixel, (1, 1) = its bottom right one. Vertices
    on a seam or a sharp edge are there twice, so that normals can be made per vertex.
    """

    vertices: F32
    faces: I32
    uv: F32


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """How a mesh looks: `texture` uint8 [H, W, 3] RGB (None: plain), times `rgba` (0 to 1)."""

    texture: U8 | None = None
    rgba: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    specular: float = 0.2  # 0 to 1, strength of highlights
    shininess: float = 0.3  # 0 (broad) to 1 (narrow)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One thing to draw.

    `segment`: index of the body's segment that carries it; None: the mesh bends, each vertex
    follows the segments whose anchors lie left and right of it (see geometry.posed_vertices).
    """

    mesh: Mesh
    surface: Surface
    segment: int | None = 0


@dataclass(frozen=True, slots=True)
class Solid:
    """One collision primitive, in the frame of the product at rest.

    `size`: MuJoCo's: box half sides; cylinder and capsule (radius, half length, 0), along local
    z; ellipsoid half axes.
    """

    shape: Literal["box", "cylinder", "capsule", "ellipsoid"]
    size: Vec3
    pose: Pose = Pose()
    segment: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """One rigid piece of a body; the first one is the root and has parent -1.

    `anchor`: the joint to the parent, m, in the frame of the product at rest. `axis`: a hinge's
    axis in that frame; None: a ball joint. `limits_rad`: of the hinge. `rest_rad`: where the
    hinge's spring pulls to.
    """

    parent: int = -1
    anchor: Vec3 = (0.0, 0.0, 0.0)
    axis: Vec3 | None = None
    stiffness: float = 0.0  # N m / rad
    damping: float = 0.0  # N m s / rad
    limits_rad: tuple[float, float] | None = None
    rest_rad: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A thing that can be drawn and can collide. All meshes and solids are given at rest."""

    parts: tuple[Part, ...]
    solids: tuple[Solid, ...]
    mass_kg: float
    segments: tuple[Segment, ...] = (Segment(),)
    friction: float = 0.6


@dataclass(frozen=True, slots=True)
class Product:
    """A row of the catalogue. `look` (plain JSON values) is all that artwork needs."""

    id: str  # "B0" and eight more of 0-9 A-Z, like an ASIN
    family: str  # near-duplicates share it; a family is in one split only
    kind: Kind
    brand: str
    title: str
    description: str
    size_m: Vec3  # length >= width, height: along x, y, z of the product frame
    weight_kg: float
    split: Split
    look: dict[str, Any] = field(compare=False, hash=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class Form:
    """Which body of a product: whole, opened, or a piece of its content.

    "closed" is the body of "open" with its flaps shut for good: not damaged, but cut as the open
    one is, so that how its edges are drawn tells nothing.

    `seed` makes copies of one product differ (wear, wrinkles, how it is torn); `severity` runs
    from 0, barely visible, to 1; `piece` numbers the pieces of content.
    """

    kind: Literal["whole", "open", "closed", "content"] = "whole"
    seed: int = 0
    severity: float = 0.0
    piece: int = 0


WHOLE = Form()


@dataclass(frozen=True, slots=True)
class Item:
    """One body in a scene.

    `instance`: its value in label maps, 1 to 60000; a damaged package and its content share one.
    `poses`: one per segment of its body, each from the rest product frame into the world.
    """

    instance: int
    product: Product
    poses: tuple[Pose, ...]
    form: Form = WHOLE


@dataclass(frozen=True, slots=True)
class Tote:
    """A container: an open-topped crate with tapered ribbed walls and a rim.

    `inner_m`: length (x), width (y) and depth (z) inside, at the rim. The origin of the world is
    the centre of its inner floor.
    """

    name: str
    colour: Rgb
    inner_m: Vec3
    style: int = 0  # which wall pattern
    seed: int = 0  # scratches, labels, dirt


@dataclass(frozen=True, slots=True)
class Gripper:
    """A suction gripper with `cups` cups side by side.

    `pose`: the frame of the cups' lips, z pointing out of them, away from the arm.
    """

    pose: Pose
    cups: int = 1
    colour: Rgb = (0.12, 0.12, 0.13)


TOTE_LABEL = 65535
"""The tote's value in label maps."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything there is at one moment. `backdrop` names what lies around and below."""

    items: tuple[Item, ...]
    tote: Tote | None = None
    gripper: Gripper | None = None
    backdrop: Literal["cell", "conveyor", "concrete", "sweep"] = "cell"
    backdrop_seed: int = 0


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera; `pose` is its optical frame in the world."""

    pose: Pose
    fovy_deg: float
    hw: tuple[int, int]  # px


@dataclass(frozen=True, slots=True)
class Light:
    """A lamp with soft edges. `direction` points from the lamp into the scene."""

    direction: Vec3
    colour: Rgb
    position: Vec3 | None = None  # None: infinitely far


@dataclass(frozen=True, slots=True)
class Lighting:
    """Lamps and what comes from everywhere."""

    lamps: tuple[Light, ...]
    ambient: Rgb = (0.35, 0.35, 0.35)
    softness: float = 0.5  # 0: small lamp, 1: overcast


@dataclass(frozen=True, slots=True)
class Lens:
    """What camera and transport do to a picture; see lens.develop. Neutral by default."""

    exposure_ev: float = 0.0
    white_balance: Rgb = (1.0, 1.0, 1.0)  # gains
    vignetting: float = 0.0  # share of light lost in the corners
    motion_px: float = 0.0  # length of the streak
    motion_deg: float = 0.0  # its direction, 0 = along +x
    focus_px: float = 0.0  # sigma
    noise: float = 0.0  # sigma at mid grey, in 8-bit steps
    jpeg_quality: int = 95


@dataclass(frozen=True, slots=True)
class Shot:
    """One photograph of a scene: from where, in which light, through which lens."""

    camera: Camera
    lighting: Lighting
    lens: Lens = Lens()
    seed: int = 0  # of the noise


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What a renderer returns, before the lens.

    `rgb` uint8 [H, W, 3]; `labels` uint16 [H, W]: instance, TOTE_LABEL or 0; `depth` float32
    [H, W], m along the optical axis.
    """

    rgb: U8
    labels: NDArray[np.uint16]
    depth: F32
