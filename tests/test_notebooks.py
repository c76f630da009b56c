"""Every notebook runs from top to bottom, each in a process of its own: `import fastai` changes how tensors are compared, for all that follows."""
import json, subprocess, sys
from pathlib import Path
import pytest, torch
from nbdev.config import get_config
from nbdev.test import nb_test_cells

root = Path(__file__).resolve().parent.parent
notebooks = [p for p in sorted((root/'nbs').rglob('*.ipynb')) if not any(o[0] in '_.' for o in p.relative_to(root).parts)]
flags = get_config(root).tst_flags.split()
here = ['cuda'] if torch.cuda.is_available() else []

_run = """import sys
from nbdev.test import test_nb
path, root, skip, force = sys.argv[1:]
sys.exit(not test_nb(path, skip_flags=skip.split(), force_flags=force.split(), basepath=root, profile=False, cell_timeout=300)[0])"""

def run(path, force=()):
    "What the notebook at `path` put on stderr if it failed, else nothing"
    r = subprocess.run([sys.executable, '-c', _run, path, root, ' '.join(flags), ' '.join([*here, *force])], cwd=root, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return '' if r.returncode == 0 else r.stderr or f'exit status {r.returncode}'

def name(p): return p.relative_to(root/'nbs').as_posix()

@pytest.mark.parametrize('path', notebooks, ids=name)
def test_notebook(path):
    if err := run(path): pytest.fail(err, pytrace=False)

slow = [p for p in notebooks if len(nb_test_cells(p, flags, ['slow'])) > len(nb_test_cells(p, flags))]

@pytest.mark.slow
@pytest.mark.parametrize('path', slow, ids=name)
def test_slow_cells(path):
    if err := run(path, ['slow']): pytest.fail(err, pytrace=False)

def test_there_are_notebooks(): assert 'index.ipynb' in map(name, notebooks) and len(notebooks) > 1

@pytest.mark.parametrize('code,ok', [('assert 1+1 == 2', True), ('assert 1+1 == 3', False), ('#| slow\nassert False', True)])
def test_a_failing_cell_fails(tmp_path, code, ok):
    cell = dict(cell_type='code', id='a', metadata={}, execution_count=None, outputs=[], source=code)
    kernel = dict(kernelspec=dict(name='python3', display_name='python3', language='python'))
    (tmp_path/'t.ipynb').write_text(json.dumps(dict(cells=[cell], metadata=kernel, nbformat=4, nbformat_minor=5)))
    err = run(tmp_path/'t.ipynb')
    assert err == '' if ok else 'AssertionError' in err
