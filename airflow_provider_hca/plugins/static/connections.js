// Health of the connections.

import { get, view } from "./api.js";
import { empty, h, icon, notice, skeleton, stateBadge } from "./dom.js";
import { count, duration, sentence } from "./format.js";

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
    h("h2", {}, `${count(session.connections.length, "connection")} to a DSS`),
    h("div", { class: "cards" }, cards.map(({ element }) => element)),
    h("p", { class: "hint" }, "Connections of the type hca_dss that are stored in Airflow or set in the environment of its API server."),
  );
  await Promise.all(cards.map(({ test }) => test()));
}

function card(conn_id) {
  const body = h("div", {});
  const badge = h("span", {}, stateBadge("queued", "testing"));
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
    badge.replaceChildren(stateBadge("queued", "testing"));
    body.replaceChildren(skeleton(3));
    try {
      const health = await get(`connections/${encodeURIComponent(conn_id)}/health`);
      badge.replaceChildren(verdict(health));
      body.replaceChildren(details(health));
    } catch (error) {
      badge.replaceChildren(stateBadge("failed", "unknown"));
      body.replaceChildren(notice("error", "Cannot test this connection", error.message));
    }
    again.disabled = false;
  }
  again.addEventListener("click", test);
  return { element, test };
}

function verdict(health) {
  if (!health.ok) return stateBadge("failed", "failing");
  if (health.read_only) return stateBadge("read_only");
  return stateBadge("success", health.credentials ? "healthy" : "answers");
}

function details(health) {
  return h(
    "div",
    {},
    health.ok ? h("p", {}, sentence(health.message)) : notice("error", "Problem", health.message),
    h(
      "dl",
      {},
      h("div", {}, h("dt", {}, "Host"), h("dd", { class: "mono" }, health.host || "-")),
      h("div", {}, h("dt", {}, "Credentials"), h("dd", {}, sentence(health.credentials) || "Not tested")),
      health.seconds !== null && h("div", {}, h("dt", {}, "Answered in"), h("dd", {}, duration(health.seconds))),
    ),
  );
}
