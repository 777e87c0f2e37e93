// The demos of play.html: sliders, a drawing in SVG, and a sentence that says what is seen.

const SVG = "http://www.w3.org/2000/svg";

function draw(parent, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

// A demo: `sliders` are [label, values as text, start]; `show(svg, ...indices)` draws and returns the sentence.
function demo(id, title, box, sliders, show) {
  const root = document.getElementById(id), svg = document.createElementNS(SVG, "svg"), words = document.createElement("output");
  svg.setAttribute("viewBox", box);
  svg.setAttribute("role", "img");
  words.setAttribute("aria-live", "polite");
  const inputs = sliders.map(([label, values, start], i) => {
    const row = document.createElement("label"), name = document.createElement("span"), input = document.createElement("input");
    const value = document.createElement("output");
    name.textContent = label;
    Object.assign(input, { type: "range", min: 0, max: values.length - 1, step: 1, value: start });
    input.id = `${id}-${i}`;
    input.addEventListener("input", update);
    row.append(name, input, value);
    root.append(row);
    return { input, value, values };
  });
  root.append(svg, words);
  function update() {
    svg.textContent = "";
    for (const { input, value, values } of inputs) {
      value.textContent = values[input.value];
      input.setAttribute("aria-valuetext", values[input.value]);
    }
    words.textContent = show(svg, ...inputs.map(({ input }) => Number(input.value)));
    svg.setAttribute("aria-label", `${title}. ${words.textContent}`);
  }
  update();
}

const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
const signs = (text) => text.replaceAll("-", "−");
const share = (x) => (x < 0.001 ? "below 0.1 %" : `${(100 * x).toFixed(1)} %`);
const normal = (x, m, s) => Math.exp(-((x - m) ** 2) / (2 * s * s)) / (s * Math.sqrt(2 * Math.PI));

// A frame with two axes; returns functions from values to places.
function frame(svg, left, width, [x0, x1], [y0, y1], xlabel, title, ticks) {
  const [top, bottom] = [24, 220], X = (x) => left + ((x - x0) / (x1 - x0)) * width, Y = (y) => bottom - ((y - y0) / (y1 - y0)) * (bottom - top);
  draw(svg, "path", { class: "axis", d: `M${left} ${top}V${bottom}H${left + width}` });
  for (const x of ticks[0]) draw(svg, "text", { x: X(x), y: bottom + 16, "text-anchor": "middle" }, signs(String(x)));
  for (const y of ticks[1]) draw(svg, "text", { x: left - 6, y: Y(y) + 4, "text-anchor": "end" }, signs(String(y)));
  draw(svg, "text", { x: left + width / 2, y: bottom + 34, "text-anchor": "middle" }, xlabel);
  draw(svg, "text", { x: left + width / 2, y: 14, "text-anchor": "middle" }, title);
  return [X, Y];
}

function gaussians({ sequences, flow, target }) {
  const taus = sequences.map(({ tau }) => `τ = ${tau}`), times = flow.t.map((t) => `t = ${t.toFixed(2)}`);
  demo("demo-gaussians", "JKO sequence and flow of a Gaussian", "0 0 640 262", [["step size", taus, 5], ["time", times, 20]], (svg, i, j) => {
    const { tau, m, s, kl } = sequences[i], t = flow.t[j], k = Math.min(Math.floor(t / tau + 1e-9), m.length - 1);
    let [X, Y] = frame(svg, 36, 270, [0, 4], [-2.2, 1.4], "time t = k τ", "mean", [[0, 1, 2, 3, 4], [-2, -1, 0, 1]]);
    draw(svg, "path", { class: "flow", d: path(flow.t.map((u, n) => [X(u), Y(flow.m[n])])) });
    draw(svg, "path", { class: "law", d: path(m.map((y, n) => [X(n * tau), Y(y)])) });
    m.forEach((y, n) => draw(svg, "circle", { class: "dot", cx: X(n * tau), cy: Y(y), r: n === k ? 6 : 3 }));
    draw(svg, "path", { class: "target", d: `M${X(t)} 24V220` });
    [X, Y] = frame(svg, 356, 270, [-4, 4], [0, 1.05], "x", "densities", [[-4, -2, 0, 2, 4], [0, 0.5, 1]]);
    const xs = Array.from({ length: 161 }, (_, n) => -4 + n / 20), curve = (a, b) => path(xs.map((x) => [X(x), Y(Math.min(normal(x, a, b), 1.05))]));
    draw(svg, "path", { class: "target", d: curve(...target) });
    draw(svg, "path", { class: "flow", d: curve(flow.m[j], flow.s[j]) });
    draw(svg, "path", { class: "law", d: curve(m[k], s[k]) });
    return signs(`After ${k} ${k === 1 ? "step" : "steps"} of τ = ${tau}, at t = ${(k * tau).toFixed(2)}: mean ${m[k].toFixed(2)}, KL ${kl[k].toFixed(3)}. `
      + `The flow at t = ${t.toFixed(2)}: mean ${flow.m[j].toFixed(2)}, KL ${flow.kl[j].toFixed(3)}. Dashed: left the time, right the target.`);
  });
}

function modes({ centres, laws }) {
  const taus = laws.map(({ tau }) => `τ = ${tau}`), schemes = [...laws[0].jko.map((_, k) => `JKO, k = ${k + 1}`), "UOTM"];
  demo("demo-modes", "Masses of the 25 modes", "0 0 640 340", [["step size", taus, 3], ["scheme", schemes, 0]], (svg, i, k) => {
    const law = laws[i], w = k < law.jko.length ? law.jko[k] : law.uotm, at = (j) => 320 + (centres[j] / 6) * 135, up = (j) => 170 - (centres[j] / 6) * 135;
    w.forEach((a, p) => w.forEach((b, q) => {
      const mass = a * b, due = 1 / w.length ** 2, place = { cx: at(p), cy: up(q) };
      draw(svg, "circle", { class: mass < due / 10 ? "off" : "quiet", ...place, r: 14 });
      draw(svg, "circle", { class: "dot", ...place, r: Math.min(14 * Math.sqrt(mass / due), 60), "fill-opacity": 0.75 });
    }));
    return `${schemes[k]}, τ = ${law.tau}: ${law.found[k]} of 25 modes found. The centre holds ${share(w[2] ** 2)}, a corner ${share(w[0] ** 2)}; `
      + `equal shares are 4 %. Total variation to equal shares: ${law.tv[k].toFixed(2)}.`;
  });
}

function batches({ points, x, y, temperatures, sizes, fields }) {
  const regs = temperatures.map((reg) => `ε = ${reg}`), texts = sizes.map((size) => `B = ${size}`);
  demo("demo-batches", "Sinkhorn field of all points and its mean over batches", "0 0 640 340", [["temperature", regs, 1], ["batch", texts, 0]], (svg, i, j) => {
    const X = (u) => 320 + 125 * u, Y = (u) => 170 - 125 * u, of = fields[i].batches[j];
    y.forEach(([a, b]) => draw(svg, "circle", { cx: X(a), cy: Y(b), r: 2, "fill-opacity": 0.35 }));
    const arrow = (name, [a, b], [u, v]) => draw(svg, "path", { class: name, d: path([[X(a), Y(b)], [X(a + u / 2), Y(b + v / 2)]]) });
    x.forEach((at, n) => {
      arrow("flow", at, fields[i].all[n]);
      arrow("law", at, of.mean[n]);
      draw(svg, "circle", { class: "dot", cx: X(at[0]), cy: Y(at[1]), r: 2.5 });
    });
    return `Temperature ${temperatures[i]}, batches of ${sizes[j]} out of ${points}: bias ${of.bias.toFixed(2)}, noise ${of.noise.toFixed(2)}, `
      + `relative to the field of all points. Drawn: ${x.length} of them.`;
  });
}

gaussians(DEMOS.gaussians);
modes(DEMOS.modes);
batches(DEMOS.batches);
