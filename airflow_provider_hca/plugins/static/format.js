// Format numbers, sizes and times.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(count) {
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? Math.round(value).toLocaleString("en") : value.toFixed(value < 10 ? 2 : 1)} ${UNITS[unit]}`;
}

export function number(count) {
  return count.toLocaleString("en");
}

export function count(n, one, many = `${one}s`) {
  return `${number(n)} ${n === 1 ? one : many}`;
}

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** Parse a DSS_VERSION as a time. */
export function moment(version) {
  const parts = /^(\d{4}-\d{2}-\d{2})T(\d{2})(\d{2})(\d{2}\.\d{3})\d{3}Z$/.exec(version);
  return parts ? new Date(`${parts[1]}T${parts[2]}:${parts[3]}:${parts[4]}Z`) : new Date(NaN);
}

export function ago(date) {
  const seconds = (Date.now() - date.getTime()) / 1000;
  if (Number.isNaN(seconds)) return "";
  const steps = [[60, "second"], [60, "minute"], [24, "hour"], [30, "day"], [12, "month"], [Infinity, "year"]];
  let value = Math.abs(seconds);
  for (const [size, unit] of steps) {
    if (value < size) {
      const text = count(Math.floor(value), unit);
      if (unit === "second") return seconds < 0 ? "soon" : "just now";
      return seconds < 0 ? `in ${text}` : `${text} ago`;
    }
    value /= size;
  }
  return "";
}

export function clock(date) {
  return Number.isNaN(date.getTime()) ? "" : date.toISOString().slice(0, 19).replace("T", " ");
}

/** Let a message that begins with a word begin with a capital. */
export function sentence(text) {
  return /^[a-z]+([ ,]|$)/.test(text) ? text[0].toUpperCase() + text.slice(1) : text;
}

/** Shorten the name of a bundle, which may be a long path, to its last two parts. */
export function shortName(name) {
  return name.split("/").filter(Boolean).slice(-2).join("/");
}
