// The newest bundles of a replica, and those whose uuids begin as asked.

import { get, leaves, runPath, view } from "./api.js";
import { copyButton, empty, h, icon, notice, skeleton, table } from "./dom.js";
import { ago, clock, count, moment, number } from "./format.js";

const AT_ONCE = 50;
const REPLICAS = ["aws", "gcp"];

export async function showBundles(main, query, session) {
  if (!session.connections.length) {
    main.replaceChildren(
      empty("There is no connection to a DSS yet", "Add one of the type “HCA Data Storage System (DSS)” under Admin, Connections."),
    );
    return;
  }
  const state = {
    connection: session.connections.includes(query.connection) ? query.connection : session.connections[0],
    replica: REPLICAS.includes(query.replica) ? query.replica : "aws",
    prefix: query.prefix ?? "",
  };
  const found = h("div", {});
  let asked = new AbortController();

  async function refresh() {
    asked.abort(); // a DSS may take long for each letter that is typed
    asked = new AbortController();
    const { signal } = asked;
    history.replaceState(null, "", view("", state));
    found.replaceChildren(skeleton(8));
    try {
      const { connection, replica, prefix } = state;
      const listed = await get(`connections/${encodeURIComponent(connection)}/bundles`, { replica, prefix }, signal);
      if (!signal.aborted) found.replaceChildren(...list(listed, state));
    } catch (error) {
      if (!signal.aborted) found.replaceChildren(notice("error", `The bundles of ${state.connection} cannot be listed`, error.message));
    }
  }

  main.replaceChildren(controls(state, session, refresh), found);
  await refresh();
}

function controls(state, session, refresh) {
  const wrong = h("p", { class: "hint", id: "wrong" });
  const input = h("input", {
    type: "search",
    placeholder: "Search bundles by the beginning of their uuid",
    "aria-label": "Beginning of the uuid",
    "aria-describedby": "wrong",
    spellcheck: "false",
    autocomplete: "off",
    maxlength: 36,
    value: state.prefix,
  });
  let timer;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    const prefix = input.value.trim().toLowerCase();
    const fine = /^[0-9a-f-]*$/.test(prefix);
    wrong.textContent = fine ? "" : "A uuid has only the digits 0 to 9, the letters a to f, and dashes.";
    input.toggleAttribute("aria-invalid", !fine);
    if (fine && prefix !== state.prefix) {
      timer = setTimeout(() => {
        state.prefix = prefix;
        refresh();
      }, 300);
    }
  });
  const select = h(
    "select",
    { "aria-label": "Connection" },
    session.connections.map((each) => h("option", { value: each, selected: each === state.connection }, each)),
  );
  select.addEventListener("change", () => {
    state.connection = select.value;
    refresh();
  });
  const replicas = REPLICAS.map((replica) => h("button", { "aria-pressed": String(replica === state.replica) }, replica));
  for (const button of replicas) {
    button.addEventListener("click", () => {
      state.replica = button.textContent;
      for (const each of replicas) each.setAttribute("aria-pressed", String(each === button));
      refresh();
    });
  }
  return h(
    "div",
    { class: "controls" },
    h("div", { class: "search" }, icon("search"), input),
    h("label", { class: "field" }, h("span", {}, "Connection"), select),
    h("div", { class: "field" }, h("span", {}, "Replica"), h("div", { class: "segments", role: "group", "aria-label": "Replica" }, replicas)),
    h("button", { title: "Look again", "aria-label": "Look again", onclick: refresh }, icon("refresh")),
    wrong,
  );
}

function list(listed, state) {
  const { bundles } = listed;
  if (!bundles.length) {
    return [
      state.prefix
        ? empty("No bundle begins like that", `There is no bundle in ${state.replica} whose uuid begins with ${state.prefix}.`)
        : empty(`There are no bundles in ${state.replica}`, "A DAG with DSSUploadDirectoryOperator makes the first one."),
    ];
  }
  const rows = table([["Bundle", ""], ["Version", ""], ["Made", ""], ["Made by", "wide"]], [], "Bundles");
  const more = h("button", {}, "Show more");
  let shown = 0;

  function showMore() {
    const next = bundles.slice(shown, shown + AT_ONCE).map((each) => bundleRow(each, state));
    rows.querySelector("tbody").append(...next);
    shown += next.length;
    more.hidden = shown >= bundles.length;
    addMakers(next);
  }
  more.addEventListener("click", showMore);
  showMore();
  return [
    h("h2", {}, title(listed, state), h("small", {}, ` in ${state.replica}`)),
    !listed.complete &&
      notice(
        "info",
        `There are more than ${number(listed.looked_at)} versions`,
        "A DSS lists bundles by uuid, so these are the newest of the first ones only. Search to see others.",
      ),
    rows,
    h("div", { class: "more" }, more),
  ].filter(Boolean);
}

function title(listed, state) {
  const all = count(listed.looked_at, "bundle version");
  if (state.prefix) return `${all} of bundles that begin with ${state.prefix}`;
  return listed.looked_at > listed.bundles.length ? `The newest of ${all}` : all;
}

function bundleRow({ uuid, version }, { connection, replica }) {
  const fqid = `${uuid}.${version}`;
  return h(
    "tr",
    { "data-fqid": fqid },
    h("td", { class: "nowrap" }, h("a", { class: "mono", href: view("bundle", { connection, replica, uuid, version }) }, uuid), copyButton(fqid, "FQID")),
    h("td", { class: "mono nowrap" }, version),
    h("td", { class: "nowrap", title: `${clock(moment(version))} UTC` }, ago(moment(version))),
    h("td", { class: "maker wide" }),
  );
}

/** Say of each bundle which task made it, where Airflow knows and the reader may. */
async function addMakers(rows) {
  const { makers } = await get("makers", { fqid: rows.map((row) => row.dataset.fqid) }).catch(() => ({ makers: {} }));
  for (const row of rows) {
    const maker = makers[row.dataset.fqid];
    if (maker) row.querySelector(".maker").replaceChildren(...makerLinks(maker));
  }
}

export function makerLinks(maker) {
  const { dag_id, run_id, task_id } = maker;
  return [
    leaves(h("a", { href: runPath({ dag_id, run_id }), title: `${dag_id}, ${run_id}` }, dag_id)),
    h("span", { class: "quiet" }, " / "),
    leaves(h("a", { href: runPath(maker) }, task_id + (maker.map_index >= 0 ? ` [${maker.map_index}]` : ""))),
  ];
}
