"""Bad bags end in a BagError that says what was seen and what to do: never in a library's error."""

import builtins
import contextlib
import shutil
import sqlite3

import numpy as np
import pytest

from robollm.core.errors import BagError
from robollm.data.bag import BagReader, BagWriter, typestore

pytest.importorskip("rosbags")

T = 1_760_000_000_000_000_000
FILES = {"mcap": "bag.mcap", "sqlite3": "bag.db3"}


@pytest.fixture(scope="module", params=sorted(FILES))
def good(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "bag"
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    with BagWriter(path, request.param) as bag:
        for k in range(8):
            bag.image("/image", T + k, "cam", noise, jpeg=False)
    return path, FILES[request.param]


def read_all(path):
    with BagReader(path) as bag:
        for m in bag.messages():
            bag.decode(m.type, m.raw)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.001, 0.1, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("whole", [True, False], ids=["folder", "file"])
def test_a_bag_that_was_cut_off_is_a_bag_error(good, tmp_path, share, whole):
    source, name = good
    path = shutil.copytree(source, tmp_path / "bag")
    data = (path / name).read_bytes()
    (path / name).write_bytes(data[: int(share * len(data))])
    with pytest.raises(BagError) as caught:
        read_all(path if whole else path / name)
    assert str(path) in caught.value.what
    assert caught.value.fix


def test_a_good_bag_is_no_error(good):
    read_all(good[0])


def test_flipped_bytes_are_a_bag_error_or_other_pixels(good, tmp_path):
    """Not every flip can be noticed (pixels have no checksum), but none may escape as our bug."""
    source, name = good
    data = (source / name).read_bytes()
    rng = np.random.default_rng(1)
    for k in range(12):
        path = shutil.copytree(source, tmp_path / str(k))
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 20):
            broken[at] ^= 0xFF
        (path / name).write_bytes(broken)
        with contextlib.suppress(BagError):
            read_all(path)


def test_a_missing_message_is_noticed(good, tmp_path):
    path = shutil.copytree(good[0], tmp_path / "bag")
    meta = path / "metadata.yaml"
    meta.write_text(meta.read_text().replace("message_count: 8", "message_count: 9"))
    with pytest.raises(BagError, match="has 8 of the 9 messages"):
        read_all(path)


def no_bag(path):
    return path / "nothing"


def empty_folder(path):
    return path


def foreign_folder(path):
    (path / "holiday.jpg").write_bytes(b"x")
    return path


def foreign_file(path):
    (path / "notes.txt").write_text("hello")
    return path / "notes.txt"


def ros1(path):
    (path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    return path / "old.bag"


def fake_mcap(path):
    (path / "a.mcap").write_bytes(b"\x89MCAP0\r\n" + b"\0" * 400)
    return path / "a.mcap"


def fake_sqlite(path):
    (path / "a.db3").write_bytes(b"no database " * 400)
    return path / "a.db3"


def empty_file(path):
    (path / "a.mcap").touch()
    return path / "a.mcap"


def lost_metadata(path):
    (path / "a.mcap").write_bytes(b"x")
    return path


def foreign_metadata(path):
    (path / "metadata.yaml").write_text("colour: blue\n")
    return path


def broken_metadata(path):
    (path / "metadata.yaml").write_text("{{{: [")
    return path


def binary_metadata(path):
    (path / "metadata.yaml").write_bytes(b"\xff\xfe\x00\x01")
    return path


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (no_bag, "no bag at"),
        (empty_folder, "it holds nothing"),
        (foreign_folder, "it holds holiday.jpg"),
        (foreign_file, "is not a bag, want"),
        (ros1, "rosbags-convert"),
        (fake_mcap, "can't read the bag"),
        (fake_sqlite, "can't read the bag"),
        (empty_file, r"is empty \(0 bytes\)"),
        (lost_metadata, "ros2 bag reindex"),
        (foreign_metadata, "can't read the bag"),
        (broken_metadata, "can't read the bag"),
        (binary_metadata, "can't read the bag"),
    ],
)
def test_what_is_not_a_bag_is_named(tmp_path, make, what):
    with pytest.raises(BagError, match=what) as caught:
        read_all(make(tmp_path))
    assert caught.value.fix


def test_a_bag_whose_topics_are_all_silent_has_no_message(tmp_path):
    path = tmp_path / "bag"
    with BagWriter(path, "sqlite3") as bag:
        bag.string("/s", "x", T)
    with contextlib.closing(sqlite3.connect(path / "bag.db3")) as db, db:
        db.execute("DELETE FROM messages")
    with pytest.raises(BagError, match="has no message"):
        read_all(path / "bag.db3")


def test_an_unknown_type_is_named(good):
    with BagReader(good[0]) as bag, pytest.raises(BagError, match="shop_msgs/msg/Scale is unknown"):
        bag.decode("shop_msgs/msg/Scale", b"\0\1\0\0")


@pytest.mark.parametrize("raw", [b"", b"\0\1\0\0", b"\0\1\0\0" + b"\xff" * 40])
def test_bytes_of_another_type_are_a_bag_error(good, raw):
    with BagReader(good[0]) as bag, pytest.raises(BagError, match="can't decode sensor_msgs"):
        bag.decode("sensor_msgs/msg/Image", raw)


def test_without_rosbags_the_fix_says_what_to_install(monkeypatch, tmp_path):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("rosbags"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    for use in (typestore, lambda: BagReader(tmp_path), lambda: BagWriter(tmp_path / "bag")):
        with pytest.raises(BagError, match=r'pip install "robollm\[eval\]"'):
            use()
