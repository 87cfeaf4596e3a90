"""The simulated sky and its calendar: positions, light curves, catalogue, PSF, drawing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import AltAz, EarthLocation, SkyCoord, get_body, get_sun
from astropy.time import Time

from astrid_assets.archives.simulated import changing, ephemeris
from astrid_assets.archives.simulated.cadence import visit_on, visits
from astrid_assets.archives.simulated.conditions import conditions
from astrid_assets.archives.simulated.optics import PsfField, fwhm, instrument, phase_structure
from astrid_assets.archives.simulated.render import Points, draw, psf_stamp
from astrid_assets.archives.simulated.seeds import generator, uniform
from astrid_assets.archives.simulated.sky import cells_around, patch
from astrid_assets.archives.simulated.survey import BANDS, LATITUDE, LONGITUDE
from astrid_assets.archives.simulated.tile import Tile

TILE = Tile(seed=5, ra=335.0, dec=22.0, ny=256, nx=256, dirt=True, corrupt_rate=0.0, transient_rate=2.0)
PSF = PsfField(
    fwhm=1.9,
    ellipticity=(0.05, -0.03),
    size_terms=(0.03, -0.02, 0.02),
    ellipticity_terms=((0.02, 0.0, 0.01), (0.0, 0.01, 0.02)),
    spike_angle=12.0,
)


@pytest.mark.parametrize("mjd", [58300.25, 59010.4, 60935.0, 61300.9])
def test_sun_and_moon(mjd):
    """The ephemeris agrees with astropy's to its stated accuracy."""
    time = Time(mjd, format="mjd")
    for mine, theirs, limit in (
        (ephemeris.sun_position(mjd), get_sun(time), 0.4),
        (ephemeris.moon_position(mjd), get_body("moon", time), 1.2),
    ):
        # positions of date against ICRS: precession since 2000 is 0.35 degrees
        assert SkyCoord(*mine, unit="deg").separation(SkyCoord(theirs.ra, theirs.dec)).deg < limit


def test_moon_phase():
    """Full Moon of 2025-10-07 03:48 UT, new Moon of 2025-09-21 19:54 UT, and the sign while it wanes."""
    assert abs(ephemeris.moon_illumination(60955.158)) > 0.995
    assert abs(ephemeris.moon_illumination(60939.829)) < 0.005
    assert ephemeris.moon_illumination(60950.0) > 0 > ephemeris.moon_illumination(60960.0)


def test_altitude_and_parallactic_angle():
    """Altitude and parallactic angle agree with astropy's horizontal frame."""
    time = Time(60935.3, format="mjd", location=EarthLocation(lon=LONGITUDE, lat=LATITUDE))
    time.delta_ut1_utc = 0.0
    frame = AltAz(obstime=time, location=time.location)
    star = SkyCoord(335.0, 22.0, unit="deg")
    there = star.transform_to(frame)
    assert ephemeris.altitude(60935.3, 335.0, 22.0) == pytest.approx(there.alt.deg, abs=0.4)
    zenith = SkyCoord(0.0, 90.0, unit="deg", frame=frame).transform_to("icrs")
    angle = (star.position_angle(zenith).deg + 180) % 360 - 180
    assert ephemeris.parallactic_angle(60935.3, 335.0, 22.0) == pytest.approx(angle, abs=1.0)


def test_moonlight_brightens_the_sky():
    """Under a full Moon 60 degrees away the V sky is near 19 mag / arcsec^2, without Moon it stays dark."""
    assert 18.0 < ephemeris.moon_sky(60955.3, 335.0, 22.0, extinction=0.15) < 20.3
    assert ephemeris.moon_sky(60939.3, 335.0, 22.0, extinction=0.15) == 99.0


def test_random_numbers_belong_to_names():
    """The same key gives the same numbers, another key others."""
    assert uniform("a", 1) == uniform("a", 1) != uniform("a", 2)
    assert generator("a", 1).random() == generator("a", 1).random()
    draws = [uniform("mean", i) for i in range(4000)]
    assert np.mean(draws) == pytest.approx(0.5, abs=0.02)
    assert np.std(draws) == pytest.approx(12**-0.5, abs=0.01)


def test_calendar_only_grows():
    """A later end of the search adds visits and leaves the earlier ones as they were."""
    short = list(visits(TILE, "r", 60800.0, 60900.0))
    long = list(visits(TILE, "r", 60800.0, 60935.0))
    assert long[: len(short)] == short
    assert len(long) > len(short)


def test_cadence():
    """In season a band is taken every two or three nights, weather permitting, in the dark, not too low."""
    seen = list(visits(TILE, "r", 60840.0, 60960.0))
    assert 2.0 < 120.0 / len(seen) < 4.5
    for visit in seen:
        sun = ephemeris.sun_position(visit.mjd_start)
        assert ephemeris.altitude(visit.mjd_start, *sun) < -11.0
        assert ephemeris.altitude(visit.mjd_start, TILE.ra, TILE.dec) > 24.0
        assert visit_on(TILE, "r", visit.night) == visit


def test_season():
    """A field behind the Sun is not observed."""
    assert not list(visits(replace(TILE, ra=165.0, dec=12.0), "r", 60905.0, 60935.0))


def test_conditions_vary():
    """Seeing, sky and zero point scatter around the survey's medians."""
    states = [conditions(TILE, visit) for visit in visits(TILE, "r", 60000.0, 60935.0)]
    seeing = np.array([fwhm(s.psf) * 1.01 for s in states])
    assert np.median(seeing) == pytest.approx(BANDS["r"].seeing, rel=0.2)
    assert 0.05 < np.std(np.log(seeing)) < 0.3
    dark = [s.sky for s in states if s.moon_altitude < -5]
    lit = [s.sky for s in states if s.moon_altitude > 40 and abs(s.moon_illumination) > 0.8]
    assert np.median(lit) > 2 * np.median(dark)
    cloudy = [s for s in states if s.cloud > 0]
    assert 0.03 < len(cloudy) / len(states) < 0.35
    assert all(s.zeropoint < 26.4 - s.cloud for s in cloudy)
    assert any(s.misplaced for s in states)


def test_overlapping_fields_see_the_same_sky():
    """Two tiles that overlap hold the same objects there, down to the last digit."""
    one, two = patch(TILE), patch(replace(TILE, ra=335.06, dec=22.05))
    for mine, theirs in ((one.stars, two.stars), (one.galaxies, two.galaxies)):
        common, i, j = np.intersect1d(mine.ident, theirs.ident, return_indices=True)
        assert common.size > 0.5 * mine.ident.size
        np.testing.assert_array_equal(mine.mag_r[i], theirs.mag_r[j])
        np.testing.assert_array_equal(mine.ra[i], theirs.ra[j])


def test_names_are_unique():
    """No two objects around a tile share a name."""
    sky = patch(TILE)
    found = changing.transients(TILE, sky.cells, 60900.0, 60940.0)
    moving = changing.asteroids(TILE, sky.cells, 60930, 60930.3)
    names = np.concatenate([sky.stars.ident, sky.galaxies.ident, found.ident, moving.ident])
    assert np.unique(names).size == names.size


@pytest.mark.parametrize(("ra", "dec"), [(0.02, 5.0), (180.0, 89.95), (10.0, -60.0)])
def test_cells_cover_the_neighbourhood(ra, dec):
    """Every position within the radius lies in a cell, also across 0 h and at the pole; no cell twice."""
    cells = list(cells_around(ra, dec, 0.2))
    assert len(set(cells)) == len(cells)
    rng = np.random.default_rng(3)
    around = SkyCoord(ra, dec, unit="deg").directional_offset_by(
        rng.uniform(0, 360, 100) * units.deg, rng.uniform(0, 0.2, 100) * units.deg
    )
    for position in around:
        assert any(
            0 <= (position.ra.deg - cell.ra) % 360 <= cell.width
            and cell.dec <= position.dec.deg <= cell.dec + 0.1
            for cell in cells
        )


def test_galaxy_light():
    """The points of each galaxy carry all of its light, half of it within the half-light ellipse."""
    sky = patch(TILE)
    total = np.bincount(sky.owner, sky.share)
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)
    galaxies = sky.galaxies
    angle = np.radians(galaxies.angle)[sky.owner]
    major = sky.east * np.sin(angle) + sky.north * np.cos(angle)
    minor = (sky.north * np.sin(angle) - sky.east * np.cos(angle)) / galaxies.axis_ratio[sky.owner]
    inner = np.hypot(major, minor) < galaxies.radius[sky.owner]
    half = np.bincount(sky.owner, sky.share * inner)[(galaxies.sersic < 2) & (galaxies.radius > 2.5)]
    assert np.mean(half) == pytest.approx(0.5, abs=0.06)


def test_transients_rise_and_fade():
    """Each light curve has its maximum, the peak magnitude, at the peak; all have faded 200 days later."""
    found = changing.transients(TILE, patch(TILE).cells, 60900.0, 60940.0)
    peak = np.array([changing.transient_magnitudes(found, t, "r")[i] for i, t in enumerate(found.mjd_peak)])
    np.testing.assert_allclose(peak, found.peak_r, atol=0.02)
    for days in (-8.0, -3.0, 4.0, 12.0):
        away = [changing.transient_magnitudes(found, t + days, "r")[i] for i, t in enumerate(found.mjd_peak)]
        assert np.all(np.array(away) >= peak - 1e-6)
    assert np.all(np.isinf(changing.transient_magnitudes(found, 61400.0, "r")))


def test_asteroids_move():
    """Half an hour apart a main-belt asteroid is some 15 arcsec further, under the same name."""
    sky = patch(replace(TILE, ra=350.0, dec=-4.3))
    tile = replace(TILE, ra=350.0, dec=-4.3)
    first, later = (changing.asteroids(tile, sky.cells, 60930, t) for t in (60930.3, 60930.3 + 1 / 48))
    assert list(first.ident) == list(later.ident)
    moved = SkyCoord(first.ra, first.dec, unit="deg").separation(SkyCoord(later.ra, later.dec, unit="deg"))
    np.testing.assert_allclose(moved.arcsec, first.rate * 30, rtol=1e-2)


def test_variable_stars():
    """Variables stay within their amplitude, come back after a period, and the rest is constant."""
    stars = patch(TILE).stars
    curves = np.stack([changing.variability(stars, 60000.0 + 0.37 * i, "r") for i in range(120)])
    assert np.all(curves[:, stars.kind == 0] == 0)
    regular = (stars.kind > 0) & (stars.kind < 5)
    assert np.all(np.ptp(curves, axis=0)[regular] <= stars.amplitude[regular] * 1.001)
    one = np.flatnonzero(regular)[0]
    again = changing.variability(stars, 60000.0 + stars.period[one], "r")[one]
    assert again == pytest.approx(curves[0, one], abs=1e-6)


def test_drawing_is_exact():
    """A point anywhere equals the direct Fourier integral of its transfer function to 1e-4 of the peak."""
    image = draw(Points(*(np.array([v]) for v in (40.3, 41.8, 1.0))), PSF, (80, 80))
    f = np.linspace(-1.2, 1.2, 241)[:-1]
    fx, fy = f[None, :], f[:, None]
    u, cosine, sine = phase_structure(fx, fy)
    u = u * PSF.fwhm ** (5 / 3)
    for x, y in ((40, 42), (41, 42), (39, 40), (44, 45)):
        size, first, second = PSF.weights(np.float64((2 * x - 79) / 80), np.float64((2 * y - 79) / 80))
        transfer = instrument(fx, fy, PSF.spike_angle) * np.exp(-u)
        transfer = transfer * (1 + u * (size + first * cosine + second * sine))
        phase = np.cos(2 * np.pi * (fx * (x - 40.3) + fy * (y - 41.8)))
        expected = (transfer * phase).sum() * (f[1] - f[0]) ** 2
        assert image[y, x] == pytest.approx(expected, abs=1e-4 * float(image.max()))


def test_drawing_keeps_flux_and_place():
    """The flux of a point is kept to 0.3 % wherever it lies, and its centroid within 0.01 pixels."""
    y, x = np.mgrid[:160, :160]
    for place in ((80.0, 80.0), (61.37, 95.81), (110.5, 70.25)):
        image = draw(Points(*(np.array([v]) for v in (*place, 1000.0))), PSF, (160, 160)).astype(float)
        assert image.sum() == pytest.approx(1000.0, rel=5e-3)
        near = np.hypot(x - place[0], y - place[1]) < 12
        assert (image * x * near).sum() / (image * near).sum() == pytest.approx(place[0], abs=0.02)
        assert (image * y * near).sum() / (image * near).sum() == pytest.approx(place[1], abs=0.02)


def test_fwhm_of_the_drawn_psf():
    """The stated FWHM is that of the drawn stamp, and it varies over the field."""
    stamp = psf_stamp(PSF, (400, 400), 199.5, 199.5, 33).astype(float)
    row, column = stamp[16], stamp[:, 16]
    widths = [2 * np.interp(-0.5, -cut[16:22] / cut[16], np.arange(6)) for cut in (row, column)]
    assert fwhm(PSF) == pytest.approx(np.sqrt(widths[0] * widths[1]), rel=0.06)
    assert abs(fwhm(PSF, 1.0, 1.0) / fwhm(PSF, -1.0, 0.0) - 1) > 0.02


def test_psf_is_no_gaussian_and_no_moffat():
    """Wings and spikes: more light far out than a Gaussian of the same width, and not equal all around."""
    stamp = psf_stamp(PSF, (400, 400), 199.5, 199.5, 81).astype(float)
    y, x = np.mgrid[-40:41, -40:41]
    ring = np.abs(np.hypot(x, y) - 15) < 1
    assert stamp[ring].sum() > 1e-3
    assert stamp[ring].max() > 4 * np.median(stamp[ring])
