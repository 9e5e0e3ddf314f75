"""The command-line client the DSS came with, `hca` 7.0.1, works against the local DSS as it is."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from .server import VERSION, new_uuid, new_version

if TYPE_CHECKING:
    from .server import LocalDSS


pytestmark = pytest.mark.system


class Hca:
    """The client, in a home of its own."""

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
        """Run one command and return what it wrote."""
        done = subprocess.run(
            [self.executable, "dss", *arguments], env=self.environment, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """Run one command and return what it wrote as JSON."""
        return json.loads(self.run(*arguments))

    def python(self, code: str, *arguments: str) -> str:
        """Run code with the client's own Python bindings."""
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


def test_files_and_bundles(dss: LocalDSS, hca: Hca) -> None:
    """put-file, get-file, put-bundle, get-bundle, patch-bundle and delete-bundle do what they say."""
    file, bundle, content = new_uuid(), new_uuid(), new_uuid().encode()
    source = dss.stage(content)
    at = ("--version", VERSION)
    put = ("put-file", "--uuid", file, *at, "--source-url", source, "--creator-uid", "1")
    assert hca.json(*put) == {"version": VERSION}
    assert hca.run("get-file", "--uuid", file, "--replica", "aws") == content
    entry = json.dumps(dss.entry("a.txt", file))
    there = ("--uuid", bundle, "--replica", "aws")
    assert hca.json("put-bundle", *there, *at, "--creator-uid", "1", "--files", entry)["version"] == VERSION
    assert hca.json("get-bundle", *there)["bundle"]["files"][0]["uuid"] == file
    assert hca.json("patch-bundle", *there, *at)["version"] > VERSION
    assert hca.json("delete-bundle", *there, "--reason", "test") == {}
    assert dss.call("GET", f"/bundles/{bundle}", replica="aws").status_code == 404


def test_patch_from_python(dss: LocalDSS, hca: Hca) -> None:
    """The client's bindings patch a bundle with files; its command line cannot pass an optional list."""
    bundle, old, new = new_uuid(), dss.entry("old"), dss.entry("new")
    dss.put_bundle([old], bundle)
    hca.python(
        "from hca.dss import DSSClient\n"
        f"DSSClient().patch_bundle(uuid={bundle!r}, version={VERSION!r}, replica='aws', "
        f"add_files=[{new!r}], remove_files=[{old!r}])"
    )
    files = dss.call("GET", f"/bundles/{bundle}", replica="aws").json()["bundle"]["files"]
    assert [file["name"] for file in files] == ["new"]


def test_pages(dss: LocalDSS, hca: Hca) -> None:
    """The client follows the links of a manifest of several pages."""
    bundle, file = new_uuid(), dss.new_file()
    dss.put_bundle([dss.entry(f"{number:02}", file) for number in range(25)], bundle)
    code = (
        "from hca.dss import DSSClient\n"
        f"print(sum(1 for _ in DSSClient().get_bundle.iterate(uuid={bundle!r}, replica='aws', per_page=10)))"
    )
    assert hca.python(code).strip() == "25"


def test_upload_and_download(dss: LocalDSS, hca: Hca, tmp_path: Path) -> None:
    """Upload stages, registers and bundles a directory, large files included; download brings it back."""
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


def test_as_a_user(dss: LocalDSS, tmp_path: Path) -> None:
    """Without the key file the client refreshes the user's token that is in its configuration."""
    hca = Hca(_executable(), dss, tmp_path, user=True)
    source, version = dss.stage(b"mine"), new_version()
    put = ("put-file", "--uuid", new_uuid(), "--version", version, "--source-url", source, "--creator-uid", "1")
    assert hca.json(*put) == {"version": version}


_TEN_CALLS = """
import json, os, sys
from hca.dss import DSSClient

wish = json.loads(sys.argv[1])
dss = DSSClient()
at = {"uuid": wish["bundle"], "replica": "aws"}
told = {}
told["put_file"] = dss.put_file(
    uuid=wish["file"], version=wish["version"], source_url=wish["source"], creator_uid=1
)
told["put_bundle"] = dss.put_bundle(**at, version=wish["version"], files=[wish["member"]], creator_uid=1)
told["patch_bundle"] = dss.patch_bundle(**at, version=wish["version"], remove_files=[wish["member"]])
link = {"type": "bundle", "uuid": wish["bundle"], "version": wish["version"]}
told["put_collection"] = dss.put_collection(
    uuid=wish["collection"], version=wish["version"], replica="aws", name="n", description="d", details={},
    contents=[link],
)
told["get_collection"] = dss.get_collection(uuid=wish["collection"], replica="aws")
told["get_collections"] = dss.get_collections()
told["patch_collection"] = dss.patch_collection(
    uuid=wish["collection"], version=wish["version"], replica="aws", remove_contents=[link], name="other"
)
told["patched"] = dss.get_collection(uuid=wish["collection"], replica="aws")
told["delete_collection"] = dss.delete_collection(uuid=wish["collection"], replica="aws")
told["delete_bundle"] = dss.delete_bundle(**at, reason="an example")
told["upload"] = dss.upload(src_dir=wish["directory"], replica="aws", staging_bucket=wish["bucket"])
dss.download(bundle_uuid=told["upload"]["bundle_uuid"], replica="aws", download_dir=wish["target"])
checkout = dss.post_bundles_checkout(uuid=told["upload"]["bundle_uuid"], replica="aws")["checkout_job_id"]
told["checkout"] = dss.get_bundles_checkout(checkout_job_id=checkout, replica="aws")
told["events"] = dss.get_events(replica="aws")
told["search"] = dss.post_search(es_query={"query": {"match_all": {}}}, replica="aws", per_page=10)
subscription = dss.put_subscription(replica="aws", callback_url="http://127.0.0.1:1/never")["uuid"]
told["subscriptions"] = dss.get_subscriptions(replica="aws")
told["subscription"] = dss.get_subscription(uuid=subscription, replica="aws")
told["delete_subscription"] = dss.delete_subscription(uuid=subscription, replica="aws")
print(json.dumps(told))
"""


def test_the_calls_of_its_documentation(dss: LocalDSS, hca: Hca, tmp_path: Path) -> None:
    """The ten calls that its documentation shows, download, and the others do what they say, from its bindings."""
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub").mkdir(parents=True)
    target.mkdir()
    contents = {"a.json": b'{"a": 1}', "sub/b.txt": os.urandom(1000)}
    for name, content in contents.items():
        (source / name).write_bytes(content)
    file, bundle, collection, version = new_uuid(), new_uuid(), new_uuid(), new_version()
    wish = {
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
    told = json.loads(hca.python(_TEN_CALLS, json.dumps(wish)).splitlines()[-1])
    assert told["put_file"] == {"version": version}
    assert told["put_bundle"]["version"] == version
    assert told["patch_bundle"]["version"] > version
    assert told["put_collection"] == {"uuid": collection, "version": version}
    assert "@" in told["get_collection"]["owner"]
    assert {"uuid": collection, "version": version} in told["get_collections"]["collections"]
    assert told["patch_collection"]["version"] > version
    assert (told["patched"]["name"], told["patched"]["contents"]) == ("other", [])
    assert dss.call("GET", f"/bundles/{bundle}", replica="aws").status_code == 404
    (found,) = (path for path in target.iterdir() if path.name.startswith(told["upload"]["bundle_uuid"]))
    assert {name: (found / name).read_bytes() for name in contents} == contents
    assert told["checkout"]["status"] in {"RUNNING", "SUCCEEDED"}
    assert told["events"]["event_streams"]
    assert told["search"]["total_hits"] >= 1
    assert told["subscription"]["callback_url"] == "http://127.0.0.1:1/never"
    assert told["subscription"]["uuid"] in {each["uuid"] for each in told["subscriptions"]["subscriptions"]}
    assert "timeDeleted" in told["delete_subscription"]


def test_collections_from_the_command_line(dss: LocalDSS, hca: Hca) -> None:
    """put-collection, get-collection, get-collections, patch-collection and delete-collection do what they say."""
    uuid, bundle = new_uuid(), new_uuid()
    dss.put_bundle([dss.entry("a")], bundle)
    link = json.dumps({"type": "bundle", "uuid": bundle, "version": VERSION})
    which = ("--uuid", uuid, "--replica", "aws")
    about = ("--name", "n", "--description", "d", "--details", "{}", "--contents", link)
    assert hca.json("put-collection", *which, "--version", VERSION, *about)["uuid"] == uuid
    assert hca.json("get-collection", *which)["contents"] == [json.loads(link)]
    assert uuid in {each["uuid"] for each in hca.json("get-collections")["collections"]}
    assert hca.json("patch-collection", *which, "--version", VERSION, "--name", "m")["version"] > VERSION
    hca.json("delete-collection", *which)
    headers = dss.authorization
    gone = requests.get(f"{dss.url}/collections/{uuid}", params={"replica": "aws"}, headers=headers, timeout=10)
    assert gone.status_code == 404
