/** One cell: two years under a swipe, the change between them, and where its units stand. */

import { get, post } from "../api.js";
import { confirmed } from "../dialogs.js";
import { degrees, duration, fill, h, moment, section, table, years } from "../elements.js";
import { on } from "../live.js";
import { swatch } from "../states.js";
import { retried } from "./errors.js";
import { logLine } from "./logs.js";

export function cell(place, [id]) {
  const head = h("div");
  const pictures = h("div");
  const units = h("div");
  const images = h("div");
  const lines = h("ol.log");
  fill(place, head, h("div.beside", {}, section("Two years", pictures), section("Units", units)),
    section("Composites", images), section("Logs", lines));
  let seen = "";
  const load = async () => {
    let view;
    try {
      view = await get(`/cells/${encodeURIComponent(id)}`);
    } catch (error) {
      return fill(head, h("h1", {}, `Cell ${id}`), h("p.bad", {}, error.message));
    }
    fill(head, h("h1", {}, `Cell ${view.label ?? view.grid_id}`),
      h("p.note", {}, `id ${view.grid_id} · ${degrees(view.centre[1], 4, "N", "S")} ${degrees(view.centre[0], 4, "E", "W")} · EPSG:${view.epsg} · `,
        h("a", { href: `#/map?cells=${view.grid_id}` }, "on the map"), " · ", h("a", { href: `#/logs?cell=${view.grid_id}` }, "all its logs")));
    const stored = JSON.stringify([view.years.map((one) => one.image?.made_at), view.pairs.map((one) => one.mask?.made_at)]);
    if (stored !== seen) fill(pictures, swipe(view)); // a swipe in a hand is not taken away
    seen = stored;
    fill(units, drawUnits(view));
    fill(images, drawImages(view));
    return null;
  };
  const loadLogs = () => get("/logs", { cell: id, most: 50 }).then(
    (page) => fill(lines, page.lines.map(logLine)), (error) => fill(lines, h("li.note", {}, error.message)));
  load();
  loadLogs();
  const again = () => {
    load();
    loadLogs();
  };
  const ends = [on("reload", again), on("cells", ({ changes }) => changes.some(([, , changed]) => String(changed) === id) && again())];
  return () => ends.forEach((end) => end());
}

function swipe(view) {
  const stored = view.years.filter((one) => one.image).map((one) => one.year);
  if (!stored.length) return h("p.note", {}, "No composite is stored yet.");
  const pairs = view.pairs.filter((one) => one.mask);
  const last = pairs.at(-1);
  const before = picker("Before", stored, last?.before ?? stored.at(-2) ?? stored[0]);
  const after = picker("After", stored, last?.after ?? stored.at(-1));
  const under = h("img", { alt: "" });
  const over = h("img.over", { alt: "" });
  const mask = h("img.overlay", { alt: "", hidden: true });
  const probability = h("img.overlay", { alt: "", hidden: true });
  const line = h("span.line");
  const tags = [h("span.tag.tag-before"), h("span.tag.tag-after")];
  const place = h("input.swipe", { type: "range", min: "0", max: "100", value: "50", "aria-label": "Swipe between the years" });
  const showMask = h("input", { type: "checkbox", name: "mask", checked: true });
  const showProbability = h("input", { type: "checkbox", name: "probability" });
  const strength = h("input", { type: "range", min: "10", max: "100", value: "80", "aria-label": "Opacity of what lies over them" });
  const facts = h("p.reading", { role: "status" });
  const move = () => {
    over.style.clipPath = `inset(0 0 0 ${place.value}%)`;
    line.style.left = `${place.value}%`;
  };
  const overlay = () => {
    const pair = pairs.find((one) => one.before === Number(before.value) && one.after === Number(after.value));
    for (const [image, box, kind] of [[mask, showMask, "masks"], [probability, showProbability, "probability"]]) {
      image.hidden = !pair || !box.checked;
      image.style.opacity = String(strength.value / 100);
      if (pair && box.checked) image.src = `/api/v1/cells/${view.grid_id}/${kind}/${pair.before}-${pair.after}.png?${pair.mask.made_at}`;
    }
    const seen = pair && `${pair.mask.changed_ha.toFixed(2)} ha of ${pair.mask.seen_ha.toFixed(1)} ha changed`;
    const by = pair && `threshold ${pair.mask.threshold}, ${pair.mask.model?.checkpoint?.split("/").slice(-2).join("/") ?? "BTC"}, ${moment(pair.mask.made_at)}`;
    fill(facts, pair ? `${seen} (${by})` : "No mask between these years.");
  };
  const load = () => {
    for (const [image, choice] of [[under, before], [over, after]]) {
      const made = view.years.find((one) => one.year === Number(choice.value)).image.made_at;
      image.src = `/api/v1/cells/${view.grid_id}/images/${choice.value}.png?${made}`;
      image.alt = `Composite of ${choice.value}`;
    }
    fill(tags[0], before.value);
    fill(tags[1], after.value);
    overlay();
  };
  place.addEventListener("input", move);
  for (const choice of [before, after]) choice.addEventListener("change", load);
  for (const box of [showMask, showProbability, strength]) box.addEventListener("input", overlay);
  move();
  load();
  return h("div", {},
    h("div.controls", {}, h("label", {}, "Before", before), h("label", {}, "After", after),
      h("label.check", {}, showMask, "change mask"), h("label.check", {}, showProbability, "probability"),
      h("label.slide", {}, "opacity", strength)),
    facts,
    h("div.pictures", {}, under, over, mask, probability, place, line, tags));
}

function picker(label, options, chosen) {
  return h("select", { "aria-label": label }, options.map((year) => h("option", { value: year, selected: year === chosen }, String(year))));
}

function drawUnits(view) {
  const units = [...view.years.flatMap((one) => [one.download, one.store]), ...view.pairs.map((one) => one.btc)];
  const rows = units.map((unit) => [
    h("code", {}, unit.id),
    h("span.whole", {}, swatch(unit.state), unit.state),
    unit.attempts,
    moment(unit.since),
    unit.started_at && unit.since > unit.started_at ? duration(unit.since - unit.started_at) : "–",
    unit.worker.split("/")[0] || "–",
    h("span", {}, unit.error, needsRetry(unit) ? retryButton(view, unit) : null),
  ]);
  return table("Units of this cell", ["Unit", "State", "Tries", "Since", "Took", "Worker", "Error"], rows);
}

const needsRetry = (unit) => ["failed", "quarantined", "empty"].includes(unit.state) && (unit.state !== "empty" || unit.stage === "download");

function retryButton(view, unit) {
  const [, , ...period] = unit.id.split("_");
  const which = { cell: view.grid_id, stage: unit.stage, year: Number(period[0]), empty: unit.state === "empty" };
  return h("button.needs-login", { type: "button", "aria-label": `Retry ${unit.id}`, onclick: () => confirmed(
    { title: `Retry ${unit.id}`, text: `${unit.stage} of cell ${view.grid_id}, ${years(period.join("_"))}, is tried again.`, action: "Retry" },
    () => post("/retry", which),
    retried) }, "Retry");
}

function drawImages(view) {
  const rows = view.years.filter((one) => one.image).map(({ year, image }) => [
    String(year), `${(100 * image.clear_share).toFixed(1)} %`, image.source, `${image.width} × ${image.height}`,
    h("details", {}, h("summary", {}, `${image.scenes?.length ?? 0} scenes`),
      h("ul", {}, (image.scenes ?? []).map((scene, number) => h("li", {}, `${scene} ${image.dates?.[number] ?? ""}`)))),
    moment(image.made_at),
  ]);
  return table("Composites", ["Year", "Clear", "Source", "Pixels", "Scenes", "Made"], rows, "None is stored yet.");
}
