// Polling: often while something changes, rarely otherwise, not while the page is hidden.

import { h, notice } from "./dom.js";

export const OFTEN = 2000;
export const RARELY = 15000;

/** Call `look` repeatedly; it returns the pause in milliseconds until the next call, or undefined to end. */
export async function poll(look, failed) {
  let shown = false;
  for (;;) {
    let pause = RARELY;
    if (!document.hidden) {
      try {
        pause = await look();
        shown = true;
        document.querySelector("#stale")?.remove();
      } catch (error) {
        if (shown) warn(error); // the page keeps showing the last state
        else failed(error);
      }
    } else {
      pause = OFTEN;
    }
    if (pause === undefined) return;
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/** Show that the page could not be updated, once. */
function warn(error) {
  if (document.querySelector("#stale")) return;
  const since = new Date().toLocaleTimeString();
  document.querySelector("main").before(h("div", { id: "stale" }, notice("warning", `Not updated since ${since}`, error.message)));
}
