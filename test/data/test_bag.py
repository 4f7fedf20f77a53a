"""Bags: what goes in comes out, through both storages, and a failed bag leaves nothing behind."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from robollm.core.errors import BagError
from robollm.data import jpeg
from robollm.data.bag import BagReader, BagWriter, Topic, typestore
from robollm.data.vision_msgs import TYPE_HASHES

pytest.importorskip("rosbags")

STORAGES = ("mcap", "sqlite3")
T = 1_760_000_000_123_456_789


def picture(h: int = 24, w: int = 37) -> np.ndarray:
    ys, xs = np.mgrid[:h, :w]
    return np.stack([ys * 255 // h, xs * 255 // w, (ys + xs) % 256], 2).astype(np.uint8)


def write_some(path, storage="mcap", **options):
    with BagWriter(path, storage, **options) as bag:
        bag.string("/container", "tote-A", T)
        bag.image("/image", T + 1, "cam", picture(), jpeg=False)
        bag.image("/view/compressed", T + 2, "arm", picture(), jpeg=True, log_ns=T + 9)
        bag.pick("/pick", T + 1, "cam", "pick-0001", (2, 4, 12.5, 10), T + 5)
    return path


def read(path, topics=None):
    with BagReader(path) as bag:
        return [(m, bag.decode(m.type, m.raw)) for m in bag.messages(topics)]


@pytest.mark.parametrize("storage", STORAGES)
def test_a_bag_gives_back_what_was_written(tmp_path, storage):
    (container, image, pick, view) = read(write_some(tmp_path / "bag", storage))

    assert [m.log_ns for m, _ in (container, image, pick, view)] == [T, T + 1, T + 5, T + 9]
    assert container[1].data == "tote-A"
    stamp = image[1].header.stamp
    assert (stamp.sec, stamp.nanosec) == divmod(T + 1, 10**9)
    assert (image[1].encoding, image[1].height, image[1].width, image[1].step) == (
        "rgb8", 24, 37, 111,
    )  # fmt: skip
    assert_array_equal(image[1].data.reshape(24, 37, 3), picture())
    assert view[1].format == "jpeg"
    assert_array_equal(jpeg.decode(view[1].data), jpeg.decode(jpeg.encode(picture())))
    assert pick[1].id == "pick-0001"
    assert pick[1].header.stamp == stamp
    box = pick[1].bbox
    assert (box.center.position.x, box.center.position.y) == (7.25, 7.0)
    assert (box.size_x, box.size_y) == (10.5, 6.0)


def test_both_storages_hold_the_same_bytes(tmp_path):
    a, b = ([m for m, _ in read(write_some(tmp_path / s, s))] for s in STORAGES)
    assert a == b


@pytest.mark.parametrize("storage", STORAGES)
def test_the_same_messages_make_the_same_file(tmp_path, storage):
    a, b = (write_some(tmp_path / n / "bag", storage) for n in "ab")
    names = sorted(p.name for p in a.iterdir())
    assert names == sorted(p.name for p in b.iterdir())
    assert all((a / n).read_bytes() == (b / n).read_bytes() for n in names)


def test_a_compressed_bag_is_smaller_and_equal(tmp_path):
    flat = np.full((200, 300, 3), 90, np.uint8)
    for name, compress in (("plain", False), ("zstd", True)):
        with BagWriter(tmp_path / name, compress=compress) as bag:
            bag.image("/image", T, "cam", flat, jpeg=False)
    plain, zstd = (tmp_path / n / f"{n}.mcap" for n in ("plain", "zstd"))
    assert zstd.stat().st_size < plain.stat().st_size / 20
    assert [m for m, _ in read(zstd.parent)] == [m for m, _ in read(plain.parent)]


@pytest.mark.parametrize(("storage", "ending"), [("mcap", "mcap"), ("sqlite3", "db3")])
def test_a_single_file_reads_like_its_folder(tmp_path, storage, ending):
    folder = write_some(tmp_path / "bag", storage)
    assert [m for m, _ in read(folder / f"bag.{ending}")] == [m for m, _ in read(folder)]


def test_topics_are_listed_and_can_be_chosen(tmp_path):
    path = write_some(tmp_path / "bag")
    with BagReader(path) as bag:
        assert Topic("/image", "sensor_msgs/msg/Image", 1) in bag.topics
        assert [t.name for t in bag.topics] == ["/container", "/image", "/pick", "/view/compressed"]
        assert [m.topic for m in bag.messages(["/pick", "/container"])] == ["/container", "/pick"]
        with pytest.raises(BagError, match=r"no topic /imge[\s\S]*choose among /container"):
            list(bag.messages(["/imge"]))


def test_the_container_is_offered_to_late_joiners(tmp_path):
    from rosbags.interfaces import QosDurability, QosReliability
    from rosbags.rosbag2 import Reader

    with Reader(write_some(tmp_path / "bag")) as bag:
        offers = {c.topic: c.ext.offered_qos_profiles for c in bag.connections}
    assert {q.reliability for (q,) in offers.values()} == {QosReliability.RELIABLE}
    kept = {t: q.depth for t, (q,) in offers.items() if q.durability is not QosDurability.VOLATILE}
    assert kept == {"/container": 1}
    assert offers["/container"][0].durability is QosDurability.TRANSIENT_LOCAL


def test_messages_come_in_the_order_of_time_however_they_were_written(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for k in (3, 1, 2):
            bag.string("/s", str(k), T + k)
    assert [d.data for _, d in read(tmp_path / "bag")] == ["1", "2", "3"]


def test_nothing_is_left_when_writing_fails(tmp_path):
    def fail():
        with BagWriter(tmp_path / "bag") as bag:
            bag.string("/s", "x", T)
            assert not (tmp_path / "bag").exists()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bag_is_not_overwritten(tmp_path):
    path = write_some(tmp_path / "bag")
    with pytest.raises(BagError, match="exists already"):
        BagWriter(path)


def test_a_bag_that_appears_meanwhile_is_not_overwritten(tmp_path):
    def race():
        with BagWriter(tmp_path / "bag") as bag:
            bag.string("/s", "x", T)
            (tmp_path / "bag").mkdir()

    with pytest.raises(BagError, match="exists already"):
        race()
    assert list((tmp_path / "bag").iterdir()) == []
    assert [p.name for p in tmp_path.iterdir()] == ["bag"]


def test_a_bag_without_messages_is_not_written(tmp_path):
    with pytest.raises(BagError, match="no message was written"), BagWriter(tmp_path / "bag"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)],
)
def test_only_rgb_bytes_are_written(tmp_path, image):
    def write():
        with BagWriter(tmp_path / "bag") as bag:
            bag.image("/image", T, "cam", image, jpeg=True)

    with pytest.raises(BagError, match="want a non-empty"):
        write()


def test_a_message_that_does_not_fit_its_type_is_a_bag_error(tmp_path):
    def write():
        with BagWriter(tmp_path / "bag") as bag:
            bag.write("/s", "std_msgs/msg/String", object(), T)

    with pytest.raises(BagError, match="can't write std_msgs/msg/String on /s"):
        write()


@pytest.mark.parametrize(
    ("options", "what"),
    [({"storage": "hdf5"}, "want 'mcap' or 'sqlite3'"),
     ({"storage": "sqlite3", "compress": True}, "can't be compressed")],
)  # fmt: skip
def test_unknown_storages_are_refused(tmp_path, options, what):
    with pytest.raises(BagError, match=what):
        BagWriter(tmp_path / "bag", **options)


def test_an_unknown_type_is_decoded_by_the_definition_in_the_bag(tmp_path):
    from rosbags.typesys import get_types_from_msg

    with BagWriter(tmp_path / "bag") as bag:
        bag._store.register(get_types_from_msg("int32 grams\nstring unit\n", "shop_msgs/msg/Scale"))
        scale = bag._store.types["shop_msgs/msg/Scale"](grams=12, unit="g")
        bag.write("/scale", "shop_msgs/msg/Scale", scale, T)
    [(_, decoded)] = read(tmp_path / "bag")
    assert (decoded.grams, decoded.unit) == (12, "g")


def test_our_message_types_have_the_hashes_of_the_distribution():
    store = typestore()
    assert {name: store.hash_rihs01(name) for name in TYPE_HASHES} == TYPE_HASHES
