"""Images that are not decoded yet and can be sent to another process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from robollm.core.errors import FrameError
from robollm.core.frame import NS, Frame
from robollm.data.ros_fields import decode_compressed, stamp_ns, to_frame, unpack
from robollm.runtime.arrival import Arrival


@dataclass(frozen=True, slots=True)
class Stamp:
    """Seconds and nanoseconds, as in ROS."""

    sec: int
    nanosec: int


@dataclass(frozen=True, slots=True)
class Header:
    """Capture time, and the camera's frame."""

    stamp: Stamp
    frame_id: str

    @classmethod
    def at(cls, ns: int, frame_id: str) -> Header:
        """A header from nanoseconds."""
        return cls(Stamp(ns // NS, ns % NS), frame_id)


@dataclass(frozen=True, slots=True)
class Picture(ABC):
    """An image as it was sent."""

    header: Header

    def check(self, stream: str) -> None:
        """Refuse what a node refuses before it keeps an image.

        Raises:
            FrameError: for a bad stamp, or numbers that don't fit together.
        """
        stamp_ns(self.header.stamp)

    @abstractmethod
    def frame(self, stream: str) -> Frame:
        """Decode it.

        Raises:
            FrameError: if that is not possible.
        """

    def arrival(self, stream: str) -> Arrival:
        """It, to be decoded once, by who needs it."""
        return Arrival(stamp_ns(self.header.stamp), lambda: self.frame(stream))


@dataclass(frozen=True, slots=True)
class RawPicture(Picture):
    """A sensor_msgs/Image."""

    height: int
    width: int
    encoding: str
    step: int
    data: bytes

    def check(self, stream: str) -> None:
        """See `Picture`."""
        to_frame(self, stream)

    def frame(self, stream: str) -> Frame:
        """See `Picture`."""
        return to_frame(self, stream)


@dataclass(frozen=True, slots=True)
class PackedPicture(Picture):
    """A sensor_msgs/CompressedImage."""

    format: str
    data: bytes

    def frame(self, stream: str) -> Frame:
        """See `Picture`."""
        return decode_compressed(self, stream)


@dataclass(frozen=True, slots=True)
class FilePicture(Picture):
    """A JPEG or PNG file; read where it is decoded."""

    file: Path

    def frame(self, stream: str) -> Frame:
        """See `Picture`."""
        try:
            packed = self.file.read_bytes()
        except OSError as e:
            raise FrameError(
                f"{self.file} can't be read: {e.strerror}", kind="missing_image",
                fix="fetch it again",
            ) from e  # fmt: skip
        return unpack(packed, "jpeg", stamp_ns(self.header.stamp), self.header.frame_id, stream)
