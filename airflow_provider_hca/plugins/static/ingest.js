// One ingest: rows of a table, or a card.

import { airflow, framed, openOutside, runPath, view } from "./api.js";
import { h, icon, isPlainClick, stateBadge, table } from "./dom.js";
import { ago, bytes, clock, count, duration, number, sentence, shortName } from "./format.js";

export const COLUMNS = [["State", ""], ["Task", ""], ["Run", ""], ["Bundle", ""], ["Files", "right"], ["Size", "right"], ["Rate", "right"], ["Took", "right"], ["Started", "right"]];
const MEMBER_COLUMNS = COLUMNS.filter(([heading]) => heading !== "Run"); // the same for all mapped tasks

const PHASES = [["compare", "Compare"], ["stage", "Stage"], ["register", "Register"], ["copy", "Copy"], ["bundle", "Put bundle"]];
// Words for a task that runs, that succeeded, that changed nothing, and that failed.
const ACTIONS = {
  create: ["Creates bundle", "Created bundle", "Found bundle", "Did not create bundle"],
  shard: ["Files of bundle", "Files of bundle", "Files of bundle", "Files of bundle"],
  change: ["Changes bundle", "Changed bundle", "Did not have to change bundle", "Did not change bundle"],
  delete: ["Deletes bundle", "Deleted bundle", "Deleted bundle", "Did not delete bundle"],
  download: ["Downloads bundle", "Downloaded bundle", "Downloaded bundle", "Did not download bundle"],
  use: ["Bundle", "Bundle", "Bundle", "Bundle"],
  put_file: ["", "Registered file", "Registered file", ""],
  put_collection: ["", "Created collection", "Kept collection", ""],
  change_collection: ["", "Changed collection", "Did not have to change collection", ""],
  delete_collection: ["", "Deleted collection", "Found no collection", ""],
};
const OVER = ["success", "failed", "upstream_failed", "skipped", "removed"];

export function isOver(ingest) {
  return OVER.includes(ingest.state);
}

function seconds(ingest) {
  if (!ingest.started) return undefined;
  const end = ingest.ended && isOver(ingest) ? new Date(ingest.ended) : new Date();
  return (end - new Date(ingest.started)) / 1000;
}

/** Return the error of a failed task and its failed files by cause, if it has any. */
function problemOf({ error, progress, states }) {
  const failures = progress?.failures ?? [];
  return error || failures.length ? { error: error ?? "", failures, states: states ?? {} } : undefined;
}

function bundleLink(bundle, text) {
  const name = text ? "" : shortName(bundle.name);
  return h("a", { class: !name && "mono", href: view("bundle", bundle), title: `${bundle.name && `${bundle.name}\n`}${bundle.uuid}${bundle.version ? `.${bundle.version}` : ""}` }, text ?? (name || bundle.uuid.slice(0, 8)));
}

function rate(ingest) {
  return ingest.progress?.rate ? `${bytes(ingest.progress.rate)}/s` : "-";
}

export function nameOf(ingest) {
  return [ingest.dag_id, ingest.run_id, ingest.task_id, ingest.map_index].join("\n");
}

/** Create the table rows of an ingest.
 * `open` has the names of unfolded failures. `run` shows the run, and `mapped` has the rows of the mapped tasks and opens them by `toggle`. */
export function row(ingest, open, { run = true, toggle = undefined, mapped = undefined } = {}) {
  const name = nameOf(ingest);
  const problem = problemOf(ingest);
  const columns = (run ? COLUMNS : MEMBER_COLUMNS).length;
  const took = seconds(ingest);
  const started = ingest.started && new Date(ingest.started);
  const about = (...content) => h("tr", { class: "about" }, h("td", { colspan: columns }, content));
  const rows = [
    h(
      "tr",
      { "data-task": `${ingest.dag_id}.${ingest.task_id}`, "data-key": name, class: toggle && "opens", onclick: toggle && ((event) => isPlainClick(event) && toggle()) },
      h("td", { class: "nowrap" }, stateBadge(ingest.state), ingest.try_number > 1 && h("span", { class: "quiet" }, ` try ${ingest.try_number}`)),
      h("td", { class: "wide" }, toggle && opener(taskName(ingest), mapped, toggle), run ? [dagLink(ingest), h("span", { class: "quiet" }, " / "), taskLink(ingest)] : taskLink(ingest), countStates(ingest)),
      run && h("td", { class: "run" }, openOutside(h("a", { href: runPath({ dag_id: ingest.dag_id, run_id: ingest.run_id }) }, ingest.run_id))),
      h("td", { class: "bundle" }, bundleCell(ingest)),
      h("td", { class: "right nowrap" }, !ingest.file_count ? "-" : number(ingest.file_count)),
      h("td", { class: "right nowrap" }, !ingest.byte_count ? "-" : bytes(ingest.byte_count)),
      h("td", { class: "right nowrap" }, rate(ingest)),
      h("td", { class: "right nowrap" }, took === undefined ? "-" : duration(took)),
      h("td", { class: "right nowrap", title: started ? `${clock(started)} UTC` : "" }, started ? ago(started) : "-"),
    ),
  ];
  if (!isOver(ingest) && ingest.progress?.phase) rows.push(about(bar(ingest), numbers(ingest)));
  if (problem) rows.push(about(problemDetails(problem, name, open)));
  if (ingest.report) rows.push(about(batchReport(ingest.report)));
  if (mapped) rows.push(about(mapped));
  return rows;
}

function bundleCell(ingest) {
  const { bundle, target } = ingest;
  if (target) return h("span", { class: "mono", title: target.uuid }, target.name || target.uuid.slice(0, 8));
  if (!bundle) return h("span", { class: "quiet" }, "-");
  if (neverCreated(ingest)) return h("span", { class: "quiet", title: bundle.uuid }, "Not created");
  // Whether it has been created, another task knows.
  if (ingest.action === "shard") return h("span", { class: "mono", title: bundle.uuid }, bundle.uuid.slice(0, 8));
  return [bundleLink(bundle), h("span", { class: "quiet" }, ` ${bundle.replica}`)];
}

function opener(name, mapped, toggle) {
  return h("button", { class: "opener", "aria-expanded": String(Boolean(mapped)), "aria-label": `Mapped tasks of ${name}`, onclick: toggle }, icon("open"));
}

/** Create the table of mapped tasks. */
export function mappedTable(members, open) {
  return table(MEMBER_COLUMNS, members.flatMap((member) => row(member, open, { run: false })), "Mapped tasks");
}

function countStates({ states }) {
  const all = Object.entries(states ?? {});
  if (!all.length) return undefined;
  const sum = all.reduce((total, [, tasks]) => total + tasks, 0);
  const parts = all.toSorted(([a], [b]) => OVER.indexOf(b) - OVER.indexOf(a)).map(([state, tasks]) => `${number(tasks)} ${state === "no_state" ? "not started" : state.replaceAll("_", " ")}`).join(", ");
  return h("p", { class: "quiet" }, `${count(sum, "mapped task")}: ${parts}`);
}

/** Return the name of a task, with the label of a mapped one. */
function taskName({ task_id, map_index, label }) {
  if (map_index < 0) return task_id;
  return label ? `${task_id} [${map_index}] ${label}` : `${task_id} [${map_index}]`;
}

export function taskLink(ingest) {
  return openOutside(h("a", { href: runPath(ingest) }, taskName(ingest)));
}

function dagLink({ dag_id }) {
  return openOutside(h("a", { href: airflow(`/dags/${encodeURIComponent(dag_id)}`) }, dag_id));
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
      h("h3", {}, taskLink(ingest), h("small", {}, ingest.operator)),
      ingest.try_number > 1 && h("span", { class: "quiet" }, `try ${ingest.try_number}`),
      stateBadge(ingest.state),
    ),
    subject(ingest),
    countStates(ingest),
    progress?.phase && [!ingest.members.length && progress.phase !== "directories" && steps(ingest), bar(ingest), numbers(ingest), difference(progress)],
    !progress?.phase && ingest.file_count > 0 && h("p", { class: "numbers" }, count(ingest.file_count, "file")),
    ingest.report && batchReport(ingest.report),
    problem && h("div", { class: "notice error", role: "alert" }, problemDetails(problem, nameOf(ingest), open)),
    ingest.members.length > 0 && mappedTable(ingest.members, open),
  );
}

/** Create the sentence about the bundle, file or collection of a task. */
function subject(ingest) {
  const { action, bundle, changed, progress, state, target } = ingest;
  const place = state === "success" ? (changed === false ? 2 : 1) : isOver(ingest) ? 3 : 0;
  const words = ACTIONS[progress?.phase === "shards" ? "shard" : action][place];
  if (target) return h("p", {}, `${words} `, target.name && h("strong", {}, `${target.name} `), h("span", { class: "mono" }, target.version ? `${target.uuid}.${target.version}` : target.uuid), inReplica(target), target.item_count !== null && `, ${count(target.item_count, "link")}`);
  if (!bundle) return undefined;
  return h("p", { class: "bundle" }, `${words} `, bundle.name && h("strong", { title: bundle.name }, `${shortName(bundle.name)} `), neverCreated(ingest) || ingest.action === "shard" ? h("span", { class: "mono" }, bundle.uuid) : pageLink(bundle), inReplica(bundle));
}

function inReplica({ replica }) {
  return h("span", { class: "quiet" }, ` in ${replica}`);
}

/** Return whether the task failed to create its bundle, so that there is nothing to link to. */
function neverCreated(ingest) {
  return ingest.action === "create" && isOver(ingest) && ingest.state !== "success" && ingest.state !== "skipped";
}

/** Create a link from the tab of a DAG run to the page, which has another address in Airflow. */
function pageLink(bundle) {
  const link = bundleLink(bundle, bundle.uuid);
  if (framed) link.href = new URL(`../plugin/dss${link.pathname}${link.search}`, new URL(".", location.href)).pathname + link.search;
  return openOutside(link);
}

function steps(ingest) {
  const { phase, changes } = ingest.progress;
  const phases = PHASES.filter(([key]) => key !== "compare" || changes || phase === "compare");
  const at = phases.findIndex(([key]) => key === phase);
  return h(
    "ol",
    { class: "steps" },
    phases.map(([key, title], place) => {
      const over = phase === "done" || place < at;
      const state = over ? (isIdle(key, ingest) ? "idle" : "past") : place === at ? (failed(ingest) ? "wrong" : "now") : "";
      const marks = { past: icon("check"), idle: icon("dash"), wrong: icon("cross") };
      return h("li", { class: state, "aria-current": place === at ? "step" : undefined, title: state === "idle" && "Nothing to do" }, h("i", {}, marks[state] ?? ""), title);
    }),
  );
}

/** Return whether a finished phase had nothing to do. */
function isIdle(key, { changed, progress: { changes, copied_file_count } }) {
  if (key === "copy") return copied_file_count === 0;
  if (key === "bundle") return changed === false;
  return ["stage", "register"].includes(key) && changes && !changes.added && !changes.changed;
}

/** Create the sentence about the difference to the latest version. */
function difference({ changes }) {
  if (!changes) return undefined;
  const parts = ["added", "changed", "removed", "unchanged"].map((kind) => `${number(changes[kind])} ${kind}`);
  return h("p", { class: "changes" }, `Compared with the latest version: ${parts.join(", ")}`);
}

/** Return whether this try failed or was killed; of mapped tasks, whether all ended and one failed. */
function failed(ingest) {
  if (Object.keys(ingest.states ?? {}).length) return ingest.state === "failed";
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
  if (phase === "compare") parts.push("Comparing with the latest version");
  if (phase === "stage") parts.push(`${bytes(progress.sent_byte_count)} of ${bytes(progress.byte_count)}`);
  if (["compare", "stage", "register", "copy"].includes(phase) && progress.phase_files) parts.push(`${number(progress.phase_done)} of ${count(progress.phase_files, "file")}`);
  if (phase === "bundle") parts.push(`Creating the bundle of ${count(progress.file_count, "file")}`);
  if (phase === "directories" && progress.phase_files) parts.push(`${number(progress.phase_done)} of ${count(progress.phase_files, "directory", "directories")}`);
  if (phase === "shards") parts.push(`${number(progress.phase_done)} of ${count(progress.phase_files, "shard")}`);
  if (phase === "tasks") parts.push(`${number(progress.phase_done)} of ${count(progress.phase_files, "task")}`);
  if (["done", "directories", "shards", "tasks"].includes(phase) && progress.file_count) parts.push(count(progress.file_count, "file"), bytes(progress.byte_count));
  if (progress.rate) parts.push(`${bytes(progress.rate)}/s`);
  if (phase === "stage" && progress.rate && !failed(ingest)) parts.push(`${duration((progress.byte_count - progress.sent_byte_count) / progress.rate)} left`);
  const took = seconds(ingest);
  if (took !== undefined && phase !== "stage") parts.push(duration(took));
  if (ingest.updated && !isOver(ingest)) parts.push(`updated ${ago(new Date(ingest.updated))}`);
  return h("p", { class: "numbers" }, parts.map((part) => h("span", {}, part)));
}

/** Create the reason of a failure, and the failed files of the first cause; other causes are folded. */
function problemDetails({ error, failures, states }, name, open) {
  const [title, ...lines] = sentence(error).split("\n");
  if (!failures.length) return [h("p", { class: "wrong" }, title), lines.length > 0 && h("pre", {}, lines.join("\n"))];
  // Other mapped tasks can have failed for other reasons, without failed files.
  const reasons = Object.keys(states).length > 0 && title;
  const files = failures.reduce((sum, failure) => sum + failure.count, 0);
  const [first, ...others] = failures.map(failedFiles);
  return [reasons && h("p", { class: "wrong" }, reasons), h("p", { class: "wrong" }, `${count(files, "file")} failed, for ${count(failures.length, "reason")}`), h("ul", { class: "failures" }, first), others.length > 0 && fold(others, name, open)];
}

function fold(others, name, open) {
  const details = h("details", { open: open.has(name), "data-key": name }, h("summary", {}, count(others.length, "other reason")), h("ul", { class: "failures" }, others));
  details.addEventListener("toggle", () => (details.open ? open.add(name) : open.delete(name)));
  return details;
}

/** Create the report of a batch: the number of directories by outcome, and the reasons of failures. */
function batchReport(report) {
  const outcomes = ["created", "unchanged", "skipped", "invalid", "failed"].filter((outcome) => report[outcome]);
  const directory = (path) => h("code", { title: path }, shortName(path));
  const cause = ({ outcome, cause, count: all, directories }) => h("li", {}, h("p", {}, h("strong", {}, `${number(all)} ${outcome}`), ": ", sentence(cause)), h("p", { class: "names" }, directories.map(directory), all > directories.length && h("span", { class: "quiet" }, `and ${number(all - directories.length)} more`)));
  return h("div", { class: "report" }, h("p", {}, "Directories: ", outcomes.map((outcome) => `${number(report[outcome])} ${outcome}`).join(", ") || "none"), report.causes.length > 0 && h("ul", { class: "failures" }, report.causes.map(cause)));
}

function failedFiles(failure) {
  return h(
    "li",
    {},
    h("p", {}, h("strong", {}, count(failure.count, "file")), ": ", sentence(failure.cause)),
    h("p", { class: "names" }, failure.names.map((file) => h("code", {}, file)), failure.count > failure.names.length && h("span", { class: "quiet" }, `and ${number(failure.count - failure.names.length)} more`)),
  );
}
