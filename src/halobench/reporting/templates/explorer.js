const ALL = "all";
const POINTS = { train: "training points", evaluation: "evaluation points", heldout: "held-out points" };
const SPLITS = { train: "training points", val: "validation points", test: "test points" };
const byId = (id) => document.getElementById(id);
const choices = byId("choices");
const walk = byId("walk");
let data = null;
let rows = null; // of the chosen data set, by table

/** The data, unpacked. */
async function unpack() {
  const bytes = Uint8Array.from(atob(byId("data").textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

/** A table by columns as a list of rows; of a large grid only those that are wanted, which `keep` selects by number. */
function unfolded(columns, keep = () => true) {
  const names = Object.keys(columns);
  const read = names.map((name) => {
    const column = columns[name];
    return Array.isArray(column) ? (i) => number(column[i]) : (i) => column.names[column.codes[i]];
  });
  const first = columns[names[0]];
  const count = Array.isArray(first) ? first.length : first.codes.length;
  const kept = Array.from({ length: count }, (_, i) => i).filter(keep);
  return kept.map((i) => Object.fromEntries(names.map((name, j) => [name, read[j](i)])));
}

const number = (value) => (value === null ? NaN : value === "inf" ? Infinity : value === "-inf" ? -Infinity : value);
const unique = (values) => [...new Set(values)];

/** Three decimals, or two significant digits of what is too small or large for them. */
function valueText(value) {
  if (Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
  const size = Math.abs(value);
  return size && (size < 0.0005 || size >= 1e5) ? value.toPrecision(2) : value.toFixed(3);
}

const withInterval = (row) => valueText(row.value) + (Number.isNaN(row.low) ? "" : ` [${valueText(row.low)},\u00a0${valueText(row.high)}]`);
const experiment = () => data.experiments[chosen("experiment")];
const chosen = (name) => (choices.elements[name] || walk.elements[name]).value;
const word = (kind, name) => (experiment().labels[kind] || {})[name] || name;
const metricName = (name) => data.metrics[name] || name;
const judged = (name) => data.judged[name] || name;
const counted = (many, what, plural = `${what}s`) => `${many} ${many === 1 ? what : plural}`;
const cellOf = (row) => experiment().cells[row.cell];

/** Fill a select, keeping what was chosen where it is still there, or else choosing `first`. */
function fill(select, values, words, all = "", first = "") {
  const kept = values.includes(select.value) || (all && select.value === ALL);
  const before = kept ? select.value : first;
  const options = (all ? [[ALL, all]] : []).concat(values.map((value) => [value, words(value)]));
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  if (options.some(([value]) => value === before)) select.value = before;
}

const inOrder = (kind, there) => experiment().order[kind].filter((name) => there.has(name));

/** The experiment was chosen: offer its data sets. */
function openExperiment() {
  const current = experiment();
  fill(choices.elements.dataset, current.order.dataset, (name) => word("dataset", name), "", current.opens);
  const cells = current.cells.length;
  const seeds = unique(current.cells.map((cell) => cell.seed)).length;
  const losses = current.order.loss.filter((name) => name !== data.no_loss).length;
  byId("summary").textContent = `${counted(cells, "cell")}: ${counted(current.order.dataset.length, "data set")}, ${counted(current.order.model.length, "model")}, ` +
    `${counted(losses, "loss", "losses")}, up to ${counted(seeds, "seed")}. Bars, lines and ±: means over seeds with their ${data.over_seeds}. ` +
    `Brackets, of single cells: ${data.over_samples}.` + (data.notes[chosen("experiment")] ? ` Not all: ${data.notes[chosen("experiment")]}.` : "");
  document.querySelector(".site b span").textContent = chosen("experiment");
  document.querySelector(".site a[aria-current]").setAttribute("href", `#experiment=${encodeURIComponent(chosen("experiment"))}`);
  for (const link of document.querySelectorAll(".site a[href*='/']")) {
    link.setAttribute("href", link.getAttribute("href").replace(/[^/]+(\/[^/]+)$/, `${encodeURIComponent(chosen("experiment"))}$1`));
  }
  openDataset();
}

/** The data set was chosen: unfold its part of the tables, and offer the models, losses and labels that it has. */
function openDataset() {
  const current = experiment();
  const cells = current.cells.filter((cell) => cell.dataset === chosen("dataset"));
  const own = (columns) => unfolded(columns, (i) => current.cells[columns.cell[i]].dataset === chosen("dataset"));
  rows = { metrics: own(current.metrics), curves: own(current.curves), radii: own(current.radii), reliability: own(current.reliability) };
  rows.references = unfolded(current.references);
  const here = rows.metrics;
  fill(choices.elements.model, inOrder("model", new Set(cells.map((c) => c.model))), (n) => word("model", n), "all models");
  fill(choices.elements.loss, inOrder("loss", new Set(cells.map((c) => c.loss))), (n) => word("loss", n), "all losses");
  fill(choices.elements.calibrator, inOrder("calibrator", new Set(here.map((r) => r.calibrator))), (n) => word("calibrator", n), "all calibrations", "exact");
  const scores = unique(here.map((row) => row.metric));
  const known = Object.keys(data.metrics).filter((name) => scores.includes(name));
  fill(choices.elements.metric, known.concat(scores.filter((name) => !data.metrics[name])), metricName, "", "nll");
  const labels = Object.keys(data.judged).filter((name) => here.some((row) => row.labels === name));
  fill(choices.elements.labels, labels, judged);
  const probed = rows.curves.concat(rows.radii);
  fill(walk.elements.probe, inOrder("probe", new Set(probed.map((r) => r.probe))), (name) => word("probe", name));
  fill(walk.elements.points, unique(probed.map((row) => row.points)), (name) => POINTS[name] || name);
  draw();
}

/** Whether a cell is among those chosen. */
function isChosen(cell) {
  const fits = (name) => chosen(name) === ALL || chosen(name) === cell[name];
  return cell.dataset === chosen("dataset") && fits("model") && fits("loss");
}

/** Mean, and half the t interval, of numbers, one per seed; it is wider if the data set's seeds share samples. */
function summary(values) {
  const finite = values.filter(Number.isFinite);
  const mean = finite.reduce((a, b) => a + b, 0) / finite.length;
  if (finite.length < 2) return { mean, half: NaN, n: finite.length };
  const variance = finite.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (finite.length - 1);
  const t = data.t[Math.min(finite.length - 2, data.t.length - 1)];
  const correction = experiment().corrections[chosen("dataset")] || 0;
  return { mean, half: t * Math.sqrt(variance * (1 / finite.length + correction)), n: finite.length };
}

/** Groups of rows by a key, in the order of the figures: by model, then by loss. */
function grouped(list, key) {
  const groups = new Map();
  for (const row of list) {
    const name = key(row);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(row);
  }
  return groups;
}

const line = (row) => `${cellOf(row).model}\u0000${cellOf(row).loss}`;

function lineName(row) {
  const cell = cellOf(row);
  const loss = word("loss", cell.loss);
  return chosen("model") === ALL ? `${word("model", cell.model)}, ${loss}` : loss;
}

function sorted(list) {
  const order = experiment().order;
  const rank = (row) => order.model.indexOf(cellOf(row).model) * 1000 + order.loss.indexOf(cellOf(row).loss);
  return [...list].sort((a, b) => rank(a) - rank(b));
}

const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
const STROKES = { solid: "none", dash: "9 5", dot: "3 3", dashdot: "9 4 3 4", longdash: "14 6", longdashdot: "14 4 3 4" };
const dashOf = (model) => DASHES[experiment().order.model.indexOf(model) % DASHES.length];
const dash = (row) => dashOf(cellOf(row).model);
const color = (row) => shade(data.colors[cellOf(row).loss] || "#555555");

/** A colour of the page's style as it is now, light or dark. */
function paint(name) {
  byId("paint").style.color = `var(--${name})`;
  return getComputedStyle(byId("paint")).color;
}

/** A colour of figures; on a dark ground greys are turned round, and the darker another is, the more white is mixed in. */
function shade(hex) {
  if (!isDark()) return hex;
  const parts = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255);
  if (Math.max(...parts) - Math.min(...parts) < 0.05) return `rgb(${parts.map((part) => Math.round(245 - 200 * part)).join(", ")})`;
  const white = Math.max(0, 0.6 - (0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]));
  return `rgb(${parts.map((part) => Math.round(255 * (part + (1 - part) * white))).join(", ")})`;
}

const layout = () => ({
  font: { family: "system-ui, sans-serif", size: 13, color: paint("ink") }, margin: MARGIN,
  paper_bgcolor: paint("ground"), plot_bgcolor: paint("ground"), hovermode: "closest",
  legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
});
const MARGIN = { l: 60, r: 10, t: 10, b: 50 };
const axis = () => ({ gridcolor: paint("faint"), zerolinecolor: paint("line"), linecolor: paint("line"), automargin: true });
const NARROW = 500; // pixels; below, titles are broken and names of bars stand upright
const CONFIG = { displayModeBar: false, responsive: true };

let opened = null; // the cell whose card is open

const isNarrow = (id) => byId(id).clientWidth < NARROW;

/** Draw traces, and let a click on a point open its cell's card. */
function plot(id, traces, more) {
  const element = byId(id);
  Plotly.react(element, traces, { ...layout(), ...more }, CONFIG);
  element.removeAllListeners("plotly_click");
  element.on("plotly_click", (event) => {
    const cell = event.points.map((point) => point.customdata).find((value) => Number.isInteger(value));
    if (cell !== undefined) openCard(cell);
  });
}

/** The rows of the metrics table that the choices ask for. */
function scoreRows() {
  const shown = rows.metrics.filter((row) => isChosen(cellOf(row)) && row.metric === chosen("metric") &&
    row.labels === chosen("labels") && (chosen("calibrator") === ALL || row.calibrator === chosen("calibrator")));
  return sorted(shown);
}

/** How far from its bar's middle a cell's point is: seeds side by side, so that none hides another. */
function aside(row, width) {
  const seeds = unique(experiment().cells.map((cell) => cell.seed)).sort((a, b) => a - b);
  return ((seeds.indexOf(cellOf(row).seed) + 0.5) / seeds.length - 0.5) * 0.7 * width;
}

/** A calibrator's bars, and the cells on them: places along the axis of names, and values. */
function scoreTraces(scores, lines, calibrator, width, offset) {
  const groups = [...grouped(scores, lineName)];
  const means = groups.map(([, list]) => summary(list.map((row) => row.value)));
  const upright = !isNarrow("scores");
  const at = (places, values) => (upright ? { x: places, y: values } : { x: values, y: places });
  // A mean over a part of the seeds is no match for those over all: it says so, and is drawn faint.
  const part = groups.map(([, list], i) => means[i].n < list.length);
  const halves = means.map((m, i) => (part[i] ? NaN : m.half));
  // No score is below 0, and no interval of one.
  const error = { array: halves, arrayminus: halves.map((half, i) => Math.min(half, means[i].mean)), symmetric: false, color: paint("ink"), thickness: 1.2, width: 3 };
  const name = word("calibrator", calibrator);
  return [{
    type: "bar", name, legendgroup: calibrator, orientation: upright ? "v" : "h", width: width * 0.92,
    ...at(groups.map(([line]) => lines.indexOf(line) + offset), means.map((m) => (m.n ? m.mean : 0))), [upright ? "error_y" : "error_x"]: error,
    marker: { color: shade(data.calibrations[calibrator] || "#9aa0a6"), opacity: part.map((is) => (is ? 0.35 : 1)) }, hoverinfo: "text",
    hovertext: groups.map(([line, list], i) => `${line}, ${name}: ` + (means[i].n ? `${valueText(means[i].mean)}${means[i].n > 1 ? ` ± ${valueText(means[i].half)}` : ""}` : "no finite value") + ` (${means[i].n} of ${list.length} seeds)`),
  }, {
    type: "scatter", mode: "markers", showlegend: false, legendgroup: calibrator, customdata: scores.map((row) => row.cell),
    ...at(scores.map((row) => lines.indexOf(lineName(row)) + offset + aside(row, width)), scores.map((row) => row.value)),
    marker: { color: paint("ground"), line: { color: paint("ink"), width: 1.2 }, size: 8 }, hoverinfo: "text",
    hovertext: scores.map((row) => `${cellOf(row).name}, ${name}: ${withInterval(row)}`),
  }, {
    type: "scatter", mode: "text", showlegend: false, legendgroup: calibrator, hoverinfo: "skip", cliponaxis: false,
    ...at(groups.map(([line]) => lines.indexOf(line) + offset), groups.map(([, list]) => Math.max(0, ...list.map((row) => row.value).filter(Number.isFinite)))),
    text: groups.map(([, list], i) => (part[i] ? `${means[i].n}/${list.length}` : "")), textposition: upright ? "top center" : "middle right", textfont: { size: 11 },
  }];
}

/** How the bars' axes and the lines of reference predictors lie: upright, or on a phone lying. */
function scoreLayout(lines, calibrators, floor) {
  const upright = !isNarrow("scores");
  const names = {
    ...axis(), tickvals: lines.map((_, i) => i), ticktext: lines.map((name) => name.replace(", ", ",<br>")), showgrid: false, zeroline: false,
    range: upright ? [-0.6, lines.length - 0.4] : [lines.length - 0.4, -0.6],
  };
  const values = { ...axis(), title: { text: metricName(chosen("metric")) }, rangemode: "tozero" };
  const ruler = { color: paint("quiet"), width: 1, dash: "dot" };
  const label = { showarrow: false, font: { size: 11, color: paint("quiet") } };
  const across = (one) => (upright ? { xref: "paper", x0: 0, x1: 1, y0: one.value, y1: one.value } : { yref: "paper", y0: 0, y1: 1, x0: one.value, x1: one.value });
  const nextTo = (one, i) => (upright ? { xref: "paper", x: 1.005, xanchor: "left", y: one.value } : { yref: "paper", y: -0.02, yanchor: "top", x: one.value, yshift: -60 - 14 * i });
  const height = upright ? 380 : 180 + lines.length * Math.max(34, 15 * calibrators.length) + 14 * floor.length;
  return {
    barmode: "overlay", height, xaxis: upright ? names : values, yaxis: upright ? values : names,
    margin: { ...MARGIN, r: upright && floor.length ? 110 : 10, b: upright ? 50 : 75 + 14 * floor.length },
    shapes: floor.map((one) => ({ type: "line", line: ruler, ...across(one) })),
    annotations: floor.map((one, i) => ({ ...label, text: one.name, ...nextTo(one, i) })),
  };
}

function drawScores() {
  const shown = scoreRows();
  const lines = unique(shown.map(lineName));
  const calibrators = inOrder("calibrator", new Set(shown.map((row) => row.calibrator)));
  const width = 0.8 / Math.max(calibrators.length, 1);
  const traces = calibrators.flatMap((calibrator, place) => scoreTraces(
    shown.filter((row) => row.calibrator === calibrator), lines, calibrator, width, (place - (calibrators.length - 1) / 2) * width,
  ));
  const { floor, beyond } = references(shown);
  plot("scores", traces, scoreLayout(lines, calibrators, floor));
  const absent = shown.filter((row) => !Number.isFinite(row.value)).length;
  byId("scores-note").textContent = `Means over seeds on test points, judged by ${judged(chosen("labels"))}; circles are cells, with their ${data.over_samples} in brackets.` +
    beyond.map((one) => ` Beyond the axis: ${one.name}, ${valueText(one.value)}.`).join("") +
    (absent ? ` ${absent} of ${shown.length} values are not finite, or have no finite optimum; 2/3 over a faint bar means that it averages two of three seeds.` : "");
}

/** What predictors that need no training score, the posterior and a uniform guess: those near the bars, and others. */
function references(bars) {
  const ofDataset = rows.references.filter((row) => row.dataset === chosen("dataset") && row.metric === chosen("metric") &&
    row.labels === chosen("labels") && row.calibrator === "none" && ["bayes", "uniform"].includes(row.model));
  const means = [...grouped(ofDataset, (row) => row.model)].map(([model, list]) => ({ name: data.references[model], value: summary(list.map((row) => row.value)).mean }))
    .filter((one) => Number.isFinite(one.value));
  const most = 1.5 * Math.max(...bars.map((row) => row.value).filter(Number.isFinite), 0);
  return { floor: means.filter((one) => one.value <= most), beyond: means.filter((one) => one.value > most) };
}

/** What colours and dashes mean, for both panels of lines. */
function drawLegend() {
  const cells = experiment().cells.filter(isChosen);
  const present = (kind) => inOrder(kind, new Set(cells.map((cell) => cell[kind])));
  const sample = (text, stroke, dashes) => {
    const item = element("li");
    item.innerHTML = `<svg width="34" height="10" aria-hidden="true"><line x1="1" y1="5" x2="33" y2="5" stroke="${stroke}" stroke-width="3" stroke-dasharray="${dashes}"/></svg>`;
    item.append(text);
    return item;
  };
  const losses = present("loss").map((loss) => sample(word("loss", loss), shade(data.colors[loss] || "#555555"), "none"));
  const models = present("model").map((model) => sample(word("model", model), paint("quiet"), STROKES[dashOf(model)]));
  byId("legend").replaceChildren(...losses, ...models);
}

/** Shares of points around which certainty reaches some distances, as rows like those of the curves. */
function survivalRows() {
  const calibrator = chosen("calibrator") === "exact" ? "exact" : "none";
  return rows.radii.filter((row) => row.calibrator === calibrator).flatMap((row) =>
    data.survival.map((distance) => ({ ...row, survival: distance, confidence: row[`survival_${distance}`] })));
}

/** The line of a model and loss, and the dots of its cells. */
const lineOf = (list, x, y, more = {}) => ({
  type: "scatter", mode: "lines", name: lineName(list[0]), legendgroup: line(list[0]), x, y, line: { color: color(list[0]), width: 2.5, dash: dash(list[0]) }, hoverinfo: "skip", ...more,
});
const dotsOf = (list, x, y, marker, words) => ({
  type: "scatter", mode: "markers", showlegend: false, legendgroup: line(list[0]), x: list.map((row) => row[x]), y: list.map((row) => row[y]), customdata: list.map((row) => row.cell),
  marker: { color: color(list[0]), ...marker }, hovertext: list.map((row) => `${cellOf(row).name}: ${words(row)}`), hoverinfo: "text",
});

function drawCurves() {
  const scale = chosen("scale");
  const reach = scale === "survival";
  const shown = sorted((reach ? survivalRows() : rows.curves).filter((row) => isChosen(cellOf(row)) && row.probe === chosen("probe") &&
    row.points === chosen("points") && !Number.isNaN(row[scale])));
  const traces = [];
  for (const [, list] of grouped(shown, line)) {
    const at = [...grouped(list, (row) => row[scale])].sort((a, b) => a[0] - b[0]);
    const means = at.map(([, same]) => summary(same.map((row) => row.confidence)));
    const error_y = { array: means.map((m) => m.half), color: color(list[0]), thickness: 0.8, width: 0 };
    traces.push(lineOf(list, at.map(([distance]) => distance), means.map((m) => m.mean), { error_y }));
    traces.push(dotsOf(list, scale, "confidence", { size: 5, opacity: 0.6 }, (row) => `${valueText(row.confidence)} at ${valueText(row[scale])}`));
  }
  const gap = isNarrow("curves") ? "<br>" : " ";
  const x = scale === "radius" ? "distance (normalised inputs)" : `distance / distance to nearest${gap}training point of another label`;
  const y = reach ? "share of points still certain" : `confidence in${gap}the point's label`;
  plot("curves", traces, { showlegend: false, xaxis: { ...axis(), type: reach ? "log" : "linear", title: { text: x } }, yaxis: { ...axis(), title: { text: y }, range: [0, 1.02] } });
  const what = reach ? `Share of points around which certainty reaches this far, ${word("calibrator", chosen("calibrator") === "exact" ? "exact" : "none")}.` : "How sure models are of a point's own label, by distance from it.";
  byId("curves-note").textContent = shown.length ? `${what} Lines are means over seeds; dots are cells.` : "No probe data for this selection: attacks and certificates yield only the distance that certainty reaches.";
  walk.hidden = rows.curves.length + rows.radii.length === 0;
}

function drawReliability() {
  const calibrator = chosen("calibrator") === ALL ? "none" : chosen("calibrator");
  const shown = sorted(rows.reliability.filter((row) => isChosen(cellOf(row)) && row.labels === chosen("labels") && row.calibrator === calibrator));
  const traces = [{ type: "scatter", mode: "lines", x: [0, 1], y: [0, 1], line: { color: paint("edge"), width: 1, dash: "dot" }, hoverinfo: "skip", showlegend: false }];
  for (const [, list] of grouped(shown, line)) {
    const bins = [...grouped(list, (row) => row.bin)].sort((a, b) => a[0] - b[0]).map(([, same]) => {
      const count = same.reduce((sum, row) => sum + row.count, 0);
      const mean = (name) => same.reduce((sum, row) => sum + row.count * row[name], 0) / count;
      return { count, confidence: mean("confidence"), accuracy: mean("accuracy") };
    }).filter((bin) => bin.count >= data.few);
    traces.push(lineOf(list, bins.map((b) => b.confidence), bins.map((b) => b.accuracy)));
    const marks = { opacity: list.map((row) => (row.count < data.few ? 0.15 : 0.6)), size: list.map((row) => 3 + Math.min(9, Math.sqrt(row.count) / 2)) };
    traces.push(dotsOf(list, "confidence", "accuracy", marks, (row) => `${valueText(row.accuracy)} right at confidence ${valueText(row.confidence)}, ${row.count} points`));
  }
  plot("reliability", traces, { showlegend: false, xaxis: { ...axis(), title: { text: "confidence" }, range: [0, 1.02] }, yaxis: { ...axis(), title: { text: "accuracy" }, range: [0, 1.02] } });
  byId("reliability-note").textContent = `Calibration: ${word("calibrator", calibrator)}. Lines pool the seeds and skip bins of fewer than ${data.few} points; dots are cells, larger for bins with more points. Below the diagonal, the model is overconfident.`;
}

/** An element with text or children. */
function element(tag, content, attributes = {}) {
  const node = document.createElement(tag);
  if (Array.isArray(content)) node.append(...content);
  else if (content !== undefined) node.textContent = content;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function table(heads, body) {
  const head = element("thead", [element("tr", heads.map((text) => element("th", text, { scope: "col" })))]);
  const entry = (cell, i) => element("td", cell instanceof Node ? [cell] : cell, { "data-label": heads[i] });
  return element("table", [head, element("tbody", body.map((cells) => element("tr", cells.map(entry))))], { class: "stacks" });
}

/** A table of names and values. */
function pairs(list) {
  return element("table", [element("tbody", list.map(([name, value]) => element("tr", [element("th", name, { scope: "row" }), element("td", value)])))], { class: "pairs" });
}

function drawCells() {
  const groups = [...grouped(scoreRows(), (row) => row.cell)].map(([cell, list]) => {
    const button = element("button", experiment().cells[cell].name, { type: "button" });
    button.addEventListener("click", () => openCard(cell));
    return [[button], list];
  });
  const cells = calibrationTable(["Cell"], groups, withInterval, (name) => `${metricName(chosen("metric"))}, ${name}`);
  cells.id = "cells";
  byId("cells").replaceWith(cells);
}

/** Logarithmic where losses span more than a factor of ten. */
function lossAxis(losses) {
  const [least, most] = [Math.min(...losses), Math.max(...losses)];
  return least > 0 && most > 10 * least ? { type: "log", dtick: 1, exponentformat: "power" } : { type: "linear", rangemode: "tozero" };
}

/** A table with a column per calibration, headed by `head`, and a row per group: what begins it, and its rows' `text`. */
function calibrationTable(heads, groups, text, head = (name) => name) {
  const calibrators = inOrder("calibrator", new Set(groups.flatMap(([, list]) => list.map((row) => row.calibrator))));
  const lines = groups.map(([begins, list]) => [...begins, ...calibrators.map((calibrator) => {
    const row = list.find((one) => one.calibrator === calibrator);
    return row ? text(row) : "–";
  })]);
  return table([...heads, ...calibrators.map((name) => head(word("calibrator", name)))], lines);
}

/** Tables of a cell's test metrics for each kind of label. */
function metricTables(scores) {
  return [...grouped(scores, (row) => row.labels)].flatMap(([labels, list]) => {
    const groups = [...grouped(list, (row) => row.metric)].map(([metric, same]) => [[metricName(metric)], same]);
    return [element("h3", `Test metrics, ${judged(labels)} (brackets: ${data.over_samples})`),
      scrolling(`Metrics, ${judged(labels)}`, calibrationTable(["Metric"], groups, withInterval))];
  });
}

/** How far a cell's certainty reaches, by probe; empty if it wasn't probed. */
function radiusTables(radii) {
  const rank = ([row]) => experiment().order.probe.indexOf(row.probe);
  const kinds = [...grouped(radii, (row) => `${row.probe}\u0000${row.points}`).values()].sort((a, b) => rank(a) - rank(b));
  const groups = kinds.map((list) => [[word("probe", list[0].probe), POINTS[list[0].points] || list[0].points], list]);
  const text = (row) => (row.censored > 0.5 ? "≥ " : "") + withInterval({ value: row.relative_median, low: row.relative_q25, high: row.relative_q75 });
  return radii.length ? [element("h3", "How far certainty reaches (median; brackets: quartiles over points; 1 is the nearest other label)"),
    scrolling("Radii", calibrationTable(["Probe", "Around"], groups, text))] : [];
}

/** What may be wider than the dialog scrolls by itself, by the keyboard too. */
const scrolling = (name, content) => element("div", [content], { class: "scroll", tabindex: "0", role: "region", "aria-label": name });

/** A cell's temperatures. */
function fitTable(fits) {
  const lines = fits.map((fit) => [word("calibrator", fit.calibrator), `${SPLITS[fit.split] || fit.split}, ${judged(fit.labels)}`, fit.temperature, valueText(number(fit.nll)), valueText(number(fit.gradient)), fit.certificate]);
  return table(["Calibration", "fitted to", "T", "NLL there", "gradient", "optimum?"], lines);
}

/** All that is known of a cell of the chosen experiment. */
function openCard(index) {
  const { metrics, radii, cells } = experiment();
  const cell = cells[index];
  const ofCell = (columns) => unfolded(columns, (i) => columns.cell[i] === index);
  const parts = [...metricTables(ofCell(metrics)), ...radiusTables(ofCell(radii))];
  if (cell.fits.length) parts.push(element("h3", "Temperatures"), scrolling("Temperatures", fitTable(cell.fits)));
  if (cell.history.length > 1) parts.push(element("h3", "Training loss"), element("div", undefined, { id: "history", class: "plot", role: "group", "aria-label": "Training loss by epoch" }));
  parts.push(element("h3", "Provenance"), pairs(cell.facts), element("h3", "Spec"), pairs(cell.spec));
  parts.push(element("h3", "Commands to reproduce"), element("pre", cell.commands.join("\n"), { tabindex: "0" }));
  const words = ["dataset", "model", "loss"].map((kind) => word(kind, cell[kind]));
  byId("card-title").textContent = cell.name;
  byId("card-body").replaceChildren(element("p", `${words.join(" · ")} · seed ${cell.seed}`), ...parts);
  if (!byId("card").open) byId("card").showModal();
  byId("card").scrollTop = 0;
  opened = cell.name;
  note();
  if (cell.history.length > 1) {
    const [x, y] = [0, 1].map((i) => cell.history.map((point) => point[i]));
    Plotly.react(byId("history"), [{ type: "scatter", mode: "lines", x, y, line: { color: paint("link") } }],
      { ...layout(), height: 240, xaxis: { ...axis(), title: { text: "epoch" } }, yaxis: { ...axis(), ...lossAxis(y), title: { text: "training loss" } } }, CONFIG);
  }
}

/** Keep in the address what is chosen and what the dialog shows. */
function note() {
  const state = new URLSearchParams([...new FormData(choices), ...new FormData(walk), ...(opened ? [["cell", opened]] : [])]);
  history.replaceState(null, "", `#${state}`);
}

function draw() {
  drawScores();
  drawLegend();
  const panel = byId("curves").closest("section"); // it is there while it is drawn, so that its plot fills it
  panel.hidden = false;
  drawCurves();
  panel.hidden = walk.hidden;
  drawReliability();
  byId("reliability").closest("section").hidden = !rows.reliability.length; // published tables have no bins
  drawCells();
  note();
}

/** Choose what the address asks for; a cell names its data set. */
function restore() {
  const address = new URLSearchParams(location.hash.slice(1));
  const set = (form, ...names) => names.forEach((name) => {
    const select = form.elements[name];
    if ([...select.options].some((option) => option.value === address.get(name))) select.value = address.get(name);
  });
  set(choices, "experiment");
  openExperiment();
  const cell = experiment().cells.findIndex((one) => one.name === address.get("cell"));
  if (cell >= 0) choices.elements.dataset.value = experiment().cells[cell].dataset;
  set(choices, "dataset");
  openDataset();
  set(choices, "model", "loss", "calibrator", "metric", "labels");
  set(walk, "probe", "points", "scale");
  draw();
  if (cell >= 0) openCard(cell);
  else if (byId("card").open) byId("card").close();
}

async function start() {
  data = await unpack();
  fill(choices.elements.experiment, Object.keys(data.experiments), (name) => name);
  const address = location.hash;
  choices.addEventListener("change", (event) => {
    if (event.target.name === "experiment") openExperiment();
    else if (event.target.name === "dataset") openDataset();
    else draw();
  });
  walk.addEventListener("change", draw);
  byId("card").addEventListener("click", (event) => { if (event.target === byId("card")) byId("card").close(); });
  byId("card").addEventListener("close", () => { opened = null; note(); });
  if (address) history.replaceState(null, "", address);
  window.addEventListener("hashchange", restore);
  window.addEventListener("theme", draw);
  restore();
  document.body.dataset.ready = "true";
}

start();
