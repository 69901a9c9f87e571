// What came of a run: AUC with its interval, a confusion matrix whose cells open their images, a ROC curve with its band.
const SCORES_SIZE = 240, SCORES_PAD = {left: 44, right: 10, top: 8, bottom: 40};

const scoresSaid = (scores, threshold) => scores.map(s => s.length === 2 ? (s[1] > threshold ? 1 : 0) : s.indexOf(Math.max(...s)));
function scoresMatrix(labels, said, n) {
  const found = Array.from({length: n}, () => Array(n).fill(0));
  labels.forEach((y, i) => found[y][said[i]]++);
  return found;
}

function scoresRoc(data, point, id) {
  const {left, right, top, bottom} = SCORES_PAD, w = SCORES_SIZE, h = SCORES_SIZE;
  const x = v => left + v*w, y = v => top + (1 - v)*h, {fpr, tpr, low, high} = data.roc;
  const path = (a, b) => a.map((v, i) => `${i ? "L" : "M"}${x(v).toFixed(1)} ${y(b[i]).toFixed(1)}`).join("");
  const ticks = [0, .5, 1].flatMap(v => [
    svg("text", {x: x(v), y: top + h + 16, "text-anchor": "middle"}, String(v)), svg("text", {x: left - 6, y: y(v) + 4, "text-anchor": "end"}, String(v))]);
  const band = low && high ? svg("path", {class: "scores-band", d: path(fpr, high) + path([...fpr].reverse(), [...low].reverse()).replace("M", "L") + "Z"}) : null;
  return svg("svg", {class: "scores-roc", viewBox: `0 0 ${left + w + right} ${top + h + bottom}`, role: "img", "aria-labelledby": id},
    svg("title", {id}, `ROC curve: AUC ${fmt(data.auc)}, 95 % interval ${fmt(data.low)} to ${fmt(data.high)}.` +
      (point ? ` At this threshold ${Math.round(100*point[1])} % of ${data.classes[1]} are found, at ${Math.round(100*point[0])} % false alarms.` : "")),
    svg("rect", {class: "scores-frame", x: left, y: top, width: w, height: h}),
    svg("path", {class: "scores-chance", d: `M${x(0)} ${y(0)}L${x(1)} ${y(1)}`}), band, svg("path", {class: "scores-line", d: path(fpr, tpr)}),
    point ? svg("circle", {class: "scores-point", cx: x(point[0]), cy: y(point[1]), r: 6}) : null, ticks,
    svg("text", {x: x(.5), y: top + h + 34, "text-anchor": "middle"}, "false alarms (share of the others)"),
    svg("text", {transform: `translate(13 ${y(.5)}) rotate(-90)`, "text-anchor": "middle"}, "found (share)"));
}

// How many images of each class got which probability, the second class upwards, the first downwards; wrong ones hatched
function scoresHist(data, threshold, id) {
  const bins = 20, w = 284, x0 = 8, half = 96, middle = half + 20, bar = w/bins;
  const counts = Array.from({length: bins}, () => [[0, 0], [0, 0]]), said = scoresSaid(data.scores, threshold);
  data.scores.forEach((s, i) => { const y = data.labels[i]; counts[Math.min(bins - 1, Math.floor(s[1]*bins))][y][said[i] === y ? 0 : 1]++; });
  const most = Math.max(1, ...counts.flat().map(([a, b]) => a + b)), bars = [];
  counts.forEach((classes, b) => classes.forEach(([right, wrong], y) => [[right, 0, "right"], [wrong, right, "wrong"]].forEach(([n, from, kind]) => {
    if (n) bars.push(svg("rect", {class: `scores-bar-${kind}`, x: x0 + b*bar + .75, width: bar - 1.5, height: n/most*half, y: y ? middle - (from + n)/most*half : middle + from/most*half,
      fill: kind === "wrong" ? `url(#${id}-hatch)` : null})); })));
  const cut = x0 + threshold*w, [zero, one] = data.classes;
  return svg("svg", {class: "scores-hist", viewBox: `0 0 ${w + 16} ${middle + half + 20}`, role: "img", "aria-labelledby": id},
    svg("title", {id}, `Probability of ${one}, image by image: ${one} upwards, ${zero} downwards; those left or right of the threshold ${threshold.toFixed(2)} where they do not belong are said wrongly.`),
    svg("defs", {}, svg("pattern", {id: `${id}-hatch`, width: 4, height: 4, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)"}, svg("rect", {class: "scores-hatch-ground", width: 4, height: 4}), svg("rect", {class: "scores-hatch-line", width: 2, height: 4}))),
    bars, svg("line", {class: "scores-zero", x1: x0, x2: x0 + w, y1: middle, y2: middle}), svg("line", {class: "scores-cut", x1: cut, x2: cut, y1: 16, y2: middle + half}),
    svg("text", {x: x0, y: 12}, `${one} ↑`), svg("text", {x: x0, y: middle + half + 14}, `${zero} ↓`), svg("text", {x: x0 + w, y: 12, "text-anchor": "end"}, "wrong: hatched"));
}

function render({model, el: root}) {
  const uid = `scores-${Math.random().toString(36).slice(2, 9)}`, box = el("section", {class: "ttl scores", "aria-label": "Result"});
  let cell = null, urls = [], data = {}, timer = null, parts = {};
  const two = () => data.classes?.length === 2 && data.scores?.length;
  const release = () => { urls.forEach(URL.revokeObjectURL); urls = []; };
  const close = () => { cell = null; release(); parts.pictures?.replaceChildren(); paintMatrix(); };

  const ask = (truth, said, start = 0) => { cell = [truth, said]; paintMatrix(); model.send({open: [truth, said], start}); };
  const paintMatrix = () => {
    if (!parts.matrix || !data.scores?.length && !data.confusion) return;
    const held = box.contains(root.ownerDocument.activeElement) ? root.ownerDocument.activeElement.dataset.cell : null;
    const names = data.classes, counts = data.scores?.length ? scoresMatrix(data.labels, scoresSaid(data.scores, model.get("threshold")), names.length) : data.confusion;
    const opens = model.get("opens") && data.scores?.length;
    const number = (t, s) => {
      const n = counts[t][s], total = counts[t].reduce((a, b) => a + b, 0), share = total ? n/total : 0, right = t === s;
      const text = `${n} of ${total} ${names[t]} said to be ${names[s]}`, style = {"--share": share.toFixed(3)};
      const inside = [el("b", {}, String(n)), el("small", {}, `${Math.round(100*share)} %`)];
      return el("td", {class: right ? "scores-right" : "scores-wrong", style}, !opens || !n ? el("div", {class: "scores-cell", role: "img", "aria-label": text}, inside)
        : el("button", {type: "button", class: "scores-cell", "data-cell": `${t},${s}`, "aria-expanded": String(!!cell && cell[0] === t && cell[1] === s),
          "aria-label": `${text}; show them`, onclick: () => cell && cell[0] === t && cell[1] === s ? close() : ask(t, s)}, inside));
    };
    parts.matrix.replaceChildren(
      el("thead", {}, el("tr", {}, el("td", {}), el("th", {colspan: names.length, scope: "colgroup"}, "said by the network")),
        el("tr", {}, el("th", {scope: "col", class: "scores-corner"}, "truth"), names.map(n => el("th", {scope: "col"}, n)))),
      el("tbody", {}, names.map((n, t) => el("tr", {}, el("th", {scope: "row"}, n), names.map((_, s) => number(t, s))))));
    if (held) parts.matrix.querySelector(`[data-cell="${held}"]`)?.focus();
  };
  const paintRoc = () => {
    if (!parts.roc || !data.roc?.fpr?.length) return;
    let point = null;
    if (two()) {
      const [c0, c1] = scoresMatrix(data.labels, scoresSaid(data.scores, model.get("threshold")), 2), share = ([a, b]) => a + b ? b/(a + b) : 0;
      point = [share(c0), share(c1)];
    }
    parts.roc.replaceChildren(scoresRoc(data, point, `${uid}-roc`));
  };
  const paintHist = () => { if (parts.hist) parts.hist.replaceChildren(scoresHist(data, model.get("threshold"), `${uid}-hist`)); };
  const paintThreshold = () => { if (parts.slider) { parts.slider.value = model.get("threshold"); parts.shown.textContent = model.get("threshold").toFixed(2); } paintMatrix(); paintRoc(); paintHist(); };

  const slider = () => {
    parts.shown = el("output", {for: `${uid}-slider`});
    parts.slider = el("input", {id: `${uid}-slider`, type: "range", min: 0, max: 1, step: .01, oninput: e => {
      model.set("threshold", Number(e.target.value)); paintThreshold();
      if (cell) close();
      clearTimeout(timer); timer = setTimeout(() => model.save_changes(), 150);
    }});
    return el("div", {class: "scores-threshold"}, el("label", {for: `${uid}-slider`}, `Say “${data.classes[1]}” above a probability of `, parts.shown), parts.slider);
  };
  const paint = () => {
    data = model.get("data") || {}; cell = null; release(); parts = {};
    box.hidden = !data.classes;
    if (box.hidden) { box.replaceChildren(); return; }
    const has = data.roc?.fpr?.length, said = data.auc !== undefined && data.auc !== null;
    parts.matrix = el("table", {class: "scores-matrix"}); parts.roc = el("div"); parts.pictures = el("div", {class: "scores-pictures", "aria-live": "polite"});
    const notes = data.notes || [];
    box.replaceChildren(...[
      el("div", {class: "scores-head"}, said ? [el("p", {class: "scores-auc"}, el("span", {}, "AUC "), el("b", {}, data.auc.toFixed(2)),
          el("span", {class: "scores-interval"}, ` [${fmt(data.low, 2)}, ${fmt(data.high, 2)}]`)),
        el("p", {class: "ttl-note"}, `${data.name || ""}${data.stopped_at ? ` · stopped at step ${data.stopped_at[0]} of ${data.stopped_at[1]}` : ""}. `,
          `Tested on ${data.labels?.length ?? "?"} images; in brackets, what other test patients could have given (95 %).`)] : null),
      el("div", {class: "scores-two"},
        !data.scores?.length && !data.confusion ? el("p", {class: "ttl-note"}, "An image of this task has several labels, so that there is no one confusion matrix.") :
        el("figure", {class: "scores-figure"}, el("figcaption", {}, "Confusion matrix", model.get("opens") ? el("span", {class: "ttl-note"}, " press a number to see its images") : null),
          el("div", {class: "ttl-scroll", role: "group", "aria-label": "Confusion matrix", tabindex: data.classes.length > 4 ? 0 : null}, parts.matrix)),
        has ? el("figure", {class: "scores-figure"}, el("figcaption", {}, "ROC curve", el("span", {class: "ttl-note"}, data.roc.low ? " with its 95 % band" : "")), parts.roc) : null,
        two() ? el("figure", {class: "scores-figure"}, el("figcaption", {}, "Probabilities", el("span", {class: "ttl-note"}, ` of “${data.classes[1]}”, image by image`)), parts.hist = el("div"), slider()) : null),
      parts.pictures,
      notes.length ? el("div", {class: "scores-notes"}, el("p", {class: "ttl-note"}, "What else there is to know of this run"), el("ul", {class: "ttl-note"}, notes.map(n => el("li", {}, n)))) : null].filter(Boolean));
    paintThreshold();
  };

  const showPictures = (m, buffers) => {
    if (!cell || m.truth !== cell[0] || m.said !== cell[1]) return;
    const names = data.classes, right = m.truth === m.said;
    const figures = m.rows.map((row, i) => {
      const url = URL.createObjectURL(new Blob([buffers[i]], {type: "image/png"}));
      urls.push(url);
      const large = el("button", {type: "button", class: "scores-picture", "aria-pressed": "false", title: "larger or smaller", onclick: e => e.currentTarget.setAttribute("aria-pressed", e.currentTarget.getAttribute("aria-pressed") !== "true")},
        el("img", {src: url, alt: `Image ${row}: ${names[m.truth]}, said to be ${names[m.said]}`}));
      return el("figure", {}, large, el("figcaption", {class: "ttl-note"}, m.scores[i].toFixed(2)));
    });
    const seen = m.start + m.rows.length, left = m.total - seen;
    if (m.start === 0) {
      parts.pictures.replaceChildren(
        el("div", {class: "ttl-row scores-bar"}, el("strong", {}, `${m.total} ${m.total === 1 ? "image" : "images"}: ${names[m.truth]}, ${right ? "and rightly said so" : `but said to be ${names[m.said]}`}`),
          el("span", {class: "ttl-note"}, `surest first; below each, the probability of ${names[m.said]}`), el("button", {type: "button", class: "ttl-button ttl-quiet", onclick: () => {
            const was = cell && `${cell}`; close(); if (was) parts.matrix.querySelector(`[data-cell="${was}"]`)?.focus(); }}, "Close")),
        el("div", {class: "scores-strip"}));
    } else parts.pictures.querySelector(".scores-more")?.remove();
    parts.pictures.querySelector(".scores-strip").append(...figures);
    if (left > 0) parts.pictures.append(el("button", {type: "button", class: "ttl-button scores-more", onclick: () => ask(m.truth, m.said, seen)}, `Show more (${left} left)`));
    if (m.start > 0) figures[0]?.querySelector("button").focus();
  };
  const heardMessage = (m, buffers) => { if (m?.kind === "pictures") { if (!cell && m.start === 0) { cell = [m.truth, m.said]; paintMatrix(); } if (m.start === 0) release(); showPictures(m, buffers); } };
  const paintScale = () => { box.dataset.scale = model.get("scale"); };
  const heard = [["change:data", paint], ["change:threshold", paintThreshold], ["change:scale", paintScale], ["msg:custom", heardMessage]];
  for (const [name, call] of heard) model.on(name, call);
  paint(); paintScale();
  root.replaceChildren(box); ttlOwnKeys(box);
  return () => { release(); clearTimeout(timer); heard.forEach(([name, call]) => model.off(name, call)); };
}
export default {render};
