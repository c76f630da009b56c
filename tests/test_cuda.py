"What only a GPU can show: `pytest -n 0 -m cuda tests/test_cuda.py`."
import numpy as np, pandas as pd, pytest, torch
from conftest import save_crops
from colorize_fastai import run as room
from colorize_fastai.adversarial import AdversarialTrainer
from colorize_fastai.train import resume, train
from colorize_fastai.color import from_L_ab, to_L_ab
from colorize_fastai.data import colorize_dls
from colorize_fastai.discriminator import PatchDiscriminator
from colorize_fastai.evaluate import Judge, compare, grey
from colorize_fastai.generator import unet_generator
from colorize_fastai.photo import sample_photos
from colorize_fastai.machine import OutOfMemory, best_precision
from colorize_fastai.pretrain import colorize_learner
from colorize_fastai.train import pretrain
from test_resume import Crash, crash_at, differ, end
from colorize_fastai.weights import load_generator

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA GPU')]
NET = dict(encoder='resnet18', pretrained=False, channels=(32, 16, 16, 16))

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('photos')
    save_crops(root, 4, side=200, size=80, photos=5)
    return root

def dls_of(folder, device='cuda', **kw): return colorize_dls(folder, **{**dict(size=64, bs=4, valid_pct=.2, num_workers=2, device=device, verbose=False), **kw})

def test_color_is_the_same_on_the_gpu():
    rgb = torch.rand(4, 3, 64, 64)
    for a, b in zip(to_L_ab(rgb), to_L_ab(rgb.cuda())): assert b.is_cuda and (a - b.cpu()).abs().max() < 1e-5
    L, ab = to_L_ab(rgb)
    assert (from_L_ab(L, 1.5*ab) - from_L_ab(L.cuda(), 1.5*ab.cuda()).cpu()).abs().max() < 1e-3

def test_batches_are_the_same_on_the_gpu(folder):
    for a, b in zip(dls_of(folder, 'cpu').train, dls_of(folder).train, strict=True):
        for p, q in zip(a, b): assert q.is_cuda and (p - q.cpu()).abs().max() < 1e-5

@pytest.mark.parametrize('precision', ['fp32', 'bf16', 'fp16', 'auto'])
def test_it_learns_in_every_precision(folder, precision):
    torch.manual_seed(0)
    dls = dls_of(folder)
    learn = colorize_learner(dls, precision=precision, metrics=[], **NET)
    seen = set()
    learn.model.head.register_forward_hook(lambda m, i, o: seen.add(o.dtype))
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(30, 5e-3)
        loss, grey = learn.validate(dl=dls.train)[0], torch.cat([ab for _, ab in dls.train]).abs().mean().item()
    assert loss < .8*grey
    want = best_precision('cuda') if precision == 'auto' else precision
    assert seen == {dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)[want]}

def test_weights_trained_on_the_gpu_load_on_the_cpu(folder, tmp_path):
    learn = pretrain(dls_of(folder), tmp_path, epochs=1, precision='fp32', metrics=[], progress=False, **NET)
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad(): assert (load_generator(tmp_path)(x) - learn.model.eval()(x.cuda()).cpu()).abs().max() < 1e-2

@pytest.mark.parametrize('name', ['quick', 'tutorial', 'pix2pix'])
def test_both_stages_on_the_gpu(folder, tmp_path, name):
    "Trained there, with the nets and precisions of the presets, and used on the CPU"
    kw = dict(size=64, bs=4, pretrained=False, adversarial_epochs=1, every=2, valid_pct=.2, num_workers=2, device='cuda', verbose=False, progress=False)
    run = train(folder, tmp_path/'run', name, **kw, **({} if name == 'pix2pix' else dict(pretrain_epochs=1)))
    log = pd.read_csv(run/'metrics.csv').query('stage == "adversarial"').dropna(axis=1, how='all')
    assert log.notna().all().all() and any((run/'samples').iterdir())
    assert load_generator(run)(torch.zeros(1, 1, 64, 64)).isfinite().all()

def test_the_steps_are_the_same_on_the_gpu(folder):
    "Three steps of both nets in float32 lose what they lose on the CPU, but for rounding"
    losses = []
    for device in ('cpu', 'cuda'):
        torch.manual_seed(0)
        dls = dls_of(folder, device)
        t = AdversarialTrainer(unet_generator(**NET).train(), PatchDiscriminator(16).train(), dls, precision='fp32')
        dls.train.set_epoch(0)
        losses.append(torch.tensor([[v.item() for v in t.step(*b).values()] for _,b in zip(range(3), dls.train)]))
    assert losses[0].shape == (3, 3) and (losses[0] - losses[1]).abs().max() < 2e-2

def test_the_judge_on_the_gpu(folder):
    "It says the same there as on the CPU"
    judges = [Judge('tf_efficientnet_lite1', device=d) for d in ('cpu', 'cuda')]
    a, b = (compare(dict(grey=grey()), folder, size=64, judge=j).set_index('file') for j in judges)
    assert (a['agree[tf_efficientnet_lite1]'] == b['agree[tf_efficientnet_lite1]']).mean() > .9
    assert a.attrs['pooled']['grey']['frechet[tf_efficientnet_lite1]'] == pytest.approx(b.attrs['pooled']['grey']['frechet[tf_efficientnet_lite1]'], rel=.05)

def test_colorizer_on_the_gpu():
    from colorize_fastai.inference import Colorizer
    photo = sample_photos()['astronaut']
    a, b = (np.asarray(Colorizer(device=d)(photo)).astype(int) for d in ('cpu', 'cuda'))
    assert np.abs(a - b).max() <= 8 and np.abs(a - b).mean() < .5

@pytest.mark.parametrize('precision', ['fp32', 'bf16', 'fp16'])
def test_resumed_on_the_gpu(folder, tmp_path, monkeypatch, precision):
    "Under deterministic algorithms (and CUBLAS_WORKSPACE_CONFIG=:4096:8) a training that was cut off in each stage becomes the one that was not, to the last bit"
    monkeypatch.setattr(room.Run, 'share', 1e12)
    kw = dict(size=64, bs=4, encoder='resnet18', pretrained=False, pretrain_epochs=2, adversarial_epochs=2, valid_pct=.2, num_workers=2, device='cuda', verbose=False,
              progress=False, minutes=0, precision=precision)
    torch.use_deterministic_algorithms(True)
    try:
        train(folder, tmp_path/'whole', 'quick', **kw)
        for i,n in enumerate((3, 15)):
            with monkeypatch.context() as m, pytest.raises(Crash):
                crash_at(m, n)
                resume(tmp_path/'run', progress=False) if i else train(folder, tmp_path/'run', 'quick', **kw)
        resume(tmp_path/'run', progress=False)
    finally: torch.use_deterministic_algorithms(False)
    assert differ(end(tmp_path/'whole'), end(tmp_path/'run')) == []

def test_out_of_memory_on_the_gpu(folder):
    "A process that may take a gigabyte: the batch does not fit, what the message names does, and what 'auto' finds"
    dls = dls_of(folder, size=256, load_size=256, bs=16)
    torch.cuda.set_per_process_memory_fraction(2**30/torch.cuda.get_device_properties(0).total_memory)
    try:
        learn = lambda micro_bs: colorize_learner(dls, precision='fp32', metrics=[], micro_bs=micro_bs, encoder='resnet18', pretrained=False, decoder='dynamic')
        with pytest.raises(OutOfMemory, match='at a time fit') as e, (l := learn(None)).no_bar(), l.no_logging(): l.fit(1)
        for micro_bs in (int(str(e.value).split('; ')[1].split()[0]), 'auto'):
            with (l := learn(micro_bs)).no_bar(), l.no_logging(): l.fit(1)
            assert 1 <= l.micro_bs < 16
        t = AdversarialTrainer(l.model, PatchDiscriminator(70), dls, precision='fp32', micro_bs='auto')
        t.fit(1, progress=False)
        assert 1 <= t.micro_bs < 16
    finally: torch.cuda.set_per_process_memory_fraction(1.)
