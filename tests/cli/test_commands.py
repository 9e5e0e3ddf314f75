"""The commands against the local DSS: in this process, and in processes of their own where signals matter."""

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
from tests.running import connection, requests_of

if TYPE_CHECKING:
    from tests.local.server import LocalDSS

_SECRET = "canary-that-nobody-may-see"
# An Airflow that does not read the provider's `cli` key has the same commands below the module.
_HAS_GROUP = hasattr(ProvidersManager, "cli_command_functions") and hasattr(cli_config, "GroupCommand")
_PROGRAM = ["airflow", "hca"] if _HAS_GROUP else ["airflow_provider_hca"]


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, as Airflow's own `main` does; a process of its own takes 6 s to start."""
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


def _complaint(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """Return what a failed command says; it is no traceback, and nothing is on stdout."""
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    assert _SECRET not in done.stderr
    return done.stderr


@pytest.fixture
def connected(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> LocalDSS:
    """Give the local DSS, to which the default connection leads."""
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss))
    return dss


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory to upload."""
    place = tmp_path / "cell"
    (place / "reads").mkdir(parents=True)
    (place / "project.json").write_text('{"name": "cell"}')
    (place / "reads" / "one.fastq").write_text("ACGT" * 100)
    (place / "notes.txt").write_text("not to be taken")
    return place


@pytest.mark.parametrize("run", [_run, pytest.param(_run_process, marks=pytest.mark.system)])
def test_check(connected: LocalDSS, run: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    """A good connection is said to be one, with its address and both replicas, and the exit code is 0."""
    done = run("check")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{connected.url} answers and accepts the token",
        "replica aws: answers",
        "replica gcp: answers",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"password": _SECRET, "key_path": None, "keyfile_dict": None}, "credentials of this connection"),
        ({"host": "http://127.0.0.1:1/v1"}, "Check the host of this connection"),
        ({"host": "nonsense"}, "its host must be the full URL"),
    ],
)
def test_check_says_what_is_wrong(dss: LocalDSS, changes: dict[str, str], said: str) -> None:
    """A refused token, an address where nobody answers, and one that is none end in a sentence and exit code 1."""
    done = _run("check", AIRFLOW_CONN_HCA_DSS_DEFAULT=connection(dss, **changes))
    assert said in _complaint(done)


@pytest.mark.system
def test_a_connection_of_the_database(connected: LocalDSS, airflow_db: Path) -> None:
    """A connection that is in Airflow's database is found, and one that is nowhere is told by its name."""
    made = json.loads(connection(connected))
    add = ["connections", "add", "dss_of_the_database", "--conn-json", json.dumps(made)]
    subprocess.run([sys.executable, "-m", "airflow", *add], check=True, capture_output=True, timeout=300)
    found = _run_process("check", "--conn-id", "dss_of_the_database")
    assert found.returncode == 0, found.stderr
    assert "dss_of_nowhere" in _complaint(_run_process("check", "--conn-id", "dss_of_nowhere"))


def test_upload_again_and_get(connected: LocalDSS, directory: Path, tmp_path: Path) -> None:
    """A directory becomes a bundle whose FQID is printed; again, it is the same, and can be fetched."""
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


def test_upload_of_a_prefix(connected: LocalDSS, tmp_path: Path) -> None:
    """What is under a prefix of a bucket becomes a bundle, the same each time; one of another cloud is refused."""
    for name in ("a.json", "b/c.txt"):
        connected.s3.put_object(Bucket=connected.bucket, Key=f"incoming/cli/{name}", Body=name.encode())
    upload = ("upload", f"s3://{connected.bucket}/incoming/cli", "--staging-bucket", connected.bucket)
    first = _run(*upload)
    assert first.returncode == 0, first.stderr
    assert _run(*upload).stdout == first.stdout
    assert _run("get", first.stdout.strip(), str(tmp_path)).returncode == 0
    assert (tmp_path / "b" / "c.txt").read_text() == "b/c.txt"
    assert "take replica='aws'" in _complaint(_run(*upload, "--replica", "gcp"))


def test_changed_content_is_a_new_version(connected: LocalDSS, directory: Path) -> None:
    """After a file changed, the same command makes a newer version of the same bundle."""
    upload = ("upload", str(directory), "--staging-bucket", connected.bucket)
    before = _run(*upload).stdout.strip()
    (directory / "notes.txt").write_text("changed")
    after = _run(*upload).stdout.strip()
    assert before.partition(".")[0] == after.partition(".")[0]
    assert before.partition(".")[2] < after.partition(".")[2]


def test_given_names(connected: LocalDSS, directory: Path) -> None:
    """A uuid and a version that are given are those of the bundle, and content types are as given."""
    names = ("6a1e2b3c-4d5e-4f60-8123-456789abcdef", "2026-01-02T030405.000006Z")
    done = _run(
        *("upload", str(directory), "--staging-bucket", connected.bucket),
        *("--bundle-uuid", names[0], "--bundle-version", names[1], "--content-type", "*.fastq=text/x-reads"),
    )
    assert done.stdout.strip() == ".".join(names), done.stderr
    bundle = connected.call("GET", f"/bundles/{names[0]}", replica="aws").json()["bundle"]
    kinds = {file["name"]: file["content-type"] for file in bundle["files"]}
    assert kinds["reads/one.fastq"].startswith("text/x-reads")


def test_the_bucket_by_a_connection(connected: LocalDSS, directory: Path) -> None:
    """With --aws-conn-id the bucket's endpoint and keys are those of the connection, not those of the environment."""
    environment = connected.about["env"]
    keys = {"login": environment["AWS_ACCESS_KEY_ID"], "password": environment["AWS_SECRET_ACCESS_KEY"]}
    store = {"conn_type": "aws", **keys, "extra": {"endpoint_url": environment["AWS_ENDPOINT_URL_S3"]}}
    upload = ("upload", str(directory), "--staging-bucket", connected.bucket, "--aws-conn-id", "store")
    elsewhere = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}
    done = _run(*upload, AIRFLOW_CONN_STORE=json.dumps(store), **elsewhere)
    assert done.returncode == 0, done.stderr
    assert "connection 'store' is not defined" in _complaint(_run(*upload, **elsewhere))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("upload", "/nowhere", "--staging-bucket", "dss-staging"), "/nowhere"),
        (("upload", ".", "--staging-bucket", "dss-staging", "--content-type", "x"), "PATTERN=TYPE"),
        (("get", "not-a-uuid", "never-made"), "not-a-uuid"),
        (("get", "6a1e2b3c-4d5e-4f60-8123-000000000000", "never-made"), "404"),
    ],
)
def test_what_cannot_be_done(connected: LocalDSS, arguments: tuple[str, ...], said: str) -> None:
    """A wrong directory, option or bundle ends in a sentence that names it, and exit code 1."""
    assert said in _complaint(_run(*arguments))
    assert requests_of(connected, "PUT", "/") == 0
    assert not Path("never-made").exists()


@pytest.mark.parametrize("option", ["--max-workers=0", "--max-bytes-per-second=-1", "--replica=azure"])
def test_wrong_options(option: str) -> None:
    """A value that no option takes is refused with exit code 2 before anything is done."""
    done = _run("upload", ".", "--staging-bucket", "b", option)
    assert done.returncode == 2
    assert option.partition("=")[0] in done.stderr + done.stdout


@pytest.mark.parametrize("command", ["check", "upload", "get", "local"])
def test_help(command: str) -> None:
    """Each command explains its options."""
    done = _run(command, "--help")
    assert done.returncode == 0, done.stderr
    expected = {"upload": "--staging-bucket", "get": "--data-files", "local": "--sync-delay"}.get(command, "--conn-id")
    assert expected in done.stdout


@pytest.mark.system
def test_local(tmp_path: Path) -> None:
    """The local DSS is started with the options of its own command, says where it is, and ends by TERM."""
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
def test_ctrl_c(connected: LocalDSS, directory: Path, tmp_path: Path, command: str) -> None:
    """What is ended by Ctrl-C ends at once, with a sentence and the exit code that shells give to that."""
    slow = {"method": "PUT", "path": "/files/", "action": "slow", "seconds": 2, "times": 99}
    connected.control("POST", "faults", slow)
    ports = [word for name in ("--port", "--s3-port", "--objects-port") for word in (name, "0")]
    arguments, begun = {
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
        while begun not in (line := process.stdout.readline()):
            assert line, f"{command} ended before it had begun"
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
        said = process.stdout.read()
    assert ": stopped" in said.splitlines()[-1]
    assert "Traceback" not in said
