"use strict";
// Reading needs none of this: click a column's head to sort by it; printing opens every folded table.
document.querySelectorAll("table").forEach((table) => {
  if (table.querySelector("tr.group")) return;
  table.querySelectorAll("thead th").forEach((head, column) => {
    head.classList.add("sortable");
    head.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      table.querySelectorAll("thead th").forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => {
        const text = row.cells[column] ? row.cells[column].textContent.trim() : "";
        const number = parseFloat(text.replace(/\u2212/g, "-").replace(/,/g, ""));
        return Number.isNaN(number) ? text.toLowerCase() : number;
      };
      const compare = (a, b) => {
        const x = value(a), y = value(b);
        if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
        return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
      };
      [...table.tBodies[0].rows].sort(compare).forEach((row) => table.tBodies[0].append(row));
    });
  });
});
window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => (each.open = true)));
