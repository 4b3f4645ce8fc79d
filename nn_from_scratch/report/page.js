"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  heads.forEach((head, column) => {
    head.firstElementChild.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = down ? -1 : 1;
      const rows = [...body.rows];
      rows.sort((a, b) => {
        const [x, y] = [key(a, column), key(b, column)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const [m, n] = [Number(x), Number(y)];
        return sign * (Number.isNaN(m) || Number.isNaN(n) ? x.localeCompare(y) : m - n);
      });
      body.append(...rows);
    });
  });
}
// A shell line breaks between its words alone: a lonely hyphen at the end of a line misleads.
for (const code of document.querySelectorAll("code, .commands")) {
  const parts = code.textContent.split(/(\s+)/).map((word, place) => {
    if (place % 2) return word;
    const span = document.createElement("span");
    span.textContent = word;
    return span;
  });
  code.replaceChildren(...parts);
}
