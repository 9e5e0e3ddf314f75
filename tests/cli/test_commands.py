"""Test the commands against the local DSS, in this process, or in subprocesses for signals."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow.cli import cli_config, cli_parser
from airflow.providers_manager import ProvidersManager

from airflow_provider_hca.__main__ import main
from tests.local.server import new_uuid
from tests.running import connection, requests_of
from tests.validation import samples

if TYPE_CHECKING:
    from tests.local.server import LocalDSS

_SECRET = "canary-secret"
# Airflow versions that do not read the provider's `cli` key have the commands of the module.
_HAS_GROUP = hasattr(ProvidersManager, "cli_command_functions") and hasattr(cli_config, "GroupCommand")
_PROGRAM = ["airflow", "hca"] if _HAS_GROUP else ["airflow_provider_hca"]


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, as Airflow's `main` does; a subprocess takes 6 s to start."""
    stdout, stderr = io.StringIO(), io.StringIO()
    code: int | str | None = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            if _HAS_GROUP:
                options = cli_parser.get_parser().parse_args(["hca", *arguments])
                options.func(options)
            else:
                main(list(arguments))
        except SystemExit as error:
            code = error.code
    assert isinstance(code, int), code
    return subprocess.CompletedProcess(arguments, code, stdout.getvalue(), stderr.getvalue())


def _run_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *_PROGRAM, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def _error(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """Return the error message of a failed command, which has no traceback and no output on stdout."""
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    assert _SECRET not in done.stderr
    return done.stderr


@pytest.fixture
def connected(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> LocalDSS:
    """Return the local DSS, configured as the default connection."""
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss))
    return dss


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory to upload."""
    place = tmp_path / "cell"
    (place / "reads").mkdir(parents=True)
    (place / "project.json").write_text('{"name": "cell"}')
    (place / "reads" / "one.fastq").write_text("ACGT" * 100)
    (place / "notes.txt").write_text("excluded")
    return place


@pytest.mark.parametrize("run", [_run, pytest.param(_run_process, marks=pytest.mark.system)])
def test_check_reports_the_url_and_both_replicas(
    connected: LocalDSS, run: Callable[[str], subprocess.CompletedProcess[str]]
) -> None:
    done = run("check")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{connected.url} answers and accepts the token",
        "replica aws: answers",
        "replica gcp: answers",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"password": _SECRET, "key_path": None, "keyfile_dict": None}, "credentials of this connection"),
        ({"host": "http://127.0.0.1:1/v1"}, "Check the host of this connection"),
        ({"host": "nonsense"}, "its host must be the full URL"),
    ],
)
def test_check_reports_errors(dss: LocalDSS, changes: dict[str, str], message: str) -> None:
    done = _run("check", AIRFLOW_CONN_HCA_DSS_DEFAULT=connection(dss, **changes))
    assert message in _error(done)


@pytest.mark.system
def test_connections_of_the_database_are_found(connected: LocalDSS, airflow_db: Path) -> None:
    settings = json.loads(connection(connected))
    add = ["connections", "add", "dss_of_the_database", "--conn-json", json.dumps(settings)]
    subprocess.run([sys.executable, "-m", "airflow", *add], check=True, capture_output=True, timeout=300)
    check = _run_process("check", "--conn-id", "dss_of_the_database")
    assert check.returncode == 0, check.stderr
    assert "dss_of_nowhere" in _error(_run_process("check", "--conn-id", "dss_of_nowhere"))


def test_upload_twice_and_get(connected: LocalDSS, directory: Path, tmp_path: Path) -> None:
    upload = (
        "upload",
        str(directory),
        "--staging-bucket",
        connected.bucket,
        "--exclude",
        "*.txt",
        "--max-workers",
        "2",
    )
    first = _run(*upload)
    assert first.returncode == 0, first.stderr
    assert requests_of(connected, "PUT", "/v1/files/") == 2
    again = _run(*upload)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert requests_of(connected, "PUT", "/v1/files/") == 2

    fqid, target = first.stdout.strip(), tmp_path / "fetched"
    got = _run("get", fqid, str(target))
    assert (got.returncode, got.stdout.strip()) == (0, fqid), got.stderr
    assert {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()} == {
        "project.json",
        "reads/one.fastq",
    }
    assert (target / "reads" / "one.fastq").read_text() == "ACGT" * 100


def test_plan_and_upload_with_a_key(connected: LocalDSS, directory: Path) -> None:
    key = ("--bundle-key", f"cli/{directory}")
    plan = ("plan", str(directory), *key)
    upload = ("upload", str(directory), "--staging-bucket", connected.bucket, *key)
    planned = json.loads(_run(*plan, "--json").stdout)
    names = sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
    assert (planned["added"], planned["changed"], planned["removed"], planned["unchanged"]) == (names, [], [], 0)
    assert planned["bytes"] == sum((directory / name).stat().st_size for name in names)
    assert planned["requests"] == len(names) + 1
    limited = json.loads(_run(*plan, "--json", "--max-requests-per-second", "0.5").stdout)
    assert (planned["seconds"] < limited["seconds"], limited["seconds"]) == (True, 2.0 * (len(names) + 1))
    first = _run(*upload)
    assert first.returncode == 0, first.stderr
    assert _run(*upload).stdout == first.stdout
    (directory / names[0]).unlink()
    assert f"1 removed ({names[0]!r})" in _run(*plan).stdout
    second = _run(*upload)
    assert (second.returncode, second.stdout[:36]) == (0, first.stdout[:36])
    assert second.stdout > first.stdout
    assert json.loads(_run(*plan, "--json").stdout) == {
        "added": [],
        "changed": [],
        "removed": [],
        "unchanged": len(names) - 1,
        "bytes": 0,
        "requests": 0,
        "seconds": 0.0,
    }


def test_plan_needs_a_bundle(connected: LocalDSS, directory: Path) -> None:
    assert "give --bundle-key or --bundle-uuid" in _error(_run("plan", str(directory)))


@pytest.fixture
def metadata(tmp_path: Path) -> tuple[str, str]:
    """Return directories of valid metadata and of its schemas."""
    files = samples.bundle() | {"salt.txt": new_uuid().encode()}
    return str(samples.write(tmp_path / "bundle", files)), str(samples.write_schemas(tmp_path / "schemas"))


def test_validate_prints_findings_and_exits_with_1(metadata: tuple[str, str]) -> None:
    directory, schemas = metadata
    command = ("validate", directory, "--schemas", schemas)
    valid = _run(*command)
    assert valid.returncode == 0, valid.stderr
    assert "documents: 5 valid, 0 invalid" in valid.stdout
    samples.write(Path(directory), {"cell_1.json": {"describedBy": f"{samples.HOST}/type/biomaterial/2.0.0/cell"}})
    text, as_json = _run(*command), _run(*command, "--json")
    assert (text.returncode, as_json.returncode) == (1, 1)
    assert "error (schema-version): $.describedBy: the schemas do not have type/biomaterial/2.0.0/cell" in text.stdout
    report = json.loads(as_json.stdout)
    assert (report["documents_valid"], report["documents_invalid"]) == (5, 1)
    assert [finding["file"] for finding in report["findings"]] == ["cell_1.json"]
    warned = _run(*command, "--missing-schemas", "warning")
    assert (warned.returncode, "warning (schema-version)" in warned.stdout) == (0, True)
    for option in (("--exclude", "cell_1.json"), ("--indexed", "*[!1].json")):
        assert _run(*command, *option).stdout == valid.stdout, option


def test_validate_reads_prefixes(connected: LocalDSS, metadata: tuple[str, str]) -> None:
    directory, schemas = metadata
    prefix = f"incoming/{new_uuid()}"
    for path in Path(directory).iterdir():
        connected.s3.put_object(Bucket=connected.bucket, Key=f"{prefix}/{path.name}", Body=path.read_bytes())
    done = _run("validate", f"s3://{connected.bucket}/{prefix}", "--schemas", schemas, "--json")
    assert (done.returncode, json.loads(done.stdout)["documents_valid"]) == (0, 5), done.stderr


def test_validate_reports_errors(metadata: tuple[str, str]) -> None:
    directory, schemas = metadata
    assert "schemas must be a directory" in _error(_run("validate", directory, "--schemas", "/nowhere"))
    assert "no such directory" in _error(_run("validate", "/nowhere", "--schemas", schemas))


def test_upload_and_plan_validate_first(connected: LocalDSS, metadata: tuple[str, str]) -> None:
    directory, schemas = metadata
    key = ("--bundle-key", f"cli/{directory}")
    plan = ("plan", directory, *key, "--validate", schemas)
    upload = ("upload", directory, "--staging-bucket", connected.bucket, *key, "--validate", schemas)
    (Path(directory) / "project_0.json").rename(Path(directory) / "project")
    for command in (plan, upload):
        assert "error (required): is missing: every bundle has it: project_0.json" in _error(_run(*command))
    assert requests_of(connected, "PUT", "/") == 0
    (Path(directory) / "project").rename(Path(directory) / "project_0.json")
    for command in (plan, upload):
        done = _run(*command)
        assert (done.returncode, "documents: 5 valid" in done.stderr) == (0, True), done.stderr


def test_upload_of_a_prefix(connected: LocalDSS, tmp_path: Path) -> None:
    for name in ("a.json", "b/c.txt"):
        connected.s3.put_object(Bucket=connected.bucket, Key=f"incoming/cli/{name}", Body=name.encode())
    upload = ("upload", f"s3://{connected.bucket}/incoming/cli", "--staging-bucket", connected.bucket)
    first = _run(*upload)
    assert first.returncode == 0, first.stderr
    assert _run(*upload).stdout == first.stdout
    assert _run("get", first.stdout.strip(), str(tmp_path)).returncode == 0
    assert (tmp_path / "b" / "c.txt").read_text() == "b/c.txt"
    assert "give replica='aws'" in _error(_run(*upload, "--replica", "gcp"))


def test_changed_content_creates_a_new_version(connected: LocalDSS, directory: Path) -> None:
    upload = ("upload", str(directory), "--staging-bucket", connected.bucket)
    before = _run(*upload).stdout.strip()
    (directory / "notes.txt").write_text("changed")
    after = _run(*upload).stdout.strip()
    assert before.partition(".")[0] == after.partition(".")[0]
    assert before.partition(".")[2] < after.partition(".")[2]


def test_bundle_uuid_version_and_content_type_options(connected: LocalDSS, directory: Path) -> None:
    names = ("6a1e2b3c-4d5e-4f60-8123-456789abcdef", "2026-01-02T030405.000006Z")
    done = _run(
        *("upload", str(directory), "--staging-bucket", connected.bucket),
        *("--bundle-uuid", names[0], "--bundle-version", names[1], "--content-type", "*.fastq=text/x-reads"),
    )
    assert done.stdout.strip() == ".".join(names), done.stderr
    bundle = connected.call("GET", f"/bundles/{names[0]}", replica="aws").json()["bundle"]
    kinds = {file["name"]: file["content-type"] for file in bundle["files"]}
    assert kinds["reads/one.fastq"].startswith("text/x-reads")


def test_aws_conn_id_overrides_the_environment(connected: LocalDSS, directory: Path) -> None:
    environment = connected.about["env"]
    keys = {"login": environment["AWS_ACCESS_KEY_ID"], "password": environment["AWS_SECRET_ACCESS_KEY"]}
    store = {"conn_type": "aws", **keys, "extra": {"endpoint_url": environment["AWS_ENDPOINT_URL_S3"]}}
    upload = ("upload", str(directory), "--staging-bucket", connected.bucket, "--aws-conn-id", "store")
    elsewhere = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}
    done = _run(*upload, AIRFLOW_CONN_STORE=json.dumps(store), **elsewhere)
    assert done.returncode == 0, done.stderr
    assert "connection 'store' is not defined" in _error(_run(*upload, **elsewhere))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("upload", "/nowhere", "--staging-bucket", "dss-staging"), "/nowhere"),
        (("upload", ".", "--staging-bucket", "dss-staging", "--content-type", "x"), "PATTERN=TYPE"),
        (("get", "not-a-uuid", "not-created"), "not-a-uuid"),
        (("download", "not-created"), "give one of --bundle, --collection and --manifest"),
        (("download", "not-created", "--collection", "6a1e2b3c-4d5e-4f60-8123-000000000000"), "404"),
        (("get", "6a1e2b3c-4d5e-4f60-8123-000000000000", "not-created"), "404"),
    ],
)
def test_errors_name_the_argument(connected: LocalDSS, arguments: tuple[str, ...], message: str) -> None:
    assert message in _error(_run(*arguments))
    assert requests_of(connected, "PUT", "/") == 0
    assert not Path("not-created").exists()


@pytest.mark.parametrize("option", ["--max-workers=0", "--max-bytes-per-second=-1", "--replica=azure"])
def test_invalid_options_exit_with_2(option: str) -> None:
    done = _run("upload", ".", "--staging-bucket", "b", option)
    assert done.returncode == 2
    assert option.partition("=")[0] in done.stderr + done.stdout


def test_download_prints_a_report_and_exits_with_1_after_failures(connected: LocalDSS, tmp_path: Path) -> None:
    bundle, target = new_uuid(), tmp_path / "t"
    assert connected.put_bundle([connected.entry("a.gz"), connected.entry("b.gz")], bundle).status_code == 201
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text(f"bundle_uuid\tfile_name\n{bundle}\ta.gz\n")
    done = _run("download", str(target), "--manifest", str(manifest), "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["downloaded"], report["file_count"]) == (0, 1, 1), done.stderr
    (place,) = target.iterdir()
    assert [path.name for path in place.iterdir()] == ["a.gz"]
    done = _run("download", str(target), "--bundle", bundle, "--bundle", new_uuid(), "--data-files", "b*")
    assert (done.returncode, done.stdout.splitlines()[0].partition(";")[0]) == (
        1,
        "1 downloaded, 0 unchanged, 1 failed",
    )
    assert sorted(path.name for path in place.iterdir()) == ["a.gz", "b.gz"]


@pytest.mark.parametrize("command", ["check", "validate", "upload", "get", "download", "local"])
def test_help(command: str) -> None:
    done = _run(command, "--help")
    assert done.returncode == 0, done.stderr
    expected = {
        "upload": "--staging-bucket",
        "validate": "--schemas",
        "get": "--data-files",
        "download": "--collection",
        "local": "--sync-delay",
    }.get(command, "--conn-id")
    assert expected in done.stdout


@pytest.mark.system
def test_local_serves_until_term(tmp_path: Path) -> None:
    command = [sys.executable, "-m", *_PROGRAM, "local", "--json", "--state", str(tmp_path / "state")]
    ports = [word for name in ("--port", "--s3-port", "--objects-port") for word in (name, "0")]
    with subprocess.Popen([*command, *ports], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        about = json.loads(process.stdout.readline())
        process.terminate()
        assert process.wait(120) == 0
    assert about["dss_url"].startswith("http://127.0.0.1:")


@pytest.mark.system
@pytest.mark.parametrize("command", ["upload", "local"])
def test_ctrl_c_exits_with_130(connected: LocalDSS, directory: Path, tmp_path: Path, command: str) -> None:
    slow = {"method": "PUT", "path": "/files/", "action": "slow", "seconds": 2, "times": 99}
    connected.control("POST", "faults", slow)
    ports = [word for name in ("--port", "--s3-port", "--objects-port") for word in (name, "0")]
    arguments, started = {
        "upload": ([str(directory), "--staging-bucket", connected.bucket], "uploading"),
        "local": (["--state", str(tmp_path / "state"), *ports], "is ready"),
    }[command]
    with subprocess.Popen(
        [sys.executable, "-m", *_PROGRAM, command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        while started not in (line := process.stdout.readline()):
            assert line, f"{command} ended too early"
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
        output = process.stdout.read()
    assert ": stopped" in output.splitlines()[-1]
    assert "Traceback" not in output
