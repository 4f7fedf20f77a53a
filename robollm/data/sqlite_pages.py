"""Tables of a SQLite file that its own library refuses because the end is missing.

The library reads a missing end of a page as zeros: a cut image would look fine. Here a row counts
only if every page of it is there in full. Source: sqlite.org/fileformat2.html.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from robollm.core.errors import BagError

_MAGIC = b"SQLite format 3\0"
_LEAF, _INNER = 0x0D, 0x05
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # serial type -> bytes

Value = int | float | str | bytes | None


class Cell(NamedTuple):
    """Where a row is: its number, its size, where its first bytes are, the page of the others."""

    rowid: int
    size: int
    at: int
    local: int
    overflow: int


class SqlitePages:
    """A SQLite file, page by page, read only.

    Args:
        path: the file.

    Attributes:
        cut: whether the file is shorter than it says.
        tables: name -> its first page, and the statement that made it.
        lost: pages that tables name, but that are missing or no pages of a table.

    Raises:
        BagError: if it is no SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lost = path, 0
        try:
            self._fd = os.open(path, os.O_RDONLY)
        except OSError as e:
            raise BagError(f"{path} can't be read: {e.strerror}", fix="check the file") from e
        head = os.pread(self._fd, 100, 0)
        if len(head) < 100 or not head.startswith(_MAGIC):
            self.close()
            raise BagError(
                f"{path} is no SQLite file: it begins with {head[:8]!r}", fix="copy it again"
            )
        page = int.from_bytes(head[16:18], "big")
        self._page = 65536 if page == 1 else page
        self._usable = self._page - head[20]
        if self._page < 512 or self._page & (self._page - 1) or self._usable < 480:
            self.close()
            raise BagError(
                f"{path} has a damaged head: pages of {self._page} bytes", fix="copy it again"
            )
        size = os.fstat(self._fd).st_size
        self._pages = size // self._page
        self.cut = size < int.from_bytes(head[28:32], "big") * self._page
        self.tables = {"sqlite_master": (1, "(type, name, tbl_name, rootpage, sql)")}
        for _, row in list(self.rows("sqlite_master")):
            name, root, sql = row.get("name"), row.get("rootpage"), row.get("sql")
            if isinstance(name, str) and isinstance(root, int) and isinstance(sql, str):
                self.tables[name] = (root, sql)
        del self.tables["sqlite_master"]

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def columns(self, table: str) -> list[str]:
        """Names of a table's columns, from the statement that made it; none: no such table."""
        if table not in self.tables:
            return []
        inner = self.tables[table][1].partition("(")[2].rpartition(")")[0]
        return [part.split()[0].strip('"`[]') for part in inner.split(",") if part.strip()]

    def rows(self, table: str) -> Iterator[tuple[Cell, dict[str, Value]]]:
        """The rows of a table that are there in full, by number, as far as pages can be read."""
        columns = self.columns(table)
        for cell in self._cells(table):
            try:
                values = self.row(cell)
            except IndexError:
                self.lost += 1
                continue
            yield cell, dict(zip(columns, values, strict=False))

    def row(self, cell: Cell) -> list[Value]:
        """The values of a row; the column that is the row's number is None in it.

        Raises:
            IndexError: if its bytes are no row.
        """
        raw = bytearray(os.pread(self._fd, cell.local, cell.at))
        page = cell.overflow
        while len(raw) < cell.size:
            packed = os.pread(self._fd, self._usable, (page - 1) * self._page)
            raw += packed[4 : 4 + cell.size - len(raw)]
            page = int.from_bytes(packed[:4], "big")
        return _values(bytes(raw))

    def _cells(self, table: str) -> Iterator[Cell]:
        seen: set[int] = set()
        pages = [self.tables[table][0]] if table in self.tables else []
        while pages:
            number = pages.pop()
            raw = self._load(number)
            at = 100 if number == 1 else 0
            if number in seen or raw is None or raw[at] not in (_LEAF, _INNER):
                self.lost += 1
                continue
            seen.add(number)
            count = int.from_bytes(raw[at + 3 : at + 5], "big")
            begin = at + (12 if raw[at] == _INNER else 8)
            places = [
                int.from_bytes(raw[begin + 2 * i : begin + 2 * i + 2], "big") for i in range(count)
            ]
            if raw[at] == _INNER:
                last = int.from_bytes(raw[at + 8 : at + 12], "big")
                below = [int.from_bytes(raw[p : p + 4], "big") for p in places]
                pages += reversed([*below, last])
                continue
            for place in places:
                cell = self._cell(raw, place, (number - 1) * self._page)
                if cell is None or not self._whole(cell):
                    self.lost += 1
                else:
                    yield cell

    def _load(self, number: int) -> bytes | None:
        if not 1 <= number <= self._pages:
            return None
        raw = os.pread(self._fd, self._page, (number - 1) * self._page)
        return raw if len(raw) == self._page else None

    def _cell(self, raw: bytes, place: int, base: int) -> Cell | None:
        try:
            size, at = _varint(raw, place)
            rowid, at = _varint(raw, at)
        except IndexError:
            return None
        if size > self._pages * self._page:
            return None
        most = self._usable - 35
        least = (self._usable - 12) * 32 // 255 - 23
        local = size
        if size > most:
            kept = least + (size - least) % (self._usable - 4)
            local = kept if kept <= most else least
        if at + local > len(raw):
            return None
        more = int.from_bytes(raw[at + local : at + local + 4], "big") if local < size else 0
        return Cell(rowid, size, base + at, local, more)

    def _whole(self, cell: Cell) -> bool:
        left, page = cell.size - cell.local, cell.overflow
        while left > 0:
            if not 1 <= page <= self._pages:
                return False
            left -= self._usable - 4
            page = int.from_bytes(os.pread(self._fd, 4, (page - 1) * self._page), "big")
        return True


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(8):
        value = value << 7 | raw[at + i] & 0x7F
        if raw[at + i] < 0x80:
            return value, at + i + 1
    return value << 8 | raw[at + 8], at + 9


def _values(raw: bytes) -> list[Value]:
    """The values of a record; IndexError: it is none."""
    header, at = _varint(raw, 0)
    kinds = []
    while at < header:
        kind, at = _varint(raw, at)
        kinds.append(kind)
    out: list[Value] = []
    for kind in kinds:
        size = _INTEGERS.get(kind, 8 if kind == 7 else max(0, kind - 12) // 2)
        part = raw[at : at + size]
        at += size
        if at > len(raw):
            raise IndexError("a value ends behind its record")
        if kind == 0 or kind == 7:
            out.append(None)  # no column of a bag holds a fraction
        elif kind in (8, 9):
            out.append(kind - 8)
        elif kind in _INTEGERS:
            out.append(int.from_bytes(part, "big", signed=True))
        else:
            out.append(part if kind % 2 == 0 else part.decode(errors="replace"))
    return out
