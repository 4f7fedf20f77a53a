"""Start the three nodes in one process and, with `bag`, play a recording to them.

    ros2 launch robollm armbench.launch.py manifest:=/data/manifest.json image:=/camera/image_raw

Settings live in `params_file`. The arguments are what differs from one start to the next; an
argument that is left empty keeps the file's value. `--show-args` lists them; see docs/launch.md.
"""

from __future__ import annotations

import difflib
import tempfile
from pathlib import Path

import yaml
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

TRANSPORTS = "FASTDDS_BUILTIN_TRANSPORTS"
PROFILE = "FASTDDS_DEFAULT_PROFILES_FILE"

# Parameter files are applied section by section, in the order in which the section names first
# appear in any of them. A dictionary in `parameters=[]` becomes a section `/**`, so it would lose,
# silently, against a `/**/segmentation_node` in params_file. This pattern also matches every node,
# and nobody else writes it: it comes last.
LAST_SECTION = "/**/**"

ARGUMENTS = [
    DeclareLaunchArgument(
        "params_file",
        default_value=PathJoinSubstitution(
            [FindPackageShare("robollm"), "config", "armbench.yaml"]
        ),
        description="YAML file with the nodes' parameters.",
    ),
    DeclareLaunchArgument(
        "bundle",
        default_value="",
        description="Folder of the model bundle, or the name of one that robollm ships. "
        "Empty: as in params_file, whose own default is the shipped bundle tote-small.",
    ),
    DeclareLaunchArgument(
        "manifest",
        default_value="",
        description="Manifest file: the products of each container. Empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "gallery",
        default_value="",
        description="Gallery folder. Empty: as in params_file, whose own default is the folder "
        "'gallery' beside the manifest.",
    ),
    DeclareLaunchArgument(
        "namespace",
        default_value="robollm",
        description="Namespace of the nodes and of all their topics.",
    ),
    DeclareLaunchArgument(
        "image",
        default_value="image",
        description="Topic of the tote camera, without '/compressed'.",
    ),
    DeclareLaunchArgument(
        "views",
        default_value="",
        description="Post-pick views, a YAML list of NAME (topic views/NAME/image) or NAME=TOPIC, "
        "for example \"['on_arm_low', 'tote_wall=/cam2/image_raw']\"; \"['']\": none. "
        "Empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "overlay",
        default_value="",
        choices=["", "true", "false"],
        description="Offer overlay/compressed for viewers. Empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "bag",
        default_value="",
        description="Recording (rosbag2) to play to the nodes, which then run on its time. "
        "Empty: live cameras.",
    ),
    DeclareLaunchArgument(
        "rate",
        default_value="1.0",
        description="Speed of the recording: bag seconds per second.",
    ),
    DeclareLaunchArgument(
        "topics",
        default_value="",
        description="Topics of the recording to play, a YAML list of their recorded names, and no "
        "others. Empty: all but /clock, what perception publishes itself, /rosout, "
        "/parameter_events and /diagnostics.",
    ),
    DeclareLaunchArgument(
        "log_level",
        default_value="info",
        choices=["debug", "info", "warn", "error", "fatal"],
        description="What the nodes log.",
    ),
]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, then start what they ask for."""
    # Without these a 1080p image takes several times as long; what the user has set stays.
    transports = EnvironmentVariable(TRANSPORTS, default_value="LARGE_DATA")
    share = FindPackageShare("robollm")
    profile = EnvironmentVariable(
        PROFILE, default_value=PathJoinSubstitution([share, "config", "fastdds.xml"])
    )
    return LaunchDescription(
        [
            *ARGUMENTS,
            SetEnvironmentVariable(TRANSPORTS, transports),
            SetEnvironmentVariable(PROFILE, profile),
            # No substitution can leave a parameter out, and an empty argument must not override
            # the file: this needs the values while it decides.
            OpaqueFunction(function=_start),
        ]
    )


def _start(context: LaunchContext) -> list[LogInfo | Node]:
    """Warn of what looks misspelt, then describe the processes."""
    given = {a.name: LaunchConfiguration(a.name).perform(context) for a in ARGUMENTS}
    topics = _topics(given["topics"])
    if topics and not given["bag"]:
        raise RuntimeError(f"topics:={given['topics']} needs bag:=, the recording that has them")
    params_file = Path(given["params_file"]).expanduser()
    if not params_file.is_file():  # launch itself would go on without it
        raise RuntimeError(f"params_file:={params_file}: there is no such file")
    overrides = _overrides(given)
    perception = Node(
        package="robollm",
        executable="perception",
        # No `name`: it would rename all three nodes in this process.
        namespace=given["namespace"],
        parameters=[str(params_file), *([_write(overrides)] if overrides else [])],
        remappings=[
            ("image", given["image"]),
            ("image/compressed", given["image"] + "/compressed"),
        ],
        ros_arguments=["--log-level", given["log_level"]],
        output="screen",
        sigterm_timeout="35",  # s; a node waits up to 30 s for the end of a model run
    )
    if not given["bag"]:
        return [*_misspelt(context), perception]
    player = Node(
        package="robollm",
        executable="bag_player",
        namespace=given["namespace"],
        # Loading the models may take a while; /clock stands still until the nodes listen.
        arguments=[_path(given["bag"]), "--rate", given["rate"], "--wait", "60", *topics],
        ros_arguments=["--log-level", given["log_level"]],
        output="screen",
    )
    return [*_misspelt(context), perception, player]


def _overrides(given: dict[str, str]) -> dict[str, bool | str | list[str]]:
    """The parameters that the arguments set; nothing for an empty argument."""
    values: dict[str, bool | str | list[str]] = {
        name: _path(given[name]) for name in ("bundle", "manifest", "gallery") if given[name]
    }
    if given["views"]:
        values["views"] = _views(given["views"])
    if given["overlay"]:
        values["overlay"] = given["overlay"] == "true"
    if given["bag"]:
        values["use_sim_time"] = True
    return values


def _views(text: str) -> list[str]:
    views = _strings(text)
    if views is None:
        raise RuntimeError(f"views:={text}: want a list of strings, as in views:=\"['tote_wall']\"")
    return views or [""]  # ROS has no empty list; [''] means none


def _topics(text: str) -> list[str]:
    """The player's arguments; none if the topics are left to it."""
    if not text:
        return []
    topics = _strings(text)
    if not topics or not all(t.startswith("/") for t in topics):
        raise RuntimeError(
            f"topics:={text}: want a list of topics, as in topics:=\"['/robollm/image']\""
        )
    return ["--topics", *topics]


def _strings(text: str) -> list[str] | None:
    """A YAML list of strings; None if it is something else."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    good = isinstance(found, list) and all(isinstance(s, str) for s in found)
    return found if good else None


def _path(text: str) -> str:
    """`~` is expanded here because no shell does it behind `:=`. The rest stays as it is.

    The nodes take `mine` for a name and `./mine` for a path, and to a `Path` the two are one.
    """
    return str(Path(text).expanduser()) if text.startswith("~") else text


def _write(values: dict[str, bool | str | list[str]]) -> str:
    """Write a parameter file that wins over the ones before it."""
    # Left behind, as launch_ros leaves the ones that it writes: the process reads it later.
    with tempfile.NamedTemporaryFile(
        "w", prefix="robollm_launch_", suffix=".yaml", delete=False
    ) as file:
        yaml.safe_dump({LAST_SECTION: {"ros__parameters": values}}, file)
    return file.name


def _misspelt(context: LaunchContext) -> list[LogInfo]:
    """Warnings, not errors: an including launch file may have arguments of its own."""
    known = [a.name for a in ARGUMENTS]
    unknown = sorted(set(context.launch_configurations) - set(known))
    near = ((name, difflib.get_close_matches(name, known, n=1, cutoff=0.7)) for name in unknown)
    return [
        LogInfo(msg=f"WARNING: no argument {name!r}; did you mean {match[0]!r}? It is ignored.")
        for name, match in near
        if match
    ]
