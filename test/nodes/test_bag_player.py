"""The player as a process of its own, heard by a subscriber in this one."""

import importlib.util
import itertools
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from robollm.data.bag import BagReader, BagWriter
from robollm.nodes.bag_player import main, message_class

pytest.importorskip("rosbags")
rclpy = pytest.importorskip("rclpy")
qos = pytest.importorskip("rclpy.qos")
Executor = pytest.importorskip("rclpy.executors").SingleThreadedExecutor
Clock = pytest.importorskip("rosgraph_msgs.msg").Clock

T = 1_760_000_000_000_000_000
MS = 1_000_000
HAS_VISION = importlib.util.find_spec("vision_msgs") is not None
FRAMES = 40
LASTS_S = (FRAMES - 1) * 0.05 + 0.01  # bag time from the first to the last message


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp("player") / "bag"
    rng = np.random.default_rng(0)
    with BagWriter(path) as out:
        out.string("/tp/container", "tote-A", T)
        for k in range(FRAMES):
            t = T + 10 * MS + k * 50 * MS
            pixels = rng.integers(0, 255, (120, 160, 3), np.uint8)
            out.image("/tp/image", t, "cam", pixels, jpeg=False)
            if k % 4 == 1:
                out.image("/tp/view/compressed", t, "arm", pixels, jpeg=True, log_ns=t + 5 * MS)
                if HAS_VISION:
                    out.pick("/tp/pick", t, "cam", f"pick-{k}", (1, 2, 30, 40), t + 7 * MS)
    return path


def on_the_wire(raw):
    """DDS fills a message with zeros to a multiple of four bytes; nobody reads them."""
    return raw + bytes(-len(raw) % 4)


@pytest.fixture(scope="module")
def recorded(bag):
    with BagReader(bag) as reader:
        by_topic = {t.name: [] for t in reader.topics}
        for m in reader.messages():
            by_topic[m.topic].append(on_the_wire(m.raw))
        return by_topic, {t.name: t.type for t in reader.topics}


class Ear:
    """Subscribes to topics as raw bytes and to /clock."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("ear", context=self.context)
        self.executor = Executor(context=self.context)
        self.executor.add_node(self.node)
        self.got: dict[str, list[bytes]] = {}
        self.clock: list[int] = []
        self.node.create_subscription(Clock, "/clock", self._on_clock, 100)

    def _on_clock(self, message) -> None:
        self.clock.append(message.clock.sec * 10**9 + message.clock.nanosec)

    def listen(self, topic, msgtype) -> None:
        self.got[topic] = []
        profile = qos.QoSProfile(depth=100, reliability=qos.ReliabilityPolicy.RELIABLE)
        if msgtype == "std_msgs/msg/String":
            profile.durability = qos.DurabilityPolicy.TRANSIENT_LOCAL
        append = self.got[topic].append
        self.node.create_subscription(message_class(msgtype), topic, append, profile, raw=True)

    def until(self, true, timeout_s=30.0) -> bool:
        end = time.monotonic() + timeout_s
        while not true() and time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)
        return true()

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def ear():
    e = Ear()
    yield e
    e.close()


@pytest.fixture
def start(ros_env):
    """Start a player; whatever still runs at the end is interrupted."""
    running = []

    def begin(*args):
        command = [sys.executable, "-m", "robollm.nodes.bag_player", *map(str, args)]
        p = subprocess.Popen(
            command, env=ros_env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        running.append(p)
        return p

    yield begin
    for p in running:
        if p.poll() is None:
            p.send_signal(signal.SIGINT)
        p.communicate(timeout=20)


def end(p):
    """(exit code, the JSON line, what was said on stderr)."""
    out, err = p.communicate(timeout=30)
    assert "Traceback" not in err
    return p.returncode, json.loads(out) if out else None, err


def test_every_message_arrives_as_it_was_recorded_and_the_clock_runs(ear, start, bag, recorded):
    messages, types = recorded
    for topic, msgtype in types.items():
        ear.listen(topic, msgtype)
    p = start(bag, "--rate", 5, "--tail", 0.5)
    assert ear.until(lambda: p.poll() is not None)
    code, report, err = end(p)

    assert (code, err) == (0, "")
    assert ear.got == messages
    assert report["topics"] == {t: len(m) for t, m in messages.items()}
    assert (report["unheard"], report["stopped"], report["loops"]) == ([], False, 1)
    late = report["lateness_ms"]
    assert 0 <= late["p50"] <= late["p95"] <= late["max"]
    assert report["seconds"] == pytest.approx(LASTS_S / 5, rel=0.5, abs=0.1)

    assert ear.clock == sorted(ear.clock)
    assert T <= ear.clock[0] < T + 1e9
    assert ear.clock[-1] >= T + (LASTS_S + 5 * 0.4) * 1e9, "the clock goes on after the last one"
    moving = [c for c in ear.clock if c > T]
    assert len(moving) / ((moving[-1] - moving[0]) / 1e9 / 5) >= 50, "per second of real time"


@pytest.mark.parametrize("rate", [1.0, 4.0])
def test_the_rate_is_kept(start, bag, rate):
    code, report, err = end(start(bag, "--rate", rate, "--wait", 0, "--tail", 0))
    assert code == 0
    assert report["rate"] == rate
    assert report["seconds"] == pytest.approx(LASTS_S / rate, rel=0.2, abs=0.05)
    assert "nobody listens to /tp/container, /tp/image" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("args", [("--wait", 60), ("--wait", 0, "--rate", 0.05)])
def test_a_signal_ends_it_well(ear, start, bag, number, args):
    p = start(bag, *args)
    assert ear.until(lambda: bool(ear.clock))
    p.send_signal(number)
    code, report, _ = end(p)
    assert code == 0
    assert report["stopped"] is True
    assert report["messages"] < FRAMES


def test_it_loops_until_it_is_stopped_and_bag_time_jumps_back(ear, start, bag, recorded):
    messages, types = recorded
    ear.listen("/tp/image", types["/tp/image"])
    p = start(bag, "--topics", "/tp/image", "--rate", 8, "--loop")
    assert ear.until(lambda: len(ear.got["/tp/image"]) > 2 * FRAMES)
    p.send_signal(signal.SIGINT)
    code, report, err = end(p)
    assert (code, err) == (0, "")
    assert report["loops"] >= 3
    assert ear.got["/tp/image"][: 2 * FRAMES] == 2 * messages["/tp/image"]
    assert sum(b < a for a, b in itertools.pairwise(ear.clock)) >= 2


def test_who_joins_late_still_gets_the_container(ear, start, bag, recorded):
    messages, types = recorded
    p = start(bag, "--wait", 0, "--rate", 20, "--tail", 30)
    assert ear.until(lambda: bool(ear.clock) and ear.clock[-1] > T + LASTS_S * 1e9)
    ear.listen("/tp/container", types["/tp/container"])
    assert ear.until(lambda: ear.got["/tp/container"])
    assert ear.got["/tp/container"] == messages["/tp/container"]
    p.send_signal(signal.SIGINT)
    assert end(p)[0] == 0


def test_topics_can_be_chosen_and_remapped(ear, start, bag, recorded):
    messages, types = recorded
    ear.listen("/elsewhere", types["/tp/image"])
    p = start(
        bag, "--topics", "/tp/image", "--rate", 10, "--tail", 0,
        "--ros-args", "-r", "/tp/image:=/elsewhere",
    )  # fmt: skip
    assert ear.until(lambda: p.poll() is not None)
    code, report, _ = end(p)
    assert code == 0
    assert report["topics"] == {"/tp/image": FRAMES}
    assert ear.got["/elsewhere"] == messages["/tp/image"]


@pytest.fixture
def whole_cell(bag, tmp_path):
    """A recording of all topics of a station: also its clock, its verdicts, and a foreign type."""
    from rosbags.typesys import get_types_from_msg

    clock = "builtin_interfaces/Time clock\n"
    with BagReader(bag) as recorded, BagWriter(tmp_path / "cell") as out:
        out._store.register(get_types_from_msg("int32 grams\n", "shop_scale_msgs/msg/Scale"))
        if "rosgraph_msgs/msg/Clock" not in out._store.types:
            out._store.register(get_types_from_msg(clock, "rosgraph_msgs/msg/Clock"))
        types = out._store.types
        header = types["std_msgs/msg/Header"]
        time_ = types["builtin_interfaces/msg/Time"]
        for k, m in enumerate(recorded.messages()):
            out.write(m.topic, m.type, out._store.deserialize_cdr(m.raw, m.type), m.log_ns)
            # As recorded beside a simulation that began at 0.
            now = types["rosgraph_msgs/msg/Clock"](clock=time_(sec=k, nanosec=0))
            out.write("/clock", "rosgraph_msgs/msg/Clock", now, m.log_ns + 1)
            out.write(
                "/scale", "shop_scale_msgs/msg/Scale",
                types["shop_scale_msgs/msg/Scale"](grams=12), m.log_ns + 2,
            )  # fmt: skip
            for topic in ("/robollm/masks", "/diagnostics"):
                said = types["diagnostic_msgs/msg/DiagnosticArray"](
                    header=header(stamp=time_(sec=k, nanosec=0), frame_id=""), status=[]
                )
                out.write(topic, "diagnostic_msgs/msg/DiagnosticArray", said, m.log_ns + 3)
    return tmp_path / "cell"


def test_of_a_whole_cell_no_second_clock_and_no_old_answers_are_played(
    ear, start, whole_cell, recorded
):
    messages, types = recorded
    for topic, msgtype in types.items():
        ear.listen(topic, msgtype)
    for topic in ("/robollm/masks", "/diagnostics"):
        ear.listen(topic, "diagnostic_msgs/msg/DiagnosticArray")
    p = start(whole_cell, "--rate", 5, "--tail", 0, "--wait", 20)
    assert ear.until(lambda: p.poll() is not None)
    code, report, err = end(p)
    assert code == 0
    assert ear.clock == sorted(ear.clock)
    assert ear.clock[0] >= T
    assert ear.got == {**messages, "/robollm/masks": [], "/diagnostics": []}
    assert report["unheard"] == []
    assert report["skipped"].keys() == {"/clock", "/scale", "/robollm/masks", "/diagnostics"}
    assert "not played: /robollm/masks: perception" in err
    assert "not played: /scale: message type shop_scale_msgs/msg/Scale is not installed" in err
    assert "--topics" in err


def test_an_old_answer_that_is_named_is_played(start, whole_cell):
    p = start(whole_cell, "--topics", "/robollm/masks", "/clock", "--wait", 0, "--rate", 20)
    code, report, _ = end(p)
    assert code == 0
    assert report["topics"].keys() == {"/robollm/masks"}
    assert report["skipped"].keys() == {"/clock"}


def test_a_type_that_is_not_installed_is_named_with_its_package(tmp_path, capsys):
    from rosbags.typesys import get_types_from_msg

    with BagWriter(tmp_path / "bag") as out:
        out._store.register(get_types_from_msg("int32 grams\n", "shop_scale_msgs/msg/Scale"))
        scale = out._store.types["shop_scale_msgs/msg/Scale"](grams=12)
        out.write("/scale", "shop_scale_msgs/msg/Scale", scale, T)
    assert main([str(tmp_path / "bag")]) == 1
    err = capsys.readouterr().err
    assert "shop_scale_msgs/msg/Scale is not installed" in err
    assert "ros-$ROS_DISTRO-shop-scale-msgs" in err
    assert "--topics" in err


def test_a_missing_bag_and_an_unknown_topic_are_errors_in_words(bag, tmp_path, capsys):
    assert main([str(tmp_path / "none")]) == 1
    assert "no bag at" in capsys.readouterr().err
    assert main([str(bag), "--topics", "/tp/imge"]) == 1
    assert "no topic /tp/imge" in capsys.readouterr().err


def test_a_bag_that_breaks_off_is_reported(bag, tmp_path, capsys):
    cut = shutil.copytree(bag, tmp_path / "bag")
    meta = cut / "metadata.yaml"
    meta.write_text(meta.read_text().replace(f"message_count: {FRAMES}", "message_count: 99"))
    assert main([str(cut), "--topics", "/tp/image", "--wait", "0", "--rate", "50"]) == 1
    assert f"has {FRAMES} of the 99 messages" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args", [["--rate", "0"], ["--rate", "-1"], ["--wait", "-1"], ["--tail", "x"]]
)
def test_senseless_numbers_are_usage_errors(args, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bag", *args])
    assert "usage: bag_player" in capsys.readouterr().err


def test_signal_handlers_are_put_back(tmp_path, capsys):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert main([str(tmp_path / "none")]) == 1
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert "no bag at" in capsys.readouterr().err
