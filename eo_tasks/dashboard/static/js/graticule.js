/** Lines of longitude and latitude behind the cells, with their degrees at the edge: the only ground of the map. */

import { degrees, h } from "./elements.js";

/* global L */

const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20]; // degrees
const MOST_LINES = 8;

/** Draw them on a Leaflet map, and anew whenever it was moved. */
export function addGraticule(leaflet) {
  for (const name of ["graticule", "degrees"]) leaflet.createPane(name).style.pointerEvents = "none";
  leaflet.getPane("graticule").style.zIndex = "250"; // under the cells
  const renderer = L.svg({ pane: "graticule", padding: 0.3 });
  const lines = L.layerGroup().addTo(leaflet);
  const line = (...ends) =>
    L.polyline(ends, { renderer, interactive: false, weight: 1, className: "graticule" }).addTo(lines);
  const label = (at, text, side) =>
    L.marker(at, {
      pane: "degrees", interactive: false, keyboard: false,
      icon: L.divIcon({ className: `degrees degrees-${side}`, html: h("span", {}, text), iconSize: [0, 0] }),
    }).addTo(lines);
  const draw = () => {
    lines.clearLayers();
    const view = leaflet.getBounds();
    const [west, south, east, north] = [view.getWest(), view.getSouth(), view.getEast(), view.getNorth()];
    const step = STEPS.find((one) => (east - west) / one <= MOST_LINES) ?? 30;
    const digits = step < 0.1 ? 2 : step < 1 ? 1 : 0;
    const [wide, high] = [east - west, north - south];
    for (const lon of between(west, east, step)) {
      line([Math.max(south - high, -85), lon], [Math.min(north + high, 85), lon]);
      label([north, lon], degrees(lon, digits, "E", "W"), "top");
    }
    for (const lat of between(south, north, step)) {
      line([lat, west - wide], [lat, east + wide]);
      label([lat, east], degrees(lat, digits, "N", "S"), "right");
    }
  };
  leaflet.on("moveend", draw);
  draw();
}

function between(first, last, step) {
  const found = [];
  for (let number = Math.ceil(first / step); number * step < last; number += 1) found.push(number * step);
  return found;
}
