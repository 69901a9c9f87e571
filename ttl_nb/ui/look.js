// What the widgets' scripts share; put before each of them (they are one module). Own names of a widget carry its prefix.
// TTL_COLOURS (a list) and TTL_STAGE_COLOURS (stage -> colour) come from look.py.

function _ttlNode(node, attrs, children) {
  for (const [name, value] of Object.entries(attrs || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on") && typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (name === "style" && typeof value === "object") Object.entries(value).forEach(([k, v]) => node.style.setProperty(k, v));
    else if (["value", "checked", "selected", "indeterminate"].includes(name) && name in node) node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter(c => c !== null && c !== undefined && c !== false));
  return node;
}

// el("button", {class: "ttl-button", onclick: f, disabled: false, "aria-pressed": "true"}, "Train"): text is never read as HTML
function el(tag, attrs, ...children) { return _ttlNode(document.createElement(tag), attrs, children); }
function svg(tag, attrs, ...children) { return _ttlNode(document.createElementNS("http://www.w3.org/2000/svg", tag), attrs, children); }

// A number in few letters: 0.694, 1.2e-5, 12,400; "–" for what is not a number
function fmt(x, digits = 3) {
  if (x === null || x === undefined || !Number.isFinite(+x)) return "–";
  const a = Math.abs(x);
  if (a !== 0 && (a < 1e-3 || a >= 1e6)) return (+x).toExponential(digits - 1).replace(/\.?0+e/, "e").replace("e+", "e");
  if (a >= 1000) return Math.round(x).toLocaleString("en-GB");
  return String(+(+x).toPrecision(digits));
}

// The colour that a variable of look.css has here and now, as canvas understands it: ttlColour(node, "--ttl-ink")
function ttlColour(node, name) {
  const probe = el("span", {style: {color: `var(${name})`, display: "none"}});
  node.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

// Is the theme dark here? `ttlWatchTheme` calls back whenever that may have changed, and returns a function that ends it
function ttlDark(node) {
  const c = (ttlColour(node, "--ttl-paper").match(/[\d.]+/g) || [255, 255, 255]).map(Number); // A node that stands nowhere yet has no colour
  return c[0] + c[1] + c[2] < 3 * (c[0] <= 1 && c[1] <= 1 ? .5 : 128);
}
function ttlWatchTheme(call) {
  const query = matchMedia("(prefers-color-scheme: dark)"), seen = new MutationObserver(call);
  query.addEventListener("change", call);
  for (const node of [document.documentElement, document.body])
    seen.observe(node, {attributes: true, attributeFilter: ["class", "theme", "data-theme", "data-jp-theme-light"]});
  return () => { query.removeEventListener("change", call); seen.disconnect(); };
}

// A colour of the palette as it is drawn on dark paper: lighter, to stand out as much as on white
function ttlOnDark(hex, white = .32) {
  const parts = [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16));
  return "#" + parts.map(v => Math.round(v + (255 - v) * white).toString(16).padStart(2, "0")).join("");
}

// Offer a file for saving
function ttlSave(name, blob) {
  const url = URL.createObjectURL(blob);
  el("a", {href: url, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

// Call once the node stands in the document: what is above it is known only then
function ttlWhenShown(node, call) {
  if (node.isConnected) { call(); return; }
  const seen = new ResizeObserver(() => { if (node.isConnected) { seen.disconnect(); call(); } });
  seen.observe(node);
}

// Keys pressed in this node are its own: JupyterLab would make, cut and run cells with them. (It asks the focused element first.)
function ttlOwnKeys(node) { node.addEventListener("focusin", e => { e.target.dataset.lmSuppressShortcuts = "true"; }); }

// A widget on a page of its own, without a kernel: its state is what was written into the page
function ttlOffline(widget, state, root) {
  const model = {get: k => state[k], set: (k, v) => { state[k] = v; }, on() {}, off() {}, send() {}, save_changes() {}};
  widget.initialize?.({model});
  widget.render({model, el: root});
}
function ttlBytes(text) { return new DataView(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer); }
