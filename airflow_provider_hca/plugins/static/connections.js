// Health of the connections.

import { get, view } from "./api.js";
import { empty, h, icon, notice, skeleton } from "./dom.js";
import { duration } from "./format.js";

export async function showConnections(main, query, session) {
  if (!session.readable) {
    main.replaceChildren(notice("error", "No permission to read connections", "Ask an administrator of this Airflow."));
    return;
  }
  if (!session.connections.length) {
    main.replaceChildren(empty("No connection to a DSS yet", "Add one of the type “HCA Data Storage System (DSS)” under Admin, Connections."));
    return;
  }
  const cards = session.connections.map(card);
  main.replaceChildren(
    h("h2", {}, `${session.connections.length === 1 ? "1 connection" : `${session.connections.length} connections`} to a DSS`),
    h("div", { class: "cards" }, cards.map(({ element }) => element)),
    h("p", { class: "hint" }, "Connections of the type hca_dss that are stored in Airflow or set in the environment of its API server."),
  );
  await Promise.all(cards.map(({ test }) => test()));
}

function card(conn_id) {
  const body = h("div", {});
  const badge = h("span", { class: "badge" }, "testing");
  const again = h("button", { class: "small" }, icon("refresh"), "Test again");
  const element = h(
    "article",
    { class: "card", "data-connection": conn_id },
    h("header", {}, h("h3", {}, conn_id), badge),
    body,
    h("footer", {}, h("a", { href: view("", { connection: conn_id }) }, "Bundles"), again),
  );

  async function test() {
    again.disabled = true;
    badge.className = "badge";
    badge.textContent = "testing";
    body.replaceChildren(skeleton(3));
    try {
      const health = await get(`connections/${encodeURIComponent(conn_id)}/health`);
      badge.className = `badge ${health.ok ? "success" : "failed"}`;
      badge.textContent = !health.ok ? "failing" : health.credentials ? "healthy" : "answers";
      body.replaceChildren(details(health));
    } catch (error) {
      badge.className = "badge failed";
      badge.textContent = "unknown";
      body.replaceChildren(notice("error", "Cannot test this connection", error.message));
    }
    again.disabled = false;
  }
  again.addEventListener("click", test);
  return { element, test };
}

function details(health) {
  return h(
    "div",
    {},
    health.ok ? h("p", {}, health.message) : notice("error", "Problem", health.message),
    h(
      "dl",
      {},
      h("div", {}, h("dt", {}, "Host"), h("dd", { class: "mono" }, health.host || "-")),
      h("div", {}, h("dt", {}, "Credentials"), h("dd", {}, health.credentials || "not tested")),
      h("div", {}, h("dt", {}, "Answered in"), h("dd", {}, duration(health.seconds))),
    ),
  );
}
