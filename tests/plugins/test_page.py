from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import pytest

from tests.local.server import new_uuid
from tests.plugins.airflow import ROLES
from tests.plugins.auth_manager import STRANGER
from tests.plugins.conftest import Ingested
from tests.plugins.samples import HOSTILE

if TYPE_CHECKING:
    from playwright.sync_api import FrameLocator, Page

    from tests.local.server import LocalDSS
    from tests.plugins.airflow import AirflowWithUI

    OpenPage = Callable[..., Page]

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("airflow")]

_FRAME = "/plugin/dss/hca-dss/"
_LOOKS = (Path(__file__).parent / "looks.js").read_text()


def _frame(page: Page) -> FrameLocator:
    """Return what is in Airflow's frame."""
    return page.frame_locator("iframe[title=DSS]")


def _bundle(ingested: Ingested) -> str:
    return f"{_FRAME}bundle?{urlencode(ingested.query)}"


def _run(ingested: Ingested) -> str:
    return f"/dags/{ingested.dag_id}/runs/{quote(ingested.run_id)}/plugin/dss-run"


def test_the_navigation_leads_to_the_page(open_page: OpenPage, ingested: Ingested) -> None:
    """Airflow's navigation has an entry that opens the page, and the newest bundles are there."""
    page = open_page("/")
    page.get_by_role("link", name="DSS").click()
    row = _frame(page).get_by_role("row").filter(has_text=ingested.uuid)
    row.get_by_role("link", name="ingest", exact=True).wait_for()
    assert ingested.version in row.inner_text()


@pytest.mark.parametrize("role", ROLES)
def test_only_who_may_read_connections_has_their_tab(open_page: OpenPage, role: str) -> None:
    """The tab with the connections' health is there for op and admin, the others are there for all."""
    page = open_page(_FRAME, role)
    tabs = _frame(page).get_by_role("navigation").get_by_role("link")
    tabs.first.wait_for()
    expected = ["Bundles", "Ingests", "Connections"] if role in {"op", "admin"} else ["Bundles", "Ingests"]
    assert tabs.all_inner_texts() == expected


def test_who_may_not_see_plugins_has_no_entry(open_page: OpenPage) -> None:
    """For them Airflow's navigation is as if the page were not installed."""
    page = open_page("/", STRANGER)
    page.get_by_role("link", name="Dags").first.wait_for()
    page.wait_for_load_state("networkidle")
    assert page.get_by_role("link", name="DSS").count() == 0


def test_a_search_finds_a_bundle_and_says_what_is_no_uuid(open_page: OpenPage, ingested: Ingested) -> None:
    """The beginning of a uuid leaves the bundles that begin so; what cannot begin one is told to be none."""
    frame = _frame(open_page(_FRAME))
    search = frame.get_by_role("searchbox")
    search.fill(ingested.uuid[:10].upper())
    frame.get_by_role("heading", name=re.compile("1 bundle version of bundles that begin with")).wait_for()
    assert frame.locator("tbody tr").count() == 1
    search.fill("xyz")
    frame.get_by_text("A uuid has only the digits 0 to 9").wait_for()
    search.fill("00000000-0000")
    frame.get_by_text("No bundle begins like that").wait_for()


def test_the_other_replica_is_a_click_away(open_page: OpenPage, ingested: Ingested) -> None:
    """A click shows the bundles of the other replica, and a bundle that is opened there is the one of that replica."""
    page = open_page(f"{_FRAME}?prefix={ingested.uuid}")
    frame = _frame(page)
    frame.get_by_role("heading", name="in aws").wait_for()
    frame.get_by_role("button", name="gcp").click()
    frame.get_by_role("heading", name="in gcp").wait_for()
    assert frame.get_by_role("button", name="gcp").get_attribute("aria-pressed") == "true"
    frame.get_by_role("link", name=ingested.uuid).click()
    frame.get_by_role("heading", name=f"Bundle {ingested.uuid}").wait_for()
    assert "replica=gcp" in page.url


def test_a_bundle_shows_its_files_and_all_their_sums(open_page: OpenPage, ingested: Ingested, ui_dss: LocalDSS) -> None:
    """Each file is listed with name, type, size and version, and unfolds to its four checksums."""
    frame = _frame(open_page(_bundle(ingested)))
    there = ui_dss.call("GET", f"/bundles/{ingested.uuid}", replica="aws").json()["bundle"]["files"]
    file = next(each for each in there if each["name"] == "islets_17.bam")
    row = frame.get_by_role("row").filter(has_text="islets_17.bam")
    row.wait_for()
    for text in ("application/octet-stream", "152.3 KiB", file["sha256"][:12], file["version"]):
        assert text in row.inner_text()
    row.get_by_role("button", name="All about").click()
    for name in ("sha256", "sha1", "s3_etag", "crc32c"):
        frame.get_by_text(file[name], exact=True).wait_for()


def test_files_can_be_found_and_sorted(open_page: OpenPage, ingested: Ingested) -> None:
    """The list of files is filtered by name or type, and sorted by a click on a heading."""
    frame = _frame(open_page(_bundle(ingested)))
    frame.get_by_label("Filter files").fill("gzip")
    frame.get_by_role("heading", name="3 of 21 files").wait_for()
    frame.get_by_role("button", name="Size").click()
    names = frame.locator("td.name").all_inner_texts()
    assert [read for name in names for read in ("R1", "R2", "I1") if f"_{read}_" in name] == ["R1", "R2", "I1"]
    frame.get_by_role("button", name="Size").click()
    assert frame.locator("td.name").all_inner_texts() == names[::-1]


def test_the_links_are_a_picture(open_page: OpenPage, ingested: Ingested) -> None:
    """`links.json` is drawn with the names that the metadata gives, and a click on a node leads to its file."""
    frame = _frame(open_page(_bundle(ingested)))
    picture = frame.get_by_label("Graph of links.json")
    for name in ("donor_17", "pancreas_17", "islets_17.loom"):  # each as soon as its document has been read
        picture.locator("text", has_text=name).wait_for()
    texts = picture.locator("text").all_text_contents()
    assert {"donor organism", "cell suspension", "dissociation"} <= set(texts)
    assert picture.locator(".node").count() == 12
    assert picture.locator(".edge").count() == 13
    picture.locator(".node").filter(has_text="islets_17.loom").click()
    found = frame.locator("tr.found")
    found.wait_for()
    assert "islets_17.loom" in found.inner_text()


def test_a_hostile_name_is_only_a_name(open_page: OpenPage, ingested: Ingested) -> None:
    """A file called like markup is shown as it is called, and nothing of it becomes a part of the page."""
    frame = _frame(open_page(_bundle(ingested)))
    frame.get_by_text(HOSTILE, exact=True).wait_for()
    assert frame.locator("img").count() == 0


def test_a_bundle_leads_to_its_run_and_back(open_page: OpenPage, ingested: Ingested) -> None:
    """From the bundle a link leads to the DAG run that made it, and from there the task's link to the bundle."""
    page = open_page(_bundle(ingested))
    _frame(page).locator("#maker").get_by_role("link", name="upload").click()
    page.wait_for_url(re.compile(r"/dags/ingest/runs/.*/tasks/upload"))
    page.goto(f"{page.url.split('?')[0]}/details")
    page.get_by_role("link", name="DSS bundle").click()
    _frame(page).get_by_role("heading", name=f"Bundle {ingested.uuid}").wait_for()
    assert f"uuid={ingested.uuid}" in page.url


def test_the_page_stands_alone_too(open_page: OpenPage, ingested: Ingested) -> None:
    """Outside of Airflow's frame the same address shows the same, with a way back to Airflow."""
    page = open_page(f"/hca-dss/bundle?{urlencode(ingested.query)}")
    page.get_by_role("heading", name=f"Bundle {ingested.uuid}").wait_for()
    page.get_by_role("link", name="Airflow").click()
    page.get_by_role("link", name="Dags").first.wait_for()


def test_a_frame_that_airflow_opens_at_its_first_page_goes_where_the_address_leads(
    open_page: OpenPage, ingested: Ingested
) -> None:
    """Airflow 3.1 and 3.2 do not tell the frame the rest of the address: the page sees to it itself."""
    page = open_page("/api/v2/version")  # any page that does not forbid frames
    page.evaluate(
        """address => {
            history.replaceState(null, "", address);
            const frame = document.createElement("iframe");
            Object.assign(frame, { title: "DSS", src: "/hca-dss/", width: 1200, height: 800 });
            document.body.replaceChildren(frame);
        }""",
        _bundle(ingested),
    )
    _frame(page).get_by_role("heading", name=f"Bundle {ingested.uuid}").wait_for()


def test_a_run_has_a_tab_with_its_upload(open_page: OpenPage, ingested: Ingested) -> None:
    """The tab of a DAG run shows its upload, done, with files and bytes, and leads to the bundle."""
    page = open_page(_run(ingested))
    frame = _frame(page)
    card = frame.locator("article", has_text="DSSUploadDirectoryOperator")
    card.get_by_text("21 files").wait_for()
    assert card.get_by_role("progressbar").get_attribute("aria-valuenow") == "100"
    card.get_by_role("link", name=ingested.uuid).click()
    _frame(page).get_by_role("heading", name=f"Bundle {ingested.uuid}").wait_for()
    assert "/plugin/dss/hca-dss/bundle" in page.url


def test_the_id_of_a_run_may_be_in_the_address_as_it_is(open_page: OpenPage, ingested: Ingested) -> None:
    """Airflow 3.1 does not escape the plus that its own ids of runs have; the run is found all the same."""
    assert "+" in ingested.run_id
    page = open_page(f"/hca-dss/run?dag_id=ingest&run_id={ingested.run_id}")
    page.locator("article", has_text="DSSUploadDirectoryOperator").wait_for()


def test_a_failed_upload_says_why(open_page: OpenPage, failed: Ingested) -> None:
    """The tab of the run and the list of ingests show which files failed, and for what reason."""
    frame = _frame(open_page(_run(failed)))
    alert = frame.get_by_role("alert")
    alert.get_by_text("7 files failed, for 1 reason").wait_for()
    assert "read_0.fastq" in alert.inner_text()
    assert "and 2 more" in alert.inner_text()
    assert "Register" in frame.locator("li[aria-current=step]").inner_text()
    listed = _frame(open_page(f"{_FRAME}ingests"))
    listed.get_by_text("7 files failed, for 1 reason").click()
    listed.get_by_text("read_0.fastq").wait_for()


def test_progress_is_seen_without_reloading(
    open_page: OpenPage, airflow: AirflowWithUI, ui_dss: LocalDSS, tmp_path: Path
) -> None:
    """An open tab follows an upload: from nothing to its phases, copies, and its end; so does the bundle's page."""
    for number in range(12):
        (tmp_path / f"{number}.json").write_text(f"{number}")
    (tmp_path / "large.bin").write_bytes(b"\7" * 3_000_000)  # copied asynchronously by this DSS, after 3 s
    slow = {"method": "PUT", "path": "/files/", "action": "slow", "seconds": 1, "times": 99}
    ui_dss.control("POST", "faults", slow)
    run_id = airflow.start_run("ingest", directory=str(tmp_path))
    frame = _frame(open_page(f"/dags/ingest/runs/{quote(run_id)}/plugin/dss-run"))
    step = frame.locator("li[aria-current=step]")
    step.filter(has_text="Register").wait_for()
    address = airflow.page("run", dag_id="ingest", run_id=run_id)["ingests"][0]["bundle"]
    bundle = _frame(open_page(f"{_FRAME}bundle?{urlencode(address)}"))
    bundle.get_by_role("alert").get_by_text("at most a minute after it is made").wait_for()
    step.filter(has_text="Copy").wait_for()
    ui_dss.control("DELETE", "faults")
    frame.locator("article", has_text="DSSUploadDirectoryOperator").get_by_text("success").wait_for()
    assert frame.get_by_role("progressbar").get_attribute("aria-valuenow") == "100"
    bundle.get_by_role("heading", name="13 files").wait_for()


def test_the_shards_of_a_group_are_told_apart(
    open_page: OpenPage, airflow: AirflowWithUI, ui_dss: LocalDSS, tmp_path: Path
) -> None:
    """An open tab follows a group: how many shards are done, and each of them by its number, to the bundle's end."""
    for number in range(10):
        (tmp_path / f"{number}.json").write_text(f"shards {number}")
    slow = {"method": "PUT", "path": "/files/", "action": "slow", "seconds": 1, "times": 99}
    ui_dss.control("POST", "faults", slow)
    run_id = airflow.start_run("grouped", directory=str(tmp_path))
    page = open_page(f"/dags/grouped/runs/{quote(run_id)}/plugin/dss-run")
    shards = _frame(page).locator("article", has_text="DSSUploadShardOperator")
    shards.locator("header").get_by_text("running").wait_for()
    ui_dss.control("DELETE", "faults")
    shards.get_by_text("3 of 3 shards").wait_for()
    for number in (1, 2, 3):
        row = shards.get_by_role("row").filter(has_text=f"upload.shard {number} of 3")
        assert "success" in row.inner_text()
    bundle = _frame(page).locator("article", has_text="DSSUploadShardsBundleOperator")
    bundle.get_by_text("success").wait_for()
    bundle.get_by_text("10 files").wait_for()
    shards.get_by_role("link", name="upload.shard 2 of 3").click()
    page.wait_for_url(re.compile(r"/tasks/upload\.shard/mapped/1"))


def test_a_run_without_bundles_says_so(open_page: OpenPage, airflow: AirflowWithUI) -> None:
    """The tab of a run in which nothing has begun says what will be there."""
    airflow.api("PATCH", "/dags/fetch", {"is_paused": True})
    run_id = airflow.start_run("fetch")
    frame = _frame(open_page(f"/dags/fetch/runs/{quote(run_id)}/plugin/dss-run"))
    frame.get_by_text("No bundles here yet").wait_for()
    airflow.api("DELETE", f"/dags/fetch/dagRuns/{run_id}")
    airflow.api("PATCH", "/dags/fetch", {"is_paused": False})


def test_connections_are_tested_one_by_one(open_page: OpenPage, ui_dss: LocalDSS) -> None:
    """Each connection shows whether it is healthy, or what is wrong with it, and can be tested again."""
    frame = _frame(open_page(f"{_FRAME}connections"))
    good, bad = (frame.locator(f"[data-connection={name}]") for name in ("hca_dss_default", "dss_down"))
    good.get_by_text("healthy").wait_for()
    bad.get_by_text("connection refused").wait_for()
    gone = {"method": "GET", "path": "/bundles/", "action": "status", "status": 503, "times": 9}
    ui_dss.control("POST", "faults", gone)
    good.get_by_role("button", name="Test again").click()
    good.get_by_text("failing").wait_for()
    ui_dss.control("DELETE", "faults")


@pytest.mark.usefixtures("ingested")
def test_what_cannot_be_shown_says_why(open_page: OpenPage) -> None:
    """A bundle that is not there, and a DSS that is down, are told in words, and lead on."""
    gone = urlencode({"connection": "hca_dss_default", "replica": "aws", "uuid": new_uuid()})
    frame = _frame(open_page(f"{_FRAME}bundle?{gone}"))
    frame.get_by_role("alert").get_by_text("404 not_found").wait_for()
    frame.get_by_role("link", name="All bundles").click()
    frame.get_by_role("heading", name=re.compile("bundle version")).wait_for()
    odd = _frame(open_page(f"{_FRAME}bundle?{gone}&version=2024-13-01T000000.000000Z"))
    odd.get_by_role("alert").get_by_text("version must be a DSS_VERSION such as").wait_for()
    down = _frame(open_page(f"{_FRAME}?connection=dss_down"))
    down.get_by_role("alert").get_by_text("Check the host of connection 'dss_down'").wait_for()


def test_an_unfolded_failure_stays_with_its_ingest(open_page: OpenPage) -> None:
    """When a newer ingest gets above one whose failures are unfolded, those stay so, and no others become so."""
    page = open_page("/hca-dss/static/style.css")
    opened = page.evaluate(
        """async () => {
            const { row } = await import("/hca-dss/static/ingest.js");
            const { h, show } = await import("/hca-dss/static/dom.js");
            const failures = [{ cause: "why", count: 1, names: ["a"] }];
            const progress = { error: "", failures };
            const task = { dag_id: "d", task_id: "t", map_index: -1, state: "failed", progress };
            const ingest = (run_id) => ({ ...task, run_id });
            const [main, open] = [h("main"), new Set()];
            document.documentElement.append(main);
            const rows = (runs) => runs.flatMap((run) => row(ingest(run), open));
            const look = (...runs) => show(main, h("table", {}, h("tbody", {}, rows(runs))));
            const settled = () => new Promise((resolve) => setTimeout(resolve, 100));
            look("old");
            main.querySelector("summary").click();
            await settled();
            look("new", "old");
            await settled();
            main.querySelector("summary").click();
            main.querySelector("summary").click();
            await settled();
            look("newest", "new", "old");
            await settled();
            return [...main.querySelectorAll("details")].map((details) => details.open);
        }"""
    )
    assert opened == [False, False, True]


def test_the_hint_of_many_calls_each_by_its_own_name(open_page: OpenPage) -> None:
    """Where the name of only one of several siblings is known, it is not another's."""
    page = open_page("/hca-dss/static/style.css")
    hint = page.evaluate(
        """async () => {
            document.documentElement.append(document.createElement("body"), document.createElement("main"));
            const { showGraph } = await import("/hca-dss/static/graph.js");
            const node = { id: "e:a", kind: "entity", type: "file", members: ["a", "b"], protocols: [], x: 0, y: 0 };
            const named = new Map([["b", { name: "name of b", type: "" }]]);
            return showGraph({ nodes: [node], edges: [], columns: 1 }, named).querySelector("title").textContent;
        }"""
    )
    assert hint.splitlines() == ["file", "a", "name of b: b"]


def test_a_search_ends_the_one_before(open_page: OpenPage, ui_dss: LocalDSS) -> None:
    """What was asked for with fewer letters is not waited for any more."""
    page = open_page(_FRAME)
    frame = _frame(page)
    frame.get_by_role("heading", name=re.compile("bundle version")).wait_for()
    slow = {"method": "GET", "path": "/bundles/all", "action": "slow", "seconds": 3, "times": 1}
    ui_dss.control("POST", "faults", slow)
    with page.expect_event("requestfailed") as failed:
        for prefix in ("0000", "00000000-0000"):
            with page.expect_request(re.compile(f"prefix={prefix}$")):
                frame.get_by_role("searchbox").fill(prefix)
    assert failed.value.url.endswith("prefix=0000")
    frame.get_by_text("No bundle begins like that").wait_for()
    ui_dss.control("DELETE", "faults")


def test_it_turns_dark_with_airflow(open_page: OpenPage) -> None:
    """When Airflow changes between light and dark, the page does at once, in Airflow's own colours."""
    page = open_page(_FRAME)
    body = _frame(page).locator("body")
    _frame(page).get_by_role("navigation").wait_for()
    colours = []
    for theme in ("light", "dark"):
        page.evaluate("theme => { document.documentElement.className = theme }", theme)
        page.wait_for_timeout(100)
        style = "element => getComputedStyle(element).backgroundColor"
        colours.append((body.evaluate(style), page.locator("html").evaluate(style)))
    assert colours[0] != colours[1]
    assert [inner for inner, _ in colours] == [outer for _, outer in colours]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 1920])
def test_nothing_is_cut_off_covered_or_hard_to_read(
    open_page: OpenPage, ingested: Ingested, failed: Ingested, grouped: str, width: int, dark: bool
) -> None:
    """In each view, at both widths, in light and dark, all text is whole, apart, large enough and has contrast."""
    views = {
        _FRAME: "tbody tr",
        _bundle(ingested): "svg .node",
        f"{_FRAME}ingests": "summary",
        f"{_FRAME}connections": ".badge.failed",
        _run(ingested): "article",
        _run(failed): ".notice",
        f"/dags/grouped/runs/{quote(grouped)}/plugin/dss-run": "article table",
    }
    for path, awaited in views.items():
        page = open_page(path, width=width, dark=dark)
        frame = _frame(page)
        frame.locator(awaited).first.wait_for()
        if awaited == "summary":
            frame.locator("summary").first.click()
        if awaited == "svg .node":
            frame.locator("text", has_text="donor_17").wait_for()
            if width == 1920:  # there is room for all of it
                frame.locator("text", has_text="islets_17_S1_L001_R1_001.fastq.gz").wait_for()
                assert frame.locator(".node text", has_text="…").count() == 0
            frame.get_by_role("button", name="All about").first.click()
        assert frame.locator("body").evaluate(_LOOKS) == [], path
