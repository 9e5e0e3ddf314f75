"""Tests of the wheel and the sdist, and of the wheel installed in an environment of its own."""

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
    """Build the sdist, and the wheel from it, as a release does; return their directory."""
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory), str(_ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return directory


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return built / f"{_NAME}-py3-none-any.whl"


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel without extras in an environment of its own; return the directory of its commands."""
    directory = tmp_path_factory.mktemp("clean") / "venv"
    packages = [str(wheel), f"apache-airflow=={version('apache-airflow')}"]
    if shutil.which("uv"):
        subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, str(directory)], check=True, timeout=60)
        install = ["uv", "pip", "install", "--quiet", "--python", str(directory / "bin" / "python")]
    else:
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True, timeout=120)
        install = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, *packages], check=True, timeout=900)
    return directory / "bin"


def _tracked(directory: str) -> set[str]:
    """Return the repository's files below a directory, without what git ignores."""
    command = ["git", "-C", str(_ROOT), "ls-files", "--cached", "--others", "--exclude-standard", directory]
    return set(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split())


def _run(clean: Path, home: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the clean environment, away from the repository."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(clean / command[0]), *command[1:]],
        env={**inherited, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"), **environment},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_wheel_contains_only_the_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    inside = {name for name in names if name.startswith(f"{_PACKAGE}/")}
    assert inside == _tracked(_PACKAGE)
    assert f"{_PACKAGE}/py.typed" in inside
    metadata = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    assert names - inside == {f"{_NAME}.dist-info/{name}" for name in metadata}


def test_sdist_contains_everything_that_builds_and_tests_the_package(built: Path) -> None:
    with tarfile.open(built / f"{_NAME}.tar.gz") as archive:
        names = {member.name.removeprefix(f"{_NAME}/") for member in archive.getmembers() if member.isfile()}
    folders = (_PACKAGE, "tests", "example_dags", "docs", "scripts")
    whole = set().union(*(_tracked(folder) for folder in folders))
    pages = {name for name in _tracked("*.md") if "/" not in name}
    assert {"README.md", "CHANGELOG.md", "ARCHITECTURE.md"} <= pages
    files = {*pages, "LICENSE", "pyproject.toml", ".gitignore", "PKG-INFO"}
    assert names == whole | files


def test_metadata_has_licence_versions_urls_and_readme(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read(f"{_NAME}.dist-info/METADATA").decode())
    assert (metadata["Name"], metadata["License-Expression"]) == ("airflow-provider-hca", "Apache-2.0")
    assert metadata["Requires-Python"] == ">=3.11"
    classifiers = set(metadata.get_all("Classifier", []))
    assert {f"Programming Language :: Python :: {minor}" for minor in ("3.11", "3.12", "3.13")} <= classifiers
    assert {"Framework :: Apache Airflow :: Provider", "Typing :: Typed"} <= classifiers
    urls = dict(url.split(", ", 1) for url in metadata.get_all("Project-URL", []))
    assert set(urls) == {"Documentation", "Source", "Changelog", "Issues"}
    assert str(metadata.get_payload()).startswith("# airflow-provider-hca")


def test_metadata_has_no_upper_bounds_for_users(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read(f"{_NAME}.dist-info/METADATA").decode())
    requirements = metadata.get_all("Requires-Dist", [])
    assert "apache-airflow>=2.11" in requirements
    of_users = [requirement for requirement in requirements if "extra == 'dev'" not in requirement]
    assert not [requirement for requirement in of_users if "<" in requirement.partition(";")[0]]


def test_wheel_has_entry_points_of_provider_and_local_dss(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        entry_points = archive.read(f"{_NAME}.dist-info/entry_points.txt").decode().splitlines()
    assert "provider_info = airflow_provider_hca.get_provider_info:get_provider_info" in entry_points
    assert "dss-local = airflow_provider_hca.local.__main__:main" in entry_points


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("get", "airflow-provider-hca"), airflow_provider_hca.__version__),
        (("hooks",), "airflow_provider_hca.hooks.dss.DSSHook"),
        (("triggers",), "airflow_provider_hca.triggers.dss"),
    ],
)
def test_airflow_lists_the_installed_provider(
    clean: Path, tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    done = _run(clean, tmp_path, "airflow", "providers", *arguments, "--output", "json")
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
    assert not [row for row in json.loads(done.stdout[done.stdout.index("[") :]) if "mport error" in str(row)]


def test_installed_wheel_tests_a_connection(clean: Path, tmp_path: Path, dss: LocalDSS) -> None:
    environment = {"AIRFLOW__CORE__TEST_CONNECTION": "Enabled", "AIRFLOW_CONN_HCA_DSS_DEFAULT": connection(dss)}
    done = _run(clean, tmp_path, "airflow", "connections", "test", "hca_dss_default", **environment)
    assert "Connection success!" in done.stdout, done.stdout + done.stderr
    where = _run(clean, tmp_path, "python", "-c", "import airflow_provider_hca; print(airflow_provider_hca.__file__)")
    assert where.stdout.startswith(str(clean.parent))


@pytest.mark.parametrize(
    ("replica", "missing"),
    [
        ("aws", ["google.cloud", "google.api_core", "google.resumable_media"]),
        ("gcp", ["boto3", "botocore", "obstore"]),
    ],
)
def test_one_cloud_needs_no_sdk_of_the_other(
    clean: Path, tmp_path: Path, dss: LocalDSS, replica: str, missing: list[str]
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.json").write_text("{}")
    # An import of a module that is None in `sys.modules` is an ImportError, as if it were not installed.
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing})); "
        "from airflow_provider_hca.__main__ import main; main()"
    )
    arguments = ("upload", str(tmp_path / "files"), "--replica", replica, "--staging-bucket", dss.bucket)
    done = _run(clean, tmp_path, "python", "-c", code, *arguments, AIRFLOW_CONN_HCA_DSS_DEFAULT=connection(dss))
    assert done.returncode == 0, done.stderr
    uuid = done.stdout.strip().partition(".")[0]
    assert dss.http.get(f"{dss.url}/bundles/{uuid}?replica={replica}").status_code == 200


def test_local_dss_without_its_extra_names_the_extra(clean: Path, tmp_path: Path) -> None:
    ports = [word for name in ("--port", "--s3-port", "--objects-port") for word in (name, "0")]
    done = _run(clean, tmp_path, "dss-local", *ports)
    assert done.returncode == 2
    assert done.stderr.strip().endswith("is missing: pip install 'airflow-provider-hca[local]'")
