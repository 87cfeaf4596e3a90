"""Options of the assets: every number that a user may want to change, with its unit and why.

The same options can be given for one field alone, under ``processing`` in ``fields.yaml``; what a
run is launched with comes first, then the field, then the defaults here.
"""

from __future__ import annotations

from typing import Any

import dagster as dg
import pydantic

from astrid_assets.errors import ConfigurationError
from astrid_assets.fields import Field
from astrid_assets.storage.layout import ASSETS

__all__ = [
    "CONFIGS",
    "MATCH_OPTIONS",
    "AlignConfig",
    "CandidatesConfig",
    "CutoutsConfig",
    "DifferencesConfig",
    "ExplorationNotebookConfig",
    "FieldReportConfig",
    "ImagesConfig",
    "InjectionsConfig",
    "KnownObjectsConfig",
    "LightCurvesConfig",
    "MatchConfig",
    "NormalizeConfig",
    "ObservationsConfig",
    "ReferencesConfig",
    "SurveyCutoutsConfig",
    "TrainingReleaseConfig",
    "TrainingSetConfig",
    "ZtfAlertsConfig",
    "check_processing",
    "effective_options",
]


class ObservationsConfig(dg.Config):
    """Options of the search; limits and windows are those of the field."""


class ImagesConfig(dg.Config):
    """Options that every image asset has."""

    force: bool = pydantic.Field(default=False, description="Redo every exposure, also those that are done.")


class ReferencesConfig(ImagesConfig):
    """Options of coadding references."""

    clip: float = pydantic.Field(
        default=5.0,
        gt=0,
        description="Pixels of a frame further than this from the median, in sigma, are left out of a coadd "
        "of three or more frames: cosmic rays, trails and asteroids are, the cores of stars are not.",
    )


class SurveyCutoutsConfig(ImagesConfig):
    """Options of the cutouts of other surveys; all come on the same grid."""

    pixels: int = pydantic.Field(default=240, ge=16, le=4000, description="Side of a cutout, pixels.")
    width: float | None = pydantic.Field(
        default=None,
        gt=0,
        le=5,
        description="Side of a cutout, degrees; by default the diameter of the field.",
    )


class KnownObjectsConfig(ImagesConfig):
    """Catalogues are asked for all they have; how detections are matched with them is an option of those."""


class ZtfAlertsConfig(ImagesConfig):
    """Alerts are kept as they come; which labels are believed is an option of the training set."""


class AlignConfig(ImagesConfig):
    """Options of the registration."""

    search_radius: float = pydantic.Field(
        default=30.0,
        gt=0,
        description="Largest pointing error that is searched for, science pixels; more finds chance matches.",
    )
    max_order: int = pydantic.Field(
        default=3, ge=0, le=5, description="Highest order of the polynomial that refines the registration."
    )
    min_overlap: float = pydantic.Field(
        default=0.1,
        gt=0,
        le=1,
        description="Smallest share of the science image that the reference must cover "
        "(ip_diffim: requiredTemplateFraction).",
    )


class NormalizeConfig(ImagesConfig):
    """Options of backgrounds, PSFs and flux ratio."""

    background_box: int = pydantic.Field(
        default=64, ge=8, description="Side of a background cell, pixels; larger than any galaxy to be kept."
    )
    psf_order: int = pydantic.Field(
        default=2, ge=0, le=4, description="Highest order of the variation of the PSF over the image."
    )
    prefer_given_psf: bool = pydantic.Field(
        default=False,
        description="Use the PSF that came with an image even where it has enough stars of its own.",
    )
    cosmic_rays: bool | None = pydantic.Field(
        default=None,
        description="Whether to look for cosmic rays; by default in single ground-based exposures only.",
    )
    flux_ratio: float | None = pydantic.Field(
        default=None,
        gt=0,
        description="Science over reference, where it is known; measured on stars by default.",
    )


class DifferencesConfig(ImagesConfig):
    """Both methods have no free parameters: all they need was measured by the normalization."""


class MatchConfig(ImagesConfig):
    """How far a detection may lie from a known object."""

    star_radius: float = pydantic.Field(
        default=2.0,
        gt=0,
        description="Largest distance from a star, moved to the time of the exposure, arcsec.",
    )
    variable_radius: float = pydantic.Field(
        default=2.0, gt=0, description="Largest distance from a catalogued variable, arcsec."
    )
    transient_radius: float = pydantic.Field(
        default=2.0, gt=0, description="Largest distance from a reported transient, arcsec."
    )
    galaxy_radius: float = pydantic.Field(
        default=2.0, gt=0, description="Reach of a galaxy of unknown or small size, arcsec."
    )
    galaxy_radii: float = pydantic.Field(
        default=3.0,
        gt=0,
        description="Reach of a galaxy in its half-light radii: most supernovae lie inside.",
    )
    solar_system_radius: float = pydantic.Field(
        default=5.0, gt=0, description="Largest distance from the predicted place of an asteroid, arcsec."
    )


MATCH_OPTIONS = tuple(name for name in MatchConfig.model_fields if name != "force")
"""Options of `CandidatesConfig` that change no exposure, only what stands beside its detections."""


class CandidatesConfig(MatchConfig):
    """Options of the detection; its filters flag, they never drop."""

    threshold: float = pydantic.Field(
        default=5.0, gt=0, description="Significance |S_corr| above which a peak is a candidate, sigma."
    )
    max_chi2: float = pydantic.Field(
        default=1.8, gt=0, description="Largest reduced chi-square about the PSF; above it: no point source."
    )
    max_shape_error: float = pydantic.Field(
        default=0.25,
        ge=0,
        description="Misfit allowed beyond the noise, share of the flux: the PSF model's own error.",
    )
    max_size: float = pydantic.Field(
        default=2.5, gt=0, description="Largest width, in FWHM of the PSF of the difference."
    )
    residual_fraction: float = pydantic.Field(
        default=0.04,
        ge=0,
        description="Share of a static source's flux below which its change is not believed.",
    )
    halo_fraction: float = pydantic.Field(
        default=0.01,
        ge=0,
        description="The same 3 pixels beside a source; falls with the inverse distance to nothing at 25 "
        "pixels: wings and spikes of bright stars change from night to night.",
    )


class CutoutsConfig(ImagesConfig):
    """Options of the cutouts."""

    size: int = pydantic.Field(
        default=65,
        ge=33,
        le=257,
        description="Side of a stamp, pixels, odd: 65 holds views of 63 (ZTF) and 64 pixels, 129 also 128.",
    )
    max_flagged: int = pydantic.Field(
        default=100,
        ge=0,
        description="Flagged candidates an exposure that get a stamp, drawn by their names: hard negatives "
        "for training. Unflagged ones all get one.",
    )

    @pydantic.field_validator("size")
    @classmethod
    def _odd(cls, size: int) -> int:
        if size % 2 == 0:
            msg = f"a stamp has an odd size, so that there is a middle pixel, not {size}"
            raise ValueError(msg)
        return size


class InjectionsConfig(ImagesConfig):
    """Options of the synthetic sources and defects."""

    density: float = pydantic.Field(
        default=43.0,
        ge=0,
        description="Sources per million science pixels: 45 in 1024 x 1024, one in a box of 150 pixels, so "
        "that they do not change the background that each other sees.",
    )
    min_count: int = pydantic.Field(
        default=12,
        ge=0,
        description="Sources on a reference that is too small to hold as many at that density.",
    )
    separation: float = pydantic.Field(
        default=45.0,
        ge=0,
        description="Least distance between two of them, pixels: no other one in the middle of a stamp.",
    )
    bright_offset: float = pydantic.Field(
        default=0.5, ge=0, description="Magnitudes fainter than saturation where the range begins."
    )
    faint_offset: float = pydantic.Field(
        default=1.0,
        description="Magnitudes fainter than the 5 sigma limit where it ends, so that the 50 percent point "
        "of the efficiency is bracketed.",
    )
    faint_share: float = pydantic.Field(
        default=0.6,
        ge=0,
        le=1,
        description="Share drawn from the last magnitudes of the range alone, where efficiency is decided; "
        "the density is kept with each source.",
    )
    faint_range: float = pydantic.Field(default=4.0, gt=0, description="Those last magnitudes.")
    slot_days: float = pydantic.Field(
        default=16.0, gt=0, description="Days after which a field gets new objects."
    )
    max_trail: float = pydantic.Field(
        default=30.0,
        gt=0,
        description="Longest trail of an asteroid, pixels; longer ones look like satellites.",
    )
    n_artifacts: int = pydantic.Field(default=15, ge=0, description="Synthetic defects of an exposure.")
    size: int = pydantic.Field(
        default=65, ge=3, description="Side of a stamp, pixels, odd; that of the cutouts."
    )
    max_flagged: int = pydantic.Field(
        default=30,
        ge=0,
        description="Stamps of flagged detections of an exposure that stand for no injection, drawn by their "
        "names: negatives in the domain of the injections.",
    )
    n_tiles: int = pydantic.Field(
        default=2, ge=0, description="Tiles of an exposure, for models that segment images."
    )
    tile_size: int = pydantic.Field(default=256, ge=16, description="Side of a tile, pixels.")
    zero_flux: bool = pydantic.Field(
        default=False,
        description="Null test: every flux is zero, no defect is added, and the difference and its "
        "candidates have to be those of the exposure as it is, bit by bit.",
    )


class TrainingSetConfig(ImagesConfig):
    """Options of the training set: labels, selection and nuisances."""

    min_snr: float = pydantic.Field(
        default=3.0,
        ge=0,
        description="Least significance of a change that a catalogue entry may explain, sigma: it has to be "
        "visible.",
    )
    match_radius: float = pydantic.Field(
        default=1.5, gt=0, description="Distance of a detection from an alert or a vetted position, arcsec."
    )
    ambiguous: float = pydantic.Field(
        default=15.0,
        ge=0,
        description="Distance from an injected source within which another new detection stays unlabelled, "
        "pixels.",
    )
    max_real: int = pydantic.Field(
        default=60, ge=0, description="Real samples of an exposure in each domain, drawn by their names."
    )
    max_imbalance: float = pydantic.Field(
        default=1.5,
        ge=1,
        description="Largest ratio of the classes, either way, among detections with like surroundings; "
        "more samples against a model that learns the surroundings.",
    )
    min_bogus: int = pydantic.Field(
        default=3, ge=0, description="Bogus samples in a domain that has no real ones in an exposure."
    )
    bin_size: int = pydantic.Field(
        default=16, ge=2, description="Detections in a bin of like surroundings; fewer match more closely."
    )
    spacing: float = pydantic.Field(
        default=10.0,
        ge=0,
        description="Distance of bogus samples from one another, pixels: one bright star leaves many pieces.",
    )
    max_unlabelled: int = pydantic.Field(
        default=10, ge=0, description="Unlabelled samples of an exposure, for methods that can use them."
    )
    max_missing_share: float = pydantic.Field(
        default=0.35,
        ge=0,
        lt=1,
        description="Largest share of the detections of a class whose stamps lack pixels by nature.",
    )
    missing_share: float = pydantic.Field(
        default=0.14,
        ge=0,
        lt=1,
        description="Share of each class that lacks pixels, by copies with edges and holes: 97 of 685 public "
        "ZTF alerts.",
    )
    masked_share: float = pydantic.Field(
        default=0.3, ge=0, le=1, description="Share of those copies that get a hole instead of an edge."
    )
    no_reference_share: float = pydantic.Field(
        default=0.009, ge=0, lt=1, description="Share of copies without a reference: 6 of 685 ZTF alerts."
    )


class LightCurvesConfig(ImagesConfig):
    """Options of joining candidates to objects, and of the forced photometry."""

    sigma_floor: float = pydantic.Field(
        default=0.05,
        ge=0,
        description="Position error that does not fall with the significance, arcsec (LSST ap_association; "
        "pixels without a WCS); at most a tenth of the FWHM.",
    )
    max_separation: float = pydantic.Field(
        default=1.0,
        gt=0,
        description="Largest separation of a candidate from its object, arcsec (LSST ap_association; pixels "
        "without a WCS); at most one FWHM.",
    )
    max_sigma: float = pydantic.Field(
        default=5.0, gt=0, description="The same in units of the position error along an axis."
    )
    quiet_before: float = pydantic.Field(
        default=100.0,
        ge=0,
        description="Days before the first detection that do not count for the baseline (ZTF Bright "
        "Transient Survey: 100 days before the peak).",
    )
    quiet_after: float = pydantic.Field(
        default=100.0, ge=0, description="Days after the last detection that do not count for the baseline."
    )
    min_epochs: int = pydantic.Field(
        default=10,
        ge=2,
        description="Fewest quiet epochs of a baseline (ZTF Bright Transient Survey: 10, better 25).",
    )
    n_blank: int = pydantic.Field(
        default=200,
        ge=0,
        description="Blank places an exposure at which the errors of the forced photometry are tested.",
    )


class FieldReportConfig(ImagesConfig):
    """Options of the page of a field."""

    panels_max: int = pydantic.Field(
        default=4,
        ge=0,
        le=12,
        description="Exposures whose images are shown: the newest of each band, then the newest of the rest. "
        "Each adds about 0.4 MB to the page.",
    )


class ExplorationNotebookConfig(ImagesConfig):
    """Options of the notebook."""

    cell_timeout: float = pydantic.Field(
        default=120.0, gt=0, description="Longest time of one cell, s; then its error stands in the notebook."
    )


class TrainingReleaseConfig(ImagesConfig):
    """Options of the training release."""

    fields: list[str] = pydantic.Field(
        default=[], description="Fields that take part; by default all that have a training set."
    )
    train_share: float = pydantic.Field(
        default=0.8, gt=0, le=1, description="Wanted share of the labelled samples in train (BTSbot: 0.81)."
    )
    validation_share: float = pydantic.Field(
        default=0.1, gt=0, le=1, description="The same in validation (BTSbot: 0.09)."
    )
    test_share: float = pydantic.Field(
        default=0.1, gt=0, le=1, description="The same in test (BTSbot: 0.10)."
    )
    nside: int = pydantic.Field(
        default=16,
        ge=1,
        description="Resolution of the HEALPix cells that stay together; a power of two. 16 are cells of 3.7 "
        "degrees, as in the Multimodal Universe.",
    )
    radius: float = pydantic.Field(
        default=5.0, ge=0, description="Samples closer than this stay together, arcsec."
    )
    seed: str = pydantic.Field(default="astrid", description="Decides between equally good splits.")
    min_samples: int = pydantic.Field(
        default=30, ge=1, description="Fewer labelled samples are no release: it is refused."
    )
    floor: int = pydantic.Field(
        default=1000, ge=1, description="Number of labelled samples below which a check warns."
    )


CONFIGS: dict[str, type[dg.Config]] = {
    "observations": ObservationsConfig,
    "science_images": ImagesConfig,
    "references": ReferencesConfig,
    "survey_cutouts": SurveyCutoutsConfig,
    "known_objects": KnownObjectsConfig,
    "ztf_alerts": ZtfAlertsConfig,
    "aligned_pairs": AlignConfig,
    "normalized_pairs": NormalizeConfig,
    "zogy_differences": DifferencesConfig,
    "classic_differences": DifferencesConfig,
    "candidates": CandidatesConfig,
    "cutouts": CutoutsConfig,
    "light_curves": LightCurvesConfig,
    "injections": InjectionsConfig,
    "training_set": TrainingSetConfig,
    "field_report": FieldReportConfig,
    "training_release": TrainingReleaseConfig,
    "data_catalog": ImagesConfig,
    "exploration_notebook": ExplorationNotebookConfig,
}
"""Class of the options of each asset."""


def effective_options(config: dg.Config, sky_field: Field, asset: str) -> dict[str, Any]:
    """Return the options of an asset for a field, without ``force``.

    Raises
    ------
    ConfigurationError
        The field gives an option that the asset does not have, or a value it cannot have.
    """
    check_processing(sky_field)
    defaults = type(config)().model_dump()
    given = {name: value for name, value in config.model_dump().items() if value != defaults[name]}
    options = defaults | sky_field.processing.get(asset, {}) | given
    return {name: value for name, value in options.items() if name != "force"}


def check_processing(sky_field: Field) -> None:
    """Test the options that a field gives for single assets.

    Raises
    ------
    ConfigurationError
        An asset or option is unknown, or a value is impossible; one line.
    """
    for asset, options in sky_field.processing.items():
        where = f"field {sky_field.name}: processing.{asset}"
        if asset not in ASSETS:
            msg = f"{where}: there is no such asset; there are {', '.join(ASSETS)}"
            raise ConfigurationError(msg)
        known = set(CONFIGS[asset].model_fields) - {"force"}
        for name in options:
            if name not in known:
                msg = f"{where}.{name}: unknown option; there are {', '.join(sorted(known)) or 'none'}"
                raise ConfigurationError(msg)
        try:
            CONFIGS[asset](**options)
        except pydantic.ValidationError as error:
            fault = error.errors()[0]
            msg = f"{where}.{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            raise ConfigurationError(msg) from error
