// Requests to the server, and links between pages.

const ROOT = new URL(".", location.href);
const framed = window.parent !== window;

/** Fetch a path of the API. Errors have the message of the server and `missing`, if the DSS does not have the object. A `signal` aborts the request. */
export async function get(path, query = {}, signal = undefined) {
  const url = new URL(`api/${path}`, ROOT);
  for (const [name, value] of Object.entries(query)) {
    for (const item of [value].flat()) if (item !== undefined && item !== null && item !== "") url.searchParams.append(name, item);
  }
  let response;
  try {
    response = await fetch(url, { headers: { accept: "application/json" }, signal });
  } catch {
    throw new Error("Airflow's API server does not answer.");
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  if (response.status === 401) throw new Error("Your session has expired. Log in to Airflow again.");
  if (response.status === 403) throw new Error("You do not have permission to see this. Ask an administrator of this Airflow.");
  const first = Array.isArray(body.detail) ? body.detail[0]?.msg?.replace(/^Value error, /, "") : body.detail; // validation errors
  const message = typeof first === "string" ? first : `The server answered ${response.status}.`;
  throw Object.assign(new Error(message), { missing: body.missing === true });
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

/** Make a link open in the whole window. Airflow's frame forbids that to links inside it, but not to its own links. */
export function openOutside(link) {
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

/** Follow the address of the outer window: Airflow 3.1 and 3.2 always open the frame at its first page. */
export function followOuterAddress() {
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
