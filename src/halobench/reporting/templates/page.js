"use strict";

/** The value that a cell of a row is sorted by; empty if it has none. */
const valueOf = (row, column) => row.cells[column]?.dataset.value ?? "";

const comparers = {
  number: (a, b) => (Number(a) > Number(b)) - (Number(a) < Number(b)),
  text: (a, b) => a.localeCompare(b, "en", { numeric: true }),
};

/** Sort each body of a table by itself, below its heading; rows without a value come last, whichever the direction. */
function sort(table, head) {
  const up = head.ariaSort !== "ascending";
  const { column, kind } = head.dataset;
  table.querySelectorAll("th[aria-sort]").forEach((other) => { other.ariaSort = "none"; });
  head.ariaSort = up ? "ascending" : "descending";
  for (const body of table.tBodies) {
    const rows = [...body.querySelectorAll("tr.item")].map((row) => [valueOf(row, column), row]);
    rows.sort(([a], [b]) => (a === "" || b === "" ? (a === "") - (b === "") : (up ? 1 : -1) * comparers[kind](a, b)));
    body.append(...rows.map(([, row]) => row));
  }
}

const isShown = (element) => !element.closest("[hidden]");

/** Hide items with another value than a chosen one, and groups without an item left. */
function filter(form) {
  // Not form.dataset: a form gives its select named "dataset" by that name.
  const root = document.getElementById(form.getAttribute("data-for"));
  const chosen = [...form.querySelectorAll("select")].filter((select) => select.value);
  const groups = [...root.querySelectorAll(".group")];
  groups.forEach((group) => { group.hidden = false; });
  for (const item of root.querySelectorAll(".item")) {
    item.hidden = chosen.some(({ name, value }) => name in item.dataset && item.dataset[name] !== value);
  }
  for (const group of groups.reverse()) {
    if (![...group.querySelectorAll(".item")].some(isShown)) group.hidden = true;
  }
  const items = [...root.querySelectorAll(".item")];
  form.querySelector("output").textContent = `${items.filter(isShown).length} of ${items.length} ${form.getAttribute("data-what")}`;
}

for (const button of document.querySelectorAll("th[aria-sort] button")) {
  button.addEventListener("click", () => sort(button.closest("table"), button.closest("th")));
}
for (const form of document.querySelectorAll("form.filters")) {
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", () => filter(form));
  form.querySelector("button").addEventListener("click", () => {
    form.reset();
    filter(form);
  });
  filter(form);
}
