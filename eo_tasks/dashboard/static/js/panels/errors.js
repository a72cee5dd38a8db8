/** What waits for a person, by its reason. */

import { get, post } from "../api.js";
import { confirmed } from "../dialogs.js";
import { count, fill, h } from "../elements.js";
import { on } from "../live.js";

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
  return on("summary", ({ summary }) => {
    if (summary.stuck === seen) return;
    if (seen >= 0) load();
    seen = summary.stuck;
  });
}

function draw(group, load) {
  const stage = group.units[0]?.split("_")[0] ?? "download";
  return h("section.card.group", { "data-class": group.error_class },
    h("h2", {}, `${group.error_class} `, h("span.pill", {}, count(group.number))),
    h("p", {}, group.example),
    h("details", {}, h("summary", {}, "Units and kind"),
      h("p", {}, "Such as ", group.units.map((unit) => [h("a", { href: `#/cell/${unit.split("_")[1]}` }, unit), " "]).flat()),
      h("p.note", {}, `Kind ${group.id}: ${group.message}`)),
    h("div.buttons", {},
      h("a.button", { href: `#/map?stage=${stage}&cells=${group.cells.slice(0, 200).join(",")}` }, "Show on the map"),
      h("button.main.needs-login", { type: "button", "aria-label": `Retry ${group.error_class}`, onclick: async () => {
        await confirmed(
          { title: `Retry ${group.error_class}`, text: `${count(group.number)} units that failed for this reason are tried again.`, action: "Retry" },
          () => post("/retry", { error: group.id }),
          (done) => `${count(done.sent)} units are queued, ${count(done.ready)} when there is room.`);
        load();
      } }, "Retry this kind")));
}
