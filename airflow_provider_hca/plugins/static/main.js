// Select the view by the address, and show the tabs.

import { followOuterAddress, framed, get, openOutside, airflow, view } from "./api.js";
import { showBundle } from "./bundle.js";
import { showBundles } from "./bundles.js";
import { showConnections } from "./connections.js";
import { h, notice, skeleton } from "./dom.js";
import { showIngests } from "./ingests.js";
import { showRun } from "./run.js";
import { followTheme } from "./theme.js";

const TABS = [["", "Bundles"], ["ingests", "Ingests"], ["connections", "Connections"]];
const VIEWS = { "": showBundles, asset: openAsset, bundle: showBundle, ingests: showIngests, connections: showConnections, run: showRun };

const name = location.pathname.split("/").pop();
// Airflow 3.1 does not encode the run id in the address of the tab, so a plus would be read as a space.
const query = Object.fromEntries(new URLSearchParams(name === "run" ? location.search.replaceAll("+", "%2B") : location.search));
const header = document.getElementById("header");
const main = document.getElementById("main");

async function start() {
  followTheme();
  if (followOuterAddress()) return;
  main.append(skeleton(6));
  document.body.dataset.view = name || "bundles";
  const session = name === "run" ? { connections: [], readable: false } : await get("connections");
  if (name !== "run") showTabs(session);
  await VIEWS[name](main, query, session);
}

async function openAsset(_, { asset_id }) {
  location.replace(view("bundle", await get(`assets/${asset_id}`)));
}

function showTabs(session) {
  const here = ["asset", "bundle"].includes(name) ? "" : name;
  const kept = { connection: query.connection, replica: query.replica };
  header.append(
    h(
      "nav",
      { class: "tabs", "aria-label": "DSS" },
      TABS.filter(([tab]) => tab !== "connections" || session.readable).map(([tab, title]) =>
        h("a", { href: view(tab, kept), "aria-current": tab === here ? "page" : undefined }, title),
      ),
      !framed && h("span", { class: "home" }, openOutside(h("a", { href: airflow("/") }, "Airflow"))),
    ),
  );
}

start().catch((error) => main.replaceChildren(notice("error", "Cannot show this page", error.message)));
