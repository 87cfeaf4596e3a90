"""Stand-in for SkyView and for CDS's hips2fits: images of other surveys over the simulated sky.

With ``Return=FITS`` SkyView's ``runquery.pl`` answers with the image, otherwise with a page of results that
links to files in ``tempspace``, as the real one does for its form.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from astrid_assets.archives.skyview import SURVEYS, SkyviewSurvey
from astrid_assets.archives.standin.messages import Asked, Reply
from astrid_assets.errors import NoCoverageError

if TYPE_CHECKING:
    from astrid_assets.archives.standin.server import Handler

__all__ = ["Hips2FitsService", "SkyviewService", "handlers"]

_LOOKS: Mapping[str, str] = {
    "DSS2 IR": "DSS2 Red",
    "SDSSu": "SDSSr",
    "SDSSg": "SDSSr",
    "SDSSi": "SDSSr",
    "SDSSz": "SDSSr",
    "GALEX Far UV": "GALEX Near UV",
    "2MASS-H": "2MASS-J",
    "2MASS-K": "2MASS-J",
    "WISE 4.6": "WISE 3.4",
    "WISE 12": "WISE 3.4",
    "WISE 22": "WISE 3.4",
}
"""Survey of the simulated sky whose images stand for a survey that the simulation does not draw."""

_DEFAULT_PIXELS, _DEFAULT_SCALE = 300, 1 / 3600.0  # pixels of SkyView's form; degrees where no size is given
_PIXELS_MAX = 4000


def handlers(recorded: Path | None = None) -> dict[str, Handler]:
    """Return the handlers of services ``skyview`` and ``hips2fits``.

    Parameters
    ----------
    recorded
        Folder of recorded answers; ``skyview/query_page.html`` in it is served as the form.
    """
    page = None if recorded is None else recorded / "skyview" / "query_page.html"
    form = page.read_bytes() if page is not None and page.is_file() else _form()
    return {"skyview": SkyviewService(form), "hips2fits": Hips2FitsService()}


class SkyviewService:
    """Answers ``basicform.pl``, ``runquery.pl`` and the files in ``tempspace``.

    Parameters
    ----------
    form
        Page with the form.
    """

    def __init__(self, form: bytes) -> None:
        self._form = form
        self._files: dict[str, bytes] = {}

    def answer(self, asked: Asked) -> Reply:
        """Return the reply to a request."""
        script = asked.path.rsplit("/", 1)[-1]
        if script == "basicform.pl":
            return Reply(self._form, "text/html")
        if script == "runquery.pl":
            return self._run(asked)
        if asked.path in self._files:
            return Reply(self._files[asked.path], "image/fits")
        return Reply(b"<html><body>Not Found</body></html>", "text/html", 404)

    def _run(self, asked: Asked) -> Reply:
        names = [v for k, v in asked.query if k.lower() == "survey" for v in v.split(",") if v != "_skip_"]
        place = _place(asked)
        if place is None or not names or any(name not in SURVEYS for name in names):
            return Reply(_page("<h2>Error</h2> Unable to process this request"), "text/html")
        if asked.fault == "error_status":
            return Reply(_page("<h2>Error</h2> The server is too busy"), "text/html")
        images = [_image(SURVEYS[name], *place, clipped=asked.fault == "clipped") for name in names]
        if asked.value("Return").upper() == "FITS":
            return Reply(images[0], "image/fits")
        return Reply(self._results(names, images), "text/html")

    def _results(self, names: list[str], images: list[bytes]) -> bytes:
        """Keep images for their links, and return the page with these."""
        parts = []
        number = int(hashlib.sha256(b"".join(images)).hexdigest()[:11], 16)
        for i, (name, image) in enumerate(zip(names, images, strict=True), 1):
            path = f"tempspace/fits/skv{number}_{i}"
            self._files[f"/{path}.fits"] = image
            links = (
                f"<a href=../../{path}.fits>FITS</a> or <a href=../../{path}.jpg>quick look jpeg </a> image."
            )
            parts.append(f"<h2 id=survey{i}>{html.escape(name)}</h2>\n<span>Download {links}</span>")
        return _page("\n".join(parts))


class Hips2FitsService:
    """Answers ``hips2fits`` with images of the same sky."""

    def answer(self, asked: Asked) -> Reply:
        """Return the reply to a request."""
        survey = next((s for s in SURVEYS.values() if s.hips == asked.value("hips")), None)
        if survey is None:
            return Reply(b'{"title": "Bad Request", "description": "unknown HiPS"}', "application/json", 400)
        ra, dec, width = (float(asked.value(name)) for name in ("ra", "dec", "fov"))
        return Reply(_image(survey, ra, dec, width, int(asked.value("width"))), "image/fits")


def _place(asked: Asked) -> tuple[float, float, float, int] | None:
    """Return (ra, dec, width in degrees, pixels); None for what cannot be drawn. Images are square."""
    numbers = re.fullmatch(r"\s*([-+.\d]+)[\s,]+([-+.\d]+)\s*", asked.value("Position"))
    sizes = {float(v) for v in asked.value("Size").split(",") if v}
    pixels = {int(v) for v in asked.value("Pixels").split(",") if v} or {_DEFAULT_PIXELS}
    if numbers is None or len(sizes) > 1 or len(pixels) > 1 or max(pixels) > _PIXELS_MAX:
        return None
    n = pixels.pop()
    return float(numbers[1]), float(numbers[2]), sizes.pop() if sizes else n * _DEFAULT_SCALE, n


def _image(
    survey: SkyviewSurvey, ra: float, dec: float, width: float, pixels: int, *, clipped: bool = False
) -> bytes:
    """Return a FITS image of a survey; all zero where it has not been, as SkyView draws it."""
    from astropy.io import fits

    from astrid_assets.archives.simulated.cutouts import cutout, offers
    from astrid_assets.archives.simulated.survey import PIXEL_SCALE
    from astrid_assets.archives.simulated.tile import Tile
    from astrid_assets.archives.standin.faults import clip

    side = int(width * 3600.0 / PIXEL_SCALE) + 1
    tile = Tile(1, ra % 360.0, dec, side, side, False, 0.0, 0.0)
    looks = {offer.title: offer for offer in offers()}
    try:
        content = cutout(looks[_LOOKS.get(survey.name, survey.name)], tile, width=width, pixels=pixels)
        seen = 1.0
    except NoCoverageError:
        content = cutout(looks["DSS2 Red"], tile, width=width, pixels=pixels)
        seen = 0.0
    stream = io.BytesIO()
    with fits.open(io.BytesIO(content)) as hdus:
        hdus[0].header["SURVEY"] = survey.name
        hdus[0].data *= seen
        hdus.writeto(stream)
    return clip(stream.getvalue()) if clipped else stream.getvalue()


# --- pages --------------------------------------------------------------------------------------


def _page(body: str) -> bytes:
    return f"<html>\n<head><title>SkyView images</title></head>\n<body>\n{body}\n</body>\n</html>\n".encode()


def _form() -> bytes:
    """Return a form with the fields of SkyView's own, and the surveys that are served."""
    options = "".join(f"<option>{html.escape(name)}</option>" for name in SURVEYS)
    fields = (
        "<input name='Position' size=30 id='object'>",
        f"<select multiple name='survey' id='Surveys'>{options}</select>",
        "<select name='coordinates'><option selected>J2000</option><option>ICRS</option></select>",
        "<select name='projection'><option selected value='Tan'>Gnomonic (Tan)</option></select>",
        f"<input type='text' name='pixels' value='{_DEFAULT_PIXELS}'>",
        "<input type='text' name='size'>",
        "<select name='scaling'><option selected>Log</option><option>Linear</option></select>",
        "<select name='Sampler'><option value='_skip_' selected>Default</option></select>",
        "<select name='Deedger'><option value='_skip_' selected>Survey default</option></select>",
    )
    inside = "\n".join(fields)
    return _page(f"<form name='query' action='runquery.pl' method='GET'>\n{inside}\n</form>")
