"""Notebooks to a website, offline: nbdev's processors -> Markdown -> mkdocs-material. Called by `.ci/docs`; `--readme` rewrites README.md."""
import argparse, base64, os, re, runpy, shutil, subprocess, sys, tempfile
from itertools import groupby
from pathlib import Path
os.environ['NO_MKDOCS_2_WARNING'] = '1' # read by mkdocs-material when it is imported
import yaml
from fastcore.nbio import read_nb, mk_cell
from fastcore.xtras import working_directory
from latex2mathml.converter import convert as mathml
from nbdev.config import get_config, nbpath2html
from nbdev.processors import FilterDefaults

root = Path(__file__).resolve().parent.parent
folders = ('.', 'tutorials', 'experiments') # of nbs/, in the order of the menu
machinery = 20 # rooms with a lower number are the book
_fence = re.compile(r'^(`{3,}|~{3,}).*?^\1[ \t]*$', re.M|re.S)
_img = {'image/png': 'png', 'image/jpeg': 'jpg', 'image/svg+xml': 'svg'}

def notebooks(nbs):
    "Every notebook that becomes a page: index first, then the others without a number, the rooms, the other folders, each in file name order"
    ps = [p for d in folders for p in sorted((nbs/d).glob('*.ipynb')) if p.name[0] not in '_.']
    return sorted(ps, key=lambda p: (bool(section(p, nbs)), p.stem != 'index'))

def section(nb_path, nbs):
    "The part of the menu where a notebook stands; nothing for one that has its own place in it, being neither a room nor in a folder"
    if nb_path.parent != nbs: return nb_path.parent.relative_to(nbs).as_posix().capitalize()
    number = re.match(r'\d+', nb_path.name)
    return number and ('The book' if int(number[0]) < machinery else 'The machinery')

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
    def _ml(m, **kw): return mathml(m[1].strip(), **kw).replace('*', '&#42;').replace('_', '&#95;')
    text = re.sub(r'\$\$(.+?)\$\$', lambda m: f'\n\n<div class="math">{_ml(m, display="block")}</div>\n\n', text, flags=re.S)
    return re.sub(r'(?<![\\$\w])\$(?=\S)([^$\n\0]+?)(?<=\S)\$(?![\w$])', _ml, text)

def blocks(text):
    "A blank line before a list, table or quote, and four spaces for an inner list: CommonMark can do without"
    out, prev = [], ''
    kind = lambda s: (re.match(r'\s*([-*+]|\d+[.)])\s', s) and 'list') or (re.match(r'\s*\|', s) and 'table') or (s.startswith('>') and 'quote')
    for line in text.split('\n'):
        if kind(line) and prev.strip() and kind(prev) != kind(line) and not prev.startswith(' '): out.append('')
        out.append(re.sub(r'^( {2,3}|\t)(?=([-*+]|\d+[.)])\s)', '    ', line)); prev = line
    return '\n'.join(out)

def links(text, here, pages, hosted, anchors):
    """Links to a notebook, or to the hosted page of one, become links between the pages; `here` is the folder of the page.
    nbdev links every name it knows; one that has no card (`anchors`: page -> names) stays plain text"""
    def _nb(m):
        p = pages.get(os.path.normpath(here/m[1]))
        return f']({os.path.relpath(p, here)}{m[2] or ""})' if p else m[0]
    def _sym(m):
        p = m[2] + '.md'
        return f'[{m[1]}]({os.path.relpath(p, here)}#{m[3]})' if m[3] in anchors.get(p, ()) else m[1]
    text = re.sub(r'\]\(([^)\s#]+\.ipynb)(#[^)\s]*)?\)', _nb, text)
    return re.sub(rf'\[([^\]]+)\]\({re.escape(hosted)}/?([^)\s#]+)\.html#([^)\s]*)\)', _sym, text)

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
    doc = outside_code(lambda t: re.sub(r'(?<!\\)[*_]', r'\\\g<0>', t), m['doc'] or '')
    return f'<div class="card" markdown="1">\n\n### {m["name"]} {{ #{m["name"].lower()} }}\n\n{m["sig"].replace("__main__.", "")}\n\n{doc}\n\n</div>'

def output(o, save):
    "One saved output as Markdown; `save(data, suffix)` writes an image and gives its link"
    if o.output_type == 'stream': return fence(''.join(o['text']).rstrip('\n'), 'text', ' .output')
    if o.output_type == 'error': raise ValueError(f'a saved output is an error: {o.ename}: {o.evalue}')
    text = lambda k: ''.join(o.data[k])
    for k,suf in _img.items():
        if k in o.data: return f'![]({save(text(k).encode() if suf == "svg" else base64.b64decode(text(k)), suf)}){{ .output loading=lazy }}'
    if 'text/html' in o.data: return f'<div class="output">{re.sub(chr(10)+"+", chr(10), text("text/html"))}</div>'
    if 'text/markdown' in o.data: return text('text/markdown')
    return fence(text('text/plain'), 'text', ' .output') if 'text/plain' in o.data else ''

def render(nb_path, nbs, out):
    "Title and Markdown of one notebook, links still as nbdev made them; its images are written under `out`"
    nb, rel = read_nb(nb_path), page(nb_path.relative_to(nbs))
    title, sub = split_title(nb)
    fold_sources(nb)
    saved = {c.id: c.get('outputs', []) for c in nb.cells if 'id' in c} # the processors run imports and exported cells anew
    with working_directory(nb_path.parent): FilterDefaults()(nb)
    n, md = 0, [f'# {title}'] + [f'<p class="subtitle" markdown="1">{sub}</p>']*bool(sub)
    def save(data, suf):
        nonlocal n; n += 1
        f = out/rel.parent/'figures'/f'{rel.stem}_{n}.{suf}'
        f.parent.mkdir(parents=True, exist_ok=True); f.write_bytes(data)
        return f.relative_to(out/rel.parent).as_posix()
    generated = lambda c: bool(c.get('has_sd')) # show_doc cells come last definition first
    for c in (c for g,cs in groupby(nb.cells, generated) for c in (reversed(list(cs)) if g else cs)):
        if c.cell_type == 'markdown': md.append(outside_code(lambda t: blocks(math(t)), c.source))
        if c.cell_type != 'code': continue
        if re.search(r'^show_doc\(', c.source, re.M): md += [card(output(o, save)) for o in c.outputs]; continue
        if code := strip_directives(c.source) if not re.search(r'#\|\s*echo:\s*false', c.source) else '': md.append(fence(code, 'python'))
        if not re.search(r'#\|\s*output:\s*false', c.source): md += [output(o, save) for o in saved.get(c.get('id'), [])]
    return title, '\n\n'.join(md) + '\n'

def readme(nb_path):
    "The home page as README.md: the text alone, links and images as seen from one folder higher"
    nb, md = read_nb(nb_path), []
    for c in nb.cells:
        d = c.directives if c.cell_type == 'code' else {}
        if 'hide' in d or 'default_exp' in d: continue
        md.append(c.source.strip() if c.cell_type == 'markdown' else f'```python\n{strip_directives(c.source)}\n```')
    up = lambda t: re.sub(r'(\]\(|src=")(?!https?:|#|/|mailto:)(?:\./)?([^)"\s]+)', rf'\1{nb_path.parent.name}/\2', t)
    return outside_code(up, '\n\n'.join(md)).replace(f'{nb_path.parent.name}/../', '') + '\n'

# The site

def config(cfg, docs, site, nav):
    "mkdocs.yml: no font, script or repository badge is fetched from elsewhere"
    ext = ['tables', 'attr_list', 'md_in_html', 'sane_lists', 'pymdownx.superfences', 'pymdownx.inlinehilite', 'pymdownx.betterem',
           {'pymdownx.highlight': {'use_pygments': True}}, {'toc': {'permalink': '¶', 'toc_depth': 3}}]
    shades = [dict(media=f'(prefers-color-scheme: {s})', scheme=c, primary='custom', accent='custom',
                   toggle=dict(icon=f'material/{i}', name=f'Switch to {o} mode'))
              for s,c,i,o in [('light', 'default', 'weather-night', 'dark'), ('dark', 'slate', 'weather-sunny', 'light')]]
    theme = dict(name='material', font=False, palette=shades, icon=dict(logo='material/palette'), favicon='favicon.svg',
                 features=['navigation.sections', 'navigation.footer', 'navigation.top', 'toc.follow', 'content.code.copy', 'search.highlight'])
    return dict(site_name=cfg.title, site_url=cfg.doc_url + '/', docs_dir=str(docs), site_dir=str(site), nav=nav, theme=theme,
                use_directory_urls=False, markdown_extensions=ext, plugins=['search'], extra_css=['styles.css'], extra=dict(generator=False),
                validation=dict(links=dict(anchors='warn', unrecognized_links='warn')))

def remote_assets(site):
    "(page, address) of everything a built page would fetch from another host: scripts, styles, fonts, images, frames"
    tag = re.compile(r'<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc(?:set)?\s*=\s*["\']?((?:https?:)?//[^"\'\s>]+)', re.I)
    rel = 'stylesheet|preload|preconnect|dns-prefetch|icon|manifest|modulepreload'
    link = re.compile(rf'<link\b(?=[^>]*\brel=["\']?(?:{rel}))[^>]*?\bhref=["\']?((?:https?:)?//[^"\'\s>]+)', re.I)
    css = re.compile(r'(?:@import\s+(?:url\()?|url\()\s*["\']?((?:https?:)?//[^"\')\s]+)', re.I)
    found = []
    for f in sorted(site.rglob('*')):
        if f.suffix not in ('.html', '.css', '.svg'): continue
        t = f.read_text(encoding='utf-8')
        found += [(f.relative_to(site).as_posix(), m) for r in ((tag, link, css) if f.suffix == '.html' else (css,)) for m in r.findall(t)]
    return found

def build(project, site):
    "Build the site of the project in folder `project` into the folder `site`; gives the number of pages"
    project, site = Path(project).resolve(), Path(site).resolve()
    nbs, cfg = project/'nbs', get_config(project)
    nb_paths = notebooks(nbs)
    pages = {p.relative_to(nbs).as_posix(): page(p.relative_to(nbs)).as_posix() for p in nb_paths}
    if len(set(pages.values())) < len(pages): raise ValueError(f'two notebooks would share a page: {sorted(pages.values())}')
    with tempfile.TemporaryDirectory() as tmp:
        docs, nav, texts = Path(tmp)/'docs', {}, {}
        for f in nbs.rglob('*'): # figures that the text shows, the styles, the icon
            if f.suffix in ('.png', '.jpg', '.jpeg', '.webp', '.gif', '.svg', '.css'):
                (docs/f.relative_to(nbs)).parent.mkdir(parents=True, exist_ok=True); shutil.copy(f, docs/f.relative_to(nbs))
        with working_directory(project):
            for p, to in zip(nb_paths, pages.values(), strict=True):
                title, texts[to] = render(p, nbs, docs)
                if part := section(p, nbs): nav.setdefault(part, []).append({title: to})
                else: nav['Home' if p.stem == 'index' else title] = to
        anchors = {to: set(re.findall(r'^### .* \{ #(\S+) \}$', t, re.M)) for to,t in texts.items()}
        for to, t in texts.items():
            (docs/to).parent.mkdir(parents=True, exist_ok=True)
            (docs/to).write_text(outside_code(lambda x: links(x, Path(to).parent, pages, cfg.doc_url, anchors), t), encoding='utf-8')
        if (nbs/'colorizer').is_dir(): runpy.run_path(str(project/'.ci'/'colorizer.py'))['into'](docs)
        menu = [{k: v} for k,v in nav.items()]
        (Path(tmp)/'mkdocs.yml').write_text(yaml.safe_dump(config(cfg, docs, site, menu), allow_unicode=True, sort_keys=False), encoding='utf-8')
        r = subprocess.run([sys.executable, '-m', 'mkdocs', 'build', '--strict', '-f', f'{tmp}/mkdocs.yml'], capture_output=True, text=True)
        # a dead link stops it, too: --strict counts warnings (unless --quiet hides them)
        if r.returncode: raise ValueError(f'mkdocs stopped:\n{r.stdout}{r.stderr}')
    if bad := remote_assets(site): raise ValueError(f'pages that fetch from another host: {bad}')
    return len(pages)

def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('site', nargs='?', default=root/'_site', help='folder to build into (default: _site)')
    ap.add_argument('--readme', action='store_true', help='rewrite README.md from nbs/index.ipynb and stop')
    args = ap.parse_args()
    if args.readme: (root/'README.md').write_text(readme(root/'nbs'/'index.ipynb'), encoding='utf-8')
    else: print(f'{build(root, args.site)} pages in {args.site}')

if __name__ == '__main__': main()
