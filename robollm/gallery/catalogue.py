"""Gallery and manifests together: what may be answered for a container, and since when."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from robollm.core.errors import GalleryError, ManifestError, RobollmError
from robollm.gallery.manifest import Manifests, load_manifests
from robollm.gallery.plan import SearchPlan
from robollm.gallery.snapshot import StoredGallery
from robollm.gallery.store import open_gallery

Allowed = tuple[AbstractSet[str] | None, str]


# No slots: `cached_property` needs the instance's dictionary.
@dataclass(frozen=True, eq=False)
class Catalogue:
    """An immutable pair: a refresh makes a new one, so a search never sees half a change.

    Attributes:
        gallery: the reference vectors.
        manifests: the containers; if the gallery keeps them, those of the same generation.
    """

    gallery: StoredGallery
    manifests: Manifests
    _allowed: dict[str, Allowed] = field(default_factory=dict, init=False, repr=False)

    def allowed(self, container: str | None) -> Allowed:
        """The products that may be answered for a container.

        Args:
            container: its id, or None if nobody announced one.

        Returns:
            (product ids that have reference vectors, ""), or (None, why there are none): then the
            only honest answer is `unknown`. The same set object every time, so that what a search
            has prepared for it is found again.
        """
        if container is None:
            return None, "no container was announced"
        found = self._allowed.get(container)
        if found is None:
            found = self._look_up(container)
            if container in self.manifests.containers:  # else strangers would add up for ever
                # Two threads may both look it up: the first one's set stays.
                found = self._allowed.setdefault(container, found)
        return found

    def without_reference(self) -> list[str]:
        """Products that some manifest lists but the gallery has no vector of, sorted."""
        return self._bare

    def _look_up(self, container: str) -> Allowed:
        listed = self.manifests.containers.get(container)
        if listed is None:
            return None, f"container {container!r} is not in the manifest"
        have = self.gallery.products
        found = frozenset(p for p in listed if p in have)
        if not found:
            return None, f"none of the {len(listed)} products of {container!r} has a reference"
        return found, ""

    @cached_property
    def _bare(self) -> list[str]:
        have = self.gallery.products
        bare: set[str] = set()
        # Container by container: one union of them all would hold up the other threads.
        for listed in self.manifests.containers.values():
            bare.update(p for p in listed if p not in have)
        return sorted(bare)


class CatalogueSource:
    """Where catalogues come from: a gallery folder and, if one is set, a manifest file.

    Remembers what it has read, so one thread at a time may use it.

    Args:
        manifest: the manifest file; empty: the containers kept in the gallery.
        gallery: the gallery folder; empty: the folder `gallery` beside the manifest.
        embedding_sha256: of the loaded bundle.
        bundle: that bundle's title, for messages.
        search: how to search; None: as the gallery's own default is.

    Attributes:
        file: the manifest file, or None if the gallery keeps the containers.
        folder: the gallery folder.

    Raises:
        ManifestError: if neither manifest nor gallery is set.
    """

    def __init__(
        self,
        manifest: str,
        gallery: str,
        *,
        embedding_sha256: str,
        bundle: str,
        search: SearchPlan | None = None,
    ) -> None:
        if not manifest and not gallery:
            raise ManifestError(
                "no manifest is set, and no gallery that could keep the containers",
                fix="set the parameter `manifest` to a JSON or CSV file, or `gallery` to a gallery",
            )
        self.file = Path(manifest) if manifest else None
        self.folder = Path(gallery) if gallery else Path(manifest).parent / "gallery"
        self._said_where = bool(gallery)
        self._embedding_sha256, self._bundle, self._search = embedding_sha256, bundle, search
        self._read: tuple[int, int, int] | None = None
        self._refused: ManifestError | None = None

    def load(self) -> Catalogue:
        """Read manifest and gallery from disk.

        Raises:
            ManifestError: see `load_manifests`.
            GalleryError: see `open_gallery`.
        """
        manifests = None if self.file is None else self._read_file(self.file)
        if not self._said_where and not self.folder.exists():
            raise GalleryError(
                f"no gallery at {str(self.folder)!r}, where it is looked for by default",
                fix="build it there, or set the parameter `gallery`",
            )
        opened = open_gallery(
            self.folder,
            embedding_sha256=self._embedding_sha256,
            bundle=self._bundle,
            search=self._search,
        )
        return Catalogue(opened, opened.manifests if manifests is None else manifests)

    def refreshed(
        self, old: Catalogue, *, reread: bool = False
    ) -> tuple[Catalogue, list[RobollmError]]:
        """Take over what others have changed on disk; cheap if that is nothing.

        A gallery that can't be read does not hold back a new manifest file, nor the other way
        round. A manifest file that was refused is not read again before it changes; its error is
        the same object again.

        Args:
            old: what is in use; stays usable.
            reread: read the manifest file even if it looks unchanged.

        Returns:
            A new catalogue, or `old` itself if nothing changed; and what could not be taken over.
        """
        errors: list[RobollmError] = []
        gallery, manifests = old.gallery, old.manifests
        newest = gallery
        try:
            newest = gallery.refreshed()
        except GalleryError as e:
            errors.append(e)
        if self.file is None:
            manifests = manifests if newest is gallery else newest.manifests
        else:
            try:
                manifests = self._newest_file(self.file, manifests, reread)
            except ManifestError as e:
                errors.append(e)
        if newest is gallery and manifests is old.manifests:
            return old, errors
        return Catalogue(newest, manifests), errors

    def _newest_file(self, file: Path, old: Manifests, reread: bool) -> Manifests:
        if _stamp(file) != self._read or reread:
            return self._read_file(file)
        if self._refused is not None:
            raise self._refused.with_traceback(None)
        return old

    def _read_file(self, file: Path) -> Manifests:
        self._read = _stamp(file)  # before reading: what changes meanwhile is read again
        try:
            manifests = load_manifests(file)
        except ManifestError as e:
            self._refused = e
            raise
        self._refused = None
        return manifests


def load_catalogue(
    manifest: str,
    gallery: str,
    *,
    embedding_sha256: str,
    bundle: str,
    search: SearchPlan | None = None,
) -> Catalogue:
    """Load manifest and gallery from disk, once; see `CatalogueSource`.

    Raises:
        ManifestError: see `load_manifests`.
        GalleryError: see `open_gallery`.
    """
    return CatalogueSource(
        manifest, gallery, embedding_sha256=embedding_sha256, bundle=bundle, search=search
    ).load()


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
