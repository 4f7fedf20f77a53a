"""A stand-in for ROS 2's `launch`, for tests where the real one can't be installed.

It knows what launch/armbench.launch.py uses and nothing else, so that an unknown call fails
here. Semantics follow ros2/launch and ros2/launch_ros, Humble to Kilted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any


class LaunchContext:
    """What substitutions see: arguments and environment. Started processes end up in `nodes`."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.launch_configurations: dict[str, str] = {}
        self.environment = dict(os.environ if environment is None else environment)
        self.nodes: list[Any] = []
        self.messages: list[str] = []


class LaunchDescription:
    """A list of actions."""

    def __init__(self, initial_entities: Iterable[Any] | None = None) -> None:
        self.entities = list(initial_entities or [])

    def get_launch_arguments(self) -> list[Any]:
        """The declared arguments, as `ros2 launch --show-args` lists them."""
        from launch.actions import DeclareLaunchArgument

        return [e for e in self.entities if isinstance(e, DeclareLaunchArgument)]


def perform(context: LaunchContext, value: Any) -> str:
    """Resolve a string, a substitution, or an iterable of those, to one string."""
    if isinstance(value, str):
        return value
    if hasattr(value, "perform"):
        return str(value.perform(context))
    return "".join(perform(context, part) for part in value)


def run(description: LaunchDescription, context: LaunchContext) -> None:
    """Execute every action, and the ones that it returns."""
    for entity in description.entities:
        visit(entity, context)


def visit(entity: Any, context: LaunchContext) -> None:
    """Execute one action, and the ones that it returns."""
    for more in entity.execute(context) or ():
        visit(more, context)
