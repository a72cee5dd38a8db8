/** Elements, and values as people read them. Text goes in as text: nothing here reads markup. */

/**
 * Make an element.
 * @param {string} tag its name, and classes after dots: "p.note"
 * @param {Object<string, any>} properties attributes; "on…" are listeners, "style" sets single properties
 * @param {...(Node|string|number|null|undefined|false)} children
 */
export function h(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [what, how] of Object.entries(value)) element.style.setProperty(what, how);
    else if (key in element && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Put these in the place of what an element has. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
}

/** Draw a place anew, and leave the focus on what has the same label as before. */
export function keepingFocus(place, draw) {
  const label = place.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  draw();
  if (label) [...place.querySelectorAll("[aria-label]")].find((one) => one.getAttribute("aria-label") === label)?.focus();
}

const WHOLE = new Intl.NumberFormat("en");

/** 12345 → "12,345" */
export const count = (number) => WHOLE.format(Math.round(number));

/** 1 → "1 unit", 2000 → "2,000 units" */
export const units = (number) => `${count(number)} ${number === 1 ? "unit" : "units"}`;

/** A part as a percentage, which is 100 only when it is whole. */
export function percent(done, total) {
  if (!total) return "–";
  const share = (100 * done) / total;
  const digits = share > 0 && share < 100 && (share < 10 || share >= 99) ? 10 : 1;
  return `${Math.floor(share * digits) / digits} %`;
}

/** Seconds as "3 d 4 h", "5 min", "12 s". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) return `${seconds.toFixed(1)} s`;
  const [name, size] = units[first];
  const whole = Math.floor(seconds / size);
  const [lesser, part] = units[first + 1] ?? [null, 1];
  const rest = lesser && whole < 10 && first < 2 ? Math.floor((seconds % size) / part) : 0;
  return rest ? `${whole} ${name} ${rest} ${lesser}` : `${whole} ${name}`;
}

/** Seconds since 1970 as a time of day, with the date where it is not today. */
export function moment(at) {
  if (!at) return "–";
  const time = new Date(typeof at === "number" ? at * 1000 : at);
  const clock = time.toLocaleTimeString("en-GB");
  return time.toDateString() === new Date().toDateString() ? clock : `${time.toLocaleDateString("en-CA")} ${clock}`;
}

/** An angle with its side of the zero: (-15.8279, 2, "E", "W") → "15.83° W" */
export const degrees = (value, digits, positive, negative) => `${Math.abs(value).toFixed(digits)}° ${value < 0 ? negative : positive}`;

/** Years of a period: "2022_2023" → "2022–2023" */
export const years = (period) => period.replace("_", "–");

/** A table: heads, and rows of cells. */
export function table(caption, heads, rows, empty = "Nothing yet.") {
  if (!rows.length) return h("p.note", {}, empty);
  return h("div.table", { tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption.hidden", {}, caption),
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) =>
        h(typeof cell === "number" ? "td.number" : "td", {}, typeof cell === "number" ? count(cell) : cell)))))));
}

/** A panel's section with a heading. */
export const section = (title, ...children) => h("section.card", {}, h("h2", {}, title), ...children);
