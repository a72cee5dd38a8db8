/** Small pictures for the panels' links, drawn with lines on a square of 20. */

const SVG = "http://www.w3.org/2000/svg";
const PATHS = {
  "": "M3 17V9m5 8V3m5 14v-6m4 6V6",
  matrix: "M3 3h5v5H3zm9 0h5v5h-5zM3 12h5v5H3zm9 0h5v5h-5z",
  map: "M3 5l5-2 4 2 5-2v12l-5 2-4-2-5 2zM8 3v12m4-10v12",
  errors: "M10 3l8 14H2zm0 5v4m0 2.5v.5",
  control: "M3 6h6m4 0h4M3 14h2m4 0h8M9 4v4m4-4v4M5 12v4m4-4v4",
  resources: "M3 4h14v5H3zm0 7h14v5H3zm3-4.5h.5m-.5 7h.5",
  logs: "M3 5h14M3 9h10M3 13h14M3 17h7",
};

/** The picture of a panel, by its route. */
export function icon(route) {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", "0 0 20 20");
  picture.setAttribute("aria-hidden", "true");
  picture.classList.add("icon");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[route]);
  picture.append(path);
  return picture;
}
