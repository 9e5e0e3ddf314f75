// Which view this is, and what stands above it.

import { followAirflow, framed, get, leaves, airflow, view } from "./api.js";
import { showBundle } from "./bundle.js";
import { showBundles } from "./bundles.js";
import { showConnections } from "./connections.js";
import { h, notice, skeleton } from "./dom.js";
import { showIngests } from "./ingests.js";
import { showRun } from "./run.js";
import { followTheme } from "./theme.js";

const TABS = [["", "Bundles"], ["ingests", "Ingests"], ["connections", "Connections"]];
const VIEWS = { "": showBundles, bundle: showBundle, ingests: showIngests, connections: showConnections, run: showRun };

const name = location.pathname.split("/").pop();
// Airflow 3.1 puts the id of a run into the tab's address as it is, where a plus would count as a space.
const query = Object.fromEntries(new URLSearchParams(name === "run" ? location.search.replaceAll("+", "%2B") : location.search));
const header = document.getElementById("header");
const main = document.getElementById("main");

async function start() {
  followTheme();
  if (followAirflow()) return;
  main.append(skeleton(6));
  document.body.dataset.view = name || "bundles";
  const session = name === "run" ? { connections: [], readable: false } : await get("connections");
  if (name !== "run") showTabs(session);
  await VIEWS[name](main, query, session);
}

function showTabs(session) {
  const here = name === "bundle" ? "" : name;
  const kept = { connection: query.connection, replica: query.replica };
  header.append(
    h(
      "nav",
      { class: "tabs", "aria-label": "DSS" },
      TABS.filter(([tab]) => tab !== "connections" || session.readable).map(([tab, title]) =>
        h("a", { href: view(tab, kept), "aria-current": tab === here ? "page" : undefined }, title),
      ),
      !framed && h("span", { class: "home" }, leaves(h("a", { href: airflow("/") }, "Airflow"))),
    ),
  );
}

start().catch((error) => main.replaceChildren(notice("error", "This cannot be shown", error.message)));
