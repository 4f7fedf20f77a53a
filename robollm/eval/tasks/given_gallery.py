"""A gallery that a run was given (`--gallery`): what was in it, and whether that still is so.

Picks are ranked when they are scored, so references that come or go would change figures behind a
run. What decides is their content: a gallery may move, be copied or compacted.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from robollm.core.errors import EvalError
from robollm.eval.records import Json
from robollm.eval.run_card import GALLERY
from robollm.eval.run_folder import RunFolder
from robollm.eval.tasks import references
from robollm.gallery.records import MadeWith
from robollm.gallery.store import read_card
from robollm.metrics.ranks import Gallery

SHA = "sha256"
_ROWS = 4096


def searched(folder: Path | None, made_with: MadeWith) -> Json:
    """What a run's card says of the gallery that it searches.

    Args:
        folder: that was given; None: the run embeds references for itself, or searches nothing.
        made_with: what makes the queries.

    Returns:
        The place, what makes the queries, and what is in it: when it was made and the number of
        its last change, for people; products, references and the digest of both.

    Raises:
        GalleryError: if it is missing, damaged, empty, or made with something else.
    """
    out: Json = {"gallery": "", "embedding_sha256": made_with.embedding_sha256}
    if folder is not None:
        made, found = read_card(folder), references.read(folder, made_with.embedding_sha256)
        out["gallery"] = str(folder.absolute())
        out[GALLERY] = {
            "created": made.created,
            "generation": made.generation,
            "products": len(found.products),
            "references": len(found.vectors),
            SHA: digest(found),
        }
    return out


def digest(gallery: Gallery) -> str:
    """SHA-256 of products and vectors: some 2 s for the 600,000 references of ARMBench."""
    found = hashlib.sha256(repr(gallery.products).encode())
    found.update(gallery.starts.tobytes())
    for first in range(0, len(gallery.vectors), _ROWS):
        found.update(gallery.vectors[first : first + _ROWS].tobytes())
    return found.hexdigest()


def gallery_of(run: RunFolder) -> Path:
    """Where the references of a run are: made for it, or given to it."""
    given = run.card.get("gallery", "")
    return Path(given) if given else run.path / "gallery"


def references_of(run: RunFolder) -> Gallery:
    """The references of a run, as it began with them if they were given.

    Raises:
        GalleryError: if they are missing, damaged, or another predictor's.
        EvalError: if the gallery that was given has changed since.
    """
    folder = gallery_of(run)
    found = references.read(folder, run.card.get("embedding_sha256"))
    if not run.card.get("gallery"):
        return found
    then: Json = run.card.get(GALLERY) or {}
    if SHA not in then:
        raise EvalError(
            f"{str(run.path)!r} doesn't say what was in the gallery {str(folder)!r} when it began: "
            "an earlier robollm made it",
            fix="evaluate again with another --out",
        )
    now = digest(found)
    if now != then[SHA]:
        made = read_card(folder)
        raise EvalError(
            f"gallery {str(folder)!r} has changed since {str(run.path)!r} began: it has "
            f"{len(found.vectors)} references of {len(found.products)} products (generation "
            f"{made.generation}, sha256 {now[:12]}), want {then['references']} of "
            f"{then['products']} (generation {then['generation']}, sha256 {then[SHA][:12]})",
            fix="put the gallery back as it was, or evaluate again with another --out",
        )
    return found
