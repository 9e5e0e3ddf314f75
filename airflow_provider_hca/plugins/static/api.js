// Asking the server, and going from page to page.

const ROOT = new URL(".", location.href);
const framed = window.parent !== window;

/** What the server has under a path; an error says what it said, and whether the DSS does not have it. A `signal` ends the request. */
export async function get(path, query = {}, signal = undefined) {
  const url = new URL(`api/${path}`, ROOT);
  for (const [name, value] of Object.entries(query)) {
    for (const each of [value].flat()) if (each !== undefined && each !== null && each !== "") url.searchParams.append(name, each);
  }
  let response;
  try {
    response = await fetch(url, { headers: { accept: "application/json" }, signal });
  } catch {
    throw new Error("Airflow's API server does not answer");
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  if (response.status === 401) throw new Error("Your session has ended: log in to Airflow again");
  if (response.status === 403) throw new Error("You may not see this: ask an administrator of this Airflow");
  const first = Array.isArray(body.detail) ? body.detail[0]?.msg?.replace(/^Value error, /, "") : body.detail; // of what is not well-formed
  const said = typeof first === "string" ? first : `the server answered ${response.status}`;
  throw Object.assign(new Error(said), { missing: body.missing === true });
}

/** The address of a view of this page. */
export function view(name, query = {}) {
  const url = new URL(name, ROOT);
  for (const [key, value] of Object.entries(query)) if (value) url.searchParams.set(key, value);
  return url.pathname + url.search;
}

/** The address of a page of Airflow. */
export function airflow(path) {
  return new URL(`..${path}`, ROOT).pathname;
}

export function runPath(task) {
  const run = `/dags/${encodeURIComponent(task.dag_id)}/runs/${encodeURIComponent(task.run_id)}`;
  if (!task.task_id) return airflow(run);
  const mapped = task.map_index >= 0 ? `/mapped/${task.map_index}` : "";
  return airflow(`${run}/tasks/${encodeURIComponent(task.task_id)}${mapped}`);
}

/** Let a link lead the whole window away: Airflow's frame forbids it to the page in it, but not to its own links. */
export function leaves(link) {
  if (framed) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const outside = window.parent.document.createElement("a");
      outside.href = link.href;
      window.parent.document.body.append(outside);
      outside.click();
      outside.remove();
    });
  }
  return link;
}

/** Airflow 3.1 and 3.2 open the frame at its first page, whatever its own address says: go where that leads. */
export function followAirflow() {
  if (!framed) return false;
  let wanted;
  try {
    const { pathname, search, hash } = window.parent.location;
    const inner = /\/plugin\/dss(\/.+)$/.exec(pathname)?.[1];
    wanted = inner && inner + search + hash;
  } catch {
    return false;
  }
  const here = location.pathname + location.search + location.hash;
  if (!wanted?.startsWith(ROOT.pathname) || wanted === here || location.pathname !== ROOT.pathname || location.search) return false;
  location.replace(wanted);
  return true;
}

export { framed };
