// What answers in a figure: a pointer or the arrow keys find the points of its lines, switches take lines out. The bar
// at the top follows the reader.
"use strict";

const bar = document.querySelector(".stay");
const links = Object.fromEntries([...bar.children].map((link) => [link.hash.slice(1), link]));
const watcher = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      const link = links[target.id];
      if (!isIntersecting) link.removeAttribute("aria-current");
      else {
        link.setAttribute("aria-current", "true");
        bar.scrollLeft = link.offsetLeft - (bar.clientWidth - link.offsetWidth) / 2;
      }
    }
  },
  { rootMargin: "-20% 0px -80% 0px" },
);
for (const part of document.querySelectorAll("#map, section:not(.protocol)")) watcher.observe(part);

for (const plot of document.querySelectorAll(".plot")) {
  const svg = plot.querySelector("svg");
  const canvas = plot.querySelector(".canvas");
  const note = plot.querySelector("output");
  const inputs = [...plot.querySelectorAll("input")];
  const names = inputs.map((input) => input.parentElement.textContent.trim());
  const lines = JSON.parse(plot.querySelector("script").textContent);
  const parts = (line) => svg.querySelectorAll(`[data-line="${line}"]`);
  const on = (line) => !inputs[line] || inputs[line].checked;
  const dot = svg.appendChild(document.createElementNS(svg.namespaceURI, "circle"));
  dot.setAttribute("class", "dot");
  dot.setAttribute("r", 4);
  let at = null; // [index in lines, index of the point]

  function show(found, follow = false) {
    at = found;
    plot.classList.toggle("answering", found !== null);
    for (const part of svg.querySelectorAll(".near")) part.classList.remove("near");
    note.textContent = "";
    if (found === null) return;
    const { line, run, x, y, points } = lines[found[0]];
    const [left, top, ...values] = points[found[1]];
    const number = (value) => value.toLocaleString("en-US", { maximumSignificantDigits: 4 });
    const rows = [names[line], `${x}: ${number(values[0])}`, `${y}: ${number(values[1])}`, run];
    for (const row of rows.filter(Boolean)) note.appendChild(document.createElement("span")).textContent = row;
    for (const part of parts(line)) part.classList.add("near");
    dot.setAttribute("cx", left);
    dot.setAttribute("cy", top);
    const box = canvas.getBoundingClientRect();
    const onScreen = () => new DOMPoint(left, top).matrixTransform(svg.getScreenCTM());
    const off = onScreen().x - box.left - box.width / 2;
    if (follow && Math.abs(off) > box.width / 2 - 12) canvas.scrollLeft += off; // where a picture is wider than a phone
    const place = onScreen();
    const [across, down] = [place.x - box.left, place.y - box.top];
    const fits = Math.max(0, Math.min(across + 12, box.width - note.offsetWidth));
    note.style.left = `${fits + canvas.scrollLeft}px`;
    note.style.top = `${down < box.height / 2 ? down + 12 : down - 12 - note.offsetHeight}px`;
  }

  svg.addEventListener("pointermove", (event) => {
    const pointer = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    let best = null;
    let nearest = 30; // points of the drawing, from which a line answers
    lines.forEach(({ line, points }, i) => {
      if (!on(line)) return;
      points.forEach(([x, y], j) => {
        const distance = Math.hypot(x - pointer.x, y - pointer.y);
        if (distance < nearest) [nearest, best] = [distance, [i, j]];
      });
    });
    show(best);
  });
  svg.addEventListener("pointerleave", () => show(null));
  canvas.addEventListener("blur", () => show(null));
  canvas.addEventListener("keydown", (event) => {
    const seen = lines.map((_, i) => i).filter((i) => on(lines[i].line));
    const steps = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    if (event.key === "Escape") return show(null);
    if (!steps[event.key] || !seen.length) return;
    event.preventDefault();
    if (at === null) return show([seen[0], 0], true);
    const [across, along] = steps[event.key];
    const line = seen[(seen.indexOf(at[0]) + across + seen.length) % seen.length];
    show([line, Math.max(0, Math.min(lines[line].points.length - 1, at[1] + along))], true);
  });

  function switched() {
    show(null);
    inputs.forEach((input, line) => parts(line).forEach((part) => part.classList.toggle("out", !input.checked)));
  }
  for (const input of inputs) {
    input.hidden = false;
    input.addEventListener("change", switched);
  }
  for (const button of plot.querySelectorAll("button")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      for (const input of inputs) input.checked = button.value === "all";
      switched();
    });
  }
  switched(); // a browser may remember switches of the last visit
}
