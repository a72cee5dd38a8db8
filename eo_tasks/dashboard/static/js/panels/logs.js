/** Lines of all workers' logs as they come, and those before. */

import { get } from "../api.js";
import { fill, h, moment } from "../elements.js";
import { followLogs, on } from "../live.js";

const MOST = 1000;

export function logs(place, _, query) {
  const form = h("form.controls", { "aria-label": "Filter" },
    h("label", {}, "Stage", choice("stage", ["", "download", "store", "btc"], query.get("stage"))),
    h("label", {}, "Cell", h("input", { name: "cell", inputmode: "numeric", pattern: "[0-9]*", size: "8", value: query.get("cell") ?? "" })),
    h("label", {}, "Level", choice("level", ["DEBUG", "INFO", "WARNING", "ERROR"], "INFO")),
    h("label", {}, "Text", h("input", { name: "text", size: "18" })),
    h("button.main", {}, "Apply"),
    h("label.check", {}, h("input", { type: "checkbox", name: "follow", checked: true }), "follow"));
  const lines = h("ol.log", { "aria-live": "off" });
  const more = h("button", { type: "button", hidden: true }, "Earlier lines");
  const told = h("p.note", { role: "status" });
  fill(place, h("h1", {}, "Logs"), form, told, h("div.card", {}, lines, more));
  let before = null;
  const filter = () => Object.fromEntries([...new FormData(form)].filter(([name, value]) => name !== "follow" && value));
  const load = async (isMore) => {
    try {
      const page = await get("/logs", { ...filter(), most: 200, before: isMore ? before : null });
      if (!isMore) fill(lines);
      lines.append(...page.lines.map(logLine));
      before = page.before;
      more.hidden = !before;
      fill(told, lines.childElementCount ? "" : "No line fits.");
    } catch (error) {
      fill(told, error.message);
    }
  };
  const follow = () => followLogs(form.elements.follow.checked ? filter() : null);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    load(false);
    follow();
  });
  form.elements.follow.addEventListener("change", follow);
  more.addEventListener("click", () => load(true));
  const ends = [on("reload", () => form.elements.follow.checked && load(false)), on("logs", (message) => {
    fill(told);
    lines.prepend(...message.lines.slice().reverse().map(logLine));
    while (lines.childElementCount > MOST) lines.lastElementChild.remove();
  })];
  load(false);
  follow();
  return () => {
    ends.forEach((end) => end());
    followLogs(null);
  };
}

/** One line: when, how grave, what, of which unit. */
export function logLine(line) {
  const fields = Object.entries(line.fields ?? {}).map(([name, value]) => `${name}=${typeof value === "object" ? JSON.stringify(value) : value}`);
  return h(`li.${(line.level ?? "INFO").toLowerCase()}`, {},
    h("time", {}, moment(line.at)), h("span.level", {}, line.level),
    line.unit ? h("a", { href: `#/cell/${line.grid_id}` }, line.unit) : h("span.note", {}, line.worker ?? ""),
    h("span.event", {}, line.event, fields.length ? h("span.note", {}, ` ${fields.join(" ")}`) : "",
      line.exception ? h("pre", {}, line.exception) : ""));
}

function choice(name, options, chosen) {
  return h("select", { name }, options.map((option) => h("option", { value: option, selected: option === chosen }, option || "all")));
}
