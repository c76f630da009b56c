"""What is built is what works: contents, metadata, and the wheel installed away from the checkout."""
import os, re, subprocess, sys, tarfile, zipfile
from configparser import ConfigParser
from email import message_from_bytes
from importlib.metadata import version
from pathlib import Path
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from PIL import Image, ImageChops

root = Path(__file__).resolve().parent.parent
ini = ConfigParser(delimiters=['='], interpolation=None)
ini.read(root/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
colab = dict(fastai='2.8.7', fastcore='1.13.2', torch='2.11.0', numpy='2.0.2', ipython='7.34.0') # and Python 3.12

def sh(*args, **kw):
    r = subprocess.run([str(a) for a in args], capture_output=True, text=True, stdin=subprocess.DEVNULL, **kw)
    assert r.returncode == 0, f'{args}\n{r.stdout}\n{r.stderr}'
    return r.stdout

@pytest.fixture(scope='module')
def dist(tmp_path_factory, copy_project):
    "Folder with the sdist, and the wheel that was made from it"
    d = tmp_path_factory.mktemp('dist')
    sh(sys.executable, '-m', 'build', '--no-isolation', '--outdir', d, copy_project(tmp_path_factory.mktemp('src')))
    return d

@pytest.fixture(scope='module')
def wheel(dist): return next(dist.glob('*.whl'))

@pytest.fixture(scope='module')
def meta(wheel):
    with zipfile.ZipFile(wheel) as z: return message_from_bytes(z.read(next(n for n in z.namelist() if n.endswith('.dist-info/METADATA'))))

@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    "Environment in which the wheel alone is found, ahead of the checkout; the dependencies are this environment's"
    d = tmp_path_factory.mktemp('site')
    sh(sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index', '--target', d, wheel)
    return d, dict(os.environ, PYTHONPATH=str(d), PYTHONSAFEPATH='1')

modules = {f'colorize_fastai/{p.name}' for p in (root/'colorize_fastai').glob('*.py')}
weights = {f'colorize_fastai/pretrained/{p.name}' for p in (root/'colorize_fastai'/'pretrained').glob('*')}
pages = {f'colorize_fastai/assets/{p.name}' for p in (root/'colorize_fastai'/'assets').glob('*')}

def test_wheel_contents(wheel):
    with zipfile.ZipFile(wheel) as z: names = {n for n in z.namelist() if '.dist-info/' not in n}
    assert any(w.endswith('.safetensors') for w in weights), 'no packaged weights'
    assert names == modules | weights | pages

def test_sdist_contents(dist):
    with tarfile.open(next(dist.glob('*.tar.gz'))) as t: names = {n.split('/', 1)[1] for n in t.getnames() if '/' in n}
    assert modules | weights | pages | {'settings.ini', 'setup.py', 'pyproject.toml', 'README.md', 'LICENSE', 'CHANGELOG.md'} <= names

def test_metadata(meta):
    assert meta['Name'].replace('-', '_') == cfg['lib_name'] and meta['Version'] == cfg['version']
    assert meta['Requires-Python'] == f'>={cfg["min_python"]}' and 'Apache-2.0' in (meta['License-Expression'] or meta['License'])
    assert meta['Description-Content-Type'] == 'text/markdown' and meta.get_payload().startswith('# colorize_fastai')
    assert {Requirement(r).name for r in cfg['requirements'].split()} < {Requirement(r).name for r in meta.get_all('Requires-Dist')}

def test_version_stands_once():
    assert version(cfg['lib_name']) == cfg['version'], 'install the project again: pip install -e .'
    texts = {f: (root/f).read_text(encoding='utf-8') for f in ('setup.py', 'pyproject.toml', 'README.md', 'colorize_fastai/__init__.py')}
    assert [f for f,t in texts.items() if re.search(rf'(?<![\d.]){re.escape(cfg["version"])}(?![\d.])', t)] == []
    assert f'## [{cfg["version"]}]' in (root/'CHANGELOG.md').read_text(encoding='utf-8')

def replaced(reqs, env):
    "Requirements in `reqs` that would make pip replace what `env` (name -> version) holds"
    return [str(r) for r in map(Requirement, reqs) if r.name.lower() in env and not r.specifier.contains(env[r.name.lower()])]

def test_colab_keeps_its_libraries(meta):
    run = [r for r in meta.get_all('Requires-Dist') if 'extra ==' not in r]
    assert replaced(run, colab) == [] and SpecifierSet(meta['Requires-Python']).contains('3.12')

def test_a_replaced_library_is_seen(): assert replaced(['fastai>=2.8.12', 'torch>=2.6', 'tqdm'], colab) == ['fastai>=2.8.12']

def test_installed_elsewhere(installed, tmp_path):
    site, env = installed
    code = 'import colorize_fastai as c; print(c.__file__, c.__version__)'
    assert sh(sys.executable, '-c', code, cwd=tmp_path, env=env).split() == [str(site/'colorize_fastai'/'__init__.py'), cfg['version']]

@pytest.mark.parametrize('cmd', [c.split('=')[0] for c in cfg['console_scripts'].split()])
def test_commands_help(installed, tmp_path, cmd):
    site, env = installed
    assert 'usage' in sh(site/'bin'/cmd, '--help', cwd=tmp_path, env=env).lower()

def test_a_photo_is_colored(installed, tmp_path):
    "The installed command, with the packaged weights, on a grey photo that stands nowhere near the checkout"
    site, env = installed
    photo = Image.radial_gradient('L').resize((96, 64))
    photo.save(tmp_path/'grey.png')
    sh(site/'bin'/'colorize', 'grey.png', '-o', 'out', cwd=tmp_path, env=env)
    res, = [Image.open(p) for p in (tmp_path/'out').rglob('*') if p.is_file()]
    assert res.size == photo.size and res.mode == 'RGB'
    r, g, b = res.split()
    assert max(ImageChops.difference(r, g).getextrema()[1], ImageChops.difference(g, b).getextrema()[1]) > 0, 'the result is grey'

readme = (root/'README.md').read_text(encoding='utf-8')

def images(d): return [p for p in d.rglob('*') if p.suffix.lower() in ('.jpg', '.jpeg', '.png')]

def test_readme_first_command(installed, tmp_path):
    site, env = installed
    install, cmd = re.search(r'^(pip install \.) && (colorize --samples .*)$', readme, re.M).groups()
    sh('bash', '-c', cmd, cwd=tmp_path, env=dict(env, PATH=f'{site}/bin:{env["PATH"]}'))
    assert len(images(tmp_path/'colorized')) > 1

@pytest.mark.parametrize('code', [c for c in re.findall(r'^```python\n(.*?)^```', readme, re.M|re.S) if c[0] not in '%!'])
def test_readme_python(installed, tmp_path, code):
    site, env = installed
    sh(sys.executable, '-c', code, cwd=tmp_path, env=env)
    assert images(tmp_path)
