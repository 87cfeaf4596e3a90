"""The catalogue: one row a field with the numbers of its tables, whatever the field holds."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from astrid_assets.reports.catalog import CATALOG_COLUMNS, catalog_of, catalog_table
from astrid_assets.reports.pages import inspect
from astrid_assets.storage.store import Store
from astrid_assets_tests.reports.hand_made import field_named, image_row, write


def test_the_catalogue_counts_what_is_there(store):
    (row,) = pq.read_table(store.path("catalog/catalog.parquet")).to_pylist()
    table = store.read_table("candidates/tiny/candidates.parquet")
    assert row["field"] == "tiny"
    assert row["simulated"]
    assert row["n_detections"] == table.num_rows
    assert row["n_candidates"] == table.column("artifact").to_pylist().count("")
    assert row["n_differenced"] == 2
    assert row["bands"] == "r"
    assert row["report"] == "reports/tiny/index.html"
    folders = ("source_fits", "processed", "differences")
    files = [p for f in folders for p in store.path(f).rglob("*") if p.suffix in {".fits", ".gz", ".parquet"}]
    assert row["n_bytes"] > 0.5 * sum(p.stat().st_size for p in files)


def test_page_and_document_tell_the_same(store):
    page = store.path("catalog/index.html").read_text()
    document = json.loads(store.path("catalog/catalog.json").read_bytes())
    assert 'href="../reports/tiny/index.html"' in page
    assert inspect(page).external == ()
    assert document["fields"][0]["field"] == "tiny"
    assert "simulated" in document["limitations"]["tiny"]
    assert document["checks"]["tiny"]["science_images.usable_exposures"] == "green"


def test_columns_carry_units(store):
    schema = pq.read_schema(store.path("catalog/catalog.parquet"))
    assert schema.names == list(CATALOG_COLUMNS)
    assert schema.field("seeing").metadata[b"unit"] == b"arcsec"


@pytest.fixture
def many(tmp_path):
    """A field with images that nothing was made of, beside one that holds nothing."""
    write(
        tmp_path,
        "science_images",
        [image_row("a"), image_row("b", state="rejected", reason="image: cut off")],
    )
    return catalog_of(
        Store(str(tmp_path)), [field_named(), field_named("later", "mast")], {"made": [], "later": []}, None
    )


def test_a_field_without_results_is_a_row_of_zeros(many):
    made, later = many.rows
    assert made["surveys"] == "generic"
    assert not made["simulated"]
    assert later["n_differenced"] == 0
    assert later["first_mjd"] is None
    assert later["report"] is None
    assert catalog_table(many.rows).num_rows == 2
    assert "No training release has been made yet" in many.page


def test_checks_of_many_fields_become_counts(tmp_path):
    fields = [field_named(f"f{i}") for i in range(12)]
    colours = ["green"] * 10 + ["orange", "red"]
    checks = {
        one.name: [{"asset": "candidates", "name": "sign_balance", "colour": colour, "text": ""}]
        for one, colour in zip(fields, colours, strict=True)
    }
    page = catalog_of(Store(str(tmp_path)), fields, checks, None).page
    assert "<th>f11</th>" not in page
    assert '<td>sign_balance</td><td class="n">1</td><td class="n">1</td>' in page


def test_the_release_is_told_with_its_splits(tmp_path):
    release = {"release_id": "abc", "path": "releases/abc", "n_samples": 9, "n_real": 4, "n_bogus": 3}
    release |= {"n_unlabelled": 2, "n_groups": 5, "splits": {"train": 6, "validation": 2, "test": 1}}
    catalog = catalog_of(Store(str(tmp_path)), [field_named()], {}, release)
    assert 'href="../releases/abc/README.md"' in catalog.page
    assert '<td>validation</td><td class="n">2</td>' in catalog.page
    assert catalog.document["release"]["release_id"] == "abc"
