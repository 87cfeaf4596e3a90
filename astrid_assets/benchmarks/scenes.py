"""Simulated pairs whose truth is known: the scenes on which differencing is measured.

Moffat stars and Sersic galaxies, integrated over the pixels, on a ZTF-like detector. It shares no code
with what it measures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from astrid_assets.images.image import MaskedImage

__all__ = ["SCENARIOS", "Optics", "Scenario", "Scene", "make_scene", "optics_stamp", "sky_variances"]

GAIN, READ_NOISE, SKY, FRAMES, FLUX_SCALE = 6.2, 10.0, 150.0, 15, 1.25
"""e/ADU, electrons, ADU in a pixel of 1.01 arcsec, frames of the reference, its flux over that of the science
image."""

SATURATION = 60_000.0
"""ADU."""

PIXEL = 1.01
"""Side of a science pixel, arcsec (ZTF)."""

STARS, GALAXIES = 700, 350
"""Per Mpix of science pixels."""

MARGIN = 16
"""Nothing new is put nearer to the edge than this, science pixels."""

BETA = 3.0
"""Exponent of the Moffat profiles."""

_GALAXY_RINGS, _GALAXY_ANGLES = 10, 14


@dataclass(frozen=True)
class Optics:
    """The point-spread function of an image, in arcsec, and how it varies over the field."""

    fwhm: float
    """FWHM in the middle before pixel integration, arcsec."""

    ellipticity: tuple[float, float] = (0.0, 0.0)
    """Components along the axes and the diagonals."""

    variation: float = 0.0
    """Largest relative change of the FWHM over the field."""

    def quadratic(self, u: np.ndarray, v: np.ndarray, scale: float) -> np.ndarray:
        """Return the coefficients of the profile at field coordinates -1 to 1, ``(n, 3)``, pixel^-2."""
        swing = self.variation * (0.5 * u - 0.3 * v + 0.2 * (u**2 + v**2) - 0.2)
        fwhm = self.fwhm * (1.0 + swing) / scale
        e1 = self.ellipticity[0] + 0.4 * self.variation * v
        e2 = self.ellipticity[1] + 0.4 * self.variation * u
        core = (2.0 * np.sqrt(2.0 ** (1.0 / BETA) - 1.0) / fwhm) ** 2
        return np.stack([core * (1.0 - e1), -2.0 * core * e2, core * (1.0 + e1)], axis=-1)


@dataclass(frozen=True)
class Scenario:
    """What a pair of images is like."""

    name: str
    science: Optics
    reference: Optics
    bright: bool = True
    """Whether there are galaxies, saturated stars, a dead column and hot pixels."""

    shift: tuple[float, float] = (0.06, -0.04)
    """Registration error of the reference against its WCS, science pixels."""

    reference_pixel: float = PIXEL
    """Side of a reference pixel, arcsec."""

    rotation: float = 0.0
    """Of the reference grid, degrees."""

    distortion: float = 0.0
    """SIP distortion of the reference at the corner of the image, pixels."""

    @property
    def resampled(self) -> bool:
        """Whether the reference has a grid of its own."""
        return self.reference_pixel != PIXEL or self.rotation != 0.0


_ROUND = (Optics(2.2), Optics(1.8))
_OVAL = (Optics(2.2, (0.06, 0.03)), Optics(1.8, (-0.03, 0.05)))

SCENARIOS = {
    s.name: s
    for s in (
        Scenario("ideal", *_ROUND, bright=False, shift=(0.0, 0.0)),
        Scenario("ztf", *_OVAL),
        Scenario("varpsf", Optics(2.2, (0.06, 0.03), 0.1), Optics(1.8, (-0.03, 0.05), 0.1)),
        Scenario("sharp", Optics(1.7, (0.06, 0.03)), Optics(2.2, (-0.03, 0.05))),
        Scenario("warp", *_OVAL, reference_pixel=PIXEL * 1.013, rotation=0.7, distortion=1.0),
        Scenario("fine", *_OVAL, reference_pixel=0.25, rotation=0.3),
    )
}
"""The scenarios by name."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A science image, its reference, and what is in them. Positions are science pixels, fluxes ADU."""

    scenario: Scenario
    science: MaskedImage
    reference: MaskedImage
    x: np.ndarray
    """New sources."""
    y: np.ndarray
    flux: np.ndarray
    on_host: np.ndarray
    """Whether a new source lies on a galaxy."""
    star_x: np.ndarray
    star_y: np.ndarray
    star_flux: np.ndarray
    static: np.ndarray = field(repr=False)
    """Noiseless science image of all static sources without the sky, ``(ny, nx)``."""
    sky_variance: tuple[float, float] = (1.0, 1.0)
    """Variance of a blank science pixel; of the reference, per science pixel and on the science scale."""


def make_scene(
    name: str, size: int, seed: int, *, new_source_snr: tuple[float, float] = (3.0, 50.0)
) -> Scene:
    """Make a pair of a scenario.

    Parameters
    ----------
    name
        Of `SCENARIOS`.

    size
        Side of the science image, pixels.

    seed
        Of everything random.

    new_source_snr
        Limits of the background-limited signal-to-noise ratio of the new sources, drawn uniform in its
        logarithm.
    """
    scenario = SCENARIOS[name]
    # a stable number for the name: the same seed shows another sky in each scenario
    rng = np.random.default_rng([seed, sum(ord(c) << i for i, c in enumerate(name)), size])
    shape = (size, size)
    wcs, wcs_r, shape_r = _grids(scenario, size)
    to_reference = _mapping(wcs, wcs_r, scenario)
    stars = _stars(rng, scenario, size)
    galaxies = _galaxies(rng, scenario, size)
    new = _new_sources(rng, scenario, size, stars, new_source_snr)
    if len(galaxies["x"]):
        _put_hosts(rng, galaxies, new)
    sky_r = SKY * (scenario.reference_pixel / PIXEL) ** 2
    static = _light(shape, stars, galaxies, scenario.science, PIXEL, size)
    model = static + SKY
    _draw(model, new["x"], new["y"], new["flux"], scenario.science, PIXEL, size, (new["x"], new["y"]))
    theirs = sky_r + FLUX_SCALE * _light(
        shape_r, stars, galaxies, scenario.reference, scenario.reference_pixel, size, to_reference
    )
    science, bad = _expose(rng, model, 1, dirty=scenario.bright)
    reference, bad_r = _expose(rng, theirs, FRAMES, dirty=scenario.bright)
    known = {"saturation": SATURATION, "survey": "generic", "band": "r"}
    return Scene(
        scenario,
        MaskedImage(science, wcs=wcs, mask=bad, gain=GAIN, mjd_mid=60000.0, exptime=30.0, **known),
        MaskedImage(
            reference,
            wcs=wcs_r,
            mask=bad_r,
            gain=GAIN * FRAMES,
            n_exposures=FRAMES,
            mjd_mid=59000.0,
            exptime=30.0,
            **known,
        ),
        new["x"],
        new["y"],
        new["flux"],
        new["on_host"],
        stars["x"],
        stars["y"],
        stars["flux"],
        static,
        sky_variances(scenario),
    )


def sky_variances(scenario: Scenario) -> tuple[float, float]:
    """Return the variance of a blank science pixel and of the reference per science pixel, ADU^2.

    The reference is put on the flux scale of the science image.
    """
    area = (scenario.reference_pixel / PIXEL) ** 2
    science = (SKY * GAIN + READ_NOISE**2) / GAIN**2
    reference = (SKY * area * GAIN + READ_NOISE**2) / GAIN**2 / FRAMES / area / FLUX_SCALE**2
    return science, reference


def _grids(scenario: Scenario, size: int) -> tuple[object, object, tuple[int, int]]:
    """Return the WCS of both images and the shape of the reference."""
    wcs = _wcs(size, PIXEL, 0.0, 0.0)
    if not scenario.resampled:
        return wcs, _wcs(size, PIXEL, 0.0, 0.0), (size, size)
    side = int(np.ceil(1.03 * size * PIXEL / scenario.reference_pixel)) + 12
    return wcs, _wcs(side, scenario.reference_pixel, scenario.rotation, scenario.distortion), (side, side)


def _wcs(size: int, scale: float, rotation: float, distortion: float) -> object:
    """Return a gnomonic WCS with the same sky position at half a pixel from the middle."""
    from astropy.wcs import WCS, Sip

    wcs = WCS(naxis=2)
    suffix = "-SIP" if distortion else ""
    wcs.wcs.ctype = [f"RA---TAN{suffix}", f"DEC--TAN{suffix}"]
    wcs.wcs.crval = [150.0, 20.0]
    # an integer plus a half: grids of another scale lie at every phase
    wcs.wcs.crpix = [size / 2 + 0.5, size / 2 + 0.5]
    c, s = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    wcs.wcs.cd = scale / 3600.0 * np.array([[-c, s], [s, c]])
    if distortion:
        a, b = np.zeros((3, 3)), np.zeros((3, 3))
        a[2, 0] = a[0, 2] = distortion / (size / 2) ** 2 / 2
        b[1, 1], b[2, 0] = distortion / (size / 2) ** 2 / 2, -distortion / (size / 2) ** 2 / 3
        wcs.sip = Sip(a, b, None, None, wcs.wcs.crpix)
    wcs.wcs.set()
    return wcs


Mapping2D = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _mapping(wcs: object, wcs_r: object, scenario: Scenario) -> Mapping2D:
    """Return the function from science pixels to reference pixels, with the registration error."""
    dx, dy = scenario.shift

    def to_reference(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not scenario.resampled:
            return x - dx, y - dy
        ra, dec = wcs.all_pix2world(x - dx, y - dy, 0)
        return tuple(wcs_r.all_world2pix(ra, dec, 0, tolerance=1e-7, maxiter=50))

    return to_reference


def _stars(rng: np.random.Generator, scenario: Scenario, size: int) -> dict[str, np.ndarray]:
    """Draw stars: counts rise by 10^0.5 for each factor of ten fainter."""
    n = round(STARS * size * size / 1e6)
    faint, bright = 60.0, 5e6 if scenario.bright else 2e4
    u = rng.uniform(size=n)
    flux = (faint**-0.5 - u * (faint**-0.5 - bright**-0.5)) ** -2.0
    x, y = rng.uniform(-8, size + 8, (2, n))
    return {"x": x, "y": y, "flux": flux}


def _galaxies(rng: np.random.Generator, scenario: Scenario, size: int) -> dict[str, np.ndarray]:
    """Draw galaxies: Sersic n of 1, 1, 2, 4, half-light radii of 1 to 4 arcsec."""
    n = round(GALAXIES * size * size / 1e6) if scenario.bright else 0
    x, y = rng.uniform(4, size - 4, (2, n))
    return {
        "x": x,
        "y": y,
        "flux": 10 ** rng.uniform(2.3, 4.3, n),
        "radius": rng.uniform(1.0, 4.0, n),
        "index": rng.choice([1.0, 1.0, 2.0, 4.0], n),
        "axis_ratio": rng.uniform(0.4, 1.0, n),
        "angle": rng.uniform(0, np.pi, n),
    }


def _new_sources(
    rng: np.random.Generator,
    scenario: Scenario,
    size: int,
    stars: dict[str, np.ndarray],
    limits: tuple[float, float],
) -> dict[str, np.ndarray]:
    """Draw new sources in the cells of a grid, away from bright stars, a third of them for hosts."""
    from scipy.spatial import cKDTree

    side = max(2, round(size / 60))
    cell = (size - 2 * MARGIN) / side
    corner = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2) * cell + MARGIN
    tries = corner[None] + rng.uniform(0.15, 0.85, (8, len(corner), 2)) * cell
    bright = stars["flux"] > 500.0
    tree = cKDTree(np.c_[stars["x"], stars["y"]][bright])
    best = tree.query(tries)[0].argmax(axis=0)
    place = tries[best, np.arange(len(corner))]
    snr = np.exp(rng.uniform(*np.log(limits), len(corner)))
    flux = snr * _flux_error(scenario)
    on_host = (rng.uniform(size=len(corner)) < 1 / 3) & scenario.bright
    return {"x": place[:, 0], "y": place[:, 1], "flux": flux, "on_host": on_host}


def _flux_error(scenario: Scenario) -> float:
    """Return the error of the PSF flux of a new source on blank sky, by the algebra of proper subtraction."""
    size = 64
    parts = [np.abs(np.fft.fft2(optics_stamp(o, size))) ** 2 for o in (scenario.science, scenario.reference)]
    v_n, v_r = sky_variances(scenario)
    information = (parts[0] * parts[1] / (v_n * parts[1] + v_r * parts[0])).sum() / size**2
    return float(1.0 / np.sqrt(information))


def optics_stamp(
    optics: Optics, side: int, u: float = 0.0, v: float = 0.0, offset: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """Return a point source of unit flux on science pixels.

    Parameters
    ----------
    optics
        Of either image.

    side
        Side of the stamp; the source lies on pixel ``side // 2``.

    u, v
        Place in the field, -1 to 1.

    offset
        Added to the position of the source, (x, y) pixels.

    Returns
    -------
    numpy.ndarray
        Float64 ``(side, side)``; it may sum to a little less than 1 where wings are cut.
    """
    stamp = np.zeros((side, side))
    place = [np.array([side // 2 + o]) for o in offset]
    # a field of three pixels: its middle is the first pixel
    where = (np.array([1.0 + u]), np.array([1.0 + v]))
    _draw(stamp, *place, np.ones(1), optics, PIXEL, 3, where)
    return stamp


def _put_hosts(rng: np.random.Generator, galaxies: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> None:
    """Move galaxies under the new sources that are to have a host."""
    index = np.flatnonzero(new["on_host"])[: len(galaxies["x"])]
    away = rng.uniform(0.0, 1.0, (2, len(index))) * galaxies["radius"][: len(index)] / PIXEL
    angle = 2 * np.pi * away[1]
    galaxies["x"][: len(index)] = new["x"][index] + away[0] * np.cos(angle)
    galaxies["y"][: len(index)] = new["y"][index] + away[0] * np.sin(angle)


def _light(
    shape: tuple[int, int],
    stars: dict[str, np.ndarray],
    galaxies: dict[str, np.ndarray],
    optics: Optics,
    scale: float,
    size: int,
    mapping: Mapping2D | None = None,
) -> np.ndarray:
    """Return the noiseless static sky without background, float64."""
    image = np.zeros(shape)
    points = _galaxy_points(galaxies)
    for part in (stars, points):
        if len(part["x"]):
            place = mapping(part["x"], part["y"]) if mapping else (part["x"], part["y"])
            share = part.get("share", np.ones(len(part["x"])))
            _draw(image, *place, part["flux"], optics, scale, size, (part["x"], part["y"]), share)
    return image


def _galaxy_points(galaxies: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Break galaxies into points of equal light on elliptical rings; science pixels."""
    if not len(galaxies["x"]):
        return {"x": np.zeros(0), "y": np.zeros(0), "flux": np.zeros(0)}
    rings = np.array([_sersic_radii(n) for n in galaxies["index"]]) * galaxies["radius"][:, None] / PIXEL
    turn = np.arange(_GALAXY_ANGLES) * 2 * np.pi / _GALAXY_ANGLES
    phase = turn[None, :] + np.arange(_GALAXY_RINGS)[:, None] * np.pi / _GALAXY_ANGLES
    along = rings[:, :, None] * np.cos(phase)
    across = rings[:, :, None] * np.sin(phase) * galaxies["axis_ratio"][:, None, None]
    c, s = np.cos(galaxies["angle"])[:, None, None], np.sin(galaxies["angle"])[:, None, None]
    n = _GALAXY_RINGS * _GALAXY_ANGLES
    return {
        "x": (galaxies["x"][:, None, None] + c * along - s * across).ravel(),
        "y": (galaxies["y"][:, None, None] + s * along + c * across).ravel(),
        "flux": np.repeat(galaxies["flux"] / n, n),
        "share": np.full(len(galaxies["x"]) * n, float(n)),
    }


def _sersic_radii(index: float) -> np.ndarray:
    """Return the radii of the middles of rings of equal light, in half-light radii."""
    from scipy.special import gammaincinv

    share = (np.arange(_GALAXY_RINGS) + 0.5) / _GALAXY_RINGS
    half_light = gammaincinv(2 * index, 0.5)
    return (gammaincinv(2 * index, share) / half_light) ** index


def _draw(
    image: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    flux: np.ndarray,
    optics: Optics,
    scale: float,
    size: int,
    science_place: tuple[np.ndarray, np.ndarray],
    share: np.ndarray | None = None,
) -> None:
    """Add points to an image whose pixels have a side of ``scale`` arcsec."""
    from astrid_assets.benchmarks.scene_kernels import draw_points

    u, v = (2.0 * p / (size - 1) - 1.0 for p in science_place)
    shape = optics.quadratic(u, v, scale)
    whole = flux if share is None else flux * share
    # where a Moffat profile falls to a hundredth of the noise of a pixel
    reach = (0.3 * np.maximum(whole, 1.0)) ** 0.17 * 3.0 * optics.fwhm / PIXEL
    half = np.ceil(np.clip(reach, 10.0, 160.0) * PIXEL / scale).astype(np.int64)
    n_nodes = 4 if optics.fwhm / scale < 3 else 2
    if share is not None and share[0] > 1:
        n_nodes //= 2
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    draw_points(image, x, y, flux, shape, BETA, half, nodes / 2, weights / 2)


def _expose(
    rng: np.random.Generator, model: np.ndarray, frames: int, *, dirty: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of some frames with their noise, and the mask of its bad pixels."""
    electrons = rng.poisson(model * (GAIN * frames)) + rng.normal(
        0, READ_NOISE * np.sqrt(frames), model.shape
    )
    data = np.minimum(electrons / (GAIN * frames), SATURATION)
    bad = np.zeros(model.shape, bool)
    if dirty:
        ny, nx = model.shape
        column = int(rng.integers(nx // 4, 3 * nx // 4))
        data[: 2 * ny // 3, column] = 0.0
        bad[: 2 * ny // 3, column] = True
        n_hot = round(30 * model.size / 1e6)
        rows, columns = rng.integers(0, ny, n_hot), rng.integers(0, nx, n_hot)
        data[rows, columns] += rng.uniform(200, 20000, n_hot)
        bad[rows, columns] = True
    return data.astype(np.float32), bad
