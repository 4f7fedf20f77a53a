from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from enrolled import assert_alike, contents

from robollm.core.errors import GalleryError, InferenceError
from robollm.gallery.reader import GalleryReader
from robollm.gallery.records import MadeWith
from robollm.gallery.store import create_gallery, open_writer
from robollm.runtime import embed_files
from robollm.runtime import enroll as enroll_module
from robollm.runtime.build_lock import build_lock
from robollm.runtime.enroll import enroll

# while others work


def test_a_picture_that_changes_while_it_is_read_is_stored_as_it_was_read(
    perceiver, pictures, tmp_path, monkeypatch
):
    real, file = embed_files.read_once, pictures / "a" / "1.jpg"
    first = hashlib.sha256(file.read_bytes()).hexdigest()

    def read_once(path):
        raw = real(path)
        if path == file:
            shutil.copy(pictures / "b" / "1.jpg", file)
        return raw

    monkeypatch.setattr(embed_files, "read_once", read_once)
    enroll(perceiver, pictures, tmp_path / "gallery")
    monkeypatch.undo()
    assert contents(tmp_path / "gallery")["a/1.jpg"][1] == first
    assert enroll(perceiver, pictures, tmp_path / "gallery").replaced == 1


def test_a_folder_that_vanishes_is_named_and_the_rest_goes_on(
    perceiver, pictures, tmp_path, monkeypatch
):
    real = enroll_module.list_pictures

    def then_remove(folder):
        found = real(folder)
        shutil.rmtree(folder / "b")
        return found

    monkeypatch.setattr(enroll_module, "list_pictures", then_remove)
    done = enroll(perceiver, pictures, tmp_path / "gallery")
    assert done.images == 15
    assert list(done.bad) == [f"b/{i}.jpg" for i in (1, 2, 3)]
    assert all("No such file" in why for why in done.bad.values())


def test_a_second_build_into_the_same_gallery_is_refused_at_once(perceiver, drawn, tmp_path):
    refused = []

    def progress(done, total):
        if done == 1:
            with pytest.raises(GalleryError, match=f"another build.*process {os.getpid()}") as e:
                enroll(perceiver, drawn, tmp_path / "gallery")
            refused.append(e.value.fix)

    assert enroll(perceiver, drawn, tmp_path / "gallery", progress=progress).images == 18
    assert len(refused) == 1


def test_a_lock_that_can_not_be_opened_is_a_clear_error(perceiver, drawn, tmp_path):
    enroll(perceiver, drawn, tmp_path / "gallery")
    (tmp_path / "gallery" / "build.lock").unlink()
    (tmp_path / "gallery" / "build.lock").mkdir()
    with pytest.raises(GalleryError, match=r"can't build into.*build\.lock"):
        enroll(perceiver, drawn, tmp_path / "gallery")


def test_the_lock_of_a_build_that_ended_is_free(perceiver, drawn, tmp_path):
    enroll(perceiver, drawn, tmp_path / "gallery")
    with build_lock(tmp_path / "gallery"):
        pass


@pytest.mark.usefixtures("small_commits", "small_batches")
def test_what_others_change_during_a_build_does_not_stop_it(perceiver, drawn, tmp_path):
    folder, b = tmp_path / "gallery", perceiver.bundle
    enroll(perceiver, drawn, tmp_path / "whole")
    made_with = MadeWith(b.embedding_sha256, b.title)

    def progress(done, total):
        if done == 2:
            with open_writer(folder, made_with=made_with) as other:
                vector = np.ones((1, b.embedding_dim))
                other.add_references("c", vector, sources=["c/1.jpg"], sha256s=["f" * 64])
                other.put_container("tote-9", ["c"])
                other.commit()

    enroll(perceiver, drawn, folder, progress=progress)
    assert_alike(contents(folder), contents(tmp_path / "whole"))
    reader = GalleryReader(folder)
    assert reader.load().containers == {"tote-9": frozenset("c")}
    reader.close()


def test_a_gallery_of_another_bundle_is_refused_before_anything_is_embedded(
    perceiver, drawn, tmp_path, monkeypatch
):
    b = perceiver.bundle
    create_gallery(
        tmp_path / "gallery", dim=b.embedding_dim, made_with=MadeWith("0" * 64, "other 1.0")
    )
    monkeypatch.setattr(perceiver, "embed", lambda regions: pytest.fail("too late"))
    with pytest.raises(GalleryError, match=r"other 1\.0") as e:
        enroll(perceiver, drawn, tmp_path / "gallery")
    assert b.title in e.value.what


def test_a_folder_that_is_no_gallery_is_left_alone(perceiver, drawn, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("three years")
    with pytest.raises(GalleryError, match="is no gallery") as e:
        enroll(perceiver, drawn, tmp_path / "mine")
    assert "a name that is free" in e.value.fix
    assert [f.name for f in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


# cut off


@pytest.mark.usefixtures("small_commits", "small_batches")
def test_a_build_that_is_stopped_keeps_what_it_embedded_and_goes_on(perceiver, drawn, tmp_path):
    enroll(perceiver, drawn, tmp_path / "whole")
    seen = []
    done = enroll(
        perceiver,
        drawn,
        tmp_path / "gallery",
        progress=lambda n, total: seen.append(n),
        stop=lambda: len(seen) == 6,
    )
    assert (done.interrupted, done.images, done.empty) == (True, 6, ())
    assert len(contents(tmp_path / "gallery")) == 6
    rest = enroll(perceiver, drawn, tmp_path / "gallery")
    assert (rest.interrupted, rest.skipped, rest.images) == (False, 6, 12)
    assert_alike(contents(tmp_path / "gallery"), contents(tmp_path / "whole"))


@pytest.mark.usefixtures("small_commits", "small_batches")
def test_what_was_embedded_before_the_model_failed_is_kept(perceiver, drawn, tmp_path, monkeypatch):
    real, calls = perceiver.embed, []

    def embed(regions):
        calls.append(len(regions))
        if len(calls) == 3:
            raise InferenceError("the model fell over")
        return real(regions)

    monkeypatch.setattr(perceiver, "embed", embed)
    with pytest.raises(InferenceError):
        enroll(perceiver, drawn, tmp_path / "gallery")
    assert calls == [4, 4, 4]
    assert len(contents(tmp_path / "gallery")) == 8


@pytest.mark.usefixtures("small_commits", "small_batches")
def test_a_full_disk_is_a_clear_error_and_what_is_committed_stays(perceiver, drawn, tmp_path):
    enroll(perceiver, drawn, tmp_path / "whole")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(done, total):
        if done == 9:  # two commits are there; from now on no file may grow
            size = (tmp_path / "gallery" / "vectors-000001.fp16").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    try:
        with pytest.raises(GalleryError) as e:
            enroll(perceiver, drawn, tmp_path / "gallery", progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert e.value.fix
    assert len(contents(tmp_path / "gallery")) == 8
    enroll(perceiver, drawn, tmp_path / "gallery")
    assert_alike(contents(tmp_path / "gallery"), contents(tmp_path / "whole"))


BUILDER = """
import os, random, signal, sys, threading
from pathlib import Path
from robollm.core.settings import RuntimeConfig
from robollm.runtime import embed_files, enroll
from robollm.runtime.perceiver import Perceiver

enroll.COMMIT = embed_files.BATCH_MAX = 2
bundle, images, out, kill_at = sys.argv[1:]
perceiver = Perceiver(RuntimeConfig(bundle=bundle, threads=1, allow_untrained=True))

def kill():
    for _ in range(random.randrange(20_000)):
        pass
    os.kill(os.getpid(), signal.SIGKILL)

killer = threading.Thread(target=kill)

def tell(n, total):
    if n == int(kill_at):
        killer.start()

skipped = enroll.enroll(perceiver, Path(images), Path(out), progress=tell).skipped
if killer.ident is not None:
    killer.join()
print(skipped)
"""


def test_a_build_that_is_killed_again_and_again_ends_as_one_that_was_not(
    perceiver, sketch_bundle, drawn, tmp_path
):
    enroll(perceiver, drawn, tmp_path / "whole")
    # The kill comes when a picture is reported, at a random moment of what follows.
    for kill_at in (3, 9, 15, -1):
        command = [sys.executable, "-c", BUILDER, sketch_bundle, drawn, tmp_path / "gallery"]
        done = subprocess.run(
            [*map(str, command), str(kill_at)], capture_output=True, text=True, check=False
        )
        assert done.returncode == (0 if kill_at < 0 else -signal.SIGKILL), done.stderr
    skipped = int(done.stdout)
    assert skipped >= 12, "it went on where it was"
    assert_alike(contents(tmp_path / "gallery"), contents(tmp_path / "whole"))
