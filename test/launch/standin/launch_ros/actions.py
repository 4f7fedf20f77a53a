"""The action that the launch file uses."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_prefix
from launch import LaunchContext, perform


class Node:
    """A process of a ROS package: `command` is what launch_ros would run, word for word."""

    def __init__(
        self,
        *,
        executable: Any,
        package: Any,
        namespace: Any = None,
        parameters: Sequence[Any] = (),
        remappings: Iterable[tuple[Any, Any]] = (),
        ros_arguments: Sequence[Any] = (),
        arguments: Sequence[Any] = (),
        output: str = "log",
        sigterm_timeout: str = "5",
    ) -> None:
        self._given = (package, executable, namespace)
        self._parameters = list(parameters)
        self._remappings = list(remappings)
        self._arguments, self._ros_arguments = list(arguments), list(ros_arguments)
        self.output, self.sigterm_timeout = output, float(sigterm_timeout)

    def execute(self, context: LaunchContext) -> None:
        package, executable, namespace = (perform(context, g or "") for g in self._given)
        path = Path(get_package_prefix(package)) / "lib" / package / executable
        if not os.access(path, os.X_OK):
            raise RuntimeError(f"executable {executable!r} not found in {str(path.parent)!r}")
        self.package, self.executable = package, executable
        self.namespace = namespace if namespace.startswith("/") else f"/{namespace}"
        self.arguments = [perform(context, a) for a in self._arguments]
        files = [perform(context, p) for p in self._parameters]
        self.parameter_files = [Path(f) for f in files if Path(f).is_file()]  # others: a warning
        self.remappings = [(perform(context, a), perform(context, b)) for a, b in self._remappings]
        words = [str(path), *self.arguments]
        if self._ros_arguments:
            words += ["--ros-args", *(perform(context, a) for a in self._ros_arguments)]
        words += ["--ros-args", "-r", f"__ns:={self.namespace}"]
        for file in self.parameter_files:
            words += ["--params-file", str(file)]
        for old, new in self.remappings:
            words += ["-r", f"{old}:={new}"]
        self.command = words
        self.environment = dict(context.environment)
        context.nodes.append(self)
