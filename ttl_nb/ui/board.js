// The results board: every run as a point on the learning curve and as a row of a table.
const BOARD_SHAPES = [r => `M${-r} ${-r}L${r} ${r}M${r} ${-r}L${-r} ${r}`, r => `M0 ${-r}A${r} ${r} 0 1 1 0 ${r}A${r} ${r} 0 1 1 0 ${-r}Z`,
  r => `M${-.88*r} ${-.88*r}H${.88*r}V${.88*r}H${-.88*r}Z`, r => `M0 ${-1.1*r}L${1.05*r} ${.8*r}H${-1.05*r}Z`, r => `M0 ${-1.2*r}L${1.2*r} 0L0 ${1.2*r}L${-1.2*r} 0Z`,
  r => `M0 ${1.1*r}L${1.05*r} ${-.8*r}H${-1.05*r}Z`, r => `M${-.4*r} ${-r}H${.4*r}V${-.4*r}H${r}V${.4*r}H${.4*r}V${r}H${-.4*r}V${.4*r}H${-r}V${-.4*r}H${-.4*r}Z`];
const BOARD_DASHES = ["", "7 4", "2 4", "10 4 2 4", "4 2"];
const boardColour = arm => arm.colour ? `light-dark(${arm.colour}, color-mix(in srgb, ${arm.colour} 72%, white))` : "var(--ttl-ink)";
const boardRate = x => typeof x === "number" ? fmt(x, 2) : x ?? "–";
const boardTime = s => s === null || s === undefined ? "–" : s < 9.95 ? `${s.toFixed(1)} s` : s < 120 ? `${Math.round(s)} s` : `${Math.floor(s/60)} min ${Math.round(s % 60)} s`;
const boardAuc = x => x === null || x === undefined ? "–" : x.toFixed(2);
const BOARD_FLOOR = {name: "thumbnail, no network", colour: "var(--ttl-edge)"};
const boardShape = (look, r) => BOARD_SHAPES[look ? 1 + (look - 1) % 6 : 0](r);

function boardMarker(arm, r, attrs = {}) {
  const open = arm.look === 0, c = boardColour(arm);
  return svg("path", {d: boardShape(arm.look, r), fill: open ? "none" : c, stroke: open ? c : "var(--ttl-paper)", "stroke-width": open ? 2 : 1, ...attrs});
}
const boardKey = arm => svg("svg", {class: "board-key", viewBox: "-8 -8 16 16", "aria-hidden": "true"}, boardMarker(arm, 5));

// Labels that do not touch each other: as near to where they would stand as a gap allows
function boardSpread(wanted, gap, low, high) {
  const order = wanted.map((_, i) => i).sort((a, b) => wanted[a] - wanted[b]), y = [...wanted];
  for (let pass = 0; pass < 60; pass++) for (let k = 1; k < order.length; k++) {
    const [a, b] = [order[k - 1], order[k]], short = gap - (y[b] - y[a]);
    if (short > 0) { y[a] -= short/2; y[b] += short/2; }
  }
  const bottom = Math.max(0, ...y.map(v => v - high)); order.forEach(i => y[i] -= bottom);
  let last = low - gap; order.forEach(i => { y[i] = Math.max(y[i], last + gap, low); last = y[i]; });
  return y;
}

function boardChart({rows, means, floor, arms, selected, width, scale, pick, uid}) {
  const font = 12*scale, named = arms.length > 1 || rows.length > 0, labels = width > 520 && arms.length <= 8;
  const longest = Math.max(0, ...[...arms, ...(floor.length ? [BOARD_FLOOR] : [])].map(a => Math.min(a.name.length, 30)));
  const pad = {left: 58*scale, right: labels && named ? Math.min(.36*width, 34 + longest*font*.52) : 16, top: 12, bottom: 44*scale};
  const height = Math.round(Math.min(340, Math.max(230, width*.42))*Math.sqrt(scale)), w = width - pad.left - pad.right, h = height - pad.top - pad.bottom;
  const sizes = [...new Set(rows.map(r => r.n))].sort((a, b) => a - b), good = rows.filter(r => r.auc !== null);
  const lonely = r => !(means.find(m => m.arm === r.arm && m.n === r.n && m.runs > 1)) || r.number === selected;
  const ends = good.flatMap(r => [r.auc, ...(lonely(r) && r.low !== null ? [r.low, r.high] : [])]).concat(means.flatMap(m => m.sd ? [m.auc - m.sd, m.auc + m.sd] : []), floor.map(f => f.auc));
  let low = Math.max(0, Math.floor((Math.min(...ends, .5) - .015)*20)/20), high = Math.min(1, Math.ceil((Math.max(...ends, .6) + .015)*20)/20);
  const l0 = Math.log2(sizes[0]) - .5, l1 = Math.log2(sizes[sizes.length - 1]) + .5;
  const x = n => pad.left + (Math.log2(n) - l0)/(l1 - l0)*w, y = v => pad.top + (high - v)/(high - low)*h;
  const step = [.05, .1, .2].find(s => (high - low)/s*font*2.2 <= h) || .2, nodes = [];
  for (let v = Math.ceil(low/step - 1e-9)*step; v <= high + 1e-9; v += step) nodes.push(
    svg("line", {class: "board-grid", x1: pad.left, x2: pad.left + w, y1: y(v), y2: y(v)}), svg("text", {x: pad.left - 8, y: y(v) + font*.35, "text-anchor": "end"}, v.toFixed(step < .1 ? 2 : 1)));
  let free = -1e9;
  for (const n of [...sizes].reverse()) if (Math.abs(free - x(n)) > font*3 || free === -1e9) { nodes.push(svg("text", {x: x(n), y: pad.top + h + font*1.5, "text-anchor": "middle"}, n.toLocaleString("en-GB"))); free = x(n); }
  for (const n of sizes) nodes.push(svg("line", {class: "board-tick", x1: x(n), x2: x(n), y1: pad.top + h, y2: pad.top + h + 4}));
  nodes.push(svg("line", {class: "board-axis", x1: pad.left, x2: pad.left + w, y1: pad.top + h, y2: pad.top + h}),
    svg("text", {class: "board-name", x: pad.left + w/2, y: height - 4, "text-anchor": "middle"}, "labelled training images (doubling scale)"),
    svg("text", {class: "board-name", transform: `translate(${font} ${pad.top + h/2}) rotate(-90)`, "text-anchor": "middle"}, "AUC on test patients"));
  if (low < .5 - 1e-9 || low === .5) nodes.push(svg("line", {class: "board-chance", x1: pad.left, x2: pad.left + w, y1: y(.5), y2: y(.5)}), svg("text", {class: "board-chance-name", x: pad.left + w - 4, y: y(.5) - 5, "text-anchor": "end"}, "chance"));

  const dodge = arm => arms.length < 2 ? 0 : (arm - (arms.length - 1)/2)*Math.min(9, 42/arms.length)*scale;
  const labelled = [], spots = [];
  if (floor.length) { // what a logistic regression on thumbnails of the same images reaches
    const only = floor[0], reach = sizes.length > 1 ? 22*scale : w/2, d = floor.length > 1 ? floor.map((f, i) => `${i ? "L" : "M"}${x(f.n)} ${y(f.auc)}`).join("") : `M${x(only.n) - reach} ${y(only.auc)}h${2*reach}`;
    for (const f of floor) if (f.sd) nodes.push(svg("path", {class: "board-floor-spread", d: `M${x(f.n)} ${y(f.auc - f.sd)}V${y(f.auc + f.sd)}`}));
    const said = floor.map(f => `${boardAuc(f.auc)} at ${f.n}${f.draws > 1 ? ` (mean of ${f.draws} draws of images)` : ""}`).join(", ");
    nodes.push(svg("path", {class: "board-floor", d}, svg("title", {}, `Thumbnail, no network: ${said}`)));
    const last = floor[floor.length - 1];
    labelled.push([BOARD_FLOOR, floor.length > 1 ? x(last.n) : x(last.n) + reach - 9, y(last.auc)]);
  }
  arms.forEach((arm, a) => {
    const c = boardColour(arm), mine = means.filter(m => m.arm === a), at = m => x(m.n) + dodge(a);
    if (mine.length > 1) nodes.push(svg("path", {class: "board-line", stroke: c, "stroke-dasharray": BOARD_DASHES[arm.dash % BOARD_DASHES.length], d: mine.map((m, i) => `${i ? "L" : "M"}${at(m)} ${y(m.auc)}`).join("")}));
    for (const m of mine) if (m.sd) nodes.push(svg("path", {class: "board-spread", stroke: c, d: `M${at(m)} ${y(m.auc - m.sd)}V${y(m.auc + m.sd)}`},
      svg("title", {}, `${arm.name}, N = ${m.n}: mean ${boardAuc(m.auc)} of ${m.runs} runs, standard deviation ${m.sd.toFixed(3)}`)));
    const end = mine[mine.length - 1] || good.findLast(r => r.arm === a);
    if (end) labelled.push([{name: arm.name, colour: c}, at(end), y(end.auc)]);
  });
  for (const r of good) {
    const arm = arms[r.arm], c = boardColour(arm), alone = lonely(r), chosen = r.number === selected, cx = x(r.n) + dodge(r.arm) - (lonely(r) && r.number !== selected ? 0 : means.some(m => m.arm === r.arm && m.n === r.n && m.runs > 1) ? 11*scale : 0);
    if (alone && r.low !== null) nodes.push(svg("path", {class: "board-interval", stroke: c, d: `M${cx} ${y(r.low)}V${y(r.high)}M${cx - 4} ${y(r.low)}h8M${cx - 4} ${y(r.high)}h8`}));
    if (chosen) nodes.push(svg("circle", {class: "board-chosen", cx, cy: y(r.auc), r: 11*scale}));
    spots.push([cx, y(r.auc), r.number]);
    nodes.push(svg("g", {class: "board-point", transform: `translate(${cx} ${y(r.auc)})`}, svg("circle", {r: 9*scale, fill: "transparent"}),
      boardMarker(arm, (alone ? 5.5 : 3.5)*scale, {opacity: r.stopped ? .45 : alone ? 1 : .6}), svg("title", {}, `Run ${r.number}: ${arm.name}, N = ${r.n}, AUC ${boardAuc(r.auc)} [${boardAuc(r.low)}, ${boardAuc(r.high)}]${r.stopped ? `, stopped at step ${r.stopped[0]} of ${r.stopped[1]}` : ""}`)));
  }
  arms.forEach((arm, a) => means.filter(m => m.arm === a && m.runs > 1).forEach(m => nodes.push(svg("g", {transform: `translate(${x(m.n) + dodge(a)} ${y(m.auc)})`, class: "board-mean"}, boardMarker(arm, 7*scale)))));
  if (labels) {
    const places = boardSpread(labelled.map(o => o[2]), font*1.35, pad.top + font*.6, pad.top + h - 2);
    labelled.forEach(([{name, colour}, ex, ey], i) => { const lx = pad.left + w + 10;
      nodes.push(svg("path", {class: "board-leader", stroke: colour, d: `M${ex + 9} ${ey}L${lx - 3} ${places[i]}`}),
        svg("text", {class: "board-label", x: lx, y: places[i] + font*.35}, name.length > 30 ? name.slice(0, 20) + "…" + name.slice(-9) : name)); });
  }
  const alt = `Learning curve, AUC against the number of training images. ` + arms.map((arm, a) => `${arm.name}: ` + means.filter(m => m.arm === a).map(m => `${boardAuc(m.auc)} at ${m.n}${m.runs > 1 ? ` (mean of ${m.runs})` : ""}`).join(", ")).join("; ") + (floor.length ? `; ${BOARD_FLOOR.name}: ` + floor.map(f => `${boardAuc(f.auc)} at ${f.n}`).join(", ") : "") + ".";
  const near = e => { // the point nearest to a click, within the reach of a finger
    const box = e.currentTarget.getBoundingClientRect(), far = ([px, py]) => Math.hypot(e.clientX - box.left - px, e.clientY - box.top - py);
    const best = spots.reduce((a, b) => !a || far(b) < far(a) ? b : a, null);
    if (best && far(best) < 24*scale) pick(best[2]);
  };
  return svg("svg", {class: "board-chart", onclick: near, width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-labelledby": uid, style: {"--font": `${font}px`}}, svg("title", {id: uid}, alt), nodes);
}

function boardVerdict(v, arms) {
  if (!v?.sources) return null;
  const name = s => s === "none" ? "random weights" : s, some = v.sources.some(s => s.found), several = v.sources.some(s => s.runs > 1);
  return el("section", {class: "board-verdict", "aria-label": "Prediction and outcome"}, el("h4", {class: "board-title"}, `Predicted, and found${some ? ` at ${v.where}` : ""}`),
    el("table", {class: "ttl-table"}, el("thead", {}, el("tr", {}, ["Source", "Predicted", "Found", ...(several ? ["Runs"] : []), "AUC"].map((h, i) => el("th", {scope: "col", class: i ? "ttl-number" : null}, h)))),
      el("tbody", {}, v.sources.map(s => el("tr", {}, el("th", {scope: "row"}, name(s.name)), el("td", {class: "ttl-number"}, `${s.predicted}.`),
        el("td", {class: "ttl-number"}, s.found ? `${s.found}.` : "not yet"), several ? el("td", {class: "ttl-number"}, s.runs ? String(s.runs) : "") : null, el("td", {class: "ttl-number"}, s.auc === null ? "" : boardAuc(s.auc)))))),
    el("p", {class: "ttl-note"}, v.said));
}

async function boardCopy(text, field) {
  try { await navigator.clipboard.writeText(text); return true; }
  catch { field.focus(); field.select(); return document.execCommand?.("copy") || false; }
}

function render({model, el: root}) {
  const uid = `board-${Math.random().toString(36).slice(2, 9)}`, get = name => model.get(name);
  const chart = el("div", {class: "board-plot"}), verdict = el("div"), table = el("div", {class: "ttl-scroll"});
  const status = el("span", {class: "ttl-status", role: "status", "aria-live": "polite"});
  const undo = el("button", {type: "button", class: "ttl-button ttl-quiet", onclick: () => { model.send({undo: true}); root.querySelector(".board-open")?.focus(); }}, "Undo");
  const save = el("button", {type: "button", class: "ttl-button", onclick: () => model.send({csv: true})}, "Export CSV");
  const empty = el("p", {class: "ttl-note board-empty"}, "No run yet. Every run that ends well becomes a row here, and a point on the learning curve.");
  const box = el("section", {class: "ttl board", "aria-label": "Results board"}, empty, el("div", {class: "board-top"}, chart, verdict), el("p", {class: "ttl-note board-legend"}), table, el("div", {class: "ttl-row board-foot"}, save, status, undo));
  const pick = number => model.send({select: get("selected") === number ? 0 : number});
  let wide = 0;

  const link = text => text.startsWith("#") ? location.href.split("#")[0] + text : text;
  const details = (d, span) => {
    const first = d.table.filter(r => r[3]), rest = d.table.filter(r => !r[3]), field = d.link ? el("input", {class: "ttl-input board-link", readonly: true, value: link(d.link), "aria-label": "Link to this recipe", onfocus: e => e.target.select()}) : null;
    const lines = part => el("dl", {class: "board-recipe"}, part.map(([name, value, why]) => el("div", {}, el("dt", {}, name), el("dd", {}, value), el("dd", {class: "ttl-note"}, why))));
    const copied = el("span", {class: "ttl-note", role: "status"});
    return el("tr", {class: "board-details", id: `${uid}-details`}, el("td", {colspan: span}, el("div", {class: "ttl-stack"}, el("p", {class: "board-title"}, `The recipe of run ${d.number}`), lines(first),
      rest.length ? el("details", {}, el("summary", {}, `${rest.length} fields at their default`), lines(rest)) : null,
      el("div", {class: "ttl-row"}, get("can_use") ? el("button", {type: "button", class: "ttl-button", onclick: () => model.send({use: d.number})}, "Set the page to this recipe") : null,
        field, field ? el("button", {type: "button", class: "ttl-button", onclick: async () => { copied.textContent = await boardCopy(field.value, field) ? "Copied." : "Press Ctrl+C to copy."; }}, "Copy link") : null, copied))));
  };
  const paintTable = () => {
    const rows = get("shown"), arms = get("arms"), selected = get("selected"), d = get("details"), who = rows.some(r => r.who), floored = get("floor").length > 0;
    const active = root.ownerDocument.activeElement, held = table.contains(active) ? active.dataset.key : null;
    const heads = ["Run", ...(who ? ["Whose"] : []), "Source", "N", "Plan", "Rate", "Seed", "AUC [95 % interval]", ...(floored ? ["Thumbnail"] : []), "Time", ""], right = new Set(["N", "Rate", "Thumbnail", "Time"]);
    const body = rows.flatMap(r => {
      const open = r.number === selected;
      const line = el("tr", {class: `board-row${open ? " board-selected" : ""}`, onclick: e => { if (!e.target.closest("button")) pick(r.number); }},
        el("td", {}, el("button", {type: "button", class: "ttl-button ttl-quiet board-open", "data-key": `open ${r.number}`, "aria-expanded": String(open), "aria-controls": open ? `${uid}-details` : null, "aria-label": `Run ${r.number}: show its recipe`, onclick: () => pick(r.number)},
          el("span", {class: "board-arrow", "aria-hidden": "true"}, open ? "▾" : "▸"), String(r.number))), who ? el("td", {}, r.who) : null,
        el("td", {}, el("span", {class: "board-source"}, boardKey(arms[r.arm]), r.source === "none" ? "random weights" : r.source)), el("td", {class: "ttl-number"}, r.n.toLocaleString("en-GB")), el("td", {}, r.freezing),
        el("td", {class: "ttl-number"}, boardRate(r.rate)), el("td", {}, r.seeds), el("td", {}, el("b", {}, boardAuc(r.auc)), r.low === null ? "" : ` [${boardAuc(r.low)}, ${boardAuc(r.high)}]`,
          r.stopped ? el("span", {class: "ttl-badge board-stopped"}, `stopped at ${r.stopped[0]} of ${r.stopped[1]}`) : null), floored ? el("td", {class: "ttl-number"}, boardAuc(r.thumbnail)) : null, el("td", {class: "ttl-number"}, boardTime(r.seconds)),
        el("td", {class: "ttl-number"}, el("button", {type: "button", class: "ttl-button ttl-quiet board-delete", "data-key": `delete ${r.number}`, "aria-label": `Delete run ${r.number}`, title: "Delete this run", onclick: () => model.send({delete: r.number})}, "✕")));
      return open && d.table ? [line, details(d, heads.length)] : [line];
    });
    table.replaceChildren(el("table", {class: "ttl-table board-table"}, el("caption", {class: "ttl-hidden"}, "All runs"), el("thead", {}, el("tr", {}, heads.map(h => el("th", {scope: "col", class: right.has(h) ? "ttl-number" : null}, h || el("span", {class: "ttl-hidden"}, "Delete"))))), el("tbody", {}, body)));
    if (held) (table.querySelector(`[data-key="${held}"]`) || table.querySelector(".board-delete") || save).focus();
  };
  const paintChart = () => {
    const rows = get("shown"), width = Math.max(260, Math.floor(chart.clientWidth)), scale = get("scale") === "projector" ? 1.35 : 1;
    chart.replaceChildren(); if (!rows.some(r => r.auc !== null)) return;
    chart.append(boardChart({rows, means: get("means"), floor: get("floor"), arms: get("arms"), selected: get("selected"), width, scale, pick, uid: `${uid}-alt`}));
    const several = get("means").some(m => m.runs > 1), small = width <= 520 || get("arms").length > 8;
    box.querySelector(".board-legend").replaceChildren(...(small ? get("arms").map(a => el("span", {class: "board-source"}, boardKey(a), a.name)) : []),
      `Thin bars: 95 % interval of one run over test patients.${several ? " Large markers: arithmetic mean over seeds, thick bars its standard deviation; single runs are small." : ""}${get("floor").length ? " Dashed: what a logistic regression on 16×16-pixel thumbnails of the same training images reaches; a network that does no better has shown no skill beyond that." : ""}`);
  };
  const paint = () => {
    const any = get("shown").length > 0;
    empty.hidden = any || get("can_undo"); box.classList.toggle("board-none", !any); box.dataset.scale = get("scale");
    save.hidden = table.hidden = !any; box.querySelector(".board-legend").hidden = box.querySelector(".board-top").hidden = !any;
    status.textContent = get("status"); undo.hidden = !get("can_undo");
    const v = boardVerdict(get("verdict"), get("arms"));
    verdict.replaceChildren(...(v ? [v] : [])); verdict.hidden = !v;
    paintTable(); paintChart();
  };
  let waiting = 0;
  const soon = () => { if (!waiting) waiting = requestAnimationFrame(() => { waiting = 0; paint(); }); };
  const heardMessage = m => { if (m?.kind === "csv") ttlSave(m.name, new Blob(["\ufeff", m.text], {type: "text/csv"})); };
  const names = ["shown", "means", "floor", "arms", "selected", "details", "verdict", "status", "can_undo", "can_use", "scale"];
  names.forEach(n => model.on(`change:${n}`, soon)); model.on("msg:custom", heardMessage);
  const size = new ResizeObserver(() => { if (chart.clientWidth && chart.clientWidth !== wide) { wide = chart.clientWidth; paintChart(); } });
  size.observe(chart);
  root.replaceChildren(box); ttlOwnKeys(box); paint();
  return () => { size.disconnect(); cancelAnimationFrame(waiting); names.forEach(n => model.off(`change:${n}`, soon)); model.off("msg:custom", heardMessage); };
}
export default {render};
