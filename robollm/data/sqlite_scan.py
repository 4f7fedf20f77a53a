"""What can be read of a rosbag2 in SQLite: by its library if the file is whole, else by pages."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from robollm.core.errors import BagError
from robollm.data.mcap_scan import Channel, Row
from robollm.data.sqlite_pages import Cell, SqlitePages


class SqliteScan:
    """One .db3 file, read as far as it goes.

    Args:
        path: the file.

    Attributes:
        channels: id -> topic, of those in CDR.
        reasons: what is wrong, in words.
        promised: None: such a file doesn't say how many messages it has.

    Raises:
        BagError: if it is no bag, or can't be read at all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.channels: dict[int, Channel] = {}
        self.reasons: list[str] = []
        self.promised: int | None = None
        self._pages = SqlitePages(path)
        self._database: sqlite3.Connection | None = None
        self._index: list[tuple[int, int, Any]] = []  # time, channel, where
        try:
            self._by_library()
        except sqlite3.Error as e:
            self._forget_library()
            self.channels, self._index = {}, []
            self.reasons.append(f"{path.name} is damaged ({e}); its pages are read one by one")
            self._by_pages()
        if not self.channels:
            self.close()
            raise BagError(
                f"{path} has no topics; its tables are {', '.join(self._pages.tables) or 'lost'}",
                fix="copy it again; is it a rosbag2?",
            )

    def __len__(self) -> int:
        """Messages that can be read."""
        return len(self._index)

    def counts(self) -> dict[int, int]:
        """Channel id -> messages that can be read."""
        return dict(Counter(channel for _, channel, _ in self._index))

    def rows(self) -> Iterator[Row]:
        """The messages by time of recording; of one time as they were written."""
        for log_ns, channel, where in sorted(self._index, key=lambda row: row[0]):
            yield Row(log_ns, self.channels[channel], self._raw(where))

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._forget_library()
        self._pages.close()

    def _by_library(self) -> None:
        if self._pages.cut:  # the library would read what is missing of a page as zeros
            raise sqlite3.DatabaseError("its end is missing")
        uri = f"{self.path.resolve().as_uri()}?mode=ro"
        self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        found = self._database.execute("PRAGMA quick_check(1)").fetchone()
        if found[0] != "ok":
            raise sqlite3.DatabaseError(found[0])
        self._define(self._table("topics"), self._table("message_definitions"))
        query = "SELECT timestamp, topic_id, id FROM messages ORDER BY id"
        with closing(self._database.execute(query)) as rows:
            self._index = [row for row in rows if row[1] in self.channels]

    def _table(self, name: str) -> list[dict[str, Any]]:
        assert self._database is not None
        known = "SELECT 1 FROM sqlite_master WHERE name = ?"
        if self._database.execute(known, (name,)).fetchone() is None:
            return []
        with closing(self._database.execute(f"SELECT * FROM {name}")) as rows:
            columns = [d[0] for d in rows.description]
            return [dict(zip(columns, row, strict=True)) for row in rows]

    def _by_pages(self) -> None:
        pages = self._pages
        tables: dict[str, list[dict[str, Any]]] = {}
        for name in ("topics", "message_definitions"):
            columns = pages.columns(name)
            tables[name] = [
                {"id": cell.rowid} | {k: v for k, v in zip(columns, pages.row(cell), strict=False)
                                      if k != "id"}
                for cell in pages.cells(name)
            ]  # fmt: skip
        self._define(tables["topics"], tables["message_definitions"])
        columns = pages.columns("messages")
        for cell in pages.cells("messages"):
            row = dict(zip(columns, pages.row(cell), strict=False))
            topic, log_ns = row.get("topic_id"), row.get("timestamp")
            if isinstance(topic, int) and isinstance(log_ns, int) and topic in self.channels:
                self._index.append((log_ns, topic, cell))
        if pages.lost:
            self.reasons.append(f"{pages.lost} pages or rows of {self.path.name} are missing")

    def _define(self, topics: list[dict[str, Any]], texts: list[dict[str, Any]]) -> None:
        told = {
            t["topic_type"]: (t["encoding"], t["encoded_message_definition"])
            for t in texts
            if t.get("encoded_message_definition")
        }
        for row in topics:
            if row.get("serialization_format") == "cdr":
                encoding, text = told.get(row["type"], ("", ""))
                self.channels[int(row["id"])] = Channel(row["name"], row["type"], encoding, text)

    def _raw(self, where: Any) -> bytes:
        if isinstance(where, Cell):
            at = self._pages.columns("messages").index("data")
            return bytes(self._pages.row(where)[at])  # type: ignore[arg-type]
        assert self._database is not None
        query = "SELECT data FROM messages WHERE id = ?"
        return bytes(self._database.execute(query, (where,)).fetchone()[0])

    def _forget_library(self) -> None:
        if self._database is not None:
            self._database.close()
        self._database = None
