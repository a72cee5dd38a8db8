/** The HTTP API. Whoever may not do something is asked to log in, once, and it is tried again. */

const ROOT = "/api/v1";
let session = { user: null, csrf: null, can_control: false, can_log_in: false, must_log_in: false };
let askForLogin = async () => false;
const watchers = new Set();

export class ApiError extends Error {
  /** @param {number} status @param {string} detail */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const currentSession = () => session;

/** Be told when someone logs in or out. */
export function onSession(watcher) {
  watchers.add(watcher);
  watcher(session);
}

/** Say how a person is asked to log in: resolves to whether they did. */
export function setLogin(ask) {
  askForLogin = ask;
}

export async function refreshSession() {
  keep(await call("/session"));
}

export async function logIn(user, password) {
  keep(await call("/login", { method: "POST", body: { user, password } }));
}

export async function logOut() {
  await call("/logout", { method: "POST" });
  await refreshSession();
}

/** Read. @param {string} path @param {Object<string, any>} query */
export async function get(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(given).toString();
  return retrying(() => call(text ? `${path}?${text}` : path));
}

/** Change something. */
export async function post(path, body) {
  return retrying(() => call(path, { method: "POST", body }));
}

async function retrying(what) {
  try {
    return await what();
  } catch (error) {
    if (!(error instanceof ApiError) || ![401, 403].includes(error.status)) throw error;
    await refreshSession();
    if (session.can_control && error.status === 403) return what();
    if (!session.can_log_in || !(await askForLogin(error.message))) throw error;
    return what();
  }
}

function keep(next) {
  session = next;
  for (const watcher of watchers) watcher(session);
}

async function call(path, { method = "GET", body } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && session.csrf) headers["X-CSRF-Token"] = session.csrf;
  let answer;
  try {
    answer = await fetch(ROOT + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new ApiError(0, "The dashboard does not answer.");
  }
  if (answer.status === 204) return null;
  const content = await answer.json().catch(() => null); // null: cut off in mid-answer, or of a proxy's own
  if (answer.ok && content !== null) return content;
  throw new ApiError(answer.ok ? 0 : answer.status, detailOf(content) ?? `The dashboard's answer of ${answer.status} is not whole.`);
}

function detailOf(content) {
  const detail = content?.detail;
  if (Array.isArray(detail)) return detail.map((one) => `${one.loc?.slice(1).join(".")}: ${one.msg}`).join("; ");
  return typeof detail === "string" ? detail : null;
}
