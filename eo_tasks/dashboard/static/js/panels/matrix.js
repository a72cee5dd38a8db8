/** Cells × stages × years on a canvas: only what is in view is drawn, and only when something changed. */

import { get } from "../api.js";
import { fill, h, years } from "../elements.js";
import { on } from "../live.js";
import { colourOf, legend, nameOf, readableOn, signOf, STATES, valueOf } from "../states.js";

const ROW = 16;
const COLUMN = 34; // at least; wider where there is room
const WIDEST = 72;
const LABELS = 92;
const HEAD = 40;
const GAP = 10; // between stages
const PAGE = 20; // rows
const NOTCH = 9; // of a group's square
const WAIT_MS = 2000; // between two looks at groups
const FONT = "11px system-ui, sans-serif";

export function matrix(place, _, query) {
  const canvas = h("canvas", { "aria-hidden": "true" });
  const spacer = h("div.spacer");
  const scroller = h("div.matrix", { tabindex: "0", role: "application",
    "aria-label": "Matrix of units. Arrow keys move, Enter opens a cell." }, canvas, spacer);
  const told = h("p.reading", { role: "status" }, "Point at a square, or move with the arrow keys.");
  const back = h("a", { href: "#/matrix", hidden: !query.get("of") }, "All cells");
  fill(place, h("h1", {}, "Matrix"), back, legend(), told, scroller);

  let shown = null;
  let index = new Map();
  let at = { row: 0, column: 0 };
  let isDue = false;
  let colours = {};
  let column = COLUMN;
  let timer = 0;

  const load = async () => {
    try {
      shown = await get("/matrix", { of: query.get("of") });
    } catch (error) {
      fill(told, error.message);
      return;
    }
    if (!shown.rows.length || !shown.columns.length) fill(told, "No unit is wanted yet: see Control.");
    shown.columns.forEach((column) => (column.letters = [...column.states]));
    index = new Map(shown.rows.map((row, number) => [row.first_id, number]));
    at = { row: Math.min(at.row, Math.max(shown.rows.length - 1, 0)), column: Math.min(at.column, Math.max(shown.columns.length - 1, 0)) };
    const high = HEAD + shown.rows.length * ROW + 12;
    spacer.style.height = `${high}px`;
    scroller.style.setProperty("--high", `${high + 2}px`); // few cells take little room
    scroller.dataset.cells = shown.cells;
    draw();
  };
  const loadSoon = () => {
    timer ||= setTimeout(() => {
      timer = 0;
      load();
    }, WAIT_MS);
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
    colours = { text: valueOf("--text"), muted: valueOf("--muted"), page: valueOf("--card"), cursor: valueOf("--focus") };
    for (const [letter, state] of STATES) colours[letter] = colourOf(state);
    for (const [letter] of STATES) colours[`on ${letter}`] = readableOn(colours[letter]);
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
    const all = shown?.rows.length ?? 0;
    const moves = {
      ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1],
      PageDown: [PAGE, 0], PageUp: [-PAGE, 0], Home: [-all, 0], End: [all, 0],
    };
    if (event.key === "Enter") return open();
    const move = moves[event.key];
    if (!move || !shown) return;
    event.preventDefault();
    at = {
      row: Math.min(Math.max(at.row + move[0], 0), shown.rows.length - 1),
      column: Math.min(Math.max(at.column + move[1], 0), shown.columns.length - 1),
    };
    bringIntoView(scroller, at.row * ROW, leftOf(shown.columns, at.column, column) - LABELS, column);
    read();
    draw();
  });
  const ends = [
    on("reload", load),
    on("cells", ({ changes }) => {
      if (!shown) return null;
      if (shown.cells_per_row > 1) return loadSoon();
      let isNew = false; // a cell or a year that was not wanted before
      for (const [stage, period, cell, letter] of changes) {
        const column = shown.columns.find((one) => one.stage === stage && one.period === period);
        const row = index.get(cell);
        if (column && row !== undefined) column.letters[row] = letter;
        else isNew ||= !query.get("of");
      }
      if (isNew) return loadSoon();
      read();
      return draw();
    }),
  ];
  const resized = new ResizeObserver(draw);
  resized.observe(scroller);
  document.addEventListener("theme", useColours);
  useColours();
  load();
  return () => {
    clearTimeout(timer);
    ends.forEach((end) => end());
    resized.disconnect();
    document.removeEventListener("theme", useColours);
  };
}

function bringIntoView(scroller, top, left, wide) {
  const { scrollTop, scrollLeft, clientHeight, clientWidth } = scroller;
  scroller.scrollTop = Math.min(top, Math.max(scrollTop, top + ROW + HEAD - clientHeight));
  scroller.scrollLeft = Math.min(left, Math.max(scrollLeft, left + wide + LABELS + 4 - clientWidth));
}

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
  pen.font = FONT;
  for (let row = first; row < last; row += 1) {
    const y = HEAD + row * ROW - scroller.scrollTop;
    shown.columns.forEach((one, number) => {
      const letter = one.letters[row];
      if (letter === "-") return;
      let [left, wide] = [lefts[number], square];
      if (one.done) { // the part that has ended, and at the right the state that most needs a look
        pen.fillStyle = colours.w;
        pen.fillRect(left, y + 1, wide, ROW - 2);
        pen.fillStyle = colours.c;
        pen.fillRect(left, y + 1, wide * one.done[row], ROW - 2);
        if ("ckmw".includes(letter)) return;
        [left, wide] = [left + square - NOTCH, NOTCH];
      }
      pen.fillStyle = colours[letter];
      pen.fillRect(left, y + 1, wide, ROW - 2);
      const sign = signOf(letter);
      if (!sign) return;
      pen.fillStyle = colours[`on ${letter}`];
      pen.fillText(sign, left + wide / 2 - pen.measureText(sign).width / 2, y + ROW / 2 + 1);
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
      pen.font = `600 ${FONT}`;
      pen.fillText(one.stage, lefts[number], 10);
      pen.font = FONT;
      stage = one.stage;
    }
    pen.fillStyle = colours.muted;
    pen.fillText(shortPeriod(one.period), lefts[number] + 1, 27);
  });
  pen.fillStyle = colours.page; // the corner, over years that were scrolled to the left
  pen.fillRect(0, 0, LABELS - 6, HEAD);
  pen.strokeStyle = colours.cursor;
  pen.lineWidth = 2;
  if (lefts.length && lefts[at.column] >= LABELS - 6) pen.strokeRect(lefts[at.column] - 1, HEAD + at.row * ROW - scroller.scrollTop, column, ROW);
}

const labelOf = (row) => (row.cells > 1 ? `${row.first_id}–${row.last_id}` : row.label ?? String(row.first_id));

const shortPeriod = (period) => {
  const [before, after] = period.split("_");
  return after ? `${before.slice(2)}–${after.slice(2)}` : before;
};
