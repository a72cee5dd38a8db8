/** Asking and telling: confirmations, the login, short notes of what came of something. */

import { fill, h } from "./elements.js";
import { currentSession, logIn } from "./api.js";

const TOAST_MS = 8000;

/**
 * Ask before something is done.
 * @param {{title: string, text: string, action: string, isGrave?: boolean, details?: Node}} what
 * @returns {Promise<boolean>}
 */
export function confirm({ title, text, action, isGrave = false, details = null }) {
  const yes = h(isGrave ? "button.grave" : "button.main", { value: "yes" }, action);
  return shown(h("dialog", { "aria-label": title },
    h("form", { method: "dialog" },
      h("h2", {}, title), h("p", {}, text), details,
      h("div.buttons", {}, h("button", { value: "no", autofocus: true }, "Not now"), yes))));
}

let login = null;

/** Ask for user and password until they are right or the person gives up; one dialog at a time. @returns {Promise<boolean>} */
export function askForLogin(why = "") {
  login ??= showLogin(why).finally(() => (login = null));
  return login;
}

function showLogin(why) {
  const note = h("p.note", { role: "alert" }, why);
  const user = h("input", { name: "user", autocomplete: "username", value: "operator", required: true });
  const password = h("input", { name: "password", type: "password", autocomplete: "current-password", required: true });
  const dialog = h("dialog", { "aria-label": "Log in" });
  const form = h("form", { method: "dialog" },
    h("h2", {}, "Log in"), note,
    h("label", {}, "User", user), h("label", {}, "Password", password),
    h("div.buttons", {},
      currentSession().must_log_in ? null : h("button", { value: "no", formnovalidate: true }, "Only look"),
      h("button.main", { value: "yes" }, "Log in")));
  form.addEventListener("submit", async (event) => {
    if (event.submitter?.value !== "yes") return;
    event.preventDefault();
    try {
      await logIn(user.value, password.value);
      dialog.close("yes");
    } catch (error) {
      fill(note, error.message);
      password.select();
    }
  });
  dialog.append(form);
  if (currentSession().must_log_in) dialog.addEventListener("cancel", (event) => event.preventDefault());
  const answer = shown(dialog);
  (user.value ? password : user).focus();
  return answer;
}

/** Say what came of something. @param {string} text @param {boolean} isBad */
export function toast(text, isBad = false) {
  const note = h(isBad ? "div.toast.bad" : "div.toast", {}, h("span", {}, text),
    h("button.quiet", { "aria-label": "Dismiss", onclick: () => note.remove() }, "×"));
  document.getElementById("toasts").append(note);
  if (!isBad) setTimeout(() => note.remove(), TOAST_MS);
}

/**
 * Ask, do it, and say what came of it.
 * @param {Parameters<typeof confirm>[0]} question
 * @param {() => Promise<any>} act
 * @param {(done: any) => string} told
 */
export async function confirmed(question, act, told) {
  if (!(await confirm(question))) return null;
  try {
    const done = await act();
    toast(told(done));
    return done;
  } catch (error) {
    toast(error.message, true);
    return null;
  }
}

function shown(dialog) {
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
  });
}
