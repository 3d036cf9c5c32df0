// The shard map: tables down, nodes across. A mark tells the worst of the copies there; arrow keys walk, Enter opens.

import { at, bytes, clock, count, duration, h, keyed, setText } from "./dom.js";
import { get } from "./api.js";
import { ask, order, say } from "./orders.js";

const MARKS = { active: "●", pending: "◐", inactive: "✕", none: "" };
let shown = { nodes: [], tables: [] };
let opened = null;

function worst(cell) {
  if (!cell) return "none";
  if (cell.inactive) return "inactive";
  return cell.pending ? "pending" : "active";
}

const words = (cell) =>
  cell
    ? [["active"], ["pending"], ["inactive"]].filter(([is]) => cell[is]).map(([is]) => `${cell[is]} ${is}`).join(", ")
    : "no copy";

export function draw(map, nodeStates) {
  shown = map;
  const body = at("map-body");
  if (!body.firstChild) {
    body.append(h("table", { role: "grid", "aria-label": "Copies by table and node" }, h("thead", {}, h("tr")), h("tbody")));
    body.addEventListener("keydown", walk);
    body.addEventListener("click", (event) => open(event.target.closest("td, th")));
  }
  const wanted = at("map-filter").value.trim().toLowerCase();
  const tables = map.tables.filter((table) => table.name.includes(wanted));
  const head = body.querySelector("thead tr");
  const column = (node) => h("th", { scope: "col", title: node }, h("span", {}, node));
  keyed(head, ["", ...map.nodes], (node) => node, (node) => (node ? column(node) : h("th")), (cell, node) =>
    cell.classList.toggle("lost", nodeStates.get(node) === "lost"));
  keyed(body.querySelector("tbody"), tables, (table) => table.name, row, update);
}

const row = (table) => h("tr", { "data-table": table.name }, h("th", { scope: "row", tabindex: -1, role: "rowheader" }));

function update(element, table) {
  // Most rows stay as they are, and a large map has ten thousand cells.
  const fingerprint = JSON.stringify([table, shown.nodes]);
  if (element.fingerprint === fingerprint) return;
  element.fingerprint = fingerprint;
  const head = element.firstChild;
  const text = `${table.rf_status === "ok" ? "" : table.rf_status === "degraded" ? "▲ " : "■ "}${table.name}`;
  setText(head, text);
  head.className = { ok: "", degraded: "c-pending", broken: "c-inactive" }[table.rf_status] ?? "";
  head.title = `${table.name}: ${table.shards} shards, rf ${table.rf}, ${table.rf_status}`;
  const cells = new Map(table.cells.map((cell) => [cell.node, cell]));
  while (element.children.length - 1 > shown.nodes.length) element.lastChild.remove();
  shown.nodes.forEach((node, index) => {
    const cell = cells.get(index);
    const at = element.children[index + 1] ?? element.appendChild(h("td", { tabindex: -1, role: "gridcell" }));
    const is = worst(cell);
    if (at.dataset.is !== is) at.dataset.is = is;
    setText(at, MARKS[is]);
    const label = `${table.name} on ${node}: ${words(cell)}`;
    if (at.title !== label) {
      at.title = label;
      at.setAttribute("aria-label", label);
    }
  });
  const first = at("map-body").querySelector("tbody td");
  if (first && !at("map-body").querySelector('tbody [tabindex="0"]')) first.tabIndex = 0;
}

function walk(event) {
  const from = event.target.closest("td, tbody th");
  if (!from) return;
  const row = from.parentElement;
  const column = [...row.children].indexOf(from);
  const to = {
    ArrowRight: () => from.nextElementSibling,
    ArrowLeft: () => from.previousElementSibling,
    ArrowDown: () => row.nextElementSibling?.children[column],
    ArrowUp: () => row.previousElementSibling?.children[column],
    Home: () => row.firstElementChild,
    End: () => row.lastElementChild,
  }[event.key]?.();
  if (event.key === "Enter" || event.key === " ") open(from);
  else if (!to) return;
  event.preventDefault();
  if (!to) return;
  from.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
  to.scrollIntoView({ block: "nearest", inline: "nearest" });
}

async function open(cell) {
  const table = cell?.parentElement?.dataset?.table;
  if (!table) return;
  const column = [...cell.parentElement.children].indexOf(cell) - 1;
  opened = { table, node: shown.nodes[column] ?? null };
  await detail();
  at("detail").scrollIntoView({ block: "nearest" });
}

/** What stands below the map: one table, or one table on one node. Drawn anew when something changed. */
export async function detail() {
  const place = at("detail");
  if (!opened) return;
  const { table, node } = opened;
  let told;
  try {
    told = await get(`tables/${encodeURIComponent(table)}`);
  } catch (error) {
    if (error.status === 404) opened = null;
    place.hidden = opened === null;
    return;
  }
  const progress = await get(`tables/${encodeURIComponent(table)}/rebalance`).catch(() => null);
  // Somebody may have opened another one meanwhile.
  if (opened?.table !== table || opened?.node !== node) return;
  const placement = told.placement.filter((shard) => !node || shard.nodes.some((copy) => copy.id === node));
  const fingerprint = JSON.stringify([told, progress, node]);
  if (place.dataset.of === fingerprint) return;
  place.dataset.of = fingerprint;
  place.replaceChildren(
    h("div", { class: "title-row" },
      h("h3", {}, node ? `${table} on ${node}` : table),
      h("button", { type: "button", class: "small", onclick: close }, "Close")),
    h("p", { class: "dim" }, `${told.shards} shards, rf ${told.rf}, ${told.status}${told.documents === null ? "" : `, ${count(told.documents)} documents`}`),
    moving(progress),
    orders(table),
    shards(table, placement, node),
  );
  place.hidden = false;
}

function close() {
  opened = null;
  at("detail").hidden = true;
  at("detail").dataset.of = "";
}

function moving(progress) {
  if (!progress || progress.transfers_total === undefined) return null;
  const left = progress.estimated_completion ? `, ready about ${clock(progress.estimated_completion)}` : "";
  return h("p", {},
    h("progress", { max: 100, value: progress.progress_percentage, "aria-label": "moves done" }),
    ` ${progress.status}: ${progress.transfers_done} of ${progress.transfers_total} moves, ${bytes(progress.bytes_done)} of ${bytes(progress.bytes_total)}${left}`);
}

const ORDERS = [
  ["dry_run", "Plan", null],
  ["start", "Start", "Moves copies until the nodes hold their shares. Reads and writes go on."],
  ["pause", "Pause", "No new move begins; those under way are finished."],
  ["resume", "Resume", "Moves go on."],
  ["stop", "Stop", "Moves under way are finished, no new one begins."],
  ["stop_now", "Stop now", "Moves under way are undone where their new copy is not complete."],
  ["reset", "Reset", "A failed or stuck move is forgotten, and planned anew from what is seen."],
];

function orders(table) {
  const path = `tables/${encodeURIComponent(table)}/rebalance`;
  const give = async (what, name, text) => {
    if (text && !(await ask({ title: `${name}: moves of ${table}`, text, yes: name }))) return;
    const answer = await order("POST", path, { order: what }, `${name.toLowerCase()}: done`);
    if (answer && what === "dry_run") tellPlan(table, answer);
  };
  return h("p", { class: "buttons" }, ORDERS.map(([what, name, text]) =>
    h("button", { type: "button", class: "small", onclick: () => give(what, name, text) }, name)));
}

function tellPlan(table, plan) {
  const moves = plan.moves ?? [];
  const line = (move) => `${(move.tables ?? [table]).join(", ")}: ${move.from ?? "new"} → ${move.to ?? "gone"} (${move.reason})`;
  const text = moves.length ? moves.map(line).join("\n") : "Nothing would move.";
  const cost = plan.bytes === undefined ? "" : `${moves.length} moves, ${bytes(plan.bytes)}${plan.eta_seconds ? `, about ${duration(plan.eta_seconds)}` : ""}`;
  at("detail").querySelector(".plan")?.remove();
  at("detail").append(h("div", { class: "plan" }, h("h4", {}, "What a rebalance would do"), h("p", { class: "dim" }, cost), h("pre", {}, text)));
}

function shards(table, placement, node) {
  const explain = async (shard) => {
    try {
      const told = await get(`tables/${encodeURIComponent(table)}/explain/${shard}`);
      const text = told.text ?? (told.rows ?? []).map((row) => row.filter(Boolean).join("  ")).join("\n");
      await ask({ title: `Shard ${shard} of ${table}`, text, yes: "Good" });
    } catch (error) {
      say(error.message, true);
    }
  };
  const move = async (shard) => {
    const to = await ask({
      title: `Move shard ${shard} of ${table} from ${node}`,
      text: "Its whole group moves along. It is copied under reads and writes, and leaves only when the new copy is complete and routed.",
      field: "To node (host:port)", yes: "Move it",
    });
    if (to) order("POST", `tables/${encodeURIComponent(table)}/move`, { shard, from: node, to }, `shard ${shard} moves to ${to}`);
  };
  const line = (shard) =>
    h("tr", {},
      h("td", { class: "number" }, shard.shard),
      h("td", { class: "mono" }, shard.group ?? ""),
      h("td", {}, shard.nodes.map((copy) =>
        h("span", { class: `c-${copy.status}`, title: copy.status }, `${MARKS[copy.status] ?? "?"} ${copy.id}  `))),
      h("td", { class: "buttons" },
        h("button", { type: "button", class: "small", onclick: () => explain(shard.shard) }, "Why here"),
        node ? h("button", { type: "button", class: "small", onclick: () => move(shard.shard) }, "Move") : null));
  return h("div", { class: "scroll" },
    h("table", {}, h("thead", {}, h("tr", {}, ["Shard", "Group", "Copies", ""].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, placement.map(line))));
}
