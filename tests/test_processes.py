"""Several processes train as one would; and one in parts as in one piece."""
import json, os, shutil, signal, subprocess, sys, time
from pathlib import Path
import pandas as pd, pytest
import processes
from conftest import save_crops
from colorize_fastai.train import resume
from colorize_fastai.run import Run, RunError
from test_resume import differ, end

LAUNCH = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
here = Path(__file__).parent

@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    "25 photos: 18 to train on, three batches of 6, and 7 to validate on, the last of them for one process alone"
    d = tmp_path_factory.mktemp('photos')
    save_crops(d, 5, photos=5)
    return d

def start(*args):
    return subprocess.Popen([*LAUNCH, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                            env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''})

def run(*args):
    p = start(*args)
    out, err = p.communicate(timeout=300)
    assert p.returncode == 0, err[-3000:]
    return out, err

@pytest.fixture(scope='module')
def steps(photos, tmp_path_factory):
    d = tmp_path_factory.mktemp('steps')
    processes.steps(photos, d, 'alone=none', 'parts=4')
    run(here/'processes.py', 'steps', photos, d, 'two=none', 'both=2')
    return lambda name: json.loads((d/name).read_text())

@pytest.fixture(scope='module')
def two_runs(photos, tmp_path_factory):
    "Their folder, and what was said"
    d = tmp_path_factory.mktemp('runs')
    return d, run(here/'processes.py', 'train', photos, d)[1]

@pytest.fixture(scope='module')
def alone(steps): return steps('alone')

def near(a, b, tol):
    a, b = pd.DataFrame(a).drop(columns='seconds', errors='ignore'), pd.DataFrame(b).drop(columns='seconds', errors='ignore')
    assert a.shape == b.shape and len(a) and (a - b).abs().max().max() <= tol, (a - b).abs().max()

@pytest.mark.parametrize('name,n', [('two', 2), ('parts', 1), ('both', 2)])
def test_losses_are_those_of_one(alone, steps, name, n):
    "Instance normalization, the same batches: the same losses over 21 steps of each stage, but for rounding, and the same measurements"
    other = steps(name)
    for k in ('one', 'two', 'rows', 'valid'): near(alone[k], other[k], 1e-4 if k in ('one', 'two') else 5e-3)
    assert len(set(other['weights'])) == 1 and len(other['weights']) == n # bit for bit the same in every process

def test_shares(steps, alone):
    "Each photo is seen once an epoch, by one process"
    assert alone['sizes'] == [18, 7]
    for n,parts in zip(alone['sizes'], zip(*steps('two')['shares'])): assert sorted(sum(parts, [])) == list(range(n))

@pytest.mark.slow
@pytest.mark.parametrize('signal_to', [os.killpg, os.kill], ids=['all', 'launcher']) # to all: then it hands on what they have heard already
def test_a_run_of_two(two_runs, tmp_path, signal_to):
    "Stopped in the midst of each stage and resumed, it is the run that would have been, to the last bit; a single process may not go on with it"
    folder, err = two_runs
    said, saved = 'and saved: colorize-train --resume {}', Run(shutil.copytree(folder/'run', tmp_path/'run'))
    assert all(f'rank {r}: stopped in epoch 1' in err for r in (0, 1)) and err.count(said.format(folder/'run')) == 2, err[-3000:]
    assert saved.checkpoints()[-1].name.startswith('1-') and not saved.checkpoints('adversarial')
    p = start(here/'processes.py', 'resume', tmp_path)
    while not saved.checkpoints('adversarial') and p.poll() is None: time.sleep(.01)
    signal_to(p.pid, signal.SIGTERM)
    out, err = p.communicate(timeout=120)
    assert p.returncode and said.format(tmp_path/'run') in err and saved.checkpoints()[-1].name.startswith('2-'), err[-3000:]
    with pytest.raises(RunError, match=r'begun with processes 2 \(now 1\)'): resume(tmp_path/'run', progress=False)
    run(here/'processes.py', 'resume', tmp_path)
    assert differ(end(folder/'whole'), end(tmp_path/'run')) == []

@pytest.mark.slow
def test_the_command_in_two_processes(photos, tmp_path):
    "The very command; the main process alone speaks and writes"
    args = '--preset quick --scratch --size 32 --bs 4 --pretrain-epochs 1 --adversarial-epochs 1 --valid-pct .28'.split()
    p = subprocess.run([*LAUNCH, '--no-python', Path(sys.executable).with_name('colorize-train'), photos, '--out', tmp_path/'run', *args],
                       capture_output=True, text=True, timeout=300, env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''})
    assert p.returncode == 0, p.stderr[-3000:]
    for said in ('25 photos: 18 to train on, 7 to validate on', 'epoch 1  train_loss', 'epoch 1  d 0.', 'trained →'): assert p.stdout.count(said) == 1, p.stdout
    assert pd.read_csv(tmp_path/'run'/'metrics.csv').stage.tolist() == ['pretrain', 'adversarial'] and (tmp_path/'run'/'results.png').exists()

def test_too_few_photos_for_all(steps):
    for said in steps('two')['one_photo']: assert 'cannot be shared by 2 processes' in said
