"""The rules of the house. Each is a function that lists what breaks it; each is shown to fail on a bad example."""
import ast, json, re, shutil, subprocess, sys
from pathlib import Path
import pytest
from fastcore.nbio import read_nb

root = Path(__file__).resolve().parent.parent
def rooms(nbs):
    "Module name -> number, from the notebooks that export one: a room is `nbs/NN_name.ipynb` with `#| default_exp name`"
    res = {}
    for p in sorted(nbs.glob('[0-9]*.ipynb')):
        exp = [c.directives['default_exp'] for c in read_nb(p).cells if c.cell_type == 'code' and 'default_exp' in c.directives]
        if exp: res[exp[0]] = int(p.name.split('_')[0])
    return res

def misnamed(nbs): return [p.name for p in nbs.glob('[0-9]*.ipynb') if p.stem.split('_', 1)[1] not in rooms(nbs)]

def imported(tree, pkg):
    "(line, module) of each module of `pkg` imported anywhere in `tree`, inside functions too"
    for n in ast.walk(tree):
        if isinstance(n, ast.Import): names = [a.name for a in n.names]
        elif isinstance(n, ast.ImportFrom):
            base = f'{pkg}.{n.module or ""}'.rstrip('.') if n.level else n.module
            names = [f'{base}.{a.name}' for a in n.names] if base == pkg else [base]
        elif isinstance(n, ast.Call) and getattr(n.func, 'attr', getattr(n.func, 'id', '')) in ('import_module', '__import__') and n.args:
            a = n.args[0]
            names = [(pkg if a.value[0] == '.' else '') + a.value] if isinstance(a, ast.Constant) and isinstance(a.value, str) else []
        else: continue
        yield from ((n.lineno, x.split('.')[1]) for x in names if x.startswith(f'{pkg}.'))

def uphill_imports(lib, order):
    "A room imports only rooms with a lower number"
    return [f'{f.name}:{line} imports {m}' for f in sorted(lib.glob('*.py')) if f.stem in order
            for line,m in imported(ast.parse(f.read_text(encoding='utf-8')), lib.name) if m in order and order[m] >= order[f.stem]]

def long_cells(nbs, limit=40):
    "An exported cell fits on a screen"
    return [f'{p.name}: {len(code)} lines from {code[0]!r}' for p in sorted(nbs.rglob('*.ipynb')) for c in read_nb(p).cells
            if c.cell_type == 'code' and {'export', 'exporti', 'exports'} & c.directives.keys()
            and len(code := [l for l in c.source.strip().splitlines() if not l.startswith('#|')]) > limit]

def heavy(nbs, room=200, other=1000):
    "Notebooks stay light (KB)"
    return [f'{p.name}: {p.stat().st_size/1024:.0f} KB' for p in sorted(nbs.rglob('*.ipynb'))
            if p.stat().st_size > 1024*(room if p.parent == nbs else other)]

_path = re.compile(r'(?<![\w.:/~-])/(?:home|root|tmp|opt|usr|mnt|var|work|workspace|content|Users|private)/[\w.]|\b[A-Z]:\\\w')
_noise = re.compile(r'\r|\d+%\||\d(?:it|s)/(?:it|s)\b|<progress|Warning:|\bwarn\(|\x1b\[')

def dirty_outputs(nbs):
    "Saved outputs hold no error, warning, progress bar or machine path"
    res = []
    for p in sorted(nbs.rglob('*.ipynb')):
        for o in (o for c in json.loads(p.read_text(encoding='utf-8'))['cells'] for o in c.get('outputs', [])):
            texts = [o.get('text', ''), *(v for k,v in o.get('data', {}).items() if k.startswith('text'))]
            txt = '\n'.join(''.join(t) for t in texts)
            if o['output_type'] == 'error': res.append(f'{p.name}: error {o["ename"]}: {o["evalue"]}')
            elif o.get('name') == 'stderr': res.append(f'{p.name}: stderr {txt[:80]!r}')
            elif m := _path.search(txt) or _noise.search(txt): res.append(f'{p.name}: {txt[max(0, m.start()-20):m.end()+40]!r}')
    return res

def bad_titles(nbs):
    "A notebook opens with a cell of title and subtitle and nothing else: nbdev's docs drop whatever follows them there"
    ok = re.compile(r'# [^#\n][^\n]*\n\s*> [^\n]+(\n- [\w-]+: [^\n]+)*\s*')
    return [p.name for p in sorted(nbs.rglob('*.ipynb')) if not ok.fullmatch(read_nb(p).cells[0].source)]

def mixed_imports(nbs):
    "Imports stand alone in their cell: the documentation step runs every cell that holds one, and no other"
    res, is_import = [], lambda n: isinstance(n, (ast.Import, ast.ImportFrom))
    for p in sorted(nbs.rglob('*.ipynb')):
        for c in read_nb(p).cells:
            if c.cell_type != 'code' or {'export', 'exporti', 'exports'} & c.directives.keys() or c.directives.get('eval') == 'false': continue
            tree = c.parsed_() or []
            if any(is_import(n) for t in tree for n in ast.walk(t)) and not all(map(is_import, tree)): res.append(f'{p.name}: {c.source[:60]!r}')
    return res

def stray(names, top): return sorted(set(names) - top)

def tracked():
    "Files under version control"
    if not (root/'.git').exists() or not shutil.which('git'): pytest.skip('not a git checkout')
    return [Path(f) for f in subprocess.run(['git', 'ls-files'], cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()]

def snapshot(d): return {p.relative_to(d).as_posix(): p.read_bytes() for f in ('nbs', 'colorize_fastai') for p in (d/f).rglob('*')
    if p.is_file() and '__pycache__' not in p.parts and '.ipynb_checkpoints' not in p.parts}

def stale(project):
    "Files of `project` (a copy) that cleaning the notebooks and exporting them anew changes, adds or removes"
    before = snapshot(project)
    for f in (project/'colorize_fastai').glob('*.py'):
        if f.name != '__init__.py': f.unlink()
    for cmd in ('nbdev-clean', 'nbdev-export'):
        subprocess.run([Path(sys.executable).parent/cmd], cwd=project, check=True, capture_output=True)
    after = snapshot(project)
    return sorted(f for f in before.keys() | after.keys() if before.get(f) != after.get(f))

# The house as it is

nbs, lib = root/'nbs', root/'colorize_fastai'

def test_rooms(): assert rooms(nbs) and misnamed(nbs) == []
def test_import_direction(): assert uphill_imports(lib, rooms(nbs)) == []
def test_modules_are_rooms(): assert {p.stem for p in lib.glob('*.py')} - {'__init__', '_modidx'} == set(rooms(nbs))
def test_cell_length(): assert long_cells(nbs) == []
def test_budgets(): assert heavy(nbs) == []
def test_outputs(): assert dirty_outputs(nbs) == []
def test_titles(): assert bad_titles(nbs) == []
def test_imports_alone(): assert mixed_imports(nbs) == []
def test_top_level(top): assert stray((f.parts[0] for f in tracked()), top) == []
def test_clean_and_exported(tmp_path, copy_project): assert stale(copy_project(tmp_path)) == []

def loaded(module):
    code = f'import sys, colorize_fastai.{module}; print(*sorted({{m.split(".")[0] for m in sys.modules}}))'
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    return set(r.stdout.split())

@pytest.mark.parametrize('module', ['cli', 'inference'])
def test_light_imports(module): assert not loaded(module) & {'fastai', 'matplotlib', 'pandas'}

# Each rule can be broken

def notebook(path, *cells):
    "A notebook of code cells: source, or (source, outputs)"
    cells = [(c, []) if isinstance(c, str) else c for c in cells]
    cs = [dict(cell_type='markdown' if s.startswith('# ') else 'code', id=f'c{i}', metadata={}, source=s) for i,(s,_) in enumerate(cells)]
    for c,(_,o) in zip(cs, cells, strict=True):
        if c['cell_type'] == 'code': c.update(execution_count=None, outputs=o)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(cells=cs, metadata=dict(kernelspec=dict(name='python3', display_name='python3', language='python')), nbformat=4, nbformat_minor=5)))
    return path.parent

def test_rooms_are_read(tmp_path):
    notebook(tmp_path/'00_a.ipynb', '#| default_exp a'); notebook(tmp_path/'07_b.ipynb', '#| default_exp b'); notebook(tmp_path/'09_c.ipynb', '#| default_exp x')
    assert rooms(tmp_path) == dict(a=0, b=7, x=9) and misnamed(tmp_path) == ['09_c.ipynb']

@pytest.mark.parametrize('code,n', [
    ('from colorize_fastai.b import x', 1), ('import colorize_fastai.b', 1), ('from .b import x', 1), ('from . import b', 1), ('from colorize_fastai import b', 1),
    ('def f():\n    from colorize_fastai.b import x', 1), ('def f(): import_module("colorize_fastai.b")', 1), ('from colorize_fastai.a import x', 1),
    ('from colorize_fastai.z import x', 0), ('import torch', 0), ('from colorize_fastai import __version__', 0)])
def test_uphill_import_is_seen(tmp_path, code, n):
    lib = tmp_path/'colorize_fastai'; lib.mkdir(); (lib/'a.py').write_text(code)
    assert len(uphill_imports(lib, dict(z=0, a=1, b=2))) == n

def test_long_cell_is_seen(tmp_path):
    body = '\n'.join(f'x{i} = {i}' for i in range(41))
    notebook(tmp_path/'00_a.ipynb', f'#| export\n{body}', body, '#| export\n' + body.removesuffix('\nx40 = 40'))
    assert len(long_cells(tmp_path)) == 1

def test_heavy_notebook_is_seen(tmp_path):
    big = '#' + 'x'*300_000
    notebook(tmp_path/'00_a.ipynb', big); notebook(tmp_path/'tutorials'/'01_a.ipynb', big); notebook(tmp_path/'tutorials'/'02_a.ipynb', big*4)
    assert [h.split(':')[0] for h in heavy(tmp_path)] == ['00_a.ipynb', '02_a.ipynb']

def out(text, name='stdout'): return [dict(output_type='stream', name=name, text=[text])]

@pytest.mark.parametrize('outputs,n', [
    (out('photo saved'), 0), (out('0.5 s, 3/4 of a pixel, a/b, https://x.org/home/a'), 0), (out('read /home/me/a.jpg'), 1), (out("'/tmp/x/a.jpg'"), 1), (out(r'C:\Users\me'), 1),
    (out('a.py:3: UserWarning: careful'), 1), (out('hm', 'stderr'), 1), (out('  5%|=   | 1/20'), 1),
    ([dict(output_type='display_data', metadata={}, data={'text/html': ['<progress value=1>']})], 1),
    ([dict(output_type='error', ename='ValueError', evalue='no', traceback=[])], 1)])
def test_dirty_output_is_seen(tmp_path, outputs, n): assert len(dirty_outputs(notebook(tmp_path/'00_a.ipynb', ('1', outputs)))) == n

@pytest.mark.parametrize('title,n', [('# T\n> sub', 0), ('# T\n\n> sub\n', 0), ('# T', 1), ('# # T\n> sub', 1), ('# T\n> sub\n\ntext', 1), ('1', 1)])
def test_bad_title_is_seen(tmp_path, title, n): assert len(bad_titles(notebook(tmp_path/'00_a.ipynb', title))) == n

@pytest.mark.parametrize('code,n', [('import a\nfrom b import *', 0), ('import a\na.f()', 1), ('def f():\n    import a', 1), ('f()', 0), ('#| export\nimport a\nx = 1', 0),
    ('#| eval: false\nimport a\na.f()', 0), ('%pip install a', 0)])
def test_mixed_import_is_seen(tmp_path, code, n): assert len(mixed_imports(notebook(tmp_path/'00_a.ipynb', code))) == n

def test_stray_file_is_seen(top): assert stray(['nbs', 'setup.py', 'notes.txt'], top) == ['notes.txt']

def test_heavy_import_is_seen(): assert 'fastai' in loaded('data')

def test_stale_files_are_seen(tmp_path, copy_project):
    d = copy_project(tmp_path); mod = sorted(rooms(nbs), key=rooms(nbs).get)[0]
    with (d/'colorize_fastai'/f'{mod}.py').open('a') as f: f.write('\n# by hand\n')
    (d/'colorize_fastai'/'orphan.py').write_text('x = 1\n')
    nb = json.loads((d/'nbs'/'index.ipynb').read_text(encoding='utf-8')); nb['metadata']['colab'] = {}
    (d/'nbs'/'index.ipynb').write_text(json.dumps(nb), encoding='utf-8')
    assert stale(d) == sorted([f'colorize_fastai/{mod}.py', 'colorize_fastai/orphan.py', 'nbs/index.ipynb'])
