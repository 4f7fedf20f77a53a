"""The program `perception`: the three nodes in one process, on one backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from robollm.nodes.signals import listen

if TYPE_CHECKING:
    from robollm.nodes.base import PerceptionNode


def build() -> Sequence[PerceptionNode]:
    """The three nodes on one station; consumers first, so that they miss nothing."""
    from robollm.nodes.defects import DefectNode
    from robollm.nodes.identification import IdentificationNode
    from robollm.nodes.segmentation import SegmentationNode
    from robollm.runtime.station import Station

    station = Station()
    # Built first: it tells the station that tote images come from this process.
    segmentation = SegmentationNode(station)
    return [IdentificationNode(station), DefectNode(station), segmentation]


def main(args: list[str] | None = None) -> None:
    """Run all three nodes."""
    listen()  # before the imports, which take a second: Ctrl-C may come meanwhile
    from robollm.nodes.run import run

    run(build, args)
