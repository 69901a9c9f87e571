"""From notebooks to the pages that Sphinx reads: `pages.py [--no-run] [PAGE…]`, PAGE as `data/domain` or `tutorials`; all if none is given.

Every notebook runs in a kernel of its own, two at a time; what came out is kept in `_proc/executed` until the notebook or the package
changes. After a cell that exports a public name nbdev puts its documentation; the code itself is folded."""
import argparse, ast, gc, hashlib, importlib, json, os, re, shutil, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NBS, WORK = ROOT/'nbs', ROOT/'_proc'
GITHUB = 'https://github.com/ttl-nb/ttl_nb/blob/main/'
WIDGET = 'application/vnd.jupyter.widget-view+json'
ROOMS = {'data': 'Data: pixels and labels', 'data/simulation': 'Simulation: what phantoms are made of', 'models': 'Models: networks in stages',
         'analysis': 'Analysis: numbers about models and results', 'train': 'Training: one run', 'study': 'Studies: many runs',
         'study/protocols': 'Protocols: the ten claims', 'ui': 'Widgets: what people touch'}
GUIDES = {'tutorials': ('Tutorials', 'Step by step, twenty to forty minutes each, on a laptop without a network.'), 'howto': ('How to', 'One task a page.')}


# Where a page stands

def address(path): # Of a notebook below nbs: `data/30_domain.ipynb`
    "Its page without numbers and suffix: `data/domain`, as in nbdev's own addresses."
    return re.sub(r'(^|/)\d+_', r'\1', Path(path).with_suffix('').as_posix())


def notebooks(only=()): # Pages or folders; all if empty
    "`{page: file}` of the notebooks, in the house's order."
    files = [f for f in sorted(NBS.rglob('*.ipynb')) if '.ipynb_checkpoints' not in f.parts and f.name[0] != '_']
    found = {address(f.relative_to(NBS)): f for f in files}
    inside = lambda page, o: page == o or page.startswith(f'{o}/')
    unknown = [o for o in only if not any(inside(p, o) for p in found)]
    if unknown: sys.exit(f'no such page: {", ".join(unknown)}; say for example data/domain or tutorials')
    return {p: f for p, f in found.items() if not only or any(inside(p, o) for o in only)}


def read(file): return json.loads(file.read_text(encoding='utf-8'))

def text(cell): return ''.join(cell['source'])

def heading(nb): # A notebook
    "Its title and the line below."
    line = re.search(r'^> (.+)$', text(nb['cells'][0]), re.M)
    return re.search(r'^# (.+)$', text(nb['cells'][0]), re.M)[1].strip(), line[1] if line else ''


def write(file, content): # Text or bytes
    "Write a file if it is not so already: Sphinx reads again what is newer."
    data = content.encode() if isinstance(content, str) else content
    if file.is_file() and file.read_bytes() == data: return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


# Executed, once

def state_of_package():
    "A hash of everything that a notebook may import or read from the package."
    files = sorted(f for f in (ROOT/'ttl_nb').rglob('*') if f.is_file() and '__pycache__' not in f.parts)
    return hashlib.sha256(b''.join(hashlib.sha256(f.read_bytes()).digest() for f in files)).hexdigest()


def run(page, file, package): # `package`: its state
    "Seconds that it took to execute a notebook in its own folder; `None` if what came out is there already."
    import nbformat
    from nbclient import NotebookClient
    nb, kept = nbformat.read(file, 4), WORK/f'executed/{page}.ipynb'
    key = hashlib.sha256((package+json.dumps([c.source for c in nb.cells])).encode()).hexdigest()
    if kept.is_file() and read(kept)['metadata'].get('key') == key: return
    for c in nb.cells:
        if c.cell_type == 'code' and re.search(r'^#\|\s*(slow|cuda|eval:\s*false)\s*$', c.source, re.M): c.metadata['tags'] = ['skip-execution']
    start = time.monotonic()
    NotebookClient(nb, timeout=900, kernel_name='python3', store_widget_state=False, extra_arguments=['--matplotlib=inline', '--log-level=ERROR'],
                   startup_timeout=300,
                   resources=dict(metadata=dict(path=str(file.parent)))).execute()
    nb.metadata['key'] = key
    write(kept, nbformat.writes(nb))
    return time.monotonic()-start


def run_all(files, jobs): # `{page: file}`; how many at a time
    "Execute what is new; a kernel chooses itself how it shows pictures."
    os.environ.pop('MPLBACKEND', None)
    os.environ['PYTHONWARNINGS'] = 'ignore:`torch.jit.script` is deprecated:FutureWarning' # fastai's, at import: it would stand on every page, with this machine's path
    package = state_of_package()
    def one(item):
        try: took = run(*item, package)
        except Exception as e: raise RuntimeError(f'{item[0]} could not be executed') from e
        if took: print(f'{took:7.1f} s  {item[0]}', flush=True)
    with ThreadPoolExecutor(jobs) as pool: list(pool.map(one, files.items()))


# What is said of a public name

def is_import(code):
    "Does a cell only import?"
    return all(isinstance(o, (ast.Import, ast.ImportFrom)) for o in ast.parse(code).body)


def documented(file): # A notebook's, executed or not
    "Its cells, each exported one after the documentation of its public names and folded; and those names."
    from fastcore.docments import MarkdownRenderer
    from fastcore.nbio import read_nb
    from nbdev.process import NBProcessor
    from nbdev.processors import _default_exp, add_show_docs, clean_magics, hide_line, rm_header_dash, strip_ansi
    nb, cells, names = read_nb(file), [], []
    exports = _default_exp(nb)
    NBProcessor(nb=nb, procs=[add_show_docs, strip_ansi, hide_line, rm_header_dash, clean_magics], process=True)
    for c in nb.cells:
        said = getattr(c, 'directives_', {}).keys()
        if getattr(c, 'has_sd', False):
            name = c.source.removeprefix('show_doc(').removesuffix(')')
            doc = MarkdownRenderer(eval(name, dict(vars(importlib.import_module(f'ttl_nb.{exports}')))), name=name)
            source = cells.pop() if cells[-1].get('folded') else None
            cells.append(dict(cell_type='markdown', metadata={}, source=f'### {name}\n\n{doc._repr_markdown_()}'))
            if source: cells.append(source)
            names.append(name)
        elif c.cell_type == 'code':
            if said & {'default_exp', 'hide'} or not c.source.strip(): continue
            if folded := bool(said & {'export', 'exporti', 'exports'}):
                if is_import(c.source): continue
                c.metadata.update(tags=['hide-input'], mystnb=dict(code_prompt_show='Source', code_prompt_hide='Source'))
            cells.append(dict(cell_type='code', execution_count=None, metadata=dict(c.metadata), source=c.source, folded=folded,
                              outputs=json.loads(json.dumps(c.get('outputs', [])))))
        else: cells.append(dict(cell_type=c.cell_type, metadata={}, source=c.source))
    return cells, names


# Links

BACKTICKS = re.compile(r'(?<![\[`\w])`([A-Za-z_][\w.]*)(\(\))?`(?![`\]])')

def links(text, page, places): # Markdown; `{name: [pages that document it]}`
    "Link `names` to their documentation, and notebooks to their pages."
    up = '../'*page.count('/')
    def named(m):
        found = [p for p in places.get(m[1], ()) if p == page] or places.get(m[1], ())
        return m[0] if len(found) != 1 else f'[{m[0]}]({"" if found[0] == page else up+found[0]+".ipynb"}#{anchor(m[1])})'
    parts = re.split(r'(^```.*?^```[^\n]*$|^#+ [^\n]*$)', text, flags=re.M | re.S)      # neither in code nor in headings
    text = ''.join(BACKTICKS.sub(named, o) if i % 2 == 0 else o for i, o in enumerate(parts))
    text = re.sub(r'(\]\((?!https?:)[^)\s]*?)\b\d+_(\w+\.ipynb)', r'\1\2', text)
    text = re.sub(r'\]\((?:\.\./)*(CONTRIBUTING|CHANGELOG)\.md\)', lambda m: f']({up}{m[1].lower()}.md)', text)
    text = re.sub(r'\]\((?:\.\./)*(LICENSE|CITATION\.cff)\)', rf']({GITHUB}\1)', text)
    return text.replace('](nbs/', f']({up}')


def anchor(name): # Of a heading
    "As pandoc, and so nbdev, makes it."
    return re.sub(r'[^\w.\- ]', '', name.lower()).strip().replace(' ', '-')


# Outputs

def plain(text): # Markdown
    return re.sub(r'\s+', ' ', re.sub(r'[`*_$]|\]\([^)]*\)|\[', '', text)).strip()


def shown(output): # Of a code cell
    "What a page without a kernel shows of an output: no widget, but what it left in its place."
    data = output.get('data')
    if data is None: return output
    if data.pop(WIDGET, None) is not None and not {'text/html', 'image/png', 'image/svg+xml', 'text/markdown'} & data.keys():
        data.clear()
        data['text/html'] = '<p class="widget-place">A widget: it lives in a notebook or in the playground.</p>'
    return output


def described(cells):
    "Give the pictures of each cell the sentence above as their description."
    before = ''
    for c in cells:
        if c['cell_type'] == 'markdown': before = plain(c['source'].strip().split('\n\n')[-1])[:300] or before
        elif c['cell_type'] == 'code':
            c['outputs'] = [shown(o) for o in c['outputs']]
            c['metadata'].setdefault('mystnb', {}).setdefault('image', dict(alt=f'Picture: {before}'))
    return cells


# Pages

def make_page(page, cells, places):
    for c in cells:
        c.pop('folded', None)
        if c['cell_type'] == 'markdown': c['source'] = links(c['source'], page, places)
    cells = [c | dict(id=f'c{i}') for i, c in enumerate(described(cells))]
    meta = dict(kernelspec=dict(name='python3', display_name='Python 3', language='python'), language_info=dict(name='python'))
    write(WORK/f'site/{page}.ipynb', json.dumps(dict(cells=cells, metadata=meta, nbformat=4, nbformat_minor=5), indent=1))
    said = [c['source'] if c['cell_type'] == 'markdown' else f'```python\n{c["source"]}\n```' for c in cells if c['source'].strip()]
    write(WORK/f'extra/{page}.html.md', '\n\n'.join(said)+'\n')


def toc(entries, *options): # Of a page
    return '\n'.join(['```{toctree}', *options, '', *entries, '```', ''])


def contents(title, line, pages, files, more=()): # Pages of one folder; further entries
    "A page that lists the pages of a folder with their one line."
    here = Path(pages[0]).parent.as_posix() if pages else ''
    rows = [f'[{t}]({Path(p).name}.ipynb)\n: {s}\n' for p in pages for t, s in [heading(read(files[p]))]]
    return f'# {title}\n\n{line}\n\n' + '\n'.join(rows) + '\n' + toc([Path(p).name for p in pages] + list(more), ':hidden:')


def make_contents(files): # All notebooks
    "The lists of pages, and what stands where in the margin."
    within = lambda folder: [p for p in files if (p.rpartition('/')[0] or '.') == folder]
    for folder, (title, line) in (GUIDES | {k: (v, '') for k, v in ROOMS.items()}).items():
        inner = [f'{Path(o).name}/index' for o in ROOMS if o.startswith(f'{folder}/')]
        if within(folder): write(WORK/f'site/{folder}/index.md', contents(title, line, within(folder), files, inner))
    top, rooms = [p for p in within('.') if p != 'index'], [o for o in ROOMS if '/' not in o and within(o)]
    title, line = 'Reference', 'Every public function and class, room by room; each page is the notebook that the module is written in.'
    rows = [f'- [{ROOMS[o]}]({o}/index.md)' for o in rooms]+[f'- [{t}]({p}.ipynb): {s}' for p in top for t, s in [heading(read(files[p]))]]
    write(WORK/'site/reference.md', f'# {title}\n\n{line}\n\n'+'\n'.join(rows)+'\n\n'+toc([f'{o}/index' for o in rooms]+top, ':hidden:'))


def make_home(files):
    "The start page: the index notebook with the margin's contents."
    cells, _ = documented(files['index'])
    there = lambda *names: [o for o in names if any((WORK/'site').glob(f'{o}.*'))]
    first = [*there('tutorials/index', 'howto/index'), 'recordings']     # which recordings.py writes, after this
    second = there('claims/index', 'benchmarks/index')
    parts = [toc(['Start <self>', *first], ':hidden:', ':caption: Learn'), toc(second, ':hidden:', ':caption: Measured'),
             toc(['reference', 'contributing', 'changelog'], ':hidden:', ':caption: Look up')]
    return cells+[dict(cell_type='markdown', metadata={}, source=o) for o in parts]


def copy_others():
    "Pages that are Markdown, and pictures."
    for f in [o for o in NBS.rglob('*') if o.suffix in ('.md', '.svg', '.png', '.jpg', '.gif', '.webp')]:
        to = WORK/'site'/f.relative_to(NBS)
        write(to, links(f.read_text(encoding='utf-8'), f.relative_to(NBS).with_suffix('').as_posix(), {}) if f.suffix == '.md' else f.read_bytes())
    for f in ('CONTRIBUTING.md', 'CHANGELOG.md'): write(WORK/f'site/{f.lower()}', links((ROOT/f).read_text(encoding='utf-8'), f.lower(), {}))


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--no-run', action='store_true', help='execute nothing: take what was executed before, and the rest without outputs')
    p.add_argument('--jobs', type=int, default=2, help='notebooks that are executed at a time (2)')
    p.add_argument('only', nargs='*', metavar='PAGE')
    args = p.parse_args()
    files = notebooks(args.only)
    if not args.no_run: run_all({k: f for k, f in files.items() if k != 'index'}, args.jobs)
    gc.disable()         # parsing thousands of cells beside torch would spend most of its time there
    site = WORK/'site'
    if not args.only: shutil.rmtree(WORK/'extra', ignore_errors=True)
    ran = lambda k: WORK/f'executed/{k}.ipynb'     # of another state of the notebook, perhaps, if nothing is to be executed
    cells, names = {}, {}
    for k, f in files.items():
        if k != 'index': cells[k], names[k] = documented(ran(k) if ran(k).is_file() else f)
    places = {}
    for k, found in names.items():
        for o in found: places.setdefault(o, []).append(k)
    copy_others()
    make_contents(files)
    if 'index' in files: cells['index'] = make_home(files)
    for k, c in cells.items(): make_page(k, c, places)
    gone = [f for f in site.rglob('*.ipynb') if address(f.relative_to(site)) not in files]
    for f in gone if not args.only else (): f.unlink()


if __name__ == '__main__': main()
