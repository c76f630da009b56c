"""Every notebook runs from top to bottom, each in a process of its own: `import fastai` changes how tensors are compared, for all that follows."""
import json, os, sys
from multiprocessing import get_context
from pathlib import Path
from tempfile import NamedTemporaryFile
import pytest, torch
from nbdev import test as nbs
from nbdev.config import get_config

root = Path(__file__).resolve().parent.parent
notebooks = [p for p in sorted((root/'nbs').rglob('*.ipynb')) if not any(o[0] in '_.' for o in p.relative_to(root).parts)]
flags = get_config(root).tst_flags.split()
here = ['cuda'] if torch.cuda.is_available() else []

processes = get_context('forkserver') # each starts with the libraries loaded that take long, and none of ours
processes.set_forkserver_preload(['torch._dynamo', 'torchvision', 'pandas', 'scipy.stats', 'matplotlib.pyplot', 'skimage.color', 'nbdev.test', 'sklearn.model_selection'])

def _run(path, force, err):
    "In the new process: run the notebook, with stderr in the file `err`"
    os.dup2(os.open(err, os.O_WRONLY), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.chdir(root)
    sys.exit(not nbs.test_nb(path, skip_flags=flags, force_flags=[*here, *force], basepath=root, profile=False, cell_timeout=300)[0])

def run(path, force=()):
    "What the notebook at `path` put on stderr if it failed, else nothing"
    with NamedTemporaryFile('r') as f:
        p = processes.Process(target=_run, args=(path, force, f.name))
        p.start()
        p.join()
        return '' if p.exitcode == 0 else f.read() or f'exit status {p.exitcode}'

def name(p): return p.relative_to(root/'nbs').as_posix()

@pytest.mark.parametrize('path', notebooks, ids=name)
def test_notebook(path):
    if err := run(path): pytest.fail(err, pytrace=False)

slow = [p for p in notebooks if len(nbs.nb_test_cells(p, flags, ['slow'])) > len(nbs.nb_test_cells(p, flags))]

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
