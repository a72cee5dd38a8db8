/** The states of a unit: their letters in the API, their names, and the order in which they are drawn. */

export const STATES = [
  ["c", "completed"], ["k", "skipped"], ["m", "empty"], ["s", "started"], ["o", "ordered"], ["e", "enqueued"],
  ["r", "retrying"], ["p", "pending"], ["w", "waiting"], ["x", "canceled"], ["f", "failed"], ["q", "quarantined"],
];
const NAMES = Object.fromEntries(STATES);
export const MEANINGS = {
  completed: "made", skipped: "was stored already", empty: "no imagery", started: "at work", ordered: "at openEO",
  enqueued: "in a queue", retrying: "tried again later", pending: "known, not sent", waiting: "not looked at yet",
  canceled: "given up", failed: "waits for you", quarantined: "took its workers down", "not wanted": "in no run",
};
export const nameOf = (letter) => NAMES[letter] ?? "not wanted";

/** The colour of a state in the theme that is on. */
export function colourOf(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--state-${name.replace(" ", "-")}`).trim();
}
