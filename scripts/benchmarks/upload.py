"""Compare uploads with those of the DSS's original client.

Both upload the same directory to the same null S3 and null DSS, alternately, each in a process of its own. The time
includes reading the directory, but not imports. The results are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from scripts.benchmarks.null_dss import definition
from scripts.benchmarks.workloads import KIB, WORKLOADS, Workload, short, write_files

REPOSITORY = Path(__file__).parents[2]
BUCKET = "benchmark"
_FAR_FUTURE = 1e11
# boto3 would otherwise hash all bodies again, over plain http only; real endpoints use https.
_AWS_CONFIG = "[default]\nregion = us-east-1\ns3 =\n    payload_signing_enabled = false\n    addressing_style = path\n"
_THOUSAND = Workload("1,000 of f", 1_000, 4 * KIB, both=False)

Run = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("workloads", nargs="*", metavar="workload", help="a, b, c, d, e, f: all by default")
    parser.add_argument("--runs", type=int, default=3, help="of each client, in turns (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--short", action="store_true", help="one run of tiny workloads, to see that all works")


def run(options: argparse.Namespace) -> None:
    """Run the benchmark."""
    names = options.workloads or list(WORKLOADS)
    unknown = [name for name in names if name not in WORKLOADS]
    if unknown:
        sys.exit(f"no such workload: {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    original_python()
    show = _print_json if options.json else _print_row
    if not options.json:
        print(_HEAD.format("workload", "ours s", "hca s", "ratio", "ours MB", "hca MB", "ours CPU", "requests"))
    for name in names:
        workload = short(WORKLOADS[name]) if options.short else WORKLOADS[name]
        show(workload, measure(workload, 1 if options.short else options.runs))


def measure(workload: Workload, runs: int) -> dict[str, Any]:
    """Run a workload and return the medians.

    :param workload: what to upload
    :param runs: how often each client uploads it
    """
    with tempfile.TemporaryDirectory(prefix="dss-bench-") as place:
        bench = _Bench(Path(place), workload)
        ours: list[Run] = []
        others: list[Run] = []
        if workload.both:
            other = bench.run_original
        else:
            thousand = _Bench(Path(place) / "thousand", _THOUSAND)
            other = thousand.run_ours
        for _ in range(runs):
            ours.append(bench.run_ours())
            others.append(other())
    return _result(workload, _medians(ours), _medians(others))


def _medians(runs: list[Run]) -> Run:
    return {name: median(run[name] for run in runs) for name in ("seconds", "cpu_seconds", "rss_mb", "requests")}


def _result(workload: Workload, ours: Run, other: Run) -> dict[str, Any]:
    result = {
        "workload": workload.name,
        "ours_s": round(ours["seconds"], 3),
        "hca_s": None,
        "ratio": None,
        "ours_rss_mb": round(ours["rss_mb"], 1),
        "hca_rss_mb": None,
        "requests": ours["requests"],
        "ours_cpu_s": round(ours["cpu_seconds"], 3),
    }
    if workload.both:
        ratio = other["seconds"] / ours["seconds"]
        hca = {"hca_s": round(other["seconds"], 3), "hca_rss_mb": round(other["rss_mb"], 1)}
        return result | hca | {"ratio": round(ratio, 2), "hca_requests": other["requests"]}
    per_file = ours["seconds"] / workload.files / (other["seconds"] / _THOUSAND.files)
    return result | {"per_file_against_1000": round(per_file, 3)}


_HEAD = "{:44} {:>8} {:>8} {:>6} {:>8} {:>7} {:>9} {:>9}"
_ROW = "{:44} {:>8.2f} {:>8} {:>6} {:>8.0f} {:>7} {:>9.2f} {:>9,.0f}"


def _print_row(workload: Workload, result: dict[str, Any]) -> None:
    hca, ratio, memory = "-", "-", "-"
    if workload.both:
        hca, ratio, memory = f"{result['hca_s']:.2f}", f"{result['ratio']:.1f}", f"{result['hca_rss_mb']:.0f}"
    numbers = (result["ours_s"], hca, ratio, result["ours_rss_mb"], memory, result["ours_cpu_s"], result["requests"])
    print(_ROW.format(str(workload), *numbers), flush=True)
    if not workload.both:
        print(f"   a file takes {result['per_file_against_1000']:.2f} of what one of 1,000 takes", flush=True)


def _print_json(_: Workload, result: dict[str, Any]) -> None:
    print(json.dumps(result), flush=True)


class _Bench:
    """A workload's files, and what runs the clients over them."""

    def __init__(self, place: Path, workload: Workload) -> None:
        self._place, self._workload = place, workload
        self._directory = place / "files"
        self._directory.mkdir(parents=True)
        self._pieces = place / "pieces.json"
        self._pieces.write_text(json.dumps(write_files(workload, self._directory)))

    def run_ours(self) -> Run:
        """Upload with this package."""
        module = [sys.executable, "-m", "scripts.benchmarks.upload_ours"]
        return self._run(lambda where: ([*module, str(self._directory), BUCKET, where["dss_url"]], {}))

    def run_original(self) -> Run:
        """Upload with the original client."""

        def command(where: dict[str, str]) -> tuple[list[str], dict[str, str]]:
            program = REPOSITORY / "scripts/benchmarks/upload_original.py"
            arguments = [original_python(), str(program), str(self._directory), BUCKET]
            return arguments, original_environment(self._place, where["dss_url"])

        return self._run(command)

    def _run(self, command: Callable[[dict[str, str]], tuple[list[str], dict[str, str]]]) -> Run:
        requests: dict[str, dict[str, int]] = {}
        with _null_server(self._pieces, self._workload, requests) as where:
            arguments, extra = command(where)
            done = subprocess.run(
                arguments,
                cwd=REPOSITORY,
                env=aws_environment(self._place, where["s3_url"]) | extra,
                stdout=subprocess.PIPE,
                check=True,
            )
        result: Run = json.loads(done.stdout.splitlines()[-1])
        return result | {"requests": sum(sum(service.values()) for service in requests.values())}


def original_python() -> str:
    """Return the Python of the original client, which is installed if the environment does not name it."""
    if "HCA_CLIENT" not in os.environ:
        subprocess.run([REPOSITORY / "scripts/setup", "original-client"], check=True)
    return str(Path(os.environ.get("HCA_CLIENT", REPOSITORY / ".venv-hca/bin/hca")).with_name("python"))


def original_environment(place: Path, dss_url: str) -> dict[str, str]:
    """Return the environment variables of a process of the original client.

    :param place: directory for its configuration
    :param dss_url: URL of the DSS's API
    """
    api, config = place / "definition.json", place / "hca.json"
    api.write_text(json.dumps(definition(dss_url)))
    token = {"access_token": "none", "token_type": "Bearer", "expires_at": _FAR_FUTURE}
    secrets = {"installed": {"client_id": "none", "client_secret": "none", "token_uri": dss_url}}
    settings = {"swagger_filename": str(api), "oauth2_token": token, "application_secrets": secrets}
    config.write_text(json.dumps(settings))
    return {"HCA_CONFIG_FILE": str(config), "OAUTHLIB_INSECURE_TRANSPORT": "1"}


def aws_environment(place: Path, s3_url: str) -> dict[str, str]:
    """Return the environment variables of a process that uses the null S3.

    :param place: directory for its configuration
    :param s3_url: URL of the null S3
    """
    config = place / "aws-config"
    config.write_text(_AWS_CONFIG)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "NO_PROXY": "127.0.0.1",
        "AWS_CONFIG_FILE": str(config),
        "AWS_ENDPOINT_URL_S3": s3_url,
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
    }


@contextmanager
def _null_server(pieces: Path, workload: Workload, requests: dict[str, dict[str, int]]) -> Iterator[dict[str, str]]:
    """Run the null services, give where they are, and fill in `requests` at the end."""
    latencies = ["--s3-latency", str(workload.s3_latency), "--dss-latency", str(workload.dss_latency)]
    command = [sys.executable, "-m", "scripts.benchmarks.null_server", str(pieces), *latencies]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        if server.stdin is None or server.stdout is None:
            raise RuntimeError("the null server has no pipes")
        yield json.loads(server.stdout.readline())
        server.stdin.close()
        requests.update(json.loads(server.stdout.readline()))
