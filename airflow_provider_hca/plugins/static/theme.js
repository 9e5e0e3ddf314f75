// Light and dark mode and colours, taken from the surrounding Airflow page.

const STATES = ["success", "failed", "running", "queued", "scheduled", "deferred", "up_for_retry", "up_for_reschedule", "upstream_failed", "skipped", "restarting", "removed", "none"];
const NAMES = [
  ...["bg", "bg-subtle", "bg-muted", "bg-emphasized", "fg", "fg-muted", "border", "border-emphasized"],
  ...["brand-solid", "brand-contrast", "brand-fg", "brand-subtle", "fg-error", "fg-warning", "fg-info"],
  ...["bg-error", "bg-warning", "bg-info", "border-error", "border-warning", "border-info"],
  ...STATES.flatMap((state) => [`${state}-solid`, `${state}-contrast`, `${state}-fg`, `${state}-subtle`]),
];
const root = document.documentElement;

function outerRoot() {
  try {
    return window.parent === window ? undefined : window.parent.document.documentElement;
  } catch {
    return undefined;
  }
}

function ownTheme() {
  const chosen = localStorage.getItem("theme");
  if (chosen === "dark" || chosen === "light") return chosen;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

function apply() {
  const frame = outerRoot();
  const dark = frame ? frame.classList.contains("dark") : ownTheme() === "dark";
  root.classList.toggle("dark", dark);
  if (!frame) return;
  const style = window.parent.getComputedStyle(frame);
  for (const name of NAMES) {
    const value = style.getPropertyValue(`--chakra-colors-${name}`).trim();
    if (value) root.style.setProperty(`--${name}`, value);
  }
}

export function followTheme() {
  apply();
  const frame = outerRoot();
  if (frame) new MutationObserver(apply).observe(frame, { attributes: true, attributeFilter: ["class"] });
  addEventListener("storage", apply);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
}
