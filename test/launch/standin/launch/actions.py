"""The actions that the launch file uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from launch import LaunchContext, perform


class DeclareLaunchArgument:
    """Takes the default where the user gave nothing; refuses what is not among the choices."""

    def __init__(
        self,
        name: str,
        *,
        default_value: Any = None,
        description: str | None = None,
        choices: Iterable[str] | None = None,
    ) -> None:
        self.name = name
        self.default_value = default_value
        self.description = description
        self.choices = None if choices is None else list(choices)

    def execute(self, context: LaunchContext) -> None:
        if self.name not in context.launch_configurations:
            if self.default_value is None:
                raise RuntimeError(f"required launch argument {self.name!r} was not provided")
            context.launch_configurations[self.name] = perform(context, self.default_value)
        value = context.launch_configurations[self.name]
        if self.choices is not None and value not in self.choices:
            raise RuntimeError(f"{self.name!r} is {value!r}, want one of {self.choices}")


class SetEnvironmentVariable:
    """Sets a variable for the processes started after it."""

    def __init__(self, name: Any, value: Any) -> None:
        self.name, self.value = name, value

    def execute(self, context: LaunchContext) -> None:
        context.environment[perform(context, self.name)] = perform(context, self.value)


class OpaqueFunction:
    """Calls a function with the context; it may return actions."""

    def __init__(self, *, function: Callable[..., Any]) -> None:
        self.function = function

    def execute(self, context: LaunchContext) -> Any:
        return self.function(context)


class LogInfo:
    """Logs one line."""

    def __init__(self, *, msg: Any) -> None:
        self.msg = msg

    def execute(self, context: LaunchContext) -> None:
        context.messages.append(perform(context, self.msg))
