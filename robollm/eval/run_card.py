"""What `run.json` says: what was asked, by which versions, on which machine, and how it ended."""

from __future__ import annotations

import json
import os
import resource
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from robollm import __version__
from robollm.core.errors import EvalError
from robollm.eval.journal import unwritable
from robollm.eval.records import Json
from robollm.runtime.measure import machine

FORMAT = "robollm-eval"
FORMAT_VERSION = 1
CARD = "run.json"
SAME = ("source", "settings", "predictor", "data")
"""Parts that a resumed run must agree on; what somebody chose comes before what follows of it."""
GALLERY = "gallery_state"
"""What was in the gallery that was given; of it, a resumed run must agree on the content."""
CONTENT = "content"
"""In `data`, of bags: digest of their messages."""
_OF_GALLERY = ("products", "references", "sha256")
_PACKAGES = (
    *("numpy", "onnxruntime", "opencv-python-headless", "faiss-cpu", "pycocotools", "rosbags"),
)
_SHOWN = 5


def begun(asked: Json, old: Json | None) -> Json:
    """The card of a session that begins.

    Args:
        asked: the parts of `SAME`, and what else the caller tells.
        old: the card of the session before; None: this is the first one.
    """
    here = machine(_PACKAGES)
    versions = {"robollm": __version__, "python": here.pop("python"), **here.pop("packages")}
    card: Json = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **asked,
        "command": shlex.join(["robollm", *sys.argv[1:]]),
        "versions": versions,
        "machine": here,
        "started": now(),
        "finished": "",
        "wall_s": 0.0,
        "cpu_s": 0.0,
        "complete": False,
        "reason": "it was not ended: it still runs, or was killed",
        "streams": {},
        "problems": {"counts": {}, "lines": []},
        "sessions": [],
    }
    if old is not None:
        kept = ("started", "wall_s", "cpu_s", "streams", "sessions")
        card |= {name: old[name] for name in kept}
        told = ("command", "versions", "machine", "finished", "reason")
        card["sessions"] = [*old["sessions"], {name: old[name] for name in told}]
    return card


def mixed(card: Json) -> list[str]:
    """How the sessions of a run differ in what may change figures: versions, and processors."""
    lines = []
    for before in card["sessions"]:
        for name in ("versions", "machine"):
            pairs = differences(before[name], card[name], name)
            lines += [f"{what}: {a} before, {b} then" for what, a, b in pairs]
    return list(dict.fromkeys(lines))


class OtherRunError(EvalError):
    """Another run is there than the one that is asked for."""


def refuse_other(path: Path, old: Json, asked: Json) -> None:
    """See that a run is the one that is asked for.

    Raises:
        OtherRunError: if it is another: what differs is named, with both values.
    """
    if CONTENT in (asked.get("data") or {}) and CONTENT not in (old.get("data") or {}):
        raise OtherRunError(
            f"{str(path)!r} doesn't say what was in the messages of its bags, only how many there "
            "were: an earlier robollm began it",
            fix="begin anew with another --out, or remove this folder",
        )
    pairs = list(differences(_comparable(old), _comparable(asked), ""))
    if not pairs:
        return
    words = "; ".join(f"{what} is {a} there and {b} here" for what, a, b in pairs[:_SHOWN])
    more = f"; and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
    raise OtherRunError(
        f"{str(path)!r} holds another run: {words}{more}",
        fix="give another --out, or what that run was begun with",
    )


def _comparable(card: Mapping[str, Any]) -> Json:
    """What decides over a run's records. A place is no matter where the content is known."""
    out = {name: card.get(name) for name in SAME}
    if isinstance(data := out["data"], dict):
        out["data"] = {k: v for k, v in data.items() if k != "root"}
    if held := card.get(GALLERY):
        out[GALLERY] = {name: held.get(name) for name in _OF_GALLERY}
    if isinstance(made := out["predictor"], dict) and made.get("sha256"):
        out["predictor"] = {k: v for k, v in made.items() if k != "bundle"}
    return out


def differences(a: Any, b: Any, name: str) -> Iterator[tuple[str, str, str]]:
    """Dotted name and both values, as JSON, of each leaf that two trees don't share."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            yield from differences(a.get(key), b.get(key), f"{name}.{key}" if name else str(key))
    elif a != b:
        yield name, _brief(a), _brief(b)


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 80 else f"{text[:76]} ..."


def read_card(path: Path) -> Json:
    """Read a run's card.

    Raises:
        EvalError: if there is none, or one of something else.
    """
    wanted = "give a folder that `robollm eval` has made with --out"
    try:
        card = json.loads((path / CARD).read_bytes())
    except FileNotFoundError as e:
        raise EvalError(f"{str(path)!r} holds no run: {CARD} is missing", fix=wanted) from e
    except (OSError, ValueError) as e:
        raise EvalError(f"{str(path / CARD)!r} can't be read: {e}", fix=wanted) from e
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise EvalError(f"{str(path / CARD)!r} is no card of a run", fix=wanted)
    if card.get("format_version") != FORMAT_VERSION:
        raise EvalError(
            f"{str(path)!r} has format {card.get('format_version')}, this robollm reads "
            f"{FORMAT_VERSION}",
            fix="use the robollm that made it, or evaluate again",
        )
    return card


def write_json(path: Path, card: Json) -> None:
    """Write a JSON file in one step: it is the new one, or as it was.

    Raises:
        EvalError: if it can't be written.
    """
    data = json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        part.replace(path)
    except OSError as e:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise unwritable(path, e) from e


def now() -> str:
    """This moment, ISO 8601 in UTC, whole seconds."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def cpu_s() -> float:
    """Processor seconds of this process and of its children that have ended."""
    both = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in both)
