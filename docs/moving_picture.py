"""Records the README's moving picture from the real playground: `moving_picture.py FILE.webp [--frames FOLDER]`

Served as `ttl-nb playground` serves it, driven in Chromium as a person would, with a drawn pointer. Waiting is cut: a training is shown
in three seconds, whatever it took."""
import argparse, io, re, sys, time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/'tests'))
from browser import FLAGS, executable

SIZE, WIDTH = dict(width=1100, height=740), 820
POINTER = """() => { const p = document.createElement('div'); p.id = 'pointer';
  p.style = 'position:fixed;z-index:99999;width:26px;height:26px;margin:-13px 0 0 -13px;border-radius:50%;pointer-events:none;background:rgba(213,94,0,.35);border:2px solid #d55e00;left:550px;top:400px;transition:left .25s,top .25s';
  document.body.append(p);
  addEventListener('mousemove', e => { p.style.left = e.clientX + 'px'; p.style.top = e.clientY + 'px'; }, true);
  addEventListener('mousedown', () => { p.style.background = 'rgba(213,94,0,.9)'; setTimeout(() => p.style.background = 'rgba(213,94,0,.35)', 350); }, true); }"""


class Film:
    "Screenshots with the seconds that each is shown."
    def __init__(self, page): self.page, self.frames = page, []

    def shoot(self, seconds):
        shot = Image.open(io.BytesIO(self.page.screenshot())).convert('RGB')
        self.frames.append((shot.resize((WIDTH, round(shot.height*WIDTH/shot.width)), Image.LANCZOS), seconds))

    def click(self, target, before=.3, after=.35): # A locator; seconds to see where it is and what it did
        target.scroll_into_view_if_needed()
        box = target.bounding_box()
        self.page.mouse.move(box['x']+min(box['width']/2, 60), box['y']+box['height']/2)
        self.page.wait_for_timeout(350); self.shoot(before)
        self.page.mouse.down(); self.page.wait_for_timeout(60); self.page.mouse.up()
        self.page.wait_for_timeout(600); self.shoot(after)

    def train(self, n, seconds=2., most=20): # Which run it is; how long it is shown; pictures at most
        "Click on Train, and show evenly what happens until the run is on the board."
        self.page.mouse.wheel(0, 90); self.page.wait_for_timeout(300)
        self.click(self.page.locator('.ttl-step-5 .controls [data-name=train]'), .3, .05)
        self.page.get_by_text(re.compile(r'Step \d+ of')).first.wait_for()
        shots, done, start = [], self.page.get_by_text(re.compile(f'Run {n} added')), time.monotonic()
        while not done.count() and time.monotonic()-start < 240:
            shots.append(self.page.screenshot()); self.page.wait_for_timeout(120)
        kept = [shots[i*len(shots)//most] for i in range(most)] if len(shots) > most else shots
        for o in kept:
            shot = Image.open(io.BytesIO(o)).convert('RGB')
            self.frames.append((shot.resize((WIDTH, round(shot.height*WIDTH/shot.width)), Image.LANCZOS), seconds/len(kept)))
        self.page.wait_for_timeout(800); self.shoot(.7)

    def save(self, file):
        images, shown = zip(*self.frames)
        images[0].save(file, save_all=True, append_images=images[1:], duration=[round(1000*s) for s in shown], loop=0, quality=62, method=5, minimize_size=True)
        return sum(shown)


def story(film, page):
    "Fifty images; from random weights; from a chest source, with the stem frozen; compared."
    step = lambda n: page.get_by_role('button', name=re.compile(f'^Step {n}:'))
    go_on = lambda name: page.get_by_role('button', name=f'Next: {name}')
    film.shoot(.9)
    film.click(go_on('source'), .2, .7)
    for name in ('freeze', 'learning rate', 'train'): go_on(name).click(); page.wait_for_timeout(400)
    film.train(1)
    film.click(step(2), .2, .2)
    film.click(page.get_by_role('radio', name=re.compile('Chest radiographs')), .25, .35)
    film.click(step(3), .15, .25)
    film.click(page.get_by_role('button', name=re.compile('^Stem')), .25, .6)
    film.click(step(5), .15, .2)
    film.train(2)
    film.click(step(7), .2, 2.)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('file', type=Path)
    p.add_argument('--frames', type=Path, help='keep each picture there, to look at')
    args = p.parse_args()
    from playwright.sync_api import sync_playwright
    from ttl_nb.ui.offer import phantom_offer
    from ttl_nb.ui.server import serve
    with serve(phantom_offer(['phantom-pneumonia'], 900), port=8930, training=dict(epochs=10, min_steps=120)) as served, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=executable(), args=FLAGS)
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(120_000)
        page.goto(served.link)
        page.get_by_role('heading', name='1 · Data').wait_for()
        page.wait_for_function("[...document.querySelectorAll('.ttl-step-1 .ttl-pick-strip img')].filter(o => o.complete && o.naturalWidth).length > 20")
        page.evaluate(POINTER)
        film = Film(page)
        story(film, page)
        browser.close()
    if args.frames:
        args.frames.mkdir(parents=True, exist_ok=True)
        for i, (o, _) in enumerate(film.frames): o.save(args.frames/f'{i:03}.png')
    seconds = film.save(args.file)
    print(f'{args.file}: {len(film.frames)} pictures, {seconds:.1f} s, {args.file.stat().st_size/1e6:.2f} MB')


if __name__ == '__main__': main()
