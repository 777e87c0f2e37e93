// Tables: a view of some rows and columns, sorted by a click on a heading, found by a word.
// Without JavaScript, and in print, all of a table is there.

const number = (text) => {
  const found = text.replaceAll("−", "-").replaceAll("∞", "Infinity").match(/^[<>≤≥]?\s*(-?(?:Infinity|[\d.]+(?:e-?\d+)?))/);
  return found ? Number(found[1]) : NaN;
};

function order(a, b, up) {
  const [x, y] = [number(a), number(b)];
  if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1; // what is no number comes last
  return (isNaN(x) ? a.localeCompare(b, undefined, { numeric: true }) : x - y) * (up ? 1 : -1);
}

function button(text, press) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", press);
  return made;
}

function table(box) {
  const body = box.querySelector("tbody"), heads = [...box.querySelectorAll("thead th")], rows = [...body.rows];
  const [most, wide] = [Number(box.dataset.rows), Number(box.dataset.columns)];
  const tools = document.createElement("div");
  tools.className = "tools";
  const view = () => [...body.rows].filter((row) => !row.classList.contains("out")).forEach((row, i) => row.classList.toggle("more", i >= most));

  heads.forEach((head, i) => {
    const name = head.textContent;
    head.textContent = "";
    head.append(button(name, () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...[...body.rows].sort((a, b) => order(a.cells[i].textContent, b.cells[i].textContent, up)));
      view();
    }));
    if (i >= wide) [head, ...rows.map((row) => row.cells[i])].forEach((cell) => cell.classList.add("wide"));
  });

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
      rows.forEach((row) => row.classList.toggle("out", !words.every((word) => row.textContent.toLowerCase().includes(word))));
      view();
    });
    tools.append(input);
  }
  if (rows.length > most) toggle("rows", `All ${rows.length} rows`, `${most} rows`);
  if (heads.length > wide) toggle("columns", `All ${heads.length} columns`, `${wide} columns`);
  if (tools.childElementCount) box.before(tools);
  view();
}

document.querySelectorAll(".grid").forEach(table);

// What scrolls sideways is reached with the keyboard.
addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  document.querySelectorAll("pre, mjx-container, div.math, .table-wrapper, .output").forEach((entry) => {
    if (entry.scrollWidth > entry.clientWidth + 1) entry.tabIndex = 0;
  });
});

// Headings of the navigation have a level for screen readers.
document.querySelectorAll('.caption[role="heading"]').forEach((head) => head.setAttribute("aria-level", "2"));

// What is collapsed is printed too.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((entry) => (entry.open = true)));
