"""Archive ``skyview``: the field as other surveys saw it, by NASA's SkyView.

One request brings one FITS image. `astroquery.skyview` is not used: it rounds positions to six significant
digits (up to 1.8 arcsec), takes two to four requests by way of web pages whose links expire, keeps those
pages for a week, and has no time-out.

``Return=FITS`` is a keyword of SkyView's batch interface. Should the service answer with its page of results
all the same, the FITS file that the page links to is fetched instead.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from astrid_assets.archives.protocol import Offer
from astrid_assets.archives.transport.request import Request
from astrid_assets.errors import BadAnswerError, ConfigurationError, NoCoverageError

if TYPE_CHECKING:
    from astrid_assets.archives.transport import Transport
    from astrid_assets.fields import Field

__all__ = [
    "SURVEYS",
    "SkyviewArchive",
    "SkyviewSurvey",
    "display_request",
    "file_request",
    "image_request",
    "mark_display_only",
    "parse_image",
    "parse_link",
]

_CENTRE_TOLERANCE = 1.0  # pixels of the image between its middle and the asked centre
_WIDTH_TOLERANCE = 0.01  # share by which the side of the image may differ
_RUN = "/current/cgi/runquery.pl"


# --- surveys ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SkyviewSurvey:
    """A survey that SkyView draws."""

    name: str
    """Name exactly as SkyView spells it; anything else is an error there."""

    survey: str
    """Survey profile."""

    band: str
    """Canonical filter name in the profile."""

    hips: str
    """The same survey at CDS (HiPS), to look at."""

    @property
    def offer(self) -> str:
        """Name for files."""
        return re.sub(r"[ .-]", "_", self.name.lower())

    @property
    def wavelength(self) -> float | None:
        """Effective wavelength, nm, from the profile."""
        from astrid_assets.surveys import load_profile

        return load_profile(self.survey).bands[self.band].wavelength


SURVEYS: Mapping[str, SkyviewSurvey] = {
    survey.name: survey
    for survey in (
        SkyviewSurvey("DSS2 Blue", "dss2", "blue", "CDS/P/DSS2/blue"),
        SkyviewSurvey("DSS2 Red", "dss2", "red", "CDS/P/DSS2/red"),
        SkyviewSurvey("DSS2 IR", "dss2", "infrared", "CDS/P/DSS2/NIR"),
        SkyviewSurvey("SDSSu", "sdss", "u", "CDS/P/SDSS9/u"),
        SkyviewSurvey("SDSSg", "sdss", "g", "CDS/P/SDSS9/g"),
        SkyviewSurvey("SDSSr", "sdss", "r", "CDS/P/SDSS9/r"),
        SkyviewSurvey("SDSSi", "sdss", "i", "CDS/P/SDSS9/i"),
        SkyviewSurvey("SDSSz", "sdss", "z", "CDS/P/SDSS9/z"),
        SkyviewSurvey("GALEX Near UV", "galex", "NUV", "CDS/P/GALEXGR6_7/NUV"),
        SkyviewSurvey("GALEX Far UV", "galex", "FUV", "CDS/P/GALEXGR6_7/FUV"),
        SkyviewSurvey("2MASS-J", "2mass", "J", "CDS/P/2MASS/J"),
        SkyviewSurvey("2MASS-H", "2mass", "H", "CDS/P/2MASS/H"),
        SkyviewSurvey("2MASS-K", "2mass", "Ks", "CDS/P/2MASS/K"),
        SkyviewSurvey("WISE 3.4", "wise", "W1", "CDS/P/allWISE/W1"),
        SkyviewSurvey("WISE 4.6", "wise", "W2", "CDS/P/allWISE/W2"),
        SkyviewSurvey("WISE 12", "wise", "W3", "CDS/P/allWISE/W3"),
        SkyviewSurvey("WISE 22", "wise", "W4", "CDS/P/allWISE/W4"),
    )
}
"""Surveys by the name of SkyView's form. Identifiers at CDS are those of its list of HiPS."""

_BY_OFFER = {survey.offer: survey for survey in SURVEYS.values()}


def _survey(name: str) -> SkyviewSurvey:
    if name not in SURVEYS:
        msg = f"{name!r} is no survey of archive skyview; there are {', '.join(SURVEYS)}"
        raise ConfigurationError(msg)
    return SURVEYS[name]


# --- requests and answers -----------------------------------------------------------------------


def image_request(survey: str, ra: float, dec: float, *, width: float, pixels: int) -> Request:
    """Return the request for a FITS image, north up, gnomonic projection.

    Flux is kept in resampling (``Clip``). The answer may be a page of results, see `parse_image`.

    Parameters
    ----------
    survey
        Name from `SURVEYS`.

    ra, dec
        Centre, ICRS degrees; sent as J2000 (FK5), which is the same within 0.03 arcsec.

    width
        Side of the image, degrees.

    pixels
        The same in pixels.

    Raises
    ------
    ConfigurationError
        SkyView has no such survey.
    """
    query = (
        ("Position", f"{ra:.8f},{dec:.8f}"),
        ("Survey", _survey(survey).name),
        ("Coordinates", "J2000"),
        ("Projection", "Tan"),
        ("Pixels", f"{pixels},{pixels}"),
        ("Size", f"{width:.8f},{width:.8f}"),
        ("Sampler", "Clip"),
        ("Scaling", "Linear"),
        ("Deedger", "_skip_"),
        ("Return", "FITS"),
    )
    return Request("skyview", _RUN, "cutout", "any", query=query)


def file_request(link: str) -> Request:
    """Return the request for a FITS file that a page of results links to; such files live for a day.

    Parameters
    ----------
    link
        Path at the service, from `parse_link`.
    """
    return Request("skyview", link, "status", "fits")


def display_request(survey: str, ra: float, dec: float, *, width: float, pixels: int) -> Request:
    """Return the request for a picture of a survey by CDS's hips2fits, as FITS, to look at only.

    HiPS are HEALPix maps: the image has been resampled twice and its flux is not kept.

    Parameters
    ----------
    survey, ra, dec, width, pixels
        As for `image_request`.
    """
    query = (
        ("hips", _survey(survey).hips),
        ("ra", f"{ra:.8f}"),
        ("dec", f"{dec:.8f}"),
        ("width", str(pixels)),
        ("height", str(pixels)),
        ("fov", f"{width:.8f}"),
        ("projection", "TAN"),
        ("format", "fits"),
    )
    return Request("hips2fits", "/hips-image-services/hips2fits", "cutout", "fits", query=query)


def parse_image(content: bytes, *, ra: float, dec: float, width: float, pixels: int) -> bytes:
    """Return a FITS answer if it is the image that was asked for.

    Parameters
    ----------
    content
        Body of the answer.

    ra, dec, width, pixels
        As asked for.

    Raises
    ------
    NoCoverageError
        All pixels are zero, NaN or of one value: the survey has not been there.

    BadAnswerError
        It is no FITS image, or shows another place or has another size.
    """
    from astrid_assets.archives.cutouts import describe_cutout

    found = describe_cutout(content, ra=ra, dec=dec, width=width)
    if (found["nx"], found["ny"]) != (pixels, pixels):
        msg = (
            f"skyview: {found['nx']} x {found['ny']} pixels, not the {pixels} x {pixels} that were asked for"
        )
        raise BadAnswerError(msg)
    if abs(found["width_ratio"] - 1) > _WIDTH_TOLERANCE:
        msg = f"skyview: the image is {found['width_ratio']:.4g} times as wide as was asked for"
        raise BadAnswerError(msg)
    if not found["centre_offset"] <= _CENTRE_TOLERANCE:
        msg = f"skyview: the image is centred {found['centre_offset']:.1f} pixels beside ra {ra} dec {dec}"
        raise BadAnswerError(msg)
    if found["coverage"] == 0.0 or _is_constant(content):
        msg = f"skyview: nothing but one value about ra {ra} dec {dec}"
        raise NoCoverageError(msg)
    return content


def _is_constant(content: bytes) -> bool:
    import numpy as np
    from astropy.io import fits

    values = fits.getdata(io.BytesIO(content))
    return bool(np.nanmin(values) == np.nanmax(values))


def _is_whole_fits(content: bytes) -> bool:
    from astrid_assets.archives.transport.formats import check_content

    try:
        check_content(content, "fits", "skyview")
    except BadAnswerError:
        return False
    return content.startswith(b"SIMPLE")


def parse_link(content: bytes) -> str:
    """Return the path of the FITS file that a page of results links to.

    Parameters
    ----------
    content
        The page.

    Raises
    ------
    BadAnswerError
        It links to none, as pages that report an error do.
    """
    page = content.decode("utf-8", "replace")
    match = re.search(r"<a\s+href=[\"']?([^\"'\s>]+\.fits)[\"']?\s*>\s*FITS\s*</a>", page, re.IGNORECASE)
    if match is None:
        words = re.sub(r"(?is)<(script|style).*?</\1>|<[^>]*>", " ", page)
        text = " ".join(words.split())
        raise BadAnswerError(f"skyview: neither a FITS file nor a link to one: {text[:200] or '(empty)'}")
    return urlsplit(urljoin(_RUN, match[1])).path


def mark_display_only(content: bytes) -> bytes:
    """Return a FITS image whose header says that it is not to be measured (``DISPONLY``).

    Parameters
    ----------
    content
        Image from `display_request`.

    Raises
    ------
    BadAnswerError
        It is no FITS file.
    """
    from astropy.io import fits

    if content[:6] != b"SIMPLE":
        raise BadAnswerError(f"hips2fits: not a FITS file: {content[:200].decode('utf-8', 'replace')}")
    stream = io.BytesIO()
    with fits.open(io.BytesIO(content)) as hdus:
        hdus[0].header["DISPONLY"] = (True, "resampled HiPS: to look at, not to measure")
        hdus.writeto(stream)
    return stream.getvalue()


# --- the archive --------------------------------------------------------------------------------


class SkyviewArchive:
    """Images of other surveys, drawn on the grid that one asks for. It has no exposures.

    Parameters
    ----------
    transport
        The door to the network.
    """

    name = "skyview"

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def cutout_surveys(self, sky_field: Field) -> list[Offer]:
        """Return the surveys that the field names, in its order.

        Parameters
        ----------
        sky_field
            Field with options `astrid_assets.fields.SkyviewOptions`.

        Raises
        ------
        ConfigurationError
            SkyView has no such survey.
        """
        from astrid_assets.fields import SkyviewOptions

        options = sky_field.skyview or SkyviewOptions()
        surveys = [_survey(name) for name in options.surveys]
        return [Offer(survey.offer, survey.name, "fits", "1") for survey in surveys]

    def cutout(self, offer: Offer, sky_field: Field, *, width: float, pixels: int) -> bytes:
        """Return the image of a survey about the centre of a field (`astrid_assets.archives.protocol`).

        Raises
        ------
        ArchiveUnavailableError, NoCoverageError, BadAnswerError
            As `parse_image` and the transport have it.
        """
        ra, dec = sky_field.ra, sky_field.dec
        request = image_request(_BY_OFFER[offer.name].name, ra, dec, width=width, pixels=pixels)
        answer = self._transport.ask(request)
        content = answer.content
        if answer.from_store and not _is_whole_fits(content):  # links expire, and so do faults
            content = self._transport.ask(replace(request, kind="status")).content
        if not content.startswith(b"SIMPLE"):
            content = self._transport.ask(file_request(parse_link(content))).content
        return parse_image(content, ra=ra, dec=dec, width=width, pixels=pixels)

    def display(self, offer: Offer, sky_field: Field, *, width: float, pixels: int) -> bytes:
        """Return a picture of a survey by CDS's hips2fits, for when SkyView is down; marked as display only.

        Nothing takes this way by itself: a caller that wants a picture at any price asks for it.

        Raises
        ------
        ArchiveUnavailableError, BadAnswerError
            As for the transport.
        """
        survey = _BY_OFFER[offer.name].name
        request = display_request(survey, sky_field.ra, sky_field.dec, width=width, pixels=pixels)
        return mark_display_only(self._transport.ask(request).content)
