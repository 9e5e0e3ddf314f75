// One bundle: properties, graph and files.

import { get, openOutside, runPath, view } from "./api.js";
import { creatorLinks } from "./bundles.js";
import { copyButton, h, icon, notice, show, skeleton } from "./dom.js";
import { showFiles } from "./files.js";
import { ago, bytes, clock, count, moment, sentence, shortName } from "./format.js";
import { showGraph } from "./graph.js";
import { isOver } from "./ingest.js";
import { poll, OFTEN } from "./polling.js";

const DOCUMENT_SIZE = 1024 * 1024;
const MAX_DOCUMENTS = 200;
const DOCUMENTS_AT_ONCE = 6;
const REDRAW = 150;
const BACKOFF = 1.3;
const MAX_PAUSE = 60_000;

export async function showBundle(main, query) {
  const { connection, replica = "aws", uuid = "", version } = query;
  const place = `connections/${encodeURIComponent(connection)}`;
  const address = `${place}/bundles/${encodeURIComponent(uuid)}`;
  const bundle = await find(main, query, () => get(address, { replica, version, first: true }), view("", { connection, replica }));
  if (!bundle) return;
  document.title = `DSS: ${bundle.uuid}`;
  const graph = draw(bundle);
  if (bundle.complete) {
    await graph;
    return;
  }
  try {
    await draw(await get(address, { replica, version: bundle.version }));
  } catch (error) {
    main.querySelector(".files").prepend(notice("error", "Cannot read the other files", error.message));
  }

  function draw(bundle) {
    const filter = main.querySelector(".files input"); // of the first files, maybe in use
    const focused = filter && document.activeElement === filter;
    const files = h("section", { class: "files" });
    const links = bundle.complete && bundle.files.find((file) => file.name === "links.json");
    const graph = links && h("section", { class: "panel", "aria-label": "Graph" }, h("h2", {}, "Graph"), skeleton(4));
    main.replaceChildren(heading(bundle.uuid, bundle), facts(bundle, query), ...(graph ? [graph] : []), files);
    if (!bundle.complete) files.append(notice("info", `The first ${count(bundle.files.length, "file")}`, "The DSS is listing the others."));
    if (bundle.omitted) files.append(notice("info", `${count(bundle.omitted, "file")} not listed`, "A browser cannot show all files of a bundle of this size."));
    const findFile = showFiles(files, bundle.files);
    if (filter) keepFilter(files.querySelector("input"), filter.value, focused);
    addCreator(main, bundle, connection);
    addProject(main, bundle, { place, replica });
    return graph && drawGraph(graph, links, bundle.files, { place, replica, find: findFile });
  }
}

function keepFilter(input, text, focused) {
  input.value = text;
  input.dispatchEvent(new Event("input"));
  if (focused) input.focus();
}

/** Return the result of `look`; repeat it while the bundle is missing, because links of running uploads point to future bundles. */
async function find(main, { connection, uuid = "", version, replica = "aws" }, look, all) {
  let found;
  let pause = OFTEN;
  await poll(async () => {
    try {
      found = await look();
      return undefined;
    } catch (error) {
      const missing = error.missing && (await reasonOfAbsence({ connection, uuid, version, replica }));
      const message = missing ? missing.text : error.message;
      const details = missing && h("p", { class: "quiet" }, sentence(error.message));
      show(main, heading(uuid), notice(missing && missing.kind ? missing.kind : "error", missing ? missing.title : "Cannot show this bundle", message, details, h("p", {}, h("a", { href: all }, "All bundles"))));
      if (!missing || missing.final) return undefined;
      return missing.soon ? OFTEN : (pause = Math.min(MAX_PAUSE, BACKOFF * pause));
    }
  }, (error) => show(main, heading(uuid), notice("error", "Cannot show this bundle", error.message)));
  return found;
}

const HOPE = "If a task or a batch is still uploading it, this page shows it within a minute after its creation.";

/** Return why a DSS does not have a bundle, from the tasks that use it. */
async function reasonOfAbsence({ connection, uuid, version, replica }) {
  const { tasks } = await get("bundle-tasks", { connection, uuid, version }).catch(() => ({ tasks: [] }));
  const creators = tasks.filter(({ action }) => ["create", "change", "shard"].includes(action));
  // The bundle of an upload group is created after its shards have succeeded.
  const running = creators.find((task) => (!isOver(task) || (task.action === "shard" && task.state === "success")) && !["success", "failed"].includes(task.run_state));
  if (running) return { kind: "info", title: "Still being created", text: sentenceOf(running, ["creates this bundle. The page shows it as soon as it exists."]), soon: true };
  const deleter = tasks.find((task) => task.action === "delete" && task.state === "success");
  if (deleter) return { kind: "warning", title: "Deleted", text: sentenceOf(deleter, ["deleted this bundle", deleter.ended && ` ${ago(new Date(deleter.ended))}`, "."]), final: true };
  const creator = creators.find((task) => task.state === "success" && task.action !== "shard");
  if (creator?.bundle && creator.bundle.replica !== replica) return { kind: "info", title: `Not in ${replica} yet`, text: sentenceOf(creator, [`created this bundle in ${creator.bundle.replica}. A DSS copies bundles to its other replica; it may take minutes.`]) };
  if (creator) return { kind: "warning", title: "Deleted", text: sentenceOf(creator, ["created this bundle, and the DSS does not have it any more."]) };
  const failed = creators.find((task) => task.state !== "success");
  if (failed) return { title: "Never created", text: sentenceOf(failed, ["did not create this bundle: ", failed.error || `its state is ${failed.state}.`]) };
  const fqid = `${uuid}.${version}`;
  const { creators: batches } = await get("creators", { connection, fqid }).catch(() => ({ creators: {} }));
  if (batches[fqid]) return { kind: "warning", title: "Deleted", text: sentenceOf(batches[fqid], ["reported that its batch created this bundle, and the DSS does not have it any more."]) };
  return { title: "Bundle not found", text: `The DSS does not have this bundle, and Airflow has no finished task that you may see and that created or deleted it. ${HOPE}` };
}

function sentenceOf(task, words) {
  return h("p", {}, "Task ", openOutside(h("a", { href: runPath(task) }, `${task.dag_id} / ${task.task_id}`)), " ", words);
}

function heading(uuid, bundle) {
  return h(
    "div",
    { class: "heading" },
    h("h1", {}, "Bundle ", h("span", { class: "mono" }, uuid)),
    bundle && copyButton(`${bundle.uuid}.${bundle.version}`, "FQID"),
    h("span", { class: "title" }),
  );
}

function facts(bundle, { connection, replica = "aws" }) {
  const versions = h(
    "select",
    { "aria-label": "Version", class: "mono" },
    bundle.versions.map((version) => h("option", { value: version, selected: version === bundle.version }, version)),
  );
  versions.addEventListener("change", () => {
    location.assign(view("bundle", { connection, replica, uuid: bundle.uuid, version: versions.value }));
  });
  const created = moment(bundle.version);
  return h(
    "dl",
    { class: "facts" },
    fact("Version", bundle.versions.length > 1 ? versions : h("span", { class: "mono" }, bundle.version)),
    fact("Created", h("span", { title: `${clock(created)} UTC` }, ago(created))),
    h("div", { id: "creator" }, h("dt", {}, "Created by"), h("dd", {}, h("span", { class: "quiet" }, "..."))),
    fact("Files", bundle.complete ? count(bundle.files.length + bundle.omitted, "file") : "..."),
    fact("Size", bundle.complete ? bytes(bundle.byte_count) : "..."),
    fact("Replicas", Object.entries(bundle.replicas).map(([name, available]) => presence(name, available))),
    fact("Connection", connection),
    fact("Creator", bundle.creator_uid ?? "unknown"),
  );
}

function fact(name, ...value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

function presence(name, available) {
  if (available === null) return h("span", { class: "badge", title: `Unknown whether ${name} has this version` }, name, " ?");
  const title = available ? `${name} has this version` : `${name} does not have this version`;
  return h("span", { class: `badge ${available ? "success" : ""}`, title }, name, icon(available ? "check" : "dash"));
}

async function addCreator(main, bundle, connection) {
  const fqid = `${bundle.uuid}.${bundle.version}`;
  const value = main.querySelector("#creator dd");
  try {
    const { creators } = await get("creators", { connection, fqid });
    const name = creators[fqid]?.name;
    if (name) Object.assign(main.querySelector(".heading .title"), { title: name, textContent: shortName(name) });
    value.replaceChildren(...(creators[fqid] ? creatorLinks(creators[fqid]) : [h("span", { class: "quiet" }, "no DAG run that this Airflow knows")]));
  } catch {
    value.replaceChildren(h("span", { class: "quiet" }, "no permission"));
  }
}

/** Show the name of the project in the metadata, if the bundle has no other name. */
async function addProject(main, { files }, { place, replica }) {
  const file = files.find(({ name, size }) => /^project(_\d+)?\.json$/.test(name) && size <= DOCUMENT_SIZE);
  if (!file) return;
  const document = await get(`${place}/files/${encodeURIComponent(file.uuid)}/document`, { replica, version: file.version }).catch(() => ({}));
  const title = main.querySelector(".heading .title");
  if (document.name && !title.textContent) title.textContent = document.name;
}

async function drawGraph(panel, links, files, { place, replica, find }) {
  const title = panel.querySelector("h2");
  const draw = (...content) => panel.replaceChildren(title, ...content);
  try {
    const graph = await get(`${place}/files/${encodeURIComponent(links.uuid)}/links`, { replica, version: links.version });
    if (graph.omitted) {
      draw(notice("info", "Too large to draw", `links.json has at least ${count(graph.omitted, "node and link", "nodes and links")}.`));
      return;
    }
    if (!graph.nodes.length) {
      draw(notice("info", "Nothing to draw", "links.json has no links."));
      return;
    }
    const named = new Map(files.flatMap((file) => [[file.uuid, { name: file.name, file }], [file.name, { name: file.name, file }]]));
    const redraw = () => draw(showGraph(graph, named, find));
    redraw();
    await addDocuments(named, files, links, { place, replica, redraw });
  } catch (error) {
    draw(notice("warning", "Cannot draw links.json", error.message));
  }
}

/** Read the metadata of the bundle, to show names for the ids of the links. */
async function addDocuments(named, files, links, { place, replica, redraw }) {
  const documents = files.filter((file) => file !== links && file.name.endsWith(".json") && file.size <= DOCUMENT_SIZE).slice(0, MAX_DOCUMENTS);
  const byName = new Map(files.map((file) => [file.name, file]));
  const queue = documents.values();
  let timer;
  const reader = async () => {
    for (const file of queue) {
      const document = await get(`${place}/files/${encodeURIComponent(file.uuid)}/document`, { replica, version: file.version }).catch(() => undefined);
      if (!document?.id) continue;
      named.set(document.id, { ...document, file: byName.get(document.name) ?? file });
      clearTimeout(timer); // each document may take long: show the names known so far
      timer = setTimeout(redraw, REDRAW);
    }
  };
  await Promise.all(Array.from({ length: DOCUMENTS_AT_ONCE }, reader));
}
