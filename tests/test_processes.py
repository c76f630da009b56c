"""Several processes train as one would; and one in parts as in one piece."""
import json, os, signal, subprocess, sys, time
from pathlib import Path
import pandas as pd, pytest
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

def start(*args, processes=1):
    launch = LAUNCH if processes > 1 else [sys.executable]
    return subprocess.Popen([*launch, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                            env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''})

def run(*args, **kwargs):
    p = start(*args, **kwargs)
    out, err = p.communicate(timeout=300)
    assert p.returncode == 0, err[-3000:]
    return out, err

@pytest.fixture(scope='module')
def steps(photos, tmp_path_factory):
    d = tmp_path_factory.mktemp('steps')
    def _steps(name, processes=1, *args):
        if not (d/name).exists(): run(here/'processes.py', 'steps', photos, d/name, *args, processes=processes)
        return json.loads((d/name).read_text())
    return _steps

@pytest.fixture(scope='module')
def alone(steps): return steps('alone')

def near(a, b, tol):
    a, b = pd.DataFrame(a).drop(columns='seconds', errors='ignore'), pd.DataFrame(b).drop(columns='seconds', errors='ignore')
    assert a.shape == b.shape and len(a) and (a - b).abs().max().max() <= tol, (a - b).abs().max()

@pytest.mark.parametrize('name,processes,micro', [('two', 2, ()), ('parts', 1, (4,)), ('both', 2, (2,))])
def test_losses_are_those_of_one(alone, steps, name, processes, micro):
    "Instance normalization, the same batches: the same losses over 21 steps of each stage, but for rounding, and the same measurements"
    other = steps(name, processes, *micro)
    for k in ('one', 'two', 'rows', 'valid'): near(alone[k], other[k], 1e-4 if k in ('one', 'two') else 5e-3)
    assert len(set(other['weights'])) == 1 and len(other['weights']) == processes # bit for bit the same in every process

def test_shares(steps, alone):
    "Each photo is seen once an epoch, by one process"
    assert alone['sizes'] == [18, 7]
    for n,parts in zip(alone['sizes'], zip(*steps('two', 2)['shares'])): assert sorted(sum(parts, [])) == list(range(n))

def test_a_run_of_two(photos, tmp_path):
    "Stopped in the midst of each stage and resumed, it is the run that would have been, to the last bit; a single process may not go on with it"
    run(here/'processes.py', 'train', photos, tmp_path/'whole', processes=2)
    for stage in ('1-', '2-'):
        p = start(here/'processes.py', 'train', photos, tmp_path/'run', processes=2)
        while not list((tmp_path/'run'/'checkpoints').glob(stage + '*')) and p.poll() is None: time.sleep(.01)
        os.kill(p.pid, signal.SIGTERM) if stage == '1-' else os.killpg(p.pid, signal.SIGTERM) # to the launcher, or to all: then it hands on what they have heard already
        out, err = p.communicate(timeout=120)
        assert p.returncode and f'and saved: colorize-train --resume {tmp_path/"run"}' in err, err[-3000:]
        assert Run(tmp_path/'run').checkpoints()[-1].name.startswith(stage)
    with pytest.raises(RunError, match=r'begun with processes 2 \(now 1\)'): resume(tmp_path/'run', progress=False)
    run(here/'processes.py', 'train', photos, tmp_path/'run', processes=2)
    assert differ(end(tmp_path/'whole'), end(tmp_path/'run')) == []

def test_the_command_in_two_processes(photos, tmp_path):
    "The very command; the main process alone speaks and writes"
    args = '--preset quick --scratch --size 32 --bs 4 --pretrain-epochs 1 --adversarial-epochs 1 --valid-pct .28'.split()
    p = subprocess.run([*LAUNCH, '--no-python', Path(sys.executable).with_name('colorize-train'), photos, '--out', tmp_path/'run', *args],
                       capture_output=True, text=True, timeout=300, env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''})
    assert p.returncode == 0, p.stderr[-3000:]
    for said in ('25 photos: 18 to train on, 7 to validate on', 'epoch 1  train_loss', 'epoch 1  d 0.', 'trained →'): assert p.stdout.count(said) == 1, p.stdout
    assert pd.read_csv(tmp_path/'run'/'metrics.csv').stage.tolist() == ['pretrain', 'adversarial'] and (tmp_path/'run'/'results.png').exists()

def test_too_few_photos_for_all(photos, tmp_path):
    p = start(here/'processes.py', 'train', next(photos.iterdir()), tmp_path/'run', processes=2)
    out, err = p.communicate(timeout=120)
    assert p.returncode and 'cannot be shared by 2 processes' in err
