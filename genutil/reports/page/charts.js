"use strict";
/* Curves, distributions and comparisons, drawn by plotly. */

const DASHES = ["solid", "dash", "dot", "dashdot"];

const CONFIG = {responsive: true, displaylogo: false, displayModeBar: window.innerWidth < 640 ? false : "hover",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"]};

function layout(over) {
  const fore = colour("fore"), line = colour("line");
  const axis = {gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true};
  const {xaxis, yaxis, ...rest} = over;
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: {l: 54, r: 14, t: 36, b: 44},
    font: {color: fore, family: "system-ui, sans-serif", size: 12}, colorway: palette(),
    legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0}, hoverlabel: {font: {family: "system-ui, sans-serif"}},
    modebar: {bgcolor: "rgba(0,0,0,0)", color: colour("faint"), activecolor: fore},
    xaxis: {...axis, ...xaxis}, yaxis: {...axis, ...yaxis}, ...rest,
  };
}

const palette = () => ["positive", "negative", "born", "gone", "faint"].map(colour);

function chart(id, traces, over) {
  const place = byId(id);
  if (!place) return;
  const show = () => Plotly.react(place, traces(), layout(over), CONFIG);
  show();
  document.addEventListener("theme", show);
}

function curves(id, columns, title, over) {
  const {curve} = page.data, x = curve.step.map((step, i) => step / page.data.steps_per_epoch);
  const there = columns.filter(([key]) => curve[key]);
  if (!there.length) { byId(id)?.remove(); return; }
  const few = x.length < 3;
  chart(id, () => there.map(([key, name], i) => ({x, y: curve[key], name, mode: few ? "lines+markers" : "lines",
    line: {dash: DASHES[i], width: 2, color: palette()[i]}})),
  {showlegend: there.length > 1, xaxis: {title: {text: "epoch"}, rangemode: "tozero"}, yaxis: {title: {text: title}}, ...over});
}

/** Bars of counts from x0 on; nothing where there is no more than one bar. */
function bars(id, counts, title, x0) {
  const place = byId(id), there = counts.some(([, values]) => values.length > 1);
  place.style.display = there ? "" : "none";
  if (!there) return;
  const traces = counts.map(([name, values], i) => ({type: "bar", name, y: values, x: values.map((_, k) => k + x0),
    marker: {color: palette()[i], pattern: {shape: i ? "/" : "", fillmode: "overlay", fgcolor: colour("back")}}}));
  Plotly.react(place, traces, layout({barmode: "group", bargap: 0.15, showlegend: counts.length > 1,
    xaxis: {title: {text: title}}, yaxis: {title: {text: "number"}}}), CONFIG);
}

/** Of the part that the picture shows. */
function distributions() {
  if (!page.wiring) return;
  const part = page.data.parts[page.wiring.number];
  byId("distributions").textContent = page.data.parts.length > 1 ? part.title : "";
  bars("degrees", [["edges in", part.degrees_in], ["edges out", part.degrees_out]], "live edges of a live node", 0);
  bars("lengths", [["edges", part.lengths]], "groups between the ends of a live edge", 1);
}

/** A network in the plane of accuracy over a cost; symbols tell the kind of wiring, colours the data set. */
function standing(id, key, title) {
  const rows = page.data.standing;
  if (!rows.length) return;
  const symbols = {learned: "circle", random: "x", fixed: "square"};
  const groups = new Map();
  for (const row of rows) {
    const name = row.origin === "this run" ? "this run" : `${row.kind}, ${row.data} (${row.origin})`;
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(row);
  }
  const sets = [...new Set(rows.map((row) => row.data))];
  const traces = () => [...groups].map(([name, found]) => {
    const own = name === "this run";
    return {name, mode: "markers", x: found.map((row) => row[key]), y: found.map((row) => row.top1),
      text: found.map((row) => `${row.name} on ${row.data}`), hovertemplate: "%{text}<br>%{x:.4s}, %{y:.2f} %<extra></extra>",
      marker: {symbol: own ? "star" : symbols[found[0].kind] + (found[0].origin === "published" ? "-open" : ""),
        size: own ? 18 : 10, color: own ? colour("negative") : ["positive", "born", "gone", "faint", "idle"].map(colour)[sets.indexOf(found[0].data) % 5],
        line: {width: own ? 1.5 : 2, color: own ? colour("fore") : undefined}}};
  });
  chart(id, traces, {xaxis: {type: "log", title: {text: title}}, yaxis: {title: {text: "top-1, %"}},
    legend: {orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0}, margin: {l: 54, r: 14, t: 14, b: 150}});
}

if (page.data.curve.step) {
  curves("curve-loss", [["train_loss", "training"], ["loss", "validation"]], "loss, nats", {});
  curves("curve-top1", [["train_top1", "training"], ["top1", "validation"]], "top-1, %", {});
  curves("curve-lr", [["lr", "learning rate"]], "learning rate", {});
  curves("curve-swapped", [["edges_swapped", "edges swapped"]], "edges swapped since the validation before", {yaxis: {title: {text: "edges swapped"}, rangemode: "tozero"}});
  curves("curve-live", [["live_nodes", "live nodes"]], "live nodes", {yaxis: {title: {text: "live nodes"}, rangemode: "tozero"}});
}
distributions();
for (const change of ["part", "theme"]) document.addEventListener(change, distributions);
standing("standing-operations", "multiply_adds", "multiply-adds of one image");
standing("standing-parameters", "parameters", "parameters");
document.documentElement.dataset.charts = "drawn";
