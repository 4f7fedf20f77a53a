"""G/index: what makes search faster and can be made again: never the truth.

    G/index/max.json              what the other files are, their sizes and checksums
    G/index/max-<digits>.graph    links of an HNSW graph over the first slots of the vector file
    G/index/max-<digits>.codes    or one byte per number of them
    G/index/centroid.json ...     the same over centroids, and the centroids themselves

A missing, damaged or outdated file is left out, and `why` says so.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import GalleryError
from robollm.gallery.graph import Graph, read_graph
from robollm.gallery.plane import signatures
from robollm.gallery.rows import Rows
from robollm.gallery.scan import Codes

FOLDER = "index"
_FORMAT = 1
_SAMPLES = 256
_CHUNK = 1 << 24
_TUNE = "robollm gallery tune"
_DAMAGED = f"the index is damaged and left out; run {_TUNE}"


@dataclass(frozen=True, slots=True, eq=False)
class Centroids:
    """Centroids and which references each was made of.

    Attributes:
        rows: (P, D) float16.
        numbers: (P,) int64 product numbers, ascending.
        signatures: (P,) uint64, see `robollm.gallery.plane.signatures`.
    """

    rows: NDArray[np.float16]
    numbers: NDArray[np.int64]
    signatures: NDArray[np.uint64]

    def valid(self, rows: Rows) -> NDArray[np.bool_]:
        """(P,) bool, which products still have exactly these references."""
        numbers, now = signatures(rows.products, rows.references)
        if len(numbers) == 0:
            return np.zeros(len(self.numbers), bool)
        at = np.minimum(np.searchsorted(numbers, self.numbers), len(numbers) - 1)
        return np.asarray((numbers[at] == self.numbers) & (now[at] == self.signatures))


@dataclass(frozen=True, slots=True, eq=False)
class Derived:
    """What was read of G/index for one product score.

    Attributes:
        graph: links over the first rows, or None.
        codes: codes of the first rows, or None.
        centroids: for the score "centroid".
        why: why there is nothing, for people; empty: there is something.
    """

    graph: Graph | None = None
    codes: Codes | None = None
    centroids: Centroids | None = None
    why: str = ""


def save(
    folder: Path,
    score: str,
    rows: Rows,
    *,
    graph: Graph | None,
    codes: Codes | None,
    centroids: Centroids | None,
) -> int:
    """Write what search may use; readers see the old files or the new ones.

    Args:
        folder: the gallery.
        score: "max" or "centroid".
        rows: what it was made of.
        graph: links, or None.
        codes: codes, or None.
        centroids: for the score "centroid".

    Returns:
        Bytes written.

    Raises:
        GalleryError: if the folder can't be written.
    """
    place = folder / FOLDER
    stamp = os.urandom(4).hex()
    files: dict[str, dict[str, Any]] = {}

    def keep(name: str, write: Any) -> None:
        file = place / f"{score}-{stamp}.{name}"
        write(file)
        with file.open("rb") as f:
            os.fsync(f.fileno())
        files[name] = {"file": file.name, "bytes": file.stat().st_size, "crc32": _crc(file)}

    card: dict[str, Any] = {
        "format_version": _FORMAT,
        "vectors": rows.file,
        "slots": len(rows.vectors),
        "sample": _sample(rows.vectors, len(rows.vectors)),
        "dim": rows.dim,
        "files": files,
    }
    try:
        place.mkdir(exist_ok=True)
        if graph is not None:
            keep("graph", graph.write)
            card |= {"rows": len(graph), "ef": graph.ef}
        if codes is not None:
            keep("codes", codes.values.tofile)
            assert codes.scale is not None
            keep("scale", codes.scale.tofile)
            card |= {"rows": len(codes), "residual": codes.residual, "reach": codes.reach}
        if centroids is not None:
            keep("centroids", centroids.rows.tofile)
            keep("numbers", centroids.numbers.tofile)
            keep("signatures", centroids.signatures.tofile)
        card["crc32"] = _sum(card)
        part = place / f".{score}-{stamp}.json"
        with part.open("w") as f:
            json.dump(card, f, indent=1)
            f.flush()
            os.fsync(f.fileno())
        part.replace(place / f"{score}.json")
    except OSError as e:
        for file in place.glob(f"*{score}-{stamp}.*"):
            file.unlink(missing_ok=True)
        raise GalleryError(
            f"can't write {place}: {e.strerror or e}", fix="make room, or make it writable"
        ) from e
    for file in place.glob(f"{score}-*"):  # readers that have the old ones open keep them
        if stamp not in file.name:
            file.unlink(missing_ok=True)
    return sum(f["bytes"] for f in files.values())


def load(folder: Path, score: str, rows: Rows) -> Derived:
    """Read what fits these rows.

    Args:
        folder: the gallery.
        score: "max" or "centroid".
        rows: of the snapshot that will search.
    """
    try:
        card = json.loads((folder / FOLDER / f"{score}.json").read_bytes())
        if card["format_version"] != _FORMAT:
            return Derived(why=f"the index was made by another version; run {_TUNE}")
        if card.pop("crc32") != _sum(card):
            return Derived(why=_DAMAGED)
        return _load(folder / FOLDER, score, rows, card)
    except FileNotFoundError:
        return Derived(why=f"no index; {_TUNE} makes one")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
        # RuntimeError: FAISS can't read a file that another version of it wrote.
        return Derived(why=_DAMAGED)


def _load(place: Path, score: str, rows: Rows, card: Mapping[str, Any]) -> Derived:
    slots, files = card["slots"], card["files"]
    if score == "max" and (
        card["vectors"] != rows.file
        or slots > len(rows.vectors)
        or card["sample"] != _sample(rows.vectors, slots)
    ):
        return Derived(why=f"the index is of vectors that are no longer there; run {_TUNE}")
    paths = {}
    for name, file in files.items():
        path = place / Path(file["file"]).name
        if path.stat().st_size != file["bytes"] or _crc(path) != file["crc32"]:
            return Derived(why=f"{path.name} is damaged and left out; run {_TUNE}")
        paths[name] = path
    dim, centroids = rows.dim, None
    base = rows.vectors
    if card["dim"] != dim:
        return Derived(why=f"the index is of vectors of {card['dim']} numbers; run {_TUNE}")
    if score == "centroid":
        numbers = np.fromfile(paths["numbers"], np.int64)
        base = _mapped(paths["centroids"], np.dtype(np.float16), dim)
        marks = np.fromfile(paths["signatures"], np.uint64)
        if not len(numbers) == len(base) == len(marks):
            return Derived(why=_DAMAGED)
        centroids = Centroids(base, numbers, marks)
    graph, codes = None, None
    if "graph" in paths:
        graph = read_graph(paths["graph"], base[: card["rows"]], card["ef"])
        if graph is None:
            return Derived(why=_DAMAGED)
    elif "codes" in paths:
        values = _mapped(paths["codes"], np.dtype(np.uint8), dim)
        scale = np.fromfile(paths["scale"], np.float32)
        codes = Codes(values, scale, card["residual"], card["reach"])
        if len(values) > len(base) or len(scale) != dim:
            return Derived(why=_DAMAGED)
    return Derived(graph, codes, centroids)


def _mapped(file: Path, dtype: np.dtype[Any], dim: int) -> NDArray[Any]:
    if file.stat().st_size == 0:
        return np.zeros((0, dim), dtype)
    return np.memmap(file, dtype, "r").reshape(-1, dim)


def _sample(vectors: NDArray[np.float16], slots: int) -> int:
    """A checksum of some of the first vectors: another gallery's file may have the same name."""
    rows = np.unique(np.linspace(0, max(0, slots - 1), _SAMPLES, dtype=np.int64))
    return zlib.crc32(vectors[rows].tobytes()) if slots else 0


def _sum(card: Mapping[str, Any]) -> int:
    """A checksum of a card: a bound in it that is too small would make exact search miss."""
    return zlib.crc32(json.dumps(card, sort_keys=True).encode())


def _crc(file: Path) -> int:
    crc = 0
    with file.open("rb") as f:
        while block := f.read(_CHUNK):
            crc = zlib.crc32(block, crc)
    return crc
