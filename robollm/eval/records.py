"""One JSON line per sample: the truth, and what was said. A run is scored from these alone.

A sample that has no answer keeps its truth and names an `error`: it counts as not found.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import EvalError, FrameError, MessageError, RobollmError

Json: TypeAlias = dict[str, Any]

WORDS = 2000
"""Characters of an error that a record keeps at most."""
SEGMENTATION, IDENTIFICATION, DEFECTS = "segmentation/", "identification", "defects"
VIDEOS, PICKS, TOTES = "videos", "picks", "totes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What all records have.

    Attributes:
        key: of the sample, unique in its stream.
        ms: stage -> milliseconds that it took; empty: not measured.
        error: None, or `kind` (short, stable, counted) and `what` (for people): no answer.
    """

    key: str
    ms: dict[str, float] = field(default_factory=dict)
    error: dict[str, str] | None = None

    _tuples: ClassVar[tuple[str, ...]] = ()

    def to_line(self) -> bytes:
        """One line of JSON with its newline; the key first, then the error.

        Raises:
            ValueError: if a number is not finite.
        """
        names = [f.name for f in fields(self)]
        first = {name: getattr(self, name) for name in ("key", "error")}
        card = first | {name: getattr(self, name) for name in names if name not in first}
        text = json.dumps(card, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode() + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationRecord(Record):
    """Instances of one image; streams `segmentation/<subset>` and `totes`.

    Attributes:
        file: the image, relative to the data's root; or the bag and the stamp of a frame.
        hw: (height, width) of the image, px; (0, 0) if it could not be read.
        truth: `category` (name), `bbox` (x, y, width, height, px), `segmentation` (COCO RLE:
            `size` and `counts`, compressed) and `iscrowd` of each instance.
        found: `category`, `bbox`, `segmentation` and `score` of each instance.
        scene: name of what several images show, as one drop of items; they are resampled as one.
            "": the image stands alone.
    """

    file: str
    hw: tuple[int, int]
    truth: list[Json]
    found: list[Json] = field(default_factory=list)
    scene: str = ""

    _tuples = ("hw",)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentificationRecord(Record):
    """One pick's query; stream `identification`.

    Attributes:
        truth: id of the product that was picked.
        manifest: ids of the products in its container.
        files: view -> image, relative to the data's root.
        vectors: `n1`, `n3` or a view's name -> unit vector, see `pack_vector`.
    """

    truth: str
    manifest: list[str]
    files: dict[str, str]
    vectors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DefectRecord(Record):
    """One inspected picture; streams `defects` and `videos`.

    Attributes:
        induct: the event that the picture is of; its pictures are not independent.
        frame: number of the picture in its induct.
        time_s: since the induct's first picture, s; None: not known.
        file: the image or video, relative to the data's root.
        label: true class.
        box: part that was inspected, (left, top, right, bottom) px; None: all of it.
        probabilities: class -> probability.
    """

    induct: str
    frame: int
    time_s: float | None
    file: str
    label: str
    box: tuple[float, ...] | None = None
    probabilities: dict[str, float] = field(default_factory=dict)

    _tuples = ("box",)


@dataclass(frozen=True, slots=True, kw_only=True)
class PickRecord(Record):
    """What the station said of one pick; stream `picks`.

    Attributes:
        bag: where the pick comes from.
        truth: `product_id`, `in_manifest`, `container`, `label`, `views` (view -> label) and
            `view_frames`; None: the truth doesn't know this pick.
        identification: `decision`, `ranked` ((id, score) of what is published), `views` and
            `reason`; None: no answer.
        verdict: `decision`, `ranked` ((class, score)), `inspected` and `missing`; None: no answer.
        evidence: `view`, `stamp_ns`, `probabilities`, `box` and `reason` of each view.
        frames: `view`, `stamp_ns`, `label` and `probabilities` of later pictures of a view.
    """

    bag: str
    truth: Json | None
    identification: Json | None = None
    verdict: Json | None = None
    evidence: list[Json] = field(default_factory=list)
    frames: list[Json] = field(default_factory=list)


_KINDS: dict[str, type[Record]] = {
    "segmentation": SegmentationRecord,
    TOTES: SegmentationRecord,
    IDENTIFICATION: IdentificationRecord,
    DEFECTS: DefectRecord,
    VIDEOS: DefectRecord,
    PICKS: PickRecord,
}


def kind_of(stream: str) -> type[Record]:
    """The class of a stream's records.

    Raises:
        EvalError: if there is no such stream.
    """
    try:
        return _KINDS[stream.partition("/")[0]]
    except KeyError:
        raise EvalError(
            f"no kind of records is called {stream!r}; known are {', '.join(_KINDS)}",
            fix="is the run of a newer robollm? then use that one",
        ) from None


def from_line(stream: str, line: bytes) -> Record:
    """Read back what `to_line` wrote.

    Raises:
        EvalError: if it is something else.
    """
    kind = kind_of(stream)
    try:
        card = json.loads(line)
        for name in kind._tuples:
            if card[name] is not None:
                card[name] = tuple(card[name])
        return kind(**card)
    except (ValueError, KeyError, TypeError) as e:
        raise EvalError(
            f"not a record of {stream}: {line[:60]!r}... ({e})",
            fix="use the robollm that wrote it, or begin anew with another --out",
        ) from e


def pack_vector(vector: NDArray[np.floating]) -> str:
    """A vector, (D,) as little-endian float32 in base64."""
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()


def unpack_vector(text: str) -> NDArray[np.float32]:
    """What `pack_vector` packed: (D,) float32, read only.

    Raises:
        EvalError: if it is something else.
    """
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)
    except (binascii.Error, ValueError) as e:
        raise EvalError(f"not a vector: {text[:40]!r}", fix="predict this sample again") from e


def as_error(error: RobollmError) -> dict[str, str]:
    """How a record names what went wrong: images and messages by the kind they are counted under.

    Others by their class: an `InferenceError` is an "inference".
    """
    if isinstance(error, FrameError | MessageError):
        return named_error(error.kind, error.what)
    name = type(error).__name__.removesuffix("Error")
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
    return named_error(snake or "error", error.what)


def named_error(kind: str, what: str) -> dict[str, str]:
    """The `error` of a record; the end of long words is what counts, and stays."""
    return {"kind": kind, "what": what[-WORDS:]}
