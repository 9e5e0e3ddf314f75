// One ingest: a row of a table, or a card.

import { framed, openOutside, runPath, view } from "./api.js";
import { h, icon, table } from "./dom.js";
import { ago, bytes, clock, count, duration, number } from "./format.js";

export const COLUMNS = [["State", ""], ["Task", ""], ["Bundle", ""], ["Files", "right"], ["Size", "right"], ["Rate", "right"], ["Took", "right"], ["Started", "right"]];
const SHARD_COLUMNS = COLUMNS.filter(([heading]) => heading !== "Bundle"); // the same for all shards

const PHASES = [["stage", "Stage"], ["register", "Register"], ["copy", "Copy"], ["bundle", "Put bundle"]];
const ACTIONS = { create: "Creates bundle", download: "Downloads bundle", use: "Bundle" };
const OVER = ["success", "failed", "upstream_failed", "skipped", "removed"];

export function isOver(ingest) {
  return OVER.includes(ingest.state);
}

export function stateBadge(state) {
  return h("span", { class: `badge ${state ?? "queued"}` }, (state ?? "no state").replaceAll("_", " "));
}

function seconds(ingest) {
  if (!ingest.started) return undefined;
  const end = ingest.ended && isOver(ingest) ? new Date(ingest.ended) : new Date();
  return (end - new Date(ingest.started)) / 1000;
}

function problemOf(ingest) {
  const { progress } = ingest;
  return progress && (progress.error || progress.failures.length) ? progress : undefined;
}

export function bundleLink(bundle, text) {
  if (!bundle) return h("span", { class: "quiet" }, "-");
  return h("a", { class: "mono", href: view("bundle", bundle), title: `${bundle.uuid}${bundle.version ? `.${bundle.version}` : ""}` }, text ?? bundle.uuid.slice(0, 8));
}

function rate(ingest) {
  return ingest.progress?.rate ? `${bytes(ingest.progress.rate)}/s` : "-";
}

/** Create the table rows of an ingest; `open` has the names of unfolded failures. */
export function row(ingest, open) {
  const name = [ingest.dag_id, ingest.run_id, ingest.task_id, ingest.map_index].join("\n");
  const problem = problemOf(ingest);
  const shard = ingest.action === "shard";
  const columns = (shard ? SHARD_COLUMNS : COLUMNS).length;
  const took = seconds(ingest);
  const started = ingest.started && new Date(ingest.started);
  const rows = [
    h(
      "tr",
      { "data-task": `${ingest.dag_id}.${ingest.task_id}` },
      h("td", { class: "nowrap" }, stateBadge(ingest.state), ingest.try_number > 1 && h("span", { class: "quiet" }, ` try ${ingest.try_number}`)),
      h("td", {}, taskLinks(ingest)),
      !shard && h("td", { class: "nowrap" }, bundleLink(ingest.bundle), ingest.bundle && h("span", { class: "quiet" }, ` ${ingest.bundle.replica}`)),
      h("td", { class: "right nowrap" }, !ingest.file_count ? "-" : number(ingest.file_count)),
      h("td", { class: "right nowrap" }, !ingest.byte_count ? "-" : bytes(ingest.byte_count)),
      h("td", { class: "right nowrap" }, rate(ingest)),
      h("td", { class: "right nowrap" }, took === undefined ? "-" : duration(took)),
      h("td", { class: "right nowrap", title: started ? `${clock(started)} UTC` : "" }, started ? ago(started) : "-"),
    ),
  ];
  if (!isOver(ingest) && ingest.progress?.phase) rows.push(h("tr", { class: "about" }, h("td", { colspan: columns }, bar(ingest), numbers(ingest))));
  if (problem) {
    rows.push(h("tr", { class: "about" }, h("td", { colspan: columns }, problemDetails(problem, name, open))));
  }
  return rows;
}

function problemDetails(problem, name, open) {
  const more = failures(problem);
  if (!more) return h("p", { class: "wrong" }, summary(problem));
  const details = h("details", { open: open.has(name), "data-key": name }, h("summary", {}, summary(problem)), more);
  details.addEventListener("toggle", () => (details.open ? open.add(name) : open.delete(name)));
  return details;
}

/** Return the name of a task, or the number of a shard. */
function taskName(ingest) {
  const { progress } = ingest;
  if (ingest.action === "shard") return `${ingest.task_id} ${progress.shard_number} of ${progress.shard_count}`;
  return ingest.map_index >= 0 ? `${ingest.task_id} [${ingest.map_index}]` : ingest.task_id;
}

function taskLinks(ingest) {
  const task = openOutside(h("a", { href: runPath(ingest) }, taskName(ingest)));
  if (ingest.action === "shard") return task;
  return [
    openOutside(h("a", { href: runPath({ dag_id: ingest.dag_id, run_id: ingest.run_id }), title: ingest.run_id }, ingest.dag_id)),
    h("span", { class: "quiet" }, " / "),
    task,
  ];
}

/** Create the card of an ingest on the tab of its DAG run; `open` has the names of unfolded failures. */
export function card(ingest, open) {
  const { progress } = ingest;
  const problem = problemOf(ingest);
  return h(
    "article",
    { class: "card", "data-task": ingest.task_id },
    h(
      "header",
      {},
      h("h3", {}, openOutside(h("a", { href: runPath(ingest) }, taskName(ingest))), h("small", {}, ingest.operator)),
      ingest.try_number > 1 && h("span", { class: "quiet" }, `try ${ingest.try_number}`),
      stateBadge(ingest.state),
    ),
    ingest.bundle && h("p", { class: "bundle" }, `${ACTIONS[ingest.action]} `, pageLink(ingest.bundle)),
    progress?.phase && [progress.phase !== "shards" && steps(ingest), bar(ingest), numbers(ingest)],
    !progress?.phase && ingest.file_count && h("p", { class: "numbers" }, count(ingest.file_count, "file")),
    problem && h("div", { class: "notice error", role: "alert" }, h("strong", {}, summary(problem)), failures(problem)),
    ingest.shards.length > 0 && table(SHARD_COLUMNS, ingest.shards.flatMap((shard) => row(shard, open)), "Shards"),
  );
}

/** Create a link from the tab of a DAG run to the page, which has another address in Airflow. */
function pageLink(bundle) {
  const link = bundleLink(bundle, bundle.uuid);
  if (framed) link.href = new URL(`../plugin/dss${link.pathname}${link.search}`, new URL(".", location.href)).pathname + link.search;
  return [openOutside(link), h("span", { class: "quiet" }, ` in ${bundle.replica}`)];
}

function steps(ingest) {
  const { phase } = ingest.progress;
  const at = PHASES.findIndex(([key]) => key === phase);
  return h(
    "ol",
    { class: "steps" },
    PHASES.map(([, title], place) => {
      const state = phase === "done" || place < at ? "past" : place === at ? (failed(ingest) ? "wrong" : "now") : "";
      const marks = { past: icon("check"), wrong: icon("cross") };
      return h("li", { class: state, "aria-current": place === at ? "step" : undefined }, h("i", {}, marks[state] ?? ""), title);
    }),
  );
}

/** Return whether this try failed or was killed. */
function failed(ingest) {
  return Boolean(problemOf(ingest)) || ["failed", "up_for_retry"].includes(ingest.state);
}

function share({ progress }) {
  if (progress.phase === "done") return 1;
  if (progress.phase === "stage" && progress.byte_count) return progress.sent_byte_count / progress.byte_count;
  return progress.phase_files ? progress.phase_done / progress.phase_files : 0;
}

function bar(ingest) {
  const percent = Math.round(100 * Math.min(1, share(ingest)));
  const state = failed(ingest) ? "failed" : ingest.progress.phase === "done" || ingest.state === "success" ? "success" : "running";
  const inner = h("div", {});
  inner.style.width = `${percent}%`;
  return h("div", { class: `bar ${state}`, role: "progressbar", "aria-valuenow": percent, "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": ingest.progress.phase }, inner);
}

function numbers(ingest) {
  const { progress } = ingest;
  const { phase } = progress;
  const parts = [];
  if (phase === "plan") parts.push("Reading the directory");
  if (phase === "stage") parts.push(`${bytes(progress.sent_byte_count)} of ${bytes(progress.byte_count)}`);
  if (["stage", "register", "copy"].includes(phase)) parts.push(`${number(progress.phase_done)} of ${count(progress.phase_files, "file")}`);
  if (phase === "bundle") parts.push(`Creating the bundle of ${count(progress.file_count, "file")}`);
  if (phase === "shards") parts.push(`${number(progress.phase_done)} of ${count(progress.phase_files, "shard")}`);
  if (phase === "done" || phase === "shards") parts.push(count(progress.file_count, "file"), bytes(progress.byte_count));
  if (progress.rate) parts.push(`${bytes(progress.rate)}/s`);
  if (phase === "stage" && progress.rate && !failed(ingest)) parts.push(`${duration((progress.byte_count - progress.sent_byte_count) / progress.rate)} left`);
  const took = seconds(ingest);
  if (took !== undefined && phase !== "stage") parts.push(duration(took));
  if (ingest.updated && !isOver(ingest)) parts.push(`updated ${ago(new Date(ingest.updated))}`);
  return h("p", { class: "numbers" }, parts.map((part) => h("span", {}, part)));
}

function summary(problem) {
  const files = problem.failures.reduce((sum, failure) => sum + failure.count, 0);
  if (!files) return problem.error.split("\n")[0];
  return `${count(files, "file")} failed, for ${count(problem.failures.length, "reason")}`;
}

function failures(problem) {
  if (!problem.failures.length) return problem.error.includes("\n") ? h("pre", {}, problem.error.split("\n").slice(1).join("\n")) : "";
  return h(
    "ul",
    { class: "failures" },
    problem.failures.map((failure) =>
      h(
        "li",
        {},
        h("p", {}, h("strong", {}, count(failure.count, "file")), ": ", failure.cause),
        h("p", { class: "names" }, failure.names.map((name) => h("code", {}, name)), failure.count > failure.names.length && h("span", { class: "quiet" }, `and ${number(failure.count - failure.names.length)} more`)),
      ),
    ),
  );
}
