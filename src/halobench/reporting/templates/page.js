"use strict";

/** The value that a cell of a row is sorted by; empty if it has none. */
const valueOf = (row, column) => row.cells[column]?.dataset.value ?? "";

const comparers = {
  number: (a, b) => (Number(a) > Number(b)) - (Number(a) < Number(b)),
  text: (a, b) => a.localeCompare(b, "en", { numeric: true }),
};

/** Sort each body of a table by itself, or bodies by their first rows; those without a value come last, either way. */
function sort(table, head) {
  const up = head.ariaSort !== "ascending";
  const { column, kind } = head.dataset;
  table.querySelectorAll("th[aria-sort]").forEach((other) => { other.ariaSort = "none"; });
  head.ariaSort = up ? "ascending" : "descending";
  for (const parent of table.querySelector("tbody.item") ? [table] : table.tBodies) {
    const items = [...parent.querySelectorAll(".item")].map((item) => [valueOf(item.rows?.[0] ?? item, column), item]);
    items.sort(([a], [b]) => (a === "" || b === "" ? (a === "") - (b === "") : (up ? 1 : -1) * comparers[kind](a, b)));
    parent.append(...items.map(([, item]) => item));
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
  if (chosen.length) root.querySelectorAll("details").forEach((one) => { one.open = true; });
  for (const item of root.querySelectorAll(".item")) {
    item.hidden = chosen.some(({ name, value }) => name in item.dataset && item.dataset[name] !== value);
  }
  for (const group of groups.reverse()) {
    if (![...group.querySelectorAll(".item")].some(isShown)) group.hidden = true;
  }
  const items = [...root.querySelectorAll(".item")];
  form.querySelector("output").textContent = `${items.filter(isShown).length} of ${items.length} ${form.getAttribute("data-what")}`;
}

const forms = [...document.querySelectorAll("form.filters")];
const selects = forms.flatMap((form) => [...form.querySelectorAll("select")]);

/** Keep what is chosen in the address. */
function note() {
  const chosen = new URLSearchParams(selects.filter((select) => select.value).map(({ name, value }) => [name, value]));
  // A page within another has no address of its own.
  try { history.replaceState(null, "", `#${chosen}`); } catch { /* as it was */ }
}

/** Choose what the address asks for; whatever else it names is a place on the page. */
function restore() {
  const address = new URLSearchParams(location.hash.slice(1));
  for (const select of selects) {
    const value = address.get(select.name) ?? "";
    select.value = [...select.options].some((option) => option.value === value) ? value : "";
  }
  forms.forEach(filter);
}

/** Show or hide rows beneath the one that sums them up. */
function unfold(button, open) {
  button.ariaExpanded = String(open);
  button.closest("tbody").querySelectorAll(".beneath").forEach((row) => { row.hidden = !open; });
}

for (const button of document.querySelectorAll("th[aria-sort] button")) {
  button.addEventListener("click", () => sort(button.closest("table"), button.closest("th")));
}
for (const button of document.querySelectorAll("button.unfold")) {
  button.hidden = false;
  unfold(button, false);
  button.addEventListener("click", () => unfold(button, button.ariaExpanded !== "true"));
}
for (const form of forms) {
  const table = document.getElementById(form.getAttribute("data-for")).querySelector("table");
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", () => { filter(form); note(); });
  form.addEventListener("reset", () => setTimeout(() => { filter(form); note(); }));
  for (const button of form.querySelectorAll("[data-toggle]")) {
    const { toggle } = button.dataset;
    if (toggle === "brief") table.classList.add("brief");
    button.addEventListener("click", () => {
      const on = button.ariaPressed !== "true";
      button.ariaPressed = String(on);
      if (toggle === "brief") table.classList.toggle("brief", !on);
      else table.querySelectorAll("button.unfold").forEach((one) => unfold(one, on));
    });
  }
}
addEventListener("hashchange", restore);
if (matchMedia("(max-width: 640px)").matches) document.querySelectorAll("details.group").forEach((one) => { one.open = false; });
restore();
