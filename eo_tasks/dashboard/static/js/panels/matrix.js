/** Cells × stages × years on a canvas: only what is in view is drawn, and only when something changed. */

import { get } from "../api.js";
import { fill, h, years } from "../elements.js";
import { on } from "../live.js";
import { colourOf, nameOf, STATES } from "../states.js";
import { legend } from "./overview.js";

const ROW = 16;
const COLUMN = 34; // at least; wider where there is room
const WIDEST = 72;
const LABELS = 96;
const HEAD = 40;
const GAP = 8; // between stages

export function matrix(place, _, query) {
  const canvas = h("canvas", { "aria-hidden": "true" });
  const spacer = h("div.spacer");
  const scroller = h("div.matrix", { tabindex: "0", role: "application",
    "aria-label": "Matrix of units. Arrow keys move, Enter opens a cell." }, canvas, spacer);
  const told = h("p.reading", { role: "status" }, "Point at a square, or move with the arrow keys.");
  const back = h("a", { href: "#/matrix", hidden: !query.get("of") }, "All cells");
  fill(place, h("h1", {}, "Matrix"), h("p", {}, back), legend(), told, scroller);

  let shown = null;
  let index = new Map();
  let at = { row: 0, column: 0 };
  let isDue = false;
  let colours = {};
  let column = COLUMN;

  const load = async () => {
    try {
      shown = await get("/matrix", { of: query.get("of") });
    } catch (error) {
      fill(told, error.message);
      return;
    }
    shown.columns.forEach((column) => (column.letters = [...column.states]));
    index = new Map(shown.rows.map((row, number) => [row.first_id, number]));
    spacer.style.height = `${HEAD + shown.rows.length * ROW + 12}px`;
    scroller.dataset.cells = shown.cells;
    draw();
  };
  const draw = () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      if (!shown) return;
      const room = (scroller.clientWidth - LABELS - 4 * GAP) / Math.max(shown.columns.length, 1);
      column = Math.floor(Math.min(Math.max(room, COLUMN), WIDEST));
      spacer.style.width = `${LABELS + shown.columns.length * column + 4 * GAP}px`;
      paint(canvas, scroller, shown, at, colours, column);
    });
  };
  const useColours = () => {
    colours = { text: valueOf("--text"), muted: valueOf("--muted"), page: valueOf("--card"), accent: valueOf("--accent") };
    for (const [letter, state] of STATES) colours[letter] = colourOf(state);
    draw();
  };
  const read = () => {
    const row = shown?.rows[at.row];
    const column = shown?.columns[at.column];
    if (!row || !column) return;
    const who = row.cells > 1 ? `Cells ${row.first_id} to ${row.last_id}` : `Cell ${row.first_id}${row.label ? ` (${row.label})` : ""}`;
    const share = column.done ? `, ${Math.round(100 * column.done[at.row])} % done` : "";
    fill(told, `${who}, ${column.stage} ${years(column.period)}: ${nameOf(column.letters[at.row])}${share}`);
  };
  const open = () => {
    const row = shown?.rows[at.row];
    if (!row) return;
    location.hash = row.cells > 1 ? `#/matrix?of=${row.first_id}-${row.last_id}` : `#/cell/${row.first_id}`;
  };
  const pointed = (event) => {
    const box = scroller.getBoundingClientRect();
    const row = Math.floor((event.clientY - box.top + scroller.scrollTop - HEAD) / ROW);
    const x = event.clientX - box.left + scroller.scrollLeft;
    const found = shown ? shown.columns.findIndex((_, number) => {
      const left = leftOf(shown.columns, number, column);
      return x >= left && x < left + column;
    }) : -1;
    return shown?.rows[row] && (found >= 0 || x < LABELS) ? { row, column: Math.max(found, 0) } : null;
  };
  scroller.addEventListener("scroll", draw);
  scroller.addEventListener("pointermove", (event) => {
    const found = pointed(event);
    if (!found || (found.row === at.row && found.column === at.column)) return;
    at = found;
    read();
    draw();
  });
  scroller.addEventListener("click", (event) => {
    const found = pointed(event);
    if (!found) return;
    at = found;
    open();
  });
  scroller.addEventListener("keydown", (event) => {
    const moves = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1], PageDown: [20, 0], PageUp: [-20, 0] };
    if (event.key === "Enter") return open();
    const move = moves[event.key];
    if (!move || !shown) return;
    event.preventDefault();
    at = {
      row: Math.min(Math.max(at.row + move[0], 0), shown.rows.length - 1),
      column: Math.min(Math.max(at.column + move[1], 0), shown.columns.length - 1),
    };
    const top = at.row * ROW;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    if (top + ROW + HEAD > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + ROW + HEAD - scroller.clientHeight;
    read();
    draw();
  });
  const ends = [
    on("reload", load),
    on("cells", ({ changes }) => {
      if (!shown) return;
      if (shown.cells_per_row > 1) return void load();
      for (const [stage, period, cell, letter] of changes) {
        const column = shown.columns.find((one) => one.stage === stage && one.period === period);
        const row = index.get(cell);
        if (column && row !== undefined) column.letters[row] = letter;
      }
      read();
      draw();
    }),
  ];
  const resized = new ResizeObserver(draw);
  resized.observe(scroller);
  document.addEventListener("theme", useColours);
  useColours();
  load();
  return () => {
    ends.forEach((end) => end());
    resized.disconnect();
    document.removeEventListener("theme", useColours);
  };
}

const valueOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
function leftOf(columns, number, width) {
  const stages = new Set(columns.slice(0, number + 1).map((column) => column.stage));
  return LABELS + number * width + (stages.size - 1) * GAP;
}

function paint(canvas, scroller, shown, at, colours, column) {
  const square = column - 2;
  const width = scroller.clientWidth;
  const height = scroller.clientHeight;
  const scale = window.devicePixelRatio || 1;
  if (canvas.width !== width * scale || canvas.height !== height * scale) {
    canvas.width = width * scale;
    canvas.height = height * scale;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.fillStyle = colours.page;
  pen.fillRect(0, 0, width, height);
  pen.textBaseline = "middle";
  const first = Math.max(Math.floor(scroller.scrollTop / ROW), 0);
  const last = Math.min(first + Math.ceil((height - HEAD) / ROW) + 1, shown.rows.length);
  const lefts = shown.columns.map((_, number) => leftOf(shown.columns, number, column) - scroller.scrollLeft);
  pen.font = "11px system-ui, sans-serif";
  for (let row = first; row < last; row += 1) {
    const y = HEAD + row * ROW - scroller.scrollTop;
    shown.columns.forEach((one, number) => {
      const letter = one.letters[row];
      if (letter === "-") return;
      pen.fillStyle = colours[letter];
      const share = one.done ? one.done[row] : 1;
      pen.fillRect(lefts[number], y + 1, square, ROW - 2);
      if (one.done && share < 1 && letter !== "w") { // the part that is done, under the state that needs a look
        pen.fillStyle = colours.c;
        pen.fillRect(lefts[number], y + ROW - 5, square * share, 4);
      }
      if ("fq".includes(letter)) cross(pen, lefts[number] + square / 2, y + ROW / 2, colours.page);
      if ("so".includes(letter)) dot(pen, lefts[number] + square / 2, y + ROW / 2, colours.page);
    });
    pen.fillStyle = colours.page;
    pen.fillRect(0, y, LABELS - 6, ROW);
    pen.fillStyle = colours.text;
    pen.fillText(labelOf(shown.rows[row]), 8, y + ROW / 2 + 1);
  }
  pen.fillStyle = colours.page;
  pen.fillRect(0, 0, width, HEAD);
  let stage = "";
  shown.columns.forEach((one, number) => {
    pen.fillStyle = colours.text;
    if (one.stage !== stage) {
      pen.font = "600 12px system-ui, sans-serif";
      pen.fillText(one.stage, lefts[number], 10);
      pen.font = "11px system-ui, sans-serif";
      stage = one.stage;
    }
    pen.fillStyle = colours.muted;
    pen.fillText(shortPeriod(one.period), lefts[number] + 1, 27);
  });
  pen.strokeStyle = colours.accent;
  pen.lineWidth = 2;
  if (lefts.length) pen.strokeRect(lefts[at.column] - 1, HEAD + at.row * ROW - scroller.scrollTop, column, ROW);
}

const labelOf = (row) => (row.cells > 1 ? `${row.first_id}–${row.last_id}` : row.label ?? String(row.first_id));

const shortPeriod = (period) => {
  const [before, after] = period.split("_");
  return after ? `${before.slice(2)}–${after.slice(2)}` : before;
};

function cross(pen, x, y, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = 1.5;
  pen.beginPath();
  pen.moveTo(x - 3, y - 3);
  pen.lineTo(x + 3, y + 3);
  pen.moveTo(x + 3, y - 3);
  pen.lineTo(x - 3, y + 3);
  pen.stroke();
}

function dot(pen, x, y, colour) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.arc(x, y, 2.5, 0, 7);
  pen.fill();
}

