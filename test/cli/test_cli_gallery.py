from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robollm.cli.gallery import VERBS
from robollm.gallery.records import MadeWith, Product
from robollm.gallery.store import create_gallery, open_gallery, open_writer

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"onnxruntime", "faiss", "cv2", "onnx", "rclpy", "torch", "rich", "sqlite3"}
MANIFEST_VERBS = ("show", "set", "import", "remove")


@pytest.fixture
def gallery(shelf, tmp_path):
    """A gallery of the shelf; a copy to change."""
    copy = tmp_path / "gallery"
    shutil.copytree(shelf.gallery, copy)
    return copy


@pytest.fixture
def products(gallery):
    """Ids of its products, sorted."""
    opened = open_gallery(gallery, embedding_sha256=None, bundle="")
    opened.close()
    return sorted(opened.products)


def snapshot(folder):
    return open_gallery(folder, embedding_sha256=None, bundle="")


# help


def test_every_verb_helps_with_an_example_and_loads_nothing_heavy():
    code = (
        "import sys, json\n"
        "from robollm.cli.main import main\n"
        "for verb in json.loads(sys.argv[1]):\n"
        "    sys.argv = ['robollm', 'gallery', *verb, '--help']\n"
        "    try: main()\n"
        "    except SystemExit as e: assert not e.code, (verb, e.code)\n"
        "    print('=====')\n"
        "print('\\n'.join(sys.modules))"
    )
    verbs = [[v] for v in VERBS] + [["manifest", v] for v in MANIFEST_VERBS]
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(verbs)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    *texts, modules = done.stdout.split("=====\n")
    assert len(texts) == len(verbs)
    for verb, text in zip(verbs, texts, strict=True):
        example = f"    robollm gallery {' '.join(verb)} "
        assert any(line.startswith(example) for line in text.splitlines()), f"{verb}: {text}"
        assert "\\b" not in text, verb
    assert not set(modules.split()) & HEAVY


def test_the_verbs_are_listed_in_the_order_of_their_use(robollm):
    done = robollm("gallery", "--help")
    listed = [line.split()[0] for line in done.out.splitlines() if line.startswith("  ")]
    assert [v for v in listed if v in VERBS] == list(VERBS)


# info


def test_info_counts_what_is_there(robollm, gallery, shelf, products):
    card = json.loads(robollm("gallery", "info", gallery, "--json").out)
    assert card["products"] == len(products)
    assert card["references"] == len(list(shelf.references.glob("*/*.jpg")))
    assert card["removed"] == 0
    assert card["bytes"]["vectors"] == 2 * card["dim"] * card["references"]
    assert card["bytes_on_disk"] >= sum(card["bytes"].values()) > card["bytes"]["vectors"]
    assert card["plan"].startswith("exact")
    assert card["calibrations"] == {}
    assert card["build"]["images"] == str(shelf.references)
    said = robollm("gallery", "info", gallery).out
    assert card["bundle"] in said
    assert "bundle's thresholds" in said
    assert str(shelf.references) in said


def test_info_tells_the_share_of_removed_vectors_and_what_to_do(robollm, gallery, products):
    with open_writer(gallery) as writer:
        for product in products[1:]:
            writer.remove_product(product)
        writer.commit()
    card = json.loads(robollm("gallery", "info", gallery, "--json").out)
    assert card["products"] == 1
    assert card["removed_share"] == pytest.approx(
        card["removed"] / (card["removed"] + card["references"]), abs=1e-4
    )
    assert "gallery compact" in card["advice"]
    assert "gallery compact" in robollm("gallery", "info", gallery).out


def test_info_names_every_bad_picture_of_the_last_build(robollm, gallery):
    bad = {f"P{i}/1.jpg": "it is cut off" for i in range(30)}
    with open_writer(gallery) as writer:
        writer.put_record("build", "bad_images", {"images": "x", "bad": bad, "empty": ["Q"]})
        writer.commit()
    said = robollm("gallery", "info", gallery).out
    assert "30 bad images" in said
    assert all(name in said for name in bad)


# tune


def test_tuning_shows_what_was_measured_and_info_tells_of_it(robollm, tmp_path):
    folder, rng = tmp_path / "g", np.random.default_rng(3)
    made_with = MadeWith("0" * 64, "bundle")
    create_gallery(folder, dim=16, made_with=made_with)
    with open_writer(folder, made_with=made_with) as writer:
        for i in range(600):
            sources = [f"P{i}/{k}.jpg" for k in range(2)]
            writer.add_references(
                f"P{i}", rng.standard_normal((2, 16)), sources=sources, sha256s=["0" * 64] * 2
            )
        writer.commit()
    done = robollm("gallery", "tune", folder, "--budget-ms", "1000")
    assert done.code == 0, done.err
    assert "HNSW" in done.out
    assert "1,200 vectors" in done.out
    assert "chosen: " in done.out
    assert "1000.0 ms is enough" in done.out
    chosen = json.loads(robollm("gallery", "tune", folder, "--whole", "exact", "--json").out)
    assert chosen["chosen"] in {c["name"] for c in chosen["candidates"]}
    assert chosen["chosen"] in robollm("gallery", "info", folder).out


def test_a_gallery_too_small_to_tune_says_so(robollm, gallery):
    done = robollm("gallery", "tune", gallery)
    assert done.code == 0
    assert "too few" in done.out


# manifest


def test_a_manifest_is_set_shown_and_removed(robollm, gallery, products):
    first = products[:2]
    done = robollm("gallery", "manifest", "set", gallery, "tote-17", *first, "nobody")
    assert done.code == 0
    card = json.loads(done.out)
    assert (card["container"], card["products"]) == ("tote-17", 3)
    assert "1 products have no reference picture: nobody" in done.err
    shown = json.loads(robollm("gallery", "manifest", "show", gallery, "--json").out)
    assert shown["generation"] == card["generation"]
    assert shown["containers"]["tote-17"] == sorted([*first, "nobody"])
    table = robollm("gallery", "manifest", "show", gallery, "tote-17").out
    assert all(p in table for p in [*first, "nobody"])
    assert "none" in table
    assert "tote-17" in robollm("gallery", "manifest", "show", gallery).out
    assert robollm("gallery", "manifest", "remove", gallery, "tote-17").code == 0
    assert "tote-17" not in snapshot(gallery).manifests.containers


def test_setting_a_manifest_leaves_other_containers_alone(robollm, gallery, products):
    for tote, some in (("a", products[:1]), ("b", products[1:2]), ("a", products[2:3])):
        assert robollm("gallery", "manifest", "set", gallery, tote, *some).code == 0
    containers = snapshot(gallery).manifests.containers
    assert containers["a"] == {products[2]}
    assert containers["b"] == {products[1]}


def test_a_manifest_file_is_taken_over_with_what_it_says_of_products(robollm, gallery, shelf):
    robollm("gallery", "manifest", "set", gallery, "old", "P")
    words = "gallery", "manifest", "import", gallery, shelf.manifest
    assert robollm(*words).code == 0
    wanted = json.loads(shelf.manifest.read_text())
    opened = snapshot(gallery)
    assert {c: sorted(p) for c, p in opened.manifests.containers.items() if c != "old"} == {
        c: sorted(p) for c, p in wanted["containers"].items()
    }
    assert "old" in opened.manifests.containers
    product, row = next(iter(wanted["products"].items()))
    assert opened.product(product).title == row.get("title", "")
    assert robollm(*words, "--replace").code == 0
    assert "old" not in snapshot(gallery).manifests.containers


def test_removing_an_unknown_container_removes_none(robollm, gallery, products):
    robollm("gallery", "manifest", "set", gallery, "a", products[0])
    done = robollm("gallery", "manifest", "remove", gallery, "a", "nowhere")
    assert done.code == 2
    assert "nowhere" in done.err
    assert "a" in snapshot(gallery).manifests.containers


# find


def test_products_are_found_by_the_beginning_of_words(robollm, gallery):
    with open_writer(gallery) as writer:
        writer.put_product(Product("X1", "Crème brûlée", "with vanilla"))
        writer.put_product(Product("X2", "Vanilla beans"))
        writer.put_product(Product("X3", "Oat bites"))
        writer.commit()
    found = json.loads(robollm("gallery", "find", gallery, "vani", "--json").out)
    assert {p["product"] for p in found["products"]} == {"X1", "X2"}
    found = json.loads(robollm("gallery", "find", gallery, "CREME", "bru", "--json").out)
    assert [p["title"] for p in found["products"]] == ["Crème brûlée"]
    assert "Oat bites" in robollm("gallery", "find", gallery, "oat").out
    one = json.loads(robollm("gallery", "find", gallery, "vani", "--limit", "1", "--json").out)
    assert len(one["products"]) == 1
    nothing = robollm("gallery", "find", gallery, "zebra")
    assert (nothing.code, nothing.out) == (0, "")
    assert "no product has 'zebra'" in nothing.err


# check, compact, migrate, export


def test_a_good_gallery_passes_the_check_and_a_flipped_byte_fails_it(robollm, gallery):
    good = robollm("gallery", "check", gallery)
    assert good.code == 0
    assert good.out.startswith("good: ")
    (file,) = gallery.glob("*.fp16")
    raw = bytearray(file.read_bytes())
    raw[7] ^= 1
    file.write_bytes(raw)
    bad = robollm("gallery", "check", gallery)
    assert bad.code == 1
    assert bad.out.startswith("damaged: ")
    assert "fix: " in bad.err
    assert not json.loads(robollm("gallery", "check", gallery, "--json").out)["good"]


def test_compacting_gives_back_the_space_and_keeps_the_rest(robollm, gallery, products):
    with open_writer(gallery) as writer:
        writer.remove_product(products[0])
        writer.commit()
    removed = json.loads(robollm("gallery", "info", gallery, "--json").out)["removed"]
    assert removed
    done = json.loads(robollm("gallery", "compact", gallery, "--json").out)
    assert done["dropped"] == removed
    after = json.loads(robollm("gallery", "info", gallery, "--json").out)
    assert after["removed"] == 0
    assert set(snapshot(gallery).products) == set(products[1:])
    assert "0 removed vectors are gone" in robollm("gallery", "compact", gallery).out


def test_an_export_holds_every_reference_and_is_not_written_over(robollm, gallery, tmp_path):
    words = "gallery", "export", gallery, "--out", tmp_path / "files"
    card = json.loads(robollm(*words).out)
    vectors = np.load(tmp_path / "files" / "vectors.npy")
    assert len(vectors) == card["references"] == snapshot(gallery).card.references
    assert {f.name for f in (tmp_path / "files").iterdir()} == set(card["files"])
    again = robollm(*words)
    assert again.code == 2
    assert "exists" in again.err


def test_a_gallery_that_is_up_to_date_needs_no_migration(robollm, gallery):
    assert json.loads(robollm("gallery", "migrate", gallery).out)["changed"] is False


# mistakes


@pytest.mark.parametrize(
    "words",
    [
        ["info", "{tmp}"],
        ["find", "{tmp}", "word"],
        ["check", "{tmp}"],
        ["compact", "{tmp}"],
        ["migrate", "{tmp}"],
        ["tune", "{tmp}"],
        ["export", "{tmp}", "--out", "{tmp}/e"],
        ["manifest", "show", "{tmp}"],
        ["manifest", "show", "{gallery}", "nowhere"],
        ["manifest", "set", "{tmp}", "a", "P"],
        ["manifest", "import", "{gallery}", "{tmp}/missing.json"],
        ["manifest", "import", "{gallery}", "{gallery}/gallery.json"],
        ["manifest", "remove", "{gallery}", "nowhere"],
    ],
    ids=" ".join,
)
def test_a_mistake_is_two_lines_and_exit_code_2(robollm, gallery, tmp_path, words):
    empty = tmp_path / "empty"
    empty.mkdir()
    done = robollm("gallery", *(w.format(tmp=empty, gallery=gallery) for w in words))
    assert done.code == 2
    assert done.out == ""
    what, fix = done.err.splitlines()
    assert what.startswith("error: ")
    assert fix.startswith("  fix: ")
