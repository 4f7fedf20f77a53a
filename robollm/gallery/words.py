"""Look products up by words of their id, title and description (SQLite FTS5)."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from robollm.core.errors import GalleryError
from robollm.gallery import tables
from robollm.gallery.checksums import crc_of_values
from robollm.gallery.reader import GalleryReader
from robollm.gallery.records import Product
from robollm.gallery.schema import damaged

MAX_WORDS = 64
MAX_FOUND = 10_000

_FOUND = f"""
SELECT {", ".join(f"product.{c}" for c in tables.PRODUCT_ROW.split(", "))}
FROM words JOIN product ON product.number = words.rowid
WHERE words MATCH ? ORDER BY bm25(words, 10, 5, 1), product.id LIMIT ?"""


def find_products(folder: Path, words: str, *, limit: int = 20) -> list[Product]:
    """Products that have all the words, or words that begin so; removed ones are not found.

    Args:
        folder: the gallery.
        words: as an operator types them, at most `MAX_WORDS`; no character has a meaning of its
            own. Capitals and accents make no difference.
        limit: how many at most, 1 to `MAX_FOUND`.

    Returns:
        Best first: a word of the id counts more than one of the title, and that more than one of
        the description; a whole word counts more than the beginning of one. Nothing if there is
        no letter or digit in `words`.

    Raises:
        GalleryError: if `limit` or the number of words is out of range, a product that was found
            is damaged, or see `GalleryReader`.
    """
    if not 1 <= limit <= MAX_FOUND:
        raise GalleryError(
            f"limit is {limit}, want 1 to {MAX_FOUND}", fix="ask for a number in that range"
        )
    query = quoted(words)
    with closing(GalleryReader(folder)) as reader, reader.reading() as conn:
        rows = conn.execute(_FOUND, (query, limit)).fetchall() if query else []
        for number, pid, *values, texts, crc in rows:
            if crc_of_values(values) != texts or tables.product_crc(number, pid, texts) != crc:
                raise damaged(folder, f"the row of product {pid!r} is not what was written")
    return [tables.to_product(row[1:]) for row in rows]


def quoted(words: str) -> str:
    """Any text as an FTS5 query for all of its words, or words that begin so.

    Raises:
        GalleryError: if there are more than `MAX_WORDS`.
    """
    clean = words.encode("utf-8", "replace").decode().replace("\0", " ")
    parts = [w.replace('"', '""') for w in clean.split() if any(c.isalnum() for c in w)]
    if len(parts) > MAX_WORDS:
        raise GalleryError(
            f"{len(parts)} words to look for, want at most {MAX_WORDS}", fix="give fewer words"
        )
    # bm25 takes a prefix for one word, however it ends: naming the whole word, too, ranks
    # "oat bites" before "oatmeal".
    return " AND ".join(f'("{w}" OR "{w}"*)' for w in parts)
