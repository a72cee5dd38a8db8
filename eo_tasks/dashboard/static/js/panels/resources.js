/** Machines and workers, as each tells every few seconds. */

import { get } from "../api.js";
import { count, fill, h, moment, section, table } from "../elements.js";
import { on } from "../live.js";

const GB = (number) => `${number.toFixed(number < 10 ? 1 : 0)} GB`;

export function resources(place) {
  const hosts = h("div.columns.hosts");
  const workers = h("div");
  const note = h("p.note", {});
  const queues = h("div");
  fill(place, h("h1", {}, "Machines"), hosts, section("Workers", workers), section("Queues", queues));
  const draw = (list) => {
    fill(hosts, drawHosts(list));
    const silent = list.filter((one) => !one.is_alive).length;
    fill(note, `${count(list.length)} workers${silent ? `, ${count(silent)} of them silent: killed, or on a machine that is gone` : ""}.`);
    fill(workers, note, table("Workers", ["Worker", "State", "Takes from", "At once", "Memory", "Works on", "Heard of"],
      list.map((one) => [
        one.name, h(one.is_alive ? "span" : "strong.bad", {}, one.is_alive ? "alive" : "silent"), one.queues.join(", "),
        one.processes, GB(one.worker_memory_gb),
        one.units.length ? h("span.units", {}, one.units.map((unit) => h("a", { href: `#/cell/${unit.split("_")[1]}` }, unit))) : "–",
        moment(one.at),
      ]), "No worker has told of itself."));
  };
  const drawQueues = (summary) => fill(queues, table("Queues", ["Queue", "Messages"], Object.entries(summary.queues)));
  const load = () => {
    get("/workers").then(draw, (error) => fill(workers, h("p.bad", {}, error.message)));
    get("/summary").then(drawQueues, () => {});
  };
  load();
  const ends = [on("reload", load), on("workers", (message) => draw(message.workers)), on("summary", ({ summary }) => drawQueues(summary))];
  return () => ends.forEach((end) => end());
}

function drawHosts(workers) {
  const latest = new Map();
  for (const one of workers) if (!latest.has(one.host) || latest.get(one.host).at < one.at) latest.set(one.host, one);
  return [...latest.values()].map((host) => {
    const told = workers.filter((one) => one.host === host.host).map((one) => one.gpus);
    const cards = told.reduce((most, gpus) => (gpus.length > most.length ? gpus : most), []); // several tell of the same
    const used = host.disk_total_gb - host.disk_free_gb;
    return h("section.card.host", {}, h("h2", {}, host.host),
      meter(`CPU, ${host.cores} cores`, host.cpu, 1, `${Math.round(100 * host.cpu)} %`, 1),
      meter("Memory", host.memory_gb, host.memory_total_gb, `${GB(host.memory_gb)} of ${GB(host.memory_total_gb)}`),
      meter("Disk", used, host.disk_total_gb, `${GB(host.disk_free_gb)} free`),
      cards.flatMap((gpu, number) => [
        meter(`GPU ${number}, ${gpu.name}`, gpu.load, 1, `${Math.round(100 * gpu.load)} %`, 1),
        meter(`GPU ${number}, memory`, gpu.memory_gb, gpu.memory_total_gb, `${GB(gpu.memory_gb)} of ${GB(gpu.memory_total_gb)}`),
      ]));
  });
}

/** A bar; above a share of the most it may be, it is a warning: work is fine there, full memory and full disks are not. */
function meter(label, value, most, text, high = 0.9) {
  return h("label.meter", {}, h("span", {}, label), h("span.numbers", {}, text),
    h("meter", { min: "0", max: String(most || 1), value: String(value), high: String(high * (most || 1)) }));
}
