/** The states of a unit: letters, names, colours, and signs, so that none is told by its colour alone. */

import { count, h } from "./elements.js";

/** In the order in which they are drawn: the letter in the API, the name, the sign, what it means. */
export const STATES = [
  ["c", "completed", "", "made"],
  ["k", "skipped", "", "was stored already"],
  ["m", "empty", "–", "no imagery"],
  ["s", "started", "•", "at work"],
  ["o", "ordered", "○", "at openEO"],
  ["e", "enqueued", "", "in a queue"],
  ["r", "retrying", "~", "tried again later"],
  ["p", "pending", "", "known, not sent"],
  ["w", "waiting", "", "not looked at yet"],
  ["x", "canceled", "/", "given up"],
  ["f", "failed", "×", "waits for you"],
  ["q", "quarantined", "!", "took its workers down, waits for you"],
];
/** A block of cells is shown as the first of these that any of its cells is; as the server has it for the matrix. */
export const URGENCY = [..."qfrsoepwxmck"];

const NAMES = new Map(STATES.map(([letter, name]) => [letter, name]));
const SIGNS = new Map(STATES.map(([letter, , sign]) => [letter, sign]));
const SIGNS_BY_NAME = new Map(STATES.map(([, name, sign]) => [name, sign]));

export const nameOf = (letter) => NAMES.get(letter) ?? "not wanted";
export const signOf = (letter) => SIGNS.get(letter) ?? "";

/** The value of a custom property in the theme that is on. */
export const valueOf = (property) => getComputedStyle(document.documentElement).getPropertyValue(property).trim();

/** The colour of a state in the theme that is on. */
export const colourOf = (name) => valueOf(`--state-${name.replace(" ", "-")}`);

/** Black or white, whichever is read on a colour such as "#2c7a94"; weights of ITU-R BT.601. */
export function readableOn(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 120 ? "#1d2327" : "#ffffff";
}

/** A small square in a state's colour, with its sign. */
export const swatch = (name) => h(`span.swatch.${name}`, { "aria-hidden": "true" }, SIGNS_BY_NAME.get(name) ?? "");

/** The states' squares and names; with numbers, only those that some unit is in. @param {?Object<string, number>} numbers */
export function legend(numbers = null) {
  return h("ul.legend", { "aria-label": "States" },
    STATES.filter(([, name]) => !numbers || numbers[name]).map(([, name, , meaning]) =>
      h("li", { title: meaning }, swatch(name), name, numbers ? h("b", {}, count(numbers[name])) : null)));
}

/** A bar of all states; what it shows is in its label too. @param {Object<string, number>} states */
export function bar(states, tag = "span.bar") {
  const parts = STATES.map(([, name]) => [name, states[name] ?? 0]).filter(([, number]) => number);
  const text = parts.map(([name, number]) => `${count(number)} ${name}`).join(", ") || "nothing";
  return h(tag, { role: "img", "aria-label": text, title: text },
    parts.map(([name, number]) => h(`span.${name}`, { style: { "flex-grow": String(number) } })));
}
