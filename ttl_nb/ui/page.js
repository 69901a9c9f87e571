// The bar on top of the page: title, the steps, presets, a scale for projectors, the link. It also keeps the page's address in step with its state.

function _pageAnnounce(status, text) { status.textContent = ""; requestAnimationFrame(() => { status.textContent = text; }); }

async function _pageCopy(text) {
  try { await navigator.clipboard.writeText(text); return true; } catch (e) { /* no permission, or no https: the old way */ }
  const area = el("textarea", {style: {position: "fixed", opacity: "0"}, "aria-hidden": "true", value: text});
  document.body.append(area); area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

function _pageLink(model) {
  const fragment = model.get("fragment");
  return model.get("has_address") ? location.href.split("#")[0] + "#" + fragment : fragment;
}

function _pageSteps(model) {
  const list = el("ol", {class: "ttl-steps", "aria-label": "Steps"});
  const draw = () => {
    const now = model.get("current"), reached = model.get("reached"), focused = list.contains(document.activeElement) && document.activeElement.dataset.step;
    list.replaceChildren(...model.get("steps").map((name, i) => el("li", {},
      el("button", {class: "ttl-step-button", type: "button", "data-step": String(i), disabled: i > reached, "aria-current": i === now ? "step" : null,
        "aria-label": `Step ${i + 1}: ${name}${i > reached ? ", not open yet" : ""}`,
        onclick: () => { model.set("asked_step", i); model.set("asked", model.get("asked") + 1); model.save_changes(); }},
        el("span", {class: "ttl-step-number", "aria-hidden": "true"}, String(i + 1)), el("span", {}, name)))));
    if (focused !== false && focused !== undefined) list.querySelector(`[data-step="${focused}"]`)?.focus();
  };
  draw();
  return [list, draw];
}

function _pagePresets(model) {
  const names = model.get("presets");
  const choice = el("select", {class: "ttl-select", "aria-label": "Examples", onchange: e => {
    if (e.target.value === "") return;
    model.set("preset", +e.target.value); model.save_changes(); }},
    el("option", {value: ""}, "Try an example …"), ...names.map((n, i) => el("option", {value: String(i)}, n)));
  model.on("change:preset", () => { choice.value = model.get("preset") < 0 ? "" : String(model.get("preset")); });
  return choice;
}

function _pageRender({model, el: root}) {
  root.classList.add("ttl", "ttl-pagebar");
  const page = () => root.closest(".ttl-playground") || root;
  const status = el("span", {class: "ttl-status", role: "status", "aria-live": "polite"});
  const [steps, drawSteps] = _pageSteps(model);
  const scale = el("button", {class: "ttl-button ttl-quiet", type: "button", title: "Larger, to be read from the last row", onclick: () => {
    model.set("scale", model.get("scale") === "projector" ? "normal" : "projector"); model.save_changes(); applyScale(); }}, "Projector");
  const copy = el("button", {class: "ttl-button ttl-quiet", type: "button", onclick: async () =>
    _pageAnnounce(status, await _pageCopy(_pageLink(model)) ? "The link is copied: whoever opens it finds these settings." : _pageLink(model))}, "Copy link");
  const text = el("p", {class: "ttl-page-text"}), title = el("h1", {class: "ttl-page-title"});
  const applyScale = () => {
    const large = model.get("scale") === "projector";
    page().dataset.scale = large ? "projector" : "normal";
    scale.setAttribute("aria-pressed", String(large));
  };
  const drawText = () => { title.textContent = model.get("title"); text.textContent = model.get("text"); text.hidden = !model.get("text"); };
  const write = () => { if (model.get("has_address")) history.replaceState(null, "", "#" + model.get("fragment")); };
  const read = () => {
    const found = location.hash.slice(1);
    if (found && found !== model.get("fragment")) { model.set("from_address", found); model.save_changes(); }
  };
  const jump = () => {
    const target = page().querySelector(`.ttl-step-${model.get("current") + 1}`);
    if (!target) return;
    target.scrollIntoView({block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth"});
    const head = target.querySelector(".ttl-step-title");
    if (head) { head.tabIndex = -1; head.focus({preventScroll: true}); }
  };
  root.replaceChildren(
    el("div", {class: "ttl-page-top"}, title, el("div", {class: "ttl-page-tools"}, _pagePresets(model), scale, copy)),
    el("nav", {"aria-label": "The story"}, steps), text, status);
  drawText();
  const changes = {"change:steps change:current change:reached": drawSteps, "change:title change:text": drawText, "change:fragment": write,
    "change:scale": applyScale, "change:jump": () => setTimeout(jump, 50)};
  for (const [name, f] of Object.entries(changes)) model.on(name, f);
  ttlWhenShown(root, () => { applyScale(); ttlOwnKeys(page()); });
  if (model.get("has_address")) { addEventListener("hashchange", read); location.hash.length > 1 ? read() : write(); }
  return () => { removeEventListener("hashchange", read); for (const [name, f] of Object.entries(changes)) model.off(name, f); };
}

export default {render: _pageRender};
