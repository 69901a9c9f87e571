"""Does one machine carry a class? `python benchmarks/classroom.py [--json FILE] [--only NAME] [--quick] [--seats N] [--minutes N]`

Served as `ttl-nb playground --classroom` serves it. A seat does to the server what a student's browser does, without drawing:
it loads the page, opens its kernel's websocket, asks for the widgets, sets the recipe by the link's fields and presses the
buttons; the browsers themselves run on the students' machines. Memory is read from /proc, so this runs on Linux."""
import argparse, asyncio, json, math, random, re, sys, time, uuid
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

from runner import Figures, Found, main, short
from ui import TARGET, USUAL, megabytes, seat_processes

PACKAGES = ("voila", "ipykernel", "ipywidgets", "jupyter_server", "tornado", "torch")
OPTIONS = argparse.ArgumentParser(add_help=False)
OPTIONS.add_argument("--seats", type=int, default=30, metavar="N", help="how many open the page at once (30)")
OPTIONS.add_argument("--minutes", type=float, default=60, metavar="N", help="how long all of them click at random (60)")
SAYS = argparse.Namespace()


# A seat, as its server sees it

def message(kind, content, **metadata):
    "As Jupyter's websocket takes it."
    from jupyter_server.services.kernels.connection.base import serialize_msg_to_ws_v1
    header = dict(msg_id=uuid.uuid4().hex, msg_type=kind, username="seat", session="seat", version="5.3", date="2026-01-01T00:00:00Z")
    return serialize_msg_to_ws_v1([json.dumps(o).encode() for o in (header, {}, metadata, content)], "shell")


def heard(raw):
    "Kind and content of a message, without its arrays."
    from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1
    parts = deserialize_msg_from_ws_v1(raw)[1]
    return json.loads(parts[0])["msg_type"], json.loads(parts[3])


class Seat:
    "A student's page: its widgets, and what can be pressed."
    def __init__(self, kernel, socket): self.kernel, self.socket, self.widgets, self.changed = kernel, socket, {}, asyncio.Event()

    async def listen(self):
        "Keep the widgets as the kernel tells them."
        while (raw := await self.socket.read_message()) is not None:
            kind, content = heard(raw)
            data = content.get("data", {}) if kind in ("comm_open", "comm_msg") else {}
            if kind == "comm_open": self.widgets[content["comm_id"]] = data.get("state", {})
            elif data.get("method") == "update": self.widgets.setdefault(content["comm_id"], {}).update(data["state"])
            elif data.get("method") == "update_states": self.widgets.update({i: w["state"] for i, w in data["states"].items()})
            self.changed.set()

    async def until(self, found, seconds=60): # `found(self)` -> something true
        "What `found` returns when it is true at last; `None` after so long."
        end = time.monotonic() + seconds
        while not (got := found(self)):
            self.changed.clear()
            try: await asyncio.wait_for(self.changed.wait(), min(1, end - time.monotonic()) if end > time.monotonic() else 0)
            except TimeoutError:
                if time.monotonic() >= end: return None
        return got

    def with_trait(self, name, value=None):
        "Id of the widget that has it (with this value)."
        return next((i for i, state in self.widgets.items() if name in state and value in (None, state[name])), None)

    def row(self, button): # Two rows have a Stop: the one that is on comes first
        "Id of the row of buttons that has it."
        found = {i: s["states"][button] for i, s in self.widgets.items() if button in s.get("states", {})}
        return max(found, key=lambda i: found[i] == "on", default=None)

    def can(self, button): return (i := self.row(button)) is not None and self.widgets[i]["states"][button] == "on"

    async def send(self, *said, **metadata): await self.socket.write_message(message(*said, **metadata), binary=True)

    async def ask(self):
        control = uuid.uuid4().hex
        await self.send("comm_open", dict(comm_id=control, target_name="jupyter.widget.control", data={}), version="1.0.0")
        await self.send("comm_msg", dict(comm_id=control, data=dict(method="request_states")))

    async def set(self, **fields): # Of a recipe
        "As the link does: all steps are open then."
        state = dict(from_address="&".join(f"{k}={quote(json.dumps(v))}" for k, v in fields.items()))
        await self.send("comm_msg", dict(comm_id=self.with_trait("from_address"), data=dict(method="update", state=state, buffer_paths=[])))

    async def press(self, button):
        await self.send("comm_msg", dict(comm_id=self.row(button), data=dict(method="custom", content=dict(click=button))))

    def ended(self):
        "Was a run added to the board?"
        return any(re.search(r"Run \d+ added", str(s.get("said", "")) + str(s.get("status", "")) + str(s.get("notices", ""))) for s in self.widgets.values())


@asynccontextmanager
async def seated(link): # With its token
    "A seat that is ready: its page is there, and its kernel has told its widgets."
    from tornado.httpclient import AsyncHTTPClient
    from tornado.websocket import websocket_connect
    from ttl_nb.ui.guarded import PROTOCOL
    client = AsyncHTTPClient(force_instance=True, max_buffer_size=2**28)
    answer = await client.fetch(link, request_timeout=300, connect_timeout=300)
    kernel, at = re.search(r'"kernelId": "([0-9a-f-]+)"', answer.body.decode())[1], urlsplit(link)
    socket = await websocket_connect(f"ws://{at.netloc}/api/kernels/{kernel}/channels?session_id=seat&{at.query}", max_message_size=2**28, subprotocols=[PROTOCOL])
    seat = Seat(kernel, socket)
    listening = asyncio.create_task(seat.listen())
    try:
        await seat.ask()
        if not await seat.until(lambda s: s.row("train") and s.with_trait("from_address"), 300): raise RuntimeError(f"kernel {kernel} tells no widgets")
        yield seat
    finally:
        socket.close()
        listening.cancel()
        client.close()


# The server

def served(stack, seats, quick):
    "A class."
    from ttl_nb.ui.offer import phantom_offer
    from ttl_nb.ui import server
    if quick: server.CULL = 5
    offer = phantom_offer([TARGET], 120) if quick else phantom_offer()
    return stack.enter_context(server.serve(offer, 8960, seats=seats, training=dict(epochs=2, min_steps=16) if quick else dict(epochs=10, min_steps=40)))


def family(server):
    "All processes of the server, by what they are."
    import psutil
    trainer = psutil.Process(server.trainer.pid)
    voila = psutil.Process(server.voila.pid)
    sitting = seat_processes(voila.pid)
    return dict(voila=[voila, *(p for p in voila.children(recursive=True) if p not in sitting)], seats=sitting, trainer=[trainer, *trainer.children()])


def memory(server):
    "Megabytes (PSS) of all of them together, and of each kind."
    import psutil
    found = {}
    for kind, members in family(server).items():
        found[kind] = 0.
        for p in members:
            try: found[kind] += megabytes(p)["pss"]
            except psutil.Error: continue # It ended meanwhile
    return sum(found.values()), found


async def watch(server, most, every=2.): # `most`: list of what `memory` said
    while True:
        most.append(await asyncio.to_thread(memory, server))
        await asyncio.sleep(every)


# Everybody opens the page, and trains

async def lesson(server, n, quick): # Seats
    "Open all at once, have all ask to train at once; what became of it."
    most, before = [], {p.pid for p in family(server)["seats"]}
    async with AsyncExitStack() as stack:
        async def come():
            start = time.monotonic()
            return await stack.enter_async_context(seated(server.join)), time.monotonic() - start
        async def train(seat, i):
            await seat.set(**USUAL, subset_seed=i, init_seed=i)
            if not await seat.until(lambda s: s.can("train")): raise RuntimeError("Train stays off")
            start = time.monotonic()
            await seat.press("train")
            return await seat.until(Seat.ended, 60 if quick else 1200) and time.monotonic() - start
        came, faults = sorted_out(await asyncio.gather(*[come() for _ in range(n)], return_exceptions=True))
        watching = asyncio.create_task(watch(server, most)) # Not before: to ask thirty processes for their memory takes what they start with
        ended, more = sorted_out(await asyncio.gather(*[train(seat, i) for i, (seat, _) in enumerate(came)], return_exceptions=True))
        alive = len({p.pid for p in family(server)["seats"]} - before)
        watching.cancel()
    return dict(ready=sorted(s for _, s in came), ended=sorted(filter(None, ended)), most=max(most, key=lambda m: m[0]), alive=alive, faults=faults + more)


def sorted_out(found):
    "What tasks returned, and what they failed of."
    return [f for f in found if not isinstance(f, Exception)], [repr(f) for f in found if isinstance(f, Exception)]


def span(seconds): return f"first after {short(seconds[0])} s, last after {short(seconds[-1])} s" if seconds else "none"


def opening(quick):
    n = 3 if quick else SAYS.seats
    with ExitStack() as stack:
        server = served(stack, n, quick)
        got = asyncio.run(lesson(server, n, quick))
        killed = n - got["alive"] + sum(p.poll() is not None for p in (server.voila, server.trainer))
    total, parts = got["most"]
    said = (f"{n} seats opened in the same moment, ready: {span(got['ready'])}; then all asked to train in the same moment, two train at a time, done: {span(got['ended'])}; "
            + "memory at its most: " + ", ".join(f"{k} {v:.0f} MB" for k, v in parts.items()) + "".join(f"; {f}" for f in got["faults"][:1]))
    return Found(dict(seats_ready=len(got["ready"]), ready_s=max(got["ready"], default=math.nan), total_mb=total, killed=killed, unfinished=n - len(got["ended"])),
                 said, equal=len(got["ready"]) == n and not got["faults"])


# Everybody clicks at random

SOURCES, PLANS = ("phantom-chest", "phantom-natural", "phantom-limb", "none"), ("full", "gradual", "head", "stage4")

async def fidget(seat, g, until): # `g`: of `random`
    "Choose and press this and that."
    clicks = 0
    while time.monotonic() < until:
        what = g.choice(("set", "train", "find", "stop", "pause", "resume", "reset"))
        if what == "set":
            source = g.choice(SOURCES)
            await seat.set(target=TARGET, source=source, n_train=g.choice((10, 50, 100)), freezing="full" if source == "none" else g.choice(PLANS))
        elif seat.can(what): await seat.press(what)
        clicks += 1
        await asyncio.sleep(g.expovariate(1/1.5))
    if seat.can("stop"): await seat.press("stop")
    return clicks


def held(server):
    "What a server that idles holds: kernels, threads, open files, megabytes of its own."
    found = [p for members in family(server).values() for p in members]
    return dict(kernels=len(family(server)["seats"]), threads=sum(p.num_threads() for p in found), files=sum(p.num_fds() for p in found), mb=memory(server)[0])


async def leave(server, most=180): # Seconds
    "Wait until every kernel whose page has gone is gone, too, and every run."
    end = time.monotonic() + most
    while time.monotonic() < end and ((found := family(server))["seats"] or len(found["trainer"]) > 1): await asyncio.sleep(1)


async def break_time(server, n, seconds, seed): # How many, how long
    "All of them click for so long; how often in all, and what went wrong."
    async def student(i):
        async with seated(server.join) as seat: return await fidget(seat, random.Random(1000*seed + i), time.monotonic() + seconds)
    clicks, faults = sorted_out(await asyncio.gather(*[student(i) for i in range(n)], return_exceptions=True))
    await leave(server)
    return sum(clicks), faults


def clicking(quick):
    n, seconds = (3, 6) if quick else (SAYS.seats, 60*SAYS.minutes)
    with ExitStack() as stack:
        server = served(stack, n, quick)
        asyncio.run(break_time(server, n, seconds/10, 0)) # What is loaded once stays
        before = held(server)
        clicks, faults = asyncio.run(break_time(server, n, seconds, 1))
        after = held(server)
    return Found({f"{k}_more": after[k] - before[k] for k in before},
                 f"{n} seats clicked {clicks:,} times in {seconds/60:.3g} minutes, after a tenth of that to warm up; held by the idle server before: "
                 + ", ".join(f"{before[k]:.0f} {k}" for k in before) + (f"; {len(faults)} seats failed, the first by {faults[0]}" if faults else ""), equal=not faults)


LINES = [
    Figures("class", "all seats opened at once, then all train", dict(seats_ready=("", None), ready_s=("s", 25), total_mb=("MB", 8000), killed=("", 0), unfinished=("", 0)), opening),
    Figures("clicking", "random clicking by all seats: what the server holds after it",
            dict(kernels_more=("", 0), threads_more=("", 0), files_more=("", 0), mb_more=("MB", 50)), clicking),
]

if __name__ == "__main__": sys.exit(main(LINES, packages=PACKAGES, options=OPTIONS, says=SAYS))
