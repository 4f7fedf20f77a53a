"""The substitutions that the launch file uses."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from launch import LaunchContext, perform


class LaunchConfiguration:
    """The value of an argument."""

    def __init__(self, variable_name: str) -> None:
        self.name = variable_name

    def perform(self, context: LaunchContext) -> str:
        if self.name not in context.launch_configurations:
            raise RuntimeError(f"launch configuration {self.name!r} does not exist")
        return context.launch_configurations[self.name]


class EnvironmentVariable:
    """The value of a variable in the context's environment, or the default."""

    def __init__(self, name: str, *, default_value: Any = None) -> None:
        self.name, self.default_value = name, default_value

    def perform(self, context: LaunchContext) -> str:
        default = None if self.default_value is None else perform(context, self.default_value)
        value = context.environment.get(self.name, default)
        if value is None:
            raise RuntimeError(f"environment variable {self.name!r} does not exist")
        return value


class PathJoinSubstitution:
    """Parts joined to a path."""

    def __init__(self, substitutions: Iterable[Any]) -> None:
        self.parts = list(substitutions)

    def perform(self, context: LaunchContext) -> str:
        return os.path.join(*(perform(context, p) for p in self.parts))  # noqa: PTH118 - as launch
