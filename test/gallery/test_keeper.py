"""The thread that keeps a catalogue up to date: takes over, commits, never lets go of the last."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from test_catalogue import DIM, LOADED, MADE_WITH, add, write

from robollm.core.errors import GalleryError, ManifestError
from robollm.gallery import keeper as keeper_module
from robollm.gallery.catalogue import CatalogueSource
from robollm.gallery.keeper import Keeper
from robollm.gallery.store import create_gallery, open_gallery


class Heard:
    """A listener that remembers."""

    def __init__(self):
        self.catalogues, self.failures, self.updates, self.refusals = [], [], [], []

    def catalogue_changed(self, new):
        self.catalogues.append(new)

    def refresh_failed(self, error):
        self.failures.append(error)

    def update_committed(self, update, generation):
        self.updates.append((update.title, generation))

    def update_refused(self, error):
        self.refusals.append(error)


def until(true, timeout_s=20.0):
    end = time.monotonic() + timeout_s
    while not (value := true()) and time.monotonic() < end:
        time.sleep(0.005)
    assert value
    return value


@pytest.fixture
def gallery(tmp_path):
    folder = tmp_path / "gallery"
    create_gallery(folder, dim=DIM, made_with=MADE_WITH)
    add(folder, "P1", "P2", "P3", tote=["P1", "P2"])
    return folder


@pytest.fixture
def keep(gallery):
    made = []

    def make(manifest="", *, watch=False, period_s=0.02, folder=gallery):
        heard = Heard()
        source = CatalogueSource(str(manifest), str(folder), **LOADED)
        k = Keeper(source, source.load(), period_s=period_s, watch=lambda: watch, listener=heard)
        made.append(k)
        return k, heard

    yield make
    for k in made:
        assert k.close()
        k.catalogue.gallery.close()
    assert not [t for t in threading.enumerate() if t.name == "gallery keeper"]


def look(keeper):
    """Ask, and wait for the answer."""
    answers = []
    keeper.ask(answers.append)
    (errors,) = until(lambda: answers)
    return errors


def update(container, *products):
    return json.dumps({"container": container, "products": list(products)})


# looking


def test_with_watch_what_others_commit_is_in_use_soon(gallery, keep):
    keeper, heard = keep(watch=True)
    generation = add(gallery, "P4", tote=["P4"])
    until(lambda: keeper.catalogue.gallery.generation == generation)
    assert keeper.catalogue.allowed("tote")[0] == {"P4"}
    until(lambda: heard.catalogues == [keeper.catalogue])


def test_without_watch_nothing_changes_until_somebody_asks(gallery, keep):
    keeper, heard = keep(period_s=0.001)
    first = keeper.catalogue
    add(gallery, "P4", tote=["P4"])
    checked_s = keeper.checked_s
    with pytest.raises(AssertionError):
        until(lambda: keeper.catalogue is not first, 0.2)
    assert keeper.checked_s == checked_s
    assert look(keeper) == []
    assert keeper.catalogue.allowed("tote")[0] == {"P4"}
    assert heard.catalogues == [keeper.catalogue]


def test_a_gallery_that_goes_away_leaves_the_last_one_in_use_and_is_counted_once(
    gallery, keep, tmp_path
):
    keeper, heard = keep(watch=True)
    first = keeper.catalogue
    gallery.rename(tmp_path / "away")
    until(lambda: keeper.trouble)
    checked_s = keeper.checked_s
    assert look(keeper)[0].what in keeper.trouble
    assert keeper.catalogue is first
    assert keeper.checked_s == checked_s
    assert len(heard.failures) == 2, "the look that was asked for says it again; 100 others don't"
    (tmp_path / "away").rename(gallery)
    until(lambda: not keeper.trouble)
    generation = add(gallery, "P4")
    until(lambda: keeper.catalogue.gallery.generation == generation)


def test_an_error_that_nobody_foresaw_does_not_end_the_thread(gallery, keep, monkeypatch):
    keeper, heard = keep(watch=True)
    with monkeypatch.context() as m:
        m.setattr(CatalogueSource, "refreshed", lambda *_, **__: 1 / 0)
        until(lambda: heard.failures)
    assert isinstance(heard.failures[0], ZeroDivisionError)
    generation = add(gallery, "P4")
    until(lambda: keeper.catalogue.gallery.generation == generation)


@pytest.mark.parametrize("broken", ["catalogue_changed", "update_committed", "update_refused"])
def test_a_listener_that_fails_does_not_end_the_thread(gallery, keep, broken):
    keeper, heard = keep(watch=True)
    setattr(heard, broken, lambda *_: 1 / 0)
    keeper.submit(update("new", "P3"))
    keeper.submit("no update")
    add(gallery, "P4")
    until(lambda: heard.failures)
    assert isinstance(heard.failures[0], ZeroDivisionError)
    generation = add(gallery, "P5")
    until(lambda: keeper.catalogue.gallery.generation == generation)
    assert keeper.waiting == 0


# updates


def test_an_update_is_durable_and_then_in_use(gallery, keep):
    keeper, heard = keep()
    keeper.submit(update("new", "P3"))
    (told,) = until(lambda: heard.updates)
    assert told == ("container 'new'", keeper.catalogue.gallery.generation)
    assert keeper.catalogue.allowed("new")[0] == {"P3"}
    other = open_gallery(gallery, embedding_sha256=None, bundle="")
    assert other.manifests.containers["new"] == {"P3"}
    other.close()


def test_updates_are_done_in_the_order_in_which_they_came(keep):
    keeper, heard = keep()
    for i in range(60):
        keeper.submit(update("tote", f"P{i % 3 + 1}"))
    keeper.submit(json.dumps({"container": "tote", "remove": True}))
    until(lambda: len(heard.updates) == 61)
    assert keeper.catalogue.allowed("tote")[0] is None
    assert keeper.waiting == 0
    assert not heard.refusals


def test_a_whole_manifest_brings_products_and_leaves_other_containers_alone(keep):
    keeper, heard = keep()
    card = {"format": "robollm-manifest", "format_version": 1}
    products = {"P1": {"title": "Soap"}}
    keeper.submit(json.dumps({**card, "products": products, "containers": {"new": ["P1"]}}))
    until(lambda: heard.updates)
    assert keeper.catalogue.allowed("tote")[0] == {"P1", "P2"}
    assert keeper.catalogue.allowed("new")[0] == {"P1"}
    assert keeper.catalogue.manifests.products["P1"].title == "Soap"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not readable JSON"),
        ("[]", "holds a list"),
        ("[" * 100_000, "not readable JSON"),
        ('{"container": "a", "container": "b"}', "names 'container' twice"),
        ('{"products": ["P1"]}', "has the container None"),
        ('{"container": " ", "products": ["P1"]}', "has the container ' '"),
        ('{"container": "a"}', "the keys container"),
        ('{"container": "a", "products": ["P1"], "remove": true}', "the keys"),
        ('{"container": "a", "remove": false}', "the keys"),
        ('{"container": "a", "products": ["P1", "P1"]}', "'P1' more than once"),
        ('{"container": "a", "products": "P1"}', "missing or empty product id"),
        ('{"format": "robollm-manifest", "containers": {"a": []}}', "format_version None"),
        ('{"container": "none", "remove": true}', "'none'"),
    ],
)
def test_a_bad_update_is_refused_in_words_and_the_next_one_is_done(keep, text, says):
    keeper, heard = keep()
    before = keeper.catalogue.gallery.generation
    keeper.submit(text)
    (error,) = until(lambda: heard.refusals)
    assert says in error.what
    assert error.fix
    assert keeper.catalogue.gallery.generation == before
    keeper.submit(update("new", "P1"))
    until(lambda: heard.updates)


def test_updates_are_refused_where_a_file_is_the_truth(keep, tmp_path, gallery):
    file = write(tmp_path / "m.json", tote=["P1"])
    keeper, heard = keep(file)
    first = keeper.catalogue
    keeper.submit(update("new", "P1"))
    (error,) = until(lambda: heard.refusals)
    assert isinstance(error, ManifestError)
    assert str(file) in error.what
    assert keeper.catalogue is first


@contextmanager
def other_writer(gallery):
    """Another process in the middle of a transaction."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN IMMEDIATE'); print('in', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(gallery / "gallery.sqlite")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        assert p.stdout.readline()
        yield
        p.stdin.close()


def test_an_update_waits_for_another_writer_while_looking_goes_on(keep, gallery):
    keeper, heard = keep(watch=True)
    with other_writer(gallery):
        keeper.submit(update("new", "P1"))
        checked_s = keeper.checked_s
        until(lambda: keeper.checked_s > checked_s)
        until(lambda: keeper.waiting_s > 0.1)
        assert keeper.waiting == 1
        assert not heard.updates
        assert not heard.refusals
    until(lambda: heard.updates)
    assert keeper.catalogue.allowed("new")[0] == {"P1"}


def test_an_update_that_has_waited_too_long_is_refused_with_the_reason(keep, gallery, monkeypatch):
    monkeypatch.setattr(keeper_module, "PATIENCE_S", 0.0)
    keeper, heard = keep()
    with other_writer(gallery):
        keeper.submit(update("new", "P1"))
        (error,) = until(lambda: heard.refusals)
    assert "is being written by" in error.what


def test_a_gallery_that_can_not_be_written_refuses_updates_and_goes_on_reading(
    keep, gallery, monkeypatch
):
    keeper, heard = keep(watch=True)
    # We may be root, whom no rights stop: SQLite itself is told to refuse.
    connect = sqlite3.connect

    def reading_only(file, **kwargs):
        return connect(file.replace("mode=rw", "mode=ro"), **kwargs)

    with monkeypatch.context() as m:
        m.setattr(sqlite3, "connect", reading_only)
        keeper.submit(update("new", "P1"))
        (error,) = until(lambda: heard.refusals)
    assert isinstance(error, GalleryError)
    assert "writable" in error.fix
    generation = add(gallery, "P4")
    until(lambda: keeper.catalogue.gallery.generation == generation)


def test_what_waits_at_the_end_is_committed_before_it(keep, gallery):
    keeper, heard = keep()
    for i in range(5):
        keeper.submit(update(f"c{i}", "P1"))
    answers = []
    keeper.ask(answers.append)
    assert keeper.close()
    assert len(heard.updates) == 5
    assert len(answers) == 1
    keeper.submit(update("late", "P1"))
    keeper.ask(answers.append)
    assert "came after the end" in heard.refusals[0].what
    assert isinstance(answers[1][0], GalleryError)


# sights


def test_a_sight_is_what_was_in_use_whatever_comes_after_it(keep, gallery):
    keeper, heard = keep()
    seen = keeper.sight()
    keeper.submit(update("tote", "P3"))
    until(lambda: heard.updates)
    assert seen.catalogue.allowed("tote")[0] == {"P1", "P2"}
    assert keeper.sight().catalogue.allowed("tote")[0] == {"P3"}


def test_a_sight_has_the_updates_that_came_before_it_and_none_that_came_after(keep, gallery):
    keeper, heard = keep()
    with other_writer(gallery):  # so that all three wait together
        keeper.submit(update("tote", "P3"))
        seen = keeper.sight()
        assert seen.waiting
        assert seen.catalogue.allowed("tote")[0] == {"P1", "P2"}
        keeper.submit(update("tote", "P2"))
    until(lambda: len(heard.updates) == 2)
    assert not seen.waiting
    assert seen.catalogue.allowed("tote")[0] == {"P3"}
    assert keeper.catalogue.allowed("tote")[0] == {"P2"}


def test_a_sight_does_not_wait_for_an_update_that_was_refused(keep):
    keeper, heard = keep()
    keeper.submit("nonsense")
    seen = keeper.sight()
    until(lambda: heard.refusals)
    until(lambda: not seen.waiting)
    assert seen.catalogue is keeper.catalogue
