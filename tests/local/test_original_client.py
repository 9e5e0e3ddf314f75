"""The DSS's original command-line client, `hca` 7.0.1, works unchanged with the local DSS."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.download.batch import BatchDownloader
from airflow_provider_hca.download.selection import select
from tests.download.support import tree

from .server import VERSION, new_uuid, new_version

if TYPE_CHECKING:
    from .server import LocalDSS


pytestmark = pytest.mark.system


class Hca:
    """The client with its own home directory."""

    def __init__(self, executable: str, dss: LocalDSS, home: Path, *, user: bool = False) -> None:
        self.executable = executable
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            **{name: value for name, value in dss.about["env"].items() if name.startswith("AWS_")},
            "HCA_CONFIG_FILE": dss.about["hca_config_file"],
            "OAUTHLIB_INSECURE_TRANSPORT": "1",
        }
        if not user:
            self.environment["GOOGLE_APPLICATION_CREDENTIALS"] = dss.about["key_file"]

    def run(self, *arguments: str) -> bytes:
        """Run a command and return its output."""
        done = subprocess.run(
            [self.executable, "dss", *arguments], env=self.environment, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """Run a command and return its output as JSON."""
        return json.loads(self.run(*arguments))

    def python(self, code: str, *arguments: str) -> str:
        """Run code with the client's Python bindings and return its output."""
        interpreter = Path(self.executable).parent / "python"
        done = subprocess.run(
            [interpreter, "-c", code, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def hca(dss: LocalDSS, tmp_path: Path) -> Hca:
    return Hca(_executable(), dss, tmp_path)


def _executable() -> str:
    executable = os.environ.get("HCA_CLIENT")
    assert executable, "HCA_CLIENT must be the path of the original client `hca`, which scripts/test installs"
    return executable


def test_file_and_bundle_commands_succeed(dss: LocalDSS, hca: Hca) -> None:
    file, bundle, content = new_uuid(), new_uuid(), new_uuid().encode()
    source = dss.stage(content)
    at = ("--version", VERSION)
    put = ("put-file", "--uuid", file, *at, "--source-url", source, "--creator-uid", "1")
    assert hca.json(*put) == {"version": VERSION}
    assert hca.run("get-file", "--uuid", file, "--replica", "aws") == content
    entry = json.dumps(dss.entry("a.txt", file))
    target = ("--uuid", bundle, "--replica", "aws")
    assert hca.json("put-bundle", *target, *at, "--creator-uid", "1", "--files", entry)["version"] == VERSION
    assert hca.json("get-bundle", *target)["bundle"]["files"][0]["uuid"] == file
    assert hca.json("patch-bundle", *target, *at)["version"] > VERSION
    assert hca.json("delete-bundle", *target, "--reason", "test") == {}
    assert dss.call("GET", f"/bundles/{bundle}", replica="aws").status_code == 404


def test_patch_bundle_from_python_succeeds(dss: LocalDSS, hca: Hca) -> None:
    """The client's command line cannot pass an optional list."""
    bundle, old, new = new_uuid(), dss.entry("old"), dss.entry("new")
    dss.put_bundle([old], bundle)
    hca.python(
        "from hca.dss import DSSClient\n"
        f"DSSClient().patch_bundle(uuid={bundle!r}, version={VERSION!r}, replica='aws', "
        f"add_files=[{new!r}], remove_files=[{old!r}])"
    )
    files = dss.call("GET", f"/bundles/{bundle}", replica="aws").json()["bundle"]["files"]
    assert [file["name"] for file in files] == ["new"]


def test_get_bundle_iterates_over_pages(dss: LocalDSS, hca: Hca) -> None:
    bundle, file = new_uuid(), dss.new_file()
    dss.put_bundle([dss.entry(f"{number:02}", file) for number in range(25)], bundle)
    code = (
        "from hca.dss import DSSClient\n"
        f"print(sum(1 for _ in DSSClient().get_bundle.iterate(uuid={bundle!r}, replica='aws', per_page=10)))"
    )
    assert hca.python(code).strip() == "25"


def test_uploaded_directory_is_downloaded_unchanged(dss: LocalDSS, hca: Hca, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    contents = {"a.json": b"{}", "sub/b.txt": os.urandom(1000), "large.bin": os.urandom(300_000)}
    for name, content in contents.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    done = hca.json("upload", "--src-dir", str(source), "--replica", "aws", "--staging-bucket", dss.bucket)
    target.mkdir()
    bundle = done["bundle_uuid"]
    hca.run("download", "--bundle-uuid", bundle, "--replica", "aws", "--download-dir", str(target))
    (found,) = (path for path in target.iterdir() if path.name.startswith(bundle))
    assert {name: (found / name).read_bytes() for name in contents} == contents


_DOWNLOADS = """
import os, sys
from hca.dss import DSSClient

manifest, collection, target = sys.argv[1:]
os.makedirs(target)
os.chdir(target)  # it writes a copy of the manifest there
if collection:
    DSSClient().download_collection(uuid=collection, replica="aws", download_dir=target)
else:
    DSSClient().download_manifest(manifest=manifest, replica="aws", layout="bundle", download_dir=target)
"""


@pytest.mark.parametrize("from_collection", [False, True])
def test_downloads_of_bundles_are_those_of_the_package(
    dss: LocalDSS, hca: Hca, tmp_path: Path, *, from_collection: bool
) -> None:
    bundles, collection = [new_uuid(), new_uuid()], new_uuid()
    file, metadata = dss.new_file(b"read"), dss.new_file(b"{}")
    for bundle in bundles:
        files = [dss.entry("a/r1.gz", file), dss.entry("r2.gz", file), dss.entry("m.json", metadata, indexed=True)]
        assert dss.put_bundle(files, bundle).status_code == 201
    links = [{"type": "bundle", "uuid": bundle, "version": VERSION} for bundle in bundles]
    body = {"name": "n", "description": "d", "details": {}, "contents": links}
    assert dss.call("PUT", "/collections", body, uuid=collection, version=VERSION, replica="aws").status_code == 201
    manifest = tmp_path / "manifest.tsv"
    values = {"file_name": "a/r1.gz", "file_uuid": file, "file_version": VERSION, "file_size": "4"}
    values["file_sha256"] = hashlib.sha256(b"read").hexdigest()
    rows = [{"bundle_uuid": bundle, "bundle_version": VERSION, **values} for bundle in bundles]
    manifest.write_text("".join("\t".join(row) + "\n" for row in ([*rows[0]], *(row.values() for row in rows))))
    hca.python(_DOWNLOADS, str(manifest), collection if from_collection else "", str(tmp_path / "original"))
    api = DSSAPI(dss.url, auth=StaticToken(dss.authorization["Authorization"].removeprefix("Bearer ")))
    with RequestsTransport() as transport:
        wanted: Any = {"collection_uuid": collection} if from_collection else {"manifest": str(manifest)}
        selection = select(api, transport, replica="aws", **wanted)
        BatchDownloader(api, transport, replica="aws").download(selection, tmp_path / "ours")
    found = tree(tmp_path / "original")
    original = {name: found[name] for name in found if name[36:37] == "." and not name.endswith("/bundle.json")}
    assert len(original) == (6 if from_collection else 4)
    assert tree(tmp_path / "ours") == original


def test_user_token_is_refreshed(dss: LocalDSS, tmp_path: Path) -> None:
    hca = Hca(_executable(), dss, tmp_path, user=True)
    source, version = dss.stage(b"mine"), new_version()
    put = ("put-file", "--uuid", new_uuid(), "--version", version, "--source-url", source, "--creator-uid", "1")
    assert hca.json(*put) == {"version": version}


_CALLS = """
import json, os, sys
from hca.dss import DSSClient

values = json.loads(sys.argv[1])
dss = DSSClient()
at = {"uuid": values["bundle"], "replica": "aws"}
results = {}
results["put_file"] = dss.put_file(
    uuid=values["file"], version=values["version"], source_url=values["source"], creator_uid=1
)
results["put_bundle"] = dss.put_bundle(**at, version=values["version"], files=[values["member"]], creator_uid=1)
results["patch_bundle"] = dss.patch_bundle(**at, version=values["version"], remove_files=[values["member"]])
link = {"type": "bundle", "uuid": values["bundle"], "version": values["version"]}
results["put_collection"] = dss.put_collection(
    uuid=values["collection"], version=values["version"], replica="aws", name="n", description="d", details={},
    contents=[link],
)
results["get_collection"] = dss.get_collection(uuid=values["collection"], replica="aws")
results["get_collections"] = dss.get_collections()
results["patch_collection"] = dss.patch_collection(
    uuid=values["collection"], version=values["version"], replica="aws", remove_contents=[link], name="other"
)
results["patched"] = dss.get_collection(uuid=values["collection"], replica="aws")
results["delete_collection"] = dss.delete_collection(uuid=values["collection"], replica="aws")
results["delete_bundle"] = dss.delete_bundle(**at, reason="an example")
results["upload"] = dss.upload(src_dir=values["directory"], replica="aws", staging_bucket=values["bucket"])
dss.download(bundle_uuid=results["upload"]["bundle_uuid"], replica="aws", download_dir=values["target"])
checkout = dss.post_bundles_checkout(uuid=results["upload"]["bundle_uuid"], replica="aws")["checkout_job_id"]
results["checkout"] = dss.get_bundles_checkout(checkout_job_id=checkout, replica="aws")
results["events"] = dss.get_events(replica="aws")
results["search"] = dss.post_search(es_query={"query": {"match_all": {}}}, replica="aws", per_page=10)
subscription = dss.put_subscription(replica="aws", callback_url="http://127.0.0.1:1/never")["uuid"]
results["subscriptions"] = dss.get_subscriptions(replica="aws")
results["subscription"] = dss.get_subscription(uuid=subscription, replica="aws")
results["delete_subscription"] = dss.delete_subscription(uuid=subscription, replica="aws")
print(json.dumps(results))
"""


def test_calls_of_its_documentation_succeed(dss: LocalDSS, hca: Hca, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub").mkdir(parents=True)
    target.mkdir()
    contents = {"a.json": b'{"a": 1}', "sub/b.txt": os.urandom(1000)}
    for name, content in contents.items():
        (source / name).write_bytes(content)
    file, bundle, collection, version = new_uuid(), new_uuid(), new_uuid(), new_version()
    values = {
        "file": file,
        "bundle": bundle,
        "collection": collection,
        "version": version,
        "source": dss.stage(new_uuid().encode()),
        "member": {"uuid": file, "version": version, "name": "a.txt", "indexed": False},
        "directory": str(source),
        "bucket": dss.bucket,
        "target": str(target),
    }
    results = json.loads(hca.python(_CALLS, json.dumps(values)).splitlines()[-1])
    assert results["put_file"] == {"version": version}
    assert results["put_bundle"]["version"] == version
    assert results["patch_bundle"]["version"] > version
    assert results["put_collection"] == {"uuid": collection, "version": version}
    assert "@" in results["get_collection"]["owner"]
    assert {"uuid": collection, "version": version} in results["get_collections"]["collections"]
    assert results["patch_collection"]["version"] > version
    assert (results["patched"]["name"], results["patched"]["contents"]) == ("other", [])
    assert dss.call("GET", f"/bundles/{bundle}", replica="aws").status_code == 404
    (found,) = (path for path in target.iterdir() if path.name.startswith(results["upload"]["bundle_uuid"]))
    assert {name: (found / name).read_bytes() for name in contents} == contents
    assert results["checkout"]["status"] in {"RUNNING", "SUCCEEDED"}
    assert results["events"]["event_streams"]
    assert results["search"]["total_hits"] >= 1
    assert results["subscription"]["callback_url"] == "http://127.0.0.1:1/never"
    assert results["subscription"]["uuid"] in [found["uuid"] for found in results["subscriptions"]["subscriptions"]]
    assert "timeDeleted" in results["delete_subscription"]


def test_collection_commands_succeed(dss: LocalDSS, hca: Hca) -> None:
    uuid, bundle = new_uuid(), new_uuid()
    dss.put_bundle([dss.entry("a")], bundle)
    link = json.dumps({"type": "bundle", "uuid": bundle, "version": VERSION})
    target = ("--uuid", uuid, "--replica", "aws")
    fields = ("--name", "n", "--description", "d", "--details", "{}", "--contents", link)
    assert hca.json("put-collection", *target, "--version", VERSION, *fields)["uuid"] == uuid
    assert hca.json("get-collection", *target)["contents"] == [json.loads(link)]
    assert uuid in [found["uuid"] for found in hca.json("get-collections")["collections"]]
    assert hca.json("patch-collection", *target, "--version", VERSION, "--name", "m")["version"] > VERSION
    hca.json("delete-collection", *target)
    headers = dss.authorization
    gone = requests.get(f"{dss.url}/collections/{uuid}", params={"replica": "aws"}, headers=headers, timeout=10)
    assert gone.status_code == 404
