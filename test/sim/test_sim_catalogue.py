"""Catalogue and fonts: repeatable, nothing shared between splits, mostly near-duplicates."""

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest

from robollm.core.errors import ConfigError
from robollm.sim.products import fonts
from robollm.sim.products.artwork_motifs import MOTIFS
from robollm.sim.products.artwork_pen import ean13
from robollm.sim.products.catalogue import make_catalogue, rows
from robollm.sim.products.catalogue_words import LINES
from robollm.sim.products.multipack import PACKABLE, unit_of, units
from robollm.sim.world import KINDS, SPLITS

HASH = """
import hashlib, json
from dataclasses import asdict
from robollm.sim.products.catalogue import make_catalogue
from robollm.sim.products.shapes import whole
products = make_catalogue(3, 24, "train")
h = hashlib.sha256(json.dumps([asdict(p) for p in products], sort_keys=True).encode())
for p in products[:12:3]:
    for part in whole(p, 1).parts:
        h.update(part.mesh.vertices.tobytes() + part.mesh.uv.tobytes())
        if part.surface.texture is not None:
            h.update(part.surface.texture.tobytes())
print(h.hexdigest())
"""


def test_the_same_seed_gives_the_same_bytes_in_processes_with_other_hash_seeds():
    found = {
        subprocess.run(
            [sys.executable, "-c", HASH],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_a_smaller_catalogue_is_the_beginning_of_a_larger_one():
    large = make_catalogue(4, 120, "train")
    assert [asdict(p) for p in make_catalogue(4, 37, "train")] == [asdict(p) for p in large[:37]]


def test_another_seed_gives_other_products():
    one, two = make_catalogue(1, 60, "train"), make_catalogue(2, 60, "train")
    assert not {p.id for p in one} & {p.id for p in two}


def test_no_product_family_or_brand_is_in_two_splits_whatever_the_seeds():
    for what in ("id", "family", "brand"):
        sets = [
            {getattr(p, what) for seed in (0, 1, 2) for p in make_catalogue(seed, 150, split)}
            for split in SPLITS
        ]
        assert not sets[0] & sets[1]
        assert not sets[0] & sets[2]
        assert not sets[1] & sets[2]


@pytest.mark.parametrize("count", [30, 100, 600])
def test_most_products_have_near_duplicates_and_all_kinds_are_there(count):
    for split in SPLITS:
        products = make_catalogue(7, count, split)
        assert len({p.id for p in products}) == len(products) == count
        assert {p.kind for p in products} == set(KINDS)
        families = Counter(p.family for p in products)
        assert sum(n for n in families.values() if n > 1) >= 0.5 * count
        assert max(families.values()) <= 6


def test_a_family_shares_brand_palette_and_layout_and_its_members_can_be_told_by_reading():
    families: dict[str, list] = {}
    for product in make_catalogue(9, 300, "train"):
        families.setdefault(product.family, []).append(product)
    for members in families.values():
        for key in ("palette", "layout", "motif", "logo_face", "art", "name"):
            assert len({str(p.look[key]) for p in members}) == 1
        assert len({(p.brand, p.kind) for p in members}) == 1
        assert len({(p.look["variant"], p.look["amount"]) for p in members}) == len(members)
        assert len({p.title for p in members}) == len(members)


@pytest.mark.parametrize("split", SPLITS)
def test_seven_in_a_hundred_families_have_multipacks_of_their_single_units(split):
    families: dict[str, list] = {}
    for product in make_catalogue(6, 700, split):
        families.setdefault(product.family, []).append(product)
    packed = {f: m for f, m in families.items() if any(units(p) > 1 for p in m)}
    assert 0.06 <= len(packed) / len(families) <= 0.08
    for members in packed.values():
        single = {p.title: p for p in members if units(p) == 1}
        for pack in (p for p in members if units(p) > 1):
            assert pack.kind in PACKABLE
            unit = unit_of(pack)
            twin = single[unit.title]
            assert unit.size_m == twin.size_m
            assert unit.look == twin.look  # so the same is printed on it, bar code included
            assert pack.look["ean"] != twin.look["ean"]
            assert pack.weight_kg == pytest.approx(units(pack) * twin.weight_kg, abs=0.001)


def test_a_multipack_says_so():
    [pack, *_] = [p for p in make_catalogue(6, 200, "val") if units(p) > 1]
    [row] = rows([pack])
    amount = f"{units(pack)} x {unit_of(pack).look['amount']}"
    assert amount in row["title"]
    assert amount in row["description"]
    assert f"{units(pack)} units" in row["description"]
    assert row["units"] == units(pack)


def test_unrelated_products_share_their_colours():
    products = make_catalogue(9, 900, "test")
    families = {p.family: tuple(p.look["palette"]) for p in products}
    assert len(set(families.values())) <= 9
    assert min(Counter(families.values()).values()) >= 3


def test_sizes_and_weights_are_plausible():
    products = make_catalogue(11, 500, "train")
    size = np.array([p.size_m for p in products])
    assert size.min() > 0.008
    assert size[:, 0].max() < 0.45
    assert (size[:, 0] >= size[:, 1]).all()
    assert (size[:, 1] >= size[:, 2]).all()
    weight = np.array([p.weight_kg for p in products])
    assert weight.min() >= 0.015
    assert weight.max() <= 4.5
    density = weight / size.prod(axis=1)
    assert np.quantile(density, 0.02) > 40
    assert np.quantile(density, 0.98) < 1300


def test_ids_look_like_asins_and_bar_codes_are_valid():
    for product in make_catalogue(2, 80, "val"):
        assert re.fullmatch(r"B0[0-9A-Z]{8}", product.id)
        digits = [int(d) for d in product.look["ean"]]
        assert (sum(digits[0::2]) + 3 * sum(digits[1::2])) % 10 == 0


def test_a_bar_code_has_the_modules_of_the_standard():
    # The example of the standard's own annex: 5901234123457.
    assert ean13("5901234123457") == (
        "10100010110100111011001100100110111101001110101010"
        "110011011011001000010101110010011101000100101"
    )


def test_rows_say_what_a_store_knows():
    products = make_catalogue(2, 5, "test")
    for row, product in zip(rows(products), products, strict=True):
        assert row["id"] == product.id
        assert row["dimensions_m"] == list(product.size_m)
        assert product.brand in row["title"]
        assert product.look["variant"] in row["description"]


def test_every_line_of_goods_has_pictograms_and_enough_variants():
    for line in LINES:
        assert {sign for _, sign in line.variants} <= set(MOTIFS)
        assert set(line.motifs) <= set(MOTIFS)
        assert len(dict(line.variants)) >= 6
    assert {kind for line in LINES for kind in line.kinds} == set(KINDS)
    assert len(MOTIFS) >= 16


@pytest.mark.parametrize(("seed", "count", "split"), [(-1, 3, "train"), (1, 0, "val"), (1, 3, "x")])
def test_an_impossible_catalogue_is_one_clear_error(seed, count, split):
    with pytest.raises(ConfigError, match=r"want|is 'x'"):
        make_catalogue(seed, count, split)


def test_a_machine_without_fonts_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv(fonts.VARIABLE, str(tmp_path))
    with pytest.raises(ConfigError, match="no TrueType font") as caught:
        fonts.font("bold", 20)
    assert "fonts-dejavu" in caught.value.fix


def test_an_unknown_face_is_refused():
    with pytest.raises(ConfigError, match="no font face 'comic'"):
        fonts.font("comic", 20)


def test_the_core_fonts_alone_are_enough_and_the_card_says_so(tmp_path, monkeypatch):
    full = fonts.fonts_used()
    core = [name for name in full if name in {c for _, c in fonts._FILES.values()}]
    for name in core:
        (tmp_path / name).symlink_to(next(p for p in _system() if p.name == name))
    monkeypatch.setenv(fonts.VARIABLE, str(tmp_path))
    assert fonts.fonts_used() == {name: full[name] for name in core}
    assert fonts.font("serif_italic", 20).getname()[0] == "DejaVu Serif"


def _system():
    return fonts._faces(fonts.FOLDERS).values()
