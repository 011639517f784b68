"use strict";
const tip = document.getElementById("tip");

document.addEventListener("mousemove", (event) => {
  const told = event.target.closest("[data-tip]");
  tip.hidden = !told;
  if (!told) return;
  tip.textContent = told.dataset.tip;
  const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  const below = event.clientY + 16 + tip.offsetHeight < innerHeight;
  tip.style.left = Math.max(left, 4) + "px";
  tip.style.top = (below ? event.clientY + 16 : Math.max(event.clientY - tip.offsetHeight - 10, 4)) + "px";
});

// A box leads to its row.
let lit = null;
document.addEventListener("click", (event) => {
  const box = event.target.closest("[data-row]");
  const row = box && document.getElementById(box.dataset.row.slice(1))?.closest("tr");
  if (!row) return;
  if (lit) lit.classList.remove("lit");
  lit = row;
  row.hidden = false;
  row.classList.add("lit");
  row.scrollIntoView({ block: "center", behavior: "smooth" });
});

document.getElementById("zoom").addEventListener("input", (event) => {
  for (const graph of document.querySelectorAll("svg.graph")) {
    const box = graph.viewBox.baseVal;
    graph.setAttribute("width", box.width * event.target.value);
    graph.setAttribute("height", box.height * event.target.value);
  }
});

for (const [id, open] of [["open", true], ["close", false]]) {
  document.getElementById(id).addEventListener("click", () => {
    for (const part of document.querySelectorAll("details.part")) part.open = open;
  });
}

for (const link of document.querySelectorAll(".strip a")) {
  link.addEventListener("click", () => { document.querySelector(link.getAttribute("href")).open = true; });
}

document.getElementById("filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of document.querySelectorAll("#nodes tbody tr")) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
});

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.addEventListener("click", () => {
    const cells = [...table.tBodies[0].rows].map((row) => [row, row.cells[column]]);
    const numeric = cells.some(([, cell]) => cell.dataset.v !== undefined);
    const before = head.getAttribute("aria-sort");
    const sign = (before ? before === "ascending" : !numeric) ? (before ? -1 : 1) : (before ? 1 : -1);
    const key = (cell) => numeric ? Number(cell.dataset.v ?? -1) : cell.textContent;
    cells.sort(([, a], [, b]) => sign * (numeric ? key(a) - key(b) : key(a).localeCompare(key(b))));
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    table.tBodies[0].append(...cells.map(([row]) => row));
  }));
}
