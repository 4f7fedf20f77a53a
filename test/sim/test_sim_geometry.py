"""Poses, projections and bending meshes, against matrices and hand-made cases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from robollm.sim.geometry import (
    apply,
    compose,
    inverse,
    look_at,
    matrix,
    posed_vertices,
    project,
    quaternion,
    turn,
)
from robollm.sim.world import Body, Camera, Mesh, Part, Pose, Segment, Surface


def some_poses(count=50, seed=3):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        q = rng.normal(size=4)
        yield Pose(tuple(rng.normal(size=3)), tuple(q / np.linalg.norm(q)))


def homogeneous(pose):
    out = np.eye(4)
    out[:3, :3] = matrix(pose.quaternion)
    out[:3, 3] = pose.position
    return out


def close(a, b):
    return np.allclose(homogeneous(a), homogeneous(b), atol=1e-9)


def test_a_rotation_matrix_is_one_and_comes_back_as_the_same_rotation():
    for pose in some_poses():
        r = matrix(pose.quaternion)
        assert np.allclose(r @ r.T, np.eye(3))
        assert np.linalg.det(r) == pytest.approx(1)
        assert np.allclose(matrix(quaternion(r)), r)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, -1, 0.5)])
@pytest.mark.parametrize("angle", [0.0, 1e-6, np.pi / 2, np.pi - 1e-9, np.pi])
def test_half_turns_and_tiny_turns_survive_the_way_through_a_matrix(axis, angle):
    r = matrix(turn(axis, angle))
    assert np.allclose(matrix(quaternion(r)), r, atol=1e-9)
    assert np.allclose(r @ axis, axis)
    assert np.trace(r) == pytest.approx(1 + 2 * np.cos(angle))


def test_poses_compose_as_matrices_multiply():
    poses = list(some_poses())
    for a, b in itertools.pairwise(poses):
        assert np.allclose(homogeneous(compose(a, b)), homogeneous(a) @ homogeneous(b))
        assert close(compose(a, inverse(a)), Pose())


def test_points_go_through_a_pose_and_back():
    points = np.random.default_rng(0).normal(size=(20, 3))
    for pose in some_poses(5):
        assert np.allclose(apply(inverse(pose), apply(pose, points)), points)


def test_a_camera_sees_its_target_in_the_middle_and_up_is_up():
    camera = Camera(look_at((0.3, -0.2, 1.5), (0.1, 0.0, 0.0)), 50, (240, 320))
    centre, north, east = project(camera, np.array([[0.1, 0, 0], [0.1, 0.1, 0], [0.2, 0, 0]]))
    assert centre[:2] == pytest.approx((160, 120))
    assert north[1] < centre[1]
    assert east[0] > centre[0]
    assert centre[2] == pytest.approx(np.linalg.norm((0.2, -0.2, 1.5)))


def test_the_field_of_view_is_the_pictures_height():
    camera = Camera(look_at((0, 0, 2), (0, 0, 0)), 60, (300, 400))
    edge = 2 * np.tan(np.radians(30))
    uv = project(camera, np.array([[0, edge, 0], [0, -edge, 0]]))
    assert uv[:, 1] == pytest.approx((0, 300))


def strip():
    """A flat strip of 31 vertices along x from -0.3 to 0.3, in three segments."""
    x = np.linspace(-0.3, 0.3, 31)
    mesh = Mesh(
        np.stack([x, 0 * x, 0 * x], 1).astype(np.float32),
        np.zeros((0, 3), np.int32),
        np.zeros((31, 2), np.float32),
    )
    segments = (Segment(), Segment(0, (-0.1, 0, 0)), Segment(1, (0.1, 0, 0)))
    part = Part(mesh, Surface(), segment=None)
    return part, Body((part,), (), 0.1, segments)


def test_a_bending_mesh_that_does_not_bend_moves_as_a_whole():
    part, body = strip()
    pose = Pose((1, 2, 3), turn((1, 2, 3), 0.7))
    moved = posed_vertices(part, body, (pose, pose, pose))
    assert np.allclose(moved, apply(pose, part.mesh.vertices), atol=1e-6)


def test_a_bent_mesh_follows_each_segment_at_its_middle_and_has_no_gap_between():
    part, body = strip()
    down = turn((0, 1, 0), 0.6)  # about y: +x goes down
    # The last segment turns about its anchor.
    last = compose(Pose((0.1, 0, 0), down), Pose((-0.1, 0, 0)))
    bent = posed_vertices(part, body, (Pose(), Pose(), last))
    rest = part.mesh.vertices
    assert np.allclose(bent[:16], rest[:16], atol=1e-6)
    assert np.allclose(bent[-6:], apply(last, rest[-6:]), atol=1e-6)
    steps = np.linalg.norm(np.diff(bent, axis=0), axis=1)
    assert 0.015 < steps.min() < steps.max() < 0.0215
    assert bent[-1, 2] < -0.1


def test_a_part_of_one_segment_moves_with_that_segment():
    part, body = strip()
    rigid = Part(part.mesh, part.surface, segment=2)
    poses = tuple(some_poses(3))
    assert np.allclose(
        posed_vertices(rigid, body, poses), apply(poses[2], part.mesh.vertices), atol=1e-6
    )
