"""make, the bootstrap and the environment script."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

TARGETS = set(
    "help setup train-setup demo test gate gate-accept lint types imports check docs-gen bench lock"
    " clean distclean".split()
)
MACHINE_PATH = re.compile(r"(?<![\w.$}~-])/(?:home|Users|root|work|farm)/\w")
PACKAGE_HOST = re.compile(r"https?://[a-z.]*(?:python|pypi|npm|debian)[a-z]*\.(?:org|com)")


def make(*arguments: str, cwd: Path) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "MFLAGS"}
    return subprocess.run(
        ["make", *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=True
    ).stdout


def test_make_alone_lists_every_target_from_any_folder(root: Path, tmp_path: Path) -> None:
    listed = re.findall(r"^  make (\S+) +\S", make("-C", str(root), cwd=tmp_path), re.MULTILINE)
    [phony] = re.findall(r"^\.PHONY: (.*)$", (root / "Makefile").read_text(), re.MULTILINE)
    assert set(listed) == set(phony.split()) == TARGETS


def test_every_make_command_in_the_documents_exists(root: Path) -> None:
    texts = [p.read_text() for p in [*root.glob("*.md"), *root.glob("docs/**/*.md")]]
    named = {t for text in texts for t in re.findall(r"(?:`|^|\n)make ([a-z][a-z-]*)", text)}
    assert named <= TARGETS


def test_contributing_says_what_ci_runs(root: Path) -> None:
    [said] = re.findall(r"^`\.ci/run`.*$", (root / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    runs = re.findall(r"^make ([a-z]+)", (root / ".ci" / "run").read_text(), re.MULTILINE)
    assert re.findall(r"`make ([a-z]+)`", said) == runs


def test_the_bootstrap_is_told_by_any_change_of_its_inputs(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in bootstrap.INPUTS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("old")
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    before = bootstrap.inputs_hash("python3", "")
    assert bootstrap.inputs_hash("python3", "") == before
    hashes = {before, bootstrap.inputs_hash("python3", "jazzy")}
    for name in bootstrap.INPUTS:
        (tmp_path / name).write_text("new")
        hashes.add(bootstrap.inputs_hash("python3", ""))
    assert len(hashes) == len(bootstrap.INPUTS) + 2


def test_a_sourced_ros_without_rclpy_is_an_error_and_not_a_fallback(bootstrap: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"ROS_DISTRO is jazzy.*can't import rclpy\n  fix: "):
        bootstrap.on_sourced_ros("/bin/false", "jazzy")


def test_a_missing_vision_msgs_names_the_package_to_install(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "says", lambda _, code: "" if "rclpy" in code else None)
    with pytest.raises(SystemExit, match="sudo apt-get install ros-jazzy-vision-msgs"):
        bootstrap.on_sourced_ros("python3", "jazzy")


def test_a_missing_compiler_names_the_package_to_install(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None if name == "g++" else name)
    with pytest.raises(SystemExit, match=r"g\+\+ not found.*\n  fix: sudo apt-get install gcc g"):
        bootstrap.need_compiler()


def test_a_machine_without_wheels_is_told_what_to_do(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap.platform, "machine", lambda: "riscv64")
    with pytest.raises(SystemExit, match=r"riscv64 linux; .* wants .*\n  fix: source"):
        bootstrap.on_wheels("python3")


def test_an_interrupted_venv_is_made_afresh_and_a_sound_one_is_kept(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VENV", "FOUNDATION", "UNFINISHED", "STAMP"):
        old = getattr(bootstrap, name)
        monkeypatch.setattr(bootstrap, name, tmp_path / old.relative_to(bootstrap.ROOT))
    made = []

    def run(*command: object) -> None:
        made.append(command)
        bootstrap.VENV.mkdir(exist_ok=True)

    monkeypatch.setattr(bootstrap, "run", run)
    monkeypatch.setattr(bootstrap, "says", lambda *_: "")
    bootstrap.make_venv("python3", "")
    bootstrap.make_venv("python3", "")
    assert len(made) == 1
    bootstrap.UNFINISHED.touch()
    bootstrap.make_venv("python3", "")
    assert len(made) == 2
    bootstrap.UNFINISHED.unlink()
    bootstrap.make_venv("python3", "jazzy")
    assert len(made) == 3


def sourced(root: Path, venv: Path, variables: dict[str, str]) -> dict[str, str]:
    """Return the environment after `. tools/env.sh` in a bare shell beside `venv`."""
    (venv / "tools").mkdir(exist_ok=True)
    (venv / "tools" / "env.sh").write_text((root / "tools" / "env.sh").read_text())
    (venv / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    (venv / ".venv" / "bin" / "activate").write_text(f'VIRTUAL_ENV="{venv}/.venv"\n')
    script = "set -euo pipefail; . tools/env.sh; env -0"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=venv,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if line)


def test_the_environment_script_fills_in_what_is_missing(root: Path, tmp_path: Path) -> None:
    env = sourced(root, tmp_path, {})
    assert env["AMENT_PREFIX_PATH"] == f"{tmp_path}/.venv"
    assert env["FASTDDS_BUILTIN_TRANSPORTS"] == "LARGE_DATA"
    assert env["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert 1 <= int(env["ROS_DOMAIN_ID"]) <= 101
    assert env["ROS_LOG_DIR"] == f"{tmp_path}/.cache/ros_log"


def test_the_environment_script_keeps_what_the_user_set(root: Path, tmp_path: Path) -> None:
    own = {
        "ROS_DISTRO": "jazzy",
        "AMENT_PREFIX_PATH": "/opt/ros/jazzy",
        "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4",
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
        "ROS_DOMAIN_ID": "7",
        "ROS_LOG_DIR": "logs",
    }
    assert own.items() <= sourced(root, tmp_path, own).items()


def test_no_file_names_a_machines_folders_or_a_package_host(
    tracked: list[Path], root: Path
) -> None:
    found = []
    for path in tracked:
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue  # a picture or a model
        hits = [*MACHINE_PATH.findall(text), *PACKAGE_HOST.findall(text)]
        found += [f"{path.relative_to(root)}: {hit}" for hit in hits]
    assert found == []
