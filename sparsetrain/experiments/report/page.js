// Draws the charts, and again when a choice or a filter changes.
"use strict";

const charts = JSON.parse(document.getElementById("charts").textContent);

const common = {
  paper_bgcolor: "rgba(0,0,0,0)",
  plot_bgcolor: "rgba(0,0,0,0)",
  font: { family: "inherit", size: 12 },
  margin: { l: 50, r: 12, t: 12, b: 44 },
  legend: { orientation: "h", traceorder: "normal", y: 1.02, yanchor: "bottom", x: 0 },
  showlegend: true,
};

function choice(key, kind) {
  const control = document.querySelector(`${kind}[data-for="${key}"]`);
  return control ? control.value : "";
}

// The trace without the layers whose names lack `part`.
function filtered(trace, part) {
  if (!part) return trace;
  const kept = trace.y.map((name, i) => (name.includes(part) ? i : -1)).filter((i) => i >= 0);
  const pick = (values) => kept.map((i) => values[i]);
  const result = { ...trace, y: pick(trace.y) };
  if (trace.z) result.z = pick(trace.z);
  else result.x = pick(trace.x);
  return result;
}

// In the width of its section, or in `width` pixels.
function draw(key, width) {
  const chart = charts[key];
  const group = choice(key, "select");
  let data = chart.data.filter((_, i) => {
    const belongs = chart.trace_choices[i];
    return !chart.trace_choices.length || belongs === null || belongs === group;
  });
  let height = chart.layout.height;
  if (chart.layers) {
    const part = choice(key, "input");
    const count = (traces) => new Set(traces.flatMap((trace) => trace.y)).size;
    const of = (name) => chart.data.filter((_, i) => chart.trace_choices[i] === name);
    const most = Math.max(...chart.trace_choices.map((name) => count(of(name)))); // what height is for
    data = data.map((trace) => filtered(trace, part));
    height = Math.max(200, (height * (3 + count(data))) / (3 + most));
  }
  const axis = (own) => ({ automargin: true, ...own });
  const layout = {
    ...common,
    ...chart.layout,
    height,
    width,
    xaxis: axis(chart.layout.xaxis),
    yaxis: axis(chart.layout.yaxis),
  };
  if (data.some((trace) => trace.type === "heatmap")) layout.showlegend = false;
  const options = { responsive: true, displayModeBar: false };
  Plotly.react(`chart-${key}`, structuredClone(data), layout, options);
  for (const row of document.querySelectorAll(`#${key} tr[data-choice]`)) {
    row.hidden = row.dataset.choice !== group;
  }
}

for (const control of document.querySelectorAll("[data-for]")) {
  control.addEventListener("input", () => draw(control.dataset.for));
}
function drawAll(width) {
  for (const key of Object.keys(charts)) draw(key, width);
}
addEventListener("beforeprint", () => drawAll(640)); // within the margins of A4 and of Letter
addEventListener("afterprint", () => drawAll());
drawAll();
