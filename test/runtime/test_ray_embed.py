from __future__ import annotations

import os
import pickle
import shutil
import sys
import tempfile

import cv2
import numpy as np
import pytest

from robollm.core.errors import ConfigError, InferenceError
from robollm.core.settings import RuntimeConfig
from robollm.gallery.reader import GalleryReader
from robollm.runtime import ray_cluster, ray_embed
from robollm.runtime.embed_files import Seen
from robollm.runtime.enroll import build_gallery, enroll
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.ray_embed import RayEmbedding
from robollm.runtime.references import Picture, list_pictures

# Ray sets settings of its own that it has deprecated, and leaves sockets to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster():
    """A Ray of two processors on this machine, that leaves nothing behind."""
    folder = tempfile.mkdtemp(prefix="ray-")  # short: the names of its sockets must fit in
    before = dict(os.environ)
    os.environ["RAY_TMPDIR"] = folder
    try:
        with ray_cluster.cluster("", 2):
            yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def images(tmp_path):
    """Twenty products with three pictures each, some of them bad."""
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    for product in range(20):
        (folder / f"P{product:02}").mkdir(parents=True)
        for i in (1, 2, 3):
            pixels = cv2.resize(rng.integers(0, 255, (9, 9, 3), np.uint8), (120, 100))
            cv2.imwrite(str(folder / f"P{product:02}" / f"{i}.jpg"), pixels)
    (folder / "P03" / "2.jpg").write_bytes(b"no picture")
    (folder / "P07" / "1.jpg").write_bytes(b"")
    (folder / "P07" / "loop.jpg").symlink_to("loop.jpg")
    return folder


def contents(folder):
    reader = GalleryReader(folder)
    rows = reader.load()
    listed = {p: [(r.source, r.sha256, r.slot) for r in reader.references(p)] for p in rows.ids}
    reader.close()
    return listed, rows


def ray_embedding(perceiver, images, **more):
    return RayEmbedding(
        perceiver.config, embedding_sha256=perceiver.bundle.embedding_sha256, images=images, **more
    )


@pytest.mark.usefixtures("cluster")
def test_two_workers_of_ray_make_the_very_gallery_that_one_process_makes(
    robollm, sketch_bundle, images, tmp_path
):
    # A perceiver of its own: one that has seen these pictures would answer from memory.
    perceiver = Perceiver(RuntimeConfig(bundle=str(sketch_bundle), threads=1, allow_untrained=True))
    plain = enroll(perceiver, images, tmp_path / "plain")
    assert plain.images == 58
    words = ("gallery", "build", "--images", images, "--bundle", sketch_bundle, "--threads", "1",
             "--allow-untrained", "--out", tmp_path / "ray")  # fmt: skip
    done = robollm(*words, "--ray", "--workers", "2")
    assert done.code == 0, done.err
    assert [line for line in done.err.splitlines() if line.startswith("skipped: ")] == [
        f"skipped: {why}" for why in plain.bad.values()
    ]
    (listed, rows), (want, wanted) = contents(tmp_path / "ray"), contents(tmp_path / "plain")
    assert listed == want
    assert rows.vectors.tobytes() == wanted.vectors.tobytes(), "to the last bit"
    assert rows.records == wanted.records


@pytest.mark.usefixtures("cluster")
def test_more_workers_than_the_cluster_can_carry_are_an_error_and_not_a_wait(
    perceiver, images, tmp_path
):
    with pytest.raises(ConfigError, match=r"3 workers .* don't fit Ray's cluster of 2 proc") as e:
        build_gallery(
            images,
            tmp_path / "gallery",
            bundle=perceiver.bundle,
            embedding=ray_embedding(perceiver, images, workers=3),
        )
    assert e.value.fix


def test_what_is_known_already_needs_no_ray(perceiver, images, tmp_path, monkeypatch):
    first = enroll(perceiver, images, tmp_path / "gallery")
    for source in first.bad:
        (images / source).unlink()
    monkeypatch.setattr(ray_embed, "cluster", lambda *_: pytest.fail("nothing is new"))
    again = build_gallery(
        images,
        tmp_path / "gallery",
        bundle=perceiver.bundle,
        embedding=ray_embedding(perceiver, images),
    )
    assert (again.images, again.skipped) == (0, 58)


def test_without_ray_the_error_says_what_to_install(perceiver, images, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(ConfigError, match="not installed") as e:
        ray_embedding(perceiver, images)
    assert "robollm[ray]" in e.value.fix


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:99999"])
def test_an_address_where_nobody_listens_is_an_error_at_once(perceiver, images, address):
    with pytest.raises(ConfigError, match=f"no Ray cluster at '{address}'") as e:
        ray_embedding(perceiver, images, address=address)
    assert "ray start --head" in e.value.fix


@pytest.mark.parametrize("wrong", ["bundle", "no bundle", "images"])
def test_a_worker_that_sees_other_files_than_the_driver_says_so(perceiver, images, tmp_path, wrong):
    config, sha256 = perceiver.config, perceiver.bundle.embedding_sha256
    if wrong == "bundle":
        sha256 = "0" * 64
    if wrong == "no bundle":
        config = RuntimeConfig(bundle=str(tmp_path / "nothing"))
    if wrong == "images":
        images = tmp_path / "elsewhere"
    worker = ray_embed._Worker(config, sha256, str(images))
    answer = worker({"number": np.array([7]), "pictures": np.array([pickle.dumps([])], object)})
    assert answer["number"] == [7]
    error = pickle.loads(answer["seen"][0])
    assert {"bundle": "another bundle", "images": "elsewhere"}.get(wrong, "nothing") in error.what
    assert error.fix


def test_a_worker_hands_over_that_the_model_failed(perceiver, images, monkeypatch):
    def fail(self, regions):
        raise InferenceError("the model fell over", fix="make it stand up")

    monkeypatch.setattr(Perceiver, "embed", fail)
    worker = ray_embed._Worker(perceiver.config, perceiver.bundle.embedding_sha256, str(images))
    some = np.array([pickle.dumps(list_pictures(images).pictures[:2])], object)
    error = pickle.loads(worker({"number": np.array([0]), "pictures": some})["seen"][0])
    assert isinstance(error, InferenceError)
    assert (error.what, error.fix) == ("the model fell over", "make it stand up")


def test_a_file_that_only_a_worker_can_not_read_is_no_bad_picture(images):
    here, gone = Picture(1, "P00", images / "P00" / "1.jpg"), Picture(2, "P00", images / "9.jpg")
    lost = [Seen(gone, "", why_bad="9.jpg can't be read: No such file or directory")]
    assert ray_embed._checked(lost) == lost
    with pytest.raises(ConfigError, match="on this machine it can be read") as e:
        ray_embed._checked([Seen(here, "", why_bad="1.jpg can't be read: No such file")])
    assert "shared folder" in e.value.fix
