/** Where everything stands: progress by stage and year, what needs a person, runs, queues. */

import { get, post } from "../api.js";
import { confirmed } from "../dialogs.js";
import { count, duration, fill, h, keepingFocus, moment, percent, section, table, units, years } from "../elements.js";
import { on } from "../live.js";
import { bar, legend } from "../states.js";

const ACTIONS = {
  pause: ["Nothing more of it is started; what is at work ends.", "Pause"],
  resume: ["It goes on where it was.", "Resume"],
  stop: ["What is started is finished; then the run has ended.", "Stop"],
  cancel: ["What waits is canceled, and what is at work is given up.", "Cancel run"],
};
const POSSIBLE = { active: ["pause", "stop", "cancel"], paused: ["resume", "stop", "cancel"], complete: [] };
const MOST_PAST = 5; // alerts that are over

export function overview(place) {
  const overall = h("div");
  const needs = h("div");
  const progress = h("div.stages");
  const runs = h("div");
  const queues = h("div");
  fill(place,
    h("h1", {}, "Overview"),
    h("div.columns", {}, section("All units", overall), section("What needs you", needs)),
    section("Stages and years", progress),
    section("Runs", runs),
    h("div.columns", {},
      section("Queues and orders", queues),
      section("Report", h("p.note", {}, "What was made so far, for people and for programs."), h("p.links", {},
        h("a", { href: "/api/v1/report.html", target: "_blank", rel: "noopener" }, "As a page with pictures"),
        h("a", { href: "/api/v1/report.csv", download: "eo-tasks.csv" }, "As CSV"),
        h("a", { href: "/api/v1/report.json", download: "eo-tasks.json" }, "As JSON")))));
  let latest = null;
  let alerts = { active: [], recent: [] };
  const draw = (summary) => {
    latest = summary;
    fill(overall, drawOverall(summary));
    fill(needs, drawNeeds(summary, alerts));
    fill(progress, summary.stages.map(drawStage));
    keepingFocus(runs, () => fill(runs, drawRuns(summary.runs)));
    fill(queues, drawQueues(summary));
  };
  const load = () => get("/summary").then(draw, (error) => fill(overall, h("p.bad", {}, error.message)));
  const loadAlerts = async () => {
    try {
      alerts = await get("/alerts");
      if (latest) fill(needs, drawNeeds(latest, alerts));
    } catch {
      // The summary tells what is wrong.
    }
  };
  load().then(loadAlerts);
  const ends = [on("summary", ({ summary }) => draw(summary)), on("ping", loadAlerts), on("reload", load)];
  return () => ends.forEach((end) => end());
}

function drawOverall(summary) {
  const states = {};
  for (const stage of summary.stages)
    for (const [state, number] of Object.entries(stage.states)) states[state] = (states[state] ?? 0) + number;
  const perHour = summary.stages.reduce((sum, stage) => sum + (stage.rate_per_hour ?? 0), 0);
  return [
    h("p.figures", {},
      h("strong", {}, percent(summary.ended, summary.total)),
      h("span", {}, `${count(summary.ended)} of ${units(summary.total)}`),
      perHour ? h("span", {}, `${count(perHour)} an hour`) : null,
      summary.left_s ? h("span", {}, `${duration(summary.left_s)} left`) : null),
    bar(states),
    legend(states),
  ];
}

function drawNeeds(summary, alerts) {
  const now = [
    summary.stuck ? h("li.needed", {}, h("a", { href: "#/errors" }, `${units(summary.stuck)} failed`), " and will not be tried again by themselves.") : null,
    ...Object.entries(summary.accounts).map(([account, reason]) => h("li.needed", {}, `Account ${account}: ${reason}`)),
    ...alerts.active.map((one) => h("li.needed", {}, `${one.message} `, h("span.note", {}, `since ${moment(one.since)}`))),
  ].filter(Boolean);
  const past = alerts.recent.slice(0, MOST_PAST).map((one) => h("li.note", {}, `Over since ${moment(one.until)}: ${one.message}`));
  return [
    now.length ? null : h("p.note", {}, "Nothing: no unit failed, no alert lasts."),
    now.length || past.length ? h("ul.needs", {}, now, past) : null,
  ];
}

function drawStage(stage) {
  const rate = stage.rate_per_hour ? `${count(stage.rate_per_hour)} an hour` : "";
  const left = stage.left_s ? `${duration(stage.left_s)} left` : "";
  return h("div.stage", { "data-stage": stage.stage },
    h("h3", {}, stage.stage,
      h("span.numbers", {}, [`${count(stage.ended)} of ${count(stage.total)}`, rate, left].filter(Boolean).join(" · "))),
    stage.periods.length ? null : h("p.note", {}, "Nothing is wanted yet."),
    stage.periods.map((period) => h("div.year", {},
      h("span.label", {}, years(period.period)), bar(period.states),
      h("span.label.share", {}, percent(endedOf(period.states), period.total)))));
}

const endedOf = (states) => ["completed", "skipped", "empty"].reduce((sum, state) => sum + (states[state] ?? 0), 0);

function drawRuns(runs) {
  const rows = [...runs].reverse().map((run) => [
    h("code", {}, run.id),
    h("span", {}, h(`strong.run-${run.state}`, {}, run.state), run.note ? h("span.note", {}, ` ${run.note}`) : ""),
    run.years.length > 1 ? `${run.years[0]}–${run.years.at(-1)}` : String(run.years[0]),
    run.cells,
    moment(run.created_at),
    run.credits ? run.credits.toFixed(1) : "–",
    h("span.buttons", {}, (POSSIBLE[run.state] ?? ["resume"]).map((action) => actionButton(run, action))),
  ]);
  return table("Runs", ["Run", "State", "Years", "Cells", "Asked for", "Credits", "What to do"], rows, "No run was asked for yet: see Control.");
}

function actionButton(run, action) {
  const [text, label] = ACTIONS[action];
  return h("button.needs-login", { type: "button", "aria-label": `${label} ${run.id}`, onclick: () => confirmed(
    { title: `${label}: run ${run.id}`, text, action: label, isGrave: action === "cancel" },
    () => post(`/runs/${run.id}/${action}`),
    (done) => `Run ${run.id} is ${done.run.state}; ${units(done.withdrawn)} taken back.`) }, label);
}

function drawQueues(summary) {
  const facts = Object.entries(summary.queues).map(([queue, length]) => [queue, length]);
  const orders = Object.entries(summary.orders).map(([state, number]) => [`orders ${state}`, number]);
  return table("Messages that wait", ["Queue", "Messages"], [...facts, ...orders]);
}
