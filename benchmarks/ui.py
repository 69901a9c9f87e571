"""How quick, small and steady is the playground? `python benchmarks/ui.py [--json FILE] [--only NAME] [--quick]`

Served as `ttl-nb playground` serves it and driven in headless Chromium (TTL_NB_CHROMIUM, or what is installed). Times are
taken in the page, from the event of the click to what is drawn; memory is read from /proc, so this runs on Linux."""
import json, random, subprocess, sys, time
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from statistics import median

sys.path.append(str(Path(__file__).parents[1]/"tests"))
from browser import FLAGS, executable, mount
from runner import Figures, Found, main, short, temporary_folder

TARGET = "phantom-pneumonia"
USUAL = dict(target=TARGET, source="phantom-chest", n_train=50, freezing="full")
PACKAGES = ("voila", "ipykernel", "ipywidgets", "anywidget", "playwright", "torch", "fastai")
OPEN = ExitStack() # What is left open between lines


# A server, a browser, a kernel

@cache
def browser(): # Of playwright
    "Headless Chromium."
    from playwright.sync_api import sync_playwright
    if not executable(): raise RuntimeError("no Chromium here: apt-get install chromium, or set TTL_NB_CHROMIUM")
    found = OPEN.enter_context(sync_playwright()).chromium.launch(executable_path=executable(), args=FLAGS)
    OPEN.callback(found.close)
    return found


def offer(quick):
    from ttl_nb.ui.offer import phantom_offer
    return phantom_offer([TARGET], 120) if quick else phantom_offer()


@cache
def served(quick): # `Served`
    "The playground; its trainings are short, so that they reach their end here."
    from ttl_nb.ui.server import serve
    return OPEN.enter_context(serve(offer(quick), 8900, training=dict(epochs=2, min_steps=16) if quick else dict(epochs=10, min_steps=40)))


# Notes in the page when it was there: all seven steps, the images of the first one, and both charts
READY = """(() => { const drawn = () => document.querySelectorAll('.ttl-step').length >= 7 && document.querySelectorAll('.ttl-chart canvas').length >= 2
    && document.querySelector('.ttl-page-title')?.textContent && document.querySelector('.ttl-step-1 input[type=range]')?.offsetWidth > 0
    && document.querySelector('.ttl-step-7')?.children.length > 1
    && (found => found.length > 0 && found.every(o => o.complete && o.naturalWidth))([...document.querySelectorAll('.ttl-step-1 .ttl-pick-strip img')]);
  const look = () => drawn() ? window.ready = performance.now() : setTimeout(look, 20);
  look(); })()"""

@contextmanager
def page(quick, **fields): # Fields of a recipe that the link sets; with any, all steps up to the training are open
    "A new page; `page.ready`: seconds from navigation until all was drawn, `page.came`: what came over the websocket."
    context = browser().new_context(viewport=dict(width=1280, height=800))
    opened = context.new_page()
    opened.came = []
    opened.set_default_timeout(60_000)
    opened.on("websocket", lambda ws: ws.on("framereceived", lambda frame: opened.came.append(frame)))
    opened.add_init_script(READY)
    try:
        opened.goto(served(quick).link + ("#" + "&".join(f"{k}={json.dumps(v)}" for k, v in fields.items()) if fields else ""))
        opened.ready = ready(opened)
        if fields: button(opened, 5, "train").wait_for()
        yield opened
    finally: context.close()


def ready(page): # Of playwright
    "Seconds since navigation began when everything was drawn."
    page.wait_for_function("window.ready")
    return page.evaluate("window.ready")/1000


IS_OFF = "([step, name]) => document.querySelector(`.ttl-step-${step} .controls [data-name=${name}]`).ariaDisabled === 'true'"

def button(page, step, name): return page.locator(f".ttl-step-{step} .controls [data-name={name}]")


@cache
def kernel(): # Client of jupyter_client
    "A kernel as notebooks have it."
    from jupyter_client.manager import start_new_kernel
    manager, client = start_new_kernel(kernel_name="python3", stderr=subprocess.DEVNULL)
    OPEN.callback(manager.shutdown_kernel, now=True)
    OPEN.callback(client.stop_channels)
    return client


def in_kernel(call): # A call of a function of this file, as text
    "What it returns in a real kernel."
    said, folder = [], str(Path(__file__).parent)
    def heard(message):
        if message["msg_type"] == "stream": said.append(message["content"]["text"])
        elif message["msg_type"] == "error": said.append("\n".join(message["content"]["traceback"]))
    reply = kernel().execute_interactive(f"import sys; sys.path.insert(0, {folder!r}); import ui, json\nprint('\\n' + json.dumps(ui.{call}))",
                                         output_hook=heard, store_history=False, timeout=900)
    if reply["content"]["status"] != "ok": raise RuntimeError("".join(said))
    return json.loads("".join(said).strip().splitlines()[-1])


def processes(parent, named=""): # Number of a process, and what its command line holds
    "Its children."
    import psutil
    found = []
    for child in psutil.Process(parent).children():
        try: found += [child]*(named in " ".join(child.cmdline()))
        except psutil.NoSuchProcess: continue
    return found


def kernels(quick): return seat_processes(served(quick).voila.pid)

def seat_processes(voila): # Number of the server's process
    "The kernels of its pages, forked from its warm process."
    return [seat for warm in processes(voila, "forkserver") for seat in processes(warm.pid)]

def megabytes(process): # Of psutil
    "Of resident memory: all (rss), its share of what several processes hold together (pss), its own (uss)."
    found = process.memory_full_info()
    return {k: getattr(found, k)/1e6 for k in ("rss", "pss", "uss")}

def several(values, unit=""): return f"{short(min(values))} to {short(max(values))}{unit}"


# The page, and its kernel while nothing happens

def first_page(quick):
    times, seats, busy = [], [], []
    for _ in range(1 if quick else 5):
        before = {p.pid for p in kernels(quick)}
        with page(quick) as opened:
            times.append(opened.ready)
            own = next(p for p in kernels(quick) if p.pid not in before)
            opened.wait_for_timeout(500 if quick else 3000)
            start, spent = time.monotonic(), sum(own.cpu_times()[:2])
            opened.wait_for_timeout(500 if quick else 3000)
            busy.append((sum(own.cpu_times()[:2]) - spent)/(time.monotonic() - start))
            seats.append(megabytes(own))
    rss, pss, uss = ([s[k] for s in seats] for k in ("rss", "pss", "uss"))
    return Found(dict(page_ready_s=times, seat_mb=pss), f"the seat's memory is PSS: RSS, {median(rss):.0f} MB, counts for every seat anew the libraries and images "
                 f"that all seats share, {median(uss):.0f} MB are its own (USS); idle, its kernel takes {median(busy):.1%} of a core; first page {times[0]:.1f} s")


# Training on the page

# Looks for the first run's colour 25 times a second: a look at every frame would take time from the training
FIRST = """colour => { const c = document.querySelector('.ttl-step-5 .ttl-chart canvas'), want = [1, 3, 5].map(i => parseInt(colour.slice(i, i + 2), 16));
  const points = () => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;
    for (let i = 0; i < d.length; i += 4) n += Math.abs(d[i] - want[0]) + Math.abs(d[i+1] - want[1]) + Math.abs(d[i+2] - want[2]) < 40;
    return n; };
  const before = points();
  window.first = new Promise(done => addEventListener('click', e => { const look = () => points() > before ? done(performance.now() - e.timeStamp) : setTimeout(look, 40);
    look(); }, {capture: true, once: true})); }"""

def chart_updates(frames): # Frames of a websocket, as Jupyter's protocol v1 writes them
    "(bytes of curves and count, bytes of the frame) of every update of a chart."
    for frame in frames:
        many = int.from_bytes(frame[:8], "little")
        at = [int.from_bytes(frame[8*i+8:8*i+16], "little") for i in range(many)]
        parts = [frame[a:b] for a, b in zip(at, at[1:])]
        if len(parts) < 6 or b'"comm_msg"' not in parts[1]: continue
        data = json.loads(parts[4]).get("data", {})
        if data.get("method") == "custom" and set(data["content"]) == {"n"}: yield len(json.dumps(data["content"])) + sum(map(len, parts[5:])), len(frame)


def training_memory(quick): # Megabytes, and those of the trainer alone
    "PSS of the trainer and its workers."
    import psutil
    trainer, found = psutil.Process(served(quick).trainer.pid), []
    for p in [trainer, *trainer.children()]:
        try: found.append(megabytes(p)["pss"])
        except psutil.Error: continue # It ended meanwhile
    return sum(found), found[0]


def train(quick):
    from ttl_nb.pictures import OKABE_ITO
    times, sizes, most, rates = [], [], [], []
    for turn in range(1 if quick else 5):
        with page(quick, **USUAL) as opened:
            opened.evaluate(FIRST, OKABE_ITO[0])
            opened.came.clear()
            button(opened, 5, "train").click()
            start = time.monotonic()
            times.append(opened.evaluate("window.first")/1000)
            while not opened.evaluate(IS_OFF, [5, "stop"]):
                most.append(training_memory(quick))
                opened.wait_for_timeout(300)
            rates.append(sum(map(len, opened.came))/(time.monotonic() - start)/1000)
            sizes += chart_updates(opened.came)
    payload, whole = zip(*sizes)
    both, alone = max(most)
    return Found(dict(first_point_s=times, update_kb=max(payload)/1000, trainer_mb=both),
                 f"a training of 50 images to its end; largest of {len(sizes)} updates, their median {median(payload):.0f} bytes; with the envelope of the websocket's "
                 f"message {several(whole)} bytes; all messages to the page {median(rates):.1f} kB a second; trainer with one worker: the largest sum of PSS, "
                 f"{alone:.0f} MB of it the trainer's")


# Stopping

STOPPED = """([step, go]) => { const at = `.ttl-step-${step} .controls `, button = document.querySelector(at + `[data-name=${go}]`);
  window.stopped = new Promise(done => document.querySelector(at + '[data-name=stop]').addEventListener('click', e => {
    const off = () => button.ariaDisabled === 'false' && done([performance.now() - e.timeStamp, document.querySelector(at + '.controls-words').textContent]);
    new MutationObserver(off).observe(button, {attributes: true}); off(); }, {once: true})); }"""

REACHED = """([step, go, words]) => { const at = `.ttl-step-${step} .controls `, is = name => document.querySelector(at + `[data-name=${name}]`).ariaDisabled === 'false';
  return is('stop') ? RegExp(words).test(document.querySelector(at + '.controls-words').textContent) : is(go); }"""

def stop_once(page, step, go, words, most, g): # Step and button, what the words must say first, seconds to wait then at most
    "Milliseconds from the click on Stop to the button that starts being ready again; `None` where the run ended before."
    button(page, step, go).click()
    page.wait_for_function(IS_OFF, arg=[step, go])
    page.wait_for_function(REACHED, arg=[step, go, words])
    page.wait_for_timeout(1000*g.uniform(0, most))
    page.evaluate(STOPPED, [step, go])
    button(page, step, "stop").click(force=True) # Even when it is off meanwhile: then the run was quicker
    took, said = page.evaluate("window.stopped")
    return took if said.startswith("Ready") else None


MOMENTS = [ # Fields of the recipe -> step, button, what the words say first, seconds after that at most
    (USUAL, dict(ready=(5, "train", "", .8), rates=(4, "find", "", 3.), training=(5, "train", "^Step", 2.))),
    (USUAL | dict(n_train=10), dict(validating=(5, "train", "^Step", 2.))), # One batch an epoch, 96 images looked at after each
    (USUAL, dict(scoring=(5, "train", "^All", .3)))]

def stop(quick):
    g, found = random.Random(0), {}
    for fields, moments in MOMENTS[:1] if quick else MOMENTS:
        with page(quick, **fields) as opened:
            for moment, where in moments.items():
                found[moment] = []
                while len(found[moment]) < (1 if quick else 4):
                    if (took := stop_once(opened, *where, g)) is not None: found[moment].append(took)
    every = [t for times in found.values() for t in times]
    said = "; ".join(f"{moment} {several(times, ' ms')}" for moment, times in found.items())
    return Found(dict(stop_ms_median=every, stop_ms_worst=max(every)), f"{len(every)} clicks at random moments: {said}")


# The chart

def updates(n): # How many
    "Called in a kernel: milliseconds of each update, and the processor's of all threads per update."
    import ipykernel
    from ttl_nb.train.recording import Recording
    from ttl_nb.ui.live_chart import LiveChart
    chart, live, found, spent = LiveChart(), Recording({}), [], 0.
    chart.follow(live)
    for i in range(n):
        for k in range(4): live.add("batch", 4*i + k, loss=.5/(1 + i), lr=[1e-4, 1e-4, 1e-3], mom=.9)
        if i % 5 == 0: live.add("valid", 4*i + 3, loss=.6, auc=.7)
        start, cpu = time.perf_counter(), time.process_time()
        chart.update()
        found.append(1000*(time.perf_counter() - start))
        time.sleep(.003)
        spent += time.process_time() - cpu
    return dict(each=found, spent=1000*spent/n, version=ipykernel.__version__)


# Looks at every frame while messages come in: a frame with hardly a coloured pixel in its upper half is blank
FRAMES = """messages => new Promise(done => {
  const c = document.querySelector('.ttl-chart canvas'), g = c.getContext('2d'); let frames = 0, blank = 0, i = 0, over = false;
  const look = () => { const d = g.getImageData(0, 0, c.width, c.height / 2).data; let n = 0;
    for (let k = 0; k < d.length; k += 4) if (d[k + 2] - d[k] > 100) n++;
    frames++; if (n < 50) blank++; if (!over) requestAnimationFrame(look); else done([frames, blank]); };
  requestAnimationFrame(look);
  const feed = () => { if (i < messages.length) { model.receive(messages[i++]);
    if (i % 200 === 0) document.getElementById('root').style.width = `${900 - i / 10}px`; setTimeout(feed, 3); } else over = true; };
  feed(); })"""

def frames(n, folder): # Updates; where the page goes
    "(frames looked at, blank ones) in the harness of the tests."
    from ttl_nb.train.recording import Recording
    from ttl_nb.ui.live_chart import LiveChart
    context = browser().new_context(viewport=dict(width=1280, height=800))
    opened, chart, live = context.new_page(), LiveChart(), Recording({})
    chart.follow(live)
    seen = mount(opened, chart, folder)
    def learn(first, last):
        for i in range(first, last): live.add("batch", i, loss=.5 + i % 50/200, lr=[1e-4, 1e-4, 1e-3], mom=.9); chart.update()
    learn(0, 50); seen.sync()
    opened.wait_for_timeout(300)
    learn(50, 50 + n)
    messages, seen._waiting = seen._waiting, []
    looked, blank = opened.evaluate(FRAMES, messages)
    context.close()
    return len(messages), looked, blank


def chart(quick):
    n = 50 if quick else 1000
    with temporary_folder() as folder: sent, looked, blank = frames(n, folder)
    found = in_kernel(f"updates({n})")
    return Found(dict(update_ms=found["each"], blank_frames=blank),
                 f"{sent} updates on a page from disk that is made narrower meanwhile, {looked} frames looked at; time of an update in a kernel of its own (ipykernel "
                 f"{found['version']}, as Voila starts it), four batches each; the slowest of a hundred {sorted(found['each'])[len(found['each'])*99//100]:.2f} ms; "
                 f"with the thread that sends {found['spent']:.2f} ms of processor", equal=sent == n and looked > n/25)


# A fit that is watched, and one that is not

def fits(turns, quick): # Called in a kernel
    "Called in a kernel: pairs of a fit without and one with a panel, seconds, processor seconds and milliseconds of each tick; and whether all scores are the same."
    import ttl_nb.train.fit # noqa: F401 (its import is not part of a fit)
    from ttl_nb.ui.job import Job, ThreadPlace
    from ttl_nb.ui.panels import FitPanel
    what = offer(quick)
    place = ThreadPlace(what.targets, what.sources, {TARGET: what.pixels(TARGET)})
    says = dict(USUAL, backbone="resnet10", image_size=what.image_size, epochs=2 if quick else 20, min_steps=0)
    def plain():
        job = Job(place)
        job.start(dict(kind="fit", recipe=says, watch=96))
        job.wait()
        return job, []
    def watched():
        panel, ticks = FitPanel(Job(place), lambda: says), []
        panel.start(watch=96)
        while panel.busy:
            time.sleep(.1)
            start = time.perf_counter()
            panel.tick()
            ticks.append(1000*(time.perf_counter() - start))
        return panel.job, ticks
    def timed(f):
        cpu = time.process_time()
        job, ticks = f()
        if job.state != "done": raise RuntimeError(f"the fit ended as {job.state}: {job.error}")
        return dict(seconds=job.result["seconds"], cpu=time.process_time() - cpu, ticks=ticks, scores=job.result["scores"])
    first = timed(plain) # Not counted: it also warms up
    found = [{f.__name__: timed(f) for f in ((plain, watched) if turn % 2 else (watched, plain))} for turn in range(turns)]
    same = all(o.pop("scores") == first["scores"] for pair in found for o in pair.values())
    return dict(found=found, same=same)


def live(quick):
    says = in_kernel(f"fits({1 if quick else 5}, {quick})")
    more = lambda what: [100*(o["watched"][what]/o["plain"][what] - 1) for o in says["found"]]
    ticks = [t for o in says["found"] for t in o["watched"]["ticks"]]
    plain = median(o["plain"]["seconds"] for o in says["found"])
    return Found(dict(live_overhead_pct=more("seconds")), f"fits of {plain:.1f} s in a thread of a real kernel, 96 held-out images looked at after each epoch on both sides, "
                 f"alone and with the panel ticking ten times a second; scores the same: {'yes' if says['same'] else 'no'}; of processor time {median(more('cpu')):+.1f} % "
                 f"({several(more('cpu'))}); a tick takes {median(ticks):.1f} ms, in all {sum(ticks)/1000/sum(o['watched']['seconds'] for o in says['found']):.1%} of the fit", says["same"])


# Reloading

def reload(quick):
    from ttl_nb.ui.server import CULL
    turns, wait = (1, 0) if quick else (5, CULL + 20) # Kernels to cull are looked for every ten seconds
    with page(quick) as opened:
        for _ in range(turns): opened.reload(); ready(opened)
        at_once, start = len(kernels(quick)), time.monotonic()
        while time.monotonic() - start < wait or (not quick and len(kernels(quick)) > 1 and time.monotonic() - start < 3*wait): opened.wait_for_timeout(1000)
        took, left = time.monotonic() - start, len(kernels(quick))
        opened.get_by_role("button", name="Next: source").click()
        opened.get_by_role("heading", name="2 · Source").wait_for(timeout=10_000) # Its kernel answers
    return Found(dict(kernels_after_reloads=left), f"kernels after reloading {turns} times: {at_once} at once, {left} after {took:.0f} s; "
                 f"one without a page ends after {CULL} s, one with a page stays, and answers")


LINES = [
    Figures("page", "navigation to all widgets; idle kernel", dict(page_ready_s=("s", 5), seat_mb=("MB", 150)), first_page),
    Figures("train", "click on Train to the first point", dict(first_point_s=("s", 2), update_kb=("kB", 1), trainer_mb=("MB", 1200)), train),
    Figures("stop", "click on Stop to Train being ready", dict(stop_ms_median=("ms", 300), stop_ms_worst=("ms", 1000)), stop),
    Figures("chart", "1000 updates", dict(update_ms=("ms", 1), blank_frames=("", 0)), chart),
    Figures("live", "a fit with the chart against one without", dict(live_overhead_pct=("%", 3)), live),
    Figures("kernels", "five reloads and the culling time", dict(kernels_after_reloads=("", 1)), reload),
]

if __name__ == "__main__":
    with OPEN: sys.exit(main(LINES, packages=PACKAGES))
