/** The grid on a map, coloured by state or by changed area. There is no map below: the cells are the map. */

import { get } from "../api.js";
import { count, fill, h, years } from "../elements.js";
import { addGraticule } from "../graticule.js";
import { on } from "../live.js";
import { colourOf, legend, nameOf, URGENCY, valueOf } from "../states.js";

const FEW = 4000; // cells that are fetched once, whatever is in view
const WAIT_MS = 400;
const MOST_MARKED = 20; // cells that are looked for where the grid is drawn in blocks
const RAMP = ["#e9e4d4", "#f3c969", "#e8893c", "#c9442f", "#7d1635"]; // from little to much

/* global L */

export function map(place, _, query) {
  const stage = select("stage", ["download", "store", "btc"], query.get("stage") ?? "btc");
  const measure = select("measure", ["state", "changed"], query.get("measure") ?? "state");
  const slider = h("input", { type: "range", min: "0", max: "0", value: "0", "aria-label": "Year" });
  const year = h("output", {}, "–");
  const told = h("p.reading", { role: "status" }, "Point at a cell; click to open it.");
  const key = h("div");
  const ground = h("div.map", { role: "application", "aria-label": "Map of the grid" });
  const find = h("form.find", {}, h("label", {}, "Cell", h("input", { name: "cell", inputmode: "search", required: true })), h("button", {}, "Open"));
  fill(place, h("h1", {}, "Map"),
    h("div.controls", {}, h("label", {}, "Colour by", measure), h("label", {}, "Stage", stage),
      h("label.slide", {}, "Year", slider, year), find),
    key, told, ground);

  const leaflet = L.map(ground, { preferCanvas: true, attributionControl: false, zoomControl: false, zoomSnap: 0.25, minZoom: 2 });
  L.control.zoom({ position: "bottomright" }).addTo(leaflet);
  L.control.scale({ imperial: false }).addTo(leaflet);
  leaflet.setView([0, 0], 2, { animate: false });
  addGraticule(leaflet);
  const layer = L.layerGroup().addTo(leaflet);
  let periods = [];
  let shapes = new Map();
  let values = {};
  let grid = null;
  let timer = 0;
  const highlighted = new Set((query.get("cells") ?? "").split(",").filter(Boolean));

  const period = () => periods[Number(slider.value)];
  const box = () => {
    if (grid.cells <= FEW) return null;
    const view = leaflet.getBounds();
    const [w, s, e, n] = [view.getWest(), view.getSouth(), view.getEast(), view.getNorth()];
    return [Math.max(w, -180), Math.max(s, -90), Math.min(e, 180), Math.min(n, 90)].map((part) => part.toFixed(5)).join(",");
  };
  const drawShapes = (found) => {
    layer.clearLayers();
    shapes = new Map();
    for (const shape of found.shapes) {
      const polygon = L.polygon(shape.ring.map(([lon, lat]) => [lat, lon]), { weight: 1 });
      polygon.on("mouseover", () => fill(told, reading(shape)));
      polygon.on("click", () => open(shape, polygon));
      polygon.addTo(layer);
      shapes.set(shape.id, polygon);
    }
    ground.dataset.level = found.level;
    ground.dataset.marked = [...highlighted].filter((id) => shapes.has(id)).length;
  };
  const open = (shape, polygon) => {
    if (shape.id.startsWith("b:")) leaflet.fitBounds(polygon.getBounds());
    else location.hash = `#/cell/${shape.id}`;
  };
  const reading = (shape) => {
    const value = values[shape.id];
    const who = shape.id.startsWith("b:") ? "These cells" : `Cell ${shape.label ?? shape.id}`;
    if (measure.value === "changed") return `${who}: ${value === null || value === undefined ? "no mask" : `${value} ha changed`}`;
    if (typeof value === "string") return `${who}: ${nameOf(value)}`;
    return `${who}: ${Object.entries(value ?? {}).map(([letter, number]) => `${count(number)} ${nameOf(letter)}`).join(", ")}`;
  };
  const colour = () => {
    const most = Math.max(...Object.values(values).filter((value) => typeof value === "number"), 0);
    const line = valueOf("--card");
    const faint = valueOf("--line");
    const accent = valueOf("--accent");
    for (const [id, polygon] of shapes) {
      const value = values[id];
      const isMarked = highlighted.has(id);
      const isUnwanted = value === undefined || value === null || value === "-";
      polygon.setStyle({
        fillColor: measure.value === "changed" ? ramp(value, most) : stateColour(value),
        fillOpacity: isUnwanted ? 0.4 : 0.95,
        color: isMarked ? accent : isUnwanted ? faint : line, weight: isMarked ? 3 : 1,
      });
      if (isMarked) polygon.bringToFront();
    }
    fill(key, measure.value === "changed" ? rampLegend(most) : legend());
    ground.dataset.drawn = `${stage.value} ${period()} ${Object.keys(values).length}`;
  };
  const load = async () => {
    if (!period()) return fill(told, "Nothing to show yet.");
    fill(year, years(period()));
    try {
      const asked = { measure: measure.value, stage: stage.value, period: period(), bbox: box() };
      ({ values } = await get("/map", asked));
      colour();
    } catch (error) {
      fill(told, error.message);
    }
  };
  const loadSoon = () => {
    clearTimeout(timer);
    timer = setTimeout(load, WAIT_MS);
  };
  const usePeriods = (summary) => {
    const found = summary.stages.find((one) => one.stage === stage.value).periods.map((one) => one.period);
    if (found.join() === periods.join()) return;
    periods = found;
    slider.max = String(Math.max(periods.length - 1, 0));
    const asked = periods.indexOf(query.get("period"));
    slider.value = asked >= 0 ? String(asked) : slider.max;
    load();
  };
  const begin = async () => {
    try {
      grid = await get("/grid");
      const [w, s, e, n] = grid.bounds;
      leaflet.invalidateSize();
      leaflet.fitBounds([[s, w], [n, e]], { padding: [12, 12], animate: false });
      drawShapes(grid);
      usePeriods(await get("/summary"));
      if (grid.cells > FEW && highlighted.size) await goTo([...highlighted].slice(0, MOST_MARKED));
    } catch (error) {
      fill(told, error.message);
    }
  };
  /** Where the grid is drawn in blocks, cells that are asked for are looked for by their centres. */
  const goTo = async (ids) => {
    const found = await Promise.all(ids.map((id) => get(`/cells/${id}`)));
    const centres = found.map(({ centre: [lon, lat] }) => [lat, lon]);
    leaflet.fitBounds(L.latLngBounds(centres).pad(0.2), { maxZoom: 12, animate: false });
  };
  let moves = 0;
  leaflet.on("moveend", async () => {
    if (!grid || grid.cells <= FEW) return;
    const move = (moves += 1);
    try {
      const found = await get("/grid", { bbox: box() });
      if (move !== moves) return; // moved on since
      drawShapes(found);
      load();
    } catch (error) {
      fill(told, error.message);
    }
  });
  slider.addEventListener("input", load);
  measure.addEventListener("change", () => {
    if (measure.value === "changed") stage.value = "btc";
    stage.disabled = measure.value === "changed";
    get("/summary").then(usePeriods).then(load);
  });
  stage.addEventListener("change", () => {
    periods = [];
    get("/summary").then(usePeriods);
  });
  find.addEventListener("submit", async (event) => {
    event.preventDefault();
    const [first] = await get("/cells", { q: find.elements.cell.value });
    if (first) location.hash = `#/cell/${first.grid_id}`;
    else fill(told, "No cell begins so.");
  });
  const ends = [
    on("summary", ({ summary }) => grid && usePeriods(summary)),
    on("reload", () => (grid ? loadSoon() : begin())),
    on("cells", ({ changes }) => {
      if (changes.some(([of, at]) => of === stage.value && at === period())) loadSoon();
    }),
  ];
  document.addEventListener("theme", colour);
  begin();
  return () => {
    clearTimeout(timer);
    ends.forEach((end) => end());
    document.removeEventListener("theme", colour);
    leaflet.remove();
  };
}

function select(name, options, chosen) {
  return h("select", { name }, options.map((option) => h("option", { value: option, selected: option === chosen }, option === "changed" ? "changed area" : option)));
}

/** A cell's colour, or of a block that of the state that most needs a look. */
function stateColour(value) {
  if (!value || value === "-") return valueOf("--line");
  if (typeof value === "string") return colourOf(nameOf(value));
  const first = URGENCY.find((letter) => value[letter]);
  return first ? colourOf(nameOf(first)) : valueOf("--line");
}

function ramp(value, most) {
  if (value === null || value === undefined) return valueOf("--line");
  return RAMP[most ? Math.min(Math.floor((value / most) * RAMP.length), RAMP.length - 1) : 0];
}

function rampLegend(most) {
  return h("ul.legend", { "aria-label": "Changed hectares" }, RAMP.map((colour, step) =>
    h("li", {}, h("span.swatch", { style: { background: colour } }), `${((most * step) / RAMP.length).toFixed(1)} ha`)),
  h("li", {}, "and more"), h("li", {}, h("span.swatch.no-mask"), "no mask"));
}

