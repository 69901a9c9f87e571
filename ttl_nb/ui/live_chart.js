// The live chart: curves of one or several runs on one canvas, fed by small binary messages (see live_chart.py for the format).

const LC_MARKERS = ["circle", "square", "triangle", "diamond", "down", "bar"];
const LC_DASHES = [[], [7, 3], [2, 2.5], [9, 3, 2, 3], [4, 2], [12, 3]];
const LC_STAGES = Object.keys(TTL_STAGE_COLOURS), LC_GROUPS = [0b000111, 0b011000, 0b100000];
const LC_KEEP = .9;  // share of the past in the smoothed training loss: about the last ten batches

// ---- Numbers --------------------------------------------------------------------------------------------------------------

// Numbers that are only appended, with the least, the greatest and the mean of each block of 64: a picture costs the same however many
class LcColumn {
  constructor() { this.n = 0; this.v = new Float64Array(256); this.lo = []; this.hi = []; this.sum = []; this.many = []; }
  push(x) {
    if (this.n === this.v.length) { const more = new Float64Array(2 * this.n); more.set(this.v); this.v = more; }
    const b = this.n >> 6;
    if (!(this.n & 63)) { this.lo[b] = Infinity; this.hi[b] = -Infinity; this.sum[b] = 0; this.many[b] = 0; }
    if (x < this.lo[b]) this.lo[b] = x;
    if (x > this.hi[b]) this.hi[b] = x;
    if (Number.isFinite(x)) { this.sum[b] += x; this.many[b]++; }
    this.v[this.n++] = x;
  }
  at(i) { return this.v[i]; }
  get last() { return this.n ? this.v[this.n - 1] : NaN; }
  // The first index whose value is at least x (values must rise)
  find(x) { let a = 0, b = this.n; while (a < b) { const m = (a + b) >> 1; if (this.v[m] < x) a = m + 1; else b = m; } return a; }
  // Least and greatest of [a, b)
  range(a, b) {
    let lo = Infinity, hi = -Infinity, i = a;
    const see = x => { if (x < lo) lo = x; if (x > hi) hi = x; };
    for (; i < b && i & 63; i++) see(this.v[i]);
    for (; i + 64 <= b; i += 64) { if (this.lo[i >> 6] < lo) lo = this.lo[i >> 6]; if (this.hi[i >> 6] > hi) hi = this.hi[i >> 6]; }
    for (; i < b; i++) see(this.v[i]);
    return [lo, hi];
  }
}

// The same numbers, of which a picture shows the mean of each pixel column instead of its extremes
class LcMeans {
  constructor(column) { this.c = column; }
  at(i) { return this.c.v[i]; }
  range(a, b) {
    let sum = 0, many = 0, i = a;
    const c = this.c, see = x => { if (Number.isFinite(x)) { sum += x; many++; } };
    for (; i < b && i & 63; i++) see(c.v[i]);
    for (; i + 64 <= b; i += 64) { sum += c.sum[i >> 6]; many += c.many[i >> 6]; }
    for (; i < b; i++) see(c.v[i]);
    return many ? [sum / many, sum / many] : [Infinity, -Infinity];
  }
}

// What is known of one run
class LcRun {
  constructor(slot, name, order) {
    Object.assign(this, {slot, name, order, shown: true});
    this.clear();
  }
  clear() {
    for (const k of ["step", "loss", "smooth", "lr", "mom", "vstep", "vloss", "vauc", "rlr", "rloss", "rsmooth"]) this[k] = new LcColumn();
    Object.assign(this, {phases: [], shares: [], suggestions: [], bad: 0, firstBad: null, mean: 0, weight: 0});
  }
  add(kind, e) {
    if (kind === "batch") {
      if (Number.isFinite(e.loss)) { this.mean = LC_KEEP * this.mean + (1 - LC_KEEP) * e.loss; this.weight = LC_KEEP * this.weight + 1 - LC_KEEP; }
      else { this.bad++; this.firstBad ??= e.step; }
      this.step.push(e.step); this.loss.push(e.loss); this.lr.push(e.lr); this.mom.push(e.mom);
      this.smooth.push(Number.isFinite(e.loss) ? this.mean / this.weight : NaN);
    } else if (kind === "valid") { this.vstep.push(e.step); this.vloss.push(e.loss); this.vauc.push(e.auc); if (!Number.isFinite(e.loss)) this.badValid = true; }
    else if (kind === "phase") this.phases.push(e);
    else if (kind === "shares") this.shares.push({i: this.step.n, values: e});
    else if (kind === "rate") { this.rlr.push(e.lr); this.rloss.push(e.loss); this.rsmooth.push(e.smooth); }
    else if (kind === "suggestion") this.suggestions.push(e);
  }
  get end() { return Math.max(this.step.n ? this.step.last + 1 : 0, this.vstep.n ? this.vstep.last : 0); }
  get empty() { return !this.step.n && !this.vstep.n && !this.rlr.n; }
  get hasAuc() { return this.vauc.n > 0 && Number.isFinite(this.vauc.range(0, this.vauc.n)[0]); }
  sharesAt(i) { let found = [1]; for (const s of this.shares) if (s.i <= i) found = s.values; return found; }
  learningAt(step) { let found = 0b111111; for (const p of this.phases) if (p.step <= step) found = p.mask; return found; }
}

// Read a stream of records: `call(slot, seconds, kind, values)` for each. State (`at`) goes on from message to message.
function lcDecode(view, at, call) {
  let i = 0;
  const f = () => { const x = view.getFloat32(i, true); i += 4; return x; }, u8 = () => view.getUint8(i++);
  const u32 = () => { const x = view.getUint32(i, true); i += 4; return x; };
  while (i < view.byteLength) {
    const run = at.runs[at.slot] ??= {step: 0};
    switch (u8()) {
      case 0: at.slot = u8(); break;
      case 1: { run.step += u8(); const loss = f(), lr = f(), m = view.getUint16(i, true); i += 2;
                call(at.slot, at.t, "batch", {step: run.step, loss, lr, mom: m === 65535 ? NaN : m / 65534}); break; }
      case 2: run.step = u32(); break;
      case 3: { const values = Array.from({length: u8()}, f); call(at.slot, at.t, "shares", values); break; }
      case 4: { const step = u32(), loss = f(), auc = f(); call(at.slot, at.t, "valid", {step, loss, auc}); break; }
      case 5: { const step = u32(), mask = u8(); call(at.slot, at.t, "phase", {step, mask}); break; }
      case 6: { const lr = f(), loss = f(), smooth = f(); call(at.slot, at.t, "rate", {lr, loss, smooth}); break; }
      case 7: { const lr = f(), n = u8(), text = new TextDecoder().decode(new Uint8Array(view.buffer, view.byteOffset + i, n)); i += n;
                call(at.slot, at.t, "suggestion", {name: text, lr}); break; }
      case 8: at.t = f(); break;
      default: throw new Error("live chart: a record of unknown kind");
    }
  }
}

// The runs of one widget, shared by its views; asks the kernel to send everything again when something is missing
class LcStore {
  constructor(model) {
    Object.assign(this, {model, runs: new Map(), n: -1, heard: new Set(), asked: 0, log: [], t: 0, duration: 0, playing: false});
    this.at = {slot: 0, t: 0, runs: {}};
    this.onMessage = (content, buffers) => this.receive(content, buffers);
    model.on("msg:custom", this.onMessage);
    const kept = model.get("kept");
    if (kept && kept.data) this.receive({n: -1, all: true, runs: kept.runs}, [typeof kept.data === "string" ? ttlBytes(kept.data) : kept.data]); // As text: in a file
    this.ask();
  }
  ask() { const now = performance.now(); if (now - this.asked < 500 && this.asked) return; this.asked = now; this.model.send({do: "resync"}); }
  receive(content, buffers) {
    if (content.n === undefined) return;
    const player = this.model.get("player") > 0, size = `${buffers[0].byteLength} ${JSON.stringify(content.runs)}`;
    if (player && size === this.size) { this.n = content.n; return; }  // it plays already
    this.size = size;
    if (content.all) { this.start(content.runs); this.n = content.n; }
    else if (content.n !== this.n + 1) return this.ask();
    else this.n = content.n;
    const b = buffers[0], view = b instanceof DataView ? b : ArrayBuffer.isView(b) ? new DataView(b.buffer, b.byteOffset, b.byteLength) : new DataView(b);
    lcDecode(view, this.at, (slot, t, kind, e) => { if (player) this.log.push({slot, t, kind, e}); else this.runs.get(slot)?.add(kind, e); });
    if (player) this.loaded(content);
    this.tell(content.all ? "all" : "new");
  }
  start(runs) {
    const hidden = new Set([...this.runs.values()].filter(r => !r.shown).map(r => r.name));
    this.runs = new Map(runs.map((r, i) => [r.slot, new LcRun(r.slot, r.name, r.order ?? i)]));
    for (const r of this.runs.values()) r.shown = !hidden.has(r.name);
    this.at = {slot: 0, t: 0, runs: {}}; this.log = [];
  }
  tell(what) { this.heard.forEach(call => call(what)); }
  get list() { return [...this.runs.values()]; }
  get newest() { return this.list.filter(r => r.shown && !r.empty).at(-1) ?? this.list.at(-1); }

  // Replay: the log is played into the runs
  loaded() {
    this.log.forEach((o, i) => o.i = i); this.log.sort((a, b) => a.t - b.t || a.i - b.i);
    this.duration = this.log.length ? this.log.at(-1).t : 0;
    for (const o of this.log) o.end = o.kind === "batch" ? o.e.step + 1 : o.kind === "valid" ? o.e.step : 0;
    this.planned = this.log.reduce((m, o) => Math.max(m, o.end), 0);
    this.ends = this.log.filter(o => o.kind === "rate").map(o => o.e.lr);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches || !this.model.get("autoplay");
    this.speed = this.model.get("player"); this.played = 0; this.seek(still ? this.duration : 0);
    if (!still) this.play();
  }
  seek(t) {
    t = Math.max(0, Math.min(this.duration, t));
    if (t < this.t || !this.played) { this.runs.forEach(r => r.clear()); this.played = 0; }
    while (this.played < this.log.length && this.log[this.played].t <= t + 1e-9) { const o = this.log[this.played++]; this.runs.get(o.slot)?.add(o.kind, o.e); }
    this.t = t; this.tell("new");
  }
  play() {
    if (this.t >= this.duration) this.seek(0);
    if (this.playing) return;
    this.playing = true;
    let before = performance.now();
    const tick = now => {
      if (!this.playing || !this.heard.size) { this.playing = false; return; }
      this.seek(this.t + Math.max(0, now - before) / 1000 * this.speed); before = now;
      if (this.t >= this.duration) { this.playing = false; this.tell("new"); } else requestAnimationFrame(tick);
    };
    // a view listens before the first frame
    requestAnimationFrame(tick); this.tell("new");
  }
  pause() { this.playing = false; this.tell("new"); }
}

const lcStores = new WeakMap();
function lcStore(model) { if (!lcStores.has(model)) lcStores.set(model, new LcStore(model)); return lcStores.get(model); }

// ---- Axes -----------------------------------------------------------------------------------------------------------------

// A range rounded outwards to quarters of a tick, so that it rarely moves, and its ticks: about `n` round steps
function lcNice(lo, hi, n) {
  if (!(hi > lo)) { const d = Math.abs(lo) * .1 || .1; lo -= d; hi += d; }
  const raw = (hi - lo) / Math.max(1, n), power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 2.5, 5].find(m => m * power >= raw * .999) ?? 10);
  const q = step / 4, low = Math.floor(lo / q + 1e-6) * q, high = Math.ceil(hi / q - 1e-6) * q, a = Math.ceil(low / step - 1e-6), b = Math.floor(high / step + 1e-6);
  return {lo: low, hi: high, ticks: Array.from({length: b - a + 1}, (_, i) => +((a + i) * step).toPrecision(12))};
}
function lcLogTicks(lo, hi, n) {
  const a = Math.floor(Math.log10(lo) + 1e-9), b = Math.ceil(Math.log10(hi) - 1e-9), found = [];
  const many = Math.log10(hi / lo) < 2 ? (Math.log10(hi / lo) < .7 ? [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9] : [1, 2, 5]) : [1];
  for (let k = a; k <= b; k++) for (const m of many) found.push(+(m * 10 ** k).toPrecision(3));
  const inside = found.filter(v => v >= lo * .999 && v <= hi * 1.001), skip = Math.ceil(inside.length / Math.max(2, n));
  return inside.filter((_, i) => i % skip === 0);
}
// The end of an axis of steps that grows in jumps, not at every step
function lcRoom(n) { const power = 10 ** Math.max(1, Math.floor(Math.log10(Math.max(n, 1)))); return [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map(m => m * power).find(v => v >= Math.max(n, 20)); }
function lcOpens(mask, before) {
  const names = m => LC_STAGES.filter((_, i) => m & (1 << i)), neighbours = m => !m.toString(2).replace(/0+$/, "").includes("0");
  const say = m => { const all = names(m); return all.length < 2 || !neighbours(m) ? all.join(", ") : `${all[0]}–${all[0] === "stem" ? all.at(-1) : all.at(-1).replace("stage", "")}`; };
  if (before === undefined) return mask === 0b111111 ? "all stages learn" : `${say(mask)} learn${names(mask).length === 1 ? "s" : ""}`;
  const opened = mask & ~before, closed = before & ~mask;
  return [opened && `+ ${say(opened)}`, closed && `− ${say(closed)}`].filter(Boolean).join(" ") || "new phase";
}

// The outline of a marker, as SVG and canvas read it
function lcMarker(kind, x, y, r) {
  const poly = points => "M" + points.map(([a, b]) => `${x + a * r} ${y + b * r}`).join("L") + "Z";
  return kind === "square" ? poly([[-.9, -.9], [.9, -.9], [.9, .9], [-.9, .9]]) : kind === "triangle" ? poly([[0, -1.2], [1.15, .85], [-1.15, .85]]) : kind === "down" ? poly([[0, 1.2], [1.15, -.85], [-1.15, -.85]])
    : kind === "diamond" ? poly([[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]]) : kind === "bar" ? poly([[-.5, -1.2], [.5, -1.2], [.5, 1.2], [-.5, 1.2]])
    : `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`;
}

// ---- A view -----------------------------------------------------------------------------------------------------------------

class LcView {
  constructor(model, root, store) {
    Object.assign(this, {model, store, zoom: null, cursor: null, drag: null, frame: 0, ends: []});
    this.kind = model.get("kind"); this.log = this.kind === "rate";
    this.build(root);
    this.hear = what => { if (what === "all") { this.zoom = null; this.legend(); } this.changed = true; this.later(); };
    store.heard.add(this.hear); this.ends.push(() => store.heard.delete(this.hear));
    const observe = (name, call) => { model.on(`change:${name}`, call); this.ends.push(() => model.off(`change:${name}`, call)); };
    observe("rate", () => this.showRate()); observe("planned", () => this.later());
    observe("scale", () => this.resize()); observe("height", () => this.resize());
    const sized = new ResizeObserver(() => this.resize());
    sized.observe(this.plot); this.ends.push(() => sized.disconnect());
    this.ends.push(ttlWatchTheme(() => { this.theme = null; this.legend(); this.later(); }));
    const dpr = () => { this.resize(); const q = matchMedia(`(resolution: ${devicePixelRatio}dppx)`); q.addEventListener("change", dpr, {once: true}); this.undpr = () => q.removeEventListener("change", dpr); };
    dpr(); this.ends.push(() => this.undpr());
    this.legend(); this.resize(); this.showStatus();
  }
  close() { this.ends.forEach(end => end()); cancelAnimationFrame(this.frame); clearTimeout(this.statusTimer); this.root.remove(); }

  build(root) {
    const id = `lc${Math.random().toString(36).slice(2)}`;
    const tool = (text, label, call, attrs = {}) => el("button", {class: "ttl-button ttl-quiet", type: "button", "aria-label": label, title: label, onclick: call, ...attrs}, text);
    this.back = tool("Show all", "Show the whole range again", () => this.unzoom(), {hidden: true});
    this.tableButton = tool("Table", "Show the values as a table", () => this.toggleTable(), {"aria-pressed": "false"});
    this.list = el("ul", {class: "ttl-chart-legend", "aria-label": "Lines"});
    this.canvas = el("canvas", {role: "img"});
    this.said = el("div", {class: "ttl-chart-said", hidden: true, "aria-hidden": "true"});
    this.plot = el("div", {class: "ttl-chart-plot", tabindex: "0", role: "group", "aria-roledescription": "chart", "aria-describedby": id}, this.canvas, this.said);
    this.status = el("p", {class: "ttl-status"});
    this.live = el("p", {class: "ttl-hidden", role: "status", "aria-live": "polite"});
    this.table = el("div", {class: "ttl-chart-table", hidden: true, tabindex: "0", role: "region", "aria-label": "Values of the curves"});
    const keys = "Left and right arrows move the read-out, plus and minus zoom, 0 shows the whole range, T shows a table.";
    this.root = el("div", {class: "ttl ttl-card ttl-chart", "data-kind": this.kind},
      el("div", {class: "ttl-chart-head"}, this.list, el("div", {class: "ttl-chart-tools"}, this.back, this.tableButton,
        tool("PNG", "Save the picture as PNG", () => this.savePicture()), tool("CSV", "Save all values as CSV", () => this.saveTable()))),
      this.plot, el("p", {class: "ttl-hidden", id}, keys), this.foot = el("div", {class: "ttl-chart-foot"}, this.status), this.live, this.table);
    if (this.log) this.buildRate(); else this.chips = [];
    if (this.model.get("player") > 0) this.buildPlayer();
    root.append(this.root);
    ttlOwnKeys(this.root);
    this.plot.addEventListener("pointermove", e => this.moved(e));
    this.plot.addEventListener("pointerdown", e => this.pressed(e));
    this.plot.addEventListener("pointerup", e => this.released(e));
    this.plot.addEventListener("pointercancel", () => { this.drag = null; this.later(); });
    this.plot.addEventListener("pointerleave", () => { if (!this.drag) this.point(null); });
    this.plot.addEventListener("dblclick", () => this.unzoom());
    this.plot.addEventListener("blur", () => this.point(null));
    this.plot.addEventListener("keydown", e => this.key(e));
  }

  say(text) { this.live.textContent = text; }

  // ---- Legend

  colour(run) { const c = TTL_COLOURS[run.order % TTL_COLOURS.length]; return this.colours().dark ? ttlOnDark(c) : c; }
  dash(run) { return LC_DASHES[(run.order + Math.floor(run.order / TTL_COLOURS.length)) % LC_DASHES.length]; }
  // Second cues beside the colour: the marker of a run, and its dash where nothing is marked
  marker(run) { return LC_MARKERS[run.order % LC_MARKERS.length]; }
  sample(colour, width, marker, dash = []) {
    return svg("svg", {viewBox: "0 0 30 12", "aria-hidden": "true", focusable: "false"},
      svg("line", {x1: 1, x2: 29, y1: 6, y2: 6, stroke: colour, "stroke-width": width, "stroke-dasharray": dash.join(" ") || null, opacity: width < 1.5 ? .5 : 1}),
      marker && svg("path", {d: lcMarker(marker, 15, 6, 3.8), fill: "var(--ttl-paper)", stroke: colour, "stroke-width": 2}));
  }
  swatch(r) { const marked = !this.log && r.vstep.n > 0; return this.sample(this.colour(r), 2.4, marked && this.marker(r), marked ? [] : this.dash(r)); }
  legend() {
    const runs = this.store.list, several = runs.length > 1;
    const rows = runs.map(r => {
      const face = [this.swatch(r), el("span", {}, r.name)];
      return el("li", {}, several ? el("button", {class: "ttl-button ttl-quiet", type: "button", "aria-pressed": String(r.shown), title: `Show or hide ${r.name}`,
        onclick: e => { r.shown = !r.shown; e.currentTarget.setAttribute("aria-pressed", String(r.shown)); this.later(); }}, face) : el("b", {}, r.name));
    });
    const keys = this.log ? [["smoothed loss", 2.4], ["each batch", 1]] : [["training", 1.6], ["validation", 2.4, several || !runs[0] ? "circle" : this.marker(runs[0])]];
    const one = !several && runs[0] ? this.colour(runs[0]) : "var(--ttl-soft)";
    if (runs.length) rows.push(el("li", {class: "ttl-chart-key"}, keys.map(([text, ...how]) => [this.sample(one, ...how), el("span", {}, text)])));
    this.legendKey = this.legendState();
    this.list.replaceChildren(...rows);
  }

  legendState() { return this.store.list.map(r => r.vstep.n > 0).join(); }

  // ---- Size and frames

  resize() {
    const scale = this.model.get("scale");
    if (this.root.dataset.scale !== scale) this.root.dataset.scale = scale;
    this.s = parseFloat(getComputedStyle(this.root).getPropertyValue("--ttl-scale")) || 1;
    const height = `${Math.round(this.model.get("height") * this.s)}px`;
    if (this.plot.style.height !== height) this.plot.style.height = height;
    const w = this.plot.clientWidth, h = this.plot.clientHeight, d = devicePixelRatio || 1;
    if (!w || !h) return;
    this.w = w; this.h = h;
    if (this.canvas.width !== Math.round(w * d) || this.canvas.height !== Math.round(h * d)) { this.canvas.width = Math.round(w * d); this.canvas.height = Math.round(h * d); }
    this.d = d; this.theme = null;
    this.draw();  // at once: setting the size has wiped the canvas
  }
  later() { if (!this.frame) this.frame = requestAnimationFrame(() => { this.frame = 0; this.draw(); }); }
  colours() {
    if (this.theme) return this.theme;
    const get = n => ttlColour(this.root, `--ttl-${n}`);
    return this.theme = {ink: get("ink"), soft: get("soft"), paper: get("paper"), line: get("line"), accent: get("accent"), warn: get("warn"), dark: ttlDark(this.root)};
  }

  // ---- What is shown

  get runs() { return this.store.list.filter(r => r.shown && !r.empty); }
  domain() {  // the whole range of x
    const runs = this.runs, planned = Math.max(this.model.get("planned") || 0, this.store.planned || 0);
    if (!this.log) { const end = Math.max(0, ...runs.map(r => r.end)); return [0, planned >= end && planned > 0 ? planned : lcRoom(end)]; }
    const ends = [...runs.map(r => r.rlr.range(0, r.rlr.n)).flat(), ...(this.store.ends?.length ? [Math.min(...this.store.ends), Math.max(...this.store.ends)] : [])].filter(v => v > 0 && Number.isFinite(v));
    return ends.length && Math.max(...ends) > Math.min(...ends) ? [Math.min(...ends), Math.max(this.store.ends?.length ? 0 : Math.min(...ends) * 10, ...ends)] : [1e-7, 10];
  }
  panels() {
    if (this.log) return [{name: "loss", weight: 1}];
    const runs = this.runs;
    return [{name: "loss", weight: 3.2}, runs.some(r => r.hasAuc) && {name: "auc", weight: 1.5}, (!runs.length || runs.some(r => r.step.n)) && {name: "rate", weight: 1.3}].filter(Boolean);
  }
  x(v) { const [a, b] = this.view, p = this.area; return p.x + p.w * (this.log ? Math.log(v / a) / Math.log(b / a) : (v - a) / (b - a)); }
  value(px) { const [a, b] = this.view, p = this.area, t = Math.max(0, Math.min(1, (px - p.x) / p.w)); return this.log ? a * (b / a) ** t : a + t * (b - a); }

  // Indices of a rising column within the view, one more at each side
  span(column) {
    const at = v => this.log ? (i => { let j = 0; while (j < i && column.v[j] < v) j++; return j; })(column.n) : column.find(v);
    return [Math.max(0, at(this.view[0]) - 1), Math.min(column.n, at(this.view[1]) + 1)];
  }
  // Limits of the loss: all that is smoothed or validated, unless it explodes; what lies beyond is marked at the edge
  lossRange(runs) {
    let lo = Infinity, hi = -Infinity, first = -Infinity;
    const typical = [];
    for (const r of runs) for (const [xs, ys, raw] of this.log ? [[r.rlr, r.rsmooth, false], [r.rlr, r.rloss, true]] : [[r.step, r.smooth, false], [r.step, r.loss, true], [r.vstep, r.vloss, false]]) {
      const [a, b] = this.span(xs), many = Math.max(1, Math.floor((b - a) / 300));
      if (b <= a) continue;
      const [l, h] = ys.range(a, b);
      if (l < lo) lo = l;
      if (h > hi) hi = h;
      if (raw) continue;
      const start = ys.v.subarray(a, b).find(Number.isFinite);
      if (start > first) first = start;
      for (let i = a; i < b; i += many) if (Number.isFinite(ys.v[i])) typical.push(ys.v[i]);
    }
    if (!(hi >= lo)) return {lo: 0, hi: 1, above: -Infinity};
    typical.sort((a, b) => a - b);
    const most = typical[Math.floor(typical.length * .95)] ?? hi, top = Math.max(lo * 1.05 + 1e-6, this.log ? Math.min(most * 1.1, 2 * first) : Math.min(Math.max(most * 1.35, first * 1.1), 5 * Math.max(first, typical[typical.length >> 1] ?? 0)));
    return {lo: Math.max(0, lo - (Math.min(hi, top) - lo) * .06), hi: Math.min(hi + (hi - lo) * .04, top), above: hi};
  }

  // ---- Drawing

  draw() {
    if (!this.w) return;
    const before = this.area;
    const c = this.canvas.getContext("2d"), s = this.s, t = this.colours(), runs = this.runs, whole = this.domain();
    this.c = c; c.setTransform(this.d, 0, 0, this.d, 0, 0);
    c.fillStyle = t.paper; c.fillRect(0, 0, this.w, this.h);
    this.font = (size = 12, weight = 400) => { c.font = `${weight} ${size * s}px ${getComputedStyle(this.root).fontFamily}`; };
    this.font(); c.lineJoin = "round"; c.lineCap = "butt";
    this.view = this.zoom ?? whole;
    this.back.hidden = !this.zoom;
    const panels = this.panels(), newest = runs.at(-1);
    const loss = this.lossRange(runs), caption = 20 * s;
    let rows = this.log ? this.placeChips() : 0;
    const right = !this.log && panels.some(p => p.name !== "loss") ? c.measureText("chance").width + 8 * s : 16 * s, bottom = this.log ? 54 * s : 40 * s;
    if (!this.log) rows = this.placePhases(runs);
    const heights = this.h - bottom - caption * panels.length - rows, total = panels.reduce((a, p) => a + p.weight, 0);
    let y = rows;
    for (const p of panels) { y += caption; p.h = heights * p.weight / total; p.y = y; y += p.h; }
    for (const p of panels) this.limits(p, runs, loss);
    const left = Math.ceil(Math.max(...panels.flatMap(p => p.ticks.map(v => c.measureText(fmt(v)).width)))) + 10 * s;
    this.area = {x: left, w: Math.max(20, this.w - left - right), y: panels[0].y, h: panels.at(-1).y + panels.at(-1).h - panels[0].y};
    this.all = panels;
    for (const p of panels) this.axes(p, t);
    this.bottomAxis(panels.at(-1), t);
    if (!runs.length) this.nothing(panels[0], t);
    if (!this.log) this.phaseMarks(panels, runs, t);
    for (const r of runs) this.run(r, r === newest, panels, t);
    for (const p of panels) this.beyond(p, runs, t);
    if (this.drag?.to !== undefined && this.drag.zooms) this.band(t);
    this.crosshair(t);
    if (this.log) { this.guides(panels[0], t); this.placeHandle(); }
    if (this.player) this.showPlayer();
    if (!before || before.x !== this.area.x || before.w !== this.area.w) this.later();  // labels above the panels stand by the last area
    if (this.changed) { this.changed = false; this.laterStatus(); if (this.legendKey !== this.legendState()) this.legend(); }
  }

  limits(p, runs, loss) {
    const count = Math.max(2, Math.floor(p.h / (26 * this.s)));
    if (p.name === "loss") Object.assign(p, lcNice(loss.lo, loss.hi, count), {caption: this.log ? "training loss" : "loss", above: loss.above});
    else if (p.name === "auc") {
      let [lo, hi] = [.5, 1];
      for (const r of runs) lo = Math.min(lo, r.vauc.range(...this.span(r.vstep))[0]);
      Object.assign(p, {lo: lo < .5 ? Math.max(0, Math.floor(lo * 10 - .2) / 10) : .45, hi: 1.02, ticks: lo < .45 ? [0, .25, .5, .75, 1].filter(v => v >= lo - .05) : count > 2 ? [.5, .75, 1] : [.5, 1], caption: "AUC on held-out images"});
    } else {
      const top = Math.max(1e-12, ...runs.map(r => Math.max(r.lr.range(...this.span(r.step))[1], ...(r.shares.length ? [0] : [0]))).filter(Number.isFinite));
      const least = Math.min(1, ...runs.map(r => r.mom.range(...this.span(r.step))[0]).filter(Number.isFinite));
      const most = Math.max(0, ...runs.map(r => r.mom.range(...this.span(r.step))[1]).filter(Number.isFinite));
      Object.assign(p, {lo: 0, hi: top * 1.08, ticks: [0, +top.toPrecision(2)], caption: "learning rate"});
      if (!runs.some(r => r.step.n)) Object.assign(p, {ticks: [0], hi: 1});
      if (most >= least) p.mom = most - least < 1e-4 ? {lo: least - .05, hi: most + .05, ticks: [+most.toPrecision(2)]} : {lo: least - .1 * (most - least), hi: most + .1 * (most - least), ticks: [+least.toPrecision(2), +most.toPrecision(2)]};
    }
    p.Y = v => p.y + p.h * (1 - (v - p.lo) / (p.hi - p.lo));
  }

  axes(p, t) {
    const c = this.c, s = this.s, a = this.area;
    c.lineWidth = 1; c.strokeStyle = t.line; c.fillStyle = t.soft; c.textAlign = "right"; c.textBaseline = "middle"; this.font();
    for (const v of p.ticks) {
      const y = Math.round(p.Y(v)) + .5;
      if (y < p.y - 1 || y > p.y + p.h + 1) continue;
      c.beginPath(); c.moveTo(a.x, y); c.lineTo(a.x + a.w, y); c.stroke();
      c.fillText(fmt(v), a.x - 7 * s, y);
    }
    c.textAlign = "left"; c.textBaseline = "alphabetic"; c.fillStyle = t.ink; this.font(12.5, 600);
    c.fillText(p.caption, a.x, p.y - 6 * s - (p.name === "loss" && !this.log ? this.strip : 0));
    if (p.mom) {
      const Y = v => p.y + p.h * (1 - (v - p.mom.lo) / (p.mom.hi - p.mom.lo));
      p.momY = Y; c.textAlign = "right"; c.fillStyle = t.soft; this.font(12.5); c.fillText("momentum (dashed)", this.w - 4 * s, p.y - 6 * s);
      c.textAlign = "left"; c.textBaseline = "middle"; this.font();
      for (const v of p.mom.ticks) c.fillText(fmt(v, 2), a.x + a.w + 7 * s, Math.max(p.y + 5 * s, Math.min(p.y + p.h - 5 * s, Y(v))));
    }
    if (p.name === "auc" && p.lo < .5) {
      c.save(); c.strokeStyle = t.soft; c.setLineDash([2, 3]); const y = Math.round(p.Y(.5)) + .5; c.beginPath(); c.moveTo(a.x, y); c.lineTo(a.x + a.w, y); c.stroke(); c.restore();
      c.textAlign = "left"; c.textBaseline = "middle"; c.fillStyle = t.soft; this.font(); c.fillText("chance", a.x + a.w + 5 * s, y);
    }
  }
  bottomAxis(p, t) {
    const c = this.c, s = this.s, a = this.area, y = p.y + p.h, [lo, hi] = this.view, n = Math.max(2, Math.floor(a.w / (80 * s)));
    const ticks = this.log ? lcLogTicks(lo, hi, n) : lcNice(lo, hi, n).ticks.filter(v => v >= lo - 1e-9 && v <= hi + 1e-9 && (Number.isInteger(v) || hi - lo < 5));
    c.strokeStyle = t.soft; c.lineWidth = 1; c.beginPath(); c.moveTo(a.x, Math.round(y) + .5); c.lineTo(a.x + a.w, Math.round(y) + .5); c.stroke();
    c.fillStyle = t.soft; c.textAlign = "center"; c.textBaseline = "top"; this.font();
    for (const v of ticks) { const x = Math.round(this.x(v)) + .5; c.beginPath(); c.moveTo(x, y); c.lineTo(x, y + 4 * s); c.stroke(); c.fillText(fmt(v), x, y + 7 * s); }
    c.fillText(this.log ? "learning rate of the head (log scale)" : "optimiser steps", a.x + a.w / 2, y + (this.log ? 33 : 23) * s);
  }
  nothing(p, t) {
    const c = this.c, a = this.area;
    c.fillStyle = t.soft; c.textAlign = "center"; c.textBaseline = "middle"; this.font(14);
    const begins = this.log ? "the curve begins with the first learning rate." : "the curves begin with the first step.";
    const text = this.store.list.some(r => !r.empty) ? ["All runs are hidden."] : a.w > 500 * this.s ? [`Nothing has been recorded yet: ${begins}`] : ["Nothing has been recorded yet:", begins];
    c.fillStyle = t.paper; c.fillRect(a.x, p.y + p.h / 2 - 14 * this.s * text.length, a.w, 28 * this.s * text.length); c.fillStyle = t.soft;
    text.forEach((o, i) => c.fillText(o, a.x + a.w / 2, p.y + p.h / 2 + (i - (text.length - 1) / 2) * 20 * this.s));
  }

  // Labels of what opens, in rows above the loss: beside its caption where they fit, else below it. Returns the height of further rows.
  placePhases(runs) {
    const s = this.s, a = this.area, lead = runs.at(-1), ends = [];
    this.marks = []; this.strip = 0;
    if (!lead || !a) return 0;
    this.font(12.5, 600); ends[0] = a.x + this.c.measureText("loss").width; this.font();
    lead.phases.forEach((p, i) => {
      const before = i ? lead.phases[i - 1].mask : undefined, first = !i && p.step === 0, text = lcOpens(p.mask, before), width = this.c.measureText(text).width;
      let x = first ? ends[0] + 10 * s : this.x(p.step);
      if (!first && (x < a.x - 1 || x > a.x + a.w)) return;
      x = Math.min(x, this.w - width);
      let row = ends.findIndex(end => x >= end + 10 * s - .1);
      if (row < 0) row = ends.length;
      if (row > 2) return;
      ends[row] = x + width;
      this.marks.push({x, row, text, first});
    });
    return this.strip = (ends.length - 1) * 16 * s;
  }
  phaseMarks(panels, runs, t) {
    const c = this.c, s = this.s, a = this.area, newest = runs.at(-1), top = panels[0].y, base = m => top - 6 * s - this.strip + m.row * 16 * s;
    for (const r of runs) for (const p of r.phases) {
      const x = Math.round(this.x(p.step)) + .5;
      if (!p.step || x < a.x || x > a.x + a.w + 1) continue;
      c.save(); c.strokeStyle = t.soft; c.globalAlpha = r === newest ? .8 : .25; c.setLineDash([2, 3]); c.lineWidth = 1; c.beginPath();
      for (const q of panels) { c.moveTo(x, q.y); c.lineTo(x, q.y + q.h); }
      const mark = r === newest && this.marks.find(m => !m.first && Math.abs(m.x - x) < 1);
      if (mark) { c.moveTo(x, base(mark) + 4 * s); c.lineTo(x, top); }
      c.stroke(); c.restore();
    }
    c.textAlign = "left"; c.textBaseline = "alphabetic"; c.fillStyle = t.soft; this.font();
    for (const m of this.marks) c.fillText(m.text, m.x, base(m));
  }

  // A path through a column: every point, or the least and the greatest of each pixel column where there are more
  path(xs, ys, Y) {
    const c = this.c, [a, b] = this.span(xs), dpr = this.d;
    c.beginPath();
    let open = false;
    const to = (x, v) => { if (!Number.isFinite(v)) { open = false; return; } const y = Y(v); if (open) c.lineTo(x, y); else { c.moveTo(x, y); open = true; } };
    if (b - a <= 3 * this.area.w * dpr || this.log) { for (let i = a; i < b; i++) to(this.x(xs.v[i]), ys.at(i)); }
    else {
      let i = a;
      for (let px = Math.floor(this.x(xs.v[a]) * dpr); i < b; px++) {
        const until = Math.min(b, Math.max(i, xs.find(this.value((px + 1) / dpr)))), j = px / dpr >= this.area.x + this.area.w ? b : until;
        if (j <= i) continue;
        const [lo, hi] = ys.range(i, j);
        if (hi >= lo) { const x = (px + .5) / dpr, down = ys.at(i) >= ys.at(j - 1); to(x, down ? hi : lo); if (hi > lo) to(x, down ? lo : hi); } else open = false;
        i = j;
      }
    }
    c.stroke();
  }
  clip(p, call) { const c = this.c, a = this.area; c.save(); c.beginPath(); { const spill = this.zoom ? 1 : 5 * this.s; c.rect(a.x - spill, p.y - 3, a.w + 2 * spill, p.h + 6); } c.clip(); call(); c.restore(); }
  dots(xs, ys, Y, run, t) {
    const c = this.c, [a, b] = this.span(xs), r = 3.4 * this.s, skip = Math.max(1, Math.ceil((b - a) / (this.area.w / (3.2 * r))));
    c.setLineDash([]); c.lineWidth = 1.8 * this.s; c.strokeStyle = this.colour(run); c.fillStyle = t.paper;
    for (let i = b - 1; i >= a; i -= skip) if (Number.isFinite(ys.v[i])) { const q = new Path2D(lcMarker(this.marker(run), this.x(xs.v[i]), Y(ys.v[i]), r)); c.fill(q); c.stroke(q); }
  }

  run(r, newest, panels, t) {
    const c = this.c, s = this.s, colour = this.colour(r), several = this.runs.length > 1, dash = several && (this.log || !r.vstep.n) ? this.dash(r).map(v => v * s) : [];
    const strength = newest ? 1 : .55;
    for (const p of panels) this.clip(p, () => {
      c.strokeStyle = colour;
      const line = (xs, ys, Y, width, alpha, d = dash) => { c.lineWidth = width * s; c.globalAlpha = alpha; c.setLineDash(d); this.path(xs, ys, Y); c.globalAlpha = 1; };
      if (this.log) {
        line(r.rlr, r.rloss, p.Y, 1, newest ? .35 : .15, []); line(r.rlr, r.rsmooth, p.Y, 2.4, strength);
      } else if (p.name === "loss") {
        line(r.step, r.loss, p.Y, 1, newest ? .3 : .12, []); line(r.step, new LcMeans(r.smooth), p.Y, 1.8, .8 * strength);
        c.globalAlpha = strength; line(r.vstep, r.vloss, p.Y, 2.4, strength); c.globalAlpha = newest ? 1 : .7; this.dots(r.vstep, r.vloss, p.Y, r, t);
      } else if (p.name === "auc") { line(r.vstep, r.vauc, p.Y, 2.4, strength); c.globalAlpha = newest ? 1 : .7; this.dots(r.vstep, r.vauc, p.Y, r, t); }
      else this.rates(r, newest, p, line, t);
    });
  }
  rates(r, newest, p, line, t) {
    line(r.step, r.lr, p.Y, 1.8, newest ? 1 : .4);
    if (!newest) return;
    for (const lower of this.lowerRates(r)) line(r.step, lower, p.Y, 1.1, .75, []);
    if (p.momY) { this.c.strokeStyle = t.soft; line(r.step, r.mom, p.momY, 1.3, 1, [4 * this.s, 3 * this.s]); }
  }
  // Rates of the lower groups, only where one of their stages learns
  lowerRates(r) {
    const last = r.shares.at(-1)?.values ?? [1], at = (i, g) => this.groupRate(r, i, g, last.length);
    return last.map((_, g) => g).filter(g => g < last.length - 1 && last[g] !== 1).map(g => ({at: i => at(i, g),
      range: (i, j) => { const v = at(j - 1, g), [lo, hi] = r.lr.range(i, j); return Number.isFinite(v) ? [lo * v / r.lr.v[j - 1], hi * v / r.lr.v[j - 1]] : [Infinity, -Infinity]; }}));
  }
  groupRate(r, i, g, n) { return n === 3 && !(r.learningAt(r.step.v[i]) & LC_GROUPS[g]) ? NaN : r.lr.v[i] * (r.sharesAt(i)[g] ?? NaN); }

  // What lies above the axis, and what is no number, is marked where it happened
  beyond(p, runs, t) {
    if (p.name !== "loss") return;
    const c = this.c, s = this.s, a = this.area, tip = (x, y) => { c.beginPath(); c.moveTo(x, y); c.lineTo(x - 4 * s, y + 6 * s); c.lineTo(x + 4 * s, y + 6 * s); c.closePath(); c.fill(); };
    let out = false, bad = false;
    const cell = 10 * s, tips = new Set(), crosses = new Set();
    for (const r of runs) for (const [xs, ys] of this.log ? [[r.rlr, r.rloss], [r.rlr, r.rsmooth]] : [[r.step, r.loss], [r.vstep, r.vloss]]) {
      const [i0, i1] = this.span(xs), step = Math.max(1, Math.floor((i1 - i0) / (2 * a.w)));
      c.fillStyle = this.colour(r);
      for (let i = i0; i < i1; i += step) {
        const x = this.x(xs.v[i]), k = Math.round(x / cell);
        if (x < a.x - 1 || x > a.x + a.w + 1) continue;
        const most = step > 1 ? ys.range(i, Math.min(i1, i + step))[1] : ys.v[i];
        if (most > p.hi) { out = true; if (!tips.has(`${r.slot} ${k}`)) tip(k * cell, p.y - 2 * s); tips.add(`${r.slot} ${k}`); }
        if (!Number.isFinite(ys.v[i])) { bad = true; crosses.add(k); }
      }
    }
    c.strokeStyle = t.warn; c.lineWidth = 1.8 * s; c.beginPath();
    for (const k of crosses) { const q = 3 * s, x = k * cell, y = p.y + p.h - 7 * s; c.moveTo(x - q, y - q); c.lineTo(x + q, y + q); c.moveTo(x - q, y + q); c.lineTo(x + q, y - q); }
    c.stroke();
    const text = [out && `▲ up to ${fmt(p.above)}`, bad && "× not a number"].filter(Boolean).join("   ");
    if (text) { c.textAlign = "right"; c.textBaseline = "alphabetic"; c.fillStyle = t.warn; this.font(12.5); c.fillText(text, a.x + a.w, p.y - 6 * s - (this.log ? 0 : this.strip)); }
  }
  band(t) {
    const c = this.c, a = this.area, x0 = Math.max(a.x, Math.min(this.drag.from, this.drag.to)), x1 = Math.min(a.x + a.w, Math.max(this.drag.from, this.drag.to));
    c.save(); c.globalAlpha = .16; c.fillStyle = t.accent; c.fillRect(x0, a.y, x1 - x0, a.h); c.restore();
    c.strokeStyle = t.accent; c.lineWidth = 1; c.strokeRect(Math.round(x0) + .5, a.y, Math.round(x1 - x0), a.h);
  }

  // ---- Read-out

  nearest(r, v) {  // index of the batch (or rate) next to a place on the axis
    const xs = this.log ? r.rlr : r.step;
    if (!xs.n) return -1;
    if (this.log) { let best = 0; for (let i = 1; i < xs.n; i++) if (Math.abs(Math.log(xs.v[i] / v)) < Math.abs(Math.log(xs.v[best] / v))) best = i; return best; }
    const i = xs.find(v);
    return i > 0 && (i === xs.n || v - xs.v[i - 1] < xs.v[i] - v) ? i - 1 : i;
  }
  validBefore(r, v) { const i = r.vstep.find(v + 1e-9 + 1) - 1; return i; }
  point(px, announce) {
    this.cursor = px === null || !this.runs.length ? null : px;
    this.announce = announce; this.later();
  }
  crosshair(t) {
    const c = this.c, a = this.area, s = this.s, runs = this.runs;
    if (this.cursor === null || !runs.length || this.drag) { this.said.hidden = true; return; }
    const v = this.value(this.cursor), lead = runs.at(-1), i = this.nearest(lead, v), at = i >= 0 ? (this.log ? lead.rlr : lead.step).v[i] : v;
    const x = this.x(at);
    if (x < a.x - 1 || x > a.x + a.w + 1) { this.said.hidden = true; return; }
    c.save(); c.strokeStyle = t.soft; c.lineWidth = 1; c.beginPath(); c.moveTo(Math.round(x) + .5, a.y); c.lineTo(Math.round(x) + .5, a.y + a.h); c.stroke();
    const dot = (p, y, r) => { if (!p || !Number.isFinite(y) || y > p.hi || y < p.lo) return; c.fillStyle = this.colour(r); c.beginPath(); c.arc(x, p.Y(y), 3.4 * s, 0, 7); c.fill(); };
    const rows = runs.map(r => { const k = this.nearest(r, at), j = this.validBefore(r, at);
      const there = k >= 0 && (this.log || Math.abs(r.step.v[k] - at) < .5 + (this.view[1] - this.view[0]) / 200);
      dot(this.all[0], this.log ? r.rsmooth.v[k] : there ? r.smooth.v[k] : NaN, r);
      return {r, k: there ? k : -1, j}; });
    c.restore();
    this.fillSaid(rows, at, i);
    this.said.hidden = false;
    const w = this.said.offsetWidth, h = this.said.offsetHeight, beside = x + 14 * s + w <= this.w ? x + 14 * s : x - 14 * s - w;
    this.said.style.transform = `translate(${Math.max(0, Math.round(beside))}px, ${Math.round(Math.min(a.y + 6 * s, Math.max(0, this.h - h)))}px)`;
  }
  fillSaid(rows, at, i) {
    const lead = rows.at(-1), several = rows.length > 1, num = v => el("td", {}, fmt(v)), auc = rows.some(o => o.r.hasAuc);
    const name = r => el("td", {}, several && this.swatch(r), several ? r.name : "");
    let parts, spoken;
    if (this.log) {
      parts = [el("table", {}, el("tr", {}, el("th", {}, `rate ${fmt(at)}`), el("th", {}, "smoothed"), el("th", {}, "batch")), rows.map(({r, k}) => el("tr", {}, name(r), num(r.rsmooth.v[k]), num(r.rloss.v[k]))))];
      spoken = `learning rate ${fmt(at)}: loss ${fmt(lead.r.rsmooth.v[lead.k])}`;
    } else {
      parts = [el("table", {}, el("tr", {}, el("th", {}, `step ${fmt(at, 6)}`), el("th", {}, "training"), el("th", {}, "validation"), auc && el("th", {}, "AUC")),
        rows.map(({r, k, j}) => el("tr", {}, name(r), num(k < 0 ? NaN : r.smooth.v[k]), num(j < 0 ? NaN : r.vloss.v[j]), auc && num(j < 0 ? NaN : r.vauc.v[j]))))];
      if (i >= 0) {
        const r = lead.r, n = r.sharesAt(i).length, groups = ["stem–stage2", "stage3–4"].map((g, k) => [g, n === 3 ? this.groupRate(r, i, k, 3) : NaN]).filter(([, v]) => Number.isFinite(v));
        const split = groups.some(([, v]) => Math.abs(v / r.lr.v[i] - 1) > 1e-3);
        parts.push(el("p", {}, `learning rate ${split ? "head " : ""}${fmt(r.lr.v[i])}`, split ? groups.reverse().map(([g, v]) => `, ${g} ${fmt(v)}`).join("") : "", Number.isFinite(r.mom.v[i]) ? `; momentum ${fmt(r.mom.v[i])}` : ""));
      }
      const {r, k, j} = lead;
      spoken = `step ${fmt(at, 6)}: training loss ${fmt(r.smooth.v[k])}${j >= 0 ? `, validation loss ${fmt(r.vloss.v[j])}` : ""}${j >= 0 && Number.isFinite(r.vauc.v[j]) ? `, AUC ${fmt(r.vauc.v[j])}` : ""}`;
    }
    this.said.replaceChildren(...parts);
    if (this.announce) { this.say(spoken); this.announce = false; }
  }

  // ---- Pointer and keys

  px(e) { return e.clientX - this.plot.getBoundingClientRect().left; }
  inside(e) { const y = e.clientY - this.plot.getBoundingClientRect().top; return this.area && y >= this.area.y - 20 && y <= this.area.y + this.area.h + 8; }
  moved(e) {
    if (this.drag?.rate) return this.dragRate(e);
    if (this.drag) { this.drag.to = this.px(e); this.drag.zooms = Math.abs(this.drag.to - this.drag.from) > 5; this.later(); return; }
    if (e.target.closest(".ttl-chart-chip, .ttl-chart-handle")) return this.point(null);
    this.point(this.inside(e) ? this.px(e) : null);
  }
  pressed(e) {
    if (e.button || !this.area || !this.inside(e) || e.target.closest(".ttl-chart-chip, .ttl-chart-handle")) return;
    this.drag = {from: this.px(e)}; this.plot.setPointerCapture(e.pointerId);
  }
  released(e) {
    const d = this.drag; this.drag = null;
    if (!d) return;
    if (d.rate) return this.dropRate(d);
    if (d.zooms) { const ends = [this.value(Math.min(d.from, d.to)), this.value(Math.max(d.from, d.to))]; this.zoomTo(...ends); }
    else if (this.log && this.runs.length) this.setRate(+this.value(d.from).toPrecision(2));
    this.later();
  }
  zoomTo(a, b) {
    const whole = this.domain(), least = this.log ? 1.05 : 2;
    if (this.log ? b / a < least : b - a < least) return;
    this.zoom = [Math.max(a, whole[0]), Math.min(b, whole[1])];
    if (this.zoom[0] <= whole[0] && this.zoom[1] >= whole[1]) this.zoom = null;
    this.say(this.zoom ? `Shown: ${fmt(this.zoom[0])} to ${fmt(this.zoom[1])}` : "The whole range is shown"); this.later();
  }
  unzoom() { if (this.zoom) { this.zoom = null; if (this.root.contains(document.activeElement) && document.activeElement === this.back) this.plot.focus(); this.say("The whole range is shown"); this.later(); } }
  zoomBy(factor) {
    const mid = this.value(this.cursor ?? this.area.x + this.area.w / 2), [a, b] = this.view;
    if (this.log) this.zoomTo(mid * (a / mid) ** factor, mid * (b / mid) ** factor); else this.zoomTo(mid + (a - mid) * factor, mid + (b - mid) * factor);
  }
  key(e) {
    if (e.target !== this.plot || e.ctrlKey || e.metaKey || e.altKey || !this.area) return;
    const lead = this.runs.at(-1), a = this.area;
    if (e.key === "ArrowLeft" || e.key === "ArrowRight" || e.key === "Home" || e.key === "End") {
      if (!lead) return;
      const xs = this.log ? lead.rlr : lead.step, [from, to] = this.span(xs), jump = e.shiftKey ? 10 : Math.max(1, Math.round((to - from) / 200));
      let i = this.cursor === null ? to - 1 : this.nearest(lead, this.value(this.cursor)) + (e.key === "ArrowLeft" ? -jump : e.key === "ArrowRight" ? jump : 0);
      if (e.key === "Home") i = from; else if (e.key === "End") i = to - 1;
      const x = this.x(xs.v[Math.max(0, Math.min(xs.n - 1, i))]);
      this.point(Math.max(a.x, Math.min(a.x + a.w, x)), true);
    } else if (e.key === "+" || e.key === "=") this.zoomBy(.5);
    else if (e.key === "-" || e.key === "_") this.zoomBy(2);
    else if (e.key === "0" || e.key === "Escape") { if (this.zoom) this.unzoom(); else this.point(null); }
    else if (e.key === "t" || e.key === "T") this.toggleTable();
    else if (e.key === "Enter" && this.log && this.cursor !== null) this.setRate(+this.value(this.cursor).toPrecision(2));
    else return;
    e.preventDefault(); e.stopPropagation();
  }

  // ---- The chosen learning rate

  buildRate() {
    this.chips = [];
    this.handle = el("div", {class: "ttl-chart-handle", role: "slider", tabindex: "0", hidden: true, "aria-label": "Chosen learning rate", "aria-orientation": "horizontal"}, el("span", {}));
    this.handle.addEventListener("pointerdown", e => this.grabRate(e));
    this.handle.addEventListener("keydown", e => this.rateKey(e));
    this.plot.append(this.handle);
    this.typed = el("input", {class: "ttl-input", type: "text", inputmode: "decimal", autocomplete: "off", spellcheck: "false", placeholder: "0.001", onchange: () => this.typeRate(),
      onkeydown: e => { if (e.key === "Enter") { e.preventDefault(); this.typeRate(); } }});
    this.foot.append(el("label", {class: "ttl-field"}, "Learning rate", this.typed));
    this.showRate();
  }
  showRate() { if (!this.log) return; const v = this.model.get("rate"); if (document.activeElement !== this.typed) this.typed.value = v ? fmt(v) : ""; this.later(); }
  setRate(v, quietly) {
    if (!(v > 0) || !Number.isFinite(v)) return;
    this.model.set("rate", v);
    if (!quietly) { this.model.save_changes(); this.say(`Learning rate ${fmt(v)} chosen`); }
    if (document.activeElement !== this.typed || !quietly) this.typed.value = fmt(v);
    this.later();
  }
  typeRate() {
    const v = Number(this.typed.value.trim().replace(",", "."));
    if (v > 0 && v <= 100) { this.setRate(v); this.typed.removeAttribute("aria-invalid"); this.laterStatus(); }
    else { this.typed.setAttribute("aria-invalid", "true"); const text = "Type a learning rate above 0, such as 0.001 or 1e-3."; this.status.textContent = text; this.say(text); }
  }
  grabRate(e, value) {
    if (e.button) return;
    e.preventDefault(); e.stopPropagation(); e.currentTarget.focus?.({preventScroll: true, focusVisible: false});
    this.drag = {rate: true, from: this.px(e), moved: false, value}; this.plot.setPointerCapture(e.pointerId); this.point(null);
  }
  dragRate(e) {
    const d = this.drag, x = this.px(e);
    if (!d.moved && Math.abs(x - d.from) < 3) return;
    d.moved = true;
    this.setRate(+this.value(x).toPrecision(2), true);
    const now = performance.now();
    if (now - (d.sent ?? 0) > 100) { d.sent = now; this.model.save_changes(); }
  }
  dropRate(d) { if (d.moved) this.setRate(this.model.get("rate")); else if (d.value) this.setRate(d.value); this.later(); }
  rateKey(e) {
    const [lo, hi] = this.domain(), v = this.model.get("rate"), to = {ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 5, PageDown: -5}[e.key];
    let next = e.key === "Home" ? lo : e.key === "End" ? hi : to && v * 10 ** (to * (e.shiftKey ? 5 : 1) / 20);
    if (!next) return;
    e.preventDefault(); e.stopPropagation();
    next = +next.toPrecision(2);
    if (next === v) next = +(v * (to > 0 ? 1.1 : 1 / 1.1)).toPrecision(2);
    this.setRate(Math.max(lo, Math.min(hi, next)));
  }
  placeHandle() {
    const v = this.model.get("rate"), a = this.area, there = v > 0 && this.x(v) >= a.x - 1 && this.x(v) <= a.x + a.w + 1;
    this.handle.hidden = !there || !this.runs.length;
    for (const c of this.chips) c.node.setAttribute("aria-pressed", String(v > 0 && Math.abs(v / c.lr - 1) < 1e-4));
    if (this.handle.hidden) return;
    const x = this.x(v), label = this.handle.firstChild;
    Object.assign(this.handle.style, {left: `${x}px`, top: `${a.y}px`, height: `${a.h}px`});
    if (label.textContent !== fmt(v)) label.textContent = fmt(v);
    const half = label.offsetWidth / 2;
    label.style.setProperty("--shift", `${Math.max(0, half - x) - Math.max(0, x + half - this.w)}px`);
    const [lo, hi] = this.domain();
    for (const [k, o] of Object.entries({valuemin: lo, valuemax: hi, valuenow: v})) this.handle.setAttribute(`aria-${k}`, String(+o.toPrecision(3)));
    this.handle.setAttribute("aria-valuetext", `learning rate ${fmt(v)}`);
  }
  // From each suggestion's button down to the curve
  guides(p, t) {
    const c = this.c, s = this.s, r = this.runs.at(-1);
    for (const o of this.chips) {
      if (o.node.hidden || o.left === undefined) continue;
      const x = Math.round(this.x(o.lr)) + .5, y = r.rsmooth.v[this.nearest(r, o.lr)], end = Number.isFinite(y) ? Math.max(p.y, Math.min(p.y + p.h, p.Y(y))) : p.y + p.h;
      c.save(); c.strokeStyle = t.soft; c.lineWidth = 1; c.setLineDash([2, 3]); c.beginPath(); c.moveTo(x, (o.row + 1) * this.chipHigh - 2 * s); c.lineTo(x, end); c.stroke(); c.restore();
      c.fillStyle = t.paper; c.strokeStyle = this.colour(r); c.lineWidth = 1.8 * s; c.beginPath(); c.arc(x, end, 3.4 * s, 0, 7); c.fill(); c.stroke();
    }
  }
  // Buttons of the suggestions above the curve, in as many rows as they need; returns the height of the rows
  placeChips() {
    const r = this.runs.at(-1), wanted = (r?.suggestions ?? []).filter(o => o.lr > 0 && Number.isFinite(o.lr)), key = JSON.stringify(wanted);
    if (key !== this.chipKey) {
      this.chipKey = key; this.chips.forEach(c => c.node.remove());
      this.chips = wanted.map(({name, lr: raw}) => {
        const lr = +raw.toPrecision(6), node = el("button", {class: "ttl-button ttl-chart-chip", type: "button", "aria-pressed": "false", title: `Choose ${fmt(lr)}, suggested by "${name}"; or drag`}, el("b", {}, name), el("span", {}, fmt(lr)));
        node.addEventListener("pointerdown", e => this.grabRate(e, lr));
        node.addEventListener("click", e => { if (e.detail === 0) this.setRate(lr); });  // by key; a pointer's press is seen above
        this.plot.append(node); return {name, lr, node};
      }).sort((a, b) => a.lr - b.lr);
    }
    if (!this.chips.length || !this.area) return 0;
    for (const c of this.chips) c.node.lastChild.hidden = this.w < 520 * this.s;
    const rows = [], high = this.chips[0].node.offsetHeight + 3 * this.s;
    for (const c of this.chips) {
      const x = this.x(c.lr), w = c.node.offsetWidth;
      c.node.hidden = x < this.area.x - 1 || x > this.area.x + this.area.w + 1;
      if (c.node.hidden) continue;
      c.x = x; c.left = Math.max(0, Math.min(this.w - w, x - w / 2));
      c.row = rows.findIndex(end => c.left >= end + 4); if (c.row < 0) c.row = rows.push(0) - 1;
      rows[c.row] = c.left + w;
      c.node.style.transform = `translate(${Math.round(c.left)}px, ${Math.round(c.row * high)}px)`;
    }
    this.chipHigh = high;
    return rows.length * high;
  }

  // ---- Status, table, files

  laterStatus() { if (!this.statusTimer) this.statusTimer = setTimeout(() => { this.statusTimer = 0; this.showStatus(); }, 250); }
  summary(r) {
    if (this.log) return `${r.rlr.n} learning rates tried, up to ${fmt(r.rlr.last)}`;
    const planned = this.model.get("planned") || this.store.planned;
    return [`step ${fmt(r.end, 7)}${planned >= r.end ? ` of ${fmt(planned, 7)}` : ""}`, r.step.n && `training loss ${fmt(r.smooth.last)}`, r.vstep.n && `validation loss ${fmt(r.vloss.last)}`, r.hasAuc && `AUC ${fmt(r.vauc.last)}`].filter(Boolean).join(" · ");
  }
  showStatus() {
    const r = this.store.newest, bad = r?.bad ? ` The loss is not a number from step ${fmt(r.firstBad, 7)} on: the learning rate is probably too high.` : "";
    const text = !r || r.empty ? "Waiting for the first step." : this.summary(r);
    this.status.replaceChildren(text + (bad ? "." : ""), bad ? el("span", {class: "ttl-warn"}, bad) : "");
    this.canvas.setAttribute("aria-label", `${this.log ? "Learning-rate range test" : "Training curves"}: ${this.runs.map(o => `${o.name}: ${this.summary(o)}`).join("; ") || "empty"}.${bad}`);
    this.plot.setAttribute("aria-label", this.log ? "Loss over learning rate" : "Curves over optimiser steps");
    const now = performance.now(), news = r && `${r.vstep.n}/${r.suggestions.length}/${!!r.bad}`;
    if (r && !r.empty && news !== this.news && now - (this.spoke ?? -1e9) > 4000 && !this.store.playing) { this.news = news; this.spoke = now; this.say(text + (r.suggestions.length ? `; suggestions: ${r.suggestions.map(o => `${o.name} ${fmt(o.lr)}`).join(", ")}` : "") + bad); }
    if (!this.table.hidden && now - (this.tabled ?? 0) > 1000) this.fillTable();
  }
  toggleTable() {
    this.table.hidden = !this.table.hidden; this.tableButton.setAttribute("aria-pressed", String(!this.table.hidden));
    if (!this.table.hidden) this.fillTable();
  }
  // Rows of the table: where there was a validation, else some twenty steps; a range test whole
  rows(r) {
    if (this.log) return Array.from({length: r.rlr.n}, (_, i) => [fmt(r.rlr.v[i]), fmt(r.rsmooth.v[i]), fmt(r.rloss.v[i])]);
    const steps = r.vstep.n ? Array.from(r.vstep.v.subarray(0, r.vstep.n)) : Array.from({length: Math.min(20, r.step.n)}, (_, i) => r.step.v[Math.round((i + 1) * r.step.n / Math.min(20, r.step.n)) - 1] + 1);
    const skip = Math.ceil(steps.length / 200);
    return steps.filter((_, i) => (steps.length - 1 - i) % skip === 0).map(at => {
      const i = r.step.find(at) - 1, j = r.vstep.find(at);
      return [fmt(at, 7), i >= 0 ? fmt(r.smooth.v[i]) : "–", ...(r.vstep.n ? [fmt(r.vloss.v[j]), fmt(r.vauc.v[j])] : ["–", "–"]), i >= 0 ? fmt(r.lr.v[i]) : "–", i >= 0 ? fmt(r.mom.v[i]) : "–"];
    });
  }
  fillTable() {
    this.tabled = performance.now();
    const heads = this.log ? ["learning rate", "loss, smoothed", "loss of the batch"] : ["step", "training loss, smoothed", "validation loss", "AUC", "learning rate", "momentum"];
    const at = this.table.scrollTop;
    this.table.replaceChildren(...this.store.list.filter(r => r.shown).map(r => el("table", {class: "ttl-table"},
      el("caption", {}, `${r.name}: ${this.log ? "every rate that was tried" : r.vstep.n ? "at each validation" : "some steps"}; the CSV file holds every step`),
      el("thead", {}, el("tr", {}, heads.map(h => el("th", {scope: "col", class: "ttl-number"}, h)))),
      el("tbody", {}, this.rows(r).map(row => el("tr", {}, row.map(v => el("td", {class: "ttl-number"}, v))))))));
    this.table.scrollTop = at;
  }
  csv() {
    const text = v => { v = String(v); if (/^[=+\-@\t\r]/.test(v)) v = "'" + v; return `"${v.replaceAll('"', '""')}"`; }, num = v => Number.isFinite(v) ? +v.toPrecision(6) : "";
    const lines = [this.log ? "run,learning_rate,loss,smoothed" : "run,kind,step,loss,smoothed,auc,learning_rate,momentum"];
    for (const r of this.store.list) {
      const name = text(r.name);
      for (let i = 0; i < r.rlr.n; i++) if (this.log) lines.push([name, num(r.rlr.v[i]), num(r.rloss.v[i]), num(r.rsmooth.v[i])].join(","));
      if (this.log) continue;
      for (let i = 0; i < r.step.n; i++) lines.push([name, "training", r.step.v[i], num(r.loss.v[i]), num(r.smooth.v[i]), "", num(r.lr.v[i]), num(r.mom.v[i])].join(","));
      for (let i = 0; i < r.vstep.n; i++) lines.push([name, "validation", r.vstep.v[i], num(r.vloss.v[i]), "", num(r.vauc.v[i]), "", ""].join(","));
    }
    return lines.join("\r\n") + "\r\n";
  }
  saveTable() { ttlSave("curves.csv", new Blob([this.csv()], {type: "text/csv"})); this.say("The values were saved as curves.csv"); }
  savePicture() {
    this.point(null); this.draw();
    const d = this.d, s = this.s, t = this.colours(), runs = this.runs, high = Math.ceil((18 + 20 * Math.max(1, runs.length)) * s);
    const all = el("canvas", {width: this.canvas.width, height: this.canvas.height + high * d}), c = all.getContext("2d");
    c.fillStyle = t.paper; c.fillRect(0, 0, all.width, all.height); c.drawImage(this.canvas, 0, high * d);
    c.scale(d, d); c.font = `400 ${13 * s}px ${getComputedStyle(this.root).fontFamily}`; c.textBaseline = "middle";
    runs.forEach((r, i) => { const y = (18 + 20 * i) * s; c.strokeStyle = this.colour(r); c.lineWidth = 2.2 * s; c.setLineDash(this.log || !r.vstep.n ? this.dash(r) : []); c.beginPath(); c.moveTo(12 * s, y); c.lineTo(42 * s, y); c.stroke(); c.setLineDash([]);
      if (!this.log && r.vstep.n) { const q = new Path2D(lcMarker(this.marker(r), 27 * s, y, 3.4 * s)); c.fillStyle = t.paper; c.fill(q); c.stroke(q); }
      c.fillStyle = t.ink; c.fillText(r.name + (this.log || i ? "" : "   (training: thin; validation: marked)"), 50 * s, y); });
    if (this.log && this.model.get("rate") > 0 && runs.length) { const x = this.x(this.model.get("rate")); c.setLineDash([]); c.strokeStyle = t.accent; c.lineWidth = 2 * s; c.beginPath(); c.moveTo(x, high + this.area.y); c.lineTo(x, high + this.area.y + this.area.h); c.stroke(); c.fillStyle = t.accent; c.textAlign = "center"; c.fillText(fmt(this.model.get("rate")), x, high + this.area.y - 10 * s); }
    all.toBlob(b => { ttlSave("curves.png", b); this.say("The picture was saved as curves.png"); });
  }

  // ---- Replay

  buildPlayer() {
    const st = this.store;
    this.player = {button: el("button", {class: "ttl-button", type: "button", onclick: () => st.playing ? st.pause() : st.play()}),
      bar: el("input", {type: "range", min: "0", max: "1000", step: "1", "aria-label": "Moment of the run", oninput: e => { st.playing = false; st.seek(e.target.value / 1000 * st.duration); }}),
      speed: el("select", {class: "ttl-select", "aria-label": "Speed", onchange: e => { st.speed = +e.target.value; }}), time: el("span", {})};
    this.root.insertBefore(el("div", {class: "ttl-chart-play"}, this.player.button, this.player.bar, this.player.time, this.player.speed), this.foot);
  }
  showPlayer() {
    const st = this.store, p = this.player, face = st.playing ? "Pause" : st.t >= st.duration ? "Play again" : "Play", unit = v => `${v < 10 ? v.toFixed(1) : Math.round(v)} s`;
    if (!st.duration) { p.button.textContent = "Play"; p.button.disabled = true; return; }
    p.button.disabled = false;
    if (p.button.textContent !== face) p.button.textContent = face;
    p.bar.value = String(Math.round(st.t / st.duration * 1000)); p.bar.setAttribute("aria-valuetext", `${unit(st.t)} of ${unit(st.duration)}`);
    p.time.textContent = `${unit(st.t)} of ${unit(st.duration)}`;
    if (!p.speed.options.length) { const all = [...new Set([1, 2, 5, 10, 30, st.speed])].sort((a, b) => a - b); p.speed.append(...all.map(v => el("option", {value: v, selected: v === st.speed}, `${fmt(v)}×`))); p.speed.value = String(st.speed); }
  }
}

const lcWidget = {
  initialize({model}) { lcStore(model); },
  render({model, el: root}) { const view = new LcView(model, root, lcStore(model)); return () => view.close(); },
};
export default lcWidget;
