// Predict, then reveal: sources are put into an order with buttons; afterwards what was found stands beside what was expected.

function _rankRender({model, el: root}) {
  root.classList.add("ttl", "ttl-ranking"); ttlOwnKeys(root);
  const status = el("p", {class: "ttl-status", role: "status", "aria-live": "polite"});
  const list = el("ol", {class: "ttl-ranks"});
  const titles = () => model.get("titles");
  const move = (i, by) => {
    const order = [...model.get("value")], j = i + by;
    if (j < 0 || j >= order.length) return;
    [order[i], order[j]] = [order[j], order[i]];
    model.set("value", order); model.save_changes();
    status.textContent = `${titles()[order[j]]} is number ${j + 1} now`;
    list.querySelector(`[data-name="${CSS.escape(order[j])}"] .ttl-rank-${by < 0 ? "up" : "down"}`)?.focus();
  };
  const found = name => { const f = model.get("found")[name]; return f ? el("span", {class: "ttl-rank-found"}, `found: number ${f.rank}, AUC ${fmt(f.auc)}`, f.runs > 1 ? ` (mean of ${f.runs})` : "") : null; };
  const draw = () => {
    const order = model.get("value"), locked = model.get("locked");
    list.replaceChildren(...order.map((name, i) => el("li", {class: "ttl-rank", "data-name": name},
      el("span", {class: "ttl-rank-number", "aria-hidden": "true"}, String(i + 1)),
      el("span", {class: "ttl-rank-name"}, titles()[name] || name),
      locked ? found(name) || el("span", {class: "ttl-note"}, "not tried yet") : el("span", {class: "ttl-rank-buttons"},
        el("button", {class: "ttl-button ttl-rank-up", type: "button", disabled: i === 0, "aria-label": `${titles()[name]}: one up`, onclick: () => move(i, -1)}, "▲"),
        el("button", {class: "ttl-button ttl-rank-down", type: "button", disabled: i === order.length - 1, "aria-label": `${titles()[name]}: one down`, onclick: () => move(i, 1)}, "▼")))));
  };
  root.replaceChildren(list, status);
  draw();
  model.on("change:value change:locked change:found change:titles", draw);
  return () => model.off("change:value change:locked change:found change:titles", draw);
}

export default {render: _rankRender};
