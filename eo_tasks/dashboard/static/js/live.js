/** What the server tells by itself, over one WebSocket that comes back when it is lost. */

const FIRST_MS = 500;
const LONGEST_MS = 15000;
const SILENT_MS = 40000; // the server sends a ping every 15 s

const listeners = new Map();
let socket = null;
let pause = FIRST_MS;
let silence = 0;
let logFilter = null;

/** Listen to one kind of message; gives what ends it. @param {string} type @param {function(any): void} listener */
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
  });
  own.addEventListener("message", (event) => {
    watch(own);
    tell(JSON.parse(event.data));
  });
  own.addEventListener("close", (event) => {
    if (socket !== own) return;
    clearTimeout(silence);
    tell({ type: "lost", mustLogIn: event.code === 1008 });
    setTimeout(() => socket === own && connect(), pause * (0.5 + Math.random()));
    pause = Math.min(pause * 2, LONGEST_MS);
  });
}

/** Ask for lines of logs that fit; null ends it. */
export function followLogs(filter) {
  logFilter = filter;
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ logs: filter }));
}

function watch(own) {
  clearTimeout(silence);
  silence = setTimeout(() => own.close(), SILENT_MS);
}

function tell(message) {
  for (const listener of [...(listeners.get(message.type) ?? [])]) listener(message);
}
