"""Notebooks to a website, offline: nbdev's processors -> Markdown -> mkdocs-material. Called by `.ci/docs`.
`--readme` rewrites README.md and nbs/sidebar.yml, `--pictures` draws those in nbs/images that no notebook draws."""
import argparse, base64, configparser, html, io, os, re, runpy, shutil, subprocess, sys, tempfile
from itertools import groupby
from pathlib import Path
os.environ['NO_MKDOCS_2_WARNING'] = '1' # read by mkdocs-material when it is imported
import yaml
from fastcore.nbio import read_nb, mk_cell
from fastcore.xtras import working_directory
from latex2mathml.converter import convert as mathml
from nbdev.config import get_config, nbpath2html
from nbdev.processors import FilterDefaults
from PIL import Image
sys.path.insert(0, str(Path(__file__).resolve().parent))
from docs_checks import problems
from docs_pages import api_index, changelog, cite, folder, overview

root = Path(__file__).resolve().parent.parent
folders = ('.', 'tutorials', 'experiments') # of nbs/
parts = ('Tutorials', 'Guides', 'The book', 'The machinery', 'Experiments') # of the menu, in its order
guides = ('gallery', 'faq', 'from_fastai', 'others', 'model_card', 'archives', 'performance', 'scaling') # in this order, then what is not listed
machinery = 20 # rooms with a lower number are the book
boosts = dict(Tutorials=2, Experiments=.5) # in the search
branch = 'main' # of the repository, for links to notebooks
_fence = re.compile(r'^(`{3,}|~{3,}).*?^\1[ \t]*$', re.M|re.S)
_img = {'image/png': 'png', 'image/jpeg': 'jpg', 'image/svg+xml': 'svg'}

def notebooks(nbs):
    "Every notebook that becomes a page: index first, then part by part, each in file name order"
    ps = [p for d in folders for p in sorted((nbs/d).glob('*.ipynb')) if p.name[0] not in '_.']
    at = lambda x, xs: xs.index(x) if x in xs else len(xs)
    return sorted(ps, key=lambda p: (at(section(p, nbs), (None, *parts)), at(p.stem, guides)))

def section(nb_path, nbs):
    "The part of the menu where a notebook stands; nothing for the home page"
    if nb_path.parent != nbs: return nb_path.parent.relative_to(nbs).as_posix().capitalize()
    number = re.match(r'\d+', nb_path.name)
    if not number: return None if nb_path.stem == 'index' else 'Guides'
    return 'The book' if int(number[0]) < machinery else 'The machinery'

def page(nb_path): return nbpath2html(nb_path).with_suffix('.md') # the address nbdev's own links use, too

# Markdown: what Jupyter shows as CommonMark has to survive Python-Markdown

def outside_code(f, text):
    "`f` on the parts of `text` that are neither a fenced block nor a code span"
    out, last = [], 0
    for m in _fence.finditer(text): out += [_outside_spans(f, text[last:m.start()]), m[0]]; last = m.end()
    return ''.join(out) + _outside_spans(f, text[last:])

def _outside_spans(f, text):
    spans = re.split(r'(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)', text, flags=re.S) # text, ticks, code, text, ticks, code, ..., text
    code = [f'{t}{c}{t}' for t,c in zip(spans[1::3], spans[2::3], strict=True)]
    txt = f('\0'.join(spans[::3])).split('\0') # one string, so that a rule may look across a code span
    return ''.join(x for p in zip(txt, code + [''], strict=True) for x in p)

def math(text):
    "$TeX$ to MathML, which browsers draw by themselves"
    def _ml(m, **kw): return mathml(m[1].strip().replace(r'\arg\m', r'\operatorname{arg}\,\m'), **kw).replace('*', '&#42;').replace('_', '&#95;')
    text = re.sub(r'\$\$(.+?)\$\$', lambda m: f'\n\n<div class="math" tabindex="0">{_ml(m, display="block")}</div>\n\n', text, flags=re.S)
    return re.sub(r'(?<![\\$\w])\$(?=\S)([^$\n\0]+?)(?<=\S)\$(?![\w$])', _ml, text)

def blocks(text):
    "A blank line before a list, table or quote, and four spaces for an inner list: CommonMark can do without"
    out, prev = [], ''
    kind = lambda s: (re.match(r'\s*([-*+]|\d+[.)])\s', s) and 'list') or (re.match(r'\s*\|', s) and 'table') or (s.startswith('>') and 'quote')
    for line in text.split('\n'):
        if kind(line) and prev.strip() and kind(prev) != kind(line) and not prev.startswith(' '): out.append('')
        out.append(re.sub(r'^( {2,3}|\t)(?=([-*+]|\d+[.)])\s)', '    ', line)); prev = line
    return '\n'.join(out)

_badge = re.compile(r'\[!\[[^\]]*\]\(https://colab\.research\.google\.com/[^)]*\)\]\([^)]*\)') # each page has its own link to Colab

def links(text, here, pages, hosted, anchors, source=None):
    """Links to a notebook, or to the hosted page of one, become links between the pages; `here` is the folder of the page.
    nbdev links every name it knows; one that has no card (`anchors`: page -> names) stays plain text.
    `source(path)` is the address of another file of the repository, `path` being as seen from the notebooks, or nothing"""
    known = {str(Path(v).with_suffix('')): v for v in pages.values()}
    def _nb(m):
        p = pages.get(os.path.normpath(here/m[1]))
        return f']({os.path.relpath(p, here)}{m[2] or ""})' if p else m[0]
    def _sym(m):
        p = m[2] + '.md'
        return f'[{m[1]}]({os.path.relpath(p, here)}#{m[3]})' if m[3] in anchors.get(p, ()) else m[1]
    def _page(m):
        to = known.get(m[1] or 'index')
        return f']({os.path.relpath(to, here)}{m[2] or ""})' if to else m[0]
    def _file(m):
        to = source and source(os.path.normpath(here/m[1]))
        return f']({to}{m[2] or ""})' if to else m[0]
    at = re.escape(hosted)
    text = _badge.sub('', text)
    text = re.sub(r'\]\(([^)\s#]+\.ipynb)(#[^)\s]*)?\)', _nb, text)
    text = re.sub(rf'\[([^\]]+)\]\({at}/?([^)\s#]+)\.html#([^)\s]*)\)', _sym, text)
    text = re.sub(rf'\]\({at}/?(?:([^)\s#]*)\.html)?(#[^)\s]*)?\)', _page, text)
    text = re.sub(r'\]\(((?!https?:|mailto:|#)[^)\s#]+/)\)', r'](\1index.html)', text)
    return re.sub(r'\]\(((?!https?:|mailto:|#)[^)\s#]+)(#[^)\s]*)?\)', _file, text)

def source_of(project, repo):
    "For `links`: the address in the repository of a file that is no part of the site"
    def _source(path):
        f = (project/'nbs'/path).resolve()
        inside = f.is_relative_to(project) and f.exists()
        return f'{repo}/blob/{branch}/{f.relative_to(project).as_posix()}' if inside and not f.is_relative_to(project/'nbs') else None
    return _source

# One notebook

def split_title(nb):
    "Title and subtitle; what follows them in the first cell becomes a cell of its own (nbdev would drop it)"
    c = nb.cells[0]
    m = re.match(r'# (?P<title>.+)\n+(?:> *(?P<sub>.+)(?:\n|$))?', c.source + '\n') if c.cell_type == 'markdown' else None
    if not m: raise ValueError(f'{nb.path_}: the first cell is {c.source[:40]!r}, expected "# Title" and then "> subtitle"')
    rest = (c.source + '\n')[m.end():].strip()
    c.source = c.source[:m.end()].strip()
    if rest: nb.cells.insert(1, mk_cell(rest, 'markdown'))
    return m['title'].strip(), (m['sub'] or '').strip()

def fold_sources(nb):
    "After each exported cell a folded copy of it: nbdev shows the signature only. Constants are shown, imports are not"
    for i,c in reversed(list(enumerate(nb.cells))):
        d = c.directives if c.cell_type == 'code' else {}
        if not {'export', 'exporti', 'exports'} & d.keys() or 'hide' in d: continue
        code = strip_directives(c.source)
        if all(re.match(r'(import|from)\s|[#\s)]|$', l) for l in code.splitlines()): continue
        names = re.findall(r'^(?:def|class)\s+(\w+)', code, re.M)
        block = fence(code, 'python')
        if names: block = f'<details class="source" markdown="1"><summary>Source of {", ".join(names)}</summary>\n\n{block}\n\n</details>'
        nb.cells.insert(i+1, mk_cell(block, 'markdown'))

def strip_directives(src): return re.sub(r'^\s*#\|.*\n?', '', src, flags=re.M).strip('\n')

def fence(text, lang, cls=''):
    ticks = '`' * max(3, 1 + max(map(len, re.findall('`+', text)), default=0))
    return f'{ticks} {{ .{lang}{cls} }}\n{text}\n{ticks}'

def card(md):
    "nbdev's show_doc text (rule, source link, heading, signature, docstring) as a box with an anchor"
    m = re.search(r'^#+ (?P<name>\S+)\n+(?P<sig>```.*?^```)\s*(?:\*(?P<doc>.*)\*\s*)?\Z', md, re.M|re.S)
    if not m: return md
    plain = lambda t: re.sub(r'\]\([^)]*\)|(?<!\\)[*_]', lambda m: m[0] if len(m[0]) > 1 else f'\\{m[0]}', t)
    name, doc = m['name'], outside_code(plain, m['doc'] or '')
    head = f'<h3 id="{name.lower()}" markdown="span">{plain(name)}</h3>' # not `### name {{ #id }}`: the underscores of __call__ would become bold
    return f'<div class="card" markdown="1">\n\n{head}\n\n{m["sig"].replace("__main__.", "")}\n\n{doc}\n\n</div>'

def says(md):
    "What a piece of Markdown says just before a figure: its last heading, and the first sentence of its last paragraph, in plain words"
    text = _fence.sub('', md)
    heads = re.findall(r'^#+ (.+)$', text, re.M)
    after = re.split(r'^#+ .+$', text, flags=re.M)[-1] if heads else text
    paras = [x for x in re.split(r'\n\s*\n', after) if x.strip() and not re.match(r'\s*(<|\||\$\$|!\[)', x)]
    return _words(heads[-1]) if heads else None, re.split(r'(?<=[.:!?])\s', _words(paras[-1]))[0].rstrip('.:') if paras else None

def _words(md):
    md = re.sub(r'!?\[([^\]]*)\]\([^)]*\)', r'\1', re.sub(r'<[^>]+>', '', md))
    return ' '.join(re.sub(r'(?<!\w)[*_]+|[*_]+(?!\w)|[`$\\]|^\s*([-*+]|>|\d+[.)])\s', '', md, flags=re.M).split())

def picture_size(data):
    try: w, h = Image.open(io.BytesIO(data)).size
    except OSError: return '' # an SVG has the size that it says itself
    return f' width="{w}" height="{h}"'

def output(o, save, alt=''):
    "One saved output as Markdown; `save(data, suffix)` writes an image and gives its link, `alt` says what it shows"
    if o.output_type == 'stream': return fence(''.join(o['text']).rstrip('\n'), 'text', ' .output')
    if o.output_type == 'error': raise ValueError(f'a saved output is an error: {o.ename}: {o.evalue}')
    text = lambda k: ''.join(o.data[k])
    for k,suf in _img.items():
        if k not in o.data: continue
        data = text(k).encode() if suf == 'svg' else base64.b64decode(text(k))
        return f'<p><img class="output" src="{save(data, suf)}" alt="{html.escape(alt)}"{picture_size(data)} loading="lazy"></p>'
    if 'text/html' in o.data:
        t = re.sub(r'\n+', '\n', text('text/html'))
        scrolls = ' tabindex="0" role="group" aria-label="table"' if '<table' in t else '' # a wide one can be scrolled with the keyboard
        return f'<div class="output"{scrolls}>{t}</div>'
    if 'text/markdown' in o.data: return text('text/markdown')
    return fence(text('text/plain'), 'text', ' .output') if 'text/plain' in o.data else ''

def render(nb_path, nbs, out, repo):
    "Title, subtitle and Markdown of one notebook, links still as nbdev made them; its images are written under `out`"
    nb, rel, file = read_nb(nb_path), page(nb_path.relative_to(nbs)), nb_path.relative_to(nbs.parent).as_posix()
    title, sub = split_title(nb)
    fold_sources(nb)
    saved = {c.id: c.get('outputs', []) for c in nb.cells if 'id' in c} # the processors run imports and exported cells anew
    with working_directory(nb_path.parent): FilterDefaults()(nb)
    colab = f'https://colab.research.google.com/github/{"/".join(repo.split("/")[-2:])}/blob/{branch}/{file}'
    n, md = 0, [f'# {title}'] + [f'<p class="subtitle" markdown="1">{sub}</p>']*bool(sub)
    md.append(f'<p class="from">This page is a notebook: <a href="{repo}/blob/{branch}/{file}">see it in the repository</a>, <a href="{colab}">open it in Colab</a></p>')
    def save(data, suf):
        nonlocal n; n += 1
        f = out/rel.parent/'figures'/f'{rel.stem}_{n}.{suf}'
        f.parent.mkdir(parents=True, exist_ok=True); f.write_bytes(data)
        return f.relative_to(out/rel.parent).as_posix()
    head, said = title, None
    generated = lambda c: bool(c.get('has_sd')) # show_doc cells come last definition first
    for c in (c for g,cs in groupby(nb.cells, generated) for c in (reversed(list(cs)) if g else cs)):
        if c.cell_type == 'markdown':
            md.append(outside_code(lambda t: blocks(math(t)), c.source))
            if not c.source.startswith('<details class="source"'): h, said = says(c.source) if c.source[:3] != '```' else (None, said); head = h or head
        if c.cell_type != 'code': continue
        if re.search(r'^show_doc\(', c.source, re.M): md += [card(output(o, save)) for o in c.outputs]; continue
        if code := strip_directives(c.source) if not re.search(r'#\|\s*echo:\s*false', c.source) else '': md.append(fence(code, 'python'))
        m = re.search(r'#\|\s*fig-alt:\s*(.+)', c.source)
        alt = m[1].strip() if m else ': '.join(x for x in (head, said) if x)[:300]
        if not re.search(r'#\|\s*output:\s*false', c.source): md += [output(o, save, alt) for o in saved.get(c.get('id'), [])]
    return title, sub, '\n\n'.join(md) + '\n'

def readme(nb_path):
    "The home page as README.md: the text alone, links and images as seen from one folder higher"
    nb, md = read_nb(nb_path), []
    for c in nb.cells:
        d = c.directives if c.cell_type == 'code' else {}
        if 'hide' in d or 'default_exp' in d or re.search(r'#\|\s*echo:\s*false', c.source): continue
        md.append(c.source.strip() if c.cell_type == 'markdown' else f'```python\n{strip_directives(c.source)}\n```')
    up = lambda t: re.sub(r'(\]\(|src=")(?!https?:|#|/|mailto:)(?:\./)?([^)"\s]+)', rf'\1{nb_path.parent.name}/\2', t)
    return outside_code(up, '\n\n'.join(md)).replace(f'{nb_path.parent.name}/../', '') + '\n'

# The site

def settings(project):
    "settings.ini: what pyproject.toml leaves to it"
    ini = configparser.ConfigParser(interpolation=None)
    ini.read(project/'settings.ini', encoding='utf-8')
    return ini['DEFAULT']

def config(cfg, ini, docs, site, nav):
    "mkdocs.yml: no font, script or repository badge is fetched from elsewhere"
    ext = ['tables', 'attr_list', 'md_in_html', 'sane_lists', 'pymdownx.superfences', 'pymdownx.inlinehilite', 'pymdownx.betterem',
           {'pymdownx.highlight': {'use_pygments': True, 'line_spans': '__l'}}, {'toc': {'permalink': '¶', 'toc_depth': 3}}]
    shades = [dict(media=f'(prefers-color-scheme: {s})', scheme=c, primary='custom', accent='custom',
                   toggle=dict(icon=f'material/{i}', name=f'Switch to {o} mode'))
              for s,c,i,o in [('light', 'default', 'weather-night', 'dark'), ('dark', 'slate', 'weather-sunny', 'light')]]
    theme = dict(name='material', custom_dir=str(Path(__file__).resolve().parent/'theme'), font=False, palette=shades,
                 icon=dict(logo='material/palette'), favicon='favicon.svg',
                 features=['navigation.tabs', 'navigation.indexes', 'navigation.footer', 'navigation.top', 'toc.follow', 'content.code.copy', 'search.highlight'])
    extra = dict(generator=False, version=ini['version'], license=ini['license'], repository=cfg.git_url)
    if (docs/'images'/'preview.jpg').exists(): extra['preview'] = 'images/preview.jpg'
    return dict(site_name=cfg.title, site_url=cfg.doc_url + '/', site_description=ini['description'], docs_dir=str(docs), site_dir=str(site), nav=nav,
                theme=theme, use_directory_urls=False, markdown_extensions=ext, plugins=['search'], extra_css=['styles.css'], extra=extra,
                validation=dict(links=dict(anchors='warn', unrecognized_links='warn')))

def front(text, description, boost=None, exclude=False, hide=()):
    "Markdown with what search engines, the search of the site and the theme want to know of it"
    search = dict(boost=boost) if boost else dict(exclude=True) if exclude else None
    meta = {k: v for k,v in dict(description=_words(description), search=search, hide=list(hide)).items() if v}
    return f'---\n{yaml.safe_dump(meta, allow_unicode=True, sort_keys=False)}---\n\n{text}'

def module(nb):
    "The module that a notebook exports, or nothing"
    found = [m[1] for c in nb.cells if c.cell_type == 'code' and (m := re.search(r'^#\|\s*default_exp\s+(\S+)', c.source, re.M))]
    return found[0] if found else None

def copy_files(nbs, docs):
    "Figures that the text shows, the styles, the icon, and the colorizer that runs in the browser"
    for f in nbs.rglob('*'):
        own = f.relative_to(nbs).parts[0] == 'colorizer' and f.is_file() and f.suffix not in ('.md', '.ipynb')
        if not own and f.suffix not in ('.png', '.jpg', '.jpeg', '.webp', '.gif', '.svg', '.css'): continue
        (docs/f.relative_to(nbs)).parent.mkdir(parents=True, exist_ok=True); shutil.copy(f, docs/f.relative_to(nbs))

def write_pages(project, docs, cfg, version):
    "Every page as Markdown under `docs`; gives the menu"
    nbs, entries, texts, rooms = project/'nbs', {}, {}, []
    nb_paths = notebooks(nbs)
    pages = {p.relative_to(nbs).as_posix(): page(p.relative_to(nbs)).as_posix() for p in nb_paths}
    if len(set(pages.values())) < len(pages): raise ValueError(f'two notebooks would share a page: {sorted(pages.values())}')
    for p, to in zip(nb_paths, pages.values(), strict=True):
        title, sub, md = render(p, nbs, docs, cfg.git_url)
        part = section(p, nbs)
        if name := module(nb := read_nb(p)): rooms.append((name, sub, to, nb))
        entries.setdefault(part, []).append((title, sub, to))
        texts[to] = md, dict(description=sub or title, boost=boosts.get(part), hide=() if part else ['navigation'])
    anchors = {to: set(re.findall(r'^<h3 id="(\S+)" markdown="span">', md, re.M)) for to,(md, _) in texts.items()}
    for part, es in entries.items():
        if part: texts[f'{folder(part)}/index.md'] = overview(part, es), dict(description=f'{part}: all pages', exclude=True)
    alone = [('API index', 'api.md', api_index(rooms, anchors, cfg.lib_path.name), dict(exclude=True))] # each name has its own entry in the search
    for title, file, f in (('Changelog', 'CHANGELOG.md', lambda t: changelog(t, version)), ('Cite', 'CITATION.cff', cite)):
        alone.append((title, f'{title.lower()}.md', f((project/file).read_text(encoding='utf-8')), dict(boost=.5)))
    for title, to, md, kw in alone: texts[to] = md, dict(description=f'{title} of {cfg.title} {version}', hide=['navigation'], **kw)
    linked = pages | ({'colorizer': 'colorizer/index.html'} if (docs/'colorizer'/'index.html').exists() else {})
    for to, (md, kw) in texts.items():
        md = outside_code(lambda x: links(x, Path(to).parent, linked, cfg.doc_url, anchors, source_of(project, cfg.git_url)), md)
        (docs/to).parent.mkdir(parents=True, exist_ok=True)
        (docs/to).write_text(front(md, **kw), encoding='utf-8')
    menu = [{'Home': to} for _,_,to in entries.pop(None, [])]
    if (docs/'colorizer'/'index.html').exists(): menu.append({'Try it': 'colorizer/index.html'})
    menu += [{part: [f'{folder(part)}/index.md', *({t: to} for t,_,to in es)]} for part, es in entries.items()]
    return menu + [{title: to} for title, to, *_ in alone]

def mend(site):
    "What the theme leaves out for keyboards and screen readers: names, one landmark for the menu instead of one per part, what scrolls"
    for f in site.rglob('*.html'):
        t = f.read_text(encoding='utf-8')
        if 'data-md-component' not in t: continue # not a page of the theme
        t = t.replace('role="dialog">', 'role="dialog" aria-label="Search">')
        t = re.sub(r'<nav class="md-nav"((?: data-md-level="\d+")?)[^>]*>', r'<nav class="md-nav" role="none"\1>', t)
        t = re.sub(r'(?<!">)\n</span>(?=<span id="__l-|</code>)', '</span>\n', t) # a line, and then its end; an empty one keeps it, and its height
        scrolls = 'tabindex="0" role="group" aria-label="%s"' # with the keyboard, too
        t = re.sub(r'<div class="([^"]*\boutput highlight)">', rf'<div class="\1" {scrolls % "output"}>', t)
        t = re.sub(r'<table>.*?</table>', lambda m: f'<div class="scrolls" {scrolls % "table"}>{m[0]}</div>', t, flags=re.S)
        t = re.sub(r'<th([^>]*)>\s*</th>', r'<td\1></td>', t) # a corner with nothing in it heads no column
        f.write_text(t, encoding='utf-8')
    for f in (site/'assets'/'javascripts').glob('bundle.*.js'):
        f.write_text(f.read_text(encoding='utf-8').replace('("nav",{class:"md-code__nav"}', '("div",{class:"md-code__nav"}'), encoding='utf-8')

def build(project, site):
    "Build the site of the project in folder `project` into the folder `site`; gives the number of pages"
    project, site = Path(project).resolve(), Path(site).resolve()
    cfg, ini = get_config(project), settings(project)
    with tempfile.TemporaryDirectory() as tmp:
        docs = Path(tmp)/'docs'
        copy_files(project/'nbs', docs)
        if (project/'nbs'/'colorizer').is_dir(): runpy.run_path(str(project/'.ci'/'colorizer.py'))['into'](docs)
        with working_directory(project): menu = write_pages(project, docs, cfg, ini['version'])
        conf = config(cfg, ini, docs, site, menu)
        (Path(tmp)/'mkdocs.yml').write_text(yaml.safe_dump(conf, allow_unicode=True, sort_keys=False), encoding='utf-8')
        r = subprocess.run([sys.executable, '-m', 'mkdocs', 'build', '--strict', '-f', f'{tmp}/mkdocs.yml'], capture_output=True, text=True)
        # a dead link stops it, too: --strict counts warnings (unless --quiet hides them)
        if r.returncode: raise ValueError(f'mkdocs stopped:\n{r.stdout}{r.stderr}')
        n = sum(1 for _ in docs.rglob('*.md'))
    mend(site)
    if bad := problems(site, cfg.doc_url): raise ValueError('in the pages:\n' + '\n'.join(f'{page}: {what}' for page, what in bad))
    return n

def sidebar(nbs):
    "The same menu for a hosted build with Quarto"
    parts_of = [(part, [p.relative_to(nbs).as_posix() for p in ps]) for part, ps in groupby(notebooks(nbs), lambda p: section(p, nbs))]
    contents = [x for part, ps in parts_of for x in ([dict(section=part, contents=ps)] if part else ps)]
    return yaml.safe_dump(dict(website=dict(sidebar=dict(contents=contents))), sort_keys=False)

def preview():
    "1200 by 630 pixels, the size that is shown beside a link: a packaged photograph, grey on the left and colored by our weights on the right"
    from matplotlib import font_manager
    from PIL import ImageDraw, ImageFont, ImageOps
    from sklearn.datasets import load_sample_image
    from colorize_fastai.inference import Colorizer
    grey = ImageOps.fit(Image.fromarray(load_sample_image('china.jpg')).convert('L'), (1200, 630), Image.Resampling.LANCZOS, centering=(.5, .4))
    out, font = Colorizer()(grey.convert('RGB')), font_manager.findfont('DejaVu Sans')
    out.paste(grey.crop((0, 0, 385, 630)).convert('RGB'), (0, 0))
    d = ImageDraw.Draw(out)
    d.rectangle((383, 0, 386, 630), fill='white'); d.rectangle((0, 520, 1200, 630), fill='#3d1826')
    d.text((40, 536), 'colorize_fastai', 'white', ImageFont.truetype(font, 48))
    d.text((40, 597), 'color for black-and-white photographs', '#f0d8e0', ImageFont.truetype(font, 20))
    d.text((1160, 600), 'photograph: danielbuechele, CC BY 2.0', '#f0d8e0', ImageFont.truetype(font, 16), anchor='ra')
    return out

def old_prints():
    "For the home page: old prints of five photographs, what our weights make of them, and the truth, a labelled row each"
    from matplotlib import font_manager
    from PIL import ImageDraw, ImageFont, ImageOps
    from colorize_fastai.aged import age_photo, photos_to_age
    from colorize_fastai.inference import Colorizer
    from colorize_fastai.photo import read_rgb
    tones, colorizer = dict(china=0, hopper=.8, chelsea=.4, rocket=0, coffee=0), Colorizer()
    w, h, gap, left = 182, 146, 4, 32
    out = Image.new('RGB', (left + 5*(w + gap) - gap, 3*(h + gap) - gap), 'white')
    for i,(k,tone) in enumerate(tones.items()):
        photo = read_rgb(photos_to_age()[k])
        photo = ImageOps.fit(photo, (4*w, 4*h), Image.Resampling.LANCZOS, centering=(.5, .3))
        old = age_photo(photo, tone=tone)
        for j,im in enumerate((old, colorizer(old), photo)):
            out.paste(im.convert('RGB').resize((w, h), Image.Resampling.LANCZOS), (left + i*(w + gap), j*(h + gap)))
    font = ImageFont.truetype(font_manager.findfont('DejaVu Sans'), 19)
    for j,what in enumerate(('aged by us', 'ours', 'true colors')):
        label = Image.new('RGB', (h, left), 'white')
        ImageDraw.Draw(label).text((h/2, left/2 - 2), what, '#222', font, anchor='mm')
        out.paste(label.rotate(90, expand=True), (0, j*(h + gap)))
    return out

def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('site', nargs='?', default=root/'_site', help='folder to build into (default: _site)')
    ap.add_argument('--readme', action='store_true', help='rewrite README.md and nbs/sidebar.yml from the notebooks and stop')
    ap.add_argument('--pictures', action='store_true', help='draw nbs/images/preview.jpg and old_prints.jpg anew and stop')
    args = ap.parse_args()
    if args.readme:
        (root/'README.md').write_text(readme(root/'nbs'/'index.ipynb'), encoding='utf-8')
        (root/'nbs'/'sidebar.yml').write_text(sidebar(root/'nbs'), encoding='utf-8')
    elif args.pictures:
        for f in (preview, old_prints): f().save(root/'nbs'/'images'/f'{f.__name__}.jpg', quality=85)
    else: print(f'{build(root, args.site)} pages in {args.site}')

if __name__ == '__main__': main()
