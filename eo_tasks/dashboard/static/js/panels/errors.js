/** What waits for a person, by its reason. */

import { get, post } from "../api.js";
import { confirmed } from "../dialogs.js";
import { count, fill, h, units } from "../elements.js";
import { on } from "../live.js";

const MOST_MARKED = 200; // on the map: they are in its address
const MOST_TOLD = 1000; // cells of a group, by the server

/** What came of another try. */
export const retried = (done) =>
  `${units(done.sent)} queued, ${count(done.ready)} more when there is room${done.unwanted ? `, ${count(done.unwanted)} wanted by no run` : ""}.`;

export function errors(place) {
  const list = h("div.groups");
  fill(place, h("h1", {}, "Errors"), list);
  let seen = -1;
  const load = async () => {
    try {
      const groups = await get("/errors");
      fill(list, groups.length ? groups.map((group) => draw(group, load)) : h("p.note", {}, "No unit waits for you."));
    } catch (error) {
      fill(list, h("p.bad", {}, error.message));
    }
  };
  load();
  const ends = [
    on("reload", load),
    on("summary", ({ summary }) => {
      if (summary.stuck === seen) return;
      if (seen >= 0) load();
      seen = summary.stuck;
    }),
  ];
  return () => ends.forEach((end) => end());
}

function draw(group, load) {
  const [stage = "download", , ...period] = group.units[0]?.split("_") ?? [];
  return h("section.card.group", { "data-class": group.error_class },
    h("h2", {}, `${group.error_class} `, h("span.pill", {}, count(group.number))),
    h("p", {}, group.example),
    h("p.note", {}, `${units(group.number)} of ${count(group.cells.length)}${group.cells.length >= MOST_TOLD ? " or more" : ""} cells, such as `,
      group.units.map((unit) => [h("a", { href: `#/cell/${unit.split("_")[1]}` }, h("code", {}, unit)), " "]).flat()),
    h("details", {}, h("summary", {}, "Kind"), h("p.note", {}, h("code", {}, group.id), ` ${group.message}`)),
    h("div.buttons", {},
      h("a.button", { href: `#/map?stage=${stage}&period=${period.join("_")}&cells=${group.cells.slice(0, MOST_MARKED).join(",")}` }, "Show on the map"),
      h("button.main.needs-login", { type: "button", "aria-label": `Retry ${group.error_class}`, onclick: async () => {
        await confirmed(
          { title: `Retry ${group.error_class}`, text: `${units(group.number)} that failed for this reason: another try for each.`, action: "Retry" },
          () => post("/retry", { error: group.id }),
          retried);
        load();
      } }, "Retry this kind")));
}
