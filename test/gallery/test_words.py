"""Looking products up by an operator's words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robollm.core.errors import GalleryError
from robollm.gallery.records import MadeWith, Product
from robollm.gallery.store import create_gallery, open_writer
from robollm.gallery.words import MAX_WORDS, find_products


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words") / "g"
    create_gallery(folder, dim=4, made_with=MadeWith("00", "b"))
    with open_writer(folder) as w:
        w.put_product(Product("A1", "Oatmeal", "porridge"))
        w.put_product(Product("A2", "Oat bites", "crème brûlée"))
        w.put_product(Product("A3", "Tea", "with oat"))
        w.put_product(Product("A4", "Oat drink"))
        w.commit()
        w.remove_product("A4")
        w.put_product(Product("A3", "Tea", "with milk and oat"))
        w.commit()
    return folder


def ids(folder, words, **kw):
    return [p.product_id for p in find_products(folder, words, **kw)]


def test_whole_words_come_first_and_removed_products_not_at_all(gallery):
    assert ids(gallery, "oat") == ["A2", "A1", "A3"]
    assert ids(gallery, "oat", limit=1) == ["A2"]
    assert ids(gallery, "milk") == ["A3"]
    assert ids(gallery, "drink") == []
    assert ids(gallery, "OA CREME bru") == ["A2"]


@given(st.text(max_size=40))
@settings(deadline=None, max_examples=60)
def test_any_text_is_safe(gallery, text):
    assert set(ids(gallery, text)) <= {"A1", "A2", "A3"}


@pytest.mark.parametrize("text", ["oat OR tea", "title:oat", "NEAR(oat tea)", '"', "*", "\ud800"])
def test_operators_of_the_query_language_are_only_words(gallery, text):
    assert ids(gallery, text) == []


def test_limits_are_errors_with_a_fix(gallery):
    for kw in ({"limit": 0}, {"limit": 1 << 70}):
        with pytest.raises(GalleryError, match="limit is"):
            find_products(gallery, "oat", **kw)
    assert ids(gallery, "oat " * MAX_WORDS)
    with pytest.raises(GalleryError, match="65 words"):
        find_products(gallery, "oat " * (MAX_WORDS + 1))
