// The page: hears that something changed, asks what is so, and shows it. Decides nothing.

import { at, setText } from "./dom.js";
import { get, listen } from "./api.js";
import * as charts from "./charts.js";
import * as map from "./map.js";
import * as sections from "./sections.js";
import { say, showSigned, signIn, whenDone } from "./orders.js";

/** At most one round of questions in this time, however much happens. */
const PAUSE = 1000;
/** A round although nothing was heard: ages and estimates go on. */
const ROUND = 10000;
const CHARTS = 60000;

let due = 0;
let running = false;
let last = null;

async function refresh() {
  if (running || document.hidden) return;
  running = true;
  try {
    const [board, operations, nodes, shards] = await Promise.all(["dashboard", "operations", "nodes", "map"].map(get));
    sections.status(board);
    sections.tiles(board);
    sections.alerts(board);
    sections.operations(operations.operations, board.timestamp);
    sections.nodes(nodes.nodes);
    sections.queue(board);
    last = { shards, states: new Map(nodes.nodes.map((node) => [node.id, node.state])) };
    map.draw(last.shards, last.states);
    await map.detail();
    live("live");
  } catch (error) {
    live("lost", error.message);
  } finally {
    running = false;
  }
}

/** Asks again soon, once for many calls. */
function soon() {
  if (due) return;
  due = setTimeout(() => {
    due = 0;
    refresh();
  }, PAUSE);
}

let since = Date.now();
function live(state, why = "") {
  const shown = at("live");
  if (state === "live") since = Date.now();
  shown.dataset.state = state;
  shown.title = why;
  const ago = Math.round((Date.now() - since) / 1000);
  setText(shown, state === "live" ? "live" : `no word from the controller for ${ago} s`);
  if (state !== "live" && ago > 5) {
    at("status").dataset.level = "unknown";
    setText(at("status"), "? not known");
  }
}

const THEMES = ["system", "light", "dark"];
function theme(next) {
  const wanted = next ?? localStorage.getItem("shardwright-theme") ?? "system";
  if (wanted === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = wanted;
  localStorage.setItem("shardwright-theme", wanted);
  setText(at("theme"), `Theme: ${wanted}`);
}
const nextTheme = () => theme(THEMES[(THEMES.indexOf(localStorage.getItem("shardwright-theme")) + 1) % THEMES.length]);

/** One key each, where nobody is typing. */
const KEYS = {
  t: nextTheme,
  s: signIn,
  "/": () => at("map-filter").focus(),
  a: () => at("alerts").scrollIntoView(),
  o: () => at("operations").scrollIntoView(),
  m: () => at("map").scrollIntoView(),
  n: () => at("nodes").scrollIntoView(),
  q: () => at("queue").scrollIntoView(),
  h: () => at("history").scrollIntoView(),
  "?": () => say("t theme · s sign in · / filter · a alerts · o operations · m shards · n nodes · q queue · h history"),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || at("ask").open) return;
  if (event.target.closest("input, select, textarea")) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

theme();
showSigned();
at("theme").addEventListener("click", nextTheme);
at("sign").addEventListener("click", signIn);
at("map-filter").addEventListener("input", () => last && map.draw(last.shards, last.states));
at("span").addEventListener("change", charts.draw);
document.addEventListener("visibilitychange", () => {
  refresh();
  charts.draw();
});
whenDone(soon);
refresh();
charts.draw();
setInterval(refresh, ROUND);
setInterval(charts.draw, CHARTS);
listen(soon, (state) => (state === "live" ? soon() : live("lost", "the stream of events ended")));
