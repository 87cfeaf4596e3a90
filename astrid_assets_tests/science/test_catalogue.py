"""Known objects moved to a time, against astropy and an analytic ellipse; matches with detections."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time

from astrid_assets.archives.catalogues import for_exposure, known_table
from astrid_assets.science.catalogue import (
    KINDS,
    crossmatch,
    crossmatch_schema,
    outside_fraction,
    positions_at,
)

MJD = 60930.3
ARCSEC = 1 / 3600.0


def stars(**columns) -> pa.Table:
    count = len(columns["ra"])
    return known_table(count, object_id=[f"s{i}" for i in range(count)], kind="star", **columns)


def offsets(table: pa.Table, mjd: float) -> tuple[np.ndarray, np.ndarray]:
    """Return how far objects are from their catalogue positions, (east, north) in arcsec."""
    ra, dec = positions_at(table, mjd)
    ra0, dec0 = (table.column(name).to_numpy() for name in ("ra", "dec"))
    return (ra - ra0) * np.cos(np.radians(dec0)) / ARCSEC, (dec - dec0) / ARCSEC


def test_proper_motion_is_that_of_astropy():
    rng = np.random.default_rng(1)
    count = 200
    ra, dec = rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    pm_ra, pm_dec = rng.normal(0, 2000, (2, count))
    table = stars(ra=ra, dec=dec, pm_ra=pm_ra, pm_dec=pm_dec, ref_epoch=2016.0)
    theirs = SkyCoord(
        ra * u.deg,
        dec * u.deg,
        distance=10 * u.pc,  # astropy needs one
        pm_ra_cosdec=pm_ra * u.mas / u.yr,
        pm_dec=pm_dec * u.mas / u.yr,
        radial_velocity=0 * u.km / u.s,
        obstime=Time("J2016.0"),
    ).apply_space_motion(Time(MJD, format="mjd", scale="utc"))
    ours = SkyCoord(*positions_at(table, MJD), unit="deg")
    assert theirs.separation(ours).to_value("mas").max() < 0.5


def test_parallax_draws_its_ellipse():
    """The half axes are the parallax, and the parallax times the sine of the ecliptic latitude."""
    pole = SkyCoord(0 * u.deg, [90.0, 30.0] * u.deg, frame="barycentrictrueecliptic").icrs
    table = stars(ra=pole.ra.deg, dec=pole.dec.deg, parallax=[1000.0, 1000.0], ref_epoch=2016.0)
    path = np.array([offsets(table, MJD + day) for day in np.arange(0.0, 365.25, 1.0)])
    for star, minor in ((0, 1.0), (1, 0.5)):
        centred = path[:, :, star] - path[:, :, star].mean(axis=0)
        axes = np.sqrt(2 * np.linalg.eigvalsh(np.cov(centred.T)))
        np.testing.assert_allclose(axes, [minor, 1.0], atol=0.02)


def test_objects_without_epoch_or_motion_stay():
    table = stars(ra=[10.0, 20.0], dec=[-5.0, 60.0], pm_ra=[500.0, None], ref_epoch=[None, 2016.0])
    ra, dec = positions_at(table, MJD)
    np.testing.assert_allclose((ra, dec), ([10.0, 20.0], [-5.0, 60.0]), atol=1e-11)
    np.testing.assert_array_equal(positions_at(table, np.nan)[0], [10.0, 20.0])


def test_the_meridian_and_the_pole_are_no_places_apart():
    table = stars(
        ra=[359.9999, 40.0], dec=[0.0, 89.9999], pm_ra=[1e5, 0.0], pm_dec=[0.0, 1e5], ref_epoch=2016.0
    )
    ra, dec = positions_at(table, MJD)
    assert ra[0] == pytest.approx(0.2693, abs=1e-3)
    assert ra[1] == pytest.approx(220.0, abs=1e-6)  # across the pole
    assert dec[1] < 90.0


def matched(known: pa.Table, east: float, *, exposure: str = "a", **options: float) -> dict:
    """Match one detection, arcseconds east of (30, 40)."""
    ra = 30.0 + east * ARCSEC / np.cos(np.radians(40.0))
    table = crossmatch(np.array([ra]), np.array([40.0]), [exposure], np.array([MJD]), known, **options)
    assert table.schema == crossmatch_schema()
    return table.to_pylist()[0]


def at(kind: str, *easts: float, **columns) -> pa.Table:
    """Return objects so many arcseconds east of (30, 40)."""
    ra = [30.0 + east * ARCSEC / np.cos(np.radians(40.0)) for east in easts]
    names = [f"{kind}{i}" for i in range(len(easts))]
    return known_table(len(easts), object_id=names, kind=kind, ra=ra, dec=[40.0] * len(easts), **columns)


def test_a_star_is_found_where_it_is_now():
    """Fifteen arcsec from its place of 2016, within the limit of its place of today."""
    known = at("star", 0.0, pm_ra=[1560.0], ref_epoch=2016.0)
    now = 1.560 * (2000.0 + (MJD - 51544.5) / 365.25 - 2016.0)
    row = matched(known, now + 1.0)
    assert (row["star_id"], row["star_sep"]) == ("star0", pytest.approx(1.0, abs=1e-4))
    assert matched(known, 0.0)["star_id"] is None


def test_each_kind_has_its_own_match_and_the_nearest_wins():
    known = pa.concat_tables(
        [
            at("star", 1.8, -0.5, **{"class": ["far", "near"]}),
            at("variable", 0.3),
            at("transient", 3.0),
            at("galaxy", 0.9),
        ]
    )
    row = matched(known, 0.0)
    assert (row["star_id"], row["star_class"], row["star_sep"]) == ("star1", "near", pytest.approx(0.5))
    assert row["variable_sep"] == pytest.approx(0.3)
    assert row["transient_id"] is None
    assert row["galaxy_id"] == "galaxy0"
    assert matched(known, 0.0, transient_radius=4.0)["transient_id"] == "transient0"


def test_a_galaxy_reaches_three_radii_and_the_one_whose_light_it_is_wins():
    known = at("galaxy", 8.0, -1.9, radius_arcsec=[6.0, 0.3])
    row = matched(known, 0.0)
    assert (row["galaxy_id"], row["galaxy_sep"]) == ("galaxy0", pytest.approx(8.0, rel=1e-6))
    assert matched(known, 0.0, galaxy_radii=1.0)["galaxy_id"] == "galaxy1"
    assert matched(at("galaxy", 1.9), 0.0)["galaxy_id"] == "galaxy0"


def test_an_asteroid_counts_in_its_exposure_only():
    known = for_exposure(at("solar_system", 4.0), "a", MJD)
    assert matched(known, 0.0)["solar_system_sep"] == pytest.approx(4.0, rel=1e-6)
    assert matched(known, 0.0, exposure="b")["solar_system_id"] is None


def test_no_positions_and_nothing_known():
    empty = known_table(0)
    assert matched(empty, 0.0) == dict.fromkeys(crossmatch_schema().names)
    lost = crossmatch(np.array([np.nan]), np.array([np.nan]), ["a"], np.array([MJD]), at("star", 0.0))
    assert lost.column("star_id").null_count == 1
    assert crossmatch(np.empty(0), np.empty(0), [], np.empty(0), at("star", 0.0)).num_rows == 0


def test_every_kind_has_three_columns_with_descriptions():
    schema = crossmatch_schema()
    assert schema.names == [f"{kind}_{part}" for kind in KINDS for part in ("id", "class", "sep")]
    assert all(field.metadata[b"description"] for field in schema)


def test_objects_outside_the_circle():
    known = at("star", 0.0, 3000.0, 3700.0)
    assert outside_fraction(known, ra=30.0, dec=40.0, radius=1.0) == pytest.approx(1 / 3)
    assert np.isnan(outside_fraction(known_table(0), ra=30.0, dec=40.0, radius=1.0))
