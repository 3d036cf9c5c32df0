// Everything but the shard map and the charts: figures, alerts, operations, nodes, queue.

import { at, clock, count, duration, h, keyed, orNone, setText } from "./dom.js";
import { ask, order } from "./orders.js";

const MARKS = { healthy: "● healthy", warning: "▲ warning", critical: "■ critical" };

export function status(board) {
  const badge = at("status");
  badge.dataset.level = board.overall_status;
  setText(badge, MARKS[board.overall_status] ?? board.overall_status);
  document.title = `${board.overall_status === "healthy" ? "" : `${MARKS[board.overall_status]} – `}Shardwright`;
  keyed(at("why"), why(board), (reason) => reason, () => h("li"), setText);
}

function why(board) {
  if (board.overall_status === "healthy") return [];
  const firing = board.alerts.filter((alert) => alert.state === "firing");
  const kinds = [...new Set(firing.map((alert) => alert.type))].join(", ");
  if (firing.length) return [`${firing.length} alert${firing.length > 1 ? "s" : ""}: ${kinds}`];
  return ["An operation failed within the last day: see Operations. `Reset` in a table's details takes it off."];
}

export function tiles(board) {
  const { cluster, rebalancing, queue } = board;
  const figures = [
    ["Nodes", `${cluster.active_nodes}/${cluster.total_nodes}`, "answer"],
    ["Health", `${count(cluster.cluster_health_percentage)} %`, "of the nodes"],
    ["Tables", count(rebalancing.total_tables), `${count(rebalancing.idle_tables)} idle`],
    ["Operations", count(rebalancing.running_operations), "running"],
    ["Queue", count(queue.total_queue_depth), "steps"],
    ["Failed", count(rebalancing.failed_operations), "operations"],
    ["Longest", duration(rebalancing.longest_running), "running"],
    ["Leader", cluster.master_node ?? "none", `${count(cluster.topology_changes_last_hour)} changes of nodes in an hour`],
  ];
  const make = ([name]) => h("div", { class: "tile" }, h("span", {}, name), h("b"), h("span"));
  keyed(at("tiles"), figures, ([name]) => name, make, (tile, [, value, words]) => {
    setText(tile.children[1], value);
    setText(tile.children[2], words);
    tile.children[1].classList.toggle("mono", String(value).includes(":"));
  });
}

export function alerts(board) {
  const body = at("alerts-body");
  const list = body.querySelector(".list") ?? body.appendChild(h("div", { class: "list" }));
  const firing = board.alerts.filter((alert) => alert.state === "firing");
  const make = (alert) =>
    h("div", { class: "alert" }, h("b"), h("span", { class: "what" }), h("span", { class: "dim" }), h("span", { class: "todo" }),
      h("button", { type: "button", class: "small", onclick: () => silence(alert) }, "Silence"));
  const key = (alert) => `${alert.type} ${JSON.stringify(alert.labels)}`;
  keyed(list, firing, key, make, (element, alert) => {
    element.dataset.level = alert.level;
    const [mark, what, since, todo] = element.children;
    setText(mark, alert.level === "critical" ? "■ critical" : "▲ warning");
    setText(what, `${alert.type}: ${alert.message}`);
    setText(since, `for ${duration(board.timestamp - alert.since)}`);
    since.title = clock(alert.since);
    setText(todo, alert.action);
  });
  orNone(body, firing.length, "No alert fires.");
}

const SILENCE_SECONDS = 3600;

async function silence(alert) {
  const text = `It is shown here all the same, but nobody is told of it for ${duration(SILENCE_SECONDS)}.`;
  if (await ask({ title: `Silence ${alert.type}?`, text, yes: "Silence it" })) {
    const body = { type: alert.type, labels: alert.labels, seconds: SILENCE_SECONDS, comment: "from the page" };
    order("POST", "alerts/silences", body, `${alert.type} is silent for ${duration(SILENCE_SECONDS)}`);
  }
}

function grid(body, heads, className) {
  return (
    body.querySelector("tbody") ??
    body
      .appendChild(
        h("div", { class: "scroll" },
          h("table", { class: className },
            h("thead", {}, h("tr", {}, heads.map(([name, kind]) => h("th", { class: kind, scope: "col" }, name)))),
            h("tbody"))),
      )
      .querySelector("tbody")
  );
}

/** Finished operations that are shown: more would be a log, which `shardwright` prints. */
const FINISHED_SHOWN = 12;

export function operations(list, now) {
  const body = at("operations-body");
  const running = list.filter((one) => !["done", "failed", "cancelled"].includes(one.status));
  const finished = list.filter((one) => ["done", "failed", "cancelled"].includes(one.status)).slice(0, FINISHED_SHOWN);
  const rows = grid(body, [["Operation"], ["About"], ["Status"], ["Progress"], ["Time"], ["Error"]], "operations");
  const make = () => {
    const cells = Array.from({ length: 6 }, () => h("td"));
    for (const tight of [0, 3]) cells[tight].className = "tight";
    cells[3].append(h("progress", { max: 1, "aria-label": "steps done" }), h("span", { class: "dim" }));
    return h("tr", {}, cells);
  };
  keyed(rows, [...running, ...finished], (one) => one.id, make, (row, one) => {
    const [name, about, state, progress, time, words] = row.children;
    setText(name, `${one.id} ${one.kind}`);
    setText(about, one.subject);
    setText(state, one.status);
    state.className = one.status === "failed" ? "error" : "";
    progress.firstChild.value = one.steps_total ? one.steps_done / one.steps_total : 1;
    setText(progress.lastChild, ` ${one.steps_done}/${one.steps_total}`);
    setText(time, one.finished_at ? `took ${duration(one.finished_at - one.created_at)}` : `for ${duration(now - one.created_at)}${eta(one, now)}`);
    time.title = clock(one.created_at);
    setText(words, one.error ?? "");
    words.className = one.error ? "error wide" : "wide";
  });
  orNone(body, running.length + finished.length, "Nothing was done yet.");
}

function eta(one, now) {
  return one.estimated_completion ? `, about ${duration(one.estimated_completion - now)} left` : "";
}

const NODE_MARKS = { active: "●", suspect: "◐", joining: "◐", draining: "◑", drained: "○", lost: "✕" };

export function nodes(list) {
  const body = at("nodes-body");
  const rows = grid(body, [["Node"], ["State"], ["Zone"], ["Capacity", "number"], ["Copies", "number"], ["Groups", "number"], [""]], "nodes");
  const make = (node) => {
    const orders = h("td", { class: "buttons" },
      h("button", { type: "button", class: "small", onclick: () => drain(node.id) }, "Drain"),
      h("button", { type: "button", class: "small", onclick: () => order("POST", `nodes/${node.id}/undrain`, undefined, `${node.id} is taken back`) }, "Take back"),
      h("button", { type: "button", class: "small", onclick: () => remove(node.id) }, "Remove"));
    return h("tr", {}, h("td", { class: "mono" }, node.id), h("td"), h("td"), h("td", { class: "number" }), h("td", { class: "number" }), h("td", { class: "number" }), orders);
  };
  keyed(rows, list, (node) => node.id, make, (row, node) => {
    const [, state, zone, capacity, copies, groups, orders] = row.children;
    setText(state, `${NODE_MARKS[node.state] ?? "?"} ${node.state}`);
    state.className = { active: "c-active", lost: "c-inactive" }[node.state] ?? "c-pending";
    setText(zone, node.zone ?? "");
    setText(capacity, count(node.capacity));
    setText(copies, count(node.copies));
    setText(groups, count(node.groups));
    const [drainIt, takeBack, removeIt] = orders.children;
    const draining = ["draining", "drained"].includes(node.state);
    drainIt.hidden = draining || node.state === "lost";
    takeBack.hidden = !draining;
    removeIt.hidden = !["drained", "lost"].includes(node.state);
  });
  orNone(body, list.length, "No node is known yet.");
}

async function drain(id) {
  const text = `Its copies move to the other nodes, one after the other; it serves until they are there. Nothing is lost when it is taken back meanwhile.`;
  if (await ask({ title: `Drain ${id}?`, text, yes: "Drain it" })) {
    order("POST", `nodes/${id}/drain`, undefined, `${id} is being drained`);
  }
}

async function remove(id) {
  const text = `A drained node leaves the cluster; a lost one is given up for good, and what it still holds is cleaned when it is back.`;
  if (await ask({ title: `Remove ${id}?`, text, yes: "Remove it" })) {
    order("DELETE", `nodes/${id}`, undefined, `${id} was removed`);
  }
}

export function queue(board) {
  const body = at("queue-body");
  const parts = [
    ["By node", board.queue.queue_depth_by_node],
    ["By command", board.queue.command_types],
  ];
  keyed(body, parts, ([name]) => name, ([name]) => h("div", {}, h("h3", {}, name), h("div")), (part, [, depths]) => {
    const bars = Object.entries(depths).sort((one, other) => other[1] - one[1]);
    const most = Math.max(1, ...bars.map(([, depth]) => depth));
    const list = part.lastChild.querySelector(".list") ?? part.lastChild.appendChild(h("div", { class: "list" }));
    const make = ([name]) => h("div", { class: "bar" }, h("span", {}, name), h("meter", { min: 0, "aria-label": name }), h("span"));
    keyed(list, bars, ([name]) => name, make, (bar, [, depth]) => {
      bar.children[1].max = most;
      bar.children[1].value = depth;
      setText(bar.children[2], depth);
    });
    orNone(part.lastChild, bars.length, "Nothing waits.");
  });
}
