// Tasks of one DAG run that use the DSS, or one of them, updated while they run.

import { get } from "./api.js";
import { empty, h, notice, show } from "./dom.js";
import { count } from "./format.js";
import { card, isOver } from "./ingest.js";
import { poll, OFTEN, RARELY } from "./polling.js";

export async function showRun(main, { dag_id, run_id, task_id }) {
  const open = new Set();
  await poll(
    async () => {
      const run = await get("run", { dag_id, run_id, task_id });
      show(main, tasks(run, open));
      return run.ingests.every(isOver) && ["success", "failed"].includes(run.state) ? RARELY : OFTEN;
    },
    (error) => main.replaceChildren(notice("error", "Cannot show this run", error.message)),
  );
}

function tasks(run, open) {
  if (!run.ingests.length) {
    return empty("No tasks with the DSS here yet", "Tasks of this run that use the operators and sensors of the DSS appear here.");
  }
  const more = run.omitted && notice("info", `${count(run.omitted, "task")} not shown`, "Failed and running tasks are shown, and the newest others.");
  return [more, h("div", { class: "cards single" }, run.ingests.map((ingest) => card(ingest, open)))].filter(Boolean);
}
