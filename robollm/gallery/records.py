"""What a gallery keeps, as frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Product:
    """What is known of a product; one row of a manifest.

    Attributes:
        product_id: ARMBench's Product-ID (an ASIN).
        title: short name; may be empty.
        description: long text; may be empty.
        weight_kg: weight in kg, or None.
        dimensions_m: (length, width, height) in m, or None.
        extra: further columns, kept as they are.
    """

    product_id: str
    title: str = ""
    description: str = ""
    weight_kg: float | None = None
    dimensions_m: tuple[float, float, float] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reference:
    """One vector of one reference image of a product.

    Attributes:
        id: number that is never used again.
        product_id: the product.
        source: the image, relative to the folder that the gallery was built from.
        sha256: digest of that file.
        created: when it was added, ISO 8601 in UTC.
        slot: place of the vector in the vector file; `compact` changes it.
    """

    id: int
    product_id: str
    source: str
    sha256: str
    created: str
    slot: int


@dataclass(frozen=True, slots=True)
class MadeWith:
    """What made the vectors.

    Attributes:
        embedding_sha256: `Bundle.embedding_sha256`: only equal ones can be compared.
        bundle: that bundle's title, for messages.
    """

    embedding_sha256: str
    bundle: str


@dataclass(frozen=True, slots=True)
class GalleryCard:
    """What a gallery is, for people.

    Attributes:
        folder: where it is.
        format_version: of the folder's layout.
        made_with: the bundle that made the vectors.
        dim: length of a vector.
        created: when the gallery was made, ISO 8601 in UTC.
        generation: number of commits.
        products: products that have at least one reference.
        products_without_reference: known products that have none.
        references: vectors that are searched.
        containers: containers with a manifest.
        removed: vectors that are no longer searched and still take space, until `compact`.
        bytes_on_disk: of the whole folder.
    """

    folder: Path
    format_version: int
    made_with: MadeWith
    dim: int
    created: str
    generation: int
    products: int
    products_without_reference: int
    references: int
    containers: int
    removed: int
    bytes_on_disk: int
