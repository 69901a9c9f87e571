"""Looks through a built site, `check.py FOLDER`: every link and anchor within it leads somewhere, nothing is loaded from another host,
pictures have a description, and links to other hosts are at least well formed (whether they answer is not asked: no network)."""
import re, sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = {('script', 'src'), ('img', 'src'), ('iframe', 'src'), ('source', 'src'), ('video', 'src'), ('audio', 'src'), ('link', 'href'), ('object', 'data')}
NOT_LOADED = {'canonical', 'index', 'search', 'next', 'prev'}       # <link rel=…> that no browser fetches


class Page(HTMLParser):
    "The ids, links and loads of an HTML file."
    def __init__(self, file):
        super().__init__()
        self.ids, self.links, self.loads, self.silent = {''}, [], [], []
        self.feed(file.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        said = dict(attrs)
        self.ids |= {said[k] for k in ('id', 'name') if said.get(k)}
        if tag == 'a' and said.get('href'): self.links.append(said['href'])
        if tag == 'img' and not said.get('alt') and said.get('role') != 'presentation': self.silent.append(said.get('src', '')[:80])
        if tag == 'link' and said.get('rel') in NOT_LOADED: return
        self.loads += [said[k] for t, k in LOADS if t == tag and said.get(k)]


def faults(site): # Folder
    "Sentences on what is wrong."
    page = cache(Page)
    files = sorted(f for f in site.rglob('*.html') if '_static' not in f.parts)
    def target(f, url): # A page and a link within the site
        path = unquote(urlsplit(url).path)
        return (site/path.lstrip('/') if path.startswith('/') else f.parent/path).resolve() if path else f
    for f in files:
        name, p = f.relative_to(site), page(f)
        yield from (f'{name}: a picture without description: {o}' for o in p.silent)
        for url in [*p.links, *p.loads]:
            u = urlsplit(url)
            if u.scheme in ('http', 'https') or u.netloc:
                if url in p.loads: yield f'{name} loads {url} from another host'
                elif not re.fullmatch(r'[\w.-]+\.[a-z]{2,}(:\d+)?', u.netloc) or re.search(r'\s', url): yield f'{name}: not an address: {url}'
            elif u.scheme in ('data', 'blob', 'mailto', 'about'): continue
            elif u.scheme: yield f'{name}: {url} has an odd scheme'
            elif not (to := target(f, url)).is_file(): yield f'{name}: {url} leads nowhere'
            elif u.fragment and to.suffix == '.html' and unquote(u.fragment) not in page(to).ids: yield f'{name}: {url} has no such place on its page'
    for f in site.rglob('*.css'):
        for o in re.findall(r'(?:url\(|@import)\s*["\']?((?:https?:)?//[^"\')\s]+)', f.read_text(encoding='utf-8')): yield f'{f.relative_to(site)} loads {o} from another host'


if __name__ == '__main__':
    site = Path(sys.argv[1])
    found = list(faults(site))
    print(*found[:100], sep='\n')
    print(f'{len(list(site.rglob("*.html")))} pages looked through: {len(found)} faults')
    sys.exit(bool(found))
