"""SkyView: exact names and places, blank and misplaced answers, the page of results as a fall-back."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from astrid_assets.archives import skyview
from astrid_assets.archives.protocol import CutoutArchive
from astrid_assets.archives.standin.faults import Fault
from astrid_assets.archives.standin.messages import Asked, Reply
from astrid_assets.archives.standin.server import StandIn
from astrid_assets.archives.standin.skyview import SkyviewService, handlers
from astrid_assets.archives.transport import Transport
from astrid_assets.errors import (
    BadAnswerError,
    ConfigurationError,
    NoCoverageError,
)
from astrid_assets.fields import Field, SkyviewOptions
from astrid_assets.surveys import load_profile

RA, DEC, WIDTH, PIXELS = 210.80242917, 54.34875, 0.05, 120
QUICK = {"per_second": 1000.0, "backoff": 0.001}


def field(*surveys: str, ra: float = RA, dec: float = DEC) -> Field:
    options = SkyviewOptions(surveys=surveys) if surveys else SkyviewOptions()
    return Field(name="m101", ra=ra, dec=dec, radius=0.05, archives=("skyview",), skyview=options)


def opened(standin: StandIn, store: Path) -> skyview.SkyviewArchive:
    services = {name: {**settings, **QUICK} for name, settings in standin.services().items()}
    return skyview.SkyviewArchive(Transport.open(services, store))


def image(
    values: np.ndarray, *, ra: float = RA, dec: float = DEC, width: float = WIDTH, shift: float = 0.0
) -> bytes:
    """Return a FITS image as SkyView makes it, its centre displaced by some pixels."""
    size = values.shape[0]
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [ra, dec]
    wcs.wcs.crpix, wcs.wcs.cdelt = [(size + 1) / 2 + shift] * 2, [-width / size, width / size]
    stream = io.BytesIO()
    fits.PrimaryHDU(values.astype(">f4"), wcs.to_header()).writeto(stream)
    return stream.getvalue()


def parsed(content: bytes) -> bytes:
    return skyview.parse_image(content, ra=RA, dec=DEC, width=WIDTH, pixels=PIXELS)


STARS = np.random.default_rng(1).normal(100.0, 3.0, (PIXELS, PIXELS))


# --- names --------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_all_names_are_spelled_as_skyview_spells_them(real_data: Path):
    known = json.loads((real_data / "http/skyview/survey_dict.json").read_text())
    assert set(skyview.SURVEYS) <= {name for names in known.values() for name in names}


def test_the_profiles_know_the_surveys_and_their_bands():
    for survey in skyview.SURVEYS.values():
        profile = load_profile(survey.survey)
        assert profile.band(survey.name) in (survey.band, None)
        assert survey.wavelength == profile.bands[survey.band].wavelength > 100
    assert skyview.SURVEYS["WISE 3.4"].wavelength == pytest.approx(3368)


def test_the_default_of_a_field_has_no_unknown_survey():
    archive = skyview.SkyviewArchive(None)  # what it offers is said without asking anybody
    assert isinstance(archive, CutoutArchive)
    offers = archive.cutout_surveys(field())
    assert [offer.title for offer in offers] == list(SkyviewOptions().surveys)
    assert [offer.name for offer in offers][:3] == ["dss2_blue", "dss2_red", "dss2_ir"]
    assert len({offer.name for offer in offers}) == len(offers)


@pytest.mark.parametrize("name", ["SDSS DR12", "POSS2/UKSTU Red", "dss2 red", "2MASS J"])
def test_other_spellings_are_refused_before_anybody_is_asked(name: str):
    with pytest.raises(ValueError, match="is no survey of SkyView"):
        field(name)
    with pytest.raises(ConfigurationError):
        skyview.image_request(name, RA, DEC, width=WIDTH, pixels=PIXELS)


# --- requests -----------------------------------------------------------------------------------


def test_the_request_has_the_position_in_full():
    request = skyview.image_request("DSS2 Red", RA, DEC, width=WIDTH, pixels=PIXELS)
    sent = dict(request.query)
    assert request.path == "/current/cgi/runquery.pl"
    assert sent["Position"] == "210.80242917,54.34875000"
    assert (sent["Survey"], sent["Pixels"], sent["Size"]) == ("DSS2 Red", "120,120", "0.05000000,0.05000000")
    assert (sent["Return"], sent["Sampler"], sent["Scaling"]) == ("FITS", "Clip", "Linear")


@pytest.mark.real_data
def test_the_form_has_our_keywords(real_data: Path):
    """Each keyword of the request, but those of the batch interface, is a field of SkyView's form."""
    page = (real_data / "http/skyview/query_page.html").read_text().lower()
    query = skyview.image_request("DSS2 Red", RA, DEC, width=WIDTH, pixels=PIXELS).query
    lacking = [name for name, _ in query if not any(f"name={q}{name.lower()}{q}" in page for q in "'\"")]
    assert lacking == ["Return"]
    assert ">j2000<" in page
    assert "value='tan'" in page
    assert "value='clip'" in page


# --- answers ------------------------------------------------------------------------------------


def test_an_image_as_asked_comes_through_unchanged():
    content = image(STARS)
    assert parsed(content) == content


@pytest.mark.parametrize("value", [0.0, np.nan, 6500.0])
def test_a_blank_answer_is_no_coverage(value: float):
    with pytest.raises(NoCoverageError):
        parsed(image(np.full((PIXELS, PIXELS), value)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (image(STARS, shift=2.0), "2.8 pixels beside"),
        (image(STARS, dec=DEC + 1.79 / 3600), "pixels beside"),
        (image(STARS, ra=RA + 180.0), "beside"),
        (image(STARS, width=2 * WIDTH), "times as wide"),
        (image(STARS[:60, :60]), "60 x 60 pixels"),
        (image(STARS)[:30000], "FITS"),
        (b"", "empty"),
        (b"<html><body>SkyView is down for maintenance</body></html>", "down for maintenance"),
    ],
)
def test_what_was_not_asked_for_is_refused(content: bytes, reason: str):
    with pytest.raises(BadAnswerError, match=reason):
        parsed(content)


@pytest.mark.real_data
def test_the_link_of_a_recorded_page(real_data: Path):
    content = (real_data / "http/skyview/results.html").read_bytes()
    assert skyview.parse_link(content) == "/tempspace/fits/skv6724208473423_1.fits"


@pytest.mark.real_data
def test_a_form_links_to_no_image(real_data: Path):
    with pytest.raises(BadAnswerError, match="SkyView"):
        skyview.parse_link((real_data / "http/skyview/query_page.html").read_bytes())


@pytest.mark.real_data
def test_links_agree_with_astroquery(real_data: Path):
    from types import SimpleNamespace

    from astroquery.skyview import SkyViewClass

    content = (real_data / "http/skyview/results.html").read_bytes()
    page = SimpleNamespace(content=content, url="https://skyview.gsfc.nasa.gov/current/cgi/runquery.pl")
    theirs = SkyViewClass()._parse_response(page)
    assert urlsplit(theirs[0]).path == skyview.parse_link(content)


@pytest.mark.real_data
def test_real_images_are_judged_by_their_pixels(real_data: Path):
    """WISE and GALEX about SN 2010H: not centred as these tests ask, but not blank either."""
    for name in ("2MASS_J", "WISE_W1", "GALEX_NUV"):
        path = real_data / "surveys/blast_2010H" / f"{name}.fits"
        header = fits.getheader(path)
        size = header["NAXIS1"]
        wcs = WCS(header)
        ra, dec = (float(v) for v in wcs.wcs_pix2world((size - 1) / 2, (size - 1) / 2, 0))
        width = size * float(np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix))))
        content = path.read_bytes()
        assert skyview.parse_image(content, ra=ra, dec=dec, width=width, pixels=size) == content
        with pytest.raises(BadAnswerError, match="beside"):
            skyview.parse_image(content, ra=ra, dec=dec + 0.01, width=width, pixels=size)


# --- over loopback ------------------------------------------------------------------------------


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(handlers()) as server:
        yield server
        assert server.errors == []


@pytest.mark.service
def test_every_survey_in_one_request_each(standin: StandIn, tmp_path: Path):
    archive, sky_field = opened(standin, tmp_path), field()
    offers = archive.cutout_surveys(sky_field)
    for offer in offers:
        content = archive.cutout(offer, sky_field, width=WIDTH, pixels=60)
        assert fits.getheader(io.BytesIO(content))["SURVEY"] == offer.title
    assert standin.count("skyview") == len(offers)
    again = archive.cutout(offers[0], sky_field, width=WIDTH, pixels=60)
    assert fits.getheader(io.BytesIO(again))["SURVEY"] == "DSS2 Blue"
    assert standin.count("skyview") == len(offers)  # kept


@pytest.mark.service
def test_outside_a_survey_there_is_nothing(standin: StandIn, tmp_path: Path):
    archive, south = opened(standin, tmp_path), field("SDSSg", ra=80.0, dec=-69.0)
    with pytest.raises(NoCoverageError):
        archive.cutout(archive.cutout_surveys(south)[0], south, width=WIDTH, pixels=60)


@pytest.mark.service
def test_a_clipped_image_is_refused(tmp_path: Path):
    with StandIn(handlers(), [Fault("clipped")]) as server:
        archive, sky_field = opened(server, tmp_path), field("DSS2 Red")
        with pytest.raises(BadAnswerError, match="36 x 60 pixels"):
            archive.cutout(archive.cutout_surveys(sky_field)[0], sky_field, width=WIDTH, pixels=60)


class _WithoutReturn(SkyviewService):
    """A SkyView that does not know the keyword Return."""

    def answer(self, asked: Asked) -> Reply:
        query = [(name, value) for name, value in asked.query if name != "Return"]
        return super().answer(Asked(asked.method, asked.path, query, asked.headers))


@pytest.mark.service
def test_a_page_of_results_leads_to_the_same_image(standin: StandIn, tmp_path: Path):
    sky_field = field("2MASS-J")
    archive = opened(standin, tmp_path / "a")
    offer = archive.cutout_surveys(sky_field)[0]
    direct = archive.cutout(offer, sky_field, width=WIDTH, pixels=60)
    with StandIn({"skyview": _WithoutReturn(b"")}) as server:
        archive = opened(server, tmp_path / "b")
        assert archive.cutout(offer, sky_field, width=WIDTH, pixels=60) == direct
        assert server.count("skyview") == 2
    # the page was kept, and its link has expired with that server: a fresh page is asked for
    with StandIn({"skyview": _WithoutReturn(b"")}) as server:
        archive = opened(server, tmp_path / "b")
        assert archive.cutout(offer, sky_field, width=WIDTH, pixels=60) == direct
        assert server.count("skyview") == 2


@pytest.mark.service
@pytest.mark.parametrize("mode", ["html", "half", "gzip", "error_status"])
def test_a_fault_is_told_and_not_kept(mode: str, tmp_path: Path):
    sky_field = field("WISE 3.4")
    with StandIn(handlers(), [Fault(mode, first_n=1)]) as server:
        archive = opened(server, tmp_path)
        offer = archive.cutout_surveys(sky_field)[0]
        try:
            first = archive.cutout(offer, sky_field, width=WIDTH, pixels=60)
        except BadAnswerError:
            first = None
        second = archive.cutout(offer, sky_field, width=WIDTH, pixels=60)
        assert first in (None, second)
        assert fits.getdata(io.BytesIO(second)).shape == (60, 60)


@pytest.mark.service
def test_a_picture_by_hips2fits_says_that_it_is_one(standin: StandIn, tmp_path: Path):
    archive, sky_field = opened(standin, tmp_path), field("DSS2 Red")
    offer = archive.cutout_surveys(sky_field)[0]
    header = fits.getheader(io.BytesIO(archive.display(offer, sky_field, width=WIDTH, pixels=60)))
    assert header["DISPONLY"] is True
    science = archive.cutout(offer, sky_field, width=WIDTH, pixels=60)
    assert "DISPONLY" not in fits.getheader(io.BytesIO(science))
    sent = parse_qs(urlsplit(next(a.target for a in standin.arrivals if a.service == "hips2fits")).query)
    assert (sent["hips"], sent["fov"]) == (["CDS/P/DSS2/red"], ["0.05000000"])


@pytest.mark.service
@pytest.mark.real_data
def test_astroquery_at_the_stand_in(real_data: Path, tmp_path: Path):
    """The same image by astroquery, through form and page, but beside: it rounds to six digits."""
    from astropy import units as u
    from astropy.coordinates import SkyCoord
    from astroquery import cache_conf
    from astroquery.skyview import SkyViewClass

    with StandIn(handlers(real_data / "http")) as server, cache_conf.set_temp("cache_active", False):
        ours = opened(server, tmp_path).cutout(
            skyview.SkyviewArchive(None).cutout_surveys(field("DSS2 Red"))[0], field(), width=0.05, pixels=60
        )
        requests = server.count("skyview")
        theirs = SkyViewClass()
        theirs.URL = f"{server.base_url('skyview')}/current/cgi/basicform.pl"
        position = SkyCoord(RA, DEC, unit="deg")
        size = {"width": 0.05 * u.deg, "height": 0.05 * u.deg, "pixels": "60"}
        links = theirs.get_image_list(position, "DSS2 Red", **size)
        page = server.arrivals[-1].target
        images = theirs.get_images(position, "DSS2 Red", show_progress=False, **size)
        assert server.errors == []
    assert requests == 1
    assert len(links) == 1
    assert parse_qs(urlsplit(page).query)["Position"] == ["210.802 54.3488"]
    header, mine = images[0][0].header, fits.getheader(io.BytesIO(ours))
    found = SkyCoord(header["CRVAL1"], header["CRVAL2"], unit="deg")
    assert found.separation(position).arcsec == pytest.approx(0.92, abs=0.05)
    assert SkyCoord(mine["CRVAL1"], mine["CRVAL2"], unit="deg").separation(position).arcsec < 1e-3
    same = ("NAXIS1", "NAXIS2", "CDELT1", "CDELT2", "CTYPE1", "CTYPE2", "SURVEY")
    assert [header[key] for key in same] == [mine[key] for key in same]
    for opened_image in images:
        opened_image.close()
