// The freezing meter: how far each stage has moved, on a logarithmic scale with a zero of its own.
const METER_PARTS = [["weights", "Weights"], ["affine", "BatchNorm: affine terms"], ["statistics", "BatchNorm: statistics"]];
const METER_LOWEST = -4.5;                                           // log10 of the share where a bar would have no length
const meterLength = v => Math.min(1, Math.max(.02, 1 - Math.log10(v)/METER_LOWEST));
const METER_LOCK = "M3.5 7V5a3.5 3.5 0 0 1 7 0v2M2 7h10v7H2z", METER_OPEN = "M3.5 7V4.5a3.5 3.5 0 0 1 6.8-1.1M2 7h10v7H2z";
const meterIcon = learned => svg("svg", {class: "meter-icon", viewBox: "0 0 14 16", "aria-hidden": "true"}, svg("path", {d: learned ? METER_OPEN : METER_LOCK}));
const meterName = name => name.replace(/^stage(\d)$/, "stage $1");

function render({model, el: root}) {
  const body = el("tbody"), words = el("p", {class: "ttl-hidden", role: "status", "aria-live": "polite"}), caption = el("caption");
  const ticks = () => el("div", {class: "meter-axis", "aria-hidden": "true"}, [-4, -3, -2, -1, 0].map(p => el("i", {style: {left: `${100*(1 - p/METER_LOWEST)}%`}},
    p === -4 ? "0.01 %" : p === -2 ? "1 %" : p === 0 ? "100 %" : "")));
  const table = el("table", {class: "ttl-table meter-table"}, caption,
    el("thead", {}, el("tr", {}, el("th", {scope: "col"}, "Stage"), METER_PARTS.map(([, name]) => el("th", {scope: "col", class: "meter-part"}, name, ticks())), el("th", {scope: "col"}, "What that means"))), body);
  const box = el("section", {class: "ttl meter", "aria-label": "Freezing meter"}, el("div", {class: "ttl-scroll"}, table), words);

  const cell = (row, part) => {
    const v = row.parts[part], leak = row.kind === "leak" && (row.learned ? part === "weights" : v > 0);
    if (v === null || v === undefined) return el("td", {class: "meter-none", "data-part": METER_PARTS.find(o => o[0] === part)[1]}, row.kind === "unseen" ? "–" : "has none");
    return el("td", {class: leak ? "meter-leak" : "", "data-part": METER_PARTS.find(o => o[0] === part)[1]}, el("div", {class: "meter-track"}, v > 0 ? el("i", {style: {width: `${100*meterLength(v)}%`}}) : el("i", {class: "meter-zero"})),
      el("span", {class: "meter-value"}, v > 0 ? row.said[part] : "did not move"));
  };
  const paint = () => {
    body.replaceChildren(...model.get("rows").map(row => el("tr", {class: `meter-${row.kind}`},
      el("th", {scope: "row"}, el("span", {class: "meter-name"}, meterIcon(row.learned), meterName(row.name)), el("span", {class: "ttl-hidden"}, row.learned ? ", learns" : ", frozen")),
      METER_PARTS.map(([part]) => cell(row, part)),
      el("td", {class: "meter-words"}, row.kind === "leak" ? el("span", {class: "meter-mark", "aria-hidden": "true"}, "▲ ") : null, row.words))));
    if (words.textContent !== model.get("words")) words.textContent = model.get("words");
    caption.textContent = `${model.get("caption") ? model.get("caption") + ". " : ""}Distance from the start, as a share of where it started (each tick ten times the one before).`;
    box.hidden = !model.get("rows").length;
    box.dataset.scale = model.get("scale");
  };
  const names = ["rows", "words", "caption", "scale"];
  names.forEach(n => model.on(`change:${n}`, paint));
  paint();
  root.replaceChildren(box);
  return () => names.forEach(n => model.off(`change:${n}`, paint));
}
export default {render};
