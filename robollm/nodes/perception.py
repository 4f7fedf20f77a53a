"""`perception`: the three nodes in one process, on one backbone."""

from __future__ import annotations

from collections.abc import Sequence

from robollm.nodes.base import PerceptionNode
from robollm.nodes.defect_node import DefectNode
from robollm.nodes.identification_node import IdentificationNode
from robollm.nodes.run import run
from robollm.nodes.segmentation_node import SegmentationNode
from robollm.runtime.station import Station


def build() -> Sequence[PerceptionNode]:
    """The three nodes on one station; consumers first, so that they miss nothing."""
    station = Station()
    # Built first: it tells the station that tote images come from this process.
    segmentation = SegmentationNode(station)
    return [IdentificationNode(station), DefectNode(station), segmentation]


def main(args: list[str] | None = None) -> None:
    """Run all three nodes."""
    run(build, args)
