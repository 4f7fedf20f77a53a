"""What is installed here, and does it work? For issue reports, and before the first run.

Nothing below needs more than the standard library: a broken NumPy is found, not tripped over.
What can crash runs in a process of its own.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from robollm import __version__
from robollm.runtime.child import ask
from robollm.runtime.findings import FAIL, NONE, OK, WARN, Finding
from robollm.runtime.requirements import Requirement, extras, requirements

CHILD = ("-m", "robollm.runtime.doctor_child")
IMPORT_S, PROVIDER_S, TENSORRT_S = 120.0, 120.0, 600.0
OLDEST_PYTHON = (3, 10)
MODULES = {
    "numpy": ("numpy",),
    "cv2": ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless"),
    "faiss": ("faiss-cpu", "faiss-gpu", "faiss"),
    "yaml": ("pyyaml",),
    "rich": ("rich",),
    "click": ("click",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
}
"""What inference imports, and which packages can provide it; the first one is the fix."""
TWICE = (("onnxruntime", "onnxruntime-gpu"), ("opencv-python-headless", "opencv-python"))
"""Packages that write the same files: what is imported is the one that came last, or a mixture."""
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
NOT_EXTRA = ("cpu", "gpu", "openvino", "dev")
"""Extras that are told as providers, or that only developers of robollm need."""
PROVIDER_FIX = {
    "cpu": 'pip install --force-reinstall "onnxruntime>=1.17"',
    "openvino": 'pip install "robollm[openvino]", in versions that fit each other',
    "cuda": "install the CUDA and cuDNN that this onnxruntime-gpu was built for",
    "tensorrt": "install the TensorRT that this onnxruntime-gpu was built for",
}


def software() -> Iterator[Finding]:
    """robollm, Python, the system, its locale; every package that inference imports; extras."""
    where = "a checkout" if (Path(__file__).parents[2] / ".git").exists() else "installed"
    yield Finding("robollm", OK, f"{__version__}, {where}")
    yield _python()
    yield Finding("system", OK, _system())
    yield _locale()
    yield from _packages()
    yield from _twice()
    for name, wanted in sorted(extras().items()):
        if name not in NOT_EXTRA:
            yield _extra(name, wanted)


def numpy_works(findings: list[Finding]) -> bool:
    """Whether the parts that import it can be asked."""
    return any(f.part == "numpy" and f.state in (OK, WARN) for f in findings)


def providers() -> Iterator[Finding]:
    """Where models can run: each provider multiplies two matrices, through our own session."""
    told = ask([*CHILD, "listed"], limit_s=IMPORT_S)
    if told.code != 0 or not told.said:
        yield Finding("provider cpu", FAIL, told.why, PROVIDER_FIX["cpu"])
        return
    listed = told.said[-1]["listed"]
    for name, full in PROVIDERS.items():
        if full in listed:
            yield _provider(name)
        else:
            yield Finding(
                f"provider {name}", NONE, f"not in this onnxruntime ({', '.join(listed)})"
            )
    if any(_version(p) for p in ("openvino", "onnxruntime-ep-openvino")):
        yield _provider("openvino")
    else:
        yield Finding("provider openvino", NONE, "neither openvino nor its plugin is installed")


def gpu() -> Finding:
    """What nvidia-smi tells."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Finding("gpu", NONE, "no nvidia-smi")
    words = [tool, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=30, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        return Finding("gpu", WARN, f"nvidia-smi: {type(e).__name__}", "reinstall NVIDIA's driver")
    lines = [line.strip() for line in (done.stdout or done.stderr).splitlines() if line.strip()]
    if done.returncode:
        text = lines[0] if lines else f"exit code {done.returncode}"
        return Finding("gpu", WARN, f"nvidia-smi: {text}", "reinstall NVIDIA's driver, or restart")
    if not _version("onnxruntime-gpu"):
        fix = 'pip uninstall onnxruntime; pip install "robollm[gpu]"'
        return Finding("gpu", WARN, f"{'; '.join(lines)}: onnxruntime-gpu is not installed", fix)
    return Finding("gpu", OK, "; ".join(lines))


def _python() -> Finding:
    seen = f"{platform.python_implementation()} {platform.python_version()}"
    if sys.version_info < OLDEST_PYTHON:
        return Finding("python", FAIL, seen, "use Python 3.10 or newer")
    return Finding("python", OK, seen + (", in a venv" if sys.prefix != sys.base_prefix else ""))


def _system() -> str:
    name = platform.system()
    with suppress(OSError, KeyError):  # no Linux, or a very bare one
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    libc = " ".join(platform.libc_ver())
    inside = ", in a container" if _in_container() else ""
    return f"{name}, {platform.system()} {platform.release()} {platform.machine()}, {libc}{inside}"


def _in_container() -> bool:
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def _locale() -> Finding:
    encoding = sys.getfilesystemencoding()
    seen = f"{os.environ.get('LC_ALL') or os.environ.get('LANG') or 'none set'}, files {encoding}"
    out = sys.stdout.encoding or "utf-8"
    if {encoding.lower().replace("-", ""), out.lower().replace("-", "")} != {"utf8"}:
        return Finding("locale", WARN, f"{seen}, output {out}", "export LANG=C.UTF-8")
    return Finding("locale", OK, seen)


def _packages() -> Iterator[Finding]:
    """Each in an interpreter that survived the ones before it."""
    engines = [r for name in ("cpu", "gpu") for r in extras().get(name, [])]
    wanted = {r.name: r for r in (*requirements(), *engines)}
    if not wanted:
        yield Finding(
            "requirements",
            WARN,
            "robollm is not installed as a package: versions were not compared",
            "pip install .",
        )
    left = list(MODULES)
    while left:
        ended = ask([*CHILD, "imports", *left], limit_s=IMPORT_S)
        for said in ended.said:
            if "module" in said:
                left.remove(said["module"])
                yield (
                    _package(said["module"], said["version"], wanted)
                    if "version" in said
                    else (_broken(said["module"], said["error"]))
                )
        if ended.why:
            yield _broken(left.pop(0) if left else "imports", ended.why)


def _package(module: str, seen: str, wanted: dict[str, Requirement]) -> Finding:
    names = MODULES[module]
    name, version = next(((n, v) for n in names if (v := _version(n))), (names[0], seen))
    need = next((wanted[n] for n in names if n in wanted), None)
    if need and version and not need.allows(version):
        fix = f'pip install "{need}"'
        return Finding(module, FAIL, f"{name} {version}, robollm wants {need.ranges}", fix)
    return Finding(module, OK, f"{name} {version or 'of unknown version'}")


def _broken(module: str, why: str) -> Finding:
    name = MODULES.get(module, (module,))[0]
    absent = "No module named" in why and not any(map(_version, MODULES.get(module, ())))
    force = "" if absent else "--force-reinstall --no-deps "
    seen = "not installed" if absent else f"can't be imported: {why}"
    return Finding(module, FAIL, seen, f"pip install {force}{name}")


def _twice() -> Iterator[Finding]:
    for pair in TWICE:
        if all(map(_version, pair)):
            text = f"{' and '.join(pair)} are both installed and write the same files"
            fix = f"pip uninstall {' '.join(pair)}; then install the one that you want"
            yield Finding(f"{pair[0]} twice", WARN, text, fix)


def _extra(name: str, wanted: list[Requirement]) -> Finding:
    have = {r: _version(r.name) for r in wanted}
    odd = [f"{r.name} {v} (wants {r.ranges})" for r, v in have.items() if v and not r.allows(v)]
    missing = [r.name for r, v in have.items() if not v]
    fix = f'pip install "robollm[{name}]"'
    if odd:
        return Finding(f"extra {name}", WARN, ", ".join(odd), fix)
    if missing:
        return Finding(f"extra {name}", NONE, f"without {', '.join(missing)}", fix)
    return Finding(f"extra {name}", OK, ", ".join(f"{r.name} {v}" for r, v in have.items()))


def _provider(name: str) -> Finding:
    limit = TENSORRT_S if name == "tensorrt" else PROVIDER_S
    ended = ask([*CHILD, "provider", name], limit_s=limit)
    if ended.code == 0 and ended.said:
        return Finding(f"provider {name}", OK, str(ended.said[-1]["where"]))
    state = FAIL if name == "cpu" else WARN
    return Finding(f"provider {name}", state, f"not active: {ended.why}", PROVIDER_FIX[name])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
