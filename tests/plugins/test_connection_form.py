from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from airflow_provider_hca.get_provider_info import get_provider_info

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.local.server import LocalDSS
    from tests.plugins.airflow import AirflowWithUI

    OpenPage = Callable[..., Page]

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("airflow")]

_TYPE = get_provider_info()["connection-types"][0]
_MADE = "made_by_hand"
_WRONG_TOKEN = "a-token-that-no-dss-takes"
# Of every field what a person cannot see: a label that reaches its field, or a placeholder that is wider than it.
_CRAMPED = """dialog => {
  const pen = document.createElement("canvas").getContext("2d");
  const wrong = [];
  for (const field of dialog.querySelectorAll("input, textarea")) {
    const style = getComputedStyle(field);
    pen.font = style.font;
    const room = field.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const cut = field.clientWidth && pen.measureText(field.placeholder).width > room;
    if (cut) wrong.push(`too long: ${field.placeholder}`);
  }
  for (const label of dialog.querySelectorAll("label")) {
    const words = document.createRange();
    words.selectNodeContents(label);
    const { left, right, top, bottom } = words.getBoundingClientRect();
    for (const field of dialog.querySelectorAll("input")) {
      const box = field.getBoundingClientRect();
      if (!box.width || box.bottom < top || box.top > bottom) continue;
      if (box.left > left && box.left < right + 12) wrong.push(`too close: ${label.textContent}`);
    }
  }
  return wrong;
}"""


@pytest.fixture
def form(open_page: OpenPage, airflow: AirflowWithUI) -> Iterator[Callable[..., tuple[Page, Locator]]]:
    """Give a function that opens Airflow's form for a new connection of our type; what is saved is deleted again."""

    def opened(**look: object) -> tuple[Page, Locator]:
        page = open_page("/connections", **look)
        page.get_by_role("button", name="Add Connection").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Connection ID").fill(_MADE)
        dialog.get_by_role("combobox").first.click()
        page.get_by_role("option", name=_TYPE["hook-name"]).click()
        return page, dialog

    yield opened
    airflow.call("DELETE", f"/api/v2/connections/{_MADE}")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 1920])
def test_the_form_asks_for_what_the_hook_reads(
    form: Callable[..., tuple[Page, Locator]], width: int, dark: bool
) -> None:
    """The form has our labels, placeholders and help, whole and apart; what is secret is typed into password fields."""
    _, dialog = form(width=width, dark=dark)
    behaviour = _TYPE["ui-field-behaviour"]
    for name, label in behaviour["relabeling"].items():
        dialog.get_by_text(label, exact=True).wait_for()
        assert dialog.locator(f"[name={name}]").get_attribute("placeholder") == behaviour["placeholders"][name]
    assert dialog.locator("[name=password]").get_attribute("type") == "password"
    for name in behaviour["hidden-fields"]:
        assert dialog.locator(f"[name={name}]").count() == 0
    assert dialog.evaluate(_CRAMPED) == []
    dialog.get_by_role("button", name="Extra Fields", exact=True).click()
    for name, field in _TYPE["conn-fields"].items():
        dialog.get_by_text(field["label"], exact=True).wait_for()
        dialog.get_by_text(field["description"], exact=True).wait_for()
        secret = field["schema"].get("format") == "password"
        assert dialog.locator(f"#element_{name}[type=password]").count() == secret
    assert dialog.evaluate(_CRAMPED) == []


@pytest.mark.parametrize(
    ("host", "token", "title", "said"),
    [
        (None, None, "Test Connection Successful", "answers and accepts the token"),
        ("http://127.0.0.1:1/v1", None, "Test Connection Failed", "Check the host of this connection"),
        ("127.0.0.1", None, "Test Connection Failed", "this connection: its host must be the full URL"),
        (None, _WRONG_TOKEN, "Test Connection Failed", "Check the credentials of this connection"),
    ],
    ids=["good", "nobody-there", "no-url", "wrong-token"],
)
def test_a_connection_made_by_hand_is_saved_and_tested(
    form: Callable[..., tuple[Page, Locator]],
    airflow: AirflowWithUI,
    ui_dss: LocalDSS,
    host: str | None,
    token: str | None,
    title: str,
    said: str,
) -> None:
    """What is filled in is saved, and "Test" says in a sentence that it works, or what is wrong, but never a token."""
    page, dialog = form()
    token = token or ui_dss.token()
    dialog.locator("[name=host]").fill(host or ui_dss.url)
    dialog.locator("[name=password]").fill(token)
    dialog.get_by_role("button", name="Extra Fields", exact=True).click()
    dialog.locator("#element_audience").fill("https://dss.example.org/")
    dialog.get_by_role("button", name="Save").click()
    dialog.wait_for(state="hidden")
    stored = airflow.api("GET", f"/connections/{_MADE}")
    assert (stored["conn_type"], stored["host"]) == ("hca_dss", host or ui_dss.url)
    assert '"audience": "https://dss.example.org/"' in stored["extra"]
    # Airflow 3.3.1 and 3.3.2 send a port of 0 for none, and then refuse to test with the stored password.
    port = {"connection_id": _MADE, "conn_type": "hca_dss", "port": 0}
    airflow.api("PATCH", f"/connections/{_MADE}?update_mask=port", port)
    page.reload()
    page.get_by_role("row").filter(has_text=_MADE).get_by_role("button", name="Test Connection").click()
    toast = page.locator("[data-scope=toast][data-part=root]")
    toast.get_by_text(title).wait_for()
    assert said in toast.inner_text()
    assert token not in page.content()
