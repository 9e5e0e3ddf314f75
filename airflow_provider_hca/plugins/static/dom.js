// Elements. Text is inserted as text nodes only, so that names of files cannot become markup.

import { sentence } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function svg(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

const ICONS = {
  copy: "M9 9h10v11H9zM5 15V4h10",
  check: "M5 12.500l4.500 4.500L19 7.500",
  search: "M11 4a7 7 0 1 1 0 14a7 7 0 0 1 0-14M16 16l4.500 4.500",
  refresh: "M20 11a8 8 0 1 0-2 6M20 5v6h-6",
  open: "M9 6l6 6-6 6",
  cross: "M6 6l12 12M18 6L6 18",
  dash: "M5 12h14",
  clock: "M12 3a9 9 0 1 1 0 18a9 9 0 0 1 0-18M12 7v5l3 3",
  pause: "M8 5v14M16 5v14",
  skip: "M5 5l8 7-8 7M18 5v14",
  lock: "M6 11h12v9H6zM8.500 11V8a3.500 3.500 0 0 1 7 0v3",
};

export function icon(name) {
  return svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

/** Return whether a click on a row neither hits a link or button of its own nor selects text. */
export function isPlainClick(event) {
  return !event.target.closest("a, button, summary, input, select") && !getSelection().toString();
}

/** Create a button that copies a text and confirms it. */
export function copyButton(text, name) {
  const button = h("button", { class: "quiet", title: `Copy ${name}`, "aria-label": `Copy ${name}` }, icon("copy"));
  button.addEventListener("click", async (event) => {
    event.stopPropagation();
    await copy(text);
    button.replaceChildren(icon("check"));
    setTimeout(() => button.replaceChildren(icon("copy")), 1200);
  });
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers offer navigator.clipboard only with TLS.
    const area = h("textarea", { class: "offscreen" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

const STATE_ICONS = {
  success: "check",
  failed: "cross",
  upstream_failed: "cross",
  running: "refresh",
  restarting: "refresh",
  up_for_retry: "refresh",
  up_for_reschedule: "refresh",
  deferred: "pause",
  skipped: "skip",
  removed: "dash",
  read_only: "lock",
};

/** Create a badge in the style of Airflow's states: full colour, icon and text. */
export function stateBadge(state, text = (state ?? "no status").replaceAll("_", " ")) {
  return h("span", { class: `badge state ${state ?? "none"}` }, icon(STATE_ICONS[state] ?? "clock"), text);
}

/** Create a placeholder for content that is loading. */
export function skeleton(lines = 3) {
  return h("div", { class: "skeleton", role: "status", "aria-label": "Loading" }, Array.from({ length: lines }, () => h("div")));
}

export function notice(kind, title, text, ...more) {
  return h("div", { class: `notice ${kind}`, role: kind === "error" ? "alert" : "note" }, h("strong", {}, title), typeof text === "string" ? text && h("p", {}, sentence(text)) : text, ...more);
}

export function empty(title, text) {
  return h("div", { class: "empty" }, h("strong", {}, title), h("p", {}, text));
}

/** Create a table; `columns` are pairs of a heading and a class of its cells. */
export function table(columns, rows, name) {
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { "aria-label": name },
      h("thead", {}, h("tr", {}, columns.map(([heading, kind]) => h("th", { class: kind, scope: "col" }, heading)))),
      h("tbody", {}, rows),
    ),
  );
}

/** Change a node to equal `wanted` where it differs, so that focus, selection and animations remain.
 * Elements with different `data-key` are replaced, because their event listeners differ. */
export function morph(shown, wanted) {
  if (shown.nodeType !== wanted.nodeType || shown.nodeName !== wanted.nodeName || shown.dataset?.key !== wanted.dataset?.key) return shown.replaceWith(wanted);
  if (shown.nodeType === Node.TEXT_NODE) {
    if (shown.data !== wanted.data) shown.data = wanted.data;
    return undefined;
  }
  for (const { name } of [...shown.attributes]) if (!wanted.hasAttribute(name)) shown.removeAttribute(name);
  for (const { name, value } of wanted.attributes) {
    if (shown.getAttribute(name) === value) continue;
    if (name === "style") shown.style.cssText = value; // as an attribute, the content security policy forbids it
    else shown.setAttribute(name, value);
  }
  const [before, after] = [[...shown.childNodes], [...wanted.childNodes]];
  for (const [index, child] of after.entries()) {
    if (before[index]) morph(before[index], child);
    else shown.append(child);
  }
  for (const child of before.slice(after.length)) child.remove();
  return undefined;
}

export function show(main, ...children) {
  morph(main, fill(main.cloneNode(false), {}, children));
}
