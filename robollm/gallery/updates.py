"""Changes of manifests that arrive as text, on the topic `manifest`."""

from __future__ import annotations

from dataclasses import dataclass

from robollm.core.errors import ManifestError
from robollm.gallery.manifest import Manifests, parse_manifests, parse_object, product_ids
from robollm.gallery.writer import GalleryWriter

WHERE = "message"
_FIX = 'send {"container": ID, "products": [IDS]}, {"container": ID, "remove": true} or a manifest'


@dataclass(frozen=True, slots=True)
class ManifestUpdate:
    """One message.

    Attributes:
        manifests: the containers to put; empty: none.
        removed: the container to remove, or None.
    """

    manifests: Manifests
    removed: str | None = None

    @property
    def title(self) -> str:
        """What it does, for people."""
        if self.removed is not None:
            return f"container {self.removed!r} removed"
        names = list(self.manifests.containers)
        return f"container {names[0]!r}" if len(names) == 1 else f"{len(names)} containers"

    def apply(self, writer: GalleryWriter) -> None:
        """Make the change; the caller commits.

        Raises:
            GalleryError: if the gallery refuses it.
        """
        if self.removed is not None:
            writer.remove_container(self.removed)
        else:
            writer.put_manifests(self.manifests)


def read_update(text: str) -> ManifestUpdate:
    """Understand a message.

    Args:
        text: JSON: `{"container": id, "products": [ids]}`, which replaces that container's list;
            `{"container": id, "remove": true}`; or a whole robollm-manifest, whose containers
            replace those of the same name and leave the others alone.

    Raises:
        ManifestError: if it is none of these, or an id is missing, empty or repeated.
    """
    data = parse_object(text, WHERE)
    if "format" in data:
        return ManifestUpdate(parse_manifests(data, WHERE))
    container, keys = data.get("container"), set(data)
    if not isinstance(container, str) or not container.strip():
        raise ManifestError(f"manifest message has the container {container!r}", fix=_FIX)
    container = container.strip()  # as the topic `container` is read
    if keys == {"container", "remove"} and data["remove"] is True:
        return ManifestUpdate(Manifests({}, {}), container)
    if keys != {"container", "products"}:
        raise ManifestError(
            f"manifest message has the keys {', '.join(sorted(keys))}, want container with "
            "products or with remove: true",
            fix=_FIX,
        )
    listed = product_ids(data["products"], container, WHERE)
    return ManifestUpdate(Manifests({}, {container: listed}))
