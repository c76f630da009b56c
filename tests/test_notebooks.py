"""Every notebook runs from top to bottom, in this process."""
import json
from pathlib import Path
import pytest, torch
from nbdev.config import get_config
from nbdev.test import nb_test_cells, test_nb
test_nb.__test__ = False # a function of nbdev's, not a test

root = Path(__file__).resolve().parent.parent
notebooks = [p for p in sorted((root/'nbs').rglob('*.ipynb')) if not any(o[0] in '_.' for o in p.relative_to(root).parts)]
flags = get_config(root).tst_flags.split()
here = ['cuda'] if torch.cuda.is_available() else []

def run(path, force=()): return test_nb(path, skip_flags=flags, force_flags=[*here, *force], basepath=root, profile=False, cell_timeout=300)[0]

def name(p): return p.relative_to(root/'nbs').as_posix()

@pytest.mark.parametrize('path', notebooks, ids=name)
def test_notebook(path): assert run(path), f'{name(path)} failed: its traceback stands above, in the captured stderr'

slow = [p for p in notebooks if len(nb_test_cells(p, flags, ['slow'])) > len(nb_test_cells(p, flags))]

@pytest.mark.slow
@pytest.mark.parametrize('path', slow, ids=name)
def test_slow_cells(path): assert run(path, ['slow'])

def test_there_are_notebooks(): assert 'index.ipynb' in map(name, notebooks) and len(notebooks) > 1

@pytest.mark.parametrize('code,ok', [('assert 1+1 == 2', True), ('assert 1+1 == 3', False), ('#| slow\nassert False', True)])
def test_a_failing_cell_fails(tmp_path, code, ok):
    cell = dict(cell_type='code', id='a', metadata={}, execution_count=None, outputs=[], source=code)
    kernel = dict(kernelspec=dict(name='python3', display_name='python3', language='python'))
    (tmp_path/'t.ipynb').write_text(json.dumps(dict(cells=[cell], metadata=kernel, nbformat=4, nbformat_minor=5)))
    assert run(tmp_path/'t.ipynb') == ok
