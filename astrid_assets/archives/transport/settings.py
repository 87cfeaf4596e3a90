"""How each service is treated: ``services.toml``, and what ``archives.yaml`` changes of it.

``archives.yaml`` lies beside ``fields.yaml`` (or where ``ASTRID_ARCHIVES`` says) and is optional::

    mode: live            # or replay: answers come from the store only, no socket is opened
    record: false         # true: downloads are kept in the store too, so that a replay has them
    services:
      mast: {base_url: "http://127.0.0.1:8080/mast"}
"""

from __future__ import annotations

import difflib
import math
import os
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import urlsplit

import pydantic

from astrid_assets.archives.transport.request import Kind
from astrid_assets.documents import Document
from astrid_assets.errors import ConfigurationError
from astrid_assets.home import dagster_home

__all__ = [
    "Mode",
    "ServiceSettings",
    "Settings",
    "archives_path",
    "load_settings",
    "store_path",
    "with_changes",
]

Mode = Literal["live", "replay"]
"""``live`` asks services (or the stand-in that has taken their place), ``replay`` the store alone."""

NOTHING = "nothing"
"""Row of the table ``lifetime`` for "there is nothing": good for the time of its kind, at most for this."""

_Model = TypeVar("_Model", bound=pydantic.BaseModel)
_Seconds = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]
_Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)


class ServiceSettings(_Strict):
    """Where a service is and how it wants to be treated. Times are seconds."""

    base_url: str
    """Address that the path of a request is appended to."""

    parallel: Annotated[int, pydantic.Field(ge=1, le=64)]
    """Most requests at a time, over all processes that share the store."""

    per_second: _Positive
    """Most requests that start in a second, over the same processes."""

    connect_timeout: _Positive
    """Time for a connection."""

    read_timeout: _Positive
    """Time without a byte after which a request counts as lost."""

    slowest: Annotated[float, pydantic.Field(ge=0)]
    """Bytes a second; a body that is slower during ``read_timeout`` counts as lost."""

    retries: Annotated[int, pydantic.Field(ge=0, le=20)]
    """Tries after the first."""

    backoff: _Seconds
    """Wait before the first retry; doubled each time, up to ``longest_wait``."""

    longest_wait: _Seconds
    """Longest wait that a service may ask for; beyond it is left alone."""

    longest_pending: _Seconds
    """How long a service may work on an answer, asked again and again."""

    token: str | None = None
    """Environment variable that holds the token."""

    source: str = ""
    """Where the numbers come from."""

    @pydantic.field_validator("base_url")
    @classmethod
    def _an_address(cls, text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            msg = f"{text!r} is no address that starts with http:// or https://"
            raise ValueError(msg)
        if parts.query or parts.fragment or parts.username or parts.password:
            raise ValueError("an address of a service has no query, fragment, user or password")
        return text.rstrip("/")


class Settings(_Strict):
    """All that a transport needs to know; picklable."""

    services: Mapping[str, ServiceSettings]
    """By name, the alias of the host."""

    lifetime: Mapping[str, float]
    """Seconds for which an answer is good without asking, by kind; infinite for what never changes."""

    store: Path
    """Folder of the store."""

    mode: Mode = "live"
    """Whether services are asked."""

    record: bool = False
    """Whether downloads and passing states are kept in the store too."""

    def service(self, name: str) -> ServiceSettings:
        """Return the settings of a service.

        Raises
        ------
        ConfigurationError
            There is no such service.
        """
        found = self.services.get(name)
        if found is None:
            msg = f"unknown service {name!r}{_hint(name, self.services)}"
            raise ConfigurationError(msg)
        return found

    @property
    def replaced(self) -> str | None:
        """Hosts that answer in place of services (a stand-in, a mirror); None where all are themselves."""
        shipped = _shipped_settings().services
        hosts = {
            urlsplit(service.base_url).hostname
            for name, service in self.services.items()
            if service.base_url != shipped[name].base_url
        }
        return ", ".join(sorted(hosts)) or None


def archives_path() -> Path:
    """Return the path of the overrides: ``ASTRID_ARCHIVES``, or ``archives.yaml`` in ``DAGSTER_HOME``."""
    given = os.environ.get("ASTRID_ARCHIVES")
    return Path(given).expanduser().absolute() if given else dagster_home() / "archives.yaml"


def store_path() -> Path:
    """Return the folder of the store: ``ASTRID_STORE``, or ``archive_store`` in ``DAGSTER_HOME``."""
    given = os.environ.get("ASTRID_STORE")
    return Path(given).expanduser().absolute() if given else dagster_home() / "archive_store"


def load_settings(path: str | Path | None = None) -> Settings:
    """Return the settings that ship, changed as ``archives.yaml`` says.

    Parameters
    ----------
    path
        The file; default is `archives_path`, which need not exist.

    Raises
    ------
    ConfigurationError
        The file is wrong; the message names the line.
    """
    file = archives_path() if path is None else Path(path)
    shipped = _shipped_settings()
    if path is None and not file.exists():
        return shipped
    try:
        text = file.read_text()
    except OSError as error:
        msg = f"{file}: {error.strerror}"
        raise ConfigurationError(msg) from error
    document = Document(text, file)
    if not isinstance(document.value, dict):
        document.fail("expected a mapping of mode, record, services")
    try:
        return _from_document(shipped, document.value)
    except _WrongError as error:
        document.fail(str(error), at=error.at)


def with_changes(
    settings: Settings,
    services: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    store: str | Path | None = None,
    mode: Mode | None = None,
    record: bool | None = None,
) -> Settings:
    """Return settings with changes.

    Parameters
    ----------
    settings
        What to start from.

    services
        Changed settings by service, such as ``{"mast": {"base_url": "http://127.0.0.1:8080/mast"}}``.

    store
        Folder of the store.

    mode
        Whether services are asked.

    record
        Whether downloads are kept too.

    Raises
    ------
    ConfigurationError
        A service or a setting is unknown or wrong.
    """
    given = {"mode": mode, "record": record, "store": None if store is None else Path(store).absolute()}
    try:
        return _changed(settings, services or {}, {k: v for k, v in given.items() if v is not None})
    except _WrongError as error:
        msg = f"settings of archives: {error}"
        raise ConfigurationError(msg) from None


class _WrongError(Exception):
    """What is wrong, and at which key."""

    def __init__(self, message: str, at: tuple[str, ...]) -> None:
        super().__init__(message)
        self.at = at


def _shipped_settings() -> Settings:
    text = resources.files("astrid_assets.archives.transport").joinpath("services.toml").read_text()
    table = tomllib.loads(text)
    lifetime = {name: math.inf if v == "always" else float(v) for name, v in table["lifetime"].items()}
    if set(lifetime) != {*get_args(Kind), NOTHING}:
        raise ConfigurationError("services.toml: table lifetime needs one row for each kind, and 'nothing'")
    services = {
        name: ServiceSettings.model_validate(table["defaults"] | own)
        for name, own in table["services"].items()
    }
    return Settings(services=services, lifetime=lifetime, store=store_path())


def _from_document(shipped: Settings, values: Mapping[str, Any]) -> Settings:
    """Return the settings of an ``archives.yaml``."""
    known = ("mode", "record", "services")
    for name in values:
        if name not in known:
            msg = f"unknown option {name!r}{_hint(name, known)}"
            raise _WrongError(msg, (name,))
    services = values.get("services") or {}
    if not isinstance(services, Mapping):
        raise _WrongError("services: expected a mapping of names to settings", ("services",))
    return _changed(shipped, services, {name: values[name] for name in ("mode", "record") if name in values})


def _changed(settings: Settings, services: Mapping[str, Any], rest: Mapping[str, Any]) -> Settings:
    changed = dict(settings.services)
    for name, change in services.items():
        at = ("services", str(name))
        if name not in changed:
            msg = f"unknown service {name!r}{_hint(str(name), changed)}"
            raise _WrongError(msg, at)
        if not isinstance(change, Mapping):
            msg = f"service {name!r}: expected settings such as base_url"
            raise _WrongError(msg, at)
        changed[name] = _validated(ServiceSettings, changed[name].model_dump() | dict(change), at)
    old = {name: getattr(settings, name) for name in Settings.model_fields}
    return _validated(Settings, old | {"services": changed} | rest, ())


def _validated(model: type[_Model], values: Mapping[str, Any], block: tuple[str, ...]) -> _Model:
    try:
        return model.model_validate(values)
    except pydantic.ValidationError as error:
        raise _wrong(error, block) from None


def _wrong(error: pydantic.ValidationError, block: tuple[str, ...]) -> _WrongError:
    first = error.errors()[0]
    at = (*block, *map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return _WrongError(
            f"unknown setting {'.'.join(at)!r}{_hint(at[-1], ServiceSettings.model_fields)}", at
        )
    return _WrongError(f"{'.'.join(at)}: {first['msg'].removeprefix('Value error, ')}", at)


def _hint(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
