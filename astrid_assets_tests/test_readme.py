"""What the README tells its readers to type works: every command, every snippet, on small data, offline."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from astrid_assets.cli import main
from astrid_assets.clock import DEMO_CLOCK, pin_simulated_clock
from astrid_assets.fields import Field, load_fields, parse_fields
from astrid_assets.training.vetting import read_vetting
from astrid_assets_tests.tiny import SHIPPED, tiny_field, write_pair

ROOT = Path(__file__).parent.parent
LANGUAGES = {"console", "sh", "python", "yaml", "csv", "text", "mermaid"}

# services and the tests themselves are looked at, not run; nothing is installed
MAKE = """\
#!/bin/sh
case "$1" in
  ui | test) exec {make} -n -o .venv/.ready "$@" ;;
  *) exec {make} -o .venv/.ready "$@" ;;
esac
"""
ASTRID = """\
#!/bin/sh
exec {python} -m astrid_assets.cli "$@"
"""


# what a reader finds on the page of a field
NAME_A_CANDIDATE = """
name_a_candidate() {
  python - <<'END'
import pathlib, pyarrow.parquet as pq
tables = map(pq.read_table, pathlib.Path("dagster_home/data/candidates").glob("*/candidates.parquet"))
rows = [row for table in tables for row in table.to_pylist() if not row["artifact"]]
print(rows[0]["candidate_id"])
END
}
"""


def blocks(language: str) -> list[str]:
    """Return the code blocks of the README in a language."""
    text = (ROOT / "README.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_every_block_says_what_it_is():
    text = (ROOT / "README.md").read_text()
    opened = re.findall(r"^```(.*)$", text, re.MULTILINE)[::2]
    assert set(opened) <= LANGUAGES


@pytest.mark.parametrize("text", blocks("yaml"))
def test_registry_snippets_are_valid(text: str):
    assert len(parse_fields(text)) == 1


@pytest.mark.parametrize("text", blocks("csv"))
def test_vetting_snippets_are_valid(text: str):
    assert len(read_vetting(text.splitlines())) == 1


def test_every_variable_of_the_platform_is_in_the_table():
    """Also the other way round: the table names no variable that nothing reads."""
    table = (ROOT / "README.md").read_text().split("| variable |")[1].split("\n\n")[0]
    files = [*(ROOT / "astrid_assets").rglob("*.py"), ROOT / "astrid_assets_tests" / "conftest.py"]
    read = {name for file in files for name in re.findall(r"\"(ASTRID_[A-Z_]*[A-Z])\"", file.read_text())}
    assert set(re.findall(r"ASTRID_[A-Z_]+", table)) == read


def test_every_command_is_in_the_table():
    from astrid_assets.cli import astrid

    table = (ROOT / "README.md").read_text().split("| command |")[1].split("\n\n")[0]
    assert set(re.findall(r"`astrid (\w+)", table)) == set(astrid.commands)


INLINE = re.findall(r"`((?:astrid|dg|dagster|dagster-daemon) [^`|]+?)`", (ROOT / "README.md").read_text())


@pytest.mark.parametrize("command", sorted(set(INLINE)))
def test_commands_in_the_text_exist(command: str, capsys: pytest.CaptureFixture):
    """Whether the words are a command, and its options known; what it does is tested elsewhere."""
    words = [w for w in command.replace("[", "").replace("]", "").split() if w != "..."]
    names = [w for w in words if w == w.lower() and not w.startswith("-") and not w.isdigit()]
    options = [w for w in words if w.startswith("--")]
    if names[0] == "astrid":
        with pytest.raises(SystemExit) as stopped:
            main([*names[1:], "--help"])
        status, told = stopped.value.code, capsys.readouterr().out
    else:
        program = Path(sys.executable).with_name(names[0])
        done = subprocess.run([program, *names[1:], "--help"], capture_output=True, text=True, check=False)
        status, told = done.returncode, done.stdout
    assert status == 0
    assert [option for option in options if option not in told] == []


def _environment(folder: Path) -> None:
    """Make an environment that is the one of this process, with this checkout's `astrid`."""
    (folder / "bin").mkdir(parents=True)
    for part in Path(sys.prefix).iterdir():
        if part.name != "bin":
            (folder / part.name).symlink_to(part)
    for program in Path(sys.prefix, "bin").iterdir():
        if program.name == "activate":
            text = program.read_text().replace(sys.prefix, str(folder))
            (folder / "bin" / program.name).write_text(text)
        elif program.name != "astrid":
            (folder / "bin" / program.name).symlink_to(program)
    _write_program(folder / "bin" / "astrid", ASTRID.format(python=sys.executable))


def _write_program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like a checkout with an environment, but whose demo fields are small."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("Makefile", "workspace.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "dagster_home").mkdir()
    shutil.copy(SHIPPED / "dagster.yaml", folder / "dagster_home")
    places = {name: {"ra": field.ra, "dec": field.dec} for name, field in _demo_fields().items()}
    fields = (tiny_field(name, side=384, **place) for name, place in places.items())
    (folder / "dagster_home" / "fields.yaml").write_text("".join(fields))
    _environment(folder / ".venv")
    _write_program(folder / "bin" / "make", MAKE.format(make=shutil.which("make")))
    return folder


def _demo_fields() -> dict[str, Field]:
    fields = load_fields(SHIPPED / "fields.yaml")
    return {name: field for name, field in fields.items() if field.archives == ("simulated",)}


@pytest.mark.slow
@pytest.mark.service
def test_every_command_and_snippet_runs(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """From the first line to the last, in their order; what one makes, the next ones use."""
    images = tmp_path / "home" / "images" / "m51"
    images.mkdir(parents=True)
    write_pair(images, ra=202.4696, dec=47.1952, mjds=(60400.0, 59800.0))
    write_pair(checkout)
    monkeypatch.setenv("DAGSTER_HOME", str(checkout / "dagster_home"))
    pin_simulated_clock(DEMO_CLOCK)
    environment = os.environ | {
        "HOME": str(tmp_path / "home"),
        "PATH": f"{checkout / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "ASTRID_WORKERS": "1",
    }
    script = ["set -e", NAME_A_CANDIDATE]
    for number, text in enumerate(_runnable(), 1):
        ready = 'CANDIDATE="${CANDIDATE:-$(name_a_candidate)}"' if "$CANDIDATE" in text else ":"
        script += [f"cd '{checkout}'", f"echo '::: block {number}' >&2", ready, text]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def _runnable() -> list[str]:
    """Return the commands and the Python snippets as shell text, in the order of the README."""
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"^```(sh|python)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [code if kind == "sh" else f"python - <<'END'\n{code}END" for kind, code in found]
