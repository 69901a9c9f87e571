// How many images, which ones, which initial weights. All sizes of one draw are here: moving the slider needs no kernel.

const _SIZE_STEPS = 1000;

// Position of a size on the slider, 0 to _SIZE_STEPS, and back; the scale is logarithmic, and ticks are magnetic
function _sizeScale(sizes) {
  const low = Math.log(sizes[0]), high = Math.log(sizes[sizes.length - 1]);
  const place = n => (Math.log(n) - low)/(high - low);
  const at = position => {
    const share = position/_SIZE_STEPS, near = sizes.find(n => Math.abs(place(n) - share) < .012);
    return near ?? Math.round(Math.exp(low + share*(high - low)));
  };
  return {place, at, clip: n => Math.min(Math.max(Math.round(n), sizes[0]), sizes[sizes.length - 1])};
}

// The next round number: 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100 …
const _SIZE_ROUND = [10, 12, 15, 20, 25, 30, 40, 50, 60, 80];
function _sizeNext(n, up, sizes) {
  const all = new Set(sizes);
  for (let power = .1; power <= 1e5; power *= 10) _SIZE_ROUND.forEach(r => { const x = Math.round(r*power); if (x > sizes[0] && x < sizes[sizes.length - 1]) all.add(x); });
  const sorted = [...all].sort((a, b) => a - b);
  return (up ? sorted.find(x => x > n) : sorted.reverse().find(x => x < n)) ?? n;
}
function _sizeTick(n, up, sizes) { return (up ? sizes.find(x => x > n) : [...sizes].reverse().find(x => x < n)) ?? n; }

function _sizeSeed(model, name, title, note, die) {
  const id = pickId(name), about = pickId(name);
  const input = el("input", {class: "ttl-input ttl-pick-seed", id, type: "number", min: 0, max: 2**31 - 1, step: 1, inputmode: "numeric", "aria-describedby": about,
    onchange: () => { const n = Number(input.value); if (input.value !== "" && Number.isInteger(n) && n >= 0 && n < 2**31) pickSet(model, {[name]: n, notice: ""}); else show(); }});
  const button = el("button", {class: "ttl-button ttl-pick-die", type: "button", "aria-label": die, title: die, onclick: () => {
    const others = [...Array(1000).keys()].filter(n => n !== model.get(name));
    pickSet(model, {[name]: others[Math.floor(Math.random()*others.length)], notice: ""});
  }}, pickDie());
  const show = () => { input.value = model.get(name); [input, button].forEach(o => { o.disabled = model.get("disabled"); }); };
  return {show, node: el("div", {class: "ttl-pick-seedbox"}, el("label", {for: id, class: "ttl-pick-label"}, title),
    el("div", {class: "ttl-row"}, input, button), el("p", {class: "ttl-note", id: about}, note))};
}

function render({model, el: host}) {
  const frame = pickFrame(model, host, "size", "Training-set size");
  let sizes = model.get("_sizes"), scale = _sizeScale(sizes), tiles = [], now = model.get("value");
  const settle = () => { if (model.get("value") !== now) pickSet(model, {value: now, notice: ""}); }, settleSoon = pickThrottle(settle);
  const take = (n, moving) => { now = scale.clip(n); show(); moving ? settleSoon() : settle(); };

  const fieldId = pickId("size"), note = el("p", {class: "ttl-note"});
  const field = el("input", {class: "ttl-input ttl-pick-number", id: fieldId, type: "number", step: 1, inputmode: "numeric",
    onchange: () => { if (field.value !== "" && Number.isFinite(+field.value)) take(+field.value); else show(); }});
  const slider = el("input", {type: "range", class: "ttl-pick-range", min: 0, max: _SIZE_STEPS, step: 1, "aria-label": "Training images",
    oninput: () => take(scale.at(+slider.value), true), onchange: settle, onblur: settle,
    onkeydown: e => {
      const step = {ArrowRight: n => _sizeNext(n, true, sizes), ArrowUp: n => _sizeNext(n, true, sizes), ArrowLeft: n => _sizeNext(n, false, sizes),
        ArrowDown: n => _sizeNext(n, false, sizes), PageUp: n => _sizeTick(n, true, sizes), PageDown: n => _sizeTick(n, false, sizes),
        Home: () => sizes[0], End: () => sizes[sizes.length - 1]}[e.key];
      if (step) { e.preventDefault(); take(step(now), e.repeat); }
    }});
  const ticks = el("div", {class: "ttl-pick-ticks"});
  const counts = el("ul", {class: "ttl-pick-counts", "aria-label": "Images of each class"});
  const strip = el("ul", {class: "ttl-pick-strip", "aria-label": "The images that are chosen"}), more = el("li", {class: "ttl-pick-more"});
  const seeds = [
    _sizeSeed(model, "subset_seed", "Which images", "Seed of the draw. A larger set keeps the images of the smaller one.", "Draw other images"),
    _sizeSeed(model, "init_seed", "Which initial weights", model.get("init_note"), "Draw other weights")];
  const chosen = el("div", {class: "ttl-pick-chosen"}, counts, strip, note);
  frame.body.append(
    el("div", {class: "ttl-pick-amount"}, el("label", {for: fieldId, class: "ttl-pick-label"}, "Training images"), field),
    el("div", {class: "ttl-pick-slider"}, slider, ticks), chosen,
    el("div", {class: "ttl-pick-seeds"}, seeds.map(s => s.node)));

  const show = () => {
    slider.value = Math.round(scale.place(now)*_SIZE_STEPS);
    slider.style.setProperty("--share", scale.place(now));
    slider.setAttribute("aria-valuetext", pickPlural(now, "image"));
    if (document.activeElement !== field || +field.value !== now) field.value = now;
    [slider, field].forEach(o => { o.disabled = model.get("disabled"); });
    [...ticks.children].forEach(t => t.toggleAttribute("data-on", +t.dataset.n === now));
    showStrip();
  };
  const showStrip = () => {
    const labels = model.get("_labels"), classes = model.get("_classes"), pictures = model.get("_pictures").length;
    chosen.hidden = !labels.length;
    const found = labels.slice(0, now);
    [...counts.children].forEach((li, i) => { const n = found.filter(l => l === i).length; li.querySelector("b").textContent = n; li.style.setProperty("--n", n); });
    tiles.forEach((t, i) => t.toggleAttribute("data-out", i >= now));
    more.hidden = now <= pictures;
    more.replaceChildren(el("b", {}, `+${(now - pictures).toLocaleString("en-GB")}`), " more");
    note.textContent = now > pictures && pictures ? `Pictures of the first ${pictures}; all ${now.toLocaleString("en-GB")} are trained on.` : "\u00a0";
    const missing = classes.filter((c, i) => !found.includes(i));
    note.classList.toggle("ttl-warn", missing.length > 0 && found.length > 0);
    if (missing.length && found.length) note.textContent = `No image of ${missing.join(", ")}: the network can't learn that class.`;
  };
  const build = () => {
    const labels = model.get("_labels"), classes = model.get("_classes"), rows = model.get("_rows");
    tiles = model.get("_pictures").map((src, i) => {
      const tile = el("li", {class: "ttl-pick-tile", title: `${classes[labels[i]]}, image ${rows[i]}`, style: {"--colour": pickColour(labels[i])}},
        src ? el("img", {src, alt: classes[labels[i]], draggable: "false"}) : el("span", {}, classes[labels[i]]), pickMark(labels[i]));
      return tile;
    });
    strip.replaceChildren(...tiles, more);
    counts.replaceChildren(...classes.map((c, i) => el("li", {style: {"--colour": pickColour(i)}}, pickMark(i), el("b", {}), ` ${c}`)));
    showStrip();
  };
  const scaleUp = () => {
    sizes = model.get("_sizes"); scale = _sizeScale(sizes);
    Object.assign(field, {min: sizes[0], max: sizes[sizes.length - 1]});
    ticks.replaceChildren(...sizes.map(n => el("button", {type: "button", tabindex: -1, "aria-hidden": "true", "data-n": n, style: {"--place": scale.place(n)}, onclick: () => take(n)}, n.toLocaleString("en-GB"))));
    show();
  };
  return pickFollow(model, [...frame.follow, ["_sizes", scaleUp], ["_pictures _labels _classes", build],
    ["value disabled", () => { now = model.get("value"); show(); }],
    ["subset_seed init_seed disabled", () => seeds.forEach(s => s.show())],
    ["subset_seed _drawn", () => chosen.toggleAttribute("data-waiting", model.get("_drawn") !== model.get("subset_seed"))]]);
}
export default {render};
