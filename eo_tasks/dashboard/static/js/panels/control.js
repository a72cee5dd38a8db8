/** Asking for work, trying again, and who did what. */

import { get, post } from "../api.js";
import { confirmed, toast } from "../dialogs.js";
import { count, duration, fill, h, moment, section, table, units } from "../elements.js";
import { on } from "../live.js";
import { retried } from "./errors.js";

const KINDS = { todo: "To do", done: "Stored already", in_flight: "In flight", stuck: "Failed", empty: "No imagery", blocked: "After a failed one" };

export function control(place) {
  const form = h("form.controls", { "aria-label": "Start a run" },
    h("label", {}, "Years", h("input", { name: "years", required: true, placeholder: "2021-2023", pattern: "[0-9,\\s\\-]+", size: "14" })),
    h("label", {}, "Cells", h("input", { name: "cells", placeholder: "all, or 463, SI_000464", size: "24" })),
    h("label.check", {}, h("input", { type: "checkbox", name: "fresh" }), "make everything anew"),
    h("button.needs-login", { name: "plan", value: "plan" }, "Plan"),
    h("button.main.needs-login", { name: "start", value: "start" }, "Start"));
  const planned = h("div", { role: "status" });
  const deeds = h("div");
  const retryAll = h("button.needs-login", { type: "button", onclick: () => confirmed(
    { title: "Retry all that failed", text: "Every unit that waits for you is tried again, whatever its error.", action: "Retry all" },
    () => post("/retry", {}), retried).then(load) }, "Retry all that failed");
  const retryEmpty = h("button.needs-login", { type: "button", onclick: () => confirmed(
    { title: "Look for imagery again", text: "Cells and years without imagery are looked for again.", action: "Look again" },
    () => post("/retry", { empty: true }), retried).then(load) }, "Look for imagery again");
  fill(place, h("h1", {}, "Control"),
    h("p.note.only-look", {}, "You only look: log in to change something."),
    section("Start", form, planned),
    section("Try again", h("div.buttons", {}, retryAll, retryEmpty)),
    section("Who did what", deeds));
  const load = () => get("/audit", { most: 50 }).then(
    (list) => fill(deeds, table("Deeds", ["When", "Who", "What", "To what", "Outcome"],
      list.map((deed) => [moment(deed.at), deed.who, deed.action, deed.target, deed.outcome]), "Nobody did anything yet.")),
    (error) => fill(deeds, h("p.bad", {}, error.message)));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const asked = request(form);
    try {
      fill(planned, "Looking at what is missing…");
      const plan = await post("/runs/plan", asked);
      fill(planned, drawPlan(plan));
      if (event.submitter?.value === "plan") return;
      const todo = Object.values(plan.units).reduce((sum, kinds) => sum + kinds.todo, 0);
      await confirmed(
        { title: "Start", action: "Start", isGrave: !asked.resume,
          text: `${units(todo)} of ${count(plan.cells)} ${plan.cells === 1 ? "cell" : "cells"} to be made.${asked.resume ? "" : " What is stored is replaced."}` },
        () => post("/runs", asked), (done) => `Run ${done.run}: ${units(done.planned)} planned, ${count(done.enqueued)} enqueued.`).then((done) => done && fill(planned));
      load();
    } catch (error) {
      fill(planned);
      toast(error.message, true);
    }
  });
  load();
  const ends = [on("summary", load), on("reload", load)];
  return () => ends.forEach((end) => end());
}

function request(form) {
  const cells = form.elements.cells.value.split(/[\s,;]+/).filter(Boolean);
  return {
    years: readYears(form.elements.years.value),
    grid_ids: cells.length ? cells.map((cell) => (/^\d+$/.test(cell) ? Number(cell) : cell)) : null,
    resume: !form.elements.fresh.checked,
  };
}

/** "2021-2023, 2025" → [2021, 2022, 2023, 2025] */
function readYears(text) {
  return text.split(/[\s,]+/).filter(Boolean).flatMap((part) => {
    const [first, last = first] = part.split("-").map(Number);
    return Array.from({ length: Math.max(Math.min(last - first + 1, 100), 1) }, (_, step) => first + step);
  });
}

function drawPlan(plan) {
  const rows = Object.entries(plan.units).map(([stage, kinds]) =>
    [stage, ...Object.keys(KINDS).map((kind) => kinds[kind]), duration(plan.busy_s[stage])]);
  const credits = plan.credits === null ? "unknown" : `about ${count(plan.credits)}`;
  return [table("Plan", ["Stage", ...Object.values(KINDS), "Time"], rows),
    h("p.note", {}, `${count(plan.cells)} cells; ${count(plan.stale_masks)} stale masks; credits: ${credits}. Nothing was changed.`)];
}
