"""The specification of the files: up to date, and nothing is left out of it."""

from pathlib import Path

import h5py
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from astrid_assets.images import write_pair
from astrid_assets.reports.data_format import document
from astrid_assets.storage.layout import FOLDERS, RELEASE_FOLDERS
from astrid_assets.storage.store import Store
from astrid_assets.training.release import FieldSamples, ReleaseOptions, plan_release, write_release
from astrid_assets_tests.science.sky import known_pair
from astrid_assets_tests.training.samples import write_field

PAGE = Path(__file__).parents[2] / "docs" / "data_format.md"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text("utf-8")


def test_the_page_is_what_the_schemas_say(page):
    assert page == document(), "python -m astrid_assets.reports.data_format docs/data_format.md"


def test_every_asset_has_its_folder(page):
    for name, folder in (FOLDERS | RELEASE_FOLDERS).items():
        assert f"| {name} | `{folder}/" in page


def test_every_column_is_described(page):
    """No row of a table of columns ends without a text."""
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 200
    assert [line for line in rows if not line.rstrip(" |").split("|")[-1].strip()] == []


def test_release_files_hold_nothing_else(page, tmp_path):
    """Datasets, attributes and files of a release all stand in the page."""
    store = Store(str(tmp_path))
    fields = []
    for number, name in enumerate("abc"):
        table = write_field(store, name, ra=20.0 + 100 * number, n=4, exposures=1)
        folder = store.path(store.folder("training_set", name))
        fields.append(FieldSamples(name, table, lambda file, folder=folder: (folder / file).open("rb")))
    with store.new_folder("releases/r") as create:
        write_release(plan_release(fields, ReleaseOptions(), release_id="r", config={}), fields, create)
    folder = store.path("releases", "r")
    names = {path.name for path in folder.iterdir()}
    assert {name for name in names if f"`{name}`" not in page} == set()
    with h5py.File(folder / "train.h5") as file:
        columns = set(pq.read_schema(folder / "catalog.parquet").names)
        found = {f"/{name}" for name in file if name not in columns} | set(file.attrs) | columns
    assert {name for name in found if f"`{name}`" not in page} == set()


def test_keywords_of_a_pair_are_listed(page, tmp_path):
    write_pair(tmp_path / "pair.fits", known_pair())
    standard = ("SIMPLE", "BITPIX", "NAXIS", "EXTEND", "XTENSION", "PCOUNT", "GCOUNT", "EXTNAME", "CHECKSUM")
    wcs = (
        "DATASUM",
        "WCSAXES",
        "CRPIX",
        "PC",
        "CD",
        "CUNIT",
        "CTYPE",
        "CRVAL",
        "LON",
        "LAT",
        "RADESYS",
        "MASK",
    )
    with fits.open(tmp_path / "pair.fits") as hdus:
        keywords = {k for hdu in hdus if hdu.name != "META" for k in hdu.header}
        extensions = {hdu.name for hdu in hdus[1:]}
    found = {k for k in keywords if not k.startswith((*standard, *wcs, "ORIGIN"))} | extensions
    assert {name for name in found if f"`{name}`" not in page} == set()
