"use strict";
/* The wiring as a picture on two canvases: one with the edges of a state, one with what is pointed at. */

const LARGE = 40000; // live edges from which on the picture begins with a bundle for each pair of groups
const AT_ONCE = 15000; // edges drawn between two looks at what the reader does
const TOGETHER = 200; // edges in one stroke: longer ones take more time an edge
const MARGIN = {along: 34, across: 16, labels: 40, upright: 64};

const byId = (id) => document.getElementById(id);
const thousands = (n) => n.toLocaleString("en");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

function numbers(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Kind(bytes.buffer);
}

/** A part of the network as typed arrays; nodes are counted through all groups in the order of computation. */
class Part {
  constructor(data) {
    this.title = data.title;
    this.groups = data.groups;
    this.counts = data.counts;
    this.leftOut = data.left_out;
    this.source = numbers(data.source, Uint32Array);
    this.target = numbers(data.target, Uint32Array);
    this.states = numbers(data.states, Uint32Array);
    this.live = numbers(data.live, Uint32Array);
    this.labels = numbers(data.labels, Uint32Array);
    this.slot = numbers(data.slot, Uint32Array);
    const short = numbers(data.weight, Int16Array);
    this.weight = Float32Array.from(short, (w) => w / 32767 * data.scale);
    this.edges = this.source.length;
    this.nodes = this.slot.length;
    this.first = [0];
    for (const group of this.groups) this.first.push(this.first.at(-1) + group.nodes);
    this.group = new Uint16Array(this.nodes);
    this.bySlot = new Uint32Array(this.nodes);
    this.groups.forEach((_, g) => this.group.fill(g, this.first[g], this.first[g + 1]));
    for (let n = 0; n < this.nodes; n++) this.bySlot[this.first[this.group[n]] + this.slot[n]] = n;
    this.into = this.index(this.target);
    this.outOf = this.index(this.source);
    const sizes = Float32Array.from(short, Math.abs).sort();
    this.large = (sizes[Math.floor(sizes.length * 0.98)] || 1) / 32767 * data.scale || 1;
  }

  /** Edges by one of their ends: those of node n are order[start[n]] to order[start[n + 1] - 1]. */
  index(ends) {
    const start = new Uint32Array(this.nodes + 1), order = new Uint32Array(this.edges);
    for (const n of ends) start[n + 1]++;
    for (let n = 0; n < this.nodes; n++) start[n + 1] += start[n];
    const next = start.slice(0, this.nodes);
    for (let e = 0; e < this.edges; e++) order[next[ends[e]]++] = e;
    return {start, order};
  }

  acts(edge, state) { return (this.states[edge] >>> state & 1) === 1; }
  lives(node, state) { return (this.live[node] >>> state & 1) === 1; }
  name(node) { return this.groups[this.group[node]].name + ":" + this.labels[node]; }

  edgesOf(node, index, state) {
    const found = [];
    for (let i = index.start[node]; i < index.start[node + 1]; i++) {
      if (this.acts(index.order[i], state)) found.push(index.order[i]);
    }
    return found.sort((a, b) => Math.abs(this.weight[b]) - Math.abs(this.weight[a]));
  }

  /** For every node the edge of its strongest path (largest product of sizes) from the first group, and to the last. */
  paths(state) {
    const from = new Int32Array(this.nodes).fill(-1), to = new Int32Array(this.nodes).fill(-1);
    const reach = new Float64Array(this.nodes).fill(-Infinity), left = reach.slice();
    for (let n = 0; n < this.first[1]; n++) reach[n] = 0;
    for (let n = this.first[this.groups.length - 1]; n < this.nodes; n++) left[n] = 0;
    const size = (e) => Math.log(Math.abs(this.weight[e]) + 1e-30);
    for (let n = this.first[1]; n < this.nodes; n++) {
      for (let i = this.into.start[n]; i < this.into.start[n + 1]; i++) {
        const e = this.into.order[i], value = reach[this.source[e]] + size(e);
        if (this.acts(e, state) && value > reach[n]) { reach[n] = value; from[n] = e; }
      }
    }
    for (let n = this.first[this.groups.length - 1] - 1; n >= 0; n--) {
      for (let i = this.outOf.start[n]; i < this.outOf.start[n + 1]; i++) {
        const e = this.outOf.order[i], value = left[this.target[e]] + size(e);
        if (this.acts(e, state) && value > left[n]) { left[n] = value; to[n] = e; }
      }
    }
    return {from, to};
  }
}

class WiringPicture {
  constructor(data) {
    this.moments = data.moments;
    this.parts = data.parts;
    this.made = new Map();
    this.edgeCanvas = byId("edges");
    this.overlay = byId("overlay");
    this.view = {scale: 1, x: 0, y: 0};
    this.pointed = this.chosen = -1;
    this.open = new Set();
    this.drawing = 0;
    this.listen();
    this.choosePart(0);
  }

  choosePart(number) {
    if (!this.made.has(number)) this.made.set(number, new Part(this.parts[number]));
    this.part = this.made.get(number);
    this.number = number;
    this.ends = this.parts[number].whole ? ["image", "logits"] : ["input", "output"];
    this.pointed = this.chosen = -1;
    this.open.clear();
    this.view = {scale: 1, x: 0, y: 0};
    byId("every").checked = this.part.counts.at(-1)[1] <= LARGE;
    this.setState(this.moments.length - 1);
    document.dispatchEvent(new Event("part"));
  }

  setState(state) {
    this.state = state;
    byId("state").value = state;
    byId("moment").textContent = this.moments[state];
    this.ways = this.part.paths(state);
    this.degree = new Uint32Array(this.part.nodes);
    const {part} = this;
    for (let e = 0; e < part.edges; e++) {
      if (part.acts(e, state)) { this.degree[part.source[e]]++; this.degree[part.target[e]]++; }
    }
    this.sort();
    this.draw();
    this.tell();
  }

  /** Edges of the state by how they are drawn. */
  sort() {
    const {part, state} = this, signs = byId("signs").value, changes = byId("changes").checked && state > 0;
    const every = byId("every").checked, bins = new Map();
    const put = (key, edge) => bins.has(key) ? bins.get(key).push(edge) : bins.set(key, [edge]);
    let born = 0, gone = 0;
    this.bundles = new Map();
    for (let e = 0; e < part.edges; e++) {
      const now = part.acts(e, state), before = state > 0 ? part.acts(e, state - 1) : now;
      if (now && !before) born++;
      if (!now && before) gone++;
      if (!now && !(changes && before)) continue;
      const weight = part.weight[e];
      if (signs === "positive" && weight < 0 || signs === "negative" && weight > 0) continue;
      const s = part.source[e], t = part.target[e], live = part.lives(s, state) && part.lives(t, state);
      if (!every && !this.open.has(part.group[s]) && !this.open.has(part.group[t])) {
        if (!now || !live) continue;
        const key = part.group[s] * 65536 + part.group[t], bundle = this.bundles.get(key) || [0, 0];
        bundle[weight < 0 ? 1 : 0]++;
        this.bundles.set(key, bundle);
      } else if (changes && now !== before) put(now ? "born" : "gone", e);
      else if (!live) put("idle", e);
      else put((weight < 0 ? "negative" : "positive") + Math.min(3, Math.floor(4 * Math.abs(weight) / part.large)), e);
    }
    this.bins = bins;
    this.born = born;
    this.gone = gone;
  }

  measure() {
    const box = this.overlay.getBoundingClientRect(), ratio = Math.min(2, window.devicePixelRatio || 1);
    this.width = box.width;
    this.height = box.height;
    this.upright = box.width < 600;
    this.margin = this.upright ? MARGIN.upright : MARGIN.labels;
    for (const canvas of [this.edgeCanvas, this.overlay]) {
      if (canvas.width !== Math.round(box.width * ratio) || canvas.height !== Math.round(box.height * ratio)) {
        canvas.width = Math.round(box.width * ratio);
        canvas.height = Math.round(box.height * ratio);
      }
      canvas.getContext("2d", {willReadFrequently: true}).setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    this.along = (this.upright ? this.height : this.width) - 2 * MARGIN.along;
    this.across = (this.upright ? this.width : this.height) - 2 * MARGIN.across - this.margin;
    this.most = Math.max(...this.part.groups.map((group) => group.nodes));
    this.apart = this.part.groups.length > 1 ? this.along / (this.part.groups.length - 1) : 0;
  }

  /** Share of the height that a group takes: short ones are spread out. */
  share(group) { return Math.pow(this.part.groups[group].nodes / this.most, 0.35); }

  place(node) {
    const g = this.part.group[node], count = this.part.groups[g].nodes;
    const a = MARGIN.along + (this.apart ? g * this.apart : this.along / 2);
    const b = MARGIN.across + this.across * (0.5 + ((this.part.slot[node] + 0.5) / count - 0.5) * this.share(g));
    const [x, y] = this.upright ? [b + this.margin, a] : [a, b];
    return [x * this.view.scale + this.view.x, y * this.view.scale + this.view.y];
  }

  /** The node nearest to a point of the canvas, -1 if none is near. */
  nodeAt(x, y, reach) {
    const px = (x - this.view.x) / this.view.scale, py = (y - this.view.y) / this.view.scale;
    const [a, b] = this.upright ? [py, px - this.margin] : [px, py];
    const g = this.apart ? Math.round((a - MARGIN.along) / this.apart) : 0;
    if (g < 0 || g >= this.part.groups.length) return -1;
    const count = this.part.groups[g].nodes;
    const slot = Math.round(((b - MARGIN.across) / this.across - 0.5) / this.share(g) * count + count / 2 - 0.5);
    const node = this.part.bySlot[this.part.first[g] + Math.max(0, Math.min(count - 1, slot))];
    const [nx, ny] = this.place(node);
    return Math.hypot(nx - x, ny - y) <= reach ? node : -1;
  }

  groupAt(x, y) {
    const [a, b] = this.upright ? [y, x] : [x, y];
    const label = this.upright ? b < this.margin : b > this.height - this.margin;
    if (!label || this.view.scale !== 1) return -1;
    const g = this.apart ? Math.round((a - MARGIN.along) / this.apart) : 0;
    return g >= 0 && g < this.part.groups.length ? g : -1;
  }

  curve(context, edge) {
    const [x0, y0] = this.place(this.part.source[edge]), [x1, y1] = this.place(this.part.target[edge]);
    context.moveTo(x0, y0);
    if (this.upright) context.bezierCurveTo(x0, (y0 + y1) / 2, x1, (y0 + y1) / 2, x1, y1);
    else context.bezierCurveTo((x0 + x1) / 2, y0, (x0 + x1) / 2, y1, x1, y1);
  }

  draw() {
    this.measure();
    const context = this.edgeCanvas.getContext("2d"), mine = ++this.drawing;
    context.clearRect(0, 0, this.width, this.height);
    this.drawBundles(context);
    const jobs = this.jobs(), total = jobs.reduce((sum, job) => sum + job.edges.length, 0);
    const strength = Math.min(0.9, Math.max(0.05, 0.9 * Math.sqrt(600 / Math.max(total, 1))));
    let job = 0, drawn = 0;
    const go = () => {
      if (mine !== this.drawing) return;
      for (let room = AT_ONCE; room > 0 && job < jobs.length; job++) {
        const {key, edges} = jobs[job];
        this.style(context, key, strength, total);
        context.beginPath();
        for (const edge of edges) this.curve(context, edge);
        context.stroke();
        room -= edges.length;
        drawn += edges.length;
      }
      context.globalAlpha = 1;
      context.setLineDash([]);
      if (job < jobs.length) requestAnimationFrame(go);
      else { this.drawNodes(context); this.done = mine; this.edgeCanvas.dataset.drawn = drawn; }
      if (!this.shown) { this.shown = performance.now(); document.documentElement.dataset.shown = Math.round(this.shown); }
    };
    delete this.edgeCanvas.dataset.drawn;
    this.drawNodes(context);
    go();
    this.point();
  }

  /** What is drawn, in its order: the weakest edges first, positive and negative ones by turns, none on top of all others. */
  jobs() {
    const jobs = [];
    for (const keys of [["idle"], ["gone"], ...[0, 1, 2, 3].map((size) => ["positive" + size, "negative" + size]), ["born"]]) {
      const most = Math.max(0, ...keys.map((key) => (this.bins.get(key) || []).length));
      for (let at = 0; at < most; at += TOGETHER) {
        for (const key of keys) {
          const edges = (this.bins.get(key) || []).slice(at, at + TOGETHER);
          if (edges.length) jobs.push({key, edges});
        }
      }
    }
    return jobs;
  }

  style(context, key, strength, total) {
    const kind = key.replace(/\d/, ""), size = Number(key.at(-1)) || 0;
    context.strokeStyle = colour(kind);
    context.globalAlpha = kind === "born" || kind === "gone" ? Math.min(0.9, 2 * strength) : kind === "idle"
      ? strength / 2 : Math.min(1, strength * (0.6 + 0.4 * size));
    context.lineWidth = (total < 1500 ? 1.6 : 1) * [0.5, 0.9, 1.4, 2.1][size] + (kind === "born" ? 0.5 : 0);
    context.setLineDash(kind === "gone" ? [2, 3] : kind === "negative" && total < 1500 ? [6, 4] : []);
  }

  drawBundles(context) {
    const most = Math.max(1, ...[...this.bundles.values()].map(([a, b]) => a + b));
    for (const [key, [positive, negative]] of this.bundles) {
      const g = Math.floor(key / 65536), h = key % 65536;
      const middle = (group) => this.place(this.part.bySlot[this.part.first[group]
        + Math.floor(this.part.groups[group].nodes / 2)]);
      const [x0, y0] = middle(g), [x1, y1] = middle(h);
      const bow = (h - g - 1) * (this.across / this.part.groups.length) * 0.9 * this.view.scale;
      const wide = Math.max(1, 34 * Math.sqrt((positive + negative) / most)) * this.view.scale;
      const total = positive + negative;
      [["positive", positive, -1], ["negative", negative, 1]].forEach(([kind, count, side]) => {
        const width = wide * count / total, shift = side * (wide - width) / 2;
        context.beginPath();
        context.strokeStyle = colour(kind);
        context.globalAlpha = 0.45;
        context.lineWidth = width;
        if (this.upright) {
          context.moveTo(x0 + shift, y0);
          context.bezierCurveTo(x0 + shift + bow, (2 * y0 + y1) / 3, x1 + shift + bow, (y0 + 2 * y1) / 3, x1 + shift, y1);
        } else {
          context.moveTo(x0, y0 + shift);
          context.bezierCurveTo((2 * x0 + x1) / 3, y0 + shift - bow, (x0 + 2 * x1) / 3, y1 + shift - bow, x1, y1 + shift);
        }
        context.stroke();
      });
    }
    context.globalAlpha = 1;
  }

  drawNodes(context) {
    const fore = colour("fore"), faint = colour("faint"), back = colour("back");
    for (let n = 0; n < this.part.nodes; n++) {
      const [x, y] = this.place(n), g = this.part.group[n];
      const room = this.across * this.share(g) / this.part.groups[g].nodes * this.view.scale;
      const r = Math.max(1, Math.min(6, 0.55 * room, 1.2 + 0.35 * Math.sqrt(this.degree[n])));
      context.beginPath();
      context.arc(x, y, r, 0, 7);
      if (this.part.lives(n, this.state)) { context.fillStyle = fore; context.fill(); }
      else { context.fillStyle = back; context.fill(); context.strokeStyle = faint; context.lineWidth = 0.9; context.stroke(); }
    }
    if (this.view.scale !== 1) return;
    context.fillStyle = faint;
    context.font = "11px system-ui, sans-serif";
    const step = Math.max(1, Math.ceil((this.upright ? 26 : 52) / Math.max(1, this.apart)));
    this.part.groups.forEach((group, g) => {
      if (g % step && g !== this.part.groups.length - 1) return;
      if (g !== this.part.groups.length - 1 && this.part.groups.length - 1 - g < step && g % step === 0 && g) return;
      let live = 0;
      for (let n = this.part.first[g]; n < this.part.first[g + 1]; n++) live += this.part.lives(n, this.state);
      const a = MARGIN.along + (this.apart ? g * this.apart : this.along / 2);
      const letters = Math.max(6, Math.floor((this.upright ? 62 : Math.max(this.apart * step, 50)) / 6.6));
      const name = group.name.length > letters ? "…" + group.name.slice(1 - letters).replace(/^\./, "") : group.name;
      const many = live === group.nodes ? thousands(live) : thousands(live) + " of " + thousands(group.nodes);
      context.textAlign = this.upright ? "left" : "center";
      if (this.open.has(g)) context.font = "bold 11px system-ui, sans-serif";
      if (this.upright) { context.fillText(name, 4, a - 1); context.fillText(thousands(live), 4, a + 11); }
      else { context.fillText(name, a, this.height - 22); context.fillText(many, a, this.height - 8); }
      context.font = "11px system-ui, sans-serif";
    });
  }

  /** Draw what is pointed at or chosen: its edges, and its paths. */
  point() {
    const context = this.overlay.getContext("2d"), node = this.pointed >= 0 ? this.pointed : this.chosen;
    context.clearRect(0, 0, this.width, this.height);
    this.edgeCanvas.style.opacity = node >= 0 ? 0.35 : 1;
    if (node < 0) return;
    const {part, state} = this;
    for (const e of [...part.edgesOf(node, part.into, state), ...part.edgesOf(node, part.outOf, state)].slice(0, 4000)) {
      const negative = part.weight[e] < 0;
      context.beginPath();
      context.strokeStyle = colour(negative ? "negative" : "positive");
      context.setLineDash(negative ? [6, 4] : []);
      context.lineWidth = 0.8 + 2.4 * Math.min(1, Math.abs(part.weight[e]) / part.large);
      this.curve(context, e);
      context.stroke();
    }
    context.setLineDash([]);
    for (const [width, name] of [[6, "back"], [3, "path"]]) {
      context.strokeStyle = colour(name);
      context.lineWidth = width;
      context.beginPath();
      for (const e of this.way(node)) this.curve(context, e);
      context.stroke();
    }
    const spots = new Set([node, ...this.way(node).flatMap((e) => [part.source[e], part.target[e]])]);
    for (const n of spots) {
      const [x, y] = this.place(n);
      context.beginPath();
      context.arc(x, y, n === node ? 6 : 4, 0, 7);
      context.fillStyle = colour(n === node ? "accent" : "path");
      context.fill();
      context.strokeStyle = colour("back");
      context.lineWidth = 1.5;
      context.stroke();
    }
  }

  /** Edges of the strongest path through a node, from the first group to the last. */
  way(node) {
    const before = [], after = [];
    for (let n = node, e; (e = this.ways.from[n]) >= 0; n = this.part.source[e]) before.unshift(e);
    for (let n = node, e; (e = this.ways.to[n]) >= 0; n = this.part.target[e]) after.push(e);
    return [...before, ...after];
  }

  tell() {
    const {part, state} = this, [acting, live, nodes] = part.counts[state], full = part.groups.filter((g) => g.full);
    const words = [`${thousands(acting)} edges act, ${thousands(live)} of them on a path from the ${this.ends.join(" to the ")}, `
      + `between ${thousands(nodes)} of ${thousands(part.nodes)} nodes (fixed edges included).`];
    if (state > 0) words.push(`${thousands(this.born)} came and ${thousands(this.gone)} went since the snapshot before.`);
    if (full.length) words.push(`Every source feeds every node of ${full.map((g) => g.name).join(", ")}: of those edges `
      + "the strongest of each node are shown.");
    if (part.leftOut) words.push(`${thousands(part.leftOut)} weak or earlier edges are left out of the picture.`);
    if (!byId("every").checked) words.push("Edges are bundled by group: choose a group's name below, or “every edge”, to open them.");
    byId("status").textContent = words.join(" ");
    document.querySelectorAll(".changed").forEach((one) => { one.hidden = !byId("changes").checked || state === 0;
      one.style.display = one.hidden ? "none" : ""; });
    this.tellNode();
  }

  tellNode() {
    const node = this.pointed >= 0 ? this.pointed : this.chosen, panel = byId("node"), {part, state} = this;
    if (node < 0) { if (this.told) panel.replaceChildren(); this.told = ""; return; }
    const given = part.edgesOf(node, part.into, state), taken = part.edgesOf(node, part.outOf, state);
    const list = (edges, end) => edges.slice(0, 6).map((e) => `${part.name(end[e])} (${part.weight[e].toPrecision(2)})`)
      .join(", ") + (edges.length > 6 ? ", …" : "");
    const way = this.way(node), first = way.length ? part.source[way[0]] : node;
    const stops = [first, ...way.map((e) => part.target[e])].map((n) => part.name(n));
    const line = (head, text) => { const p = document.createElement("p"), b = document.createElement("b");
      b.textContent = head + " "; p.append(b, text); return p; };
    const complete = part.group[first] === 0 && part.group[way.length ? part.target[way.at(-1)] : node] === part.groups.length - 1;
    panel.replaceChildren(
      line(part.name(node), part.lives(node, state) ? "live" : "dead: on no path from the " + this.ends.join(" to the ")),
      line(`${thousands(given.length)} edges come in:`, list(given, part.source)),
      line(`${thousands(taken.length)} go out:`, list(taken, part.target)),
      line(complete ? `strongest path from ${this.ends.join(" to ")}:` : "as far as its edges lead:", stops.join(" → ")));
    this.told = part.name(node);
    panel.dataset.node = this.told;
  }

  choose(node) { this.chosen = node; this.pointed = -1; this.point(); this.tellNode(); }

  find(text) {
    const [, group, label] = /^\s*(.*?)\s*[:\s]?\s*(\d*)\s*$/.exec(text), found = [];
    this.part.groups.forEach(({name}, g) => {
      if (!name.toLowerCase().includes(group.replace(/[:\s]+$/, "").toLowerCase())) return;
      for (let n = this.part.first[g]; n < this.part.first[g + 1] && found.length < 12; n++) {
        if (label === "" || String(this.part.labels[n]) === label) found.push(n);
      }
    });
    if (!found.length) { // a group whose own name ends in digits
      this.part.groups.forEach(({name}, g) => { if (name.toLowerCase() === text.trim().toLowerCase()) found.push(this.part.first[g]); });
    }
    return text.trim() ? found : [];
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const scale = Math.max(1, Math.min(60, this.view.scale * factor)), ratio = scale / this.view.scale;
    this.view = scale === 1 ? {scale, x: 0, y: 0} : {scale, x: x - (x - this.view.x) * ratio, y: y - (y - this.view.y) * ratio};
    this.overlay.style.touchAction = scale === 1 ? "pan-y" : "none";
    this.draw();
  }

  listen() {
    const {overlay} = this, spot = (event) => [event.offsetX, event.offsetY];
    const fingers = new Map();
    let held = null;
    overlay.addEventListener("pointermove", (event) => {
      const [x, y] = spot(event);
      if (fingers.has(event.pointerId)) {
        const last = fingers.get(event.pointerId), others = [...fingers].filter(([id]) => id !== event.pointerId);
        fingers.set(event.pointerId, [x, y]);
        if (others.length) {
          const [ox, oy] = others[0][1];
          this.zoom(Math.hypot(x - ox, y - oy) / Math.max(1, Math.hypot(last[0] - ox, last[1] - oy)), (x + ox) / 2, (y + oy) / 2);
        } else if (held && this.view.scale > 1) {
          this.view.x += x - last[0]; this.view.y += y - last[1];
          this.draw();
        }
        return;
      }
      const node = this.nodeAt(x, y, 14);
      if (node === this.pointed) return;
      this.pointed = node;
      overlay.style.cursor = this.groupAt(x, y) >= 0 ? "pointer" : "crosshair";
      this.point();
      this.tellNode();
    });
    overlay.addEventListener("pointerdown", (event) => { held = spot(event); fingers.set(event.pointerId, held); });
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) {
      overlay.addEventListener(name, (event) => {
        fingers.delete(event.pointerId);
        if (name === "pointerleave" && this.pointed >= 0) { this.pointed = -1; this.point(); this.tellNode(); }
      });
    }
    overlay.addEventListener("click", (event) => {
      const [x, y] = spot(event), g = this.groupAt(x, y);
      if (held && Math.hypot(x - held[0], y - held[1]) > 6) return;
      if (g >= 0 && !byId("every").checked) {
        if (!this.open.delete(g)) this.open.add(g);
        this.sort(); this.draw(); this.tell();
      } else this.choose(this.nodeAt(x, y, 22));
    });
    overlay.addEventListener("dblclick", (event) => this.zoom(2, ...spot(event)));
    overlay.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && this.view.scale === 1) return;
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 300), ...spot(event));
    }, {passive: false});
    overlay.addEventListener("keydown", (event) => {
      const node = this.chosen, {part} = this;
      if (event.key === "Escape") this.choose(-1);
      const step = {ArrowUp: -1, ArrowDown: 1}[event.key], hop = {ArrowLeft: -1, ArrowRight: 1}[event.key];
      if (!step && !hop) return;
      event.preventDefault();
      const g = node < 0 ? 0 : part.group[node], to = Math.max(0, Math.min(part.groups.length - 1, g + (node < 0 ? 0 : hop || 0)));
      const count = part.groups[to].nodes, share = node < 0 ? 0.5 : part.slot[node] / part.groups[g].nodes;
      const slot = Math.round(share * count) + (step || 0);
      this.choose(part.bySlot[part.first[to] + Math.max(0, Math.min(count - 1, slot))]);
    });
    const again = () => { this.sort(); this.draw(); this.tell(); };
    for (const id of ["signs", "every", "changes"]) byId(id).addEventListener("change", again);
    byId("state").addEventListener("input", (event) => this.setState(Number(event.target.value)));
    byId("closer").addEventListener("click", () => this.zoom(1.6));
    byId("farther").addEventListener("click", () => this.zoom(1 / 1.6));
    byId("whole").addEventListener("click", () => { this.view = {scale: 1, x: 0, y: 0}; this.zoom(1); });
    byId("part").addEventListener("change", (event) => this.choosePart(Number(event.target.value)));
    byId("search").addEventListener("input", (event) => {
      const found = this.find(event.target.value);
      byId("found").replaceChildren(...found.slice(0, 11).map((node) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = this.part.name(node);
        button.addEventListener("click", () => this.choose(node));
        return button;
      }));
      if (event.target.value.trim() && !found.length) byId("found").textContent = "No node is called that.";
      this.choose(found.length ? found[0] : -1);
    });
    byId("play").addEventListener("click", () => this.play());
    new ResizeObserver(() => {
      const box = overlay.getBoundingClientRect();
      if (this.part && (box.width !== this.width || box.height !== this.height)) this.draw();
    }).observe(byId("stage"));
  }

  play() {
    if (this.playing) { clearInterval(this.playing); this.playing = null; byId("play").textContent = "▶"; return; }
    byId("play").textContent = "❚❚";
    const begin = this.state === this.moments.length - 1 ? 0 : this.state;
    this.setState(begin);
    this.playing = setInterval(() => {
      if (this.state < this.moments.length - 1) this.setState(this.state + 1);
      else this.play();
    }, 900);
  }
}

const page = {data: JSON.parse(byId("data").textContent), wiring: null};
window.page = page;

byId("theme").addEventListener("click", () => {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = root.dataset.theme || (dark ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  document.dispatchEvent(new Event("theme"));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("theme")));
document.addEventListener("theme", () => page.wiring && page.wiring.draw());

if (page.data.parts.length) {
  page.data.parts.forEach((part, i) => byId("part").add(new Option(part.title, i)));
  byId("part-choice").hidden = page.data.parts.length < 2;
  if (page.data.parts.length < 2) byId("part-choice").style.display = "none";
  byId("state").max = page.data.moments.length - 1;
  if (page.data.moments.length < 2) for (const id of ["timeline", "changes-choice"]) byId(id).style.display = "none";
  page.wiring = new WiringPicture(page.data);
}
