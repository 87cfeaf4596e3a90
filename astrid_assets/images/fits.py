"""Images, pairs and differences from and to FITS.

What the platform writes itself (`astrid_assets.images.layout`) comes back exactly; every other
file goes through `astrid_assets.images.foreign`.
"""

from __future__ import annotations

import gzip
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import IO, Any

from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning
from astropy.utils.exceptions import AstropyUserWarning

from astrid_assets.errors import ImageError
from astrid_assets.images import layout
from astrid_assets.images.foreign import read_foreign
from astrid_assets.images.image import MaskedImage
from astrid_assets.images.pairs import (
    AlignedPair,
    Difference,
    Normalization,
    PairGeometry,
    Registration,
    difference_parameters,
)

__all__ = [
    "FitsSource",
    "open_fits",
    "read_difference",
    "read_geometry",
    "read_image",
    "read_pair",
    "verify_fits",
    "write_difference",
    "write_image",
    "write_pair",
]

FitsSource = str | PathLike | IO[bytes]
"""A path (also of a `upath.UPath`) or an open binary file."""

_CUT_OFF = "File may have been truncated"  # what astropy warns of a file shorter than its headers say
_DIFFERENCE_PLANES = {
    "score": "SCORE",
    "score_corrected": "SCORR",
    "flux": "FLUX",
    "flux_error": "FLUXERR",
}
_FLUX_PLANES = ("flux", "flux_error")
_DIFFERENCE_SCALARS = ("method", "metrics", "mjd_mid", "band", "survey", "origin", "parameters")


def _label(source: FitsSource) -> str:
    """Return the file name for messages."""
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else str(source) if isinstance(source, str) else "<file>"


def _is_local(source: FitsSource) -> bool:
    return isinstance(source, str | Path) and "://" not in str(source) and not _is_remote(source)


def _is_remote(source: FitsSource) -> bool:
    return getattr(source, "protocol", "") not in ("", "file", "local")


@contextmanager
def open_fits(source: FitsSource) -> Iterator[fits.HDUList]:
    """Open a file for reading; any failure, also of the caller's block, becomes one line of `ImageError`.

    Parameters
    ----------
    source
        Local or remote path, or an open binary file.
    """
    try:
        with warnings.catch_warnings():
            # a header that is odd but readable is no news to the user
            warnings.simplefilter("ignore", VerifyWarning)
            warnings.filterwarnings("error", _CUT_OFF, AstropyUserWarning)
            if hasattr(source, "read"):
                with fits.open(source, memmap=False) as hdus:
                    yield hdus
            else:
                # astropy leaves a file open that it cannot read, so it is opened here
                with _path_of(source).open("rb") as handle:
                    mapped = _is_local(source) and _is_own(handle)
                    with fits.open(handle, memmap=mapped, lazy_load_hdus=True) as hdus:
                        yield hdus
    except (
        ImageError,
        OSError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        EOFError,
        ImportError,
        AstropyUserWarning,
        fits.VerifyError,
        zlib.error,
    ) as error:
        raise _image_error(source, error) from error


def _is_own(handle: IO[bytes]) -> bool:
    """Tell whether a file is of our own layout, which can be mapped into memory (no scaling)."""
    own = layout.LAYOUT.encode() in handle.read(2880)
    handle.seek(0)
    return own


def verify_fits(source: FitsSource) -> None:
    """Check that a FITS file is whole: every extension is there in full length.

    The checksums of our own files are checked too; those of others are not, since tools that cut
    or edit images leave old ones behind.

    Parameters
    ----------
    source
        Local or remote path, or an open binary file.

    Raises
    ------
    ImageError
        What is wrong, in one line with the file's name.
    """
    with open_fits(source) as hdus:
        _read_to_the_end(source)
        warnings.filterwarnings("error", "Error validating header", VerifyWarning)
        own = layout.LAYOUT in hdus[0].header
        for index, hdu in enumerate(hdus):
            if own and not _checksums_match(hdu):
                msg = f"the checksum of extension {index} does not match"
                raise ImageError(msg)
        if own and layout.META not in hdus:
            msg = f"is cut off: its table {layout.META} is missing"
            raise ImageError(msg)
        if len(hdus) == 1 and hdus[0].header.get("NAXIS", 0) == 0:
            raise ImageError("holds no extension and no pixels")


def _read_to_the_end(source: FitsSource) -> None:
    """Read a gzipped file through: astropy stops after the last header, which may lie before a cut."""
    path = _path_of(source)
    if path is None:
        return
    with path.open("rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
        handle.seek(0)
        if packed:
            with gzip.GzipFile(fileobj=handle) as unpacked:
                while unpacked.read(1024 * 1024):
                    pass


def _checksums_match(hdu: Any) -> bool:
    """Compare an extension with its CHECKSUM and DATASUM (1 matches, 2 is missing)."""
    hdu._checksum_valid = hdu._datasum_valid = None
    return hdu.verify_checksum() == 1 and hdu.verify_datasum() == 1


# how astropy says it, and what a user can make of it
_PLAIN_WORDS = (
    ("No SIMPLE card", "is not a FITS file"),
    ("Empty or corrupt", "is not a FITS file, or is empty"),
    ("Error validating header", "is cut off, or followed by bytes that are not FITS"),
    (_CUT_OFF, "is cut off: it is shorter than its headers say"),
    ("[Errno 2]", "does not exist"),
)


def _image_error(source: FitsSource, error: Exception) -> ImageError:
    """Return the error as one line that starts with the name of the file."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = next((plain for start, plain in _PLAIN_WORDS if text.startswith(start)), text)
    label = Path(_label(source)).name
    return ImageError(text if text.startswith(f"{label}:") else f"{label}: {text}")


def _write(
    target: FitsSource,
    kind: str,
    planes: list[Any],
    meta: Mapping[str, Any],
    header: Mapping[str, Any] | None,
    cards: Mapping[str, Any],
) -> None:
    """Write a file of our layout, with checksums, so that equal contents are equal bytes."""
    hdus = [layout.primary_hdu(kind, header, cards), *planes, layout.meta_hdu(meta)]
    for hdu in hdus:
        # the default remark is the time of writing
        hdu.add_checksum(when="of this extension")
    hdu_list = fits.HDUList(hdus)
    if hasattr(target, "write") or _is_local(target):
        hdu_list.writeto(target, overwrite=not hasattr(target, "write"))
        return
    from upath import UPath

    with UPath(target).open("wb") as handle:
        hdu_list.writeto(handle)


# --- images -------------------------------------------------------------------------------------


def read_image(
    path: FitsSource,
    *,
    survey: str | None = None,
    companions: bool = True,
    hdu: int | str | None = None,
    **assume: Any,
) -> MaskedImage:
    """Read an image with everything that its file and its companions tell.

    Parameters
    ----------
    path
        FITS file, plain or compressed (``.gz``, ``.fz``), or an open binary file.

    survey
        Name of the survey profile; guessed from header and file name if None.

    companions
        Whether to look beside the file for mask, weight, noise, PSF and coverage images, by the
        patterns of the profile.

    hdu
        Number or name of the extension with the image, if it is not the obvious one.

    **assume
        What the header lacks: ``gain``, ``band``, ``mjd``, ``zeropoint``, ``saturation``,
        ``exptime``, ``read_noise``. A value that the header has is kept, and differing from it
        is noted in ``origin["warnings"]``.

    Raises
    ------
    ImageError
        The file cannot be used as an image; one line that names the file and says why.
    """
    with open_fits(path) as hdus:
        if layout.LAYOUT in hdus[0].header:
            return layout.decode_image(hdus, layout.read_meta(hdus, "image")["image"])
        name = Path(_label(path)).name
        return read_foreign(
            hdus,
            _path_of(path),
            filename=name,
            survey=survey,
            companions=companions,
            hdu=hdu,
            assume=assume,
        )


def _path_of(source: FitsSource) -> Path | None:
    """Return the path of a file, local or remote; None for a stream."""
    if hasattr(source, "read"):
        return None
    if isinstance(source, Path) or hasattr(source, "open"):
        return source
    from upath import UPath

    return UPath(source) if "://" in str(source) else Path(source)


def write_image(path: FitsSource, image: MaskedImage, *, header: Mapping[str, Any] | None = None) -> None:
    """Write an image so that every attribute comes back.

    Parameters
    ----------
    path
        Path or open binary file to write to; an existing path is replaced.

    image
        Image to write.

    header
        More keywords for the primary header (provenance).
    """
    planes, meta = layout.encode_image(image)
    _write(path, "image", planes, {"image": meta}, header, _origin_cards(image.origin))


def _origin_cards(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance of an image as keywords, plain values only."""
    plain = {k: v for k, v in origin.items() if isinstance(v, str | int | float)}
    return {f"ORIGIN {key}": value for key, value in plain.items()}


# --- pairs --------------------------------------------------------------------------------------


def write_pair(
    path: FitsSource,
    pair: AlignedPair,
    *,
    header: Mapping[str, Any] | None = None,
    with_science: bool = True,
) -> None:
    """Write an aligned pair.

    Parameters
    ----------
    path
        Path or open binary file to write to; an existing path is replaced.

    pair
        Pair to write.

    header
        More keywords for the primary header (provenance).

    with_science
        Whether the science image goes into the file too; without it, `read_pair` needs it.
    """
    reference, reference_meta = layout.encode_image(pair.reference, prefix="REF")
    meta = {"reference": reference_meta, "overlap": pair.overlap, "registration": asdict(pair.registration)}
    meta["normalization"] = None if pair.normalization is None else asdict(pair.normalization)
    planes = list(reference)
    if with_science:
        science, meta["science"] = layout.encode_image(pair.science)
        planes = [*science, *planes]
    _write(path, "pair", planes, meta, header, layout.parameter_cards(difference_parameters(pair)))


def read_pair(path: FitsSource, *, science: MaskedImage | None = None) -> AlignedPair:
    """Read an aligned pair.

    Parameters
    ----------
    path
        File that `write_pair` wrote.

    science
        The science image, for a file that was written without it.
    """
    with open_fits(path) as hdus:
        meta = layout.read_meta(hdus, "pair")
        if "science" in meta:
            science = layout.decode_image(hdus, meta["science"])
        if science is None:
            raise ImageError("holds no science image, and none was given")
        reference = layout.decode_image(hdus, meta["reference"], prefix="REF")
    if science.shape != reference.shape:
        msg = f"{_label(path)}: the science image has shape {science.shape}, the reference {reference.shape}"
        raise ImageError(msg)
    registration, normalization = _pair_parameters(meta)
    return AlignedPair(
        science=science,
        reference=reference,
        registration=registration,
        overlap=meta["overlap"],
        normalization=normalization,
    )


def read_geometry(path: FitsSource) -> PairGeometry:
    """Read where the pixels of a pair lie, and none of them.

    Parameters
    ----------
    path
        File that `write_pair` wrote with the science image.
    """
    with open_fits(path) as hdus:
        meta = layout.read_meta(hdus, "pair")
        if "science" not in meta:
            raise ImageError("holds no science image")
        header, science = hdus["SCI"].header, meta["science"]
        registration, normalization = _pair_parameters(meta)
        return PairGeometry(
            shape=(header["NAXIS2"], header["NAXIS1"]),
            wcs=layout.decode_wcs(hdus, "SCI") if science["has_wcs"] else None,
            psf=layout.decode_psf(hdus, "PSF", science["psf"]),
            registration=registration,
            normalization=normalization,
        )


def _pair_parameters(meta: Mapping[str, Any]) -> tuple[Registration, Normalization | None]:
    """Return registration and normalization of a file."""
    ratio = meta["normalization"]
    return (
        Registration(**_tuples(meta["registration"])),
        None if ratio is None else Normalization(**_tuples(ratio)),
    )


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the lists of JSON back into the tuples that were written."""
    return {key: _as_tuple(value) for key, value in values.items()}


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(v) for v in value) if isinstance(value, list) else value


# --- differences --------------------------------------------------------------------------------


def write_difference(
    path: FitsSource, difference: Difference, *, header: Mapping[str, Any] | None = None
) -> None:
    """Write a difference image with all its planes.

    Parameters
    ----------
    path
        Path or open binary file to write to; an existing path is replaced.

    difference
        Difference to write.

    header
        More keywords for the primary header (ids, parameters, provenance).
    """
    own = {
        "FILTER": (difference.band, "canonical filter name"),
        "SURVEY": (difference.survey, "survey profile"),
        "TIMESYS": ("UTC", "time scale"),
        "MJD-AVG": (difference.mjd_mid, "[d] middle of the science exposure"),
        **layout.zeropoint_cards(difference.zeropoint),
    }
    own |= layout.date_cards(own)
    unit, (wcs_cards, _) = layout.unit_cards(difference), layout.wcs_hdus(difference.wcs, "SCI")
    planes, meta = layout.encode_planes(difference, {**unit, **own})
    for key, name in _DIFFERENCE_PLANES.items():
        cards = {**(unit if key in _FLUX_PLANES else {}), **wcs_cards}
        planes.append(layout.plane_hdu(name, getattr(difference, key), cards))
    meta |= {key: getattr(difference, key) for key in _DIFFERENCE_SCALARS}
    _write(path, "difference", planes, meta, header, {**own, **_difference_cards(difference)})


def _difference_cards(difference: Difference) -> dict[str, Any]:
    """Return method, parameters, metrics and provenance as keywords."""
    parameters = layout.parameter_cards(difference.parameters)
    return {
        "METHOD": (difference.method, "of the subtraction"),
        **{key: card for key, card in parameters.items() if card[0] is not None},
        "DIFFWHM": (difference.psf.fwhm, "[pix] difference PSF FWHM"),
        **{f"METRIC {name}": value for name, value in difference.metrics.items()},
        **_origin_cards(difference.origin),
    }


def read_difference(path: FitsSource) -> Difference:
    """Read a difference image that `write_difference` wrote."""
    with open_fits(path) as hdus:
        meta = layout.read_meta(hdus, "difference")
        return Difference(
            **layout.decode_planes(hdus, meta),
            **{key: layout.read_plane(hdus, name) for key, name in _DIFFERENCE_PLANES.items()},
            # files of earlier versions have no parameters
            **{key: meta[key] for key in _DIFFERENCE_SCALARS if key in meta},
        )
