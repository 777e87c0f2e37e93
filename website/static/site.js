// Tables: a view of some rows and columns, sorted by a click on a heading, found by a word.
// Without JavaScript, and in print, all of a table is there.

const number = (text) => {
  const found = text.replaceAll("−", "-").replaceAll("∞", "Infinity").match(/^[<>≤≥+]?\s*(-?(?:Infinity|[\d.]+(?:e-?\d+)?))/);
  return found ? Number(found[1]) : NaN;
};
const missing = (text) => /^\s*(|–|none|nan)\s*$/i.test(text);

// What is missing comes last, up and down; a column of numbers goes by their values, words by the alphabet.
function order(a, b, up, numbers) {
  const [x, y] = numbers ? [number(a), number(b)] : [NaN, NaN], [p, q] = numbers ? [isNaN(x), isNaN(y)] : [missing(a), missing(b)];
  if (p !== q) return p ? 1 : -1;
  return (isNaN(x) ? a.localeCompare(b, undefined, { numeric: true }) : x - y) * (up ? 1 : -1);
}

function button(text, press) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", press);
  return made;
}

function table(entry) {
  const box = entry.closest(".grid") ?? entry, body = entry.tBodies[0], heads = [...entry.tHead.rows[0].cells], rows = [...body.rows];
  const [most, wide] = [Number(box.dataset.rows ?? Infinity), Number(box.dataset.columns ?? Infinity)];
  const tools = document.createElement("div"), found = document.createElement("span");
  tools.className = "tools";
  found.setAttribute("role", "status");
  const view = () => {
    const left = [...body.rows].filter((row) => !row.classList.contains("out"));
    left.forEach((row, i) => row.classList.toggle("more", i >= most));
    found.textContent = left.length === rows.length ? "" : left.length ? `${left.length} of ${rows.length} rows` : "No row has these words.";
  };

  heads.forEach((head, i) => {
    const texts = rows.map((row) => row.cells[i].textContent), some = texts.filter((text) => !missing(text));
    const numbers = some.every((text) => !isNaN(number(text))) || head.classList.contains("number"), inside = [...head.childNodes];
    if (!head.textContent.trim() || rows.length < 2) return;
    const press = button("", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...[...body.rows].sort((a, b) => order(a.cells[i].textContent, b.cells[i].textContent, up, numbers)));
      view();
    });
    press.append(...inside);
    head.append(press);
  });
  heads.forEach((head, i) => i >= wide && [head, ...rows.map((row) => row.cells[i])].forEach((cell) => cell.classList.add("wide")));

  const toggle = (name, all, few) => {
    const made = button(all, () => {
      const on = box.classList.toggle(name);
      made.textContent = on ? few : all;
      made.setAttribute("aria-expanded", on);
    });
    made.setAttribute("aria-expanded", "false");
    tools.append(made);
  };
  if (box.dataset.find) {
    const input = document.createElement("input");
    input.type = "search";
    input.placeholder = input.ariaLabel = box.dataset.find;
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/);
      const text = (row) => `${row.textContent} ${row.dataset.words ?? ""}`.toLowerCase();
      rows.forEach((row) => row.classList.toggle("out", !words.every((word) => text(row).includes(word))));
      view();
    });
    tools.append(input, found);
  }
  if (rows.length > most) toggle("rows", `All ${rows.length} rows`, `${most} rows`);
  if (heads.length > wide) toggle("columns", `All ${heads.length} columns`, `${wide} columns`);
  if (tools.childElementCount) box.before(tools);
  view();
}

// Those of notebooks too, if each cell has a column.
document.querySelectorAll("article table").forEach((entry) => {
  const lines = [...(entry.tHead?.rows ?? []), ...(entry.tBodies[0]?.rows ?? [])], cells = lines.flatMap((line) => [...line.cells]);
  const plain = entry.tHead?.rows.length === 1 && new Set(lines.map((line) => line.cells.length)).size === 1;
  if (plain && cells.every((cell) => cell.colSpan === 1 && cell.rowSpan === 1)) table(entry);
});

// What scrolls sideways is reached with the keyboard.
addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  document.querySelectorAll("pre, mjx-container, div.math, .table-wrapper, .output").forEach((entry) => {
    if (entry.scrollWidth > entry.clientWidth + 1) entry.tabIndex = 0;
  });
});

// Headings of the navigation have a level for screen readers.
document.querySelectorAll('.caption[role="heading"]').forEach((head) => head.setAttribute("aria-level", "2"));

// The bibliography's entries stand in links, not in a list.
document.querySelectorAll('.citation-list[role="list"]').forEach((list) => list.removeAttribute("role"));
document.querySelectorAll('.citation[role="listitem"]').forEach((entry) => entry.removeAttribute("role"));

// What is collapsed is printed too.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((entry) => (entry.open = true));
});
addEventListener("afterprint", () => opened.forEach((entry) => (entry.open = false)));
