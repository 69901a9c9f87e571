"""A real browser for tests of widgets, without a server or a kernel. In a test file:

    from browser import chromium, mount, page          # two fixtures and a function (pytest finds fixtures by name: import both)

    def test_it(page, tmp_path):
        w = SourcePicker(cards)
        seen = mount(page, w, tmp_path)                # the widget's script on a page from disk, wired to the Python object
        page.get_by_role('radio', name='chest').click()
        seen.sync()                                    # what the page set or sent reaches Python
        assert w.value == 'chest'
        w.value = 'none'; seen.sync()                  # and back

`page` fails its test at the end when the page asked any host for anything, or wrote an error to its console
(`page.faults` lists them; clear it where one is expected)."""
import base64, json, os, shutil
from pathlib import Path

import pytest

FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-dev-shm-usage']


def executable(): # Path of Chromium, or None
    return os.environ.get('TTL_NB_CHROMIUM') or next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)


@pytest.fixture(scope='module')
def chromium():
    "A headless Chromium, closed after the test file."
    sync_api = pytest.importorskip('playwright.sync_api')
    if not executable(): pytest.skip('no Chromium here: apt-get install chromium, or set TTL_NB_CHROMIUM')
    with sync_api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=executable(), args=FLAGS)
        yield browser
        browser.close()


def watched(page): # A page of playwright
    "Lists in `page.faults` what a page of one's own must not do: ask another host, fail, complain."
    page.faults = []
    def asked(request):
        if not request.url.startswith(('file:', 'data:', 'blob:', 'about:', 'http://127.0.0.1', 'http://localhost')): page.faults.append(f'asked for {request.url}')
    page.on('request', asked)
    page.on('pageerror', lambda e: page.faults.append(f'error: {e}'))
    page.on('console', lambda m: page.faults.append(f'console: {m.text}') if m.type == 'error' else None)
    return page


@pytest.fixture
def page(chromium):
    "A new page of 1280×800 that may ask no host for anything."
    context = chromium.new_context(viewport=dict(width=1280, height=800), accept_downloads=True)
    page = watched(context.new_page())
    page.set_default_timeout(10_000)
    yield page
    faults = list(page.faults)
    context.close()
    assert not faults, '\n'.join(faults)


# A page that mounts an anywidget module with a model like that of a notebook

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>widget</title><link rel="icon" href="data:,">
<style>body { margin: 16px; }</style><style id="css">%(css)s</style></head><body%(body)s><main id="root"></main>
<script id="given" type="application/json">%(given)s</script><script type="module">
const unpack = v => v && v.__b64 !== undefined ? new DataView(Uint8Array.from(atob(v.__b64), c => c.charCodeAt(0)).buffer)
  : Array.isArray(v) ? v.map(unpack) : v && typeof v === "object" ? Object.fromEntries(Object.entries(v).map(([k, o]) => [k, unpack(o)])) : v;
const pack = v => { const b = v instanceof DataView ? new Uint8Array(v.buffer, v.byteOffset, v.byteLength) : v instanceof ArrayBuffer ? new Uint8Array(v)
  : ArrayBuffer.isView(v) ? new Uint8Array(v.buffer, v.byteOffset, v.byteLength) : null; let s = ""; if (b) { for (const c of b) s += String.fromCharCode(c); return {__b64: btoa(s)}; }
  return Array.isArray(v) ? v.map(pack) : v && typeof v === "object" ? Object.fromEntries(Object.entries(v).map(([k, o]) => [k, pack(o)])) : v; };
const given = JSON.parse(document.getElementById("given").textContent), state = unpack(given.state), heard = [], dirty = new Set();
const emit = (name, ...args) => heard.filter(h => h[0] === name).forEach(h => h[1].call(h[2], ...args));
const change = (name, value) => { state[name] = value; emit("change:" + name, model, value); emit("change", model); };
const model = window.model = {
  outbox: [], get: name => state[name], set: (name, value) => { if (typeof name === "object") return Object.entries(name).forEach(o => model.set(...o));
    if (state[name] === value) return; dirty.add(name); change(name, value); },
  save_changes: () => { if (dirty.size) model.outbox.push({state: pack(Object.fromEntries([...dirty].map(k => [k, state[k]])))}); dirty.clear(); },
  on: (names, call, context) => names.split(/\\s+/).forEach(n => heard.push([n, call, context])),
  off: (name, call, context) => { for (let i = heard.length - 1; i >= 0; i--) if ((!name || heard[i][0] === name) && (!call || heard[i][1] === call) && (!context || heard[i][2] === context)) heard.splice(i, 1); },
  send: (content, callbacks, buffers) => model.outbox.push({content: pack(content), buffers: (buffers || []).map(pack)}),
  receive: message => { const m = unpack(message); if (m.state) Object.entries(m.state).forEach(o => change(...o)); else emit("msg:custom", m.content, m.buffers || []); },
  widget_manager: {}, heard,
};
const module = await import(URL.createObjectURL(new Blob([given.esm], {type: "text/javascript"})));
const definition = typeof module.default === "function" ? await module.default() : module.default || module;
const controllers = [], root = document.getElementById("root");
await definition.initialize?.({model, signal: new AbortController().signal});
window.addView = async () => { const el = document.createElement("div"), control = new AbortController(); el.className = "view"; root.append(el);
  const clean = await definition.render?.({model, el, signal: control.signal}); controllers.push({el, control, clean}); return controllers.length - 1; };
window.removeView = async i => { const o = controllers[i]; o.control.abort(); if (typeof o.clean === "function") await o.clean(); o.el.remove(); };
await window.addView(); window.ready = true;
</script></body></html>"""


def _pack(value):
    "Plain data with bytes marked."
    if isinstance(value, (bytes, bytearray, memoryview)): return {'__b64': base64.b64encode(bytes(value)).decode()}
    if isinstance(value, dict): return {k: _pack(v) for k, v in value.items()}
    return [_pack(v) for v in value] if isinstance(value, (list, tuple)) else value


def _unpack(value):
    if isinstance(value, dict): return base64.b64decode(value['__b64']) if '__b64' in value else {k: _unpack(v) for k, v in value.items()}
    return [_unpack(v) for v in value] if isinstance(value, list) else value


def harness(esm, css, state, folder, name='widget.html', body=''):
    "Writes a page that mounts the ES module `esm` with a model holding `state`; returns its file. `body`: attributes, as `data-jp-theme-light='false'`."
    given = json.dumps(dict(esm=esm, state=_pack(state))).replace('<', '\\u003c')
    file = Path(folder)/name
    file.write_text(PAGE % dict(css=css.replace('</', '<\\/'), given=given, body=f' {body}' if body else ''), encoding='utf-8')
    return file


class Mounted:
    "A Python widget and its view on a page, kept in step by `sync()`."
    def __init__(self, page, widget): self.page, self.widget, self.bytes = page, widget, []; self._waiting, self._send = [], widget._send; widget._send = self._catch

    def _catch(self, msg, buffers=None):
        "What the widget would send to the browser: a change of state, or a message."
        if msg.get('method') == 'custom': self._waiting.append(dict(content=_pack(msg['content']), buffers=[_pack(b) for b in buffers or []]))
        elif msg.get('method') in ('update', 'echo_update'):
            state = json.loads(json.dumps(msg['state']))
            for path, b in zip(msg.get('buffer_paths', []), buffers or []):
                at = state
                for key in path[:-1]: at = at[key]
                at.update({path[-1]: _pack(b)}) if isinstance(at, dict) else at.__setitem__(path[-1], _pack(b))
            if msg['method'] == 'update': self._waiting.append(dict(state=state))
        self.bytes.append(len(json.dumps(msg.get('content', msg))) + sum(len(bytes(b)) for b in buffers or []))

    def sync(self, rounds=3):
        "Carry what is waiting both ways, until nothing is."
        for _ in range(rounds):
            sent, self._waiting = self._waiting, []
            if sent: self.page.evaluate('all => all.forEach(m => model.receive(m))', sent)
            came = self.page.evaluate('() => model.outbox.splice(0)')
            for m in _unpack(came):
                if 'state' in m: self.widget.set_state(m['state'])
                else: self.widget._handle_custom_msg(m['content'], m['buffers'])
            if not came and not self._waiting: break
        return self

    def close(self): self.widget._send = self._send


def mount(page, widget, folder, wait=True, **kwargs):
    "Shows a Python anywidget on a page from disk; returns `Mounted`. Further arguments go to `harness`."
    seen = Mounted(page, widget)
    state = {k: v for k, v in widget.get_state().items() if k not in ('_esm', '_css', 'layout')}
    page.goto(harness(str(widget._esm), str(getattr(widget, '_css', '')), state, folder, **kwargs).as_uri())
    if wait: page.wait_for_function('window.ready')
    return seen.sync()
