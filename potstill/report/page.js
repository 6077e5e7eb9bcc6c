"use strict";
// On paper every part is open; afterwards those that were closed are closed again.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((part) => { part.open = true; });
});
addEventListener("afterprint", () => opened.forEach((part) => { part.open = false; }));
// A click on a head sorts by it, highest first for numbers; a second click turns the order; unmeasured cells stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const buttons = [...table.tHead.querySelectorAll("button")];
  buttons.forEach((button, place) => button.addEventListener("click", () => {
    const head = button.closest("th");
    const text = place === 0;
    const before = head.getAttribute("aria-sort");
    const order = before ? (before === "ascending" ? "descending" : "ascending") : (text ? "ascending" : "descending");
    table.tHead.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const value = (row) => row.cells[place].dataset.value;
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      return sign * (text ? x.localeCompare(y, undefined, { numeric: true }) : Number(x) - Number(y));
    });
    body.append(...rows);
  }));
}
