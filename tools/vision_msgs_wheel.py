"""Build vision_msgs from our field lists, as a wheel for a venv that holds ROS 2 from pip.

ROS 2 from pip has no vision_msgs. Where ROS is installed, its own package is used and this file
does nothing. The build takes 30 s on two cores, so the wheel is kept, under a name that changes
with everything that goes into it.

All type supports are made, although rclpy needs the C ones only (20 s): without the C++ ones
rmw_fastrtps leaves an error state behind, and rcutils prints a page about it at every start.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path
from types import ModuleType

SELF = Path(__file__).resolve()
ROOT = SELF.parent.parent
NAME = "robollm_vision_msgs"  # the wheel's name: not one that the ROS project could publish

PACKAGE_XML = """\
<?xml version="1.0"?>
<package format="3">
  <name>vision_msgs</name>
  <version>{version}</version>
  <description>Stand-in with the field lists of vision_msgs, built by robollm.</description>
  <maintainer email="maintainers@robollm.invalid">robollm maintainers</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  {depends}
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""

CMAKE = """\
cmake_minimum_required(VERSION 3.20)
project(vision_msgs)
find_package(ament_cmake REQUIRED)
find_package(rosidl_cmake REQUIRED)
find_package(rosidl_generator_type_description REQUIRED)
find_package(rosidl_generator_py REQUIRED)
foreach(name {depends})
  find_package(${{name}} REQUIRED)
endforeach()

rosidl_generate_interfaces(vision_msgs {messages} DEPENDENCIES {depends})
ament_package()

# The wheels name include directories of the machine that built them, and CMake refuses a
# directory that doesn't exist.
get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
foreach(target IN LISTS targets)
  get_target_property(folders ${{target}} INTERFACE_INCLUDE_DIRECTORIES)
  if(folders)
    set(kept)
    foreach(folder IN LISTS folders)
      if(folder MATCHES "\\\\$<" OR IS_DIRECTORY "${{folder}}")
        list(APPEND kept "${{folder}}")
      endif()
    endforeach()
    set_target_properties(${{target}} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${{kept}}")
  endif()
endforeach()
"""


def field_lists() -> ModuleType:
    """Load robollm/data/vision_msgs.py by its path: robollm itself may not be installed yet."""
    path = ROOT / "robollm" / "data" / "vision_msgs.py"
    spec = importlib.util.spec_from_file_location("vision_msgs_fields", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wheel_path(cache: Path) -> Path:
    """Return where this interpreter's wheel is kept, whether it exists or not."""
    python = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    tag = f"{python}-{python}-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
    digest = hashlib.sha256(tag.encode())
    for source in (ROOT / "robollm/data/vision_msgs.py", ROOT / "requirements/kilted.txt", SELF):
        digest.update(source.read_bytes())
    folder = cache / "vision_msgs" / digest.hexdigest()[:16]
    return folder / f"{NAME}-{field_lists().VERSION}-{tag}.whl"


def write_sources(folder: Path) -> None:
    """Write a CMake interface package with our messages into `folder`."""
    fields = field_lists()
    depends = fields.dependencies()
    (folder / "msg").mkdir(parents=True)
    for name, text in fields.msg_files().items():
        (folder / "msg" / name).write_text(text)
    (folder / "package.xml").write_text(
        PACKAGE_XML.format(
            version=fields.VERSION, depends="\n  ".join(f"<depend>{d}</depend>" for d in depends)
        )
    )
    (folder / "CMakeLists.txt").write_text(
        CMAKE.format(
            depends=" ".join(depends),
            messages=" ".join(f"msg/{name}" for name in fields.msg_files()),
        )
    )


def run(log: Path, *command: str | Path) -> None:
    """Run one build step in the venv's environment; on failure show the end of its output."""
    venv = sys.prefix
    env = {
        **os.environ,
        "PATH": f"{venv}/bin:{os.environ['PATH']}",
        "AMENT_PREFIX_PATH": venv,
        "CMAKE_PREFIX_PATH": venv,
    }
    with log.open("a") as out:
        done = subprocess.run(
            [str(c) for c in command], env=env, stdout=out, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        print("\n".join(log.read_text().splitlines()[-40:]), file=sys.stderr)
        raise SystemExit(
            f"error: building vision_msgs stopped at {Path(command[0]).name}, wanted a wheel\n"
            f"  fix: read the lines above (all of them: {log}); "
            "then run the same command again"
        )


def pack(tree: Path, wheel: Path) -> None:
    """Pack what Python and the ament index need of an install tree into a wheel.

    The files of site-packages go to the wheel's root, all others to its data folder, which pip
    unpacks into the venv itself: the shared libraries land beside those of the other wheels.
    """
    packages = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/"
    info = f"{NAME}-{field_lists().VERSION}.dist-info"
    tag = wheel.stem.split("-", 2)[2]
    files: dict[str, bytes] = {}
    for path in sorted(p for p in tree.rglob("*") if p.is_file()):
        name = path.relative_to(tree).as_posix()
        if name.startswith(packages + "vision_msgs/") and path.suffix in {".py", ".so"}:
            files[name.removeprefix(packages)] = path.read_bytes()
        elif (
            (name.startswith("lib/lib") and path.suffix == ".so")
            or name.startswith("share/ament_index/resource_index/rosidl_interfaces/")
            or name.startswith("share/ament_index/resource_index/packages/")
            or name == "share/vision_msgs/package.xml"
            or (name.startswith("share/vision_msgs/msg/") and path.suffix == ".msg")
        ):
            files[f"{NAME}-{field_lists().VERSION}.data/data/{name}"] = path.read_bytes()
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {field_lists().VERSION}\n"
        "Summary: vision_msgs for ROS 2 from pip, built by robollm\n"
    ).encode()
    files[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: robollm\nRoot-Is-Purelib: false\nTag: {tag}\n"
    ).encode()
    record = [f"{name},{_digest(data)},{len(data)}" for name, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def _digest(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"


def build_wheel(wheel: Path) -> None:
    """Build in a temporary folder beside the wheel's final place."""
    wheel.parent.mkdir(parents=True, exist_ok=True)
    log = wheel.parent / "build.log"
    log.unlink(missing_ok=True)
    bin_ = Path(sys.prefix, "bin")
    with tempfile.TemporaryDirectory(dir=wheel.parent) as temp:
        source, build, tree = (Path(temp, name) for name in ("source", "build", "tree"))
        write_sources(source)
        run(log, bin_ / "cmake", "-S", source, "-B", build, "-G", "Ninja",
            "-DBUILD_TESTING=OFF", "-DCMAKE_BUILD_TYPE=Release",
            f"-DPython3_EXECUTABLE={sys.executable}")  # fmt: skip
        run(log, bin_ / "cmake", "--build", build)
        run(log, bin_ / "cmake", "--install", build, "--prefix", tree)
        unfinished = Path(temp, wheel.name)
        pack(tree, unfinished)
        unfinished.replace(wheel)  # never a half-written wheel under the final name


def main() -> None:
    """Print the wheel's path, after building it if need be. Run with the venv's python."""
    wheel = wheel_path(Path(sys.argv[1]).resolve())
    if not wheel.is_file():
        build_wheel(wheel)
    print(wheel)


if __name__ == "__main__":
    main()
