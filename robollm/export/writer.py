"""Write a bundle's folder in one step: it is there whole, or as it was before."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx

from robollm.core.errors import ModelFileError
from robollm.runtime.bundle import FORMAT, FORMAT_VERSION, load_bundle

CARD = "bundle.json"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PART = ".part"
"""How the names of folders end in which a bundle is in the making."""


def write_bundle(
    out: Path, models: Mapping[str, bytes | onnx.ModelProto], card: Mapping[str, Any]
) -> Path:
    """Write graphs and card beside `out`, read them back, and rename them in.

    A kill or a full disk at any time leaves what was at `out`, or nothing, and never a part:
    the card is written last and has every file's digest. What a kill left beside it is cleaned up
    when the next bundle is written there.

    Args:
        out: the folder. A bundle that is already there is replaced; an empty folder is filled.
        models: file name -> graph, for example `backbone.onnx`; exactly those that the card names
            in `graphs` and `variants`.
        card: what `bundle.json` says, but for `format`, `format_version` and `files`, which are
            filled in.

    Returns:
        `out`.

    Raises:
        ModelFileError: `out` is something else than a bundle or can't be written, or card and
            models are not a bundle. Then nothing was written.
    """
    refuse_foreign(out)
    with workplace(out) as place, said_clearly(out):
        new = place / "new"
        new.mkdir(mode=0o755)
        _write_files(new, models, card)
        load_bundle(new, allow_untrained=True)
        with _alone(out.parent):
            _refuse_foreign(out)  # hours may have passed
            _put_in_place(new, out, aside=place / "old")
    return out


@contextmanager
def said_clearly(out: Path) -> Iterator[None]:
    """Turn what the disk says into an error that names `out` and a way out.

    Raises:
        ModelFileError: a file can't be written.
    """
    try:
        yield
    except OSError as e:
        full = e.errno in _FULL
        raise ModelFileError(
            f"{out} can't be written: {e.strerror or e}",
            fix="free some space, or give another folder" if full else "give another folder",
        ) from e


def refuse_foreign(out: Path) -> None:
    """Let nothing be overwritten that isn't a bundle.

    Raises:
        ModelFileError: `out` is neither a bundle, nor empty, nor absent.
    """
    if out.parent.is_dir():
        with _alone(out.parent):
            _refuse_foreign(out)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let no other process look at a folder's bundles while they are renamed."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _refuse_foreign(out: Path) -> None:
    if not out.exists() and not out.is_symlink():
        return
    fix = "name a new folder, or remove this one yourself"
    if out.is_symlink() or not out.is_dir():
        raise ModelFileError(f"{out} is no folder, want a bundle's folder or none", fix=fix)
    if not any(out.iterdir()):
        return
    try:
        about = json.loads((out / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        about = None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ModelFileError(f"{out} holds files but is no bundle: not overwritten", fix=fix)


def _write_files(
    folder: Path, models: Mapping[str, bytes | onnx.ModelProto], card: Mapping[str, Any]
) -> None:
    named = {*card["graphs"].values()}
    for variant in card["variants"].values():
        named |= {*variant.get("graphs", {}).values()}
    if named != set(models):
        raise ModelFileError(
            f"the card names {sorted(named)}, the graphs are {sorted(models)}",
            fix="give exactly the graphs that the card names",
        )
    files = {}
    for name, model in sorted(models.items()):
        data = model if isinstance(model, bytes) else model.SerializeToString(deterministic=True)
        _write(folder / name, data)
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    whole = {**card, "format": FORMAT, "format_version": FORMAT_VERSION, "files": files}
    text = json.dumps(whole, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    _write(folder / CARD, (text + "\n").encode())
    _sync(folder)


def _write(path: Path, data: bytes) -> None:
    """Write a file down to the disk: a power cut after the rename must not empty it."""
    with path.open("wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def workplace(out: Path) -> Iterator[Path]:
    """A folder beside `out` that is locked as long as its process lives, and gone afterwards.

    Bundles may be written in folders inside of it, not in itself: it is locked.

    Raises:
        ModelFileError: there is no room for it.
    """
    with said_clearly(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with _alone(out.parent):
            _sweep(out)
        place, handle = _locked(out)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(handle)


def _locked(out: Path) -> tuple[Path, int]:
    """A new workplace, and what holds its lock."""
    while True:
        place = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=PART, dir=out.parent))
        try:
            handle = os.open(place, os.O_RDONLY)
        except FileNotFoundError:
            continue  # swept before it was locked
        fcntl.flock(handle, fcntl.LOCK_EX)
        if place.exists():
            return place, handle
        os.close(handle)


def _put_in_place(new: Path, out: Path, *, aside: Path) -> None:
    """Rename `new` to `out`; a bundle that is there steps aside, and comes back on failure."""
    if not out.exists() or not any(out.iterdir()):
        new.replace(out)
    else:
        try:
            out.replace(aside)
            new.replace(out)
        except BaseException:
            if aside.is_dir() and not out.exists():
                aside.replace(out)
            raise
    _sync(out.parent)


def _sweep(out: Path) -> None:
    """Clean up behind processes that were killed; one may have had a bundle aside."""
    ours = re.compile(rf"\.{re.escape(out.name)}\.[a-z0-9_]{{8}}{re.escape(PART)}")
    for place in [p for p in out.parent.iterdir() if ours.fullmatch(p.name)]:
        try:
            handle = os.open(place, os.O_RDONLY)
        except FileNotFoundError:
            continue  # its owner was quicker
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (place / "old").is_dir() and not out.exists():
                (place / "old").replace(out)
            shutil.rmtree(place, ignore_errors=True)
        except BlockingIOError:
            continue  # somebody is at work there
        finally:
            os.close(handle)
