"""The field lists of vision_msgs 4.1.1, for machines that don't have the package.

Two readers use them: the bag reader, which decodes messages without ROS, and the tool that
builds a stand-in package where no ROS is installed. Only the fields count; on a machine with
ROS the distribution's own vision_msgs is used and this file builds nothing.

Source: vision_msgs 4.1.1 (Apache-2.0), its msg folder. Comments and unused messages are left out.
"""

from __future__ import annotations

import re

VERSION = "4.1.1"

MESSAGES: dict[str, str] = {
    "vision_msgs/msg/Point2D": """\
float64 x
float64 y
""",
    "vision_msgs/msg/Pose2D": """\
vision_msgs/Point2D position
float64 theta
""",
    "vision_msgs/msg/BoundingBox2D": """\
vision_msgs/Pose2D center
float64 size_x
float64 size_y
""",
    "vision_msgs/msg/ObjectHypothesis": """\
string class_id
float64 score
""",
    "vision_msgs/msg/ObjectHypothesisWithPose": """\
vision_msgs/ObjectHypothesis hypothesis
geometry_msgs/PoseWithCovariance pose
""",
    "vision_msgs/msg/Detection2D": """\
std_msgs/Header header
vision_msgs/ObjectHypothesisWithPose[] results
vision_msgs/BoundingBox2D bbox
string id
""",
    "vision_msgs/msg/Detection2DArray": """\
std_msgs/Header header
vision_msgs/Detection2D[] detections
""",
    "vision_msgs/msg/Classification": """\
std_msgs/Header header
vision_msgs/ObjectHypothesis[] results
""",
    "vision_msgs/msg/VisionClass": """\
uint16 class_id
string class_name
""",
    "vision_msgs/msg/LabelInfo": """\
std_msgs/Header header
vision_msgs/VisionClass[] class_map
float32 threshold
""",
    "vision_msgs/msg/VisionInfo": """\
std_msgs/Header header
string method
string database_location
int32 database_version
""",
}
"""Full type name -> the text of its .msg file. A message comes after the ones it uses."""

TYPE_HASHES: dict[str, str] = {
    "vision_msgs/msg/Detection2D": (
        "RIHS01_0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea"
    ),
    "vision_msgs/msg/Detection2DArray": (
        "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968"
    ),
}
"""Full type name -> the hash that the distribution's vision_msgs announces on the wire."""


def msg_files() -> dict[str, str]:
    """Return file name -> text, ready to be written into a package's msg folder."""
    return {f"{name.rsplit('/', 1)[1]}.msg": text for name, text in MESSAGES.items()}


def dependencies() -> list[str]:
    """Return the other interface packages that the messages use, sorted."""
    used = {m for text in MESSAGES.values() for m in re.findall(r"^(\w+)/", text, re.MULTILINE)}
    return sorted(used - {"vision_msgs"})
