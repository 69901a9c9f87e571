// The reuse explorer: one unit of one stage answers one image, before training, after it, and the difference; all three move together.

const RX_LEAST = .02; // Of a unit's scale: smaller differences are not blown up to full colour, as tiles have 256 steps
const RX_BLUE = [0, 114, 178], RX_ORANGE = [213, 94, 0];
const rxName = stage => stage === "filters" ? "first filters" : stage.replace(/^stage(\d)$/, "stage $1");

// A sprite of grey tiles as numbers: tile(row, column) -> values of `height × width`, 0 to 255
async function rxTiles(sprite, width, height) {
  const picture = new Image();
  picture.src = sprite;
  await picture.decode();
  const canvas = el("canvas", {width: picture.naturalWidth, height: picture.naturalHeight}), pen = canvas.getContext("2d", {willReadFrequently: true});
  pen.drawImage(picture, 0, 0);
  return (row, column) => {
    const all = pen.getImageData(column * width, row * height, width, height).data;
    return Array.from({length: width * height}, (_, i) => all[4 * i]);
  };
}

// Blue below zero, orange above; at zero the middle grey of light and dark themes alike
function rxDiverging(v) {
  const to = v < 0 ? RX_BLUE : RX_ORANGE, a = Math.min(1, Math.abs(v));
  return to.map(c => Math.round(245 + (c - 245) * a));
}
const rxGrey = v => { const g = Math.round(255 * Math.min(1, Math.max(0, v))); return [g, g, g]; };

function rxPaint(canvas, values, width, height, colour) {
  canvas.width = width; canvas.height = height;
  const pen = canvas.getContext("2d"), image = pen.createImageData(width, height);
  values.forEach((v, i) => image.data.set([...colour(v), 255], 4 * i));
  pen.putImageData(image, 0, 0);
}

// A row of choices of which one is taken: a radio group that arrow keys move in
function rxChoices(label, cls, choose) {
  const group = el("div", {class: `rx-choices ${cls}`, role: "radiogroup", "aria-label": label});
  const take = (i, focus) => { choose(i); if (focus) group.children[i]?.focus(); };
  group.addEventListener("keydown", e => {
    const n = group.children.length, now = [...group.children].findIndex(c => c.getAttribute("aria-checked") === "true");
    const to = {ArrowRight: now + 1, ArrowDown: now + 1, ArrowLeft: now - 1, ArrowUp: now - 1, Home: 0, End: n - 1}[e.key];
    if (to === undefined) return;
    e.preventDefault();
    take((to + n) % n, true);
  });
  return {group,
    show(buttons, chosen) {
      const had = group.contains(document.activeElement);
      group.replaceChildren(...buttons.map(([attributes, ...inside], i) => el("button", {type: "button", role: "radio", "aria-checked": String(i === chosen), tabindex: i === chosen ? "0" : "-1",
        ...attributes, class: `rx-choice ${attributes.class || ""}`, onclick: () => take(i, true)}, ...inside)));
      if (had) group.children[chosen]?.focus();
    }};
}

function rxView({model, el: root}) {
  const at = {run: 0, stage: 0, unit: 0, image: 0}, cache = new Map();
  let drawing = 0;
  const run = () => model.get("runs")[at.run], stage = () => run().stages[at.stage], still = () => stage().name === "filters";
  const tiles = s => { if (!cache.has(s.sprite)) cache.set(s.sprite, rxTiles(s.sprite, s.width, s.height)); return cache.get(s.sprite); };

  const picker = el("select", {class: "ttl-select", "aria-label": "Run", onchange: e => { at.run = +e.target.value; settle(); all(); }});
  const runField = el("label", {class: "ttl-field"}, "Run", picker);
  const stages = rxChoices("Stage", "rx-stages", i => { at.stage = i; at.unit = 0; settle(); all(); });
  const units = rxChoices("Unit, most changed first", "rx-units", i => { at.unit = i; all(); });
  const images = rxChoices("Image", "rx-images", i => { at.image = i; all(); });
  const panel = (name, note) => ({canvas: el("canvas", {class: "rx-map", role: "img"}), words: el("p", {class: "ttl-note"}), name, note});
  const panels = [panel("Before"), panel("After"), panel("Difference")];
  const input = el("canvas", {class: "rx-map", role: "img"}), inputWords = el("p", {class: "ttl-note"});
  const inputFigure = el("figure", {class: "rx-figure"}, el("figcaption", {}, "Image"), input, inputWords);
  const bar = el("div", {class: "rx-bar", "aria-hidden": "true"}), facts = el("p", {class: "ttl-note"});
  const best = el("div", {class: "rx-best"}), status = el("p", {class: "ttl-status", role: "status", "aria-live": "polite"});
  const unitTitle = el("h4", {class: "rx-label"}), empty = el("p", {class: "ttl-note"});
  const body = el("div", {class: "rx-body"}, runField, el("div", {}, el("h4", {class: "rx-label"}, "Stage"), stages.group, facts),
    el("div", {}, unitTitle, units.group),
    el("div", {class: "rx-figures"}, inputFigure, panels.map(p => el("figure", {class: "rx-figure"}, el("figcaption", {}, p.name), p.canvas, p.words))), bar,
    el("div", {class: "rx-images-row"}, el("h4", {class: "rx-label"}, "Image"), images.group), best, status);
  const box = el("section", {class: "ttl rx", "aria-label": "Reuse explorer"}, empty, body);

  ttlOwnKeys(box);

  // A choice that the new run or stage does not have becomes one that it has
  const settle = () => {
    at.run = Math.min(at.run, model.get("runs").length - 1);
    const r = run();
    if (!r) return;
    at.stage = Math.min(at.stage, r.stages.length - 1); at.image = Math.min(at.image, r.labels.length - 1);
    at.unit = Math.min(at.unit, stage().units.length - 1);
  };
  const says = s => [s.moved === undefined ? "" : s.moved ? `weights moved by ${fmt(100 * s.moved, 2)} %` : "weights did not move",
    s.cka === undefined ? "" : `CKA before to after ${fmt(s.cka, 2)}${s.cka_random === undefined ? "" : ` (to random weights ${fmt(s.cka_random, 2)})`}`].filter(Boolean).join(" · ");
  const thumb = (i, size = 44) => { const r = run(); return el("span", {class: "rx-thumb", style: {"background-image": `url(${r.thumbs})`, "--n": r.labels.length, "--i": i, "--side": `${size}px`}, "aria-hidden": "true"}); };
  const label = i => `${run().labels[i]}, image ${run().rows[i]}`;
  const number = (s, which) => s[which][still() ? 0 : at.image][at.unit];

  const fillStages = () => stages.show(run().stages.map(s => [{"aria-label": rxName(s.name) + (says(s) ? `: ${says(s)}` : "")}, el("span", {class: "rx-stage-name"}, rxName(s.name)),
    s.moved === undefined ? null : el("small", {}, s.moved ? `moved ${fmt(100 * s.moved, 2)} %` : "did not move")]), at.stage);
  const fillImages = () => images.show(run().labels.map((l, i) => [{"aria-label": label(i), title: label(i)}, thumb(i)]), at.image);
  const fillUnits = (s, tile) => {
    units.show(s.units.map((u, i) => {
      const small = el("canvas", {"aria-hidden": "true"}), row = still() ? 0 : at.image;
      rxPaint(small, tile(row, 2 * i + 1).map(v => v / 255), s.width, s.height, rxGrey);
      return [{"aria-label": `${still() ? "filter" : "unit"} ${u}, changed by ${fmt(100 * s.change[i], 2)} %`, title: `${still() ? "filter" : "unit"} ${u}`}, small, el("small", {"aria-hidden": "true"}, String(u))];
    }), at.unit);
  };

  const fillBest = s => {
    best.hidden = still();
    if (still()) return;
    const strip = which => { const order = s[which].map((v, i) => [v[at.unit], i]).sort((a, b) => b[0] - a[0]).slice(0, 5);
      return el("div", {class: "rx-strip"}, el("span", {class: "rx-strip-name"}, which), order.map(([v, i]) => el("span", {class: `rx-cell${i === at.image ? " rx-here" : ""}`, title: label(i)}, thumb(i, 52), el("small", {}, fmt(v, 2))))); };
    best.replaceChildren(el("h4", {class: "rx-label"}, "Images that excite this unit most"), strip("before"), strip("after"));
  };

  const all = async () => {
    const turn = ++drawing, r = run();
    empty.hidden = Boolean(r); body.hidden = !r;
    empty.textContent = "Train first: what single units answer is of the network that comes out.";
    if (!r) return;
    runField.hidden = model.get("runs").length < 2;
    picker.replaceChildren(...model.get("runs").map((o, i) => el("option", {value: i, selected: i === at.run}, o.name)));
    const s = stage(), tile = await tiles(s), photo = await rxTilesOf(r);
    if (turn !== drawing) return;
    fillStages(); fillImages(); fillUnits(s, tile); fillBest(s);
    facts.textContent = says(s);
    const row = still() ? 0 : at.image, low = s.low[at.unit], top = s.top[at.unit], range = top - low || 1;
    const [before, after] = [0, 1].map(k => tile(row, 2 * at.unit + k).map(v => v / 255)), difference = before.map((b, i) => after[i] - b);
    const most = Math.max(RX_LEAST, ...difference.map(Math.abs));
    rxPaint(panels[0].canvas, before, s.width, s.height, rxGrey); rxPaint(panels[1].canvas, after, s.width, s.height, rxGrey);
    rxPaint(panels[2].canvas, difference.map(v => v / most), s.width, s.height, rxDiverging);
    rxPaint(input, photo(at.image), r.side, r.side, rxGrey);
    inputFigure.hidden = images.group.parentElement.hidden = still();
    inputWords.textContent = label(at.image);
    unitTitle.textContent = still() ? "Filter, most changed first" : "Unit, most changed first";
    const what = still() ? `filter ${s.units[at.unit]}` : `unit ${s.units[at.unit]} of ${rxName(s.name)}`;
    const a = number(s, "before"), b = number(s, "after"), of = still() ? "mean weight" : "mean response";
    panels[0].words.textContent = `${of} ${fmt(a)}`; panels[1].words.textContent = `${of} ${fmt(b)}`;
    panels[2].words.textContent = `within ± ${fmt(most * range, 2)}`;
    panels.forEach((p, i) => p.canvas.setAttribute("aria-label", `${what} ${p.name.toLowerCase()}${i < 2 ? " training" : ": after minus before"}; ${p.words.textContent}`));
    input.setAttribute("aria-label", label(at.image));
    bar.replaceChildren(el("span", {}, fmt(low, 2)), el("i", {class: "rx-scale rx-grey"}), el("span", {}, fmt(top, 2)), el("span", {class: "rx-gap"}),
      el("span", {}, `−${fmt(most * range, 2)}`), el("i", {class: "rx-scale rx-diverging"}), el("span", {}, `+${fmt(most * range, 2)}`));
    status.textContent = `${what}${still() ? "" : `, ${label(at.image)}`}: ${of} ${fmt(a)} before, ${fmt(b)} after; ${still() ? "" : "over all images "}it changed by ${fmt(100 * s.change[at.unit], 2)} %.`;
    box.dataset.scale = model.get("scale");
  };
  const rxTilesOf = async r => { if (!cache.has(r.thumbs)) cache.set(r.thumbs, rxTiles(r.thumbs, r.side, r.side)); const tile = await cache.get(r.thumbs); return i => tile(0, i).map(v => v / 255); };

  const renew = () => { at.run = Math.max(0, model.get("runs").length - 1); settle(); all(); };
  model.on("change:runs", renew); model.on("change:scale", all);
  root.replaceChildren(box);
  renew();
  return () => { model.off("change:runs", renew); model.off("change:scale", all); };
}

const rxWidget = {render: rxView};
export default rxWidget;
