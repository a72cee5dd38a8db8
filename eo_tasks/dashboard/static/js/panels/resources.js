/** Machines and workers, as each tells every few seconds. */

import { get } from "../api.js";
import { fill, h, moment, section, table } from "../elements.js";
import { on } from "../live.js";

const GB = (number) => `${number.toFixed(number < 10 ? 1 : 0)} GB`;

export function resources(place) {
  const hosts = h("div.columns");
  const workers = h("div");
  const queues = h("div");
  fill(place, h("h1", {}, "Machines"), hosts, section("Workers", workers), section("Queues", queues));
  const draw = (list) => {
    fill(hosts, drawHosts(list));
    fill(workers, table("Workers", ["Worker", "State", "Takes from", "At once", "Memory", "Works on", "Heard of"],
      list.map((one) => [
        one.name, h(one.is_alive ? "span" : "strong.bad", {}, one.is_alive ? "alive" : "silent"), one.queues.join(", "),
        one.processes, GB(one.worker_memory_gb), one.units.join(", ") || "–", moment(one.at),
      ]), "No worker has told of itself."));
  };
  const drawQueues = (summary) => fill(queues, table("Queues", ["Queue", "Messages"], Object.entries(summary.queues)));
  get("/workers").then(draw, (error) => fill(workers, h("p.bad", {}, error.message)));
  get("/summary").then(drawQueues, () => {});
  const ends = [on("workers", (message) => draw(message.workers)), on("summary", ({ summary }) => drawQueues(summary))];
  return () => ends.forEach((end) => end());
}

function drawHosts(workers) {
  const latest = new Map();
  for (const one of workers) if (!latest.has(one.host) || latest.get(one.host).at < one.at) latest.set(one.host, one);
  return [...latest.values()].map((host) => {
    const gpus = workers.filter((one) => one.host === host.host).flatMap((one) => one.gpus);
    const cards = [...new Map(gpus.map((gpu, number) => [`${gpu.name} ${number}`, gpu])).values()];
    const used = host.disk_total_gb - host.disk_free_gb;
    return h("section.card.host", {}, h("h2", {}, host.host),
      meter(`CPU, ${host.cores} cores`, host.cpu, 1, `${Math.round(100 * host.cpu)} %`),
      meter("Memory", host.memory_gb, host.memory_total_gb, `${GB(host.memory_gb)} of ${GB(host.memory_total_gb)}`),
      meter("Disk", used, host.disk_total_gb, `${GB(host.disk_free_gb)} free`),
      cards.flatMap((gpu) => [
        meter(gpu.name, gpu.load, 1, `${Math.round(100 * gpu.load)} %`),
        meter("GPU memory", gpu.memory_gb, gpu.memory_total_gb, `${GB(gpu.memory_gb)} of ${GB(gpu.memory_total_gb)}`),
      ]));
  });
}

function meter(label, value, most, text) {
  return h("label.meter", {}, h("span", {}, label), h("span.numbers", {}, text),
    h("meter", { min: "0", max: String(most || 1), value: String(value), high: String(0.9 * (most || 1)) }));
}
