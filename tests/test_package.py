"""What is published: the wheel and the sdist, and the wheel installed where there is nothing else of the project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import airflow_provider_hca
from tests.running import connection

if TYPE_CHECKING:
    from tests.local.server import LocalDSS

pytestmark = pytest.mark.system

_ROOT = Path(__file__).parent.parent
_PACKAGE = "airflow_provider_hca"
_NAME = f"{_PACKAGE}-{airflow_provider_hca.__version__}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and the wheel from it, as who publishes does; return their directory."""
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory), str(_ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return directory


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """Return the wheel."""
    return built / f"{_NAME}-py3-none-any.whl"


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel, without extras, in an environment of its own; return where its commands are."""
    directory = tmp_path_factory.mktemp("clean") / "venv"
    what = [str(wheel), f"apache-airflow=={version('apache-airflow')}"]
    if shutil.which("uv"):
        subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, str(directory)], check=True, timeout=60)
        install = ["uv", "pip", "install", "--quiet", "--python", str(directory / "bin" / "python")]
    else:
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True, timeout=120)
        install = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, *what], check=True, timeout=900)
    return directory / "bin"


def _tracked(directory: str) -> set[str]:
    """Return the repository's files below a directory, without what git ignores."""
    command = ["git", "-C", str(_ROOT), "ls-files", "--cached", "--others", "--exclude-standard", directory]
    return set(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split())


def _run(clean: Path, home: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the clean environment, away from the repository."""
    return subprocess.run(
        [str(clean / command[0]), *command[1:]],
        env={**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"), **environment},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Each file of the package is in the wheel, with `py.typed` and the licence; tests, examples, docs are not."""
    names = set(zipfile.ZipFile(wheel).namelist())
    inside = {name for name in names if name.startswith(f"{_PACKAGE}/")}
    assert inside == _tracked(_PACKAGE)
    assert f"{_PACKAGE}/py.typed" in inside
    told = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    assert names - inside == {f"{_NAME}.dist-info/{each}" for each in told}


def test_the_sdist_holds_what_builds_and_tests_it(built: Path) -> None:
    """The sdist has package, tests, examples, docs and scripts as they are in the repository, and no other file."""
    with tarfile.open(built / f"{_NAME}.tar.gz") as archive:
        names = {member.name.removeprefix(f"{_NAME}/") for member in archive.getmembers() if member.isfile()}
    folders = (_PACKAGE, "tests", "example_dags", "docs", "scripts")
    whole = set().union(*(_tracked(folder) for folder in folders))
    files = {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", ".gitignore", "PKG-INFO"}
    assert names == whole | files


def test_the_metadata_says_what_it_is_for(wheel: Path) -> None:
    """Licence, Pythons, Airflow and the README are in the metadata, and no dependency of users has an upper bound."""
    with zipfile.ZipFile(wheel) as archive:
        told = Parser().parsestr(archive.read(f"{_NAME}.dist-info/METADATA").decode())
    assert (told["Name"], told["License-Expression"]) == ("airflow-provider-hca", "Apache-2.0")
    assert told["Requires-Python"] == ">=3.11"
    classifiers = set(told.get_all("Classifier", []))
    assert {f"Programming Language :: Python :: {each}" for each in ("3.11", "3.12", "3.13")} <= classifiers
    assert {"Framework :: Apache Airflow :: Provider", "Typing :: Typed"} <= classifiers
    needed = told.get_all("Requires-Dist", [])
    assert "apache-airflow>=2.11" in needed
    of_users = [each for each in needed if "extra == 'dev'" not in each]
    assert not [each for each in of_users if "<" in each.partition(";")[0]]
    assert str(told.get_payload()).startswith("# airflow-provider-hca")


def test_it_is_announced(wheel: Path) -> None:
    """The wheel's entry points name the provider's description and the local DSS's command."""
    with zipfile.ZipFile(wheel) as archive:
        told = archive.read(f"{_NAME}.dist-info/entry_points.txt").decode().splitlines()
    assert "provider_info = airflow_provider_hca.get_provider_info:get_provider_info" in told
    assert "dss-local = airflow_provider_hca.local.__main__:main" in told


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (("get", "airflow-provider-hca"), airflow_provider_hca.__version__),
        (("hooks",), "airflow_provider_hca.hooks.dss.DSSHook"),
        (("triggers",), "airflow_provider_hca.triggers.dss"),
    ],
)
def test_airflow_shows_what_is_installed(clean: Path, tmp_path: Path, what: tuple[str, ...], expected: str) -> None:
    """With nothing but the wheel installed, Airflow's own commands show the provider, its hook and its triggers."""
    done = _run(clean, tmp_path, "airflow", "providers", *what, "--output", "json")
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
    assert not [row for row in json.loads(done.stdout[done.stdout.index("[") :]) if "mport error" in str(row)]


def test_what_is_installed_reaches_a_dss(clean: Path, tmp_path: Path, dss: LocalDSS) -> None:
    """With nothing but the wheel installed, a connection is tested against a DSS, and no file of the tests is there."""
    environment = {"AIRFLOW__CORE__TEST_CONNECTION": "Enabled", "AIRFLOW_CONN_HCA_DSS_DEFAULT": connection(dss)}
    done = _run(clean, tmp_path, "airflow", "connections", "test", "hca_dss_default", **environment)
    assert "Connection success!" in done.stdout, done.stdout + done.stderr
    where = _run(clean, tmp_path, "python", "-c", "import airflow_provider_hca as it; print(it.__file__)")
    assert where.stdout.startswith(str(clean.parent))


def test_without_its_extra_the_local_dss_says_what_to_install(clean: Path, tmp_path: Path) -> None:
    """The local DSS's command, where the extra `local` is missing, ends in one sentence that names it."""
    ports = [word for name in ("--port", "--s3-port", "--objects-port") for word in (name, "0")]
    done = _run(clean, tmp_path, "dss-local", *ports)
    assert done.returncode == 2
    assert done.stderr.strip().endswith("is missing: pip install 'airflow-provider-hca[local]'")
