// What the tasks of one DAG run do with bundles, live.

import { get } from "./api.js";
import { empty, h, notice, show } from "./dom.js";
import { count } from "./format.js";
import { card, isOver } from "./ingest.js";
import { poll, OFTEN, RARELY } from "./polling.js";

export async function showRun(main, { dag_id, run_id }) {
  const open = new Set();
  await poll(
    async () => {
      const run = await get("run", { dag_id, run_id });
      show(main, tasks(run, open));
      return run.ingests.every(isOver) && ["success", "failed"].includes(run.state) ? RARELY : OFTEN;
    },
    (error) => main.replaceChildren(notice("error", "This run cannot be shown", error.message)),
  );
}

function tasks(run, open) {
  if (!run.ingests.length) {
    return empty("No bundles here yet", "Tasks of this run that make a bundle, or wait for one, are shown here while they run.");
  }
  const more = run.omitted && notice("info", `${count(run.omitted, "task")} not shown`, "Shown are those that failed or are under way, and the newest of the others.");
  return [more, h("div", { class: "cards single" }, run.ingests.map((ingest) => card(ingest, open)))].filter(Boolean);
}
