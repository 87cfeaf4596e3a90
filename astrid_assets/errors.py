"""The errors that users of the platform meet, one class for each thing they can do about it.

Every message is one line: what went wrong, where, and what to do.
"""

from __future__ import annotations

__all__ = [
    "ArchiveUnavailableError",
    "AstridError",
    "AuthenticationNeededError",
    "BadAnswerError",
    "BenchmarkError",
    "ConfigurationError",
    "FieldBusyError",
    "ImageError",
    "NoCoverageError",
    "NoOverlapError",
    "NoReferenceError",
    "PhotometryError",
    "PsfError",
    "RegistrationError",
    "ReleaseRefusedError",
    "ScienceError",
]


class AstridError(Exception):
    """Base of all errors of the platform that a user can act on."""


class ConfigurationError(AstridError):
    """A field, a profile or an option is wrong; the message names the file and the line."""


class FieldBusyError(AstridError):
    """Another run holds the lock of the field, or of the release."""


class ImageError(AstridError):
    """A FITS file cannot be used as an image; the message says why."""


class ArchiveUnavailableError(AstridError):
    """An archive did not answer: an outage, to be tried again; never "nothing found"."""

    retry_after: float | None = None
    """Seconds after which the archive asked to be tried again."""


class AuthenticationNeededError(AstridError):
    """An archive wants a token or an account for this; the message names the variable that is to hold it."""


class NoCoverageError(AstridError):
    """An archive answered that it has nothing at this position: final."""


class BadAnswerError(AstridError):
    """An archive sent something that is not what was asked for (truncated, not FITS, wrong length)."""


class ScienceError(AstridError):
    """A computation cannot be done with the given images; ``reason`` is a short key for the ledger."""

    reason = "science"


class NoOverlapError(ScienceError):
    """Science and reference do not show the same sky."""

    reason = "no_overlap"


class NoReferenceError(ScienceError):
    """The reference of the exposure could not be made."""

    reason = "no_reference"


class RegistrationError(ScienceError):
    """Too few matched stars, or an implausible solution."""

    reason = "registration"


class PsfError(ScienceError):
    """Too few usable stars for a point-spread function."""

    reason = "psf"


class PhotometryError(ScienceError):
    """Too few matched stars for a flux ratio, or an implausible ratio."""

    reason = "photometry"


class BenchmarkError(AstridError):
    """A benchmark cannot be run on the given data; the message says what they lack."""


class ReleaseRefusedError(AstridError):
    """A training release cannot be made of the samples there are; the message says what would help."""
