// What the three pickers share: a frame that follows scale and notice, a number that the browser may set, pictures of locks and dice.

let _pickCount = 0;
function pickId(name) { _pickCount += 1; return `ttl-pick-${name}-${_pickCount}`; }

// Calls each function now and whenever one of its traits changes; returns a function that ends that
function pickFollow(model, followed) {
  const bound = followed.map(([names, call]) => [names.split(" ").map(n => "change:" + n), call]);
  bound.forEach(([names, call]) => { names.forEach(n => model.on(n, call)); call(); });
  return () => bound.forEach(([names, call]) => names.forEach(n => model.off(n, call)));
}

// The card around a picker, with its sentence for the reader below
function pickFrame(model, host, kind, label) {
  const body = el("div", {class: "ttl-pick-body"}), notice = el("p", {class: "ttl-status", role: "status"});
  const root = el("section", {class: `ttl ttl-card ttl-pick ttl-pick-for-${kind}`, "aria-label": label}, body, notice);
  host.append(root);
  ttlOwnKeys(root);
  return {root, body, notice, follow: [
    ["scale", () => { root.dataset.scale = model.get("scale"); }],
    ["notice", () => { notice.textContent = pickText(model.get("notice")); }]]};
}

function pickSet(model, values) {
  Object.entries(values).forEach(([name, value]) => model.set(name, value));
  model.save_changes();
}

// `call`, at most ten times a second, and once after the last time that it was wanted
function pickThrottle(call, wait = 100) {
  let timer = null, last = 0;
  return () => {
    clearTimeout(timer);
    const run = () => { last = performance.now(); call(); };
    const left = wait - (performance.now() - last);
    if (left <= 0) run(); else timer = setTimeout(run, left);
  };
}

function pickPlural(n, one, many = one + "s") { return `${Number(n).toLocaleString("en-GB")} ${n === 1 ? one : many}`; }
function pickPercent(x) { return `${+(100*x).toFixed(1)}\u00a0%`; }
function pickText(text) { return text.replace(/(\d) %/g, "$1\u00a0%"); }                       // a number keeps its sign beside it
function pickShort(n) { return n < 1e4 ? n.toLocaleString("en-GB") : n < 1e6 ? `${+(n/1e3).toPrecision(3)}k` : `${+(n/1e6).toPrecision(3)}M`; }

// Icons: drawn in the colour of the text beside them, never read aloud
function pickIcon(...shapes) { return svg("svg", {class: "ttl-pick-icon", viewBox: "0 0 16 16", "aria-hidden": "true", focusable: "false"}, ...shapes); }
const _PICK_LINE = {fill: "none", stroke: "currentColor", "stroke-width": 1.6, "stroke-linecap": "round"};
function pickLock(open) {
  return pickIcon(svg("rect", {x: 3, y: 7, width: 10, height: 7.5, rx: 1.5, fill: open ? "none" : "currentColor", stroke: "currentColor", "stroke-width": 1.6}),
    svg("path", {..._PICK_LINE, d: open ? "M5.5 7V4.6a2.6 2.6 0 0 1 5-1" : "M5.4 7V4.4a2.6 2.6 0 0 1 5.2 0V7"}));
}
function pickClock() { return pickIcon(svg("circle", {..._PICK_LINE, cx: 8, cy: 8, r: 6}), svg("path", {..._PICK_LINE, d: "M8 4.5V8l2.5 1.6"})); }
function pickDie() {
  return pickIcon(svg("rect", {..._PICK_LINE, x: 1.5, y: 1.5, width: 13, height: 13, rx: 3}),
    ...[[5, 5], [11, 5], [8, 8], [5, 11], [11, 11]].map(([cx, cy]) => svg("circle", {cx, cy, r: 1.25, fill: "currentColor"})));
}
const _PICK_MARKS = [svg => svg("circle", {cx: 8, cy: 8, r: 5}), svg => svg("rect", {x: 3.5, y: 3.5, width: 9, height: 9}), svg => svg("path", {d: "M8 2.5 14 13H2z"}),
  svg => svg("path", {d: "M8 1.5 14.5 8 8 14.5 1.5 8z"}), svg => svg("path", {d: "M2 3h12L8 13.5z"}), svg => svg("path", {d: "M6 2h4v4h4v4h-4v4H6v-4H2V6h4z"})];
function pickColour(i) { return TTL_COLOURS[i % TTL_COLOURS.length]; }
// The mark of a class: a colour and a shape
function pickMark(i) {
  const icon = pickIcon(_PICK_MARKS[i % _PICK_MARKS.length](svg));
  icon.style.fill = pickColour(i);
  return icon;
}
