"""What is said about the simulated sky agrees with the images of it, and is no more than others know."""

from __future__ import annotations

import io

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from astrid_assets.archives.alerts import alert_triplets, label_of, read_packets
from astrid_assets.archives.catalogues import PARSERS
from astrid_assets.archives.cutouts import describe_cutout
from astrid_assets.archives.protocol import AlertArchive, CatalogueArchive, Cone, CutoutArchive
from astrid_assets.archives.simulated import SimulatedArchive, changing, cutouts
from astrid_assets.archives.simulated.catalogues import known_asteroids, redshifts
from astrid_assets.archives.simulated.sky import objects_around, patch, star_positions
from astrid_assets.archives.simulated.tile import Tile
from astrid_assets.errors import NoCoverageError
from astrid_assets.fields import Field, SimulatedOptions, Window
from astrid_assets.science.catalogue import positions_at

CLOCK = 60935.9
MJD = 60931.3
CONE = Cone(350.0, -4.3, 0.2, MJD)


def field_of(**options) -> Field:
    return Field(
        name="small",
        ra=CONE.ra,
        dec=CONE.dec,
        radius=0.1,
        archives=("simulated",),
        bands=("g", "r"),
        science_window=Window(start="2025-08-25"),
        simulated=SimulatedOptions(**{"seed": 5, "shape": (512, 512), **options}),
    )


FIELD = field_of()
TILE = Tile.of(FIELD)
ARCHIVE = SimulatedArchive(CLOCK)


def raw(name: str, clock: float = CLOCK, cone: Cone = CONE) -> bytes:
    archive = SimulatedArchive(clock)
    offer = next(o for o in archive.catalogues(FIELD) if o.name == name)
    return archive.catalogue(offer, FIELD, cone)


def catalogue(name: str, clock: float = CLOCK, cone: Cone = CONE):
    offer = next(o for o in ARCHIVE.catalogues(FIELD) if o.name == name)
    return PARSERS[offer.format](raw(name, clock, cone))


def separations(ra, dec, others_ra, others_dec) -> np.ndarray:
    """Return the distance of each position from the nearest of others, arcsec."""
    east = (np.subtract.outer(ra, others_ra)) * np.cos(np.radians(CONE.dec))
    return 3600.0 * np.hypot(east, np.subtract.outer(dec, others_dec)).min(axis=1)


def test_the_archive_offers_all_three():
    assert isinstance(ARCHIVE, CatalogueArchive)
    assert isinstance(ARCHIVE, AlertArchive)
    assert isinstance(ARCHIVE, CutoutArchive)


def test_gaia_stars_moved_to_an_exposure_are_where_the_exposure_has_them():
    """Brighter than 18 the errors of position and motion are some milliarcseconds."""
    found = catalogue("gaia_dr3")
    bright = found.filter(found.column("magnitude").to_numpy() < 18.0)
    stars, _ = objects_around(TILE.seed, CONE.ra, CONE.dec, 0.3)
    ra, dec = positions_at(bright, MJD)
    then = separations(*(bright.column(c).to_numpy() for c in ("ra", "dec")), *star_positions(stars, MJD))
    now = separations(ra, dec, *star_positions(stars, MJD))
    assert bright.num_rows > 100
    assert now.max() < 0.05
    assert then.max() > 0.1  # without the motion


def test_gaia_is_complete_to_its_limit():
    stars, _ = objects_around(TILE.seed, CONE.ra, CONE.dec, 0.3)
    ra, dec = star_positions(stars, MJD)
    found = catalogue("gaia_dr3")
    near = np.hypot((ra - CONE.ra) * np.cos(np.radians(dec)), dec - CONE.dec) < CONE.radius - 0.001
    missed = separations(ra[near], dec[near], *positions_at(found, MJD)) > 0.5
    assert not missed[stars.mag_r[near] < 20.6].any()
    assert missed[stars.mag_r[near] > 20.9].all()


def test_galaxies_have_places_sizes_and_some_redshifts():
    _, galaxies = objects_around(TILE.seed, CONE.ra, CONE.dec, 0.3)
    found = catalogue("sdss")
    ra, dec = (found.column(name).to_numpy() for name in ("ra", "dec"))
    assert separations(ra, dec, galaxies.ra, galaxies.dec).max() < 0.3
    redshift = np.array(found.column("redshift").to_pylist(), float)
    bright = found.column("magnitude").to_numpy() < 17.7
    assert np.isfinite(redshift[bright]).mean() > 0.8
    assert np.isnan(redshift[~bright]).all()
    assert 0.05 < np.median(redshifts(galaxies, TILE.seed)[galaxies.mag_r < 18.5]) < 0.2


def test_variables_are_known_in_part():
    stars, _ = objects_around(TILE.seed, CONE.ra, CONE.dec, 1.0)
    found = catalogue("vsx", cone=Cone(CONE.ra, CONE.dec, 0.9))
    certain = found.filter(found.column("confidence").to_numpy() > 0.9)
    varies = (stars.kind > 0) & (stars.mag_r < 19.5)
    ra, dec = star_positions(stars, MJD)
    away = separations(*(certain.column(c).to_numpy() for c in ("ra", "dec")), ra[varies], dec[varies])
    assert away.max() < 1.5
    inside = np.hypot((ra - CONE.ra) * np.cos(np.radians(dec)), dec - CONE.dec) < 0.9
    assert 0.55 < certain.num_rows / (varies & inside).sum() < 0.85


def test_transients_are_reported_in_part_and_not_before_they_are_seen():
    wide = Cone(CONE.ra, CONE.dec, 0.35)
    found = catalogue("tns", cone=wide)
    discovered = found.column("discovered_mjd").to_numpy()
    assert (np.diff(discovered) >= 0).all()
    assert discovered.max() < CLOCK
    sky = patch(TILE)
    there = changing.transients(TILE, sky.cells, CLOCK - 300, CLOCK - 60)
    inside = np.hypot((there.ra - CONE.ra) * np.cos(np.radians(there.dec)), there.dec - CONE.dec) < 0.25
    bright = inside & (there.peak_r < 19.5) & (there.mjd_peak > CLOCK - 300) & (there.mjd_peak < CLOCK - 60)
    ra, dec = (found.column(name).to_numpy() for name in ("ra", "dec"))
    known = separations(there.ra[bright], there.dec[bright], ra, dec) < 1.0
    assert bright.sum() > 15
    assert 0.5 < known.mean() < 0.9


def test_a_report_stays_and_later_ones_are_added():
    wide = Cone(CONE.ra, CONE.dec, 0.4)
    earlier, later = (catalogue("tns", clock=clock, cone=wide).to_pylist() for clock in (CLOCK - 20, CLOCK))
    after = {row["object_id"]: row for row in later}
    assert all(after[r["object_id"]] == r for r in earlier if r["discovered_mjd"] > CLOCK - 390)
    new = set(after) - {row["object_id"] for row in earlier}
    assert new
    assert all(after[name]["discovered_mjd"] > CLOCK - 21 for name in new)
    assert raw("tns", clock=CLOCK) == raw("tns", clock=CLOCK + 0.05)  # a table a day


def test_ephemerides_are_right_within_their_errors():
    found = catalogue("skybot", cone=Cone(CONE.ra, CONE.dec, 0.3, MJD))
    truth = changing.asteroids(TILE, patch(TILE).cells, int(MJD), MJD)
    known = known_asteroids(TILE, MJD)
    assert 0.6 < known.ra.size / truth.ra.size <= 1.0
    ra, dec = (found.column(name).to_numpy() for name in ("ra", "dec"))
    error = found.column("position_error_arcsec").to_numpy()
    assert found.num_rows > 3
    assert (separations(ra, dec, truth.ra, truth.dec) < 4 * error + 0.01).all()
    later = catalogue("skybot", cone=Cone(CONE.ra, CONE.dec, 0.3, MJD + 1 / 48))
    names = later.column("object_id").to_pylist()
    row = next(r for r in found.to_pylist() if r["object_id"] in names)
    then = later.to_pylist()[names.index(row["object_id"])]
    east = (then["ra"] - row["ra"]) * np.cos(np.radians(row["dec"])) * 3600.0
    moved = np.hypot(east, (then["dec"] - row["dec"]) * 3600.0)
    assert moved == pytest.approx(30.0 * row["rate_arcsec_min"], rel=0.02)


def test_answers_are_the_same_bytes_every_time():
    for name in ("gaia_dr3", "sdss", "vsx", "tns", "skybot"):
        assert raw(name) == raw(name)


# --- alerts ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nights() -> dict[str, list]:
    offers = ARCHIVE.alert_nights(FIELD)
    answers = {}
    for offer in offers:
        try:
            answers[offer.name] = list(read_packets(ARCHIVE.alerts(offer, FIELD, CONE)))
        except NoCoverageError:
            answers[offer.name] = []
    return answers


def test_alerts_come_night_by_night_and_stay_what_they_were(nights):
    assert len(nights) >= 3
    assert 3 <= sum(map(len, nights.values())) <= 40
    earlier = SimulatedArchive(CLOCK - 2).alert_nights(FIELD)
    assert earlier == ARCHIVE.alert_nights(FIELD)[: len(earlier)]
    first = earlier[0]
    assert SimulatedArchive(CLOCK - 2).alerts(first, FIELD, CONE) == ARCHIVE.alerts(first, FIELD, CONE)


def test_alerts_are_of_the_field_and_the_night(nights):
    for name, packets in nights.items():
        for packet in packets:
            away = np.hypot((packet.ra - CONE.ra) * np.cos(np.radians(packet.dec)), packet.dec - CONE.dec)
            assert away < CONE.radius
            assert 0 <= packet.mjd - next(o.mjd for o in ARCHIVE.alert_nights(FIELD) if o.name == name) < 1
    names = [p.candid for packets in nights.values() for p in packets]
    assert len(set(names)) == len(names)


def test_the_change_stands_in_the_middle_of_the_difference(nights):
    packets = [p for found in nights.values() for p in found]
    changes = [p for p in packets if label_of(p)[0] == 1]
    stamps = alert_triplets(changes).stamps
    noise = 1.4826 * np.nanmedian(np.abs(stamps[:, 2]), axis=(1, 2))
    middle = np.nanmax(stamps[:, 2, 30:33, 30:33], axis=(1, 2))
    assert (middle > 2 * noise).mean() > 0.9


def test_a_source_at_the_edge_has_pixels_without_a_value():
    """The difference about a corner of the image: what lies outside is NaN."""
    packets = []
    for offer in ARCHIVE.alert_nights(wide := field_of(shape=(192, 192))):
        try:
            packets += read_packets(ARCHIVE.alerts(offer, wide, CONE))
        except NoCoverageError:
            continue
    triplets = alert_triplets(packets)
    edges = [min(p.x - 1, p.y - 1, 192 - p.x, 192 - p.y) < 31 for p in packets]
    np.testing.assert_array_equal((triplets.mask != 0).any(axis=(1, 2, 3)), edges)


# --- cutouts ---------------------------------------------------------------------------------------


def test_cutouts_are_as_asked_and_show_the_stars():
    """The brightest star of the field is where the header says, in every survey."""
    stars = patch(TILE).stars
    inside = np.hypot((stars.ra - CONE.ra) * np.cos(np.radians(stars.dec)), stars.dec - CONE.dec) < 0.09
    for offer in ARCHIVE.cutout_surveys(FIELD):
        try:
            content = ARCHIVE.cutout(offer, FIELD, width=0.2, pixels=240)
        except NoCoverageError:
            continue
        found = describe_cutout(content, ra=FIELD.ra, dec=FIELD.dec, width=0.2)
        assert (found["nx"], found["ny"], found["coverage"]) == (240, 240, 1.0)
        assert found["centre_offset"] < 1e-6
        assert found["width_ratio"] == pytest.approx(1.0)
        survey = cutouts._SURVEYS[offer.name]
        mag = stars.mag_r + survey.stars[0] + survey.stars[1] * stars.colour
        brightest = np.flatnonzero(inside)[mag[inside].argmin()]
        ra, dec = star_positions(stars, survey.mjd)
        with fits.open(io.BytesIO(content)) as hdus:
            x, y = WCS(hdus[0].header).wcs_world2pix(ra[brightest], dec[brightest], 0)
            box = hdus[0].data[
                round(float(y)) - 2 : round(float(y)) + 3, round(float(x)) - 2 : round(float(x)) + 3
            ]
            assert box.max() > np.percentile(hdus[0].data, 99.5), offer.title
        assert content == ARCHIVE.cutout(offer, FIELD, width=0.2, pixels=240)


def test_a_survey_that_has_not_been_there_says_so():
    south = field_of().model_copy(update={"dec": -60.0})
    offer = next(o for o in ARCHIVE.cutout_surveys(south) if o.title == "SDSSr")
    with pytest.raises(NoCoverageError, match="SDSSr has not observed"):
        ARCHIVE.cutout(offer, south, width=0.2, pixels=64)
