"""Cells for the node tests."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="the nodes need ROS 2")
pytest.importorskip("vision_msgs", reason="the nodes need vision_msgs")


@pytest.fixture(scope="module")
def cell(demo_station, tmp_path_factory):
    """All three nodes in one process, shared by the tests of a module."""
    from cell import Cell

    c = Cell(demo_station, tmp_path_factory.mktemp("cell"))
    yield c
    c.close()


@pytest.fixture
def make_cell(demo_station, tmp_path):
    """Start a cell with settings of its own; every one is ended."""
    from cell import Cell

    made = []

    def make(station=demo_station, **kwargs):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Cell(station, folder, **kwargs))
        return made[-1]

    yield make
    for c in made:
        c.close()
