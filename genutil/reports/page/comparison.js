"use strict";
/* Runs in the plane of any two quantities, and in a table. */

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const root = document.documentElement;
const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
const KINDS = {learned: ["circle", "positive"], random: ["x", "negative"], fixed: ["square", "born"]};
const MOST_NAMED = 12;
const quantity = Object.fromEntries(data.quantities.map((one) => [one.key, one]));

function rows() {
  return byId("means").checked ? data.means : data.runs;
}

function plain(value, digits) {
  const rounded = Number(value.toPrecision(digits));
  return Number.isInteger(value) || Math.abs(value) >= 10 ** digits ? Math.round(value).toLocaleString("en") : String(rounded);
}

function number(value, spread) {
  if (value === undefined || value === null) return "";
  return spread ? `${plain(value, 5)} ± ${plain(spread, 2)}` : plain(value, 5);
}

function bars(found, key) {
  return {type: "data", visible: true, thickness: 1, width: 4, array: found.map((run) => run.spread[key] || 0)};
}

/* Names stand on that side of their point on which there is more room. */
function sides(found, x) {
  const scale = byId("x-log").checked ? Math.log : Number, all = rows().filter((run) => x in run.figures).map((run) => scale(run.figures[x]));
  const middle = (Math.min(...all) + Math.max(...all)) / 2;
  return found.map((run) => scale(run.figures[x]) > middle ? "top left" : "top right");
}

function draw() {
  const x = byId("x").value, y = byId("y").value;
  const shown = rows().filter((run) => x in run.figures && y in run.figures);
  const missing = rows().filter((run) => !shown.includes(run)).map((run) => run.name);
  byId("left-out").textContent = missing.length ? `${missing.join(", ")}.` : "none.";
  const traces = [];
  for (const [kind, [symbol, name]] of Object.entries(KINDS)) {
    const found = shown.filter((run) => run.kind === kind);
    if (!found.length) continue;
    traces.push({name: `${kind} wiring`, mode: shown.length > MOST_NAMED ? "markers" : "markers+text", textposition: sides(found, x), cliponaxis: false,
      x: found.map((run) => run.figures[x]), y: found.map((run) => run.figures[y]),
      error_x: bars(found, x), error_y: bars(found, y),
      text: found.map((run) => run.name), customdata: found.map((run) => `${run.name}<br>${quantity[x].title}: ${number(run.figures[x], run.spread[x])}<br>` +
        `${quantity[y].title}: ${number(run.figures[y], run.spread[y])}<br>on ${run.measured_on} images`),
      hovertemplate: "%{customdata}<extra></extra>",
      marker: {symbol: found.map((run) => symbol + (run.measured_on === "test" || symbol === "x" ? "" : "-open")), size: 12,
        color: colour(name), line: {width: 1.5, color: colour(name)}}});
  }
  const axis = (key) => ({title: {text: quantity[key].title}, gridcolor: colour("line"), zerolinecolor: colour("line"),
    automargin: true, type: byId(`${key === x ? "x" : "y"}-log`).checked ? "log" : "linear"});
  const axes = {xaxis: axis(x), yaxis: {...axis(y), type: byId("y-log").checked ? "log" : "linear"}};
  Plotly.react("plane", traces, {...axes, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: {color: colour("fore"), family: "system-ui, sans-serif", size: 13}, margin: {l: 60, r: 16, t: 36, b: 50}, showlegend: true,
    modebar: {bgcolor: "rgba(0,0,0,0)", color: colour("faint"), activecolor: colour("fore")},
    legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0}, hovermode: "closest"},
  {responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"]});
  root.dataset.drawn = `${x} ${y} ${shown.length}`;
}

let order = null, down = false;

function table() {
  const keys = ["name", "kind", "measured_on"], figures = data.quantities.map((one) => one.key);
  const value = (run, key) => key in run ? run[key] : run.figures[key];
  const found = [...rows()];
  if (order) {
    const rank = (run) => { const v = value(run, order); return v === undefined ? null : v; };
    found.sort((a, b) => {
      const [p, q] = [rank(a), rank(b)];
      if (p === null || q === null) return (p === null) - (q === null);
      return (p < q ? -1 : p > q ? 1 : 0) * (down ? -1 : 1);
    });
  }
  const place = byId("figures");
  place.replaceChildren();
  const head = place.createTHead().insertRow();
  for (const key of [...keys, ...figures]) {
    const cell = document.createElement("th"), button = document.createElement("button");
    button.textContent = {name: "run", kind: "wiring", measured_on: "images"}[key] || quantity[key].title;
    button.onclick = () => { down = order === key && !down; order = key; table(); };
    if (order === key) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
    cell.append(button);
    head.append(cell);
  }
  const body = place.createTBody();
  for (const run of found) {
    const row = body.insertRow();
    for (const key of keys) row.insertCell().textContent = run[key];
    for (const key of figures) row.insertCell().textContent = number(run.figures[key], run.spread[key]);
  }
}

function choose(id, chosen) {
  const place = byId(id), log = byId(`${id}-log`);
  for (const one of data.quantities) place.add(new Option(one.title, one.key, false, one.key === chosen));
  log.checked = quantity[place.value].log;
  place.onchange = () => { log.checked = quantity[place.value].log; draw(); };
  log.onchange = draw;
}

byId("means").checked = data.means.length < data.runs.length;
byId("means-label").hidden = data.means.length === data.runs.length;
byId("means").onchange = () => { draw(); table(); };
byId("theme").onclick = () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  draw();
};
choose("x", data.x);
choose("y", data.y);
draw();
table();
