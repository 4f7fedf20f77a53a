"""The program `defect_node`: that node, alone in its process."""

from __future__ import annotations

from robollm.nodes.signals import listen


def main(args: list[str] | None = None) -> None:
    """Run this node alone."""
    listen()  # before the imports, which take a second: Ctrl-C may come meanwhile
    from robollm.nodes.defects import DefectNode
    from robollm.nodes.run import run
    from robollm.runtime.station import Station

    run(lambda: [DefectNode(Station())], args)
