"""What a user sees in a headless browser: Dagster UI (graph, partition, preview, check) and the reports."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from astrid_assets.automation.runs import run_fields
from astrid_assets.definitions import defs
from astrid_assets.storage.layout import ASSETS, RELEASE_ASSETS
from astrid_assets_tests.tiny import install, tiny_field

pytestmark = [pytest.mark.ui, pytest.mark.service]

ROOT = Path(__file__).parent.parent
PATIENCE = 40.0
"""Seconds after which a page, a server or a browser that did not answer counts as broken."""

SHOWN = """
new Promise(resolve => {
    const wanted = %s
    const look = () => {
        const text = document.body ? document.body.innerText : ""
        if (wanted.every(one => text.includes(one))) { observer.disconnect(); resolve(true) }
    }
    const observer = new MutationObserver(look)
    observer.observe(document, {subtree: true, childList: true, characterData: true})
    look()
})
"""
"""Resolves as soon as all that is wanted stands on the page."""

PREVIEW = """
new Promise(resolve => {
    const width = () => {
        const picture = document.querySelector('img[src^="data:image/png"]')
        if (picture && picture.complete) { observer.disconnect(); resolve(picture.naturalWidth) }
    }
    const observer = new MutationObserver(width)
    observer.observe(document, {subtree: true, childList: true, attributes: true})
    const links = [...document.querySelectorAll("button, a, span, div")]
    links.filter(one => one.textContent === "[Show Markdown]").pop().click()
    width()
})
"""
"""Opens the picture in the metadata; resolves to its width in pixels."""

FOREIGN = """
Promise.resolve(performance.getEntriesByType("resource").map(one => one.name)
    .filter(name => !name.startsWith("data:") && !name.startsWith("file:")))
"""
"""What a page loaded from elsewhere."""

BROKEN = """
Promise.all([...document.images]
    .map(one => one.decode().then(() => null, () => one.alt || one.src.slice(0, 80))))
    .then(found => found.filter(one => one !== null))
"""
"""Pictures that cannot be shown."""

SENSORS_AND_SCHEDULES = {"nightly", "release_when_quiet", "field_sync", "reaper", "failures"}


class Page:
    """A page of a headless browser, steered by the Chrome DevTools protocol."""

    def __init__(self, connection: ClientConnection, server: str) -> None:
        self._connection, self._server, self._sent = connection, server, 0
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self._command(f"{domain}.enable")

    def open(self, path: str, *wanted: str) -> None:
        """Go to a path and wait until all that is wanted stands there."""
        self._command("Page.navigate", url=self._server + path)
        self.evaluate(SHOWN % json.dumps(wanted), f"{', '.join(wanted)} on {path}")

    def open_file(self, path: Path, *wanted: str) -> None:
        """Look at a file of the disk."""
        self._command("Page.navigate", url=path.as_uri())
        self.evaluate(SHOWN % json.dumps(wanted), f"{', '.join(wanted)} in {path.name}")

    def wide(self, pixels: int) -> None:
        """Make the window as wide as a screen is; below 600 pixels it is a phone."""
        self._command(
            "Emulation.setDeviceMetricsOverride",
            width=pixels,
            height=1000,
            deviceScaleFactor=1,
            mobile=pixels < 600,
        )

    def evaluate(self, code: str, what: str) -> Any:
        """Return what a promise resolves to."""
        try:
            answer = self._command("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        except TimeoutError:
            pytest.fail(f"the UI does not show {what}; it said {self.errors}")
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"]["value"]

    def _command(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._sent += 1
        self._connection.send(json.dumps({"id": self._sent, "method": method, "params": parameters}))
        end = time.monotonic() + PATIENCE
        while True:
            message = json.loads(self._connection.recv(timeout=max(0.0, end - time.monotonic())))
            if message.get("id") == self._sent:
                return message["result"]
            self._note(message.get("method"), message.get("params"))

    def _note(self, event: str | None, parameters: dict[str, Any]) -> None:
        """Keep what the console reports as an error."""
        if event == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and parameters["type"] == "error":
            self.errors.append(str(parameters["args"]))
        elif event == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(str(parameters["entry"]))


@contextlib.contextmanager
def running(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen]:
    """Run a program that ends when the block does."""
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, **options)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def answer(port: int, path: str, process: subprocess.Popen, log: Path) -> bytes:
    """Return what a server answers as soon as it does, unless it ends before."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        server = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            server.request("GET", path)
            return server.getresponse().read()
        except ConnectionError:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.1)
                break
        finally:
            server.close()
    pytest.fail(f"{path} is not served:\n{log.read_text()[-2000:]}")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium to look at the UI with")
    return found


@pytest.fixture(scope="module")
def home(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of an instance that holds one field."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        install(tiny_field("tiny_draco", side=512, epochs=1, seed=5))
        summary = run_fields(["tiny_draco"], workers=1)
        assert summary.ok, (summary.fields[0].error, summary.release)
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[str]:
    """The webserver."""
    port, log = free_port(), home / "webserver.log"
    command = [sys.executable, "-m", "dagster_webserver", "-w", "workspace.yaml", "-p", str(port)]
    environment = {**os.environ, "DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "true"}
    with running(command, log, cwd=ROOT, env=environment) as process:
        answer(port, "/server_info", process, log)
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def page(chromium: str, server: str, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder, port = tmp_path_factory.mktemp("chromium"), free_port()
    off = ["background-networking", "component-update", "dev-shm-usage", "extensions", "gpu", "quic", "sync"]
    command = [chromium, "--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{one}" for one in off)]
    # so wide that no name is abridged
    command += [f"--user-data-dir={folder}", f"--remote-debugging-port={port}", "--window-size=2600,1200"]
    log = folder.with_suffix(".log")
    with running([*command, "about:blank"], log) as process:
        targets = json.loads(answer(port, "/json", process, log))
        target = next(one for one in targets if one["type"] == "page")
        with connect(target["webSocketDebuggerUrl"], max_size=None) as connection:
            yield Page(connection, server)


def test_what_a_user_sees(page: Page, home: Path):
    """One test, so that parallel workers do not each set up field, server and browser."""
    look_at_the_ui(page)
    look_at_the_pages(page, home / "data")
    assert page.errors == []


def look_at_the_ui(page: Page) -> None:
    """Groups and assets; a partition, its preview, a check; runs; what runs by itself."""
    # the graph opens with its groups folded; unfolded, it draws only what is in the window
    page.open("/asset-groups", *sorted({spec.group_name for spec in defs.resolve_all_asset_specs()}))
    page.open("/assets", *ASSETS, *RELEASE_ASSETS)

    asset = "/assets/zogy_differences"
    page.open(f"{asset}?view=partitions&partition=tiny_draco", "tiny_draco\nMaterialized", "median_scorr_std")
    assert page.evaluate(PREVIEW, "the preview") > 300

    page.open(
        f"{asset}?view=checks&checkDetail=scorr_distribution",
        "Evaluation result",
        "tiny_draco",
        "scorr_mad_std_median",
    )
    page.open("/runs", "partition: tiny_draco", "Success")
    page.open("/automation", *sorted(SENSORS_AND_SCHEDULES))


def look_at_the_pages(page: Page, data: Path) -> None:
    """Nothing is loaded from elsewhere, no picture is broken; `reports/test_pages_ui.py` looks closer."""
    for path in (data / "reports" / "tiny_draco" / "index.html", data / "catalog" / "index.html"):
        page.open_file(path, "tiny_draco")
        assert page.evaluate(FOREIGN, "what is loaded") == []
        assert page.evaluate(BROKEN, "the pictures") == []
