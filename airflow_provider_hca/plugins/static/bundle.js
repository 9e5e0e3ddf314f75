// One bundle: what it is, how its files hang together, the files.

import { get, view } from "./api.js";
import { makerLinks } from "./bundles.js";
import { copyButton, h, icon, notice, show, skeleton } from "./dom.js";
import { showFiles } from "./files.js";
import { ago, bytes, clock, count, moment } from "./format.js";
import { showGraph } from "./graph.js";
import { poll, OFTEN } from "./polling.js";

const DOCUMENT_SIZE = 1024 * 1024;
const MOST_DOCUMENTS = 200;
const DOCUMENTS_AT_ONCE = 6;
const REDRAW = 150;
const LATER = 1.3; // times the pause before: who has waited for long can wait a little longer
const RAREST = 60_000;

export async function showBundle(main, query) {
  const { connection, replica = "aws", uuid = "", version } = query;
  const place = `connections/${encodeURIComponent(connection)}`;
  const bundle = await find(main, uuid, () => get(`${place}/bundles/${encodeURIComponent(uuid)}`, { replica, version }), view("", { connection, replica }));
  if (!bundle) return;
  document.title = `DSS: ${bundle.uuid}`;
  const files = h("section", { class: "files" });
  const links = bundle.files.find((file) => file.name === "links.json");
  const graph = links && h("section", { class: "panel", "aria-label": "Graph" }, h("h2", {}, "How it was made"), skeleton(4));
  main.replaceChildren(heading(bundle.uuid, bundle), facts(bundle, query), ...(graph ? [graph] : []), files);
  if (bundle.omitted) files.append(notice("info", `${count(bundle.omitted, "file")} not listed`, "A bundle of so many files is listed as far as a browser can show it."));
  const findFile = showFiles(files, bundle.files);
  addMaker(main, bundle);
  if (graph) await drawGraph(graph, links, bundle.files, { place, replica, find: findFile });
}

/** What `look` finds; the link of a running upload leads to a bundle that is not there yet, so then it looks again. */
async function find(main, uuid, look, all) {
  let found;
  let pause = OFTEN;
  await poll(async () => {
    try {
      found = await look();
    } catch (error) {
      const hope = error.missing && h("p", {}, "If a task is still uploading it, it is shown here at most a minute after it is made.");
      show(main, heading(uuid), notice("error", error.missing ? "This bundle is not there" : "This bundle cannot be shown", error.message, hope, h("p", {}, h("a", { href: all }, "All bundles"))));
      if (error.missing) return (pause = Math.min(RAREST, LATER * pause));
    }
    return undefined;
  });
  return found;
}

function heading(uuid, bundle) {
  return h(
    "div",
    { class: "heading" },
    h("h1", {}, "Bundle ", h("span", { class: "mono" }, uuid)),
    bundle && copyButton(`${bundle.uuid}.${bundle.version}`, "FQID"),
  );
}

function facts(bundle, { connection, replica = "aws" }) {
  const versions = h(
    "select",
    { "aria-label": "Version", class: "mono" },
    bundle.versions.map((each) => h("option", { value: each, selected: each === bundle.version }, each)),
  );
  versions.addEventListener("change", () => {
    location.assign(view("bundle", { connection, replica, uuid: bundle.uuid, version: versions.value }));
  });
  const made = moment(bundle.version);
  return h(
    "dl",
    { class: "facts" },
    fact("Version", bundle.versions.length > 1 ? versions : h("span", { class: "mono" }, bundle.version)),
    fact("Made", h("span", { title: `${clock(made)} UTC` }, ago(made))),
    h("div", { id: "maker" }, h("dt", {}, "Made by"), h("dd", {}, h("span", { class: "quiet" }, "..."))),
    fact("Files", count(bundle.files.length + bundle.omitted, "file")),
    fact("Size", bytes(bundle.byte_count)),
    fact("Replicas", Object.entries(bundle.replicas).map(([name, there]) => presence(name, there))),
    fact("Connection", connection),
    fact("Creator", bundle.creator_uid ?? "not told"),
  );
}

function fact(name, ...value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

function presence(name, there) {
  if (there === null) return h("span", { class: "badge", title: `Whether it is in ${name} could not be found out` }, name, " ?");
  const title = there ? `This version is in ${name}` : `This version is not in ${name}`;
  return h("span", { class: `badge ${there ? "success" : ""}`, title }, name, icon(there ? "check" : "dash"));
}

async function addMaker(main, bundle) {
  const fqid = `${bundle.uuid}.${bundle.version}`;
  const value = main.querySelector("#maker dd");
  try {
    const { makers } = await get("makers", { fqid });
    value.replaceChildren(...(makers[fqid] ? makerLinks(makers[fqid]) : [h("span", { class: "quiet" }, "no DAG run of this Airflow")]));
  } catch {
    value.replaceChildren(h("span", { class: "quiet" }, "not for you to see"));
  }
}

async function drawGraph(panel, links, files, { place, replica, find }) {
  const title = panel.querySelector("h2");
  const draw = (...what) => panel.replaceChildren(title, ...what);
  try {
    const graph = await get(`${place}/files/${links.uuid}/links`, { replica, version: links.version });
    if (graph.omitted) {
      draw(notice("info", "Too large to draw", `links.json has at least ${count(graph.omitted, "node and link", "nodes and links")}.`));
      return;
    }
    if (!graph.nodes.length) {
      draw(notice("info", "Nothing to draw", "links.json links nothing."));
      return;
    }
    const named = new Map(files.flatMap((file) => [[file.uuid, { name: file.name, file }], [file.name, { name: file.name, file }]]));
    const redraw = () => draw(showGraph(graph, named, find));
    redraw();
    await addDocuments(named, files, links, { place, replica, redraw });
  } catch (error) {
    draw(notice("warning", "links.json cannot be drawn", error.message));
  }
}

/** Read the metadata of the bundle, to call by their names what the links know by ids only. */
async function addDocuments(named, files, links, { place, replica, redraw }) {
  const documents = files.filter((file) => file !== links && file.name.endsWith(".json") && file.size <= DOCUMENT_SIZE).slice(0, MOST_DOCUMENTS);
  const byName = new Map(files.map((file) => [file.name, file]));
  const left = documents.values();
  let timer;
  const reader = async () => {
    for (const file of left) {
      const document = await get(`${place}/files/${file.uuid}/document`, { replica, version: file.version }).catch(() => undefined);
      if (!document?.id) continue;
      named.set(document.id, { ...document, file: byName.get(document.name) ?? file });
      clearTimeout(timer); // a DSS may take its time for each of them: what is known by then is shown
      timer = setTimeout(redraw, REDRAW);
    }
  };
  await Promise.all(Array.from({ length: DOCUMENTS_AT_ONCE }, reader));
}
