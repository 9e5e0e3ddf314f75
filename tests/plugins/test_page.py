from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS

from tests.local.server import new_uuid
from tests.plugins.auth_manager import STRANGER
from tests.plugins.conftest import Ingested
from tests.plugins.samples import NAME_WITH_MARKUP

if TYPE_CHECKING:
    from playwright.sync_api import FrameLocator, Page

    from tests.airflow_processes import Airflow
    from tests.local.server import LocalDSS

    OpenPage = Callable[..., Page]

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("airflow")]

_FRAME = "/plugin/dss/hca-dss/"
_LAYOUT_PROBLEMS = (Path(__file__).parent / "layout_problems.js").read_text()


def _frame(page: Page) -> FrameLocator:
    """Return the content of Airflow's frame."""
    return page.frame_locator("iframe[title=DSS]")


def _bundle(ingested: Ingested) -> str:
    return f"{_FRAME}bundle?{urlencode(ingested.query)}"


def _run(ingested: Ingested) -> str:
    return f"/dags/{ingested.dag_id}/runs/{quote(ingested.run_id)}/plugin/dss-run"


def _set_theme(page: Page, theme: str) -> None:
    """Change the theme like Airflow's own switch."""
    page.evaluate("theme => { document.documentElement.className = theme }", theme)
    page.wait_for_timeout(100)


def test_navigation_entry_opens_the_newest_bundles(open_page: OpenPage, ingested: Ingested) -> None:
    page = open_page("/")
    page.get_by_role("link", name="DSS", exact=True).click()
    row = _frame(page).get_by_role("row").filter(has_text=ingested.uuid)
    row.get_by_role("link", name="ingest", exact=True).wait_for()
    assert ingested.version in row.inner_text()


@pytest.mark.parametrize("role", ["viewer", "op"])
def test_connections_tab_needs_permission_to_read_connections(open_page: OpenPage, role: str) -> None:
    page = open_page(_FRAME, role)
    tabs = _frame(page).get_by_role("navigation").get_by_role("link")
    tabs.first.wait_for()
    expected = ["Bundles", "Ingests", "Connections"] if role == "op" else ["Bundles", "Ingests"]
    assert tabs.all_inner_texts() == expected


def test_navigation_entry_needs_permission_to_see_plugins(open_page: OpenPage) -> None:
    page = open_page("/", STRANGER)
    page.get_by_role("link", name="Dags").first.wait_for()
    page.wait_for_load_state("networkidle")
    assert page.get_by_role("link", name="DSS", exact=True).count() == 0


def test_search_finds_bundles_by_prefix_and_name(open_page: OpenPage, ingested: Ingested) -> None:
    frame = _frame(open_page(_FRAME))
    search = frame.get_by_role("searchbox")
    search.fill(ingested.uuid[:10].upper())
    frame.get_by_role("heading", name=re.compile("1 bundle version matching")).wait_for()
    assert frame.locator("tbody tr").count() == 1
    search.fill("ISLETS")
    frame.get_by_role("row").filter(has_text=ingested.uuid).get_by_text("islets").wait_for()
    search.fill("00000000-0000")
    frame.get_by_text("No matching bundle").wait_for()


def test_replica_button_switches_bundles_and_their_links(open_page: OpenPage, ingested: Ingested) -> None:
    page = open_page(f"{_FRAME}?text={ingested.uuid}")
    frame = _frame(page)
    frame.get_by_role("heading", name="in aws").wait_for()
    frame.get_by_role("button", name="gcp").click()
    frame.get_by_role("heading", name="in gcp").wait_for()
    assert frame.get_by_role("button", name="gcp").get_attribute("aria-pressed") == "true"
    frame.get_by_role("link", name=ingested.uuid).click()
    frame.get_by_role("heading", name=f"Bundle {ingested.uuid}").wait_for()
    assert "replica=gcp" in page.url


def test_bundle_lists_filters_and_sorts_files(open_page: OpenPage, ingested: Ingested, airflow_dss: LocalDSS) -> None:
    """Each file has name, type, size and version, and its details have the four checksums."""
    frame = _frame(open_page(_bundle(ingested)))
    files = airflow_dss.call("GET", f"/bundles/{ingested.uuid}", replica="aws").json()["bundle"]["files"]
    file = next(file for file in files if file["name"] == "islets_17.bam")
    row = frame.get_by_role("row").filter(has_text="islets_17.bam")
    row.wait_for()
    for text in ("application/octet-stream", "152.3 KiB", file["sha256"][:12], file["version"]):
        assert text in row.inner_text()
    row.get_by_role("button", name="Details of").click()
    for name in ("sha256", "sha1", "s3_etag", "crc32c"):
        frame.get_by_text(file[name], exact=True).wait_for()
    frame.get_by_text(NAME_WITH_MARKUP, exact=True).wait_for()
    assert frame.locator("img").count() == 0
    frame.get_by_label("Filter files").fill("gzip")
    frame.get_by_role("heading", name="3 of 21 files").wait_for()
    frame.get_by_role("button", name="Size").click()
    names = frame.locator("td.name").all_inner_texts()
    assert [read for name in names for read in ("R1", "R2", "I1") if f"_{read}_" in name] == ["R1", "R2", "I1"]
    frame.get_by_role("button", name="Size").click()
    assert frame.locator("td.name").all_inner_texts() == names[::-1]


def test_bundle_draws_links_with_names_from_metadata(open_page: OpenPage, ingested: Ingested) -> None:
    """A click on a node scrolls to its file."""
    frame = _frame(open_page(_bundle(ingested)))
    picture = frame.get_by_label("Graph of links.json")
    for name in ("donor_17", "pancreas_17", "islets_17.loom"):  # shown as soon as its document is read
        picture.locator("text", has_text=name).wait_for()
    texts = picture.locator("text").all_text_contents()
    assert {"donor organism", "cell suspension", "dissociation"} <= set(texts)
    assert picture.locator(".node").count() == 12
    assert picture.locator(".edge").count() == 13
    picture.locator(".node").filter(has_text="islets_17.loom").click()
    found = frame.locator("tr.found")
    found.wait_for()
    assert "islets_17.loom" in found.inner_text()


def test_bundle_links_to_its_task_and_the_task_to_its_bundle(open_page: OpenPage, ingested: Ingested) -> None:
    page = open_page(_bundle(ingested))
    _frame(page).locator("#creator").get_by_role("link", name="upload").click()
    page.wait_for_url(re.compile(r"/dags/ingest/runs/.*/tasks/upload"))
    page.goto(f"{page.url.split('?')[0]}/details")
    page.get_by_role("link", name="DSS bundle").click()
    _frame(page).get_by_role("heading", name=f"Bundle {ingested.uuid}").wait_for()
    assert f"uuid={ingested.uuid}" in page.url


def test_page_without_frame_links_to_airflow(open_page: OpenPage, ingested: Ingested) -> None:
    page = open_page(f"/hca-dss/bundle?{urlencode(ingested.query)}")
    page.get_by_role("heading", name=f"Bundle {ingested.uuid}").wait_for()
    page.get_by_role("link", name="Airflow").click()
    page.get_by_role("link", name="Dags").first.wait_for()


def test_frame_opened_at_its_first_page_follows_the_outer_address(open_page: OpenPage, ingested: Ingested) -> None:
    """Airflow 3.1 and 3.2 do not pass the rest of the address to the frame."""
    page = open_page("/api/v2/version")  # a page that allows frames
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


def test_run_tab_shows_the_finished_upload_and_links_to_the_bundle(open_page: OpenPage, ingested: Ingested) -> None:
    page = open_page(_run(ingested))
    frame = _frame(page)
    card = frame.locator("article", has_text="DSSUploadDirectoryOperator")
    card.get_by_text("21 files").wait_for()
    assert card.get_by_role("progressbar").get_attribute("aria-valuenow") == "100"
    card.get_by_role("link", name=ingested.uuid).click()
    _frame(page).get_by_role("heading", name=f"Bundle {ingested.uuid}").wait_for()
    assert "/plugin/dss/hca-dss/bundle" in page.url


def test_run_tab_accepts_an_unescaped_run_id(open_page: OpenPage, ingested: Ingested) -> None:
    """Airflow 3.1 does not escape the plus of run ids."""
    assert "+" in ingested.run_id
    page = open_page(f"/hca-dss/run?dag_id=ingest&run_id={ingested.run_id}")
    page.locator("article", has_text="DSSUploadDirectoryOperator").wait_for()


def test_failed_upload_shows_files_and_reason(open_page: OpenPage, failed: Ingested) -> None:
    """Both on the tab of the run and in the list of ingests."""
    frame = _frame(open_page(_run(failed)))
    alert = frame.locator("[data-task=upload]").get_by_role("alert")
    alert.get_by_text("7 files failed, for 1 reason").wait_for()
    assert "read_0.fastq" in alert.inner_text()
    assert "and 2 more" in alert.inner_text()
    assert "Register" in frame.locator("li[aria-current=step]").inner_text()
    listed = _frame(open_page(f"{_FRAME}ingests"))
    listed.get_by_text("7 files failed, for 1 reason").wait_for()
    assert "read_0.fastq" in listed.locator("tr", has_text="7 files failed").first.inner_text()  # without unfolding


def test_mapped_uploads_are_one_ingest_that_opens_by_a_click(
    open_page: OpenPage, airflow: Airflow, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.json").write_text(f'"{name}"')
    airflow.run("mapped", directory=str(tmp_path))
    page = open_page(f"{_FRAME}ingests")
    frame = _frame(page)
    frame.get_by_label("DAG", exact=True).select_option("mapped")
    row = frame.locator("tr.opens")
    row.get_by_text("3 mapped tasks: 1 failed, 2 success").wait_for()
    frame.get_by_text("there is no such directory").wait_for()  # the reason, while the row is closed
    row.locator("td").last.click()
    tasks = frame.get_by_label("Mapped tasks", exact=True).get_by_role("row")
    tasks.filter(has_text="upload [2]").wait_for()
    assert re.findall(r"upload \[(\d)\]", "".join(tasks.all_inner_texts())) == ["0", "1", "2"]
    frame.get_by_role("searchbox").fill("SAMPLE SEC")
    tasks.filter(has_text="upload [0]").wait_for(state="detached")
    tasks.filter(has_text="upload [1] sample second").get_by_role("link", name=f"{tmp_path.name}/second").wait_for()
    frame.get_by_label("State").select_option("skipped")
    frame.get_by_text("No matching ingest").wait_for()


def test_progress_updates_without_reloading(
    open_page: OpenPage, airflow: Airflow, airflow_dss: LocalDSS, tmp_path: Path
) -> None:
    """The tab of the run and the page of the future bundle follow an upload to its end."""
    for number in range(60):
        (tmp_path / f"{number}.json").write_text(f"{number}")
    (tmp_path / "large.bin").write_bytes(b"\7" * 3_000_000)  # copied asynchronously by this DSS
    slow = {"method": "PUT", "path": "/files/", "action": "slow", "seconds": 1, "times": 99}
    uncopied = {"method": "HEAD", "path": "/files/", "action": "status", "status": 404, "times": 999}
    airflow_dss.control("POST", "faults", slow)
    run_id = airflow.start_run("ingest", directory=str(tmp_path))
    frame = _frame(open_page(f"/dags/ingest/runs/{quote(run_id)}/plugin/dss-run"))
    step = frame.locator("li[aria-current=step]")
    step.filter(has_text="Register").wait_for()
    airflow_dss.control("DELETE", "faults")
    airflow_dss.control("POST", "faults", uncopied)
    address = airflow.page("run", dag_id="ingest", run_id=run_id)["ingests"][0]["bundle"]
    bundle = _frame(open_page(f"{_FRAME}bundle?{urlencode(address)}"))
    bundle.get_by_text("Still being created").wait_for()
    step.filter(has_text="Copy").wait_for()
    airflow_dss.control("DELETE", "faults")
    frame.locator("article", has_text="DSSUploadDirectoryOperator").get_by_text("success").wait_for()
    assert frame.get_by_role("progressbar").get_attribute("aria-valuenow") == "100"
    bundle.get_by_role("heading", name="61 files").wait_for()


def test_run_tab_shows_shards_by_number(
    open_page: OpenPage, airflow: Airflow, airflow_dss: LocalDSS, tmp_path: Path
) -> None:
    """The tab follows the shards of an upload group until the bundle is created."""
    for number in range(10):
        (tmp_path / f"{number}.json").write_text(f"shards {number}")
    slow = {"method": "PUT", "path": "/files/", "action": "slow", "seconds": 1, "times": 99}
    airflow_dss.control("POST", "faults", slow)
    run_id = airflow.start_run("grouped", directory=str(tmp_path))
    page = open_page(f"/dags/grouped/runs/{quote(run_id)}/plugin/dss-run")
    shards = _frame(page).locator("article", has_text="DSSUploadShardOperator")
    shards.locator("header").get_by_text("running").wait_for()
    airflow_dss.control("DELETE", "faults")
    shards.get_by_text("3 of 3 shards").wait_for()
    for number in (1, 2, 3):
        row = shards.get_by_role("row").filter(has_text=f"{number} of 3")
        assert "success" in row.inner_text()
    bundle = _frame(page).locator("article", has_text="DSSUploadShardsBundleOperator")
    bundle.get_by_text("success").wait_for()
    bundle.get_by_text("10 files").wait_for()
    shards.get_by_role("link", name="2 of 3").click()
    page.wait_for_url(re.compile(r"/tasks/upload\.shard/mapped/1"))


def test_run_tab_without_bundles_explains_itself(open_page: OpenPage, airflow: Airflow) -> None:
    run_id = airflow.start_run("unrelated")
    frame = _frame(open_page(f"/dags/unrelated/runs/{quote(run_id)}/plugin/dss-run"))
    frame.get_by_text("No tasks with the DSS here yet").wait_for()


if AIRFLOW_V_3_4_PLUS:

    def test_tab_is_on_tasks_with_the_dss_only(open_page: OpenPage, airflow: Airflow, ingested: Ingested) -> None:
        tasks = f"/dags/ingest/runs/{quote(ingested.run_id)}/tasks/"
        page = open_page(f"{tasks}upload")
        page.locator("a[href$='/tasks/upload/plugin/dss-task']").click()
        card = _frame(page).locator("article")
        card.get_by_text("21 files").wait_for()
        assert card.count() == 1
        page.goto(f"{airflow.url}{tasks}unrelated")
        page.locator("a[href$='/tasks/unrelated/xcom']").wait_for()
        page.wait_for_load_state("networkidle")
        assert page.locator("a[href$='/plugin/dss-task']").count() == 0

    def test_asset_of_a_bundle_has_a_tab_with_it(open_page: OpenPage, airflow: Airflow, ingested: Ingested) -> None:
        ((asset_id,),) = airflow.rows("SELECT id FROM asset WHERE uri LIKE ?", f"%{ingested.uuid}.{ingested.version}")
        page = open_page(f"/assets/{asset_id}")
        page.locator("a[href$='/plugin/dss-asset']").click()
        _frame(page).get_by_role("heading", name=ingested.uuid).wait_for()


def test_connections_show_their_health_and_can_be_tested_again(open_page: OpenPage, airflow_dss: LocalDSS) -> None:
    frame = _frame(open_page(f"{_FRAME}connections"))
    good, bad = (frame.locator(f"[data-connection={name}]") for name in ("hca_dss_default", "dss_down"))
    good.get_by_text("healthy").wait_for()
    bad.get_by_text("connection refused").wait_for()
    gone = {"method": "GET", "path": "/bundles/", "action": "status", "status": 503, "times": 9}
    airflow_dss.control("POST", "faults", gone)
    good.get_by_role("button", name="Test again").click()
    good.get_by_text("failing").wait_for()
    airflow_dss.control("DELETE", "faults")


@pytest.mark.usefixtures("ingested")
def test_missing_bundle_and_unreachable_dss_are_explained(open_page: OpenPage) -> None:
    gone = urlencode({"connection": "hca_dss_default", "replica": "aws", "uuid": new_uuid()})
    frame = _frame(open_page(f"{_FRAME}bundle?{gone}"))
    frame.get_by_role("alert").get_by_text("404 not_found").wait_for()
    frame.get_by_role("link", name="All bundles").click()
    frame.get_by_role("heading", name=re.compile("bundle version")).wait_for()
    invalid = _frame(open_page(f"{_FRAME}bundle?{gone}&version=2024-13-01T000000.000000Z"))
    invalid.get_by_role("alert").get_by_text("Version must be a DSS_VERSION such as").wait_for()
    down = _frame(open_page(f"{_FRAME}?connection=dss_down"))
    down.get_by_role("alert").get_by_text("Check the host of connection 'dss_down'").wait_for()


def test_unfolded_failure_stays_with_its_ingest(open_page: OpenPage) -> None:
    """Newer ingests that appear above do not take over the open state."""
    page = open_page("/hca-dss/static/style.css")
    opened = page.evaluate(
        """async () => {
            const { row } = await import("/hca-dss/static/ingest.js");
            const { h, show } = await import("/hca-dss/static/dom.js");
            const failures = ["why", "why else"].map((cause) => ({ cause, count: 1, names: ["a"] }));
            const progress = { failures };
            const task = { dag_id: "d", task_id: "t", map_index: -1, state: "failed", states: {}, progress };
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


def test_hint_of_grouped_nodes_names_only_known_ones(open_page: OpenPage) -> None:
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


def test_search_aborts_the_request_of_the_previous_search(open_page: OpenPage, airflow_dss: LocalDSS) -> None:
    page = open_page(_FRAME)
    frame = _frame(page)
    frame.get_by_role("heading", name=re.compile("bundle version")).wait_for()
    slow = {"method": "GET", "path": "/bundles/all", "action": "slow", "seconds": 3, "times": 1}
    airflow_dss.control("POST", "faults", slow)
    with page.expect_event("requestfailed") as failed:
        for prefix in ("0000", "00000000-0000"):
            with page.expect_request(re.compile(f"prefix={prefix}$")):
                frame.get_by_role("searchbox").fill(prefix)
    assert failed.value.url.endswith("prefix=0000")
    frame.get_by_text("No matching bundle").wait_for()
    airflow_dss.control("DELETE", "faults")


def test_theme_follows_airflow(open_page: OpenPage) -> None:
    page = open_page(_FRAME)
    body = _frame(page).locator("body")
    _frame(page).get_by_role("navigation").wait_for()
    colours = []
    for theme in ("light", "dark"):
        _set_theme(page, theme)
        style = "element => getComputedStyle(element).backgroundColor"
        colours.append((body.evaluate(style), page.locator("html").evaluate(style)))
    assert colours[0] != colours[1]
    assert [inner for inner, _ in colours] == [outer for _, outer in colours]


@pytest.mark.parametrize("width", [1280, 1920])
def test_views_have_no_clipped_covered_or_faint_text(
    open_page: OpenPage, ingested: Ingested, failed: Ingested, grouped: str, width: int
) -> None:
    views = {
        _FRAME: "tbody tr",
        _bundle(ingested): "svg .node",
        f"{_FRAME}ingests": ".failures",
        f"{_FRAME}connections": ".badge.failed",
        _run(ingested): "article",
        _run(failed): ".notice",
        f"/dags/grouped/runs/{quote(grouped)}/plugin/dss-run": "article table",
    }
    for path, selector in views.items():
        page = open_page(path, width=width)
        frame = _frame(page)
        frame.locator(selector).first.wait_for()
        if selector == "svg .node":
            frame.locator("text", has_text="donor_17").wait_for()
            if width == 1920:  # wide enough for all names
                frame.locator("text", has_text="islets_17_S1_L001_R1_001.fastq.gz").wait_for()
                assert frame.locator(".node text", has_text="…").count() == 0
            frame.get_by_role("button", name="Details of").first.click()
        for theme in ("light", "dark"):
            _set_theme(page, theme)
            assert frame.locator("body").evaluate(_LAYOUT_PROBLEMS) == [], f"{path}, {theme}"
