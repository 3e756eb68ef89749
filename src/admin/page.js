"use strict";
const MOST = 200;
const at = (id) => document.getElementById(id);

// Whatever a name is, it is text.
const cell = (row, text, kind) => {
  const cell = row.insertCell();
  cell.textContent = text ?? "";
  if (kind) cell.className = kind;
};

const endpoints = async () => {
  const [answer, ready] = await Promise.all([fetch("/endpoints"), fetch("/readyz")]);
  at("ready").textContent = (await ready.text()).trim();
  const { services } = await answer.json();
  const rows = document.createElement("tbody");
  rows.id = "endpoints";
  for (const [name, service] of Object.entries(services)) {
    for (const one of service.endpoints) {
      const row = rows.insertRow();
      cell(row, name);
      cell(row, one.address);
      cell(row, one.weight, "number");
      cell(row, one.health, one.health === "up" ? "" : "shut");
      cell(row, one.breaker?.state, one.breaker?.state === "closed" ? "" : "shut");
      cell(row, one.in_flight, "number");
      cell(row, one.connections, "number");
      cell(row, one.ewma_ms?.toFixed(1), "number");
      cell(row, one.attempts, "number");
      cell(row, one.failures, "number");
    }
  }
  at("endpoints").replaceWith(rows);
};

let asked = false;
const refresh = () => {
  if (asked) return;
  asked = true;
  endpoints()
    .catch((error) => { at("ready").textContent = String(error); })
    .finally(() => { asked = false; });
};

const show = (kind, data) => {
  const line = document.createElement("div");
  line.textContent = `${new Date().toISOString()}  ${kind}  ${data}`;
  line.className = kind === "missed" ? "missed" : "";
  const list = at("events");
  list.prepend(line);
  while (list.childElementCount > MOST) list.lastElementChild.remove();
};

const kinds = KINDS;
const events = new EventSource("/events");
events.onopen = () => { at("state").textContent = "live"; };
events.onerror = () => { at("state").textContent = "connecting"; };
for (const kind of kinds) {
  events.addEventListener(kind, (event) => {
    show(kind, event.data);
    refresh();
  });
}
refresh();
setInterval(refresh, 2000);
