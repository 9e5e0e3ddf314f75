// One ingest: a row among others, or a card of its own.

import { framed, leaves, runPath, view } from "./api.js";
import { h, icon, table } from "./dom.js";
import { ago, bytes, clock, count, duration, number } from "./format.js";

export const COLUMNS = [["State", ""], ["Task", ""], ["Bundle", ""], ["Files", "right"], ["Size", "right"], ["Rate", "right"], ["Took", "right"], ["Started", "right"]];
const SHARD_COLUMNS = COLUMNS.filter(([heading]) => heading !== "Bundle"); // it is the same for all

const PHASES = [["stage", "Stage"], ["register", "Register"], ["copy", "Copy"], ["bundle", "Make bundle"]];
const ACTIONS = { make: "Makes bundle", fetch: "Fetches bundle", see: "Bundle" };
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

function trouble(ingest) {
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

/** The rows of an ingest in a table; `open` remembers which failures are unfolded. */
export function row(ingest, open) {
  const name = [ingest.dag_id, ingest.run_id, ingest.task_id, ingest.map_index].join("\n");
  const wrong = trouble(ingest);
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
  if (wrong) {
    rows.push(h("tr", { class: "about" }, h("td", { colspan: columns }, unfolding(wrong, name, open))));
  }
  return rows;
}

function unfolding(wrong, name, open) {
  const more = failures(wrong);
  if (!more) return h("p", { class: "wrong" }, summary(wrong));
  const details = h("details", { open: open.has(name), "data-key": name }, h("summary", {}, summary(wrong)), more);
  details.addEventListener("toggle", () => (details.open ? open.add(name) : open.delete(name)));
  return details;
}

/** What a task is called; a shard by its number. */
function taskName(ingest) {
  const { progress } = ingest;
  if (ingest.action === "shard") return `${ingest.task_id} ${progress.shard_number} of ${progress.shard_count}`;
  return ingest.map_index >= 0 ? `${ingest.task_id} [${ingest.map_index}]` : ingest.task_id;
}

function taskLinks(ingest) {
  const task = leaves(h("a", { href: runPath(ingest) }, taskName(ingest)));
  if (ingest.action === "shard") return task;
  return [
    leaves(h("a", { href: runPath({ dag_id: ingest.dag_id, run_id: ingest.run_id }), title: ingest.run_id }, ingest.dag_id)),
    h("span", { class: "quiet" }, " / "),
    task,
  ];
}

/** The card of an ingest on its DAG run's tab; `open` remembers which failures are unfolded. */
export function card(ingest, open) {
  const { progress } = ingest;
  const wrong = trouble(ingest);
  return h(
    "article",
    { class: "card", "data-task": ingest.task_id },
    h(
      "header",
      {},
      h("h3", {}, leaves(h("a", { href: runPath(ingest) }, taskName(ingest))), h("small", {}, ingest.operator)),
      ingest.try_number > 1 && h("span", { class: "quiet" }, `try ${ingest.try_number}`),
      stateBadge(ingest.state),
    ),
    ingest.bundle && h("p", { class: "bundle" }, `${ACTIONS[ingest.action]} `, outward(ingest.bundle)),
    progress?.phase && [progress.phase !== "shards" && steps(ingest), bar(ingest), numbers(ingest)],
    !progress?.phase && ingest.file_count && h("p", { class: "numbers" }, count(ingest.file_count, "file")),
    wrong && h("div", { class: "notice error", role: "alert" }, h("strong", {}, summary(wrong)), failures(wrong)),
    ingest.shards.length > 0 && table(SHARD_COLUMNS, ingest.shards.flatMap((shard) => row(shard, open)), "Shards"),
  );
}

/** A link from a tab of a DAG run to the page, which is elsewhere in Airflow. */
function outward(bundle) {
  const link = bundleLink(bundle, bundle.uuid);
  if (framed) link.href = new URL(`../plugin/dss${link.pathname}${link.search}`, new URL(".", location.href)).pathname + link.search;
  return [leaves(link), h("span", { class: "quiet" }, ` in ${bundle.replica}`)];
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

/** Whether this try failed, or has been killed. */
function failed(ingest) {
  return Boolean(trouble(ingest)) || ["failed", "up_for_retry"].includes(ingest.state);
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
  if (phase === "plan") parts.push("Looking at the directory");
  if (phase === "stage") parts.push(`${bytes(progress.sent_byte_count)} of ${bytes(progress.byte_count)}`);
  if (["stage", "register", "copy"].includes(phase)) parts.push(`${number(progress.phase_done)} of ${count(progress.phase_files, "file")}`);
  if (phase === "bundle") parts.push(`The bundle of ${count(progress.file_count, "file")} is being made`);
  if (phase === "shards") parts.push(`${number(progress.phase_done)} of ${count(progress.phase_files, "shard")}`);
  if (phase === "done" || phase === "shards") parts.push(count(progress.file_count, "file"), bytes(progress.byte_count));
  if (progress.rate) parts.push(`${bytes(progress.rate)}/s`);
  if (phase === "stage" && progress.rate && !failed(ingest)) parts.push(`${duration((progress.byte_count - progress.sent_byte_count) / progress.rate)} left`);
  const took = seconds(ingest);
  if (took !== undefined && phase !== "stage") parts.push(duration(took));
  if (ingest.told && !isOver(ingest)) parts.push(`updated ${ago(new Date(ingest.told))}`);
  return h("p", { class: "numbers" }, parts.map((part) => h("span", {}, part)));
}

function summary(wrong) {
  const files = wrong.failures.reduce((sum, each) => sum + each.count, 0);
  if (!files) return wrong.error.split("\n")[0];
  return `${count(files, "file")} failed, for ${count(wrong.failures.length, "reason")}`;
}

function failures(wrong) {
  if (!wrong.failures.length) return wrong.error.includes("\n") ? h("pre", {}, wrong.error.split("\n").slice(1).join("\n")) : "";
  return h(
    "ul",
    { class: "failures" },
    wrong.failures.map((each) =>
      h(
        "li",
        {},
        h("p", {}, h("strong", {}, count(each.count, "file")), ": ", each.cause),
        h("p", { class: "names" }, each.names.map((name) => h("code", {}, name)), each.count > each.names.length && h("span", { class: "quiet" }, `and ${number(each.count - each.names.length)} more`)),
      ),
    ),
  );
}
