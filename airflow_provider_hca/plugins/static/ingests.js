// Newest ingests.

import { get } from "./api.js";
import { empty, h, notice, show, table } from "./dom.js";
import { count } from "./format.js";
import { isOver, row, COLUMNS } from "./ingest.js";
import { poll, OFTEN, RARELY } from "./polling.js";

export async function showIngests(main) {
  const open = new Set();
  await poll(
    async () => {
      const { ingests } = await get("ingests");
      show(main, list(ingests, open));
      return ingests.every(isOver) ? RARELY : OFTEN;
    },
    (error) => main.replaceChildren(notice("error", "Cannot list the ingests", error.message)),
  );
}

function list(ingests, open) {
  if (!ingests.length) {
    return [empty("No ingests yet", "Uploads and other tasks that create bundles appear here, newest first.")];
  }
  const running = ingests.filter((ingest) => !isOver(ingest)).length;
  return [
    h("h2", {}, count(ingests.length, "recent ingest"), running ? h("small", {}, ` ${running} running`) : ""),
    table(COLUMNS, ingests.flatMap((ingest) => row(ingest, open)), "Ingests"),
  ];
}
