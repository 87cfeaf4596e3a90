"""The only door to the network: asks services politely, patiently, and believes nothing unseen."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote, quote_plus

from astrid_assets.archives.transport.clock import Clock, mjd_of
from astrid_assets.archives.transport.download import Part, open_part
from astrid_assets.archives.transport.formats import check_content, check_file, first_bytes
from astrid_assets.archives.transport.limits import Limits
from astrid_assets.archives.transport.request import Answer, Request
from astrid_assets.archives.transport.settings import (
    NOTHING,
    Mode,
    ServiceSettings,
    Settings,
    load_settings,
    with_changes,
)
from astrid_assets.archives.transport.store import Kept, Store, copy_file, place, sha256_of
from astrid_assets.archives.transport.tally import Counts, Tally
from astrid_assets.archives.transport.wire import Reply, Trouble, Wire
from astrid_assets.errors import (
    ArchiveUnavailableError,
    AstridError,
    AuthenticationNeededError,
    BadAnswerError,
    NoCoverageError,
)

__all__ = ["Fetched", "Transport"]

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

_DAY = 86400.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds between questions about an answer in the making
_PROGRESS = 1024 * 1024  # bytes of a download that count as a new start of the tries
_TELLING = 8  # characters of a secret that no answer holds by chance
_SHOWN_OF_AN_ERROR = 64 * 1024  # bytes of the body of an error that are read


@dataclass(frozen=True)
class Fetched:
    """A downloaded file, whole and verified."""

    path: Path
    """Where it is."""

    n_bytes: int
    """Length."""

    sha256: str
    """Checksum."""


class Transport:
    """Asks services and downloads files.

    It may be used by several threads, and handed to another process (which opens connections of its
    own; limits and store are shared through the store's folder).

    Parameters
    ----------
    settings
        How services are treated, and where answers are kept.

    clock
        What time it is.
    """

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self._clock = clock or Clock()
        self._store = Store(settings.store)
        self._limits = Limits(settings.store / "limits", self._clock)
        self._wire = Wire(
            self._clock,
            sent=lambda service: self._count(service, requests=1),
            received=lambda service, n_bytes: self._count(service, bytes=n_bytes),
        )
        self._counting = threading.Lock()
        self._tally = Tally()

    @classmethod
    def of(cls, settings: Settings) -> Transport:
        """Return a transport with given settings."""
        return cls(settings)

    @classmethod
    def open(
        cls,
        services: Mapping[str, Mapping[str, Any]] | None = None,
        store: Path | None = None,
        *,
        mode: Mode | None = None,
        record: bool | None = None,
        clock: Clock | None = None,
    ) -> Transport:
        """Return a transport with the settings of this installation, changed as given.

        Parameters
        ----------
        services
            Changed settings by service, such as ``{"mast": {"base_url": "http://127.0.0.1:8080/mast"}}``.

        store
            Folder of the store; default ``ASTRID_STORE``, or ``archive_store`` in ``DAGSTER_HOME``.

        mode
            Whether services are asked.

        record
            Whether downloads and passing states are kept too.

        clock
            What time it is; default is the clock of the machine.

        Raises
        ------
        ConfigurationError
            A service or a setting is unknown or wrong.
        """
        settings = with_changes(load_settings(), services, store=store, mode=mode, record=record)
        return cls(settings, clock=clock)

    def __reduce__(self) -> tuple[Any, ...]:
        return Transport.of, (self.settings,)

    @property
    def tally(self) -> Tally:
        """What has been done so far."""
        with self._counting:
            return self._tally

    def take_tally(self) -> Tally:
        """Return what has been done since this was last called, and count from nothing again."""
        with self._counting:
            taken, self._tally = self._tally, Tally()
        return taken

    def token(self, service: str) -> str | None:
        """Return the token of a service from the environment; None if it has none or none is set."""
        variable = self.settings.service(service).token
        return os.environ.get(variable) or None if variable else None

    def ask(self, request: Request, *, pending: Callable[[bytes], bool] | None = None) -> Answer:
        """Return the answer to a request, from the store while it is good.

        Parameters
        ----------
        request
            What to ask.

        pending
            Tells whether a body says that the answer is still being made; then the service is asked
            again, less and less often.

        Raises
        ------
        ArchiveUnavailableError
            The service did not answer; ``retry_after`` says when it wants to be asked again.

        NoCoverageError
            It answered that nothing is there.

        BadAnswerError
            It sent something else than was asked for.

        AuthenticationNeededError
            It wants a token.
        """
        settings = self.settings.service(request.service)
        with _writing(self.settings.store):
            kept = self._store.find(request.key)
            found = self._from_store(request, kept)
            if found is not None:
                return found
            self._refuse_replay(request)
            return self._ask_until_ready(request, settings, kept, pending)

    def download(
        self, request: Request, path: Path, *, n_bytes: int | None = None, sha256: str | None = None
    ) -> Fetched:
        """Fetch a file; it appears under its name when it is whole and verified.

        What was fetched before a cut is kept and continued, also by another run.

        Parameters
        ----------
        request
            What to ask.

        path
            Where the file is to be.

        n_bytes
            Length that the archive has announced.

        sha256
            Checksum that the archive has announced.

        Raises
        ------
        ArchiveUnavailableError, NoCoverageError, BadAnswerError, AuthenticationNeededError
            As for `ask`.

        AstridError
            The file cannot be written (disk full).
        """
        settings = self.settings.service(request.service)
        announced = _Announced(n_bytes, sha256)
        with _writing(path):
            fetched = self._from_record(request, path, announced)
            if fetched is not None:
                return fetched
            self._refuse_replay(request)
            with open_part(self.settings.store / "parts", request.key) as part:
                checksum = self._persist(
                    request, settings, lambda: self._try_download(request, settings, part, announced), part
                )
                fetched = Fetched(path, part.size, checksum)
                now = mjd_of(self._clock.now())
                if self.settings.record:
                    self._store.keep(request, part.path, status=200, headers={}, mjd=now)
                place(part.path, path)
                part.drop()
        self._count(request.service, oldest_mjd=now)
        return fetched

    # --- the store ------------------------------------------------------------------------------

    def _from_store(self, request: Request, kept: Kept | None) -> Answer | None:
        """Return a kept answer that is still good, or raise what it says."""
        if kept is None or not self._is_good(kept, request):
            return None
        content = self._store.body(kept)
        if content is None:
            return None
        self._count(request.service, cache_hits=1, oldest_mjd=kept.fetched_mjd)
        if kept.status in request.nothing:
            _nothing(request, kept.status)
        return Answer(content, kept.status, kept.headers, kept.fetched_mjd, from_store=True)

    def _from_record(self, request: Request, path: Path, announced: _Announced) -> Fetched | None:
        """Copy a recorded file to its place."""
        kept = self._store.find(request.key)
        if kept is None or not self._is_good(kept, request):
            return None
        source = self._store.body_path(kept)
        is_file = kept.status not in request.nothing
        if source is None or (is_file and announced.wrong(kept.n_bytes, kept.sha256)):
            return None
        self._count(request.service, cache_hits=1, oldest_mjd=kept.fetched_mjd)
        if not is_file:
            _nothing(request, kept.status)
        copy_file(source, path)
        return Fetched(path, kept.n_bytes, kept.sha256)

    def _is_good(self, kept: Kept, request: Request) -> bool:
        if kept.status >= 400 and kept.status not in request.nothing:
            return False  # the question has changed its mind about what "nothing" is
        if self.settings.mode == "replay":
            return True
        lifetime = self.settings.lifetime[request.kind]
        if kept.status >= 400:
            lifetime = min(lifetime, self.settings.lifetime[NOTHING])
        return abs(mjd_of(self._clock.now()) - kept.fetched_mjd) * _DAY < lifetime

    def _refuse_replay(self, request: Request) -> None:
        if self.settings.mode == "replay":
            msg = (
                f"{request.shown}: not in the store {self.settings.store}, and replay asks nobody; record it"
            )
            raise ArchiveUnavailableError(msg)

    def _keep(self, request: Request, answer: Answer) -> None:
        """Keep an answer, unless it passes at once or repeats a secret."""
        passing = self.settings.lifetime[request.kind] == 0 and not self.settings.record
        telling = [s.encode() for s in _secrets(request) if len(s) >= _TELLING]
        if not passing and not any(secret in answer.content for secret in telling):
            self._store.keep(
                request,
                answer.content,
                status=answer.status,
                headers=answer.headers,
                mjd=answer.fetched_mjd,
            )

    # --- asking ---------------------------------------------------------------------------------

    def _ask_until_ready(
        self,
        request: Request,
        settings: ServiceSettings,
        kept: Kept | None,
        pending: Callable[[bytes], bool] | None,
    ) -> Answer:
        give_up = self._clock.now() + settings.longest_pending
        pause = _FIRST_PAUSE
        while True:
            answer = self._persist(request, settings, lambda: self._try_ask(request, settings, kept))
            if pending is None or answer.from_store or not pending(answer.content):
                break
            if self._clock.now() + pause > give_up:
                msg = f"{request.shown}: still at work after {settings.longest_pending:g} s; try again later"
                raise ArchiveUnavailableError(msg)
            self._wait(request.service, pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        if not answer.from_store:
            confirmed = kept is not None and kept.sha256 == hashlib.sha256(answer.content).hexdigest()
            self._count(request.service, revalidations=int(confirmed))
            self._keep(request, answer)
        self._count(request.service, oldest_mjd=answer.fetched_mjd)
        return answer

    def _try_ask(self, request: Request, settings: ServiceSettings, kept: Kept | None) -> Answer:
        known = self._store.body(kept) if kept is not None and kept.status < 400 else None
        conditions = {} if known is None or request.method != "GET" else _conditions(kept)
        with self._turn(request, settings), self._wire.send(request, settings, conditions) as reply:
            now = mjd_of(self._clock.now())
            if reply.status == 304 and conditions:
                self._count(request.service, revalidations=1)
                self._store.describe(request, replace(kept, fetched_mjd=now))
                return Answer(known, kept.status, kept.headers, now, from_store=True)
            self._judge(request, settings, reply)
            content = b"".join(reply.chunks)
        hide = _secrets(request)
        _believe(lambda: check_content(content, request.expects, request.shown, hide=hide))
        return Answer(content, reply.status, reply.headers, now)

    def _judge(self, request: Request, settings: ServiceSettings, reply: Reply) -> None:
        """Raise what a status says; return where the body is an answer."""
        status = reply.status
        if 200 <= status < 300:
            return
        wait = reply.wait(self._clock.now())
        if status in request.nothing:
            answer = Answer(b"", status, reply.headers, mjd_of(self._clock.now()))
            self._keep(request, answer)
            self._count(request.service, oldest_mjd=answer.fetched_mjd)
            _nothing(request, status)
        if status in (401, 403):
            raise AuthenticationNeededError(
                f"{request.shown}: {self._advice(request, settings)} (HTTP {status})"
            )
        said = first_bytes(_head(reply), hide=_secrets(request))
        if status in (408, 429) or status >= 500:
            raise Trouble(f"HTTP {status}: {said}", wait=wait)
        msg = f"{request.shown}: HTTP {status}: {said}"
        raise BadAnswerError(msg)

    def _advice(self, request: Request, settings: ServiceSettings) -> str:
        if settings.token is None:
            return f"{request.service} gives this to its own users only"
        if self.token(request.service) is None:
            return f"{request.service} wants a token; set the variable {settings.token}"
        return f"{request.service} refuses the token in {settings.token}; renew it"

    # --- downloads ------------------------------------------------------------------------------

    def _try_download(
        self, request: Request, settings: ServiceSettings, part: Part, announced: _Announced
    ) -> str:
        """Fetch what is missing, check the whole, and return its checksum."""
        if not part.is_whole:
            headers = {"Accept-Encoding": "identity", **part.wanted()}
            with self._turn(request, settings), self._wire.send(request, settings, headers) as reply:
                if reply.status == 416 and "Range" in headers:
                    part.end_here(reply.headers)
                else:
                    self._judge(request, settings, reply)
                    announced.compare_length(request, reply)
                    part.fill(reply.status, reply.headers, reply.chunks)
        try:
            return _believe(lambda: announced.check(request, part))
        except Trouble:
            part.drop()
            raise

    # --- patience -------------------------------------------------------------------------------

    def _persist(
        self,
        request: Request,
        settings: ServiceSettings,
        attempt: Callable[[], _T],
        part: Part | None = None,
    ) -> _T:
        """Try until it works, or until a service has had its tries."""
        failures, most = 0, 0
        while True:
            try:
                return attempt()
            except Trouble as error:
                trouble = error
            failures += 1
            if part is not None and part.wanted() and part.size >= most + _PROGRESS:
                failures, most = 1, part.size
            pause = min(settings.backoff * 2 ** (failures - 1), settings.longest_wait)
            if trouble.wait:
                self._limits.rest(request.service, trouble.wait)
                pause = 0.0  # the next start waits, for all processes
            last = failures > settings.retries or not request.repeatable
            if last or (trouble.wait or 0.0) > settings.longest_wait:
                _give_up(request, trouble, failures)
            _LOG.info("%s: %s; trying again", request.shown, trouble.why)
            self._count(request.service, retries=1)
            self._wait(request.service, pause)

    @contextmanager
    def _turn(self, request: Request, settings: ServiceSettings) -> Iterator[None]:
        """Wait for a turn at a service and hold it as long as the block lasts."""
        before = self._clock.now()
        with self._limits.slot(request.service, parallel=settings.parallel):
            rest = self._limits.start(
                request.service,
                per_second=settings.per_second,
                parallel=settings.parallel,
                longest_wait=settings.longest_wait,
            )
            self._count(request.service, waited_s=self._clock.now() - before)
            if rest:
                error = ArchiveUnavailableError(
                    f"{request.shown}: {request.service} asked to be left alone for {rest:.0f} s more"
                )
                error.retry_after = rest
                raise error
            _LOG.debug("%s", request.shown)
            yield

    def _wait(self, service: str, seconds: float) -> None:
        self._clock.sleep(seconds)
        self._count(service, waited_s=seconds)

    def _count(self, service: str, **counts: Any) -> None:
        with self._counting:
            self._tally += Tally({service: Counts(**counts)})


@dataclass(frozen=True)
class _Announced:
    """What an archive has said about a file before it was fetched."""

    n_bytes: int | None
    sha256: str | None

    def wrong(self, n_bytes: int, sha256: str) -> str | None:
        """Return what does not agree, in words."""
        if self.n_bytes is not None and n_bytes != self.n_bytes:
            return f"{n_bytes} bytes came, {self.n_bytes} were announced"
        if self.sha256 is not None and sha256 != self.sha256.lower():
            return f"its SHA-256 is {sha256}, {self.sha256} was announced"
        return None

    def compare_length(self, request: Request, reply: Reply) -> None:
        """Raise before anything is fetched that has not the announced length."""
        length = reply.headers.get("content-length", "")
        plain = reply.status == 200 and "content-encoding" not in reply.headers
        if plain and self.n_bytes is not None and length.isdecimal() and int(length) != self.n_bytes:
            msg = f"{request.shown}: {length} bytes are offered, {self.n_bytes} were announced"
            raise Trouble(msg, bad=True)

    def check(self, request: Request, part: Part) -> str:
        """Check a file that has arrived and return its checksum.

        Raises
        ------
        BadAnswerError
            It is something else, or damaged.
        """
        check_file(part.path, request.expects, request.shown, hide=_secrets(request))
        checksum = sha256_of(part.path)
        wrong = self.wrong(part.size, checksum)
        if wrong:
            raise BadAnswerError(f"{request.shown}: {wrong}")
        return checksum


def _believe(check: Callable[[], _T]) -> _T:
    """Run a check; what fails it may have been a passing page, so that it is asked for again."""
    try:
        return check()
    except BadAnswerError as error:
        said = str(error)
    raise Trouble(said, bad=True)


def _give_up(request: Request, trouble: Trouble, failures: int) -> NoReturn:
    if trouble.bad:
        text = trouble.why if trouble.why.startswith(request.shown) else f"{request.shown}: {trouble.why}"
        raise BadAnswerError(text)
    tries = "once" if failures == 1 else f"{failures} times"
    error = ArchiveUnavailableError(f"{request.shown}: {trouble.why} (asked {tries}); try again later")
    error.retry_after = trouble.wait
    raise error


def _nothing(request: Request, status: int) -> NoReturn:
    msg = f"{request.shown}: nothing there (HTTP {status})"
    raise NoCoverageError(msg)


def _conditions(kept: Kept) -> dict[str, str]:
    """Return the headers that ask for an answer only if it has changed."""
    names = {"If-None-Match": "etag", "If-Modified-Since": "last-modified"}
    return {header: kept.headers[name] for header, name in names.items() if name in kept.headers}


def _head(reply: Reply) -> bytes:
    """Return the start of the body of an error; what comes after a cut is of no interest."""
    content = b""
    try:
        for chunk in reply.chunks:
            content += chunk
            if len(content) >= _SHOWN_OF_AN_ERROR:
                break
    except Trouble:
        pass
    return content


def _secrets(request: Request) -> list[str]:
    """Return the values that nobody may see, as they are and as they look in a URL."""
    names = {name.lower() for name in request.secret}
    body = list(request.json.items()) if isinstance(request.json, dict) else []
    values = {
        str(value)
        for name, value in [*request.query, *(request.form or ()), *request.headers, *body]
        if name.lower() in names
    }
    values |= {value.split()[-1] for value in values if value.split()}  # "Token abc" is "abc"
    return sorted({form(v) for v in values if v for form in (str, quote, quote_plus)}, key=len, reverse=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what the disk says into one line for the user."""
    try:
        yield
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror or error}; mend that and try again: nothing is lost"
        raise AstridError(msg) from error
