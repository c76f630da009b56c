"""What must not be in a built page. `problems(site, hosted)` is called at the end of each build, and by `.ci/browse`."""
import re
from html.parser import HTMLParser
from pathlib import Path
from posixpath import dirname, join, normpath
from urllib.parse import unquote, urlsplit

_fetches = 'stylesheet', 'preload', 'preconnect', 'dns-prefetch', 'icon', 'manifest', 'modulepreload'
_css = re.compile(r'(?:@import\s+(?:url\()?|url\()\s*["\']?((?:https?:)?//[^"\')\s]+)', re.I)
_void = set('area base br col embed hr img input link meta source track wbr'.split())

class Page(HTMLParser):
    "What the checks want to know of a page"
    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.ids, self.links, self.assets, self.no_alt, self.bad, self.open = set(), [], [], [], [], []
        self.heading, self.remote = None, []
        self.feed(text); self.close()

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag not in _void: self.open.append(tag)
        self.ids |= {a[k] for k in ('id', 'name') if a.get(k) and (k == 'id' or tag == 'a')}
        if tag in ('a', 'area') and a.get('href'): self.links.append(a['href'])
        if tag == 'link' and set((a.get('rel') or '').split()) & set(_fetches): self.assets.append(a.get('href') or '')
        if tag in ('script', 'img', 'iframe', 'source', 'video', 'audio', 'embed'):
            self.assets += [s for s in [a.get('src'), *[p.split()[0] for p in (a.get('srcset') or '').split(', ') if p.strip()]] if s]
        if tag == 'img' and not (a.get('alt') or '').strip(): self.no_alt.append((a.get('src') or '')[:60])
        self.remote += _css.findall(a.get('style') or '')
        if re.fullmatch('h[1-6]', tag): self.heading = ''

    def handle_endtag(self, tag):
        if tag in self.open: # whatever was left open inside ends, too
            while self.open.pop() != tag: pass
        if re.fullmatch('h[1-6]', tag) and self.heading is not None:
            if '{ #' in self.heading: self.bad.append(f'markup in a heading: {self.heading.strip()!r}')
            self.heading = None

    def handle_data(self, data):
        if self.heading is not None: self.heading += data
        if 'math' in self.open and '\\' in data: self.bad.append(f'TeX that did not become a formula: {data.strip()!r}')
        if 'style' in self.open: self.remote += _css.findall(data)

def _away(url): return url.startswith('//') or urlsplit(url).scheme in ('http', 'https')

def remote_assets(site):
    "(page, address) of everything a built page would fetch from another host: scripts, styles, fonts, images, frames"
    found = []
    for f in sorted(Path(site).rglob('*')):
        if f.suffix not in ('.html', '.css', '.svg'): continue
        t, name = f.read_text(encoding='utf-8'), f.relative_to(site).as_posix()
        p = Page(t) if f.suffix == '.html' else None
        found += [(name, u) for u in ([u for u in p.assets if _away(u)] + p.remote if p else _css.findall(t))]
    return found

def problems(site, hosted=None):
    """(page, what is wrong): a fetch from another host, a link to the hosted copy of a page (`hosted`: its address), a dead link, anchor or
    picture, a picture without a text in its place, a formula or heading that Markdown mangled"""
    site = Path(site)
    pages = {f.relative_to(site).as_posix(): Page(f.read_text(encoding='utf-8')) for f in sorted(site.rglob('*.html'))}
    out = [(n, f'is fetched from another host: {u}') for n,u in remote_assets(site)]
    for name, p in pages.items():
        out += [(name, b) for b in p.bad] + [(name, f'a picture without alt: {s}') for s in p.no_alt]
        for u in p.links:
            if hosted and u.startswith(hosted): out.append((name, f'a link to the hosted copy of a page: {u}'))
        if name == '404.html': continue # its addresses begin at the root of the host
        for u in dict.fromkeys(p.links + p.assets):
            s = urlsplit(u)
            if s.scheme or s.netloc: continue
            to = normpath(join(dirname(name), unquote(s.path))) if s.path else name
            if (site/to).is_dir(): to = normpath(join(to, 'index.html'))
            if not (site/to).is_file(): out.append((name, f'leads nowhere: {u}'))
            elif s.fragment and to in pages and unquote(s.fragment) not in pages[to].ids: out.append((name, f'no such place in the page: {u}'))
    return out
