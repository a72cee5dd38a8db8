/** The page: its panels, which one is shown, and what all of them share. */

import { currentSession, logOut, onSession, refreshSession, setLogin } from "./api.js";
import { askForLogin, toast } from "./dialogs.js";
import { count, duration, fill, h, percent, units } from "./elements.js";
import { icon } from "./icons.js";
import { connect, on } from "./live.js";
import { cell } from "./panels/cell.js";
import { control } from "./panels/control.js";
import { errors } from "./panels/errors.js";
import { logs } from "./panels/logs.js";
import { map } from "./panels/map.js";
import { matrix } from "./panels/matrix.js";
import { overview } from "./panels/overview.js";
import { resources } from "./panels/resources.js";

/** Each panel draws itself into a place and gives what ends it. */
const PANELS = [
  ["", "Overview", overview], ["matrix", "Matrix", matrix], ["map", "Map", map], ["errors", "Errors", errors],
  ["control", "Control", control], ["resources", "Machines", resources], ["logs", "Logs", logs], ["cell", null, cell],
];

const main = document.getElementById("main");
let leave = () => {};

function show() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  const panel = PANELS.find(([route]) => route === name) ?? PANELS[0];
  leave();
  fill(main);
  for (const link of document.querySelectorAll("#rail a"))
    if (link.dataset.route === panel[0]) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  document.title = `${panel[1] ?? `Cell ${rest[0]}`} – eo-tasks`;
  leave = panel[2](main, rest, new URLSearchParams(query)) ?? (() => {});
  if (document.activeElement === document.body) main.focus({ preventScroll: true }); // what had the focus is gone
  window.scrollTo(0, 0);
}

function drawRail() {
  fill(document.getElementById("rail"), PANELS.filter(([, title]) => title).map(([route, title]) =>
    h("a", { href: `#/${route}`, "data-route": route }, icon(route), h("span", {}, title), h("span.pill", { id: `pill-${route}`, hidden: true }))));
}

function drawHeadline(summary) {
  const left = summary.left_s === null ? "" : summary.left_s > 0 ? `, ${duration(summary.left_s)} left` : "";
  const text = summary.total ? `${percent(summary.ended, summary.total)} of ${units(summary.total)}${left}` : "No run yet";
  fill(document.getElementById("headline"), text);
  const pill = document.getElementById("pill-errors");
  pill.hidden = !summary.stuck;
  fill(pill, count(summary.stuck));
}

const login = document.getElementById("login");
login.addEventListener("click", async () => {
  if (currentSession().user) await logOut();
  else if (!(await askForLogin())) return;
  connect();
  show();
});
onSession((session) => {
  login.hidden = !session.can_log_in && !session.user;
  fill(login, session.user ? `Log out ${session.user}` : "Log in");
  document.body.classList.toggle("read-only", !session.can_control);
});
setLogin(askForLogin);

const offline = document.getElementById("offline");
on("summary", ({ summary }) => drawHeadline(summary));
on("connected", () => (offline.hidden = true));
on("reload", () => refreshSession().catch(() => {}));
on("lost", async () => {
  offline.hidden = false;
  try {
    await refreshSession();
    if (currentSession().must_log_in && (await askForLogin("Your login has ended."))) connect();
  } catch {
    // It is away: the connection is tried again, and the badge tells so.
  }
});
on("trouble", ({ detail }) => fill(document.getElementById("headline"), detail));

drawRail();
window.addEventListener("hashchange", show);
try {
  await refreshSession();
  if (currentSession().must_log_in) await askForLogin("Others can reach this dashboard, so it shows nothing before.");
} catch (error) {
  toast(error.message, true);
}
connect();
show();
