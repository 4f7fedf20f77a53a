"""Gallery and manifests together: what may be answered for a container."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from robollm.core.errors import GalleryError, ManifestError
from robollm.gallery.base import Gallery
from robollm.gallery.manifest import Manifests, load_manifests
from robollm.gallery.store import open_gallery


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """An immutable snapshot; a reload makes a new one, so a search never sees half a change.

    Attributes:
        gallery: the reference vectors.
        manifests: the containers.
    """

    gallery: Gallery
    manifests: Manifests

    def allowed(self, container: str | None) -> tuple[AbstractSet[str] | None, str]:
        """The products that may be answered for a container.

        Args:
            container: its id, or None if nobody announced one.

        Returns:
            (product ids that have reference vectors, ""), or (None, why there are none): then the
            only honest answer is `unknown`.
        """
        if container is None:
            return None, "no container was announced"
        listed = self.manifests.containers.get(container)
        if listed is None:
            return None, f"container {container!r} is not in the manifest"
        found = listed & self.gallery.products
        if not found:
            return None, f"none of the {len(listed)} products of {container!r} has a reference"
        return found, ""

    def without_reference(self) -> list[str]:
        """Products that some manifest lists but the gallery has no vector of, sorted."""
        listed = frozenset().union(*self.manifests.containers.values())
        return sorted(listed - self.gallery.products)


def load_catalogue(manifest: str, gallery: str, *, embedding_sha256: str, bundle: str) -> Catalogue:
    """Load manifest and gallery from disk.

    Args:
        manifest: the manifest file.
        gallery: the gallery folder; empty: the folder `gallery` beside the manifest.
        embedding_sha256: of the loaded bundle.
        bundle: that bundle's title, for messages.

    Raises:
        ManifestError: see `load_manifests`.
        GalleryError: see `open_gallery`.
    """
    if not manifest:
        raise ManifestError(
            "no manifest is set", fix="set the parameter `manifest` to a JSON or CSV file"
        )
    path = Path(manifest)
    manifests = load_manifests(path)
    folder = Path(gallery) if gallery else path.parent / "gallery"
    if not folder.exists() and not gallery:
        raise GalleryError(
            f"no gallery at {str(folder)!r}, where it is looked for by default",
            fix="build it there, or set the parameter `gallery`",
        )
    opened = open_gallery(folder, embedding_sha256=embedding_sha256, bundle=bundle)
    return Catalogue(opened, manifests)
