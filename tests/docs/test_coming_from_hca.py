"""Run the calls of docs/coming-from-hca.md, those of the original client too, and compare their results."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.cli.definition import ACTIONS
from airflow_provider_hca.hooks.dss import DSSHook
from tests.hooks.test_original_names import ORIGINAL_NAMES
from tests.local.server import VERSION, LocalDSS, new_uuid
from tests.local.test_original_client import Hca, hca  # noqa: F401 - a fixture

_PAGE = (Path(__file__).parents[2] / "docs" / "coming-from-hca.md").read_text()
# Pairs of calls: with the original client, and with this package.
_CALLS = re.findall(r"^\| `(dss\.[^`]+)` \| `(dss\.[^`]+)` \|", _PAGE, re.MULTILINE)
# Calls whose results are new each time, change with time, have the bundles of other tests, or differ as the page
# describes.
_NOT_COMPARED = {
    *("get_file", "get_bundles_all", "get_collections", "get_events", "get_subscriptions"),
    *("patch_bundle", "patch_collection", "post_bundles_checkout", "get_bundles_checkout", "put_subscription"),
    *("delete_bundle", "delete_collection", "delete_subscription"),
}

pytestmark = pytest.mark.usefixtures("airflow_db")


def _name(call: str) -> str:
    return call.removeprefix("dss.").partition("(")[0].partition(".")[0]


def _values(dss: LocalDSS) -> dict[str, Any]:
    """Create what the calls of the page name."""
    file, bundle, linked, collection = (new_uuid() for _ in range(4))
    source = dss.stage(b"content")
    assert dss.put_file(source, file, creator_uid=0).status_code == 201
    files = [dss.entry("a.json", file)]
    for uuid in (bundle, linked):
        body = {"creator_uid": 0, "files": files}
        assert dss.call("PUT", f"/bundles/{uuid}", body, version=VERSION, replica="aws").status_code == 201
    link = {"type": "bundle", "uuid": linked, "version": VERSION}
    content = {"name": "Cells", "description": "", "details": {}, "contents": [link]}
    put = dss.call("PUT", "/collections", content, uuid=collection, version=VERSION, replica="aws")
    assert put.status_code == 201
    callback_url = "http://127.0.0.1:1/never"
    subscribed = dss.call("PUT", "/subscriptions", {"callback_url": callback_url}, replica="aws").json()
    return {
        "uuid": bundle,
        "linked": linked,
        "file": file,
        "version": VERSION,
        "source_url": source,
        "files": files,
        "collection": collection,
        "link": link,
        "query": {"query": {"term": {"uuid": linked}}},
        "job": dss.call("POST", f"/bundles/{bundle}/checkout", {}, replica="aws").json()["checkout_job_id"],
        "subscription": subscribed["uuid"],
        "callback_url": callback_url,
    }


def _without_uuids(result: Any, values: dict[str, Any]) -> str:
    """Return a result as JSON in which uuids are replaced by their names."""
    text = json.dumps(result, sort_keys=True)
    for name in ("uuid", "linked", "file", "collection", "subscription"):
        text = text.replace(values[name], name)
    return text


def _run(dss: LocalDSS, directory: Path) -> list[str]:
    """Run the calls of this package; return their results as JSON."""
    values = _values(dss)
    results = []
    with DSSHook() as hook:
        for _, call in _CALLS:
            code = call.replace("/data/", f"{directory}/")
            result = eval(code, {**values, "dss": hook, "stream": io.BytesIO()})  # noqa: S307 - of the page
            plain = dataclasses.asdict(result) if dataclasses.is_dataclass(result) else result  # type: ignore[arg-type]
            results.append(_without_uuids(plain, values))
    assert (directory / "a.json").read_bytes() == b"content"
    return results


def test_page_has_every_call_of_the_original_client() -> None:
    assert {_name(old) for old, _ in _CALLS} == ORIGINAL_NAMES
    assert {_name(new) for _, new in _CALLS} <= set(vars(DSSHook))


def test_every_call_of_this_package_succeeds(dss: LocalDSS, tmp_path: Path) -> None:
    assert len(_run(dss, tmp_path)) == len(_CALLS)


def test_commands_of_page_exist() -> None:
    known = {action.name: {flag for arg in action.args for flag in arg.flags} for action in ACTIONS}
    commands = re.findall(r"`airflow hca (\w+)([^`]*)`", _PAGE)
    assert commands
    for name, arguments in commands:
        assert set(re.findall(r"--[\w-]+", arguments)) <= known[name]


def test_snippets_without_dag_print_lists(dss: LocalDSS, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snippets = [code for code in re.findall(r"```python\n(.*?)```", _PAGE, re.DOTALL) if "DAG(" not in code]
    assert len(snippets) == 2
    for snippet in snippets:
        for placeholder, real in (
            ("/etc/dss/service-account.json", dss.about["key_file"]),
            ("https://dss.example.org/v1", dss.url),
            ("https://dss.example.org/", dss.about["audience"]),
        ):
            snippet = snippet.replace(placeholder, real)
        exec(compile(snippet, "coming-from-hca.md", "exec"), {})  # noqa: S102 - a snippet of the page
        assert capsys.readouterr().out.startswith("[")


_ORIGINAL = """
import json, sys, types
from hca.dss import DSSClient

calls, values = map(json.loads, sys.argv[1:])
dss = DSSClient()
results = []
for call in calls:
    result = eval(call, {**values, "dss": dss})
    results.append([*result] if isinstance(result, types.GeneratorType) else result)
print(json.dumps({"results": results, "commands": [command.__name__ for command in dss.commands]}, default=repr))
"""


@pytest.mark.system
def test_results_equal_those_of_the_original_client(dss: LocalDSS, hca: Hca, tmp_path: Path) -> None:  # noqa: F811
    values = _values(dss)
    calls = json.dumps([old for old, _ in _CALLS])
    output = json.loads(hca.python(_ORIGINAL, calls, json.dumps(values)).splitlines()[-1])
    old = [_without_uuids(result, values) for result in output["results"]]
    new = _run(dss, tmp_path)
    compared = [number for number, (call, _) in enumerate(_CALLS) if _name(call) not in _NOT_COMPARED]
    assert len(compared) > 9
    assert [old[number] for number in compared] == [new[number] for number in compared]
    commands = _PAGE.partition("## Commands")[2].partition("|---|---|")[2].partition("###")[0]
    assert {*output["commands"], "clear_cache"} == set(re.findall(r"^\| `(\w+)` ", commands, re.MULTILINE))
