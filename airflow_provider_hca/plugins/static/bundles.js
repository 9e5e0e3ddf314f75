// Newest bundles of a replica, found by the prefix of the uuid or by name.

import { get, openOutside, runPath, view } from "./api.js";
import { copyButton, empty, h, icon, isPlainClick, notice, skeleton, table } from "./dom.js";
import { ago, clock, count, moment, number, shortName } from "./format.js";

const PAGE_SIZE = 50;
const REPLICAS = ["aws", "gcp"];

export async function showBundles(main, query, session) {
  if (!session.connections.length) {
    main.replaceChildren(
      empty("No connection to a DSS yet", "Add one of the type “HCA Data Storage System (DSS)” under Admin, Connections."),
    );
    return;
  }
  const state = {
    connection: session.connections.includes(query.connection) ? query.connection : session.connections[0],
    replica: REPLICAS.includes(query.replica) ? query.replica : "aws",
    text: query.text ?? "",
  };
  const found = h("div", {});
  let asked = new AbortController();

  async function refresh() {
    asked.abort(); // each typed letter starts a request
    asked = new AbortController();
    const { signal } = asked;
    history.replaceState(null, "", view("", state));
    found.replaceChildren(skeleton(8));
    try {
      const listed = await search(state, signal);
      if (!signal.aborted) found.replaceChildren(...list(listed, state));
    } catch (error) {
      if (!signal.aborted) found.replaceChildren(notice("error", `Cannot list the bundles of ${state.connection}`, error.message));
    }
  }

  main.replaceChildren(controls(state, session, refresh), found);
  await refresh();
}

/** Ask the DSS for bundles by uuid, and Airflow for bundles by name. */
async function search({ connection, replica, text }, signal) {
  const isPrefix = /^[0-9a-f-]{0,36}$/i.test(text);
  const [listed, named] = await Promise.all([
    isPrefix ? get(`connections/${encodeURIComponent(connection)}/bundles`, { replica, prefix: text }, signal) : { bundles: [], listed: 0, complete: true },
    text ? get("named-bundles", { connection, replica, text }, signal).catch(() => ({ bundles: [] })) : { bundles: [] }, // needs more permissions
  ]);
  const known = new Set(named.bundles.map(fqidOf));
  const bundles = [...named.bundles, ...listed.bundles.filter((bundle) => !known.has(fqidOf(bundle)))];
  return { ...listed, bundles, listed: listed.listed + bundles.length - listed.bundles.length };
}

function fqidOf({ uuid, version }) {
  return `${uuid}.${version}`;
}

function controls(state, session, refresh) {
  const input = h("input", {
    type: "search",
    placeholder: "Search by name, or by the beginning of the uuid",
    "aria-label": "Search bundles",
    spellcheck: "false",
    autocomplete: "off",
    maxlength: 250,
    value: state.text,
  });
  let timer;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    const text = input.value.trim();
    if (text === state.text) return;
    timer = setTimeout(() => {
      state.text = text;
      refresh();
    }, 300);
  });
  const select = h(
    "select",
    { "aria-label": "Connection" },
    session.connections.map((id) => h("option", { value: id, selected: id === state.connection }, id)),
  );
  select.addEventListener("change", () => {
    state.connection = select.value;
    refresh();
  });
  const replicas = REPLICAS.map((replica) => h("button", { "aria-pressed": String(replica === state.replica) }, replica));
  for (const button of replicas) {
    button.addEventListener("click", () => {
      state.replica = button.textContent;
      for (const other of replicas) other.setAttribute("aria-pressed", String(other === button));
      refresh();
    });
  }
  return h(
    "div",
    { class: "controls" },
    h("div", { class: "search" }, icon("search"), input),
    h("label", { class: "field" }, h("span", {}, "Connection"), select),
    h("div", { class: "field" }, h("span", {}, "Replica"), h("div", { class: "segments", role: "group", "aria-label": "Replica" }, replicas)),
    h("button", { title: "Refresh", "aria-label": "Refresh", onclick: refresh }, icon("refresh")),
  );
}

function list(listed, state) {
  const { bundles } = listed;
  if (!bundles.length) {
    return [
      state.text
        ? empty("No matching bundle", `No bundle in ${state.replica} has a uuid that starts with “${state.text}”, and no bundle of this Airflow has it in its name.`)
        : empty(`No bundles in ${state.replica}`, "Create the first one by a DAG with DSSUploadDirectoryOperator."),
    ];
  }
  const rows = table([["Name", "wide"], ["Bundle", ""], ["Version", ""], ["Created", ""], ["Created by", "wide"]], [], "Bundles");
  const more = h("button", {}, "Show more");
  let shown = 0;

  function showMore() {
    const next = bundles.slice(shown, shown + PAGE_SIZE).map((bundle) => bundleRow(bundle, state));
    rows.querySelector("tbody").append(...next);
    shown += next.length;
    more.hidden = shown >= bundles.length;
    addCreators(next, state.connection);
  }
  more.addEventListener("click", showMore);
  showMore();
  return [
    h("h2", {}, title(listed, state), h("small", {}, ` in ${state.replica}`)),
    !listed.complete &&
      notice(
        "info",
        `More than ${number(listed.listed)} versions`,
        "A DSS lists bundles by uuid, so these are the newest of the first ones. Search to see others.",
      ),
    rows,
    h("div", { class: "more" }, more),
  ].filter(Boolean);
}

function title(listed, state) {
  const all = count(listed.listed, "bundle version");
  if (state.text) return `${all} matching “${state.text}”`;
  return listed.listed > listed.bundles.length ? `The newest of ${all}` : all;
}

function bundleRow({ uuid, version, name = "" }, { connection, replica }) {
  const fqid = `${uuid}.${version}`;
  const address = view("bundle", { connection, replica, uuid, version });
  return h(
    "tr",
    { "data-fqid": fqid, class: "opens", onclick: (event) => isPlainClick(event) && location.assign(address) },
    h("td", { class: "wide title", title: name }, shortName(name)),
    h("td", { class: "nowrap" }, h("a", { class: "mono", href: address }, uuid), copyButton(fqid, "FQID")),
    h("td", { class: "mono nowrap" }, version),
    h("td", { class: "nowrap", title: `${clock(moment(version))} UTC` }, ago(moment(version))),
    h("td", { class: "creator wide" }),
  );
}

/** Add to each bundle the task that created it, if Airflow knows it and the user may see it. */
async function addCreators(rows, connection) {
  const { creators } = await get("creators", { connection, fqid: rows.map((row) => row.dataset.fqid) }).catch(() => ({ creators: {} }));
  for (const row of rows) {
    const creator = creators[row.dataset.fqid];
    if (!creator) continue;
    row.querySelector(".creator").replaceChildren(...creatorLinks(creator));
    if (creator.name) Object.assign(row.querySelector(".title"), { title: creator.name, textContent: shortName(creator.name) });
  }
}

export function creatorLinks(creator) {
  const { dag_id, run_id, task_id } = creator;
  return [
    openOutside(h("a", { href: runPath({ dag_id, run_id }), title: `${dag_id}, ${run_id}` }, dag_id)),
    h("span", { class: "quiet" }, " / "),
    openOutside(h("a", { href: runPath(creator) }, task_id + (creator.map_index >= 0 ? ` [${creator.map_index}]` : ""))),
  ];
}
