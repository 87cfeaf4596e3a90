"""TESScut: sectors, and target pixel files as cubes."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from astrid_assets.archives.mast.tesscut import (
    BTJD_MJD,
    Sector,
    cutout_request,
    fetch_cubes,
    parse_cutout,
    parse_sectors,
    sectors_request,
    write_cube,
)
from astrid_assets.archives.standin.mast import handlers
from astrid_assets.archives.standin.server import StandIn
from astrid_assets.archives.transport import Transport
from astrid_assets.errors import BadAnswerError, NoCoverageError

ZIP = "http/mast/astrocut_107.27_-70.0_5x5.zip"


def test_requests():
    """Parameters as TESScut documents them; sizes that time out are refused."""
    assert dict(sectors_request(107.27, -70.0).form) == {"ra": "107.27000000", "dec": "-70.00000000"}
    query = dict(cutout_request(107.27, -70.0, sector=1, pixels=5).query)
    assert query["sector"] == "1"
    assert (query["x"], query["y"], query["units"]) == ("5", "5", "px")
    for pixels in (0, 100):
        with pytest.raises(ValueError, match="1 to 99 pixels"):
            cutout_request(1.0, 2.0, sector=1, pixels=pixels)


@pytest.mark.real_data
def test_recorded_sectors(real_data):
    """The sector of the recording, its texts as numbers."""
    content = (real_data / "http/mast/tess_sector.json").read_bytes()
    assert parse_sectors(content) == [Sector("tess-s0001-1-3", 1, 1, 3)]
    assert parse_sectors(b'{"results": []}') == []
    for bad in (b"<html>", b"{}", b'{"results": [{}]}', b"[]"):
        with pytest.raises(BadAnswerError, match="TESScut"):
            parse_sectors(bad)


@pytest.mark.real_data
def test_the_recorded_cutout_is_whole(real_data, tmp_path):
    """Frames, times and flux of the target pixel file, also after they were written as a cube."""
    content = (real_data / ZIP).read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        name = archive.namelist()[0]
        file = archive.read(name)
    (cube,) = parse_cutout(content)
    folder = tmp_path / "cubes"
    folder.mkdir()
    write_cube(cube, folder / name)
    with fits.open(io.BytesIO(file)) as theirs, fits.open(folder / name) as ours:
        table = theirs["PIXELS"].data
        assert cube.name == name
        for flux in (cube.flux, ours["FLUX"].data):
            np.testing.assert_array_equal(flux, table["FLUX"])
        np.testing.assert_array_equal(ours["ERROR"].data, table["FLUX_ERR"])
        np.testing.assert_array_equal(ours["TIME"].data["MJD"], table["TIME"] + BTJD_MJD)
        np.testing.assert_array_equal(ours["TIME"].data["QUALITY"], table["QUALITY"])
        assert cube.flux.shape == (1282, 5, 5)
        # sector 1: 2018-07-25 to 2018-08-22
        assert 58324 < np.nanmin(cube.mjd) < np.nanmax(cube.mjd) < 58353
        # its world coordinates put the target 5 degrees away: wrong ones are not handed on
        far = WCS(theirs["APERTURE"].header, fix=False).all_pix2world([[2.0, 2.0]], 0)[0]
        assert abs(far[1] - theirs[0].header["DEC_OBJ"]) > 4
        assert "CTYPE1" not in ours[0].header
        assert ours[0].header["RA_OBJ"] == 107.27
    assert [p.name for p in folder.iterdir()] == [name]


def test_no_zip_is_a_bad_answer():
    """TESScut writes messages in JSON where a zip archive is expected; a broken file in it is one too."""
    empty, broken = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(empty, "w"):
        pass
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("a.fits", b"SIMPLE  = nothing")
    with pytest.raises(NoCoverageError):
        parse_cutout(empty.getvalue())
    for bad in (json.dumps({"msg": "no"}).encode(), broken.getvalue(), b""):
        with pytest.raises(BadAnswerError, match="TESScut"):
            parse_cutout(bad)


@pytest.mark.service
def test_cubes_of_a_position(tmp_path):
    """One file a sector, with the star in the middle; astroquery gets the same frames of the stand-in."""
    from astropy.coordinates import SkyCoord
    from astroquery.mast import TesscutClass

    with StandIn(handlers()) as standin:
        transport = Transport.open(standin.services(), tmp_path / "store")
        (path,) = fetch_cubes(transport, 30.0, -5.0, width=0.05, folder=tmp_path / "cubes")
        tesscut = TesscutClass()
        connection = tesscut._service_api_connection
        connection.SERVICE_URL = standin.base_url("mast")
        connection.set_service_params(connection.SERVICES, "tesscut")
        sectors = tesscut.get_sectors(coordinates=SkyCoord(30.0, -5.0, unit="deg"))
        (theirs,) = tesscut.get_cutouts(coordinates=SkyCoord(30.0, -5.0, unit="deg"), size=9, sector=1)
    assert list(sectors["sectorName"]) == ["tess-s0001-1-3"]
    with fits.open(path) as ours:
        np.testing.assert_array_equal(ours["FLUX"].data, theirs["PIXELS"].data["FLUX"])
        assert np.unravel_index(ours["FLUX"].data[0].argmax(), (9, 9)) == (4, 4)
        np.testing.assert_allclose(WCS(ours[0].header, naxis=2).all_pix2world([[4, 4]], 0), [[30.0, -5.0]])
    theirs.close()
    assert standin.errors == []
