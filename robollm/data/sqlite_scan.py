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
        except (sqlite3.Error, UnicodeDecodeError) as e:  # the latter of names and of its own words
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
        query = (
            "SELECT timestamp, topic_id, id FROM messages "
            "WHERE typeof(timestamp) = 'integer' AND typeof(data) = 'blob' ORDER BY id"
        )
        with closing(self._database.execute(query)) as rows:
            self._index = [row for row in rows if row[1] in self.channels]
        (every,) = self._database.execute("SELECT count(*) FROM messages").fetchone()
        self._leave_out(every - len(self._index))

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
        topics = [{**row, "id": cell.rowid} for cell, row in pages.rows("topics")]
        self._define(topics, [row for _, row in pages.rows("message_definitions")])
        strange = 0
        for cell, row in pages.rows("messages"):
            topic, log_ns, data = (row.get(k) for k in ("topic_id", "timestamp", "data"))
            if isinstance(log_ns, int) and isinstance(data, bytes) and topic in self.channels:
                self._index.append((log_ns, int(topic), cell))
            else:
                strange += 1
        self._leave_out(strange)
        if pages.lost:
            self.reasons.append(f"{pages.lost} pages or rows of {self.path.name} are missing")

    def _leave_out(self, count: int) -> None:
        if count:
            self.reasons.append(
                f"{count} messages of {self.path.name} have no time, no bytes, or are of topics "
                "that are not described, or not in CDR"
            )

    def _define(self, topics: list[dict[str, Any]], texts: list[dict[str, Any]]) -> None:
        told: dict[str, tuple[str, str]] = {}
        for row in texts:
            kind, encoding, text = (
                row.get(k) for k in ("topic_type", "encoding", "encoded_message_definition")
            )
            if isinstance(kind, str) and isinstance(encoding, str) and isinstance(text, str):
                told[kind] = (encoding, text)
        for row in topics:
            number, name, kind = (row.get(k) for k in ("id", "name", "type"))
            if not (isinstance(number, int) and isinstance(name, str) and isinstance(kind, str)):
                self.reasons.append(f"a topic of {self.path.name} can't be read")
            elif row.get("serialization_format") == "cdr":
                self.channels[number] = Channel(name, kind, *told.get(kind, ("", "")))

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
