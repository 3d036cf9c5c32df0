// Lines over time from the kept figures, one chart each, drawn as SVG.

import { at, count, duration, h, setText } from "./dom.js";
import { get } from "./api.js";

const CHARTS = [
  ["cluster_health_percentage", "Nodes that answer, %"],
  ["total_queue_depth", "Steps queued"],
  ["running_operations", "Operations running"],
  ["failed_operations", "Operations failed"],
  ["average_wait_time", "Wait of queued steps, s"],
  ["shards_degraded", "Shards with too few copies"],
  ["alerts_critical", "Critical alerts"],
  ["alerts_warning", "Warnings"],
];
/** So many points without a sample are chance; more are a time in which nobody kept any, and the line breaks. */
const GAP_MAX = 3;
const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [1000, 200];

export async function draw() {
  if (document.hidden) return;
  const span = Number(at("span").value);
  const body = at("history-body");
  let told;
  try {
    const to = Math.ceil(Date.now() / 1000);
    const figures = CHARTS.map(([name]) => name).join(",");
    told = await get(`history?from=${to - span}&to=${to}&figures=${figures}`);
  } catch (error) {
    body.replaceChildren(h("p", { class: "none" }, `No history: ${error.message}`));
    return;
  }
  if (!body.querySelector("figure")) body.replaceChildren(...CHARTS.map(([name, title]) => figure(name, title)));
  for (const [name] of CHARTS) fill(body.querySelector(`[data-series="${name}"]`), told.times, told.figures[name] ?? [], span);
}

function figure(name, title) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of [["viewBox", `0 0 ${WIDTH} ${HEIGHT}`], ["preserveAspectRatio", "none"], ["class", "chart"], ["role", "img"]]) {
    svg.setAttribute(key, value);
  }
  return h("figure", { "data-series": name },
    h("figcaption", {}, h("span", {}, title), h("span")), svg, h("div", { class: "axis" }, h("span"), h("span")));
}

function path(kind, d) {
  const element = document.createElementNS(SVG, "path");
  element.setAttribute("class", kind);
  element.setAttribute("d", d);
  return element;
}

function fill(figure, times, values, span) {
  const [caption, svg, axis] = figure.children;
  const known = values.filter((value) => value !== null && value !== undefined);
  const top = Math.max(1, ...known);
  const latest = known.at(-1);
  setText(caption.lastChild, known.length ? `now ${count(latest)}, most ${count(Math.max(...known))}` : "nothing kept yet");
  svg.setAttribute("aria-label", `${caption.firstChild.textContent}: ${caption.lastChild.textContent}`);
  const end = Date.now() / 1000;
  const x = (time) => (((time - (end - span)) / span) * WIDTH).toFixed(1);
  const y = (value) => (HEIGHT - 4 - (value / top) * (HEIGHT - 8)).toFixed(1);
  let d = "";
  let gap = GAP_MAX + 1;
  times.forEach((time, index) => {
    const value = values[index];
    if (value === null || value === undefined) {
      gap += 1;
      return;
    }
    d += `${gap > GAP_MAX ? "M" : "L"}${x(time)} ${y(value)}`;
    gap = 0;
  });
  svg.replaceChildren(path("grid", `M0 4H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 ${HEIGHT - 4}H${WIDTH}`), path("line", d));
  setText(axis.firstChild, `${duration(span)} ago`);
  setText(axis.lastChild, "now");
}
