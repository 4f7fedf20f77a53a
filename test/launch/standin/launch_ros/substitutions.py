"""The substitutions that the launch file uses."""

from __future__ import annotations

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, perform


class FindPackageShare:
    """The share folder of a package, from the ament index."""

    def __init__(self, package: str) -> None:
        self.package = package

    def perform(self, context: LaunchContext) -> str:
        return get_package_share_directory(perform(context, self.package))
