"""Every tutorial opens in Colab, installs itself, is small unless told otherwise, says what it costs, and has no dead link. (That each runs, tests/test_notebooks.py checks.)"""
import json, re
from configparser import ConfigParser
from pathlib import Path
import pytest

root = Path(__file__).resolve().parent.parent
tutorials = sorted((root/'nbs'/'tutorials').glob('[0-9]*.ipynb'))
KB = 600
_ini = ConfigParser(delimiters=['='], interpolation=None)
_ini.read(root/'settings.ini', encoding='utf-8')
repo = _ini['DEFAULT']['repo_url']
_link = re.compile(r'(?<!!)\[[^\]]*\]\(([^()\s]+(?:\([^()\s]*\))?[^()\s]*)\)')

def cells(path, kind=None):
    "The sources of the cells"
    return [''.join(c['source']) for c in json.loads(path.read_text(encoding='utf-8'))['cells'] if kind in (None, c['cell_type'])]

def anchor(heading): return re.sub(r'[^\w -]', '', heading.lower().replace('`', '')).strip().replace(' ', '-')

def headings(path): return {anchor(m) for s in cells(path, 'markdown') for m in re.findall(r'^#+ (.+)$', s, re.M)}

def dead_links(path, text):
    "The links in `text`, which stands in the notebook at `path`, that lead to no notebook or no heading of it"
    res = []
    for url in _link.findall(re.sub(r'```.*?```', '', text, flags=re.S)):
        if re.match(r'[a-z]+:', url): continue
        name, _, part = url.partition('#')
        to = path.parent/name if name else path
        if not to.is_file() or part and to.suffix == '.ipynb' and part not in headings(to): res.append(url)
    return res

def badge(path):
    page = f"https://colab.research.google.com/github/{repo.removeprefix('https://github.com/')}/blob/main/{path.relative_to(root).as_posix()}"
    return f'[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({page})'

def faults(path):
    "What a tutorial lacks"
    every, code = cells(path), cells(path, 'code')
    text, first = '\n'.join(every), '\n'.join(code[:1])
    res = []
    if not re.fullmatch(r'# [^#\n]+\n\s*> [^\n]+\s*', every[0]): res.append('title and subtitle')
    if badge(path) not in every[1]: res.append('a badge that opens this notebook in Colab')
    if not re.search(r'^if not .*find_spec\(.colorize_fastai.\)', first, re.M) or f'git+{repo}' not in first: res.append('a first code cell that installs, if need be')
    if 'https://download.pytorch.org/whl/cpu' not in first: res.append("how to install torch without a GPU's gigabytes")
    if sum(bool(re.match(r"PHOTOS = 'small' +#", s)) for s in code[:4]) != 1: res.append("PHOTOS = 'small' with its other values, near the top")
    if missing := [o for o in ('Time and memory', 'T4', 'H100', 'estimate') if o.casefold() not in text.casefold()]: res.append(f'time and memory: {missing}')
    if not re.search(r'^## What to try next', text, re.M): res.append('what to try next')
    return res

def numbered(paths): return {int(p.name[:2]): p for p in paths}

@pytest.mark.parametrize('path', tutorials, ids=lambda p: p.stem)
def test_tutorial(path): assert faults(path) == []

@pytest.mark.parametrize('path', tutorials, ids=lambda p: p.stem)
def test_links(path): assert [l for s in cells(path, 'markdown') for l in dead_links(path, s)] == []

@pytest.mark.parametrize('path', tutorials, ids=lambda p: p.stem)
def test_size(path): assert path.stat().st_size < KB*1024

@pytest.mark.parametrize('path', tutorials, ids=lambda p: p.stem)
def test_has_pictures(path):
    outs = [o for c in json.loads(path.read_text(encoding='utf-8'))['cells'] for o in c.get('outputs', [])]
    assert any(k.startswith('image/') for o in outs for k in o.get('data', {}))

def test_there_are_tutorials(): assert len(tutorials) == len(numbered(tutorials)) > 0

# Each fault is seen

def tutorial(path, *change):
    "A tutorial without fault, or with `change`: (old, new)"
    texts = [('markdown', '# T\n> t'), ('markdown', f'{badge(path)}\n\nSee [b](b.ipynb#two-words).'),
        ('code', f"# pip install torch --index-url https://download.pytorch.org/whl/cpu\nif not x.find_spec('colorize_fastai'):\n    %pip install -q 'a @ git+{repo}'"),
        ('code', 'import os'), ('code', "PHOTOS = 'small'   # or a folder"), ('markdown', '## Time and memory\nT4, H100: estimate\n## What to try next\nx')]
    text = json.dumps(dict(cells=[dict(cell_type=k, source=s) for k,s in texts]), ensure_ascii=False)
    for a,b in zip(change[::2], change[1::2], strict=True):
        assert a in text, a
        text = text.replace(a, b)
    path.write_text(text, encoding='utf-8')
    return path

@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), 'root', tmp_path)
    (tmp_path/'b.ipynb').write_text(json.dumps(dict(cells=[dict(cell_type='markdown', source='## Two *words*')])))
    return tmp_path/'01_a.ipynb'

@pytest.mark.parametrize('old,new,n', [('# T', '# T', 0), ('> t', '', 1), ('blob/main/01_a', 'blob/main/02_a', 1), ('find_spec', 'spec', 1), ('git+', '', 1),
    ('/whl/cpu', '', 1), ("'small'", "'coco'", 1), ('   # or a folder', '', 1), ('H100', 'GPU', 1), ('estimate', '', 1), ('try next', 'do', 1)])
def test_fault_is_seen(path, old, new, n): assert len(faults(tutorial(path, old, new))) == n

@pytest.mark.parametrize('text,n', [('[b](b.ipynb)', 0), ('[b](b.ipynb#two-words)', 0), ('[b](b.ipynb#three)', 1), ('[b](c.ipynb)', 1), ('[b](#t)', 0), ('[b](#u)', 1),
    ('[b](https://a.org/x)', 0), ('```\n[b](c)\n```', 0), ('`f` [b](c.ipynb), [d](b.ipynb)', 1)])
def test_dead_link_is_seen(path, text, n): assert len(dead_links(tutorial(path), text)) == n
