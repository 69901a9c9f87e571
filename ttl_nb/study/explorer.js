"use strict";
(() => {
const D = JSON.parse(document.getElementById("data").textContent), $ = id => document.getElementById(id), NS = "http://www.w3.org/2000/svg";

// Nodes: text is only ever text
function build(node, attrs, children) {
  for (const [k, v] of Object.entries(attrs || {})) if (v !== null && v !== undefined && v !== false) k.startsWith("on") ? node.addEventListener(k.slice(2), v) : node.setAttribute(k, v === true ? "" : v);
  node.append(...children.flat(9).filter(c => c !== null && c !== undefined && c !== false && c !== ""));
  return node;
}
const el = (tag, attrs, ...children) => build(document.createElement(tag), attrs, children);
const svg = (tag, attrs, ...children) => build(document.createElementNS(NS, tag), attrs, children);
const count = (n, word) => `${n.toLocaleString("en-GB")} ${n === 1 ? word : word + "s"}`;

// What the study holds, by name
const key = (...o) => o.join(" "), named = (rows, ...fields) => new Map(rows.map(r => [key(...fields.map(f => r[f])), r]));
const arms = named(D.arms, "s", "p", "n"), runs = named(D.runs, "s", "p", "n", "seed"), means = named(D.means, "s", "p", "n"), draws = named(D.draws, "n", "seed");
const differences = new Map(D.differences.flatMap(d => [[key(...d.a, ...d.b), {said: d.said, verdict: d.verdict}], [key(...d.b, ...d.a), {said: d.back, verdict: d.verdict}]]));
const lines = [...new Map(D.arms.filter(a => a.s >= 0).map(a => [key(a.s, a.p), {s: a.s, p: a.p}])).values()];
const plansOf = s => lines.filter(l => l.s === s).map(l => l.p);
const VIEWS = ["all", "source", "plan"];
const BASES = [{s: -1, name: "thumbnail", look: {colour: "#868686", dash: [4, 2]}}, {s: -2, name: "radiomics, no network", look: {colour: "#868686", dash: [6, 1.5, 1, 1.5]}}];

// What is chosen: a source, a plan, a size, a seed (null: the mean), perhaps another such choice beside it, and how to draw
const state = {s: D.first.s, p: D.first.p, n: D.first.n, seed: null, pin: null, view: "all", large: false, wanted: D.first.p};
const chosen = () => ({s: state.s, p: state.p, n: state.n, seed: state.seed});
const armOf = c => arms.get(key(c.s, c.p, c.n)), runOf = c => c.seed === null ? null : runs.get(key(c.s, c.p, c.n, c.seed));
const nameOf = c => `${D.sources[c.s].name}, ${D.plans[c.p].name}`;
const whatOf = c => `${count(c.n, "training image")}, ${c.seed === null ? "mean of seeds" : "seed " + c.seed}`;
const same = (a, b) => a && b && a.s === b.s && a.p === b.p && a.n === b.n && a.seed === b.seed;

function settle(wish) { // Only what the study has: a plan that the chosen source has no run of gives way to one that it has
  Object.assign(state, wish);
  const there = plansOf(state.s);
  state.p = there.includes(state.wanted) ? state.wanted : there.find(p => D.plans[p].name === "full") ?? there[0];
}

// The address says what is chosen; what it asks for is looked up among what is offered, and else ignored
function fromAddress() {
  const text = location.hash.slice(1), wish = {}, odd = [];
  if (!text) return false;
  if (text.length > 2000) return ["address"];
  const given = new URLSearchParams(text);
  const look = (name, list, take) => { if (!given.has(name)) return; const i = list.indexOf(given.get(name)); i < 0 ? odd.push(name) : take(i); };
  const pick = (prefix, into) => {
    look(prefix + "source", D.sources.map(o => o.name), i => into.s = i);
    look(prefix + "plan", D.plans.map(o => o.name), i => into.p = i);
    look(prefix + "n", D.sizes.map(String), i => into.n = D.sizes[i]);
    look(prefix + "seed", ["mean", ...D.seeds.map(String)], i => into.seed = i ? D.seeds[i - 1] : null);
    return into;
  };
  pick("", wish);
  if ("p" in wish) wish.wanted = wish.p;
  const pin = pick("with-", {});
  wish.pin = ["s", "p", "n", "seed"].every(k => k in pin) && lines.some(l => l.s === pin.s && l.p === pin.p) ? pin : null;
  look("lines", VIEWS, i => wish.view = VIEWS[i]);
  look("size", ["projector"], () => wish.large = true);
  settle(wish);
  return odd;
}

function toAddress() {
  const out = new URLSearchParams(), put = (prefix, c) => {
    out.set(prefix + "source", D.sources[c.s].name); out.set(prefix + "n", c.n); out.set(prefix + "plan", D.plans[c.p].name); out.set(prefix + "seed", c.seed ?? "mean"); };
  put("", state);
  if (state.pin) put("with-", state.pin);
  if (state.view !== "all") out.set("lines", state.view);
  if (state.large) out.set("size", "projector");
  try { history.replaceState(null, "", "#" + out); } catch { /* a page without an address of its own */ }
}

// Lines: colour and marker say the source, the dash the plan; where one source's plans are compared, all three say the plan
const dark = matchMedia("screen and (prefers-color-scheme: dark)");
const bright = hex => "#" + [1, 3, 5].map(i => Math.round(parseInt(hex.slice(i, i + 2), 16) * .7 + 255 * .3).toString(16).padStart(2, "0")).join("");
const ink = o => !o.colour ? "var(--ink)" : dark.matches ? bright(o.colour) : o.colour;
function lookOf(c) {
  const source = D.sources[c.s], plan = D.plans[c.p], from = state.view === "plan" ? plan : source;
  if (state.view === "plan" && c.s !== state.s) return {colour: "var(--ink)", marker: source.marker, dash: plan.dash};
  return {colour: ink(from), marker: from.marker, dash: plan.dash};
}
const dashes = (dash, width) => dash.length ? dash.map(d => +(d * Math.min(width, 2) * 1.15).toFixed(2)).join(" ") : null;
const SHAPES = {"s": "M-1-1H1V1H-1Z", "D": "M0-1.3 1.3 0 0 1.3-1.3 0Z", "d": "M0-1.3 .9 0 0 1.3-.9 0Z", "^": "M0-1.25 1.2 1H-1.2Z", "v": "M0 1.25 1.2-1H-1.2Z", "<": "M-1.25 0 1-1.2V1.2Z", ">": "M1.25 0-1-1.2V1.2Z",
  "P": "M-.45-1.2H.45V-.45H1.2V.45H.45V1.2H-.45V.45H-1.2V-.45H-.45Z", "X": "M-1.2-.75-.75-1.2 0-.5.75-1.2 1.2-.75.5 0 1.2.75.75 1.2 0 .5-.75 1.2-1.2.75-.5 0Z",
  "*": "M0-1.4 .33-.45 1.33-.43 .53.17 .82 1.13 0 .56-.82 1.13-.53.17-1.33-.43-.33-.45Z"};
function marker(shape, x, y, r, attrs) {
  return SHAPES[shape] ? svg("path", {d: SHAPES[shape], transform: `translate(${x} ${y}) scale(${r})`, "vector-effect": "non-scaling-stroke", ...attrs}) : svg("circle", {cx: x, cy: y, r, ...attrs});
}
function swatch(look, what = "both", width = 2) {
  return svg("svg", {viewBox: "0 0 32 16", "aria-hidden": true, focusable: "false", class: "line", width: "2rem", height: "1rem"},
    what !== "marker" && svg("line", {x1: 1, x2: 31, y1: 8, y2: 8, stroke: look.colour, "stroke-width": width, "stroke-dasharray": dashes(look.dash, width)}),
    what !== "line" && marker(look.marker, 16, 8, 4, {fill: look.colour, stroke: "var(--paper)", "stroke-width": 1}));
}

// A chart: margins, linear scales, grid, labels; sizes follow the page's letters
const em = () => parseFloat(getComputedStyle(document.documentElement).fontSize);
function ticks(low, high, most) {
  const step = [1, 2, 5, 10].map(s => s * 10 ** Math.floor(Math.log10((high - low) / most))).find(s => (high - low) / s <= most), found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(+(i * step).toPrecision(10));
  return found;
}
function frame(host, {height, x, y, xTicks, yTicks, xSaid = String, ySaid = String, xName, yName, said, square}) {
  const e = em() / 17, size = 12.9 * e, m = {left: 60 * e, right: 14 * e, top: 10 * e, bottom: 40 * e}, w = Math.max(host.clientWidth, 240);
  const h = square ? Math.min(w - m.left - m.right, 430 * e) + m.top + m.bottom : height * e, right = square ? m.left + h - m.top - m.bottom : w - m.right, bottom = h - m.bottom;
  const X = v => m.left + (v - x[0]) / (x[1] - x[0]) * (right - m.left), Y = v => bottom - (v - y[0]) / (y[1] - y[0]) * (bottom - m.top);
  const root = svg("svg", {viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": said, "font-size": size});
  const widest = Math.max(...xTicks.map(t => xSaid(t).length)) * size * .62, named = [];
  for (const t of [...xTicks].reverse()) if (!named.length || X(named[0]) - X(t) > widest + 4) named.unshift(t);
  root.append(...yTicks.flatMap(t => [svg("line", {class: "grid", x1: m.left, x2: right, y1: Y(t), y2: Y(t)}), svg("text", {x: m.left - 7 * e, y: Y(t), dy: ".34em", "text-anchor": "end"}, ySaid(t))]),
    svg("line", {class: "axis", x1: m.left, x2: right, y1: bottom, y2: bottom}),
    ...xTicks.map(t => svg("line", {class: "axis", x1: X(t), x2: X(t), y1: bottom, y2: bottom + 4 * e})), ...named.map(t => svg("text", {x: X(t), y: bottom + 17 * e, "text-anchor": "middle"}, xSaid(t))),
    svg("text", {class: "soft", x: (m.left + right) / 2, y: h - 5 * e, "text-anchor": "middle"}, xName),
    svg("text", {class: "soft", transform: `translate(${11 * e} ${(m.top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle"}, yName));
  const id = "cut-" + host.id, inside = svg("g", {"clip-path": `url(#${id})`});
  root.append(svg("clipPath", {id}, svg("rect", {x: m.left, y: m.top - 2, width: right - m.left + 2, height: bottom - m.top + 4})), inside);
  host.replaceChildren(root);
  return {root, inside, X, Y, e, left: m.left, right, top: m.top, bottom, width: w};
}
function path(c, xs, ys) { // A gap where a value is not known
  let out = "", pen = false;
  xs.forEach((x, i) => { if (ys[i] === null) { pen = false; return; } out += `${pen ? "L" : "M"}${c.X(x).toFixed(1)} ${c.Y(ys[i]).toFixed(1)}`; pen = true; });
  return out;
}
const stroke = (c, d, look, width, more) => svg("path", {d, fill: "none", stroke: look.colour, "stroke-width": width * c.e, "stroke-dasharray": look.dash && dashes(look.dash, width * c.e), "stroke-linejoin": "round", ...more});
const area = (c, xs, low, high) => path(c, xs, high) + path(c, [...xs].reverse(), [...low].reverse()).replace("M", "L") + "Z";

// What is under the pointer
function hover(host, c, find) {
  const tip = el("div", {class: "tip", hidden: true});
  host.append(tip);
  c.root.addEventListener("pointermove", event => {
    const box = c.root.getBoundingClientRect(), k = c.width / box.width, x = (event.clientX - box.left) * k, y = (event.clientY - box.top) * k, found = find(x, y);
    tip.hidden = !found;
    c.root.style.cursor = found && found.pick ? "pointer" : "";
    if (!found) return;
    tip.textContent = found.said;
    const left = found.x / k, width = tip.offsetWidth;
    tip.style.left = Math.max(0, Math.min(left + 12, box.width - width)) + "px";
    tip.style.top = Math.max(0, found.y / k - tip.offsetHeight - 10) + "px";
  });
  c.root.addEventListener("pointerleave", () => tip.hidden = true);
  addEventListener("keydown", event => { if (event.key === "Escape") tip.hidden = true; });
  c.root.addEventListener("click", event => {
    const box = c.root.getBoundingClientRect(), k = c.width / box.width, found = find((event.clientX - box.left) * k, (event.clientY - box.top) * k);
    if (found && found.pick) found.pick();
  });
}

// Learning curves
function drawCurves() {
  const host = $("curves"), [low, high] = D.limits, log = Math.log2, sizes = D.sizes, c0 = chosen(), pin = state.pin;
  const ends = [log(sizes[0]) - .3, log(sizes.at(-1)) + .3];
  const c = frame(host, {height: 345, x: ends, y: [low, high], xTicks: sizes.map(log), yTicks: ticks(low, high, 6), xSaid: v => Math.round(2 ** v).toLocaleString("en-GB"), ySaid: v => v.toFixed(2),
    xName: "labelled training images (doubling scale)", yName: "AUC on test patients", said: sayCurves()});
  const shown = lines.filter(l => state.view === "all" || (state.view === "source" ? l.p === state.p : l.s === state.s) || (pin && l.s === pin.s && l.p === pin.p));
  const is = (l, o) => o && l.s === o.s && l.p === o.p, order = shown.filter(l => !is(l, c0) && !is(l, pin)).concat(shown.filter(l => is(l, pin) && !is(l, c0)), shown.filter(l => is(l, c0)));
  const shift = l => state.view === "all" ? (is(l, c0) ? 0 : is(l, pin) ? -10 : 0) : Math.min(10, 60 / shown.length) * (shown.indexOf(l) - (shown.length - 1) / 2);
  const place = (l, n) => c.X(log(n)) + shift(l) * c.e, points = [];
  const pointsOf = l => sizes.map(n => armOf({...l, n})).filter(Boolean);
  const bases = BASES.map(b => ({...b, own: sizes.map(n => arms.get(key(b.s, -1, n))).filter(Boolean)})).filter(b => b.own.length);
  for (const {s, look, own} of bases) {
    const xs = own.length > 1 ? own.map(b => log(b.n)) : ends, of = k => own.length > 1 ? own.map(b => b[k]) : [own[0][k], own[0][k]];
    if (s === -1) c.inside.append(svg("path", {d: area(c, xs, of("low"), of("high")), fill: "#767676", opacity: .16}));
    c.inside.append(stroke(c, path(c, xs, of("auc")), look, 1.4));
  }
  if (low < .5 && high > .5) c.inside.append(svg("line", {x1: c.left, x2: c.right, y1: c.Y(.5), y2: c.Y(.5), stroke: "#868686", "stroke-width": c.e, "stroke-dasharray": "1 3"}), svg("text", {class: "soft", x: c.right - 2 * c.e, y: c.Y(.5) - 4 * c.e, "text-anchor": "end", "font-size": 12.8 * c.e}, "chance"));
  c.inside.append(svg("line", {class: "now", x1: c.X(log(state.n)), x2: c.X(log(state.n)), y1: c.top, y2: c.bottom, "stroke-width": 34 * c.e}));
  for (const l of order) {
    const own = pointsOf(l), look = lookOf(l), strong = is(l, c0), pinned = is(l, pin), faint = !strong && !pinned, xs = own.map(a => place(l, a.n)), line = own.map((a, i) => `${i ? "L" : "M"}${xs[i].toFixed(1)} ${c.Y(a.auc).toFixed(1)}`).join("");
    const g = svg("g", {opacity: faint ? (state.view === "all" ? .42 : .75) : 1, "data-line": key(l.s, l.p)});
    if (strong || pinned || state.view !== "all") for (const a of own) if (a.low !== null) {
      const x = place(l, a.n), cap = (strong ? 5 : 3.5) * c.e, width = (strong ? 2 : 1.2) * c.e, bar = (x1, x2, y1, y2) => svg("line", {x1, x2, y1, y2, stroke: look.colour, "stroke-width": width});
      g.append(bar(x, x, c.Y(a.low), c.Y(a.high)), ...[a.low, a.high].map(v => bar(x - cap, x + cap, c.Y(v), c.Y(v))));
    }
    if (strong) g.append(stroke(c, line, {colour: "var(--paper)", dash: []}, 7));
    g.append(stroke(c, line, look, strong ? 3.2 : pinned ? 2.2 : 1.3));
    const mine = strong ? state.seed : pinned ? pin.seed : null, dots = faint ? [] : D.seeds.filter(seed => seed !== mine).concat(mine ?? []);
    for (const n of sizes) for (const seed of dots) {
      const run = runs.get(key(l.s, l.p, n, seed)), now = mine === seed;
      if (run) g.append(svg("circle", {cx: place(l, n) + (strong ? 14 : -14) * c.e, cy: c.Y(run.auc), r: (now ? 4.4 : 2.6) * c.e, fill: now ? "var(--paper)" : "none", stroke: look.colour, "stroke-width": (now ? 2.6 : 1.1) * c.e, opacity: now ? 1 : .7, class: now ? "run now-run" : "run"}));
    }
    own.forEach((a, i) => {
      const r = (strong ? (a.n === state.n ? 7 : 5.2) : pinned ? 4.6 : 3.4) * c.e;
      g.append(marker(look.marker, xs[i], c.Y(a.auc), r, {fill: look.colour, stroke: "var(--paper)", "stroke-width": c.e * 1.2}));
      points.push({x: xs[i], y: c.Y(a.auc), a});
    });
    c.inside.append(g);
  }
  hover(host, c, (x, y) => {
    const near = points.reduce((b, q) => { const d = (q.x - x) ** 2 + (q.y - y) ** 2; return d < b.d ? {d, q} : b; }, {d: (20 * c.e) ** 2}).q;
    return near && {x: near.x, y: near.y, said: `${nameOf(near.a)}, ${near.a.n.toLocaleString("en-GB")} images\nAUC ${near.a.said.join(" ")}, ${count(near.a.seeds, "seed")}`, pick: () => change({s: near.a.s, wanted: near.a.p, n: near.a.n})};
  });
  const item = (line, text, strong) => el("span", {class: strong && "strong"}, line, text);
  const others = order.filter(l => !is(l, c0) && !is(l, pin));
  $("curves-key").replaceChildren(item(swatch(lookOf(c0), "both", 3), nameOf(c0), true), pin && !is(pin, c0) ? item(swatch(lookOf(pin)), nameOf(pin)) : "",
    ...state.view === "all" ? (others.length ? [item("", "other arms: colour and marker say the source, dashes the plan")] : []) : others.map(l => item(swatch(lookOf(l), "both", 1.4), state.view === "source" ? D.sources[l.s].name : D.plans[l.p].name)),
    ...bases.map(b => item(swatch(b.look, "line", 1.4), b.name)));
}
function sayCurves() {
  const own = D.sizes.map(n => armOf({...chosen(), n})).filter(Boolean);
  return `Learning curves, mean AUC and training images. ${nameOf(state)}: ${own.map(a => `${a.said.join(" ")} at ${a.n}`).join(", ")}. The table below has every arm.`;
}

// Loss and learning rates
function lossOf(c) {
  if (c.seed === null) { const m = means.get(key(c.s, c.p, c.n)); return m && {steps: D.steps[m.steps], smooth: m.median, low: m.low, high: m.high}; }
  const run = runOf(c);
  return run && run.loss && {...run.loss, steps: D.steps[run.loss.steps]};
}
function ratesOf(c) {
  const of = c.seed === null ? D.seeds.map(seed => runOf({...c, seed})) : [runOf(c)];
  return [...new Set(of.filter(r => r && r.rates !== null && r.rates !== undefined).map(r => r.rates))].map(i => D.rates[i]);
}
function noLoss(c) {
  const of = c.seed === null ? D.seeds.map(seed => runOf({...c, seed})).find(Boolean) : runOf(c);
  if (!of) return "This run is not finished.";
  if (of.solved) return "This head was solved for, by logistic regression: there are no steps, no loss curve and no learning rate.";
  return of.roc ? "This run recorded no steps." : "The curves of this run are left out, see below.";
}
function drawLoss() {
  const all = [chosen(), state.pin].filter(c => c && !(c === state.pin && same(c, chosen()))).map(c => ({c, loss: lossOf(c), look: lookOf(c)})), there = all.filter(o => o.loss), first = all[0];
  const host = $("loss"), key = $("loss-key");
  key.replaceChildren(...all.map((o, i) => el("span", {class: i ? null : "strong"}, swatch({...o.look, dash: i ? [3, 1.5] : []}, "line", i ? 2 : 3), `${nameOf(o.c)}, ${o.c.n.toLocaleString("en-GB")}, ${o.c.seed === null ? "mean" : "seed " + o.c.seed}`)));
  $("rate").hidden = !ratesOf(first.c).length;
  if (!there.length) { host.replaceChildren(el("p", {}, noLoss(first.c))); $("loss-note").textContent = ""; drawRates(); return; }
  const known = there.flatMap(o => [...o.loss.smooth, ...(o.loss.high || []), ...(o.loss.loss || []), ...(o.loss.valid ? o.loss.valid[1] : [])]).filter(v => v !== null).sort((a, b) => a - b);
  const top = 1.08 * (known[Math.floor(.995 * (known.length - 1))] || 1), last = Math.max(...there.map(o => o.loss.steps.at(-1)));
  const c = frame(host, {height: 265, x: [0, last], y: [0, top], xTicks: ticks(0, last, 6), yTicks: ticks(0, top, 5), ySaid: v => String(+v.toPrecision(3)), xName: "optimiser step", yName: "training loss", said: sayLoss(there)});
  drawPhases(c, ratesOf(first.c)[0]);
  for (const o of [...there].reverse()) {
    const strong = o === first, look = {...o.look, dash: strong ? [] : [3, 1.5]}, L = o.loss;
    if (L.low) c.inside.append(svg("path", {d: area(c, L.steps, L.low, L.high), fill: look.colour, opacity: strong ? .2 : .12}));
    if (L.loss) c.inside.append(stroke(c, path(c, L.steps, L.loss), {...look, dash: []}, 1, {opacity: strong ? .4 : .2}));
    c.inside.append(stroke(c, path(c, L.steps, L.smooth), look, strong ? 3 : 2));
    if (L.valid) L.valid[0].forEach((s, i) => L.valid[1][i] !== null && c.inside.append(svg("circle", {cx: c.X(s), cy: c.Y(L.valid[1][i]), r: 4 * c.e, fill: "var(--paper)", stroke: look.colour, "stroke-width": 2 * c.e})));
  }
  if (!first.loss) host.prepend(el("p", {}, noLoss(first.c)));
  $("loss-note").textContent = (state.seed === null ? "Median over seeds of the loss, a mean of the last twentieth of all steps; the band is its quartiles." : `Thin: the loss of ${first.loss && first.loss.steps.length < first.loss.steps.at(-1) ? `${first.loss.steps.length} of ${first.loss.steps.at(-1).toLocaleString("en-GB")} steps` : "every step"}. Strong: a mean of the last twentieth of all steps.`)
    + (there.some(o => o.loss.valid) ? " Rings: validation loss." : "") + (D.folds ? " Of the last of five folds." : "") + " A low training loss says nothing of new patients.";
  hover(host, c, x => {
    if (x < c.left || x > c.right) return null;
    const step = (x - c.left) / (c.right - c.left) * last, near = there.map(o => { const i = o.loss.steps.reduce((b, s, j) => Math.abs(s - step) < Math.abs(o.loss.steps[b] - step) ? j : b, 0); return {o, i}; });
    return {x, y: c.top + 60 * c.e, said: `step ${near[0].o.loss.steps[near[0].i]}\n` + near.map(({o, i}) => `${nameOf(o.c)}: ${o.loss.smooth[i] === null ? "–" : o.loss.smooth[i].toFixed(3)}`).join("\n")};
  });
  drawRates();
}
function drawPhases(c, rates) {
  for (const [i, [step, text]] of (rates ? rates.phases : []).entries()) {
    c.inside.append(svg("line", {class: "guide", x1: c.X(step), x2: c.X(step), y1: c.top, y2: c.bottom}));
    if (text) c.root.append(svg("text", {class: "soft", x: c.X(step) + 4 * c.e, y: c.top + (10 + 15 * (i % 4)) * c.e, "font-size": 12.8 * c.e}, text));
  }
}
function sayLoss(there) { return `Training loss. ${there.map(o => { const known = o.loss.smooth.filter(v => v !== null); return `${nameOf(o.c)}, ${whatOf(o.c)}: from ${known[0]?.toFixed(2)} to ${known.at(-1)?.toFixed(2)} over ${o.loss.steps.at(-1)} steps`; }).join("; ")}.`; }
const rateSaid = v => v === 0 ? "0" : v.toExponential(1).replace(/\.0e/, "e").replace("e-", "e−");
function drawRates() {
  const found = ratesOf(chosen()), look = lookOf(state), host = $("rate");
  if (!found.length) { host.replaceChildren(); return; }
  const loss = [chosen(), state.pin].filter(Boolean).map(lossOf).filter(Boolean), last = Math.max(...found.map(r => r.steps.at(-1)), ...loss.map(l => l.steps.at(-1)));
  const top = 1.3 * Math.max(...found.flatMap(r => r.groups.flatMap(g => g.rates)).filter(v => v !== null), 1e-12);
  const alike = r => r.groups.every(g => g.rates.every((v, i) => v === r.groups[0].rates[i])), groups = alike(found[0]) ? [{...found[0].groups[0], name: "all stages"}] : found[0].groups.filter(g => g.rates.some(v => v !== null));
  const c = frame(host, {height: 175, x: [0, last], y: [0, top], xTicks: ticks(0, last, 6), yTicks: ticks(0, top, 3), ySaid: rateSaid, xName: "optimiser step", yName: "learning rate",
    said: `Learning rates. ${groups.map(g => `${g.name}: at most ${rateSaid(Math.max(...g.rates.filter(v => v !== null)))}`).join("; ")}.`});
  for (const r of found) (alike(r) ? r.groups.slice(0, 1) : r.groups).forEach((g, i) => c.inside.append(stroke(c, path(c, r.steps, g.rates), {colour: look.colour, dash: [[], [5, 1.5], [1, 1.2]][i % 3]}, 2)));
  drawPhases(c, {phases: (found[0].phases).map(([s]) => [s, ""])});
  let above = -1e9;
  const tops = groups.map((g, i) => { const v = Math.max(...g.rates.filter(o => o !== null)); return {g, i, v, step: found[0].steps[g.rates.indexOf(v)]}; });
  for (const t of tops) { const y = Math.max(c.Y(t.v) - 5 * c.e, above + 14 * c.e); above = y; const x = c.X(t.step), flip = x + t.g.name.length * 7 * c.e > c.right; c.root.append(svg("text", {x, y: Math.min(y, c.bottom - 3 * c.e), "text-anchor": flip ? "end" : "start", "font-size": 12.8 * c.e, "paint-order": "stroke", stroke: "var(--paper)", "stroke-width": 3 * c.e}, t.g.name)); }
}

// ROC curves
function drawRoc() {
  const all = [chosen(), state.pin].filter(c => c && !(c === state.pin && same(c, chosen())));
  const every = c => (c.seed === null ? D.seeds.map(seed => runOf({...c, seed})) : [runOf(c)]).filter(r => r && r.roc);
  const many = c => every(c).flatMap(r => r.roc).length > 24, of = c => many(c) ? every(c).slice(0, 1) : every(c);
  const host = $("roc"), there = all.filter(c => of(c).length), tenths = [0, .2, .4, .6, .8, 1];
  $("roc-key").replaceChildren(...all.map((c, i) => el("span", {class: i ? null : "strong"}, swatch({...lookOf(c), dash: i ? [3, 1.5] : []}, "line", i ? 2 : 3), `${nameOf(c)}: ${((c.seed === null ? armOf(c) : runOf(c)) || {said: ["–"]}).said[0]}`)));
  if (!there.length) { host.replaceChildren(el("p", {}, runOf(chosen()) || state.seed === null && armOf(chosen()) ? "The ROC curve of this run is left out, see below." : "This run is not finished.")); $("roc-note").textContent = ""; return; }
  const c = frame(host, {square: true, x: [0, 1], y: [0, 1], xTicks: tenths, yTicks: tenths, xName: "1 − specificity", yName: "sensitivity",
    said: `ROC curve. ${there.map(o => `${nameOf(o)}, ${whatOf(o)}: AUC ${(o.seed === null ? armOf(o) : runOf(o)).said.join(" ")}`).join("; ")}.`});
  c.inside.append(svg("line", {class: "guide", x1: c.X(0), y1: c.Y(0), x2: c.X(1), y2: c.Y(1)}));
  for (const o of [...there].reverse()) {
    const strong = same(o, all[0]), found = of(o).flatMap(r => r.roc), one = found.length === 1;
    for (const r of found) c.inside.append(stroke(c, path(c, r.x.map(v => v / 1000), r.y.map(v => v / 1000)), {colour: lookOf(o).colour, dash: strong ? [] : [3, 1.5]}, one ? (strong ? 3 : 2) : 1.4, {opacity: one || found.length < 4 ? 1 : .65}));
  }
  const tasks = D.classes.length > 2 || D.multi;
  $("roc-note").textContent = [all[0].seed === null ? many(all[0]) ? `Of seed ${of(all[0])[0].seed}: all seeds together would be too many lines.` : D.seeds.length > 1 && "A line a seed." : "", tasks ? (D.multi ? "A line a label." : "A line a class, against the rest.") : `Of “${D.classes[1]}” against “${D.classes[0]}”.`, D.folds ? "A line a fold." : "", "The dashed line is chance."].filter(Boolean).join(" ");
}

// Cards of what is chosen and of what is pinned
function scaleOf(value) {
  const [low, high] = D.limits, at = v => Math.min(Math.max(100 * (v - low) / (high - low), 0), 100);
  return svg("svg", {class: "mark", viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": true},
    value.base && svg("line", {class: "ref", x1: at(value.base), x2: at(value.base), y1: 0, y2: 12}), value.low !== null && svg("line", {class: "ci", x1: at(value.low), x2: at(value.high), y1: 6, y2: 6}),
    svg("line", {class: "dot", x1: at(value.auc), x2: at(value.auc), y1: 6, y2: 6}));
}
function card(host, c, role, buttons) {
  const arm = armOf(c), run = runOf(c), value = c.seed === null ? arm : run, base = arms.get(key(-1, -1, c.n));
  const title = [el("h2", {}, swatch(lookOf(c), "both", 3), el("span", {}, nameOf(c))), el("p", {class: "what"}, role, c.seed === null && arm ? `${count(c.n, "training image")}, mean of ${count(arm.seeds, "seed")}` : whatOf(c))];
  if (!value) { host.replaceChildren(el("div", {}, title, el("p", {}, "This run is not finished: the study has no number for it.")), buttons); return; }
  const mean = c.seed === null, own = mean ? [arm.seeds > 1 && "95 % interval over new seeds (or pretrainings) and new test patients.", arm.note && arm.note[0].toUpperCase() + arm.note.slice(1) + "."].filter(Boolean).join(" ") : "95 % interval over new test patients, of this network alone.";
  host.replaceChildren(el("div", {}, title, el("p", {class: "score"}, el("span", {class: "what"}, "AUC"), el("b", {}, value.said[0]), el("span", {class: "ci"}, value.said[1])),
    scaleOf({...value, base: base && base.auc}), el("div", {class: "ends", "aria-hidden": true}, el("span", {}, D.limits[0].toFixed(2)), el("span", {}, D.limits[1].toFixed(2)))),
    el("div", {class: "more"}, el("p", {}, own), !mean && arm && el("p", {}, `Mean of ${count(arm.seeds, "seed")}: `, el("span", {class: "nb"}, arm.said.join(" ")), "."),
      arm && arm.over && el("p", {}, "Mean − the thumbnail’s (dashed): ", el("span", {class: "nb"}, arm.over.join(" ")), "."), buttons));
}
function drawCards() {
  const c = chosen(), button = (text, call, id) => el("button", {type: "button", class: "press", id, onclick: call}, text);
  card($("picked"), c, state.pin ? "Chosen: " : "", state.pin ? "" : el("div", {class: "buttons"}, button("Pin to compare", () => change({pin: chosen(), wanted: state.p}, "unpin"), "pin")));
  if (state.pin) card($("other"), state.pin, "Pinned: ", "");
  $("other").hidden = !state.pin;
  document.querySelector(".picks").classList.toggle("one", !state.pin);
  $("difference").hidden = !state.pin;
  if (state.pin) $("difference").replaceChildren(el("p", {}, ...sayDifference(c, state.pin)), el("div", {class: "buttons"},
    button("Swap", () => change({...state.pin, wanted: state.pin.p, pin: chosen()}, "swap"), "swap"), button("Unpin", () => change({pin: null}, "pin"), "unpin")));
}
function sayDifference(a, b) {
  const differ = [a.s !== b.s, a.p !== b.p, a.n !== b.n].filter(Boolean).length, d = differences.get(key(a.s, a.p, a.n, b.s, b.p, b.n));
  if (same(a, b)) return ["The pinned run is the chosen one. Choose another source, size, plan or seed."];
  if (!differ) return ["Two seeds of one arm: other training images, initial weights and order. How far they lie apart is what a single run leaves to luck."];
  if (differ > 1) return [`These differ in ${differ === 2 ? "two things" : "three things"} at once: a difference between them would not say which of them made it. Change one thing at a time.`];
  if (!d) return ["The study compares these two only when both are finished on a common seed."];
  return [`Chosen − pinned, paired over seeds: `, el("b", {}, d.said[0]), " ", el("b", {}, d.said[1]), `: ${d.verdict}.`, a.seed !== null || b.seed !== null ? " This speaks of the arms, not of single seeds." : ""];
}

// The training images
function drawImages() {
  const seed = state.seed ?? D.seeds.find(o => draws.has(key(state.n, o))), draw = draws.get(key(state.n, seed)), smaller = D.sizes.filter(n => n < state.n && draws.has(key(n, seed))).at(-1), host = $("images"), note = $("images-note");
  if (!draw) { host.replaceChildren(); note.textContent = "No run with this size and seed is finished."; return; }
  const total = draw.counts.reduce((a, b) => a + b, 0), before = new Set(smaller ? draws.get(key(smaller, seed)).classes.flat() : []), kept = draw.classes.flat().length, T = D.tiles;
  const names = [...D.classes, "none of these"], sum = new Set(draw.classes.flat()).size;
  note.textContent = [state.seed === null ? `Each seed draws its own images; these are those of seed ${seed}.` : `The images of seed ${seed}${D.folds ? ", in the last fold" : ""}, the same for every source and plan.`,
    D.multi ? "An image may stand in several rows." : "", kept && smaller ? `Before the bar: the images of the next smaller set, of ${smaller.toLocaleString("en-GB")}.` : "",
    kept < total ? (kept ? `${kept.toLocaleString("en-GB")} of ${total.toLocaleString("en-GB")} are shown.` : "The pictures themselves are not in this file, see below.") : ""].filter(Boolean).join(" ");
  host.style.setProperty("--tile", Math.round(Math.min(Math.max(T.side, 32), 64) * (sum > 120 ? .75 : 1) * em() / 17) + "px");
  host.replaceChildren(...draw.classes.flatMap((found, i) => draw.counts[i] ? [el("div", {class: "strip"}, el("h3", {}, names[i], " ", el("span", {}, count(draw.counts[i], "image"))),
    found.length ? el("div", {role: "img", "aria-label": `${count(found.length, "training image")} of class ${names[i]}`}, found.filter(k => before.has(k)).map(tile), smaller && el("i", {class: "cut"}), found.filter(k => !before.has(k)).map(tile)) : "")] : []));
}
function tile(k) {
  const T = D.tiles, per = T.across ** 2, sheet = Math.floor(k / per), row = Math.floor(k % per / T.across), column = k % T.across, rows = sheet === T.sheets - 1 ? T.last : T.across, z = `calc(var(--tile)*${T.pitch / T.side}`;
  const node = el("span", {class: `tile sheet${sheet}`});
  node.style.backgroundSize = `${z}*${T.across}) ${z}*${rows})`;
  node.style.backgroundPosition = `${z}*${-column}) ${z}*${-row})`;
  return node;
}

// The controls show what is chosen
function drawControls() {
  const check = (name, value) => document.querySelectorAll(`[name="${name}"]`).forEach(o => o.tagName === "SELECT" ? o.value = value : o.checked = o.value === String(value));
  check("source", state.s); check("plan", state.p); check("seed", state.seed ?? "mean"); check("view", state.view);
  const there = plansOf(state.s), at = D.sizes.indexOf(state.n), said = state.n.toLocaleString("en-GB");
  document.querySelectorAll('[name="plan"]').forEach(o => { o.disabled = !there.includes(+o.value); o.parentElement.title = o.disabled ? `${D.sources[state.s].name} has no run with this plan` : ""; });
  $("n").value = at; $("n").setAttribute("aria-valuetext", `${said} training images`); $("n-said").textContent = said;
  document.querySelectorAll(".ticks span").forEach((o, i) => o.toggleAttribute("data-now", i === at));
  $("plan-about").textContent = D.plans[state.p].about[0].toUpperCase() + D.plans[state.p].about.slice(1) + ".";
  const plans = state.view === "plan";
  document.querySelectorAll(".swatch[data-source]").forEach(o => o.replaceChildren(plans ? "" : swatch({...D.sources[o.dataset.source], colour: ink(D.sources[o.dataset.source]), dash: []})));
  document.querySelectorAll(".swatch[data-plan]").forEach(o => { const p = D.plans[o.dataset.plan]; o.replaceChildren(plans ? swatch({...p, colour: ink(p)}) : swatch({colour: "var(--ink)", dash: p.dash}, "line")); });
  document.documentElement.toggleAttribute("data-scale", false);
  if (state.large) document.documentElement.dataset.scale = "projector";
  $("scale").setAttribute("aria-pressed", state.large);
  document.querySelectorAll("#arms tr[data-n]").forEach(o => { const now = o.dataset.source !== "" && D.sources[state.s].name === o.dataset.source && D.plans[state.p].name === o.dataset.plan && state.n === +o.dataset.n; now ? o.setAttribute("aria-current", "true") : o.removeAttribute("aria-current"); });
}

function drawFoot() {
  const c = chosen(), value = c.seed === null ? armOf(c) : runOf(c);
  $("foot").replaceChildren(el("span", {}, `${nameOf(c)}, ${c.n.toLocaleString("en-GB")}, ${c.seed === null ? "mean" : "seed " + c.seed}`), el("b", {}, value ? value.said.join(" ") : "not finished"));
}
function draw() { drawControls(); drawFoot(); drawCards(); drawCurves(); drawLoss(); drawRoc(); drawImages(); }
let telling;
function tell() { // After a moment's rest, so that dragging does not talk on and on
  clearTimeout(telling);
  telling = setTimeout(() => { const c = chosen(), value = c.seed === null ? armOf(c) : runOf(c); $("said").textContent = `${nameOf(c)}, ${whatOf(c)}: ${value ? "AUC " + value.said.join(" ") : "not finished"}.` + (state.pin ? " " + $("difference").firstChild.textContent : ""); }, 250);
}
function change(wish, focus) {
  const before = state.p;
  settle(wish); draw(); toAddress(); tell();
  $("odd").hidden = !(state.p !== state.wanted);
  if (state.p !== state.wanted) $("odd").textContent = `${D.sources[state.s].said} has no run with plan ${D.plans[state.wanted].name}: ${D.plans[state.p].name} is shown.`;
  if (focus && $(focus)) $(focus).focus();
}
function open() {
  const odd = fromAddress();
  draw(); tell();
  $("odd").hidden = !(odd && odd.length);
  if (odd && odd.length) $("odd").textContent = `The link asks for something that this study does not have (${odd.join(", ").replaceAll("with-", "pinned ")}): that part is left out.`;
}

$("choose").addEventListener("submit", event => event.preventDefault());
$("choose").addEventListener("input", event => {
  const {name, id, value} = event.target;
  if (id === "n") change({n: D.sizes[+value]});
  else if (name === "source") change({s: +value});
  else if (name === "plan") change({wanted: +value});
  else if (name === "seed") change({seed: value === "mean" ? null : +value});
});
document.querySelector(".segments").addEventListener("change", event => change({view: event.target.value}));
$("scale").addEventListener("click", () => change({large: !state.large}));
$("arms").addEventListener("click", event => {
  const row = event.target.closest("tr[data-n]");
  if (!row || !row.dataset.source || getSelection().toString()) return;
  change({s: D.sources.findIndex(o => o.name === row.dataset.source), wanted: D.plans.findIndex(o => o.name === row.dataset.plan), n: +row.dataset.n});
});
addEventListener("hashchange", open);
dark.addEventListener("change", draw);
document.documentElement.classList.add("js");
document.querySelectorAll(".needs").forEach(o => o.hidden = false);
open();
let width = innerWidth, resting;
addEventListener("resize", () => { clearTimeout(resting); resting = setTimeout(() => { if (innerWidth !== width) { width = innerWidth; draw(); } }, 80); });
})();
