"""Damaged bags: what is there is read, never anything else, and what is lost is counted."""

from __future__ import annotations

import random
import shutil
import sqlite3
import struct
import tracemalloc
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from robollm.core.errors import BagError
from robollm.data.bag import BagReader, BagWriter
from robollm.data.bag_recovery import RecoveredBag, open_recovered

pytest.importorskip("rosbags")

T = 1_760_000_000_000_000_000
PICTURES = 60


def write(
    path: Path, storage: str = "mcap", *, compress: bool = False, pictures: int = PICTURES
) -> Path:
    rng = np.random.default_rng(3)
    with BagWriter(path, storage, compress=compress) as bag:
        bag.string("/container", "tote-A", T)
        for k in range(pictures):
            shot = rng.integers(0, 255, (40, 60, 3)).astype(np.uint8)
            bag.image("/image", T + 10 * k, "cam", shot, jpeg=False)
            bag.pick("/pick", T + 10 * k, "cam", f"p{k}", (1, 2, 30, 40), T + 10 * k + 5)
    return path


def strict(path: Path) -> list:
    with BagReader(path) as bag:
        return [(m.topic, m.type, m.log_ns, bytes(m.raw)) for m in bag.messages()]


def recovered(path: Path) -> tuple[list, RecoveredBag]:
    with RecoveredBag(path) as bag:
        return [(m.topic, m.type, m.log_ns, bytes(m.raw)) for m in bag.messages()], bag


KINDS = [("mcap", False), ("mcap", True), ("sqlite3", False)]


@pytest.mark.parametrize(("storage", "compress"), KINDS)
def test_of_a_whole_bag_the_strict_reader_and_this_one_say_the_same(tmp_path, storage, compress):
    path = write(tmp_path / "bag", storage, compress=compress)
    found, bag = recovered(path)
    assert found == strict(path)
    with BagReader(path) as whole:
        assert bag.topics == whole.topics
    assert (bag.recovery.read, bag.recovery.lost, bag.recovery.reasons) == (len(found), 0, [])


@pytest.mark.parametrize(("storage", "compress"), KINDS)
def test_a_bag_cut_anywhere_gives_whole_messages_of_its_beginning(tmp_path, storage, compress):
    path = write(tmp_path / "bag", storage, compress=compress)
    known, size = set(strict(path)), next(path.glob("bag.*")).stat().st_size
    rng, counts = random.Random(5), []
    for share in sorted(rng.uniform(0.05, 0.999) for _ in range(12)):
        cut = tmp_path / f"cut{share}"
        shutil.copytree(path, cut)
        with next(cut.glob("bag.*")).open("r+b") as f:
            f.truncate(int(size * share))
        try:
            found, bag = recovered(cut)
        except BagError:  # nothing is left
            found, lost = [], len(known)
        else:
            lost = bag.recovery.lost
            assert bag.recovery.read == len(found)
        assert set(found) <= known
        assert len(found) + lost == len(known)  # metadata.yaml tells how many there were
        counts.append(len(found))
    assert counts == sorted(counts)
    assert counts[-1] > 0.5 * len(known)


def test_a_cut_chunk_that_was_compressed_gives_what_can_be_unpacked(tmp_path):
    path = write(tmp_path / "bag", compress=True)
    file = path / "bag.mcap"
    with file.open("r+b") as f:
        f.truncate(file.stat().st_size // 2)
    found, bag = recovered(path)
    assert 10 < len(found) < 2 * PICTURES
    assert "without its checksum" in " ".join(bag.recovery.reasons)


def with_checksums(file: Path) -> list[tuple[int, int]]:
    """Give the chunks of an uncompressed mcap their CRC, as rosbag2 does and `rosbags` doesn't.

    Returns the begin and end of each chunk's records.
    """
    raw, at, places = bytearray(file.read_bytes()), 8, []
    while at < len(raw) - 8:
        code, size = struct.unpack_from("<BQ", raw, at)
        if code == 6:
            begin, end = at + 9 + 28 + 4 + 8, at + 9 + size  # no compression: its name is empty
            struct.pack_into("<I", raw, at + 9 + 24, zlib.crc32(raw[begin:end]))
            places.append((begin, end))
        at += 9 + size
    file.write_bytes(raw)
    return places


def test_a_flipped_byte_costs_its_chunk_and_is_told(tmp_path):
    path = write(tmp_path / "bag", pictures=250)
    file, known = path / "bag.mcap", strict(path)
    begin, end = with_checksums(file)[1]
    raw = bytearray(file.read_bytes())
    raw[(begin + end) // 2] ^= 0x55
    file.write_bytes(raw)
    found, bag = recovered(path)
    assert "checksum" in " ".join(bag.recovery.reasons)
    assert set(found) < set(known)
    assert len(found) + bag.recovery.lost == len(known)


def test_after_a_damaged_stretch_the_files_own_index_tells_where_to_go_on(tmp_path):
    path = write(tmp_path / "bag", pictures=450)
    file, known = path / "bag.mcap", strict(path)
    begin, _ = with_checksums(file)[1]
    raw = bytearray(file.read_bytes())
    raw[begin - 50 : begin + 500] = bytes(550)  # the head of the second chunk, too
    file.write_bytes(raw)
    found, bag = recovered(path)
    assert "is damaged at byte" in " ".join(bag.recovery.reasons)
    assert set(found) < set(known)
    assert found[0] == known[0]
    assert found[-1] == known[-1]
    assert len(found) + bag.recovery.lost == len(known)


def test_a_wrong_size_costs_its_chunk_and_not_all_that_follow(tmp_path):
    path = write(tmp_path / "bag", pictures=450)
    file, known = path / "bag.mcap", strict(path)
    begin, _ = with_checksums(file)[1]
    raw = bytearray(file.read_bytes())
    struct.pack_into("<Q", raw, begin - 48, 2**40)
    file.write_bytes(raw)
    found, bag = recovered(path)
    assert "is damaged at byte" in " ".join(bag.recovery.reasons)
    assert (found[0], found[-1]) == (known[0], known[-1])
    assert len(found) + bag.recovery.lost == len(known)


def chunk(whole: int, compression: bytes, packed: bytes) -> bytes:
    """An mcap of one chunk that says it has `whole` bytes."""
    head = struct.pack("<QQQI", 0, 0, whole, 0) + struct.pack("<I", len(compression)) + compression
    body = head + struct.pack("<Q", len(packed)) + packed
    return b"\x89MCAP0\r\n" + struct.pack("<BQ", 6, len(body)) + body


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("whole", [1000, 2**62])
def test_a_chunk_never_unpacks_to_more_than_it_says(tmp_path, compression, whole):
    lz4 = pytest.importorskip("lz4.frame")
    zstd = pytest.importorskip("backports.zstd")
    pack = lz4.compress if compression == "lz4" else zstd.compress
    file = tmp_path / "bomb.mcap"
    file.write_bytes(chunk(whole, compression.encode(), pack(bytes(1 << 26))))
    tracemalloc.start()
    try:
        with pytest.raises(BagError, match="no message that can be read"):
            RecoveredBag(file)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def spoilt(raw: bytes, rng: random.Random) -> bytes:
    """The same with some bytes changed, most of them in its front, gone, or cut off."""
    out = bytearray(raw)
    for _ in range(rng.randrange(1, 12)):
        out[rng.randrange(rng.choice([120, 9000, len(out)]))] = rng.choice([0, 1, 128, 255])
    if rng.random() < 0.3:
        at = rng.randrange(len(out))
        del out[at : at + rng.randrange(3000)]
    return bytes(out[: rng.randrange(len(out))] if rng.random() < 0.3 else out)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_whatever_the_bytes_are_a_bag_is_read_or_refused(tmp_path, storage):
    raw = next(write(tmp_path / "bag", storage, pictures=12).glob("bag.*")).read_bytes()
    file, rng = tmp_path / ("x.mcap" if storage == "mcap" else "x.db3"), random.Random(11)
    ends = Counter()
    for _ in range(150):
        file.write_bytes(spoilt(raw, rng))
        try:
            with RecoveredBag(file) as bag:
                assert len(list(bag.messages())) == bag.recovery.read
            ends["read"] += 1
        except BagError:
            ends["refused"] += 1
    assert min(ends["read"], ends["refused"]) > 20


def test_a_row_that_says_it_is_endless_is_no_row(tmp_path):
    file = write(tmp_path / "bag", "sqlite3", pictures=12) / "bag.db3"
    raw, known = bytearray(file.read_bytes()), len(strict(file.parent))
    page = int.from_bytes(raw[16:18], "big")
    size = b"\xff" * 8 + b"\x7f"
    hits = [at for at in range(page, len(raw), page) if raw[at] == 0x0D]
    for at in hits:  # the first row of each leaf
        place = at + int.from_bytes(raw[at + 8 : at + 10], "big")
        raw[place : place + 9] = size
    file.write_bytes(raw[:-1])
    try:
        found, bag = recovered(file)
    except BagError:
        return
    assert len(found) < known
    assert bag.recovery.reasons


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_folder_without_metadata_is_read(tmp_path, storage):
    path = write(tmp_path / "bag", storage)
    known = strict(path)
    (path / "metadata.yaml").unlink()
    found, bag = recovered(path)
    assert found == known
    assert bag.recovery.reasons == ["metadata.yaml is missing: the files are read without it"]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_lost_part_of_a_split_bag_is_named_and_the_rest_read(tmp_path, storage):
    parts = [write(tmp_path / f"rec_{k}", storage) for k in range(3)]
    split = tmp_path / "split"
    split.mkdir()
    names = []
    for k, part in enumerate(parts):
        file = next(p for p in part.iterdir() if p.suffix in (".mcap", ".db3"))
        names.append(f"rec_{k}{file.suffix}")
        shutil.copy(file, split / names[-1])
    card = yaml.safe_load((parts[0] / "metadata.yaml").read_text())
    info = card["rosbag2_bagfile_information"]
    info["relative_file_paths"], info["message_count"] = names, 3 * info["message_count"]
    (split / "metadata.yaml").write_text(yaml.safe_dump(card))
    whole, bag = recovered(split)
    assert len(whole) == info["message_count"]
    assert [m[2] for m in whole] == sorted(m[2] for m in whole)
    (split / names[1]).unlink()
    found, bag = recovered(split)
    assert len(found) == bag.recovery.lost * 2
    assert bag.recovery.reasons == [f"file {names[1]} is missing"]


def test_what_a_killed_recorder_left_in_sqlites_log_is_read(tmp_path):
    path = write(tmp_path / "bag", "sqlite3")
    known = strict(path)
    database = sqlite3.connect(path / "bag.db3")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA wal_autocheckpoint = 0")
    row = database.execute("SELECT topic_id, data FROM messages ORDER BY id DESC").fetchone()
    with database:
        query = "INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)"
        database.execute(query, (row[0], T + 10**9, row[1]))
    left = tmp_path / "left"
    shutil.copytree(path, left)  # as they are while the recorder lives
    database.close()
    assert (left / "bag.db3-wal").stat().st_size
    found, _ = recovered(left)
    assert found[:-1] == known
    assert found[-1][2] == T + 10**9


def test_zeros_that_a_crash_left_are_no_messages(tmp_path):
    path = write(tmp_path / "bag")
    file, known = path / "bag.mcap", strict(path)
    raw = bytearray(file.read_bytes())
    raw[-len(raw) // 3 :] = bytes(len(raw) - len(raw) * 2 // 3)
    file.write_bytes(raw)
    found, bag = recovered(path)
    assert found == [m for m in known if m in found]
    assert len(found) > len(known) // 2
    assert "no record" in " ".join(bag.recovery.reasons)


def test_open_recovered_gives_messages_and_what_became_of_the_bag(tmp_path):
    path = write(tmp_path / "bag")
    messages, recovery = open_recovered(path)
    assert [m.log_ns for m in messages] == [row[2] for row in strict(path)]
    assert recovery.read == 2 * PICTURES + 1


def test_a_recovered_bag_decodes_as_the_strict_reader_does(tmp_path):
    path = write(tmp_path / "bag")
    with RecoveredBag(path) as bag:
        picks = [bag.decode(m.type, m.raw).id for m in bag.messages(["/pick"])]
        with pytest.raises(BagError, match="is unknown"):
            bag.decode("nobody_msgs/msg/Thing", b"")
    assert picks == [f"p{k}" for k in range(PICTURES)]


def test_what_is_no_bag_is_refused_in_words(tmp_path):
    (tmp_path / "one.bag").write_bytes(b"#ROSBAG V2.0")
    with pytest.raises(BagError, match="rosbags-convert"):
        RecoveredBag(tmp_path / "one.bag")
    (tmp_path / "empty.mcap").touch()
    with pytest.raises(BagError, match="0 bytes"):
        RecoveredBag(tmp_path / "empty.mcap")
    (tmp_path / "text.mcap").write_text("hello, this is text")
    with pytest.raises(BagError, match="is no mcap file"):
        RecoveredBag(tmp_path / "text.mcap")
    with sqlite3.connect(tmp_path / "other.db3") as other:
        other.execute("CREATE TABLE things (id INTEGER)")
    other.close()
    with pytest.raises(BagError, match="has no topics"):
        RecoveredBag(tmp_path / "other.db3")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BagError, match=r"no metadata\.yaml"):
        RecoveredBag(tmp_path / "folder")
    with pytest.raises(BagError, match="no bag at"):
        RecoveredBag(tmp_path / "nowhere")
