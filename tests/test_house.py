"""The rules of the house. Each is a function that lists what breaks it; each is shown to fail on a bad example."""
import ast, json, re, shutil, subprocess, sys
from collections import Counter
from configparser import ConfigParser
from itertools import permutations
from pathlib import Path
from statistics import median
import pytest, yaml
from fastcore.nbio import read_nb

root = Path(__file__).resolve().parent.parent
MACHINERY = 20 # rooms with a lower number are the book
LINES, MEDIAN, WIDTH = 30, 11, 140 # of exported cells: the longest, the one in the middle, and the longest line
NAMES = 245 # in `__all__` of all modules together

# Rooms and imports

def rooms(nbs):
    "Module name -> number, from the notebooks that export one: a room is `nbs/NN_name.ipynb` with `#| default_exp name`"
    res = {}
    for p in sorted(nbs.glob('[0-9]*.ipynb')):
        exp = [c.directives['default_exp'] for c in read_nb(p).cells if c.cell_type == 'code' and 'default_exp' in c.directives]
        if exp: res[exp[0]] = int(p.name.split('_')[0])
    return res

def misnamed(nbs): return [p.name for p in nbs.glob('[0-9]*.ipynb') if p.stem.split('_', 1)[1] not in rooms(nbs)]

def parsed(path): return ast.parse(path.read_text(encoding='utf-8'))

def imported(tree, pkg):
    "Each module of `pkg` (or name of its `__init__`) imported anywhere in `tree`, inside functions too"
    for n in ast.walk(tree):
        if isinstance(n, ast.Import): names = [a.name for a in n.names]
        elif isinstance(n, ast.ImportFrom):
            base = f'{pkg}.{n.module or ""}'.rstrip('.') if n.level else n.module
            names = [f'{base}.{a.name}' for a in n.names] if base == pkg else [base]
        elif isinstance(n, ast.Call) and getattr(n.func, 'attr', getattr(n.func, 'id', '')) in ('import_module', '__import__') and n.args:
            a = n.args[0]
            names = [(pkg if a.value[0] == '.' else '') + a.value] if isinstance(a, ast.Constant) and isinstance(a.value, str) else []
        else: continue
        yield from (x.split('.')[1] for x in names if x.startswith(f'{pkg}.'))

def import_graph(lib):
    "Module -> the modules of the package that it imports; a name that only `__init__` can give (`Colorizer`, but not `__version__`) stands for it"
    files = {f.stem: f for f in sorted(lib.glob('*.py'))}
    return {s: sorted({m if m in files else '__init__' for m in imported(parsed(f), lib.name) if m in files or m[:2] != '__'}) for s,f in files.items()}

def way(graph, a, b):
    "The shortest chain of imports that leads from module `a` to module `b`, as text; empty if none does"
    paths, seen = [[a]], set()
    for path in paths:
        for m in graph[path[-1]]:
            if m == b: return ' -> '.join([*path, m])
            if m not in seen: seen.add(m); paths.append([*path, m])
    return ''

def circles(graph):
    "No module imports itself, directly or through others"
    return [w for m in graph if (w := way(graph, m, m))]

def joined_stages(graph, stages=('pretrain', 'adversarial')):
    "The training stages are siblings: neither imports the other, directly or through others"
    return [w for a,b in permutations(stages, 2) if (w := way(graph, a, b))]

def out_of_order(graph, order):
    "The book is read in order: what a room of it imports, directly or through others, is an earlier room or machinery"
    return [w for a in order for b in order if order[a] <= order[b] < MACHINERY and (w := way(graph, a, b))]

def private_imports(lib):
    "What another room uses has a name without an underscore"
    return [f'{f.name}:{n.lineno} imports {a.name}' for f in sorted(lib.glob('*.py')) for n in ast.walk(parsed(f))
            if isinstance(n, ast.ImportFrom) and (n.level or n.module.split('.')[0] == lib.name) for a in n.names if re.match('_(?!_)', a.name)]

def too_many_names(lib, limit=NAMES):
    "What a user can call stays small enough to look through"
    sets = [(f.stem, n.value.elts) for f in lib.glob('*.py') for n in parsed(f).body if isinstance(n, ast.Assign) and getattr(n.targets[0], 'id', '') == '__all__']
    n = Counter({m: len(names) for m,names in sets})
    return [f'{n.total()} public names, not {limit}: {dict(n.most_common())}'] if n.total() > limit else []

# Cells

def is_import(n): return isinstance(n, (ast.Import, ast.ImportFrom))
def is_exported(c): return bool({'export', 'exporti', 'exports'} & c.directives.keys())
def code_cells(path): return [c for c in read_nb(path).cells if c.cell_type == 'code']
def code_lines(c): return [l for l in c.source.strip().splitlines() if not l.startswith('#|')]

def exported(nbs):
    "(notebook, cell) of each exported cell"
    return [(p.name, c) for p in sorted(nbs.rglob('*.ipynb')) for c in code_cells(p) if is_exported(c)]

def bodies(nbs):
    "(notebook, lines) of each exported cell that holds more than imports"
    return [(name, code_lines(c)) for name,c in exported(nbs) if not all(map(is_import, c.parsed_() or []))]

def long_cells(nbs, limit=LINES):
    "An exported cell can be taken in at a glance"
    return [f'{name}: {len(code)} lines from {code[0]!r}' for name,code in bodies(nbs) if len(code) > limit]

def long_median(nbs, limit=MEDIAN):
    "Most exported cells are short"
    n = median(len(code) for _,code in bodies(nbs))
    return [f'half of the exported cells have {n} lines or more, not {limit}'] if n > limit else []

def long_lines(nbs, limit=WIDTH):
    "An exported line is read without scrolling"
    return [f'{name}: {len(l)} characters in {l[:60]!r}' for name,c in exported(nbs) for l in code_lines(c) if len(l) > limit]

def defined(c):
    "The names that a cell defines; a method that is patched in counts by its class, too"
    defs = [n for n in c.parsed_() or [] if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]
    owners = [n.args.args[0].annotation for n in defs if any(re.match(r'patch\b', ast.unparse(d)) for d in n.decorator_list)]
    return {n.name for n in defs} | {n.id for o in owners for n in ast.walk(o) if isinstance(n, ast.Name)}

def uses(c, names):
    "Is one of the names in the code of a cell, comments aside?"
    text = ast.unparse(ast.Module(c.parsed_(), [])) if c.parsed_() else c.source
    return any(re.search(rf'\b{n}\b', text) for n in names)

def untried(nbs):
    "In the machinery, each exported cell that defines something is followed by a cell, not exported, that uses it"
    return [f'{p.name}: {", ".join(sorted(defined(c)))}' for p in sorted(nbs.glob('[0-9]*.ipynb')) if int(p.name.split('_')[0]) >= MACHINERY
            for cs in [code_cells(p)] for c,after in zip(cs, [*cs[1:], None], strict=True)
            if is_exported(c) and defined(c) and (after is None or is_exported(after) or not uses(after, defined(c)))]

# Notebooks

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
    res = []
    for p in sorted(nbs.rglob('*.ipynb')):
        for c in code_cells(p):
            if is_exported(c) or c.directives.get('eval') == 'false': continue
            tree = c.parsed_() or []
            if any(is_import(n) for t in tree for n in ast.walk(t)) and not all(map(is_import, tree)): res.append(f'{p.name}: {c.source[:60]!r}')
    return res

# Files

def stray(names, top): return sorted(set(names) - top)

def tracked():
    "Files under version control"
    if not (root/'.git').exists() or not shutil.which('git'): pytest.skip('not a git checkout')
    return [Path(f) for f in subprocess.run(['git', 'ls-files'], cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()]

def settings(path):
    ini = ConfigParser(delimiters=['='], interpolation=None)
    ini.read(path, encoding='utf-8')
    return ini['DEFAULT']

def wrong_citation(cff, ini):
    "CITATION.cff says what settings.ini says"
    cff, cfg = yaml.safe_load(cff.read_text(encoding='utf-8')), settings(ini)
    said = {'cff-version': '1.2.0', 'title': cfg['lib_name'], 'version': cfg['version'], 'license': cfg['license'], 'repository-code': cfg['repo_url'], 'authors': [dict(name=cfg['author'])]}
    return [f'{k}: {cff.get(k)!r}, not {v!r}' for k,v in said.items() if cff.get(k) != v]

def snapshot(d): return {p.relative_to(d).as_posix(): p.read_bytes() for f in ('nbs', 'colorize_fastai') for p in (d/f).rglob('*')
    if p.is_file() and '__pycache__' not in p.parts and '.ipynb_checkpoints' not in p.parts}

def stale(project):
    "Files of `project` (a copy) that cleaning the notebooks and exporting them anew changes, adds or removes"
    before = snapshot(project)
    for f in (project/'colorize_fastai').glob('*.py'):
        if f.name not in ('__init__.py', '__main__.py'): f.unlink()
    for cmd in ('nbdev-clean', 'nbdev-export'):
        subprocess.run([Path(sys.executable).parent/cmd], cwd=project, check=True, capture_output=True)
    after = snapshot(project)
    return sorted(f for f in before.keys() | after.keys() if before.get(f) != after.get(f))

# The house as it is

nbs, lib = root/'nbs', root/'colorize_fastai'

def test_rooms(): assert rooms(nbs) and misnamed(nbs) == []
def test_no_circle(): assert circles(import_graph(lib)) == []
def test_stages_are_siblings(): assert joined_stages(import_graph(lib)) == []
def test_book_in_order(): assert out_of_order(import_graph(lib), rooms(nbs)) == []
def test_private_stays_private(): assert private_imports(lib) == []
def test_public_names(): assert too_many_names(lib) == []
def test_modules_are_rooms(): assert {p.stem for p in lib.glob('*.py')} - {'__init__', '__main__', '_modidx'} == set(rooms(nbs))
def test_cell_length(): assert long_cells(nbs) == []
def test_median_cell(): assert long_median(nbs) == []
def test_line_length(): assert long_lines(nbs) == []
def test_definitions_are_tried(): assert untried(nbs) == []
def test_budgets(): assert heavy(nbs) == []
def test_outputs(): assert dirty_outputs(nbs) == []
def test_titles(): assert bad_titles(nbs) == []
def test_imports_alone(): assert mixed_imports(nbs) == []
def test_top_level(top): assert stray((f.parts[0] for f in tracked()), top) == []
def test_citation(): assert wrong_citation(root/'CITATION.cff', root/'settings.ini') == []
def test_clean_and_exported(tmp_path, copy_project): assert stale(copy_project(tmp_path)) == []

def loaded(code):
    "The packages that a new process holds after `code`"
    r = subprocess.run([sys.executable, '-c', f'{code}\nimport sys; print(*sorted({{m.split(".")[0] for m in sys.modules}}))'], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    return set(r.stdout.split())

@pytest.mark.parametrize('code', ['import colorize_fastai.cli', 'import colorize_fastai.inference', 'from colorize_fastai import Colorizer'])
def test_light_imports(code): assert not loaded(code) & {'fastai', 'matplotlib', 'pandas'}

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

def package(d, **modules):
    lib = d/'colorize_fastai'; lib.mkdir()
    for m,code in modules.items(): (lib/f'{m}.py').write_text(code)
    return lib

@pytest.mark.parametrize('code,want', [
    ('from colorize_fastai.b import x', ['b']), ('import colorize_fastai.b', ['b']), ('from .b import x', ['b']), ('from . import b', ['b']),
    ('from colorize_fastai import b', ['b']), ('def f():\n    from colorize_fastai.b import x', ['b']), ('def f(): import_module("colorize_fastai.b")', ['b']),
    ('from colorize_fastai.a import x', ['a']), ('from . import b, c', ['b', 'c']), ('from colorize_fastai import Lazy', ['__init__']),
    ('import torch', []), ('from colorize_fastai import __version__', []), ('from b import x', [])])
def test_imports_are_read(tmp_path, code, want): assert import_graph(package(tmp_path, __init__='', a=code, b='', c=''))['a'] == want

@pytest.mark.parametrize('graph,n', [(dict(a=['b'], b=['c'], c=[]), 0), (dict(a=['a']), 1), (dict(a=['b'], b=['c'], c=['b']), 2), (dict(a=['b', 'c'], b=['c'], c=[]), 0)])
def test_circle_is_seen(graph, n): assert len(circles(graph)) == n

@pytest.mark.parametrize('graph,want', [
    (dict(pretrain=['run'], adversarial=['run'], run=[], train=['pretrain', 'adversarial']), []), (dict(pretrain=[], adversarial=['pretrain']), ['adversarial -> pretrain']),
    (dict(pretrain=['train'], train=['adversarial'], adversarial=[]), ['pretrain -> train -> adversarial'])])
def test_joined_stages_are_seen(graph, want): assert joined_stages(graph) == want

def test_a_stage_that_is_gone_is_seen():
    with pytest.raises(KeyError): joined_stages(dict(pretrain=[]))

@pytest.mark.parametrize('graph,want', [
    (dict(a=['m'], b=['a', 'm'], m=[], n=['b']), []), (dict(a=['b'], b=[], m=[], n=[]), ['a -> b']), (dict(a=['m'], b=[], m=['b'], n=[]), ['a -> m -> b']),
    (dict(a=['m'], b=[], m=['n'], n=['b']), ['a -> m -> n -> b']), (dict(a=[], b=['m'], m=['a'], n=['m']), []), (dict(a=['m'], b=[], m=['a'], n=[]), ['a -> m -> a'])])
def test_disorder_is_seen(graph, want): assert out_of_order(graph, dict(a=0, b=MACHINERY - 1, m=MACHINERY, n=MACHINERY + 1)) == want

@pytest.mark.parametrize('code,n', [('from .b import _x', 1), ('def f():\n    from colorize_fastai.b import y, _x as x', 1), ('from .b import x', 0), ('from . import __version__', 0),
    ('from torch.x import _y', 0), ('from .b import (_x,\n _y)', 2)])
def test_private_import_is_seen(tmp_path, code, n): assert len(private_imports(package(tmp_path, a=code, b=''))) == n

@pytest.mark.parametrize('limit,n', [(3, 0), (2, 1)])
def test_too_many_names_are_seen(tmp_path, limit, n): assert len(too_many_names(package(tmp_path, a="__all__ = ['x', 'y']", b="__all__ = ['z']\nt = ['u']", c=''), limit)) == n

def lines(n): return '\n'.join(f'x{i} = {i}' for i in range(n))

def test_long_cell_is_seen(tmp_path):
    imports = '\n'.join(f'import m{i}' for i in range(30))
    notebook(tmp_path/'00_a.ipynb', f'#| export\n{lines(31)}', lines(31), f'#| export\n{lines(30)}', f'#| exporti\n{lines(32)}', f'#| export\n{imports}', f'#| export\n{imports}\nx = 1')
    assert [c.split()[1] for c in long_cells(tmp_path)] == ['31', '32', '31']

@pytest.mark.parametrize('sizes,n', [((11, 25), 1), ((11, 11, 25), 0), ((5, 12, 12), 1)])
def test_long_median_is_seen(tmp_path, sizes, n):
    notebook(tmp_path/'00_a.ipynb', *(f'#| export\n{lines(s)}' for s in sizes), '#| export\nimport a', 'x = 1')
    assert len(long_median(tmp_path)) == n

def test_long_line_is_seen(tmp_path):
    just, over = 'x = "' + 'a'*134 + '"', 'x = "' + 'a'*135 + '"'
    notebook(tmp_path/'00_a.ipynb', f'#| export\n{just}', f'#| export\ny = 1\n{over}', over, '#| export\nimport ' + ', '.join(f'module{i}' for i in range(20)))
    assert len(long_lines(tmp_path)) == 2

@pytest.mark.parametrize('cells,n', [
    (['#| export\ndef f(): pass', 'f()'], 0), (['#| export\ndef f(): pass'], 1), (['#| export\ndef f(): pass', 'g()'], 1), (['#| export\ndef f(): pass', '# f\ng()'], 1),
    (['#| export\ndef f(): pass', '# T', 'f()'], 0), (['#| export\ndef f(): pass', '1', 'f()'], 1), (['#| export\ndef f(): pass', '#| export\ndef g(): f()', 'f(), g()'], 1),
    (['#| exporti\nclass A: pass', 'A()'], 0), (['#| export\ndef f(): pass\ndef g(): pass', 'assert g'], 0), (['#| export\nx = 1', '#| export\ny = 2'], 0), (['def f(): pass'], 0),
    (['#| export\n@patch\ndef m(self:A): pass', 'a.m()'], 0), (['#| export\n@patch\ndef __len__(self:A|B): pass', 'len(B())'], 0), (['#| export\n@patch\ndef m(self:A): pass', 'a.n()'], 1),
    (['#| export\n@cache\ndef m(x:A): pass', 'A()'], 1), (['#| export\ndef cmd(): pass', '!cmd --help'], 0), (['#| export\ndef f(): pass', 'ff()'], 1)])
def test_untried_definition_is_seen(tmp_path, cells, n):
    notebook(tmp_path/f'{MACHINERY}_a.ipynb', *cells); notebook(tmp_path/f'{MACHINERY - 1}_b.ipynb', *cells)
    assert len(untried(tmp_path)) == n

def test_heavy_notebook_is_seen(tmp_path):
    big = '#' + 'x'*300_000
    for p,n in (('00_a', 1), ('guide', 1), ('tutorials/01_a', 1), ('tutorials/02_a', 4)): notebook(tmp_path/f'{p}.ipynb', big*n)
    assert [h.split(':')[0] for h in heavy(tmp_path)] == ['00_a.ipynb', 'guide.ipynb', '02_a.ipynb']

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

@pytest.mark.parametrize('old,new,n', [('', '', 0), ('version: 0.1.0', 'version: 0.0.9', 1), ('license: ', 'licence: ', 1)])
def test_wrong_citation_is_seen(tmp_path, old, new, n):
    cff = re.sub(r'^version: .*$', 'version: 0.1.0', (root/'CITATION.cff').read_text(encoding='utf-8'), flags=re.M)
    ini = re.sub(r'^version = .*$', 'version = 0.1.0', (root/'settings.ini').read_text(encoding='utf-8'), flags=re.M)
    (tmp_path/'CITATION.cff').write_text(cff.replace(old, new), encoding='utf-8'); (tmp_path/'settings.ini').write_text(ini, encoding='utf-8')
    assert len(wrong_citation(tmp_path/'CITATION.cff', tmp_path/'settings.ini')) == n

def test_stray_file_is_seen(top): assert stray(['nbs', 'setup.py', 'notes.txt'], top) == ['notes.txt']

def test_heavy_import_is_seen(): assert 'pandas' in loaded('import pandas')

def test_stale_files_are_seen(tmp_path, copy_project):
    d = copy_project(tmp_path); mod = sorted(rooms(nbs), key=rooms(nbs).get)[0]
    with (d/'colorize_fastai'/f'{mod}.py').open('a') as f: f.write('\n# by hand\n')
    (d/'colorize_fastai'/'orphan.py').write_text('x = 1\n')
    nb = json.loads((d/'nbs'/'index.ipynb').read_text(encoding='utf-8')); nb['metadata']['colab'] = {}
    (d/'nbs'/'index.ipynb').write_text(json.dumps(nb), encoding='utf-8')
    assert stale(d) == sorted([f'colorize_fastai/{mod}.py', 'colorize_fastai/orphan.py', 'nbs/index.ipynb'])
