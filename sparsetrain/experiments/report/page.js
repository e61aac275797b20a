// Draws the charts of the report page, and redraws one when its menu or filter changes.
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

// The value of a section's control: kind is "select" (menu) or "input" (filter by layer).
function controlValue(key, kind) {
  const control = document.querySelector(`${kind}[data-for="${key}"]`);
  return control ? control.value : "";
}

// Returns the trace with only the layers whose names contain `part`.
function filtered(trace, part) {
  if (!part) return trace;
  const kept = trace.y.map((name, i) => (name.includes(part) ? i : -1)).filter((i) => i >= 0);
  const pick = (values) => kept.map((i) => values[i]);
  const result = { ...trace, y: pick(trace.y) };
  if (trace.z) result.z = pick(trace.z);
  else result.x = pick(trace.x);
  return result;
}

// Draws a section's chart and filters its table. Without `width` (pixels) it fills the section.
function draw(key, width) {
  const chart = charts[key];
  const selected = controlValue(key, "select");
  let data = chart.data.filter((_, i) => {
    const belongs = chart.trace_choices[i];
    return !chart.trace_choices.length || belongs === null || belongs === selected;
  });
  let height = chart.layout.height;
  if (chart.layers) {
    const part = controlValue(key, "input");
    const count = (traces) => new Set(traces.flatMap((trace) => trace.y)).size;
    const tracesOf = (choice) => chart.data.filter((_, i) => chart.trace_choices[i] === choice);
    // The chart's height fits the choice with the most layers. Legend and axis need six more rows.
    const most = Math.max(...chart.trace_choices.map((choice) => count(tracesOf(choice))));
    data = data.map((trace) => filtered(trace, part));
    height = Math.max(200, (height * (6 + count(data))) / (6 + most));
  }
  const axis = (options) => ({ automargin: true, ...options });
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
    row.hidden = row.dataset.choice !== selected;
  }
}

for (const control of document.querySelectorAll("[data-for]")) {
  control.addEventListener("input", () => draw(control.dataset.for));
}
function drawAll(width) {
  for (const key of Object.keys(charts)) draw(key, width);
}
addEventListener("beforeprint", () => drawAll(640)); // fits on A4 and Letter paper
addEventListener("afterprint", () => drawAll());
drawAll();
