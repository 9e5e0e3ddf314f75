// Drawing of links.json: processes with their inputs and outputs. The server computes the positions.

import { h, svg } from "./dom.js";

const HEIGHT = 46;
const MAX_WIDTHS = [320, 280, 240, 210]; // of a node: the first with which all columns fit, else the last
const MIN_WIDTH = 84;
const ROOM = { entity: 30, process: 26 }; // beside the text, for stripe and round ends
const GAP = { x: 26, y: 16 };
const PAD = 8;
const FRAME = 34; // of the surrounding panel
const SHRINK = 0.92; // before texts are cut
const MIN_SCALE = 0.75; // smaller is not readable, so it scrolls
const FONTS = { title: "600 12px", subtitle: "11.5px" };
const pen = document.createElement("canvas").getContext("2d");

/** Draw the graph. `named` maps ids to names and files; `find` shows a file. */
export function showGraph(graph, named, find) {
  const texts = new Map(graph.nodes.map((node) => [node.id, text(node, knownOf(node, named))]));
  const lefts = columns(graph, texts, (document.querySelector("main").clientWidth - FRAME) / SHRINK);
  const boxes = new Map(graph.nodes.map((node) => [node.id, box(node, lefts)]));
  const width = Math.max(...[...boxes.values()].map(({ x, width }) => x + width)) + PAD;
  const height = Math.max(...[...boxes.values()].map(({ y, height }) => y + height)) + PAD;
  const edges = graph.edges.map((edge) => [edge, line(boxes.get(edge.source), boxes.get(edge.target))]);
  const nodes = graph.nodes.map((node) => [node, picture(node, boxes.get(node.id), texts.get(node.id), named, find)]);
  const arrow = svg("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, svg("path", { d: "M0 1l7 3l-7 3z" }));
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": "Graph of links.json" },
    svg("defs", {}, arrow),
    svg("g", { class: "edges" }, edges.map(([, path]) => path)),
    svg("g", { class: "nodes" }, nodes.map(([, group]) => group)),
  );
  drawing.style.minWidth = `${Math.round(width * MIN_SCALE)}px`;
  for (const [node, group] of nodes) {
    group.addEventListener("mouseenter", () => highlight(node.id, drawing, edges, nodes));
    group.addEventListener("mouseleave", () => drawing.classList.remove("lit"));
  }
  return h("div", {}, h("div", { class: "graph" }, drawing), legend(graph, named));
}

function knownOf(node, named) {
  return node.members.map((id) => named.get(id)).filter(Boolean);
}

function measure(words, kind) {
  pen.font = `${FONTS[kind]} ${getComputedStyle(document.body).fontFamily}`;
  return pen.measureText(words).width;
}

function columns(graph, texts, room) {
  const wanted = Array.from({ length: graph.columns }, () => MIN_WIDTH);
  for (const node of graph.nodes) {
    const { title, subtitle } = texts.get(node.id);
    const needed = Math.max(measure(title, "title"), measure(subtitle, "subtitle")) + ROOM[node.kind];
    wanted[node.x] = Math.max(wanted[node.x], Math.ceil(needed));
  }
  const gaps = 2 * PAD + (graph.columns - 1) * GAP.x;
  const atMost = (widest) => wanted.map((width) => Math.min(width, widest));
  const fits = (widest) => gaps + atMost(widest).reduce((sum, width) => sum + width, 0) <= room;
  const widths = atMost(MAX_WIDTHS.find(fits) ?? MAX_WIDTHS.at(-1));
  let left = PAD;
  return widths.map((width) => {
    const here = { left, width };
    left += width + GAP.x;
    return here;
  });
}

function box(node, lefts) {
  const { left, width } = lefts[node.x];
  return { x: left, y: PAD + node.y * (HEIGHT + GAP.y), width, height: HEIGHT };
}

function line(from, to) {
  const start = [from.x + from.width, from.y + from.height / 2];
  const end = [to.x, to.y + to.height / 2];
  const bend = Math.max(18, (end[0] - start[0]) / 2);
  return svg("path", { class: "edge", d: `M${start} C${start[0] + bend},${start[1]} ${end[0] - bend},${end[1]} ${end}`, "marker-end": "url(#arrow)" });
}

function picture(node, { x, y, width, height }, { title, subtitle }, named, find) {
  const known = knownOf(node, named);
  const file = node.members.length === 1 ? known[0]?.file : undefined;
  const group = svg(
    "g",
    { class: `node ${node.kind} ${kind(node, known)}`, transform: `translate(${x} ${y})`, tabindex: file ? 0 : undefined, role: file ? "link" : "img", "aria-label": subtitle ? `${title}: ${subtitle}` : title },
    svg("title", {}, hint(node, known, named)),
    svg("rect", { width, height, rx: node.kind === "process" ? height / 2 : 6 }),
    node.kind === "entity" && svg("rect", { class: "stripe", width: 4, height: height - 16, x: 8, y: 8, rx: 2 }),
    label(title, "title", width, node, subtitle ? 19 : height / 2 + 4),
    subtitle && label(subtitle, "subtitle", width, node, 35),
  );
  if (file) {
    group.addEventListener("click", () => find(file));
    group.addEventListener("keydown", (event) => event.key === "Enter" && find(file));
  }
  return group;
}

function label(whole, kind, width, node, y) {
  const fits = width - ROOM[node.kind] + 1;
  let cut = whole.slice(0, 200); // longer texts never fit, and each removed character costs a measurement
  while (measure(cut, kind) > fits) cut = `${cut.slice(0, cut.endsWith("…") ? -2 : -1).trimEnd()}…`;
  const process = node.kind === "process";
  return svg("text", { class: kind, x: process ? width / 2 : 20, y, "text-anchor": process ? "middle" : "start" }, cut);
}

function text(node, known) {
  return node.kind === "process" ? processText(node, known) : entityText(node, known);
}

function words(type) {
  return type.replaceAll("_", " ");
}

function short(id) {
  return /^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(id) ? id.slice(0, 8) : id;
}

function entityText(node, known) {
  const type = words(known[0]?.type || node.type || "entity");
  if (node.members.length > 1) return { title: `${node.members.length} × ${type}`, subtitle: known[0]?.name ? `${known[0].name}, …` : "" };
  return { title: type, subtitle: known[0]?.name || short(node.members[0]) };
}

function processText(node, known) {
  const kinds = node.protocols.map(({ type }) => words(type).replace(/ protocol$/, "")).filter(Boolean);
  const own = words(known[0]?.type || node.type || "process");
  const name = known[0]?.name || (/^\d+$/.test(node.members[0]) ? `number ${Number(node.members[0]) + 1}` : short(node.members[0]));
  if (!kinds.length) return { title: own, subtitle: name };
  const [first, second] = kinds;
  return { title: first, subtitle: kinds.length > 2 ? `${second}, ${kinds.length - 2} more` : second ?? known[0]?.name ?? "" };
}

function kind(node, known) {
  if (node.kind === "process") return "";
  const type = `${known[0]?.type ?? ""} ${node.type}`;
  if (/file|analysis_out|image/.test(type)) return "file";
  if (/biomaterial|organism|specimen|suspension|cell|organoid/.test(type)) return "biomaterial";
  return known[0]?.file && !known[0].type ? "file" : "other";
}

function hint(node, known, named) {
  const names = node.members.slice(0, 12).map((id) => [named.get(id)?.name, id].filter(Boolean).join(": "));
  const more = node.members.length > 12 ? [`and ${node.members.length - 12} more`] : [];
  const protocols = node.protocols.map(({ type, id }) => `${words(type) || "protocol"}: ${id}`);
  return [words(known[0]?.type || node.type || node.kind), ...names, ...more, ...protocols].join("\n");
}

/** Highlight the ancestors and descendants of a node. */
function highlight(id, drawing, edges, nodes) {
  const lit = new Set([id]);
  for (const [from, to] of [["source", "target"], ["target", "source"]]) {
    const todo = [id];
    while (todo.length) {
      const here = todo.pop();
      for (const [edge] of edges) {
        if (edge[from] === here && !lit.has(edge[to])) {
          lit.add(edge[to]);
          todo.push(edge[to]);
        }
      }
    }
  }
  drawing.classList.add("lit");
  for (const [edge, path] of edges) path.classList.toggle("on", lit.has(edge.source) && lit.has(edge.target));
  for (const [node, group] of nodes) group.classList.toggle("on", lit.has(node.id));
}

function legend(graph, named) {
  const kinds = new Set(graph.nodes.map((node) => kind(node, knownOf(node, named)) || "process"));
  const shown = [["biomaterial", "biomaterial"], ["file", "file"], ["other", "other entity"], ["process", "process, with its protocols"]].filter(([key]) => kinds.has(key));
  return h("p", { class: "legend" }, shown.map(([key, text]) => h("span", {}, h("i", { class: key }), text)));
}
