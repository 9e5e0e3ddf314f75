// Files of a bundle with filter, order and details.

import { copyButton, h, icon, isPlainClick, table } from "./dom.js";
import { bytes, count, number } from "./format.js";

const PAGE_SIZE = 100;
const SUMS = [["sha256", "SHA-256"], ["sha1", "SHA-1"], ["s3_etag", "S3 ETag"], ["crc32c", "CRC-32C"]];
const COLUMNS = [
  ["Name", "name", (a, b) => a.name.localeCompare(b.name)],
  ["Content type", "", (a, b) => a.content_type.localeCompare(b.content_type)],
  ["Size", "right", (a, b) => a.size - b.size],
  ["Indexed", "", (a, b) => Number(b.indexed) - Number(a.indexed)],
  ["SHA-256", ""],
  ["Version", "wide"],
];

/** Show the files; return a function that scrolls to a file. */
export function showFiles(section, files) {
  const state = { text: "", column: undefined, descending: false, shown: PAGE_SIZE };
  const title = h("h2", {});
  const filter = h("input", { type: "search", placeholder: "Filter by name or type", "aria-label": "Filter files", spellcheck: "false" });
  const rows = table(COLUMNS, [], "Files");
  const body = rows.querySelector("tbody");
  const more = h("button", {}, "Show more");

  function draw() {
    const wanted = state.text.toLowerCase();
    const found = files.filter((file) => `${file.name}\n${file.content_type}`.toLowerCase().includes(wanted));
    const compare = COLUMNS[state.column]?.[2];
    if (compare) found.sort((a, b) => (state.descending ? compare(b, a) : compare(a, b)));
    title.textContent = state.text ? `${number(found.length)} of ${count(files.length, "file")}` : count(files.length, "file");
    body.replaceChildren(...found.slice(0, state.shown).flatMap(row));
    if (!found.length) body.append(h("tr", {}, h("td", { colspan: COLUMNS.length, class: "quiet" }, "No matching file.")));
    more.hidden = found.length <= state.shown;
  }

  filter.addEventListener("input", () => {
    Object.assign(state, { text: filter.value.trim(), shown: PAGE_SIZE });
    draw();
  });
  more.addEventListener("click", () => {
    state.shown += PAGE_SIZE;
    draw();
  });
  sortable(rows, state, draw);
  draw();
  section.append(h("div", { class: "controls" }, title, h("div", { class: "search" }, icon("search"), filter)), rows, h("div", { class: "more" }, more));

  return (file) => {
    const place = files.indexOf(file);
    Object.assign(state, { text: "", column: undefined, shown: Math.max(state.shown, place + 1) });
    filter.value = "";
    draw();
    const found = body.querySelector(`tr[data-file="${CSS.escape(file.uuid)}"]`);
    found?.scrollIntoView({ block: "center" });
    found?.classList.add("found");
  };
}

function sortable(rows, state, draw) {
  rows.querySelectorAll("th").forEach((heading, column) => {
    if (!COLUMNS[column][2]) return;
    const button = h("button", { class: "sort" }, heading.textContent);
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      state.descending = state.column === column && !state.descending;
      state.column = column;
      rows.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      draw();
    });
  });
}

function row(file) {
  const opener = h("button", { class: "opener", "aria-expanded": "false", "aria-label": `Details of ${file.name}` }, icon("open"));
  const detailsRow = h("tr", { class: "about", hidden: true }, h("td", { colspan: COLUMNS.length }, details(file)));
  const toggle = () => {
    detailsRow.hidden = !detailsRow.hidden;
    opener.setAttribute("aria-expanded", String(!detailsRow.hidden));
  };
  opener.addEventListener("click", toggle);
  return [
    h(
      "tr",
      { "data-file": file.uuid, class: "opens", onclick: (event) => isPlainClick(event) && toggle() },
      h("td", { class: "name" }, h("div", {}, opener, h("span", { title: file.name }, file.name))),
      h("td", {}, file.content_type),
      h("td", { class: "right nowrap", title: `${number(file.size)} bytes` }, bytes(file.size)),
      h("td", {}, file.indexed ? h("span", { class: "badge info" }, "indexed") : ""),
      h("td", { class: "mono nowrap", title: file.sha256 }, file.sha256.slice(0, 12), copyButton(file.sha256, "SHA-256")),
      h("td", { class: "mono nowrap wide" }, file.version),
    ),
    detailsRow,
  ];
}

function details(file) {
  const lines = [["FQID", `${file.uuid}.${file.version}`], ...SUMS.map(([key, name]) => [name, file[key]])];
  return h("dl", {}, lines.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "mono" }, value, copyButton(value, name)))));
}
