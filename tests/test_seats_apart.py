"""A server of seats: bound to this machine unless a class is asked for, closed to who has no token; no seat runs code, reads files or reaches another seat. And hostile names on its page are read, not run."""
import asyncio, re, stat, sys, time, uuid
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil, pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from browser import chromium  # noqa: F401 (fixture)
from project import ROOT
from test_escaping import CLASSES, NAME, domain, page, quiet  # noqa: F401 (fixtures)
from ttl_nb.ui.guarded import PROTOCOL

sys.path.insert(0, str(ROOT/"benchmarks"))
from classroom import heard, message


@pytest.fixture(scope="module")
def server(domain, tmp_path_factory):
    from ttl_nb.ui import server
    from ttl_nb.ui.offer import Offer
    honest = server._wait_for
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TTL_NB_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(server, "_wait_for", lambda *args: honest(*args, seconds=200)) # A busy machine
        with server.serve(Offer({NAME: domain}, {}, 48), port=8980, seats=8, training=dict(epochs=1, min_steps=4)) as served: yield served


def token(server): return re.search("token=([^&]+)", server.link)[1]
def root(server): return server.link.split("/?")[0]


def asked(server, path, with_token=False, method="GET"):
    "Status of an answer, and its text."
    headers = {"Authorization": f"token {token(server)}"} if with_token else {}
    try:
        with urlopen(Request(root(server) + path, headers=headers, method=method), timeout=30) as r: return r.status, r.url + r.read().decode(errors="replace")
    except HTTPError as e: return e.code, e.read().decode(errors="replace")


PATHS = ("/api/contents", "/api/contents/..", "/api/kernels", "/api/sessions", "/api/terminals", "/api/kernelspecs", "/voila/api/contents/", "/voila/tree", "/tree", "/files/offer.json", "/nbconvert/html/playground.ipynb",
         "/voila/files/../offer.json", "/voila/files/%2e%2e/offer.json", "/voila/files/..%2foffer.json", "/voila/files/..%2fclass.json", "/voila/files/playground.ipynb", "/voila/files//etc/passwd",
         "/voila/static/../../../../../../etc/passwd", "/voila/static/..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd", "/voila/templates/ttl/..%2f..%2f..%2f..%2foffer.json", "/voila/render/..%2foffer.json")


def test_it_listens_to_this_machine_alone(server):
    "Nobody else on the network can connect; its folder is its owner's."
    port = int(root(server).rsplit(":", 1)[1])
    table = [line.split() for f in ("tcp", "tcp6") if Path(f"/proc/net/{f}").exists() for line in Path(f"/proc/net/{f}").read_text().splitlines()[1:]]
    bound = {row[1].split(":")[0] for row in table if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}
    assert bound == {"0100007F"}, bound
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700 and stat.S_IMODE((server.folder/"trainer.sock").stat().st_mode) == 0o600
    for pid in (server.voila.pid, server.trainer.pid): assert token(server) not in Path(f"/proc/{pid}/cmdline").read_text()
    assert token(server) not in (server.folder/"voila.log").read_text()


def test_without_the_token_there_is_nothing(server):
    status, text = asked(server, "/")
    assert status in (401, 403) or "/login" in text.splitlines()[0], (status, text[:200])
    assert "kernelId" not in text and "kernel_id" not in text and CLASSES[0] not in text
    for path in (*PATHS, f"/api/kernels/{uuid.uuid4()}", "/voila/api/shutdown/x"):
        status, text = asked(server, path)
        assert status in (400, 401, 403, 404, 405, 500) or "/login" in text.splitlines()[0], (path, status, text[:200])
        assert "root:" not in text and "onerror" not in text and "token" not in text.lower().replace("token authentication", "").split("<form")[0][:0], path


def test_with_the_token_no_file_and_no_list_of_kernels(server):
    for path in PATHS:
        status, text = asked(server, path, with_token=True)
        assert status in (400, 401, 403, 404, 405, 500), (path, status, text[:300])
        assert "root:" not in text and "\"teacher\"" not in text and "onerror" not in text, path
    assert asked(server, f"/api/kernels/{uuid.uuid4()}", True, "DELETE")[0] in (403, 404)


def kernel_of(server):
    "A seat's kernel, as its page names it."
    status, text = asked(server, "/", with_token=True)
    assert status == 200
    return re.search(r'"kernelId":\s*"([0-9a-f-]{36})"', text)[1]


async def connected(server, kernel, with_token=True, **options):
    "The websocket of a seat."
    headers = {"Authorization": f"token {token(server)}"} if with_token else {}
    request = HTTPRequest(f"ws{root(server)[4:]}/api/kernels/{kernel}/channels", headers=headers)
    return await websocket_connect(request, **(dict(subprotocols=[PROTOCOL]) | options))


async def kinds_heard(ws, last, seconds=30):
    "The kinds of the messages that come, to the first of kind `last`."
    said, end = [], time.monotonic() + seconds
    while time.monotonic() < end and last not in said:
        try: got = await asyncio.wait_for(ws.read_message(), 5)
        except asyncio.TimeoutError: continue
        if got is None: break
        said.append(heard(got)[0])
    return said


def test_a_seat_runs_no_code(server, tmp_path):
    "Its socket takes messages of widgets, and none that would run something."
    kernel, ran = kernel_of(server), tmp_path/"it-ran"
    async def talk():
        with pytest.raises(HTTPClientError): await connected(server, kernel, with_token=False)
        ws, code = await connected(server, kernel), f"open({str(ran)!r}, 'w')"
        for m in (message("execute_request", dict(code=code, silent=False, store_history=False, user_expressions={}, allow_stdin=False)),
                  message("complete_request", dict(code=code, cursor_pos=3)), message("inspect_request", dict(code=code, cursor_pos=3, detail_level=0)), message("kernel_info_request", {})):
            await ws.write_message(m, binary=True)
        said = await kinds_heard(ws, "kernel_info_reply")
        ws.close()
        return said
    said = asyncio.run(talk())
    assert "kernel_info_reply" in said and not {"execute_reply", "complete_reply", "inspect_reply"} & set(said), said
    assert not ran.exists()


def test_a_message_that_lies_about_its_size_costs_nothing(server):
    "Eight bytes said how many numbers the server should list: a class's server would have had no memory left."
    kernel, memory = kernel_of(server), lambda: psutil.Process(server.voila.pid).memory_info().rss
    async def talk():
        with pytest.raises(HTTPClientError) as e: await connected(server, kernel, subprotocols=[])
        assert e.value.code == 400 # The older protocol
        for bad in ((2**64 - 1).to_bytes(8, "little") + bytes(64), bytes(3), "{}"):
            ws = await connected(server, kernel)
            await ws.write_message(bad, binary=isinstance(bad, bytes))
            assert await asyncio.wait_for(ws.read_message(), 20) is None and ws.close_code == 1007, bad # Hung up on
        ws = await connected(server, kernel)
        await ws.write_message(message("kernel_info_request", {}), binary=True)
        said = await kinds_heard(ws, "kernel_info_reply")
        ws.close()
        return said
    before = memory()
    assert "kernel_info_reply" in asyncio.run(talk()), "the seat does not answer any more"
    assert memory() - before < 2**26


def test_a_kernel_cannot_be_guessed(server):
    "Two seats have kernels of 122 random bits each, and neither page names the other's."
    pages = [asked(server, "/", with_token=True)[1] for _ in range(2)]
    ids = [set(re.findall(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", p)) for p in pages]
    assert all(ids) and not ids[0] & ids[1]


def test_hostile_names_on_the_page(server, page):
    "Through all steps of the playground, with a run."
    page.goto(server.join)
    page.get_by_role("heading", name=re.compile("Targeted transfer learning")).wait_for()
    quiet_(page)
    for name in ("source", "freeze", "learning rate", "train"): page.get_by_role("button", name=f"Next: {name}").click()
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_text(re.compile(r"Run 1 added")).first.wait_for(state="attached", timeout=120_000)
    for step in page.get_by_role("button", name=re.compile(r"^Step \d")).all():
        if step.is_enabled(): step.click()
    quiet_(page)
    assert "onerror" in page.locator("body").inner_text() + page.content(), "the hostile names are nowhere: nothing was tested"


def quiet_(page):
    page.faults = [f for f in page.faults if "403" not in f] # Voila's own beacon
    quiet(page)
