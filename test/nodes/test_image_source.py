"""One image input without a node around it: what it says when nothing it hears can be used."""

from __future__ import annotations

import time

import pytest
import rclpy
from cell import RELIABLE, image, jpeg, picture
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CompressedImage, Image

from robollm.core.errors import FrameError
from robollm.core.settings import NodeConfig
from robollm.nodes.images import ImageSource


class Listener:
    """An image source, its camera, what came, and a clock that goes on when it is told to."""

    def __init__(self, context, decodes=True):
        self.node = rclpy.create_node("listener", context=context, namespace="/source")
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.frames, self.bad, self.decodes = [], [], decodes
        self.now_s = 1000.0
        self.source = ImageSource(
            self.node,
            "image",
            "image",
            NodeConfig(),
            on_arrival=self._take,
            on_bad=self._refuse,
            now=lambda: self.now_s,
        )
        self.raw = self.node.create_publisher(Image, "image", RELIABLE)
        self.packed = self.node.create_publisher(CompressedImage, "image/compressed", RELIABLE)

    def _take(self, stream, arrival):
        try:
            self.frames.append(arrival.frame() if self.decodes else arrival)
        except FrameError as e:
            self.bad.append(e)

    def _refuse(self, stream, error):
        self.bad.append(error)

    def until(self, true, timeout_s=10.0):
        end = time.monotonic() + timeout_s
        while not (value := true()) and time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)
        return value

    def send(self, pub, msg):
        assert self.until(pub.get_subscription_count)
        heard = len(self.frames) + len(self.bad)
        pub.publish(msg)
        assert self.until(lambda: len(self.frames) + len(self.bad) > heard)

    def send_for(self, seconds, pub, make):
        """One image a second; the clock ends with the last."""
        for n in range(seconds + 1):
            self.now_s += 1.0 if n else 0.0
            self.send(pub, make(n))

    def close(self):
        self.source.close()
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def listen():
    context, made = rclpy.Context(), []
    rclpy.init(context=context)

    def make(**kwargs):
        made.append(Listener(context, **kwargs))
        return made[-1]

    yield make
    for listener in made:
        listener.close()
    rclpy.shutdown(context=context)


def bayer(n):
    msg = image(picture(1), 1_000_000_000 + n, "cam")
    msg.encoding = "bayer_rggb8"
    return msg


def whole(n):
    return jpeg(picture(1), 1_000_000_000 + n, "cam")


def broken(n):
    msg = whole(n)
    msg.data = msg.data[:40]
    return msg


@pytest.mark.parametrize(
    ("make", "says", "fix"),
    [
        (bayer, "encoding 'bayer_rggb8'", "set the camera to rgb8"),
        (broken, "40 bytes of 'jpeg' don't decode", "check the link to the camera"),
    ],
)
def test_images_of_which_none_can_be_used_are_a_trouble_that_names_the_last_error(
    listen, make, says, fix
):
    listener = listen()
    if make is broken:
        listener.node.destroy_publisher(listener.raw)
    pub = listener.raw if make is bayer else listener.packed
    listener.send_for(5, pub, make)
    wrong = listener.source.trouble(3.0)
    assert wrong.what.startswith("images arrive on /source/image, none was usable for 5 s: ")
    assert f"last error: {says}" in wrong.what
    assert wrong.fix.startswith(fix)
    assert listener.source.trouble(5.0) is None, "it is too early to say so"
    good = (image if make is bayer else jpeg)(picture(1), 5_000_000_000, "cam")
    listener.send(pub, good)
    assert listener.source.trouble(3.0) is None, "one that can be used ends it"


def test_images_that_nobody_looked_into_are_no_trouble(listen):
    listener = listen(decodes=False)
    listener.node.destroy_publisher(listener.raw)
    listener.send_for(5, listener.packed, whole)
    assert listener.source.trouble(3.0) is None


def test_a_bad_image_long_ago_is_no_trouble(listen):
    listener = listen(decodes=False)
    listener.node.destroy_publisher(listener.raw)
    listener.send(listener.packed, broken(0))
    with pytest.raises(FrameError):
        listener.frames[0].frame()
    listener.now_s += 1.0
    listener.send_for(4, listener.packed, lambda n: whole(n + 1))
    assert listener.source.trouble(3.0) is None


def test_silence_is_another_trouble_than_bad_images(listen):
    listener = listen()
    listener.send(listener.raw, bayer(1))
    assert listener.source.trouble(3.0) is None
    listener.now_s += 4.0
    wrong = listener.source.trouble(3.0)
    assert wrong.what == "no image on /source/image for 4 s"
    assert listener.source.trouble(3.0, silence=False) is None


def test_after_a_jump_back_the_stamp_of_the_last_image_is_new_again(listen):
    listener = listen()
    listener.send(listener.raw, image(picture(1), 1_000_000_000, "cam"))
    listener.send(listener.raw, image(picture(1), 1_000_000_000, "cam"))
    assert [e.kind for e in listener.bad] == ["repeated_stamp"]
    listener.source.time_jumped_back()
    listener.send(listener.raw, image(picture(1), 1_000_000_000, "cam"))
    assert len(listener.frames) == 2
