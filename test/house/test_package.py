"""What setup.py, package.xml and pyproject.toml promise about each other."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import robollm

EXEC_DEPENDS = set(
    "rclpy sensor_msgs std_msgs std_srvs vision_msgs diagnostic_msgs lifecycle_msgs rosgraph_msgs"
    " geometry_msgs launch launch_ros ament_index_python"
    " python3-numpy python3-opencv python3-yaml".split()
)


@pytest.fixture(scope="module")
def package_xml(root: Path) -> ET.Element:
    return ET.parse(root / "package.xml").getroot()


def test_the_version_is_the_same_wherever_it_is_read(package_xml: ET.Element) -> None:
    assert package_xml.findtext("version") == robollm.__version__
    assert importlib.metadata.version("robollm") == robollm.__version__


def test_the_changelog_starts_with_this_version_or_with_what_is_forthcoming(root: Path) -> None:
    headings = re.findall(r"^(.+)\n-{3,}$", (root / "CHANGELOG.rst").read_text(), re.MULTILINE)
    assert headings[0] == "Forthcoming" or headings[0].startswith(f"{robollm.__version__} (")


def test_package_xml_is_an_ament_python_package_with_its_depends(package_xml: ET.Element) -> None:
    assert (package_xml.tag, package_xml.get("format")) == ("package", "3")
    assert package_xml.findtext("name") == "robollm"
    assert package_xml.findtext("export/build_type") == "ament_python"
    assert package_xml.findtext("license") == "Apache-2.0"
    assert {e.text for e in package_xml.iter("exec_depend")} == EXEC_DEPENDS


def test_every_ros_package_that_a_node_imports_is_in_package_xml(root: Path) -> None:
    imports = re.compile(r"^\s*(?:from|import) (rclpy|launch_ros|launch|\w+_msgs|std_srvs)\b", re.M)
    folders = (root / "robollm" / "nodes", root / "launch")
    used = {
        name
        for folder in folders
        for path in folder.rglob("*.py")
        for name in imports.findall(path.read_text())
    }
    # rclpy itself depends on these two and re-exports them in its interface.
    assert used - {"lifecycle_msgs"} <= EXEC_DEPENDS | {"builtin_interfaces", "rcl_interfaces"}


def test_the_console_scripts_are_the_ones_we_announce(scripts: dict[str, str]) -> None:
    entries = importlib.metadata.distribution("robollm").entry_points
    assert {e.name: e.value for e in entries if e.group == "console_scripts"} == scripts


def test_every_console_script_names_a_module_with_that_function(
    scripts: dict[str, str], root: Path
) -> None:
    missing = []
    for target in scripts.values():
        module, function = target.split(":")
        path = root / (module.replace(".", "/") + ".py")
        source = path.read_text() if path.is_file() else ""
        if not re.search(rf"^(def {function}\(|{function}\b.* = )", source, re.MULTILINE):
            missing.append(target)
    assert missing == []


def test_pip_puts_the_console_scripts_beside_python(scripts: dict[str, str]) -> None:
    assert [s for s in scripts if not Path(sys.executable).with_name(s).is_file()] == []


def test_every_requirement_is_pinned_at_a_version_that_setup_py_allows(root: Path) -> None:
    pins = dict(
        line.split("==")
        for name in ("kilted.txt", "dev.txt")
        for line in (root / "requirements" / name).read_text().splitlines()
        if line and not line.startswith("#")
    )
    wrong = []
    for text in importlib.metadata.requires("robollm") or []:
        wanted = Requirement(text)
        extras = ("", "cpu", "eval", "sim", "dev")
        if wanted.marker and not any(wanted.marker.evaluate({"extra": e}) for e in extras):
            continue
        pin = pins.get(re.sub(r"[-_.]+", "-", wanted.name).lower())
        if pin is None or not wanted.specifier.contains(pin):
            wrong.append(f"{wanted}: pinned at {pin}")
    assert wrong == []


def test_every_room_has_its_import_rules(root: Path) -> None:
    text = (root / "pyproject.toml").read_text()
    layers = re.search(r"layers = \[(.*?)\]", text, re.DOTALL)
    sources = re.findall(r"source_modules = \[(.*?)\]", text, re.DOTALL)
    rooms = {p.parent.name for p in (root / "robollm").glob("*/*.py")}
    assert layers
    assert {r for r in rooms if f"robollm.{r}" not in layers[1]} == set()
    assert {r for r in rooms if not any(f'"robollm.{r}"' in s for s in sources)} == set()


def test_the_typed_marker_is_installed_with_the_package() -> None:
    spec = importlib.util.find_spec("robollm")
    assert spec
    assert spec.origin
    assert (Path(spec.origin).parent / "py.typed").is_file()
