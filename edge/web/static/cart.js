// Draws how the cart has been, from the samples that the monitor keeps.
"use strict";

const HEIGHT = 170;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function plot(box, at, values) {
  const axis = {
    stroke: colour("--quiet"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line"), width: 1 },
    font: "12px system-ui, sans-serif",
    size: 48,
  };
  const format = new Intl.NumberFormat(document.documentElement.lang, { notation: "compact" });
  const options = {
    width: box.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, drag: { x: true, y: false } },
    scales: { x: { time: true }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), Math.max(high ?? 1, 1) * 1.08] } },
    axes: [{ ...axis, size: 48 }, { ...axis, values: (_, ticks) => ticks.map((tick) => format.format(tick)) }],
    series: [{}, { stroke: colour("--negative"), width: 2, points: { show: at.length < 60, size: 4 }, spanGaps: false }],
  };
  const made = new uPlot(options, [at, values], box);
  new ResizeObserver(() => made.setSize({ width: box.clientWidth, height: HEIGHT })).observe(box);
}

async function draw() {
  const plots = document.querySelector(".plots");
  const answer = await fetch(plots.dataset.source);
  if (!answer.ok) return;
  const columns = await answer.json();
  for (const box of plots.querySelectorAll(".plot")) {
    const values = columns[box.dataset.column];
    if (values.some((value) => value !== null)) plot(box, columns.at, values);
    else box.textContent = plots.dataset.none;
  }
}

draw();
