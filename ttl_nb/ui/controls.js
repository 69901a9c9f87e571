// A row of buttons with a line of words, a progress bar and notices. Which button can be pressed is decided in Python.
const CONTROLS_LOOK = {main: "ttl-button ttl-primary", plain: "ttl-button", stop: "ttl-button controls-stop"};
const CONTROLS_KIND = {error: ["✕", "Error: "], warning: ["▲", "Warning: "], hint: ["●", "Note: "]};

function controlsButton(model, {name, text, kind}) {
  // aria-disabled, not disabled: a button that goes off under the keyboard's focus keeps it
  return el("button", {type: "button", class: CONTROLS_LOOK[kind], "data-name": name,
    onclick: e => { if (e.currentTarget.getAttribute("aria-disabled") !== "true") model.send({click: name}); }}, text);
}

function render({model, el: root}) {
  const buttons = model.get("buttons").map(b => controlsButton(model, b));
  const bar = el("div", {class: "controls-bar", role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": 100}, el("i"));
  const words = el("p", {class: "ttl-status controls-words"}), said = el("p", {class: "ttl-hidden", role: "status", "aria-live": "polite"});
  const notices = el("div", {class: "controls-notices", role: "log", "aria-label": "Notices", "aria-live": "polite"});
  const box = el("section", {class: "ttl controls", "aria-label": model.get("label")},
    el("div", {class: "ttl-row", role: "group", "aria-label": model.get("label")}, buttons), bar, words, said, notices);

  const paintButtons = () => {
    const states = model.get("states"), focused = buttons.find(b => b === root.ownerDocument.activeElement);
    for (const b of buttons) {
      const state = states[b.dataset.name];
      b.setAttribute("aria-disabled", state === "on" ? "false" : "true");
      b.hidden = state === "hidden";
    }
    if (focused?.hidden) (buttons.find(b => states[b.dataset.name] === "on") || buttons.find(b => !b.hidden))?.focus();
  };
  const paintWords = () => {
    words.textContent = model.get("status");
    if (said.textContent !== model.get("said")) said.textContent = model.get("said");
    const p = model.get("progress"), on = p !== null && p !== undefined;
    bar.classList.toggle("controls-off", !on);
    if (on) { bar.setAttribute("aria-valuenow", Math.round(100*p)); bar.setAttribute("aria-valuetext", model.get("status")); }
    else { bar.removeAttribute("aria-valuenow"); bar.removeAttribute("aria-valuetext"); }
    bar.firstChild.style.width = `${on ? 100*p : 0}%`;
  };
  const paintNotices = () => {
    const now = model.get("notices"), key = n => n.kind + n.text, kept = new Set(now.map(key));
    for (const n of [...notices.children]) if (!kept.has(n.dataset.key)) n.remove();
    const there = new Set([...notices.children].map(n => n.dataset.key));
    for (const n of now) if (!there.has(key(n))) {
      const [mark, word] = CONTROLS_KIND[n.kind] || CONTROLS_KIND.hint;
      notices.append(el("p", {class: `controls-notice controls-${n.kind}`, "data-key": key(n)},
        el("span", {class: "controls-mark", "aria-hidden": "true"}, mark), el("span", {}, el("span", {class: "ttl-hidden"}, word), n.text)));
    }
  };
  const paintScale = () => { box.dataset.scale = model.get("scale"); };
  const heard = [["change:states", paintButtons], ["change:status", paintWords], ["change:said", paintWords], ["change:progress", paintWords],
                 ["change:notices", paintNotices], ["change:scale", paintScale]];
  for (const [name, call] of heard) model.on(name, call);
  paintButtons(); paintWords(); paintNotices(); paintScale();
  root.replaceChildren(box); ttlOwnKeys(box);
  return () => heard.forEach(([name, call]) => model.off(name, call));
}
export default {render};
