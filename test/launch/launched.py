"""Runs the launch file on the stand-in, and the processes that it describes."""

from __future__ import annotations

import ast
import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILE = ROOT / "launch" / "armbench.launch.py"
STAND_IN = Path(__file__).with_name("standin")
DEADLINE_S = 60.0


def scripts() -> dict[str, str]:
    """The console scripts in setup.py: name -> "module:function"."""
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())):
        if isinstance(node, ast.keyword) and node.arg == "entry_points":
            entries = ast.literal_eval(node.value)["console_scripts"]
            return dict(e.replace(" ", "").split("=") for e in entries)
    raise AssertionError("setup.py has no entry_points")


@contextmanager
def stand_in() -> Iterator[Any]:
    """Inside, `launch` and `launch_ros` are the stand-ins; afterwards what they were before."""

    def ours() -> list[str]:
        return [m for m in sys.modules if m.partition(".")[0] in ("launch", "launch_ros")]

    before = {name: sys.modules.pop(name) for name in ours()}
    sys.path.insert(0, str(STAND_IN))
    try:
        import launch

        yield launch
    finally:
        sys.path.remove(str(STAND_IN))
        for name in ours():
            del sys.modules[name]
        sys.modules.update(before)


def description() -> Any:
    """What the launch file returns, with whatever `launch` is importable."""
    spec = importlib.util.spec_from_file_location("armbench_launch", LAUNCH_FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def describe(**arguments: str) -> Any:
    """Run the launch file on the stand-in; returns the context with `nodes` and `messages`."""
    with stand_in() as launch:
        context = launch.LaunchContext()
        context.launch_configurations.update(arguments)
        launch.run(description(), context)
        return context


class Processes:
    """Starts commands; at the end of the `with` block nothing of them is left.

    Args:
        folder: where their output goes; a failing test shows it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._running: list[tuple[subprocess.Popen[bytes], Path]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for process, log in self._running:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            print(f"---- {log.name}: exit {process.returncode}\n{log.read_text()}")
        self._stack.close()

    def start(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start one."""
        log = self._folder / f"{len(self._running)}-{Path(command[0]).name}.log"
        file = self._stack.enter_context(log.open("wb"))
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        self._running.append((process, log))
        return process

    def output(self, process: subprocess.Popen[bytes]) -> str:
        """What a process has said until now."""
        return next(log.read_text() for p, log in self._running if p is process)


def end(process: subprocess.Popen[bytes]) -> int:
    """Interrupt a process as launch does, and return its exit code."""
    process.send_signal(signal.SIGINT)
    return process.wait(DEADLINE_S)


class Listener:
    """A subscriber to one topic, in a ROS context of its own."""

    def __init__(self, topic: str, msg_type: Any) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context)
        self.node = rclpy.create_node("listener", context=self._context)
        self.got: list[Any] = []
        self.node.create_subscription(msg_type, topic, self.got.append, 10)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def until(self, done: Callable[[], object], *needed: subprocess.Popen[bytes]) -> None:
        """Spin until `done()`; fail at the deadline, or when a process that is needed has died."""
        deadline = time.monotonic() + DEADLINE_S
        while not done():
            assert time.monotonic() < deadline, f"not done in time; {len(self.got)} messages came"
            assert all(p.poll() is None for p in needed), "a process ended too early"
            self._executor.spin_once(timeout_sec=0.1)

    def parameter(self, node: str, name: str, *needed: subprocess.Popen[bytes]) -> Any:
        """The value of another node's parameter."""
        from rcl_interfaces.srv import GetParameters
        from rclpy.parameter import parameter_value_to_python

        client = self.node.create_client(GetParameters, f"{node}/get_parameters")
        self.until(client.service_is_ready, *needed)
        future = client.call_async(GetParameters.Request(names=[name]))
        self.until(future.done, *needed)
        return parameter_value_to_python(future.result().values[0])
