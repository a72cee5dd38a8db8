/** Where everything stands: progress by stage and year, runs, queues, alerts. */

import { get, post } from "../api.js";
import { confirmed } from "../dialogs.js";
import { count, duration, fill, h, keepingFocus, moment, percent, section, table, years } from "../elements.js";
import { on } from "../live.js";
import { MEANINGS, STATES } from "../states.js";

const ACTIONS = {
  pause: ["Nothing more of it is started; what is at work ends.", "Pause"],
  resume: ["It goes on where it was.", "Resume"],
  stop: ["What is started is finished; then the run has ended.", "Stop"],
  cancel: ["What waits is canceled, and what is at work is given up.", "Cancel run"],
};
const POSSIBLE = { active: ["pause", "stop", "cancel"], paused: ["resume", "stop", "cancel"] };

export function overview(place) {
  const progress = h("div");
  const runs = h("div");
  const queues = h("div");
  const alerts = h("div");
  fill(place,
    h("h1", {}, "Overview"),
    section("Progress", progress),
    section("Runs", runs),
    h("div.columns", {}, section("Queues", queues), section("Alerts", alerts)),
    section("Report", h("p.links", {},
      h("a", { href: "/api/v1/report.html", target: "_blank", rel: "noopener" }, "As a page with pictures"),
      h("a", { href: "/api/v1/report.csv", download: "eo-tasks.csv" }, "As CSV"),
      h("a", { href: "/api/v1/report.json", download: "eo-tasks.json" }, "As JSON"))));
  const draw = (summary) => {
    fill(progress, legend(), summary.stages.map(drawStage));
    keepingFocus(runs, () => fill(runs, drawRuns(summary.runs)));
    fill(queues, drawQueues(summary));
  };
  const drawAlerts = async () => fill(alerts, await readAlerts());
  get("/summary").then(draw, (error) => fill(progress, h("p.note", {}, error.message)));
  drawAlerts();
  const ends = [on("summary", ({ summary }) => draw(summary)), on("ping", drawAlerts)];
  return () => ends.forEach((end) => end());
}

export function legend() {
  return h("ul.legend", { "aria-label": "States" }, STATES.map(([, state]) =>
    h("li", { title: MEANINGS[state] }, h(`span.swatch.${state}`), state)));
}

function drawStage(stage) {
  const rate = stage.rate_per_hour ? `${count(stage.rate_per_hour)} an hour` : "";
  const left = stage.left_s ? `${duration(stage.left_s)} left` : "";
  return h("div.stage", { "data-stage": stage.stage },
    h("h3", {}, stage.stage,
      h("span.numbers", {}, [`${count(stage.ended)} of ${count(stage.total)}`, percent(stage.ended, stage.total), rate, left].filter(Boolean).join(" · "))),
    stage.periods.map((period) =>
      h("div.year", {}, h("span.label", {}, years(period.period)), bar(period.states, period.total))));
}

/** A bar of all states; what it shows is in its label too. */
export function bar(states, total) {
  const parts = STATES.map(([, state]) => [state, states[state] ?? 0]).filter(([, number]) => number);
  const text = parts.map(([state, number]) => `${count(number)} ${state}`).join(", ");
  return h("span.bar", { role: "img", "aria-label": text, title: text }, parts.map(([state, number]) =>
    h(`span.${state}`, { style: { "flex-grow": String(number / total) } })));
}

function drawRuns(runs) {
  const rows = [...runs].reverse().map((run) => [
    h("code", {}, run.id),
    h("span", {}, h(`strong.run-${run.state}`, {}, run.state), run.note ? h("span.note", {}, ` ${run.note}`) : ""),
    run.years.length > 1 ? `${run.years[0]}–${run.years.at(-1)}` : String(run.years[0]),
    run.cells,
    moment(run.created_at),
    run.credits ? run.credits.toFixed(1) : "–",
    h("span.buttons", {}, (POSSIBLE[run.state] ?? (run.state === "complete" ? [] : ["resume"])).map((action) => actionButton(run, action))),
  ]);
  return table("Runs", ["Run", "State", "Years", "Cells", "Asked for", "Credits", ""], rows, "No run was asked for yet: see Control.");
}

function actionButton(run, action) {
  const [text, label] = ACTIONS[action];
  return h("button.needs-login", { type: "button", "aria-label": `${label} ${run.id}`, onclick: () => confirmed(
    { title: `${label}: run ${run.id}`, text, action: label, isGrave: action === "cancel" },
    () => post(`/runs/${run.id}/${action}`),
    (done) => `Run ${run.id} is ${done.run.state}; ${count(done.withdrawn)} units were taken back.`) }, label);
}

function drawQueues(summary) {
  const facts = Object.entries(summary.queues).map(([queue, length]) => [queue, length]);
  const orders = Object.entries(summary.orders).map(([state, number]) => [`orders ${state}`, number]);
  const accounts = Object.entries(summary.accounts).map(([account, reason]) => h("p.bad", {}, `${account}: ${reason}`));
  return [table("Messages that wait", ["Queue", "Messages"], [...facts, ...orders]), ...accounts];
}

async function readAlerts() {
  try {
    const { active, recent } = await get("/alerts");
    const past = recent.filter((one) => one.state === "resolved").slice(0, 5);
    if (!active.length && !past.length) return h("p.note", {}, "None.");
    return [
      active.map((one) => h("p.bad", {}, `${one.message} (since ${moment(one.since)})`)),
      past.map((one) => h("p.note", {}, `Over: ${one.message}`)),
    ].flat();
  } catch (error) {
    return h("p.note", {}, error.message);
  }
}
