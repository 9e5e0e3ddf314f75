from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS

from airflow_provider_hca.get_provider_info import get_provider_info

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.airflow_processes import Airflow
    from tests.local.server import LocalDSS

    OpenPage = Callable[..., Page]

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("airflow")]

_TYPE = get_provider_info()["connection-types"][0]
_CONN_ID = "from_the_form"
_WRONG_TOKEN = "a-token-that-is-invalid"
# Return placeholders that are wider than their field, and labels that touch it.
_CRAMPED = """dialog => {
  const pen = document.createElement("canvas").getContext("2d");
  const problems = [];
  for (const field of dialog.querySelectorAll("input, textarea")) {
    const style = getComputedStyle(field);
    pen.font = style.font;
    const room = field.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const cut = field.clientWidth && pen.measureText(field.placeholder).width > room;
    if (cut) problems.push(`too long: ${field.placeholder}`);
  }
  for (const label of dialog.querySelectorAll("label")) {
    const words = document.createRange();
    words.selectNodeContents(label);
    const { left, right, top, bottom } = words.getBoundingClientRect();
    for (const field of dialog.querySelectorAll("input")) {
      const box = field.getBoundingClientRect();
      if (!box.width || box.bottom < top || box.top > bottom) continue;
      if (box.left > left && box.left < right + 12) problems.push(`too close: ${label.textContent}`);
    }
  }
  return problems;
}"""


@pytest.fixture
def form(open_page: OpenPage, airflow: Airflow) -> Iterator[Callable[..., tuple[Page, Locator]]]:
    """Return a function that opens Airflow's form for a new connection to a DSS; delete the connection at the end."""

    def opened(**options: object) -> tuple[Page, Locator]:
        page = open_page("/connections", **options)
        page.get_by_role("button", name="Add Connection").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Connection ID").fill(_CONN_ID)
        dialog.get_by_role("combobox").first.click()
        page.get_by_role("option", name=_TYPE["hook-name"]).click()
        return page, dialog

    yield opened
    airflow.call("DELETE", f"/api/v2/connections/{_CONN_ID}")


def _unfold_extra(dialog: Locator) -> None:
    if not AIRFLOW_V_3_4_PLUS:  # which shows all fields
        dialog.get_by_role("button", name="Extra Fields", exact=True).click()


@pytest.mark.parametrize("width", [1280, 1920])
def test_form_has_all_fields_with_labels_and_help(form: Callable[..., tuple[Page, Locator]], width: int) -> None:
    _, dialog = form(width=width)
    behaviour = _TYPE["ui-field-behaviour"]
    for name, label in behaviour["relabeling"].items():
        dialog.get_by_text(label, exact=True).wait_for()
        assert dialog.locator(f"[name={name}]").get_attribute("placeholder") == behaviour["placeholders"][name]
    assert dialog.locator("[name=password]").get_attribute("type") == "password"
    for name in behaviour["hidden-fields"]:
        assert dialog.locator(f"[name={name}]").count() == 0
    assert dialog.evaluate(_CRAMPED) == []
    _unfold_extra(dialog)
    for name, field in _TYPE["conn-fields"].items():
        dialog.get_by_text(field["label"], exact=True).wait_for()
        dialog.get_by_text(field["description"], exact=True).wait_for()
        secret = field["schema"].get("format") == "password"
        assert dialog.locator(f"#element_{name}[type=password]").count() == secret
    assert dialog.evaluate(_CRAMPED) == []


@pytest.mark.parametrize(
    ("host", "token", "title", "message"),
    [
        (None, None, "Test Connection Successful", "answers and accepts the token"),
        ("http://127.0.0.1:1/v1", None, "Test Connection Failed", "Check the host of this connection"),
        ("127.0.0.1", None, "Test Connection Failed", "this connection: its host must be the full URL"),
        (None, _WRONG_TOKEN, "Test Connection Failed", "Check the credentials of this connection"),
    ],
    ids=["good", "unreachable", "no-url", "wrong-token"],
)
def test_form_saves_and_tests_a_connection(
    form: Callable[..., tuple[Page, Locator]],
    airflow: Airflow,
    airflow_dss: LocalDSS,
    host: str | None,
    token: str | None,
    title: str,
    message: str,
) -> None:
    page, dialog = form()
    token = token or airflow_dss.token()
    dialog.locator("[name=host]").fill(host or airflow_dss.url)
    dialog.locator("[name=password]").fill(token)
    _unfold_extra(dialog)
    dialog.locator("#element_audience").fill("https://dss.example.org/")
    dialog.get_by_role("button", name="Save").click()
    dialog.wait_for(state="hidden")
    stored = airflow.api("GET", f"/connections/{_CONN_ID}")
    assert (stored["conn_type"], stored["host"]) == ("hca_dss", host or airflow_dss.url)
    assert '"audience": "https://dss.example.org/"' in stored["extra"]
    # Airflow 3.3.1 and 3.3.2 send a port of 0 if it is empty, and then refuse to test with the stored password.
    port = {"connection_id": _CONN_ID, "conn_type": "hca_dss", "port": 0}
    airflow.api("PATCH", f"/connections/{_CONN_ID}?update_mask=port", port)
    page.reload()
    page.get_by_role("row").filter(has_text=_CONN_ID).get_by_role("button", name="Test Connection").click()
    toast = page.locator("[data-scope=toast][data-part=root]")
    toast.get_by_text(title).wait_for()
    assert message in toast.inner_text()
    assert token not in page.content()
