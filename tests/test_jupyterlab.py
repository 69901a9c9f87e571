"The playground in JupyterLab, in a real browser: it is shown, it trains, its keys are its own, and a picture of the curves stays in the notebook."
import base64, json, os, re, sys, time

import pytest

from browser import chromium, watched  # noqa: F401 (fixtures)

pytest.importorskip('playwright.sync_api')
pytest.importorskip('jupyterlab')

CELL = """from ttl_nb.ui.offer import phantom_offer
from ttl_nb.ui.playground import Playground
Playground(offer=phantom_offer(['phantom-hernia'], 120), training=dict(epochs=2, min_steps=8))"""

QUIET = dict(fetchNews='false', checkForUpdates=False, doNotDisturbMode=True) # It asks no host for news


def notebook(source):
    cell = dict(cell_type='code', execution_count=None, id='page', metadata={}, outputs=[], source=source)
    return dict(cells=[cell], nbformat=4, nbformat_minor=5, metadata=dict(kernelspec=dict(display_name='Python 3', language='python', name='python3')))


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "JupyterLab with one notebook; what it writes stays in the test's folder."
    from ttl_nb.ui.server import _answers, _running, _wait_for, free_port
    folder, port = tmp_path_factory.mktemp('lab'), free_port(8950)
    (folder/'page.ipynb').write_text(json.dumps(notebook(CELL)))
    settings = folder/'settings'/'@jupyterlab'/'apputils-extension'
    settings.mkdir(parents=True)
    (settings/'notification.jupyterlab-settings').write_text(json.dumps(QUIET))
    places = dict(JUPYTER_CONFIG_DIR='config', JUPYTER_DATA_DIR='data', JUPYTER_RUNTIME_DIR='runtime', JUPYTERLAB_SETTINGS_DIR='settings', JUPYTERLAB_WORKSPACES_DIR='workspaces')
    options = {'ServerApp.port': port, 'ServerApp.port_retries': 0, 'ServerApp.ip': '127.0.0.1', 'ServerApp.allow_root': True, 'IdentityProvider.token': 'tested', 'ServerApp.root_dir': folder}
    command = [sys.executable, '-m', 'jupyterlab', '--no-browser', *[f'--{k}={v}' for k, v in options.items()]]
    environment = os.environ | {k: str(folder/v) for k, v in places.items()} | dict(OMP_NUM_THREADS='1')
    with _running(command, folder/'log.txt', env=environment, cwd=folder) as process:
        _wait_for(_answers('127.0.0.1', port), process, folder/'log.txt', 'JupyterLab')
        yield folder, f'http://127.0.0.1:{port}/lab/tree/page.ipynb?token=tested'


def shown(page): # What the notebook looks like to who fears that a key did something to it
    return page.locator('.jp-Notebook .jp-Cell').count(), page.locator('.jp-CodeCell').count(), page.locator('.jp-CodeCell .cm-content').first.inner_text()


def test_playground_in_jupyterlab(chromium, lab):
    folder, link = lab
    page = watched(chromium.new_context(viewport=dict(width=1280, height=900)).new_page())
    page.set_default_timeout(40_000)
    page.goto(link)
    page.locator('.jp-CodeCell .cm-content').first.click()
    page.get_by_text(re.compile(r'Python 3.*\| Idle')).first.wait_for()
    page.keyboard.press('Shift+Enter')
    page.get_by_role('heading', name='1 · Data').wait_for()
    before = shown(page)

    page.get_by_label('Training images', exact=True).first.focus()
    for key in 'abxdd': page.keyboard.press(key) # Would make, cut and delete cells
    page.get_by_label('Which images', exact=True).fill('')
    page.keyboard.type('7')
    page.get_by_role('button', name='Next: source').focus()
    for key in 'abm': page.keyboard.press(key)
    page.keyboard.press('Enter')
    page.get_by_role('radio', name=re.compile('Chest radiographs')).check()
    for key in 'abmdd': page.keyboard.press(key)
    page.get_by_label('Task').focus()
    for key in 'abdd': page.keyboard.press(key)
    assert shown(page) == before
    assert page.get_by_label('Which images', exact=True).input_value() == '7'

    for name in ('freeze', 'learning rate', 'train'): page.get_by_role('button', name=f'Next: {name}').click()
    page.get_by_role('button', name='Train', exact=True).click()
    page.get_by_text(re.compile('Run 1 added')).first.wait_for(state='attached')
    assert re.search(r'Done: \d+ steps.*AUC 0\.\d\d', page.inner_text('.ttl-step-5'))
    page.get_by_role('button', name=re.compile('Step 6')).click()
    page.get_by_role('radio', name=re.compile('^first filters')).wait_for()
    assert page.locator('.jp-OutputArea-executeResult, .jp-OutputArea-output').get_by_role('heading', name='7 · Compare').count() == 1 # The picture stands in for the page, not beside it

    page.get_by_role('menuitem', name='File', exact=True).click()
    page.get_by_role('menuitem', name=re.compile('^Save Notebook( |$|Ctrl)')).first.click()
    def outputs():
        text = (folder/'page.ipynb').read_text() # Empty while it is being written
        return [o['data'] for c in json.loads(text)['cells'] for o in c['outputs'] if 'data' in o] if text else []
    end = time.monotonic() + 20
    while not any('image/png' in o for o in outputs()):
        assert time.monotonic() < end, f'no picture was saved: {[list(o) for o in outputs()]}'
        time.sleep(.2)
    saved = next(o for o in outputs() if 'image/png' in o)
    assert base64.b64decode(saved['image/png']).startswith(b'\x89PNG')
    text = ''.join(saved['text/html'])
    assert 'do not run here' in text and re.search('alt="Training curves. .*AUC 0', text)
    faults = [f for f in page.faults if 'ttl' in f.lower() or f.startswith('asked')]
    page.context.close()
    assert not faults, '\n'.join(faults)
