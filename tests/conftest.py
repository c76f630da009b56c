"""Fixtures that several test files share."""
import gc, os, shutil, subprocess, sys
from pathlib import Path
import pytest

if 'PYTEST_XDIST_WORKER' in os.environ: os.environ.setdefault('OMP_NUM_THREADS', '1') # a worker for each core is enough; before torch is imported

root = Path(__file__).resolve().parent.parent

def save_crops(folder, n, step=20, side=160, size=40, photos=4, suffix='.png', sub=lambda j: '.'):
    """`n` crops of each of the first `photos` packaged photographs, `step` pixels apart, `side` pixels wide (or (width, height)), resized to `size`
    (None: not), in `folder` or, for the `j`-th one, in its subfolder `sub(j)`; gives `folder`"""
    from colorize_fastai.photo import read_rgb, sample_photos
    w, h = side if isinstance(side, tuple) else (side, side)
    for k,f in list(sample_photos().items())[:photos]:
        for j in range(n):
            im = read_rgb(f).crop((step*j, 0, step*j + w, h))
            if size: im = im.resize(size if isinstance(size, tuple) else (size, size))
            (folder/sub(j)).mkdir(parents=True, exist_ok=True)
            im.save(folder/sub(j)/f'{k}{j}{suffix}')
    return folder

@pytest.fixture(scope='module', autouse=True)
def no_old_garbage():
    "What the imports have made is not looked through again each time that a training makes room for the next"
    gc.freeze()

@pytest.fixture(scope='session')
def top():
    "What stands at the top of the project, and nothing else does"
    return set('''nbs colorize_fastai settings.ini setup.py README.md tests pyproject.toml MANIFEST.in LICENSE CHANGELOG.md CITATION.cff
        CONTRIBUTING.md .github .ci .gitignore .gitattributes .pre-commit-config.yaml'''.split())

@pytest.fixture(scope='session')
def copy_project(top):
    "Copies the project, as it is on disk, into a folder"
    def _copy(dst):
        dst.mkdir(parents=True, exist_ok=True)
        for n in top:
            if (root/n).is_dir(): shutil.copytree(root/n, dst/n, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
            elif (root/n).exists(): shutil.copy(root/n, dst/n)
        return dst
    return _copy

@pytest.fixture(scope='session')
def tiny_weights(tmp_path_factory):
    "Weights of a small net that has learned nothing, in the project's file format"
    import torch
    from colorize_fastai.generator import unet_generator
    from colorize_fastai.weights import save_weights
    torch.manual_seed(0)
    net = unet_generator('tf_efficientnet_lite0', pretrained=False, channels=(8, 8, 8, 8))
    return save_weights(net, tmp_path_factory.mktemp('weights')/'tiny.safetensors')

@pytest.fixture(scope='session')
def command():
    "Runs an installed command of the project as a process of its own"
    def _run(name, *args, **kw):
        exe = Path(sys.executable).with_name(name)
        return subprocess.run([exe, *map(str, args)], capture_output=True, text=True, encoding='utf-8', timeout=300, **kw)
    return _run

LONG = 'test_processes', 'test_train', 'test_resume', 'test_notebooks'

def pytest_collection_modifyitems(items):
    "Files of long tests come first, so that no worker is left alone with one at the end"
    items.sort(key=lambda o: (*LONG, o.path.stem).index(o.path.stem))
