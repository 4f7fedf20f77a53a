from __future__ import annotations

import json
import time

import pytest

from robollm.core.errors import ManifestError
from robollm.gallery.manifest import load_manifests


def own(tmp_path, **content):
    path = tmp_path / "manifest.json"
    path.write_text(
        json.dumps({"format": "robollm-manifest", "format_version": 1, **content}), encoding="utf-8"
    )
    return path


def csv(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "manifest.csv"
    path.write_bytes(text.encode(encoding))
    return path


def refusal(path):
    with pytest.raises(ManifestError) as e:
        load_manifests(path)
    assert str(path) in e.value.what or "container.json" in e.value.what
    assert e.value.fix
    return e.value.what


# good ones


def test_our_json_is_read_with_everything_that_is_known(tmp_path):
    path = own(
        tmp_path,
        products={
            "B1": {
                "title": "Soap", "description": "a bar", "weight_kg": 0.2,
                "dimensions_m": [0.1, 0.05, 0.02], "colour": "green",
            },
        },
        containers={"tote-A": ["B1", "B2"], "tote-B": []},
    )  # fmt: skip
    got = load_manifests(path)
    assert got.containers == {"tote-A": {"B1", "B2"}, "tote-B": frozenset()}
    soap = got.products["B1"]
    assert (soap.title, soap.description, soap.weight_kg) == ("Soap", "a bar", 0.2)
    assert soap.dimensions_m == (0.1, 0.05, 0.02)
    assert soap.extra == {"colour": "green"}
    assert got.products["B2"].title == ""


def test_one_product_may_be_in_two_containers(tmp_path):
    got = load_manifests(own(tmp_path, containers={"a": ["B1"], "b": ["B1"]}))
    assert got.containers == {"a": {"B1"}, "b": {"B1"}}


CSV = """container_id,product_id,title,weight_kg,length_m,width_m,height_m,shelf
tote-A,B1,Soap,0.2,0.1,0.05,0.02,7
tote-A,B2,,,,,,
tote-B,B1,Soap,0.2,0.1,0.05,0.02,7
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_csv_is_read_with_and_without_a_byte_order_mark(tmp_path, encoding, ends):
    got = load_manifests(csv(tmp_path, CSV.replace("\n", ends), encoding))
    assert got.containers == {"tote-A": {"B1", "B2"}, "tote-B": {"B1"}}
    soap = got.products["B1"]
    assert (soap.title, soap.weight_kg, soap.dimensions_m) == ("Soap", 0.2, (0.1, 0.05, 0.02))
    assert soap.extra == {"shelf": "7"}
    assert got.products["B2"].weight_kg is None


def test_json_with_a_byte_order_mark_is_read(tmp_path):
    path = own(tmp_path, containers={"a": ["B1"]})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_manifests(path).containers == {"a": {"B1"}}


def armbench(tmp_path, pick, rows):
    folder = tmp_path / "Picks" / pick
    folder.mkdir(parents=True)
    (folder / "container.json").write_text(json.dumps(rows))
    return folder / "container.json"


def test_an_armbench_container_is_named_after_its_folder(tmp_path):
    path = armbench(tmp_path, "P000001", {"B1": {"title": "Soap", "weight": "3 oz"}, "B2": "a box"})
    got = load_manifests(path)
    assert got.containers == {"P000001": {"B1", "B2"}}
    assert got.products["B1"].extra == {"weight": "3 oz"}
    assert got.products["B2"].description == "a box"


def test_a_folder_of_armbench_picks_is_read_whole(tmp_path):
    armbench(tmp_path, "P1", {"B1": {}})
    armbench(tmp_path, "P2", {"B1": {}, "B2": {}})
    (tmp_path / "Picks" / "readme").mkdir()
    got = load_manifests(tmp_path / "Picks")
    assert got.containers == {"P1": {"B1"}, "P2": {"B1", "B2"}}
    assert set(got.products) == {"B1", "B2"}


def test_the_demo_manifest_is_one_of_ours(demo):
    got = load_manifests(demo.manifest)
    assert set(got.containers) == {"tote-A", "tote-B"}
    references = {p.name for p in demo.references.iterdir()}
    assert frozenset().union(*got.containers.values()) <= references


# repeated ids


@pytest.mark.parametrize(
    "text",
    [
        '{"format": "robollm-manifest", "containers": {"a": ["B1"], "a": ["B2"]}}',
        '{"format": "robollm-manifest", "products": {"a": {}, "a": {}}, "containers": {"c": []}}',
        '{"a": 1, "a": 2}',
    ],
)
def test_a_json_key_twice_is_refused(tmp_path, text):
    path = tmp_path / "manifest.json"
    path.write_text(text)
    assert "names 'a' twice" in refusal(path)


def test_a_product_twice_in_a_list_is_refused(tmp_path):
    path = own(tmp_path, containers={"a": ["B1", "B2", "B1"]})
    assert "container 'a' lists product 'B1' more than once" in refusal(path)


def test_a_product_twice_in_a_csv_container_is_refused(tmp_path):
    path = csv(tmp_path, CSV + "tote-A,B1,,,,,,\n")
    assert "container 'tote-A' lists product 'B1' more than once" in refusal(path)


# missing and empty ids


@pytest.mark.parametrize("ids", [["B1", ""], ["  "], [None], [7], "B1", None, {"B1": {}}])
def test_a_container_needs_a_list_of_ids(tmp_path, ids):
    path = own(tmp_path, containers={"a": ids})
    assert "container 'a' has a missing or empty product id" in refusal(path)


def test_a_container_needs_a_name(tmp_path):
    assert "empty container id" in refusal(own(tmp_path, containers={" ": ["B1"]}))


def test_a_product_needs_a_name(tmp_path):
    path = own(tmp_path, products={"": {}}, containers={"a": ["B1"]})
    assert "empty product id" in refusal(path)


@pytest.mark.parametrize("containers", [None, {}, [], "a"])
def test_a_manifest_without_containers_is_refused(tmp_path, containers):
    assert "no `containers` object" in refusal(own(tmp_path, containers=containers))


@pytest.mark.parametrize("row", ["tote-A,", ",B9", " ,B9", "tote-A,  "])
def test_a_csv_line_without_an_id_is_refused_with_its_number(tmp_path, row):
    path = csv(tmp_path, f"container_id,product_id\ntote-A,B1\n\n{row}\n")
    assert "line 4 has no container_id or no product_id" in refusal(path)


@pytest.mark.parametrize("text", ["", "id,name\na,b\n", "container_id\na\n"])
def test_a_csv_without_the_two_columns_is_refused(tmp_path, text):
    assert "missing" in refusal(csv(tmp_path, text))


def test_a_csv_with_a_header_only_is_refused(tmp_path):
    assert "has no rows" in refusal(csv(tmp_path, "container_id,product_id\n"))


# bad values


@pytest.mark.parametrize("weight", ["NaN", "Infinity", "-0.1", '"heavy"', "[1]", '"nan"'])
def test_a_weight_is_a_number_from_zero(tmp_path, weight):
    path = tmp_path / "manifest.json"
    path.write_text(
        '{"format": "robollm-manifest", "format_version": 1, "containers": {"a": ["B1"]},'
        f' "products": {{"B1": {{"weight_kg": {weight}}}}}}}'
    )
    assert "product 'B1'" in refusal(path)


@pytest.mark.parametrize("weight", ["nan", "heavy", "-1"])
def test_a_csv_weight_is_a_number_too(tmp_path, weight):
    path = csv(tmp_path, f"container_id,product_id,weight_kg\na,B1,{weight}\n")
    assert "product 'B1'" in refusal(path)


@pytest.mark.parametrize("sides", [[1, 2], [1, 2, 3, 4], [1, None, 2], ["a", 1, 2], "123", 5, {}])
def test_dimensions_are_three_numbers(tmp_path, sides):
    path = own(tmp_path, products={"B1": {"dimensions_m": sides}}, containers={"a": ["B1"]})
    assert "product 'B1'" in refusal(path)


@pytest.mark.parametrize("row", [None, [], "soap", 3])
def test_a_product_is_an_object(tmp_path, row):
    path = own(tmp_path, products={"B1": row}, containers={"a": ["B1"]})
    assert "want an object" in refusal(path)


# files that are something else


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xff", b'{"a": '])
def test_what_is_no_json_is_refused(tmp_path, raw):
    path = tmp_path / "manifest.json"
    path.write_bytes(raw)
    assert "not readable JSON" in refusal(path)


@pytest.mark.parametrize(("text", "kind"), [("[]", "list"), ("3", "int"), ("null", "NoneType")])
def test_json_that_is_no_object_is_refused(tmp_path, text, kind):
    path = tmp_path / "manifest.json"
    path.write_text(text)
    assert f"holds a {kind}" in refusal(path)


@pytest.mark.parametrize("format_", [None, "robollm-bundle"])
def test_json_of_another_format_is_refused(tmp_path, format_):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"format": format_, "containers": {"a": ["B1"]}}))
    assert f"format is {format_!r}" in refusal(path)


def test_csv_that_is_not_utf_8_is_refused(tmp_path):
    path = csv(tmp_path, "container_id,product_id,title\na,B1,caf\xe9\n", "latin-1")
    assert "not readable CSV" in refusal(path)


def test_a_missing_file_and_an_empty_folder_say_so(tmp_path):
    assert "does not exist" in refusal(tmp_path / "nothing.json")
    assert "has no */container.json" in refusal(tmp_path)


@pytest.mark.parametrize("version", [None, 2, "1"])
def test_a_manifest_of_another_version_is_refused(tmp_path, version):
    said = refusal(own(tmp_path, format_version=version, containers={"a": ["B1"]}))
    assert f"format_version {version!r}" in said


def test_a_csv_with_half_of_the_dimensions_is_refused_by_line(tmp_path):
    said = refusal(csv(tmp_path, "container_id,product_id,length_m,width_m\nA,B1,0.1,0.2\n"))
    assert "line 2" in said


def test_spaces_around_ids_in_csv_are_not_part_of_them(tmp_path):
    found = load_manifests(csv(tmp_path, "container_id,product_id\n A , B1\n"))
    assert found.containers == {"A": frozenset({"B1"})}


# size


def test_a_manifest_of_100_000_products_is_read_in_seconds_and_a_repeated_id_is_named(tmp_path):
    ids = [f"B{i:06d}" for i in range(100_000)]
    boxes = {f"tote-{i}": ids[i : i + 50] for i in range(0, len(ids), 50)}
    products = {p: {"title": f"thing {p}", "weight_kg": 0.5} for p in ids}
    path = own(tmp_path, products=products, containers=boxes)
    start = time.process_time()
    got = load_manifests(path)
    assert time.process_time() - start < 10, "CPU seconds; about half a second when alone"
    assert len(got.products) == 100_000
    assert len(got.containers) == 2000
    boxes["tote-500"].append(ids[520])
    assert "'tote-500' lists product 'B000520' more than once" in refusal(
        own(tmp_path, products=products, containers=boxes)
    )
    text = path.read_text().replace('"B070000": {', '"B000007": {', 1)
    path.write_text(text)
    assert "names 'B000007' twice" in refusal(path)
