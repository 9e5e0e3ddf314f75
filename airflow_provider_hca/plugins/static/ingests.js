// Ingests with filters and pages; mapped tasks of a run are one row that opens.

import { get, view } from "./api.js";
import { empty, h, icon, notice, show, skeleton, table } from "./dom.js";
import { count, number } from "./format.js";
import { isOver, mappedTable, nameOf, row, COLUMNS } from "./ingest.js";
import { poll, OFTEN, RARELY } from "./polling.js";

const PAGE_SIZE = 50;
const STATES = ["running", "success", "failed", "skipped"];
const SHARE = 5; // of the time between two requests that the server may spend on one

export async function showIngests(main, query) {
  const filters = { dag_id: query.dag_id ?? "", state: STATES.includes(query.state) ? query.state : "", text: query.text ?? "", offset: Number(query.offset) || 0 };
  const folds = new Set(); // names of unfolded failures
  const opened = new Map(); // names of opened ingests, each with the number of mapped tasks to show
  const found = h("div", {}, skeleton(8));
  const dags = h("select", { "aria-label": "DAG" }, h("option", { value: "" }, "All DAGs"));
  let asked = new AbortController();

  async function refresh() {
    asked.abort(); // each typed letter starts a request
    const { signal } = (asked = new AbortController());
    const started = performance.now();
    try {
      let listed = await get("ingests", { ...filters, limit: PAGE_SIZE }, signal);
      if (!listed.ingests.length && listed.total) listed = await get("ingests", { ...filters, offset: (filters.offset = 0), limit: PAGE_SIZE }, signal);
      const mapped = new Map(await Promise.all(listed.ingests.filter((ingest) => opened.has(nameOf(ingest))).map((ingest) => members(ingest, signal))));
      if (signal.aborted) return OFTEN;
      fillDags(dags, listed.dag_ids, filters.dag_id);
      show(found, list(listed, mapped));
      return Math.max(listed.ingests.every(isOver) ? RARELY : OFTEN, SHARE * (performance.now() - started));
    } catch (error) {
      if (signal.aborted) return OFTEN;
      throw error;
    }
  }

  async function members(ingest, signal) {
    const { dag_id, run_id, task_id } = ingest;
    const { state, text } = filters;
    return [nameOf(ingest), await get("mapped", { dag_id, run_id, task_id, state, text, limit: opened.get(nameOf(ingest)) }, signal)];
  }

  async function change(values) {
    Object.assign(filters, { offset: 0 }, values);
    history.replaceState(null, "", view("ingests", filters));
    await refresh().catch(fail);
  }

  function fail(error) {
    found.replaceChildren(notice("error", "Cannot list the ingests", error.message));
  }

  function list({ ingests, total }, mapped) {
    if (!ingests.length) {
      if (filters.dag_id || filters.state || filters.text) return [empty("No matching ingest", "No task that creates a bundle matches these filters.")];
      return [empty("No ingests yet", "Uploads and other tasks that create bundles appear here, newest first.")];
    }
    const running = ingests.filter((ingest) => !isOver(ingest)).length;
    return [
      h("h2", {}, count(total, "ingest"), running ? h("small", {}, ` ${running} running`) : ""),
      table(COLUMNS, ingests.flatMap((ingest) => rows(ingest, mapped.get(nameOf(ingest)))), "Ingests"),
      pages(total),
    ].filter(Boolean);
  }

  function rows(ingest, members) {
    if (!Object.keys(ingest.states).length) return row(ingest, folds);
    const name = nameOf(ingest);
    const toggle = () => {
      if (!opened.delete(name)) opened.set(name, PAGE_SIZE);
      return refresh().catch(fail);
    };
    const mapped = members && opened.has(name) && [mappedTable(members.ingests, folds), members.total > members.ingests.length && more(name, members)];
    return row(ingest, folds, { toggle, mapped: mapped || undefined });
  }

  function more(name, { ingests, total }) {
    const showMore = () => {
      opened.set(name, opened.get(name) + PAGE_SIZE);
      return refresh().catch(fail);
    };
    return h("div", { class: "more" }, h("button", { onclick: showMore, "data-key": name }, `Show more of ${number(total - ingests.length)}`));
  }

  function pages(total) {
    if (total <= PAGE_SIZE && !filters.offset) return undefined;
    const last = Math.min(total, filters.offset + PAGE_SIZE);
    return h(
      "div",
      { class: "more" },
      h("button", { disabled: !filters.offset, onclick: () => change({ offset: Math.max(0, filters.offset - PAGE_SIZE) }) }, "Newer"),
      h("span", {}, ` ${number(filters.offset + 1)} to ${number(last)} of ${number(total)} `),
      h("button", { disabled: last >= total, onclick: () => change({ offset: filters.offset + PAGE_SIZE }) }, "Older"),
    );
  }

  main.replaceChildren(controls(filters, dags, change), found);
  await poll(refresh, fail);
}

function fillDags(select, dag_ids, chosen) {
  const wanted = [...new Set([...dag_ids, chosen])].filter(Boolean).sort();
  if (select.options.length === wanted.length + 1) return;
  select.replaceChildren(h("option", { value: "" }, "All DAGs"), ...wanted.map((id) => h("option", { value: id, selected: id === chosen }, id)));
}

function controls(filters, dags, change) {
  const input = h("input", {
    type: "search",
    placeholder: "Search by DAG, run, task, label, name or uuid of the bundle",
    "aria-label": "Search ingests",
    spellcheck: "false",
    autocomplete: "off",
    maxlength: 250,
    value: filters.text,
  });
  let timer;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => change({ text: input.value.trim() }), 300);
  });
  dags.addEventListener("change", () => change({ dag_id: dags.value }));
  const states = h("select", { "aria-label": "State" }, [["", "All states"], ...STATES.map((state) => [state, state])].map(([value, text]) => h("option", { value, selected: value === filters.state }, text)));
  states.addEventListener("change", () => change({ state: states.value }));
  return h(
    "div",
    { class: "controls" },
    h("div", { class: "search" }, icon("search"), input),
    h("label", { class: "field" }, h("span", {}, "DAG"), dags),
    h("label", { class: "field" }, h("span", {}, "State"), states),
  );
}
