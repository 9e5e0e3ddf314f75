"""Start the local DSS as a process, and send requests to it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from contextlib import nullcontext
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import boto3
import google_crc32c
import requests
from botocore.config import Config

if TYPE_CHECKING:
    from pathlib import Path


EMAIL = "https://auth.data.humancellatlas.org/email"
VERSION = "2024-01-31T235959.000001Z"
UNUSED_UUID = "00000000-0000-4000-8000-000000000000"  # constant, because test ids must be the same on each worker
MIB = 1024 * 1024


def new_uuid() -> str:
    return str(uuid.uuid4())


def new_version() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H%M%S.%fZ")


def opened(content: bytes | Path) -> BinaryIO:
    """Open content, or a file that has it."""
    return BytesIO(content) if isinstance(content, bytes) else content.open("rb")


def sums(content: bytes | Path) -> dict[str, str]:
    """Return the four checksum labels of content or a file, computed independently of the server."""
    sha256, sha1, crc32c = hashlib.sha256(), hashlib.sha1(), 0  # noqa: S324 - a DSS wants it
    parts = [hashlib.md5()]  # noqa: S324 - what S3 calls an ETag
    with opened(content) as file:
        for number, chunk in enumerate(iter(lambda: file.read(MIB), b"")):
            if number and number % 64 == 0:
                parts.append(hashlib.md5())  # noqa: S324 - same
            for checksum in (sha256, sha1, parts[-1]):
                checksum.update(chunk)
            crc32c = google_crc32c.extend(crc32c, chunk)
    etag = parts[0].hexdigest()
    if len(parts) > 1:
        digests = b"".join(part.digest() for part in parts)
        etag = f"{hashlib.md5(digests).hexdigest()}-{len(parts)}"  # noqa: S324 - same
    return {
        "hca-dss-sha256": sha256.hexdigest(),
        "hca-dss-sha1": sha1.hexdigest(),
        "hca-dss-s3_etag": etag,
        "hca-dss-crc32c": f"{crc32c:08x}",
    }


class LocalDSS:
    """A local DSS in a process of its own."""

    program: tuple[str, ...] = ("airflow_provider_hca.local",)

    def __init__(self, state: Path, *options: str, errors: Path | None = None) -> None:
        self.state = state
        self.options = options
        self.errors = errors  # file for the standard error of the process; that of the tests if None
        self.ports = ["--port", "0", "--s3-port", "0", "--objects-port", "0", "--gcs-port", "0"]
        self.start()

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        command = [sys.executable, "-m", *self.program, "--json", "--state", str(self.state)]
        with nullcontext() if self.errors is None else self.errors.open("a") as errors:
            self.process = subprocess.Popen(
                [*command, *self.ports, "--retry-after", "1", *self.options],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the local DSS exited before it was ready"
        self.about: dict[str, Any] = json.loads(line)
        self.url: str = self.about["dss_url"]
        self.bucket: str = self.about["bucket"]
        self.s3 = self._s3_client()
        self.http = requests.Session()
        self._token = ""
        names = {"--port": "dss_url", "--s3-port": "s3_url", "--objects-port": "objects_url"}
        for option, name in names.items():  # a restart keeps the ports
            port = re.search(r":(\d+)", self.about[name])
            assert port
            self.ports[self.ports.index(option) + 1] = port[1]

    def _s3_client(self) -> Any:
        environment = self.about["env"]
        return boto3.client(
            "s3",
            endpoint_url=self.about["s3_url"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            region_name=environment["AWS_DEFAULT_REGION"],
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the process, and return its exit code."""
        os.kill(self.process.pid, number)
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def restart(self) -> None:
        """Stop, and start on the same ports."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Call the admin API and return the JSON of the response."""
        url = f"{self.url.removesuffix('/v1')}/_local/{path}"
        response = requests.request(method, url, json=body, timeout=30)
        assert response.ok, response.text
        return response.json()

    def token(self, **fields: Any) -> str:
        """Return a new token."""
        token: str = self.control("POST", "tokens", fields)["token"]
        return token

    @property
    def authorization(self) -> dict[str, str]:
        """Headers with the developer's token."""
        if not self._token:
            self._token = self.token()
        return {"Authorization": f"Bearer {self._token}"}

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        """Send a request to the API; PUT, PATCH and DELETE have a token."""
        headers = self.authorization if method in {"PUT", "PATCH", "DELETE"} else {}
        return requests.request(
            method,
            self.url + path,
            json=body,
            params=query,
            headers=headers,
            timeout=60,
            allow_redirects=False,
        )

    def stage(
        self, content: bytes, key: str = "", labels: dict[str, str] | None = None, kind: str = "text/plain"
    ) -> str:
        """Put an object into the S3 staging bucket and return its URL."""
        key = key or f"staged/{new_uuid()}"
        self.s3.put_object(
            Bucket=self.bucket,
            Key=key,
            Body=content,
            ContentType=kind,
            Metadata=sums(content) if labels is None else labels,
        )
        return f"s3://{self.bucket}/{key}"

    def stage_gcs(self, content: bytes, labels: dict[str, str] | None) -> str:
        """Put an object into the GCS staging bucket and return its URL."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        key = f"staged/{new_uuid()}"
        options = {"api_endpoint": self.about["gcs_url"]}
        credentials = AnonymousCredentials()  # type: ignore[no-untyped-call] # no type information
        client = storage.Client("dss-local", credentials=credentials, client_options=options)
        blob = client.bucket(self.bucket).blob(key)
        blob.metadata = labels
        blob.upload_from_string(content, "text/plain")
        return f"gs://{self.bucket}/{key}"

    def put_file(
        self, source: str, file: str = "", version: str = VERSION, creator_uid: int = 8008
    ) -> requests.Response:
        """Register a staged object."""
        body = {"source_url": source, "creator_uid": creator_uid}
        return self.call("PUT", f"/files/{file or new_uuid()}", body, version=version)

    def new_file(self, content: bytes = b"content") -> str:
        """Stage and register a content; return the uuid of the file."""
        file = new_uuid()
        response = self.put_file(self.stage(content), file)
        assert response.status_code == 201, response.text
        return file

    def entry(self, name: str, file: str = "", *, indexed: bool = False) -> dict[str, Any]:
        """Return a file entry for PUT bundle."""
        return {"uuid": file or self.new_file(), "version": VERSION, "name": name, "indexed": indexed}

    def put_bundle(
        self,
        files: list[dict[str, Any]],
        bundle: str = "",
        version: str = VERSION,
        creator_uid: int = 8008,
        replica: str = "aws",
    ) -> requests.Response:
        """Create a bundle."""
        body = {"files": files, "creator_uid": creator_uid}
        return self.call("PUT", f"/bundles/{bundle or new_uuid()}", body, version=version, replica=replica)

    def wait_for_head(self, file: str, status: int, replica: str = "aws", version: str = VERSION) -> requests.Response:
        """Poll HEAD file until it returns `status`."""
        end = time.monotonic() + 20
        while True:
            response = self.call("HEAD", f"/files/{file}", replica=replica, version=version)
            if response.status_code == status or time.monotonic() > end:
                assert response.status_code == status
                return response
            time.sleep(0.05)


class User:
    """A user with a token and an e-mail address."""

    def __init__(self, dss: LocalDSS, **claims: Any) -> None:
        self.email = f"{new_uuid()}@example.org"
        self._url = dss.url
        token = dss.token(claims={EMAIL: self.email, **claims})
        self._headers = {"Authorization": f"Bearer {token}"}

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        """Send a request with the token."""
        return requests.request(method, self._url + path, json=body, params=query, headers=self._headers, timeout=30)


def code_of(response: requests.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]
