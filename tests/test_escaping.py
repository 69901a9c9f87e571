"""Names that are HTML travel through report, explorer, pages of reuse and of a replay, and the playground, in a real browser: they are read, and nothing of them is run."""
import json, re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from browser import chromium, watched  # noqa: F401 (fixture)
from test_report import invented_run, make_source

pytest.importorskip("playwright.sync_api")

RUN = "window.hit=(window.hit||0)+1"
CLASSES = (f"<script>{RUN};alert(1)</script>", f'"><img src=x onerror="{RUN}">')
FILE = f'"><img src=x onerror={RUN}>.png'
NAME = f"</script><script>{RUN}</script><!-- '\" target"
SOURCE = f"</title><svg onload={RUN}>&lt;b&gt;"
PART = f"javascript:{RUN} </style><iframe srcdoc=\"<script>parent.{RUN}</script>\">"


@pytest.fixture(scope="module")
def domain(tmp_path_factory):
    "A domain of noise with hostile names everywhere."
    from ttl_nb.data.domain import Domain
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    files = [folder/(FILE if i == 0 else f"{i}{FILE}") for i in range(60)]
    for i, f in enumerate(files): Image.fromarray((rng.normal(90 + 40*(i % 2), 20, (16, 16))).clip(0, 255).astype(np.uint8)).save(f)
    items = pd.DataFrame(dict(file=[str(f) for f in files], label=np.tile(CLASSES, 30), patient=[f"<img src=x onerror={RUN}>{i}" for i in range(60)], split=np.where(np.arange(60) % 5 < 3, "train", "test")))
    return Domain(NAME, items, CLASSES, PART, root=folder)


@pytest.fixture(scope="module")
def pages(domain, tmp_path_factory):
    "Every page that is written, by name."
    from ttl_nb.analysis.reuse import compare
    from ttl_nb.models.backbone import create_backbone
    from ttl_nb.models.initial import initialise
    from ttl_nb.study.baseline_arms import write_baselines
    from ttl_nb.study.report import write_report
    from ttl_nb.study.results import write_cases, write_study
    from ttl_nb.study.store import Store
    from ttl_nb.study.study import Study
    from ttl_nb.train.recording import Recording
    from ttl_nb.ui.live_chart import export_html
    from ttl_nb.ui.reuse_explorer import explorer_run, write_explorer
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TTL_NB_CACHE", str(folder/"cache"))
        study = Study(domain, {SOURCE: [make_source(0, SOURCE)], "none": None}, n_train=[10], freezing=["head", "full"], seeds=2, folder=folder/"study", image_size=16)
        store = Store(study.folder)
        write_study(study, f"ttl-nb study --target '{FILE}'"); write_cases(study)
        for seed, recipe in study.grid: store.add(invented_run(recipe, domain, seed, 1.), seed)
        write_baselines(study)
        (study.folder/"gates.json").write_text(json.dumps([dict(name=f"gate {SOURCE}", passed=True, found=f"of {NAME}")]))
        found = dict(report=write_report(study.results(), folder/"report.html"), explorer=study.results().export_html(folder/"explorer.html"))
        recording = Recording(dict(target=NAME, source=SOURCE))
        for step in range(30): recording.add("batch", step, loss=.7 - .01*step, lr=[1e-3]*3, mom=.9)
        found["chart"] = export_html({NAME: recording, SOURCE: recording}, folder/"chart.html", title=NAME)
        net = initialise(create_backbone("resnet10"), "scratch", 0)
        x, labels = np.array(Image.open(domain.items["file"][0]).resize((48, 48)))[None].repeat(4, 0), [CLASSES[i % 2] for i in range(4)]
        found["reuse explorer"] = write_explorer([explorer_run(SOURCE, net, net, x, labels, range(4))], folder/"reuse.html", title=NAME)
        (folder/"domain.html").write_text(f"<html><body>{domain._repr_html_()}</body></html>", encoding="utf-8")
        found["domain"] = folder/"domain.html"
    return found


def quiet(page): # Did nothing run, and was nothing asked for?
    page.wait_for_timeout(300)
    ran = page.evaluate("window.hit || 0"), [f.evaluate("window.hit || 0") for f in page.frames]
    assert ran == (0, [0]*len(page.frames)), f"a name has run: {ran}"
    assert not page.dialogs, page.dialogs
    assert not [f for f in page.faults if "Failed to load resource" not in f], page.faults
    assert not page.locator("img[src='x'], svg[onload], iframe[srcdoc]").count(), "a name became an element"


@pytest.fixture
def page(chromium):
    context = chromium.new_context(viewport=dict(width=1280, height=900))
    page = watched(context.new_page())
    page.dialogs = []
    page.on("dialog", lambda d: (page.dialogs.append(d.message), d.dismiss()))
    page.set_default_timeout(30_000)
    yield page
    context.close()


@pytest.mark.parametrize("name", ["report", "explorer", "chart", "reuse explorer", "domain"])
def test_a_page_from_disk(name, page, pages):
    "Opened, unfolded, and every control used once."
    page.goto(pages[name].as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    quiet(page)
    for o in page.locator("input[type=radio], input[type=checkbox], button, [role=radio], select").all()[:40]:
        if o.is_visible() and o.is_enabled(): o.click(force=True)
        o.dispatch_event("mouseover")
    quiet(page)
    shown = page.locator("body").inner_text() + page.content()
    assert "onerror" in shown or "onload" in shown or "alert(1)" in shown, "the hostile names are nowhere: nothing was tested"


def test_the_test_itself_sees_a_name_that_runs(page, tmp_path):
    (tmp_path/"bad.html").write_text(f"<html><body>{CLASSES[1]}<p>x</p></body></html>")
    page.goto((tmp_path/"bad.html").as_uri())
    with pytest.raises(AssertionError, match="a name has run|became an element"): quiet(page)


def test_widgets_in_a_notebook(domain):
    "What a notebook shows of a domain and of results is text."
    for text in (domain._repr_html_(), domain.counts()._repr_html_()): assert "<script" not in text and "<img" not in text
