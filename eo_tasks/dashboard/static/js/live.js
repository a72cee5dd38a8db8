/** What the server tells by itself, over one WebSocket that comes back when it is lost. */

const FIRST_MS = 500;
const LONGEST_MS = 15000;
const SILENT_MS = 40000; // the server sends a ping every 15 s

const listeners = new Map();
let socket = null;
let pause = FIRST_MS;
let silence = 0;
let logFilter = null;
let wasLost = false;

/**
 * Listen to one kind of message; gives what ends it. Beside the server's there are "connected", "lost", and "reload"
 * also when what was missed in between is to be read again.
 * @param {string} type
 * @param {function(any): void} listener
 */
export function on(type, listener) {
  if (!listeners.has(type)) listeners.set(type, new Set());
  listeners.get(type).add(listener);
  return () => listeners.get(type).delete(listener);
}

/** Begin, or begin anew after logging in. */
export function connect() {
  socket?.close();
  const own = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1/live`);
  socket = own;
  watch(own);
  own.addEventListener("open", () => {
    pause = FIRST_MS;
    if (logFilter) own.send(JSON.stringify({ logs: logFilter }));
    tell({ type: "connected" });
    if (wasLost) tell({ type: "reload" });
    wasLost = false;
  });
  own.addEventListener("message", (event) => {
    if (socket !== own) return;
    watch(own);
    tell(JSON.parse(event.data));
  });
  own.addEventListener("close", () => lose(own));
}

/** Ask for lines of logs that fit; null ends it. */
export function followLogs(filter) {
  logFilter = filter;
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ logs: filter }));
}

/** Try again soon, and ever later; at random, so that many pages do not come back at once. */
function lose(own) {
  if (socket !== own) return;
  socket = null;
  clearTimeout(silence);
  wasLost = true;
  tell({ type: "lost" });
  setTimeout(() => socket ?? connect(), pause * (0.5 + Math.random()));
  pause = Math.min(pause * 2, LONGEST_MS);
}

/** A connection that says nothing is gone, whether the browser knows it or not. */
function watch(own) {
  clearTimeout(silence);
  silence = setTimeout(() => {
    own.close();
    lose(own);
  }, SILENT_MS);
}

function tell(message) {
  for (const listener of [...(listeners.get(message.type) ?? [])]) listener(message);
}
