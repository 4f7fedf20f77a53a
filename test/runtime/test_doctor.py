from __future__ import annotations

import json
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from robollm.runtime import doctor, doctor_machine
from robollm.runtime.child import ask
from robollm.runtime.findings import FAIL, NONE, OK, WARN, Finding, Redaction, report
from robollm.runtime.requirements import Requirement, extras, requirements


def named(findings):
    return {f.part: f for f in findings}


@pytest.fixture
def shadow(tmp_path, monkeypatch):
    """Put modules before the installed ones, for child processes: name -> source."""

    def put(**sources):
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return put


def test_what_crashes_or_raises_at_import_is_named_and_the_rest_is_still_looked_at(shadow):
    shadow(
        cv2="raise ImportError('libGL.so.1: cannot open shared object file')",
        faiss="import os, signal; os.kill(os.getpid(), signal.SIGILL)",
    )
    found = named(doctor.software())
    assert found["cv2"].state == found["faiss"].state == FAIL
    assert "libGL.so.1" in found["cv2"].what
    assert "SIGILL, an instruction that this processor lacks" in found["faiss"].what
    assert "pip install --force-reinstall" in found["faiss"].fix
    assert found["rich"].state == found["onnxruntime"].state == OK  # it comes after both
    assert doctor.numpy_works(list(found.values()))


def test_a_broken_numpy_is_found_without_importing_it_here(shadow):
    shadow(numpy="raise ImportError('numpy.core.multiarray failed to import')")
    findings = list(doctor.software())
    assert named(findings)["numpy"].state == FAIL
    assert not doctor.numpy_works(findings)


def test_a_version_outside_the_range_fails_and_names_the_range():
    wanted = {"numpy": Requirement("numpy", "<1.5,>=1.2")}
    found = doctor._package("numpy", "2.0", wanted)
    assert (found.state, found.fix) == (FAIL, 'pip install "numpy<1.5,>=1.2"')


def test_the_cpu_really_multiplies_and_a_provider_that_lies_fails(shadow):
    assert doctor._provider("cpu").state == OK
    fake = """
__version__ = "9"
class SessionOptions:
    def add_session_config_entry(self, *a): pass
class InferenceSession:
    def __init__(self, *a, **k): pass
    def disable_fallback(self): pass
    def get_providers(self): return ["CPUExecutionProvider"]
    get_inputs = get_outputs = lambda self: []
    def run(self, outputs, feed): return [feed["x"]]
def get_available_providers(): return ["CPUExecutionProvider", "CUDAExecutionProvider"]
"""
    shadow(onnxruntime=fake)
    found = named(doctor.providers())
    assert found["provider cpu"].state == FAIL
    assert "multiplied two matrices" in found["provider cpu"].what
    # Listed, but what was asked for is not what is active.
    assert found["provider cuda"].state == WARN
    assert "CPUExecutionProvider" in found["provider cuda"].what


def test_without_onnxruntime_there_is_no_provider_at_all(shadow):
    shadow(onnxruntime="raise ImportError('libonnxruntime.so: no such file')")
    (found,) = doctor.providers()
    assert (found.part, found.state) == ("provider cpu", FAIL)
    assert "libonnxruntime.so" in found.what


@pytest.mark.parametrize(
    ("script", "state", "words"),
    [
        ("echo 'NVIDIA L4, 550.54, 23034 MiB'", WARN, "onnxruntime-gpu is not installed"),
        ("echo 'Failed to initialize NVML' >&2; exit 9", WARN, "Failed to initialize NVML"),
    ],
)
def test_a_gpu_that_is_not_used_or_does_not_answer_is_a_warning(
    tmp_path, monkeypatch, script, state, words
):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = doctor.gpu()
    assert (found.state, words in found.what) == (state, True)


def test_no_nvidia_smi_is_nothing_to_worry_about(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.gpu().state == NONE


def test_ros_is_told_with_its_middleware_and_domain(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "/profile.xml")
    found = named(doctor_machine.ros())
    assert found["ros"].state == OK
    assert "rmw_" in found["ros"].what
    assert found["ros domain"].what.startswith("7, ")


def test_a_sourced_ros_of_another_python_fails_and_no_ros_is_only_told(shadow, monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    shadow(rclpy="raise ImportError('_rclpy_pybind11.cpython-312: undefined symbol')")
    (found,) = doctor_machine.ros()
    assert (found.state, "jazzy is sourced" in found.what) == (FAIL, True)
    monkeypatch.delenv("ROS_DISTRO")
    shadow(rclpy="raise ModuleNotFoundError(\"No module named 'rclpy'\")")
    (found,) = doctor_machine.ros()
    assert found.state == NONE


@pytest.mark.parametrize(("text", "state"), [("", OK), ("101", OK), ("102", WARN), ("x", FAIL)])
def test_a_domain_whose_ports_may_be_taken_is_a_warning(text, state):
    assert doctor_machine._domain(text).state == state


def test_the_limits_of_a_container_are_read(tmp_path):
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text(f"{3 << 29}\n")
    assert doctor_machine.cpu_limit(tmp_path / "cpu.max") == 1.5
    assert doctor_machine.memory_limit(tmp_path / "memory.max") == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert doctor_machine.cpu_limit(tmp_path / "cpu.max") == 0
    assert doctor_machine.memory_limit(tmp_path / "none") == 0


def test_nothing_that_tells_whose_machine_it_is_gets_out():
    hide = Redaction(("/srv/anna",), (("cell7.example", "<host>"), ("anna", "<user>")))
    assert hide("in /srv/anna/acme/secret.so: bad") == "in ~/...: bad"
    assert hide("'/srv/anna'") == "'~'"
    assert hide("/srv/annabelle/x") == "/srv/annabelle/x"
    assert hide("anna@cell7.example") == "<user>@<host>"
    assert hide("savanna, anna-lena") == "savanna, anna-lena"  # parts of words stay
    others = "/".join(["", "home", "bob", ".local", "x.so"]), "/".join(["", "Users", "eve", "y"])
    assert hide(", ".join(others)) == "~/..., ~/..."


def test_a_report_is_redacted_with_this_machines_own_names(monkeypatch):
    monkeypatch.setenv("HOME", "/data/operator-9")
    monkeypatch.setenv("USER", "operator-9")
    monkeypatch.setattr("socket.gethostname", lambda: "picker-12.plant")
    text = "/data/operator-9/venv/lib, operator-9 on picker-12 or picker-12.plant"
    card = report([Finding("x", WARN, text, "do it"), Finding("y", OK, "fine")])
    assert card["findings"][0]["what"] == "~/..., <user> on <host> or <host>"
    assert (card["ok"], card["states"]) == (True, {"ok": 1, "warn": 1, "fail": 0, "none": 0})
    assert not report([Finding("x", FAIL, "")])["ok"]
    json.dumps(card)


NUMBERS = st.lists(st.integers(0, 12), min_size=1, max_size=3).map(lambda p: ".".join(map(str, p)))


@given(NUMBERS, st.lists(st.tuples(st.sampled_from([">=", "<=", "<", ">", "==", "!="]), NUMBERS)))
def test_versions_are_compared_as_pip_does(version, ranges):
    text = ",".join(sign + number for sign, number in ranges)
    assert Requirement("x", text).allows(version) == SpecifierSet(text).contains(version)


def test_the_metadata_of_this_package_is_understood():
    assert {"numpy", "faiss-cpu", "click"} <= {r.name for r in requirements()}
    assert "rosbags" in {r.name for r in extras()["eval"]}
    assert requirements("no-such-package") == []


def test_a_child_that_takes_too_long_is_ended_and_what_it_said_is_kept():
    code = "print('robollm-child {\"x\": 1}', flush=True); import time; time.sleep(60)"
    ended = ask(["-c", code], limit_s=1)
    assert (ended.code, ended.why) == (None, "took too long and was ended")
    assert ended.said == ({"x": 1},)
