"""The page of recordings: real runs on simulated radiographs, made while the site is built (three minutes), kept until the package changes."""
import html, sys
from pathlib import Path

from pages import WORK, state_of_package, write

FOLDER = WORK/'recordings'
PARTS = {  # File -> heading, what it shows, height of the frame
    'runs.html': ('Two trainings on the same fifty images', 'From random weights, and from a network that has seen other chests with the stages opened one '
                  'after another from the top. Press play, or move along the bar. Before you do: which validation loss turns upwards, and when?', 650),
    'rate.html': ('A learning-rate range test', 'The rate grows with every batch. Where would you read off the rate to train with, and how far would you trust '
                  'the second digit?', 620),
    'explorer.html': ('A whole study', 'Switch source, training-set size, freezing plan and seed. The number beside each choice is the mean over all seeds, with its '
                      'interval.', 900),
    'reuse.html': ('What one run reused', 'Choose a stage, a unit and an image: what it answered before training, what it answers after, and the difference.', 900)}


def trainings():
    "Two runs and a range test as pages that play them."
    from ttl_nb.data.catalog import phantom
    from ttl_nb.data.pixels import load_pixels
    from ttl_nb.models.ready import ready_source
    from ttl_nb.train.fit import fit, lr_curve
    from ttl_nb.train.recipe import Recipe
    from ttl_nb.train.recording import Recording
    from ttl_nb.ui.live_chart import export_html
    target, sources = phantom('phantom-pneumonia', 900), {'phantom-chest': ready_source('phantom-chest')}
    pixels = load_pixels(target, 96)
    recipes = {'from scratch': Recipe(target=target.name, source='none', n_train=50, freezing='full', image_size=96),
               'from chests, stage by stage': Recipe(target=target.name, source='phantom-chest', n_train=50, freezing='gradual', image_size=96)}
    export_html({k: fit(r, target, sources, pixels, watch=96).recording for k, r in recipes.items()}, FOLDER/'runs.html', PARTS['runs.html'][0])
    lr_curve(recipes['from chests, stage by stage'], target, sources, pixels, recording=(tested := Recording({})))
    export_html({'range test': tested}, FOLDER/'rate.html', PARTS['rate.html'][0])


def commands():
    "A study's explorer and a run's, by the commands that a reader would give."
    from ttl_nb.cli import app
    for args in (['demo', '--quick', '--no-open', '--folder', str(FOLDER/'demo')],
                 ['reuse', '--target', 'phantom-pneumonia', '--source', 'phantom-chest', '--n-train', '50', '--image-size', '96', '--folder', str(FOLDER/'one')]):
        app(args, standalone_mode=False)
    (FOLDER/'demo/quick/explorer.html').replace(FOLDER/'explorer.html')
    (FOLDER/'one/explorer.html').replace(FOLDER/'reuse.html')


def page(files): # What PARTS says of those that are there
    "The page, in Markdown."
    said = ['# Recordings', '> Real runs, played in the browser: no Python, no network. Each is one file to hand out.',
            'Everything here was computed on simulated radiographs when this site was built. They teach the method, not medicine.']
    for name, (title, words, height) in files.items():
        said += [f'## {title}', words, f'<iframe class="recording" src="recordings/{name}" title="{html.escape(title)}" height="{height}" loading="lazy"></iframe>\n\n'
                 f'<p><a href="recordings/{name}">On a page of its own</a>, which may be saved and given to others.</p>']
    return '\n\n'.join(said)+'\n'


def main():
    made, package = FOLDER/'made', state_of_package()
    if not (made.is_file() and made.read_text() == package):
        FOLDER.mkdir(parents=True, exist_ok=True)
        trainings(); commands()
        made.write_text(package)
    for o in PARTS: write(WORK/f'extra/recordings/{o}', (FOLDER/o).read_bytes())
    write(WORK/'site/recordings.md', page(PARTS))


if __name__ == '__main__': sys.exit(main())
