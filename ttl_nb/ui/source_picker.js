// Sources as cards: a group of radio buttons, each the size of its card.

function _sourceCard(card, group, choose) {
  const said = pickId("card"), shares = card.shares;
  const facts = [card.n_images && pickPlural(card.n_images, "image"), card.n_patients && pickPlural(card.n_patients, "patient"),
    card.classes.length && pickPlural(card.classes.length, "class", "classes")].filter(Boolean).join(" · ");
  const classes = card.classes.length > 5 ? [...card.classes.slice(0, 4), `${card.classes.length - 4} more`] : card.classes;
  const input = el("input", {type: "radio", name: group, value: card.name, "aria-label": card.title, "aria-describedby": said,
    onchange: () => choose(card.name)});
  const node = el("label", {class: "ttl-pick-card", "data-none": card.name === "none"},
    el("span", {class: "ttl-pick-thumbs", "aria-hidden": "true"}, card.thumbnails.map(src => el("img", {src, alt: "", draggable: "false"}))),
    el("span", {class: "ttl-pick-heading"}, input, el("span", {class: "ttl-pick-name"}, card.title)),
    el("span", {class: "ttl-pick-said", id: said},
      shares && el("span", {class: "ttl-pick-shares", "data-same": /^same/.test(shares)}, shares),
      card.score && el("span", {class: "ttl-pick-score"}, card.score),
      facts && el("span", {class: "ttl-note"}, facts),
      classes.length > 0 && el("span", {class: "ttl-note"}, classes.join(", "))));
  return {node, input, name: card.name};
}

function render({model, el: host}) {
  const frame = pickFrame(model, host, "source", "Source"), group = pickId("source");
  const list = el("div", {class: "ttl-pick-cards", role: "radiogroup", "aria-label": "Source to transfer from"});
  frame.body.append(list);
  let cards = [];
  const show = () => cards.forEach(c => {
    c.input.checked = c.name === model.get("value");
    c.input.disabled = model.get("disabled");
    c.node.toggleAttribute("data-chosen", c.input.checked);
  });
  const build = () => {
    cards = model.get("_cards").map(c => _sourceCard(c, group, name => pickSet(model, {value: name, notice: ""})));
    list.replaceChildren(...cards.map(c => c.node));
    show();
  };
  return pickFollow(model, [...frame.follow, ["_cards", build], ["value disabled", show]]);
}
export default {render};
