"The two-player loop: who learns when, what it must leave alone, and what it leaves behind."
import re
import pandas as pd, pytest, torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from conftest import save_crops
from colorize_fastai import train as training
from colorize_fastai.adversarial import AdversarialTrainer, frozen
from colorize_fastai.callbacks import ChannelsLast, EMA, SampleGrid, SaveRun
from colorize_fastai.train import preset, train, train_adversarial
from colorize_fastai.color import from_L_ab
from colorize_fastai.data import colorize_dls
from colorize_fastai.discriminator import PatchDiscriminator, norms
from colorize_fastai.generator import pix2pix_generator, unet_generator
from colorize_fastai.metrics import psnr
from colorize_fastai.photo import PhotoError, read_rgb, sample_photos
from colorize_fastai.run import Run
from colorize_fastai.weights import load_generator, load_net, save_weights, weights_info

@pytest.fixture(scope='module')
def dls(tmp_path_factory):
    root = tmp_path_factory.mktemp('photos')
    save_crops(root, 2, step=60, side=200, size=48, photos=5)
    return colorize_dls(root, size=32, bs=2, valid_pct=.3, num_workers=0, device='cpu', verbose=False)

def small_unet(): return unet_generator('test_efficientnet', pretrained=False, channels=(16, 16, 8, 8))
def generator(): return pix2pix_generator(n_features=4, levels=4)
def discriminator(**kw): return PatchDiscriminator(**{**dict(patch=16, n_features=4), **kw})
def trainer(dls, G=None, D=None, **kw):
    torch.manual_seed(0)
    dls.train.set_epoch(0)
    return AdversarialTrainer(G or generator(), D or discriminator(), dls, **{**dict(precision='fp32'), **kw})
def batch(n=2, size=32): return torch.rand(n, 1, size, size)*2 - 1, torch.randn(n, 2, size, size)*.3
def state(net): return [v.clone() for v in net.state_dict().values()]
def same(a, b): return all(map(torch.equal, a, b))

# Who learns when

@pytest.mark.parametrize('norm', norms)
@pytest.mark.parametrize('gan', ['bce', 'lsgan', 'hinge'])
def test_each_step_moves_one_net(dls, norm, gan):
    t = trainer(dls, D=discriminator(norm=norm), gan=gan)
    G, D, (L, ab) = t.generator.train(), t.discriminator.train(), batch()
    fake = G(L)
    g, d = state(G), state(D)
    t.d_step(L, ab, fake)
    assert same(state(G), g) and not same(state(D), d) and all(p.grad is None for p in G.parameters())
    d, grads = state(D), [p.grad.clone() for p in D.parameters()]
    t.g_step(L, ab, fake)
    assert same(state(D), d) and not same(state(G), g) and same([p.grad for p in D.parameters()], grads)

def test_one_forward_of_the_generator_a_step(dls):
    t, n = trainer(dls), []
    t.generator.register_forward_hook(lambda *a: n.append(1))
    t.step(*batch())
    assert len(n) == 1

def flops(f):
    with FlopCounterMode(display=False) as count: f()
    return count.get_total_flops()

@pytest.mark.parametrize('norm', ['batch', 'instance', 'none']) # spectral normalization multiplies, too
def test_nothing_is_computed_and_thrown_away(dls, norm):
    "G's convolutions: once forward and once each way back; D's: 3 times forward, 3 back to the input, 2 to the weights; no gradient of the photo"
    t, (L, ab) = trainer(dls, D=discriminator(norm=norm)), batch()
    G, D = t.generator.train(), t.discriminator.train()
    first = flops(lambda: G.down[0](L)) + 2*flops(lambda: D.net[0](torch.cat([L, ab], 1)))
    assert flops(lambda: t.step(L, ab)) == 3*flops(lambda: G(L)) + 8*flops(lambda: D(L, ab)) - first

def test_lambda_weighs_the_distance(dls):
    "With λ = 0 the truth does not reach the generator"
    torch.manual_seed(3); L, ab = batch()
    after = []
    for sign in (1, -1):
        t = trainer(dls, lambda_l1=0.)
        t.g_step(L, sign*ab, t.generator.eval()(L))
        after.append(state(t.generator))
    assert same(*after)

# As found

def test_modes_and_requires_grad_are_given_back(dls):
    t = trainer(dls, cbs=EMA)
    G, D = t.generator, t.discriminator
    G.train(); G.down[1].eval(); D.eval(); D.net[1].train()
    kept = [G.down[0][0].weight, D.net[0][0].bias]
    for p in kept: p.requires_grad_(False)
    def found(): return [m.training for m in (*G.modules(), *D.modules())], [p.requires_grad for p in (*G.parameters(), *D.parameters())]
    before, values = found(), [p.clone() for p in kept]
    t.fit(1, progress=False)
    assert found() == before and same(kept, values)

def test_given_back_after_an_interrupt(dls):
    def stop(t): raise KeyboardInterrupt
    t = trainer(dls, cbs=type('Stop', (), dict(after_step=lambda self, t: stop(t))))
    t.generator.eval(); t.discriminator.eval()
    with pytest.raises(KeyboardInterrupt): t.fit(1, progress=False)
    assert not any(m.training for net in (t.generator, t.discriminator) for m in net.modules())
    assert all(p.requires_grad for p in t.discriminator.parameters()) and not torch.is_autocast_enabled('cpu')

def test_frozen_gives_back_after_an_error():
    D = discriminator()
    with pytest.raises(RuntimeError), frozen(D): D(*batch()); raise RuntimeError
    assert all(p.requires_grad for p in D.parameters()) and D.net[1][1].num_batches_tracked == 0

# The loop

class Reads(TorchDispatchMode):
    "Counts how often a tensor is asked for its value"
    n = 0
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.n += 'local_scalar_dense' in str(func)
        return func(*args, **(kwargs or {}))

def test_the_loop_does_not_wait_for_the_device(dls):
    seen = []
    t = trainer(dls, cbs=type('Count', (), dict(after_step=lambda self, t: seen.append(reads.n))))
    for opt in (t.g_opt, t.d_opt): opt.optimizer.step = lambda closure=None: None # Adam counts its steps on the processor
    with Reads() as reads: t.step(*batch())
    assert reads.n == 0
    with Reads() as reads: t.fit(1, progress=False)
    assert len(seen) == len(dls.train) > 1 and len(set(seen)) == 1 and reads.n > seen[0] # at the end of the epoch it may

def test_history(dls):
    t = trainer(dls)
    df = t.fit(2, progress=False)
    assert list(df) == ['epoch', 'd', 'gan', 'l1', 'valid_l1', 'psnr', 'ssim', 'delta_e', 'color_ratio', 'seconds']
    assert df.epoch.tolist() == [1, 2] and df.notna().all().all()
    L, ab = (torch.cat(o) for o in zip(*dls.valid))
    want = psnr(from_L_ab(L, t.predict(L)), from_L_ab(L, ab)).mean()
    assert df.psnr.iloc[-1] == pytest.approx(want.item(), abs=1e-3)
    assert df.valid_l1.iloc[-1] == pytest.approx((t.predict(L) - ab).abs().mean().item(), abs=1e-5)

def test_losses_are_means_over_the_epoch(dls):
    t, seen = trainer(dls), []
    t.cbs.append(type('See', (), dict(after_step=lambda self, t: seen.append(t.losses())))())
    step, each = t.step, []
    t.step = lambda L, ab: each.append(step(L, ab)) or each[-1]
    df = t.fit(1, progress=False)
    for k in ('d', 'gan', 'l1'):
        assert df[k][0] == pytest.approx(torch.stack([e[k] for e in each]).mean().item(), rel=1e-5)
        assert seen[1][k] == pytest.approx((each[0][k] + each[1][k]).item()/2, rel=1e-5)

@pytest.mark.parametrize('where', [lambda n: n + 1, lambda n: 2*n, lambda n: 'valid'], ids=['early', 'last', 'valid'])
def test_goes_on_exactly_after_an_interrupt(dls, where):
    "The batches and losses of two epochs, and of two epochs with an interrupt in the second, are the same"
    def batches(stop_at):
        seen, stopped = [], []
        class Stop:
            def after_step(self, t):
                if t.steps == stop_at: raise KeyboardInterrupt
            def before_valid(self, t):
                if stop_at == 'valid' and t.epoch == 1 and not stopped: stopped.append(1); raise KeyboardInterrupt
        t = trainer(dls, cbs=Stop)
        step = t.step
        t.step = lambda L, ab: seen.append(ab) or step(L, ab)
        if stop_at:
            with pytest.raises(KeyboardInterrupt): t.fit(2, progress=False)
            t.fit(2 - t.epoch, progress=False)
        else: t.fit(2, progress=False)
        return seen, t
    (a, t), (b, u) = batches(0), batches(where(len(dls.train)))
    assert len(a) == 2*len(dls.train) and all(torch.equal(x, y) for x,y in zip(a, b, strict=True))
    assert (u.epoch, u.batch) == (2, 0) == (t.epoch, t.batch)
    pd.testing.assert_frame_equal(t.history.drop(columns='seconds'), u.history.drop(columns='seconds'))

def test_no_number_any_more(dls):
    t = trainer(dls)
    with torch.no_grad(): t.generator.head[1].bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match='lower lr'): t.fit(1, progress=False)

def test_no_validation_photos(tmp_path):
    for k, f in sample_photos().items(): read_rgb(f).resize((48, 48)).save(tmp_path/f'{k}.png')
    t = trainer(colorize_dls(tmp_path, size=32, bs=2, valid_pct=0, num_workers=0, device='cpu', verbose=False), cbs=SampleGrid(1))
    assert list(t.fit(1, progress=False)) == ['epoch', 'd', 'gan', 'l1', 'seconds']

def test_it_learns(dls):
    "On photos it may learn by heart, the generator comes nearer to the truth, against whatever discriminator"
    t = trainer(dls, pix2pix_generator(n_features=16, levels=4), lr=1e-3)
    before = t.validate()['valid_l1']
    assert t.fit(12, progress=False).l1.iloc[-3:].mean() < .8*t.history.l1[0] and t.validate()['valid_l1'] < before

def test_other_distances(dls):
    assert 'smooth_l1' in trainer(dls, pixel='smooth_l1').fit(1, progress=False)
    t = trainer(dls, pixel='l2')
    t.fit(1, progress=False); t.plot_history()

# Precision

def test_precision_is_what_it_says(dls):
    for precision, dtype in (('bf16', torch.bfloat16), ('fp32', torch.float32), ('bf16', torch.bfloat16)):
        t, seen = trainer(dls, precision=precision), set()
        for net in (t.generator.down[1], t.discriminator.net[1]): net.register_forward_hook(lambda m, i, o: seen.add(o.dtype))
        losses = t.step(*batch())
        assert seen == {dtype} and t.predict(batch()[0]).dtype == torch.float32 and all(v.dtype == torch.float32 for v in losses.values())

def test_another_precision_is_not_taken_silently(dls):
    t = trainer(dls)
    trainer(dls, precision='bf16').step(*batch())
    with pytest.raises(RuntimeError, match="made for fp32.*'bf16'.*anew"): t.step(*batch())

@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA GPU')
@pytest.mark.parametrize('precision', ['fp32', 'bf16', 'fp16'])
def test_on_the_gpu(dls, tmp_path, precision):
    gpu = colorize_dls(dls.root, size=32, bs=2, valid_pct=.3, num_workers=0, device='cuda', verbose=False)
    t = trainer(gpu, pix2pix_generator(n_features=16, levels=4), precision=precision, lr=1e-3, cbs=[EMA(.5), ChannelsLast(), SaveRun(tmp_path)])
    df = t.fit(12, progress=False)
    assert df.l1.iloc[-1] < df.l1[0]
    L, _ = batch()
    with torch.no_grad(): assert (load_generator(tmp_path)(L) - t.predict(L.cuda()).cpu()).abs().max() < .05

def test_unknown_names(dls):
    for kw, match in [(dict(precision='fp8'), "'fp8'.*'auto', 'fp32'"), (dict(gan='wgan'), "'wgan'.*bce"), (dict(pixel='l7'), "'l7'.*l1")]:
        with pytest.raises(ValueError, match=match): trainer(dls, **kw)
    with pytest.raises(ValueError, match=r"after_backward.*'after_batch'"): trainer(dls, cbs=type('Odd', (), dict(after_backward=print)))
    with pytest.raises(ValueError, match="'after_batch'"): trainer(dls, cbs=3)

# Callbacks

def test_callbacks_come_in_their_order(dls, tmp_path):
    "SaveRun, named before EMA, resumes all the same; both fastai's names of events and the former ones are heard"
    heard = []
    class Cut:
        order = 99
        def before_epoch(self, t): heard.append('before_epoch')
        def after_batch(self, t): heard.append('after_batch')
        def after_step(self, t): heard.append('after_step')
        def after_validate(self, t): heard.append('after_validate')
        def after_epoch(self, t):
            if t.epoch == 1: raise KeyboardInterrupt
    def fresh(folder, *more):
        torch.manual_seed(0); dls.train.set_epoch(0)
        return trainer(dls, small_unet(), cbs=[SaveRun(Run(tmp_path/folder, minutes=0)), EMA(.9), *more])
    whole = fresh('whole')
    whole.fit(2, progress=False)
    with pytest.raises(KeyboardInterrupt): fresh('cut', Cut()).fit(2, progress=False)
    assert heard == ['before_epoch', *['after_batch', 'after_step']*len(dls.train), 'after_validate']
    resumed = fresh('cut')
    resumed.fit(2, progress=False, resume=True)
    assert same(state(whole.generator), state(resumed.generator))

def test_ema_is_the_average(dls):
    raw, valid = [], []
    class See:
        def after_step(self, t): raw.append(t.generator.head[1].weight.clone())
        def after_valid(self, t): valid.append(t.generator.head[1].weight.clone())
    t = trainer(dls, lr=1e-2, cbs=[ema := EMA(.3), See])
    avg, want = t.generator.head[1].weight.clone(), []
    t.fit(2, progress=False)
    n = len(dls.train)
    assert 4/13 > .3 > 3/12 and 2*n > 4 # both kinds of steps: the average is shorter at first
    for i,w in enumerate(raw):
        decay = min(.3, (i + 1)/(i + 10))
        avg = decay*avg + (1 - decay)*w
        if i in (n-1, 2*n-1): want.append(avg)
    for v,w in zip(valid, want, strict=True): torch.testing.assert_close(v, w)
    torch.testing.assert_close(t.generator.head[1].weight.data, want[1].data) # the average stays in the generator
    assert not torch.equal(raw[-1], want[1])
    assert ema.inside

def test_the_average_is_laid_out_as_the_weights(dls, tmp_path):
    "Otherwise averaging takes four times as long"
    seen = []
    class See:
        def after_step(self, t): seen.extend(zip(t.cbs[2].avg, t.cbs[2].now(t)))
    t = train_adversarial(dls, small_unet(), tmp_path, epochs=1, patch=16, n_features=4, ema=.9, precision='fp32', progress=False, cbs=See)
    assert isinstance(t.cbs[2], EMA) and seen and all(a.stride() == v.stride() for a,v in seen)
    assert any(a.ndim == 4 and not a.is_contiguous() for a,_ in seen)

def test_sample_grids_show_validation_photos(dls, tmp_path):
    t = trainer(dls, cbs=(grid := SampleGrid(2, tmp_path/'samples', n=2)))
    t.fit(1, progress=False)
    assert sorted(p.name for p in (tmp_path/'samples').iterdir()) == [f'{i:07d}.jpg' for i in range(2, len(dls.train) + 1, 2)]
    assert same(grid.photos, [o[:2] for o in dls.valid.one_batch()])

def test_sample_grids_show_the_average(dls, monkeypatch):
    "With EMA, what is shown is what will be saved; training goes on with the weights as they were"
    t, seen = trainer(dls, lr=1e-2, cbs=[ema := EMA(.9), SampleGrid(1)]), []
    monkeypatch.setattr(type(dls.valid), 'show_results', lambda self, b, out, **kw: seen.append(out))
    monkeypatch.setattr('matplotlib.pyplot.show', lambda: None)
    class See:
        order = 50 # after SampleGrid
        def after_step(self, t):
            raw = state(t.generator)
            ema.before_sample(t)
            assert torch.equal(seen[-1], t.predict(t.cbs[1].photos[0]))
            ema.after_sample(t)
            assert same(raw, state(t.generator)) and not torch.equal(seen[-1], t.predict(t.cbs[1].photos[0]))
    t.cbs.append(See())
    t.fit(1, progress=False)
    assert len(seen) == len(dls.train)

def test_functions_are_called_after_every_epoch(dls):
    seen = []
    trainer(dls, cbs=[lambda t: seen.append(t.rows[-1]['epoch'])]).fit(2, progress=False)
    assert seen == [1, 2]

def test_channels_last_changes_nothing_but_the_layout(dls):
    L, ab = batch()
    losses = []
    for cb in (None, ChannelsLast()):
        torch.manual_seed(0)
        t = trainer(dls, small_unet())
        if cb: cb.before_fit(t)
        losses.append(torch.stack(list(t.step(L, ab).values())))
    assert t.generator.head.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(*losses, atol=1e-4, rtol=1e-4)

@pytest.mark.parametrize('bar', [True, False])
def test_progress(dls, bar, capsys, monkeypatch):
    clock = iter(range(0, 10**9, 100))
    monkeypatch.setattr('colorize_fastai.adversarial.time', type('time', (), dict(time=lambda: next(clock))))
    trainer(dls).fit(2, progress=bar)
    out = capsys.readouterr().out
    rows = [l for l in out.splitlines() if re.match(r'epoch [12]  d [\d.]+ .*color_ratio .*left', l.split('\r')[-1])]
    assert len(rows) == 2 and rows[-1].endswith('left 00:00')
    if not bar: assert out.count(f'batch 1/{len(dls.train)}') == 2 and '\r' not in out and re.search(r'left \d+:\d\d', out)

# The run directory

def test_run_directory(dls, tmp_path):
    torch.manual_seed(0)
    t = train_adversarial(dls, small_unet(), tmp_path/'run', epochs=2, patch=16, n_features=8, every=3, precision='fp32', progress=False, gan='lsgan')
    assert t.discriminator.net[0][0].out_channels == 8
    names = {p.relative_to(tmp_path/'run').as_posix() for p in (tmp_path/'run').rglob('*.*') if p.suffix != '.ckpt' and p.name != '.lock'}
    assert names == {'generator.safetensors', 'discriminator.safetensors', 'metrics.csv', 'split.csv', 'config.json'} | {
        f'samples/{i:07d}.jpg' for i in range(3, 2*len(dls.train) + 1, 3)}
    assert len(pd.read_csv(tmp_path/'run'/'metrics.csv')) == 2
    info = weights_info(tmp_path/'run')
    assert (info['stage'], info['epoch'], info['gan'], info['lambda_l1'], info['photos']) == ('adversarial', 2, 'lsgan', 100, len(dls.train_ds))
    for net, back in ((t.generator, load_generator(tmp_path/'run')), (t.discriminator, load_net(tmp_path/'run'/'discriminator.safetensors'))):
        assert same(state(net), state(back))
    again = train_adversarial(dls, tmp_path/'run', tmp_path/'more', epochs=1, patch=16, precision='fp32', progress=False) # from its own weights
    assert again.generator.recipe == t.generator.recipe

def test_an_averaged_generator_is_what_is_saved(dls, tmp_path):
    t = trainer(dls, lr=1e-2, cbs=[EMA(.5), SaveRun(tmp_path)])
    t.fit(1, progress=False)
    assert same(state(load_generator(tmp_path)), state(t.generator))

# Both stages

def test_stage_1_is_kept(dls, tmp_path):
    "Stage 2 in the run directory of stage 1 keeps its generator, and a second stage 2 there is refused"
    with pytest.raises(ValueError, match='epochs must be 1'): train_adversarial(dls, small_unet(), tmp_path/'run', epochs=0)
    save_weights(small_unet(), tmp_path/'run'/'generator.safetensors', stage='pretrain')
    one = (tmp_path/'run'/'generator.safetensors').read_bytes()
    kw = dict(epochs=1, patch=16, precision='fp32', progress=False)
    train_adversarial(dls, tmp_path/'run', tmp_path/'run', **kw)
    two = (tmp_path/'run'/'generator.safetensors').read_bytes()
    assert (tmp_path/'run'/'pretrained.safetensors').read_bytes() == one != two
    with pytest.raises(ValueError, match='trained adversarially.*another --out'): train_adversarial(dls, tmp_path/'run', tmp_path/'run', **kw)
    assert (tmp_path/'run'/'generator.safetensors').read_bytes() == two
    save_weights(small_unet(), tmp_path/'other'/'generator.safetensors', stage='adversarial')
    with pytest.raises(ValueError, match='another --out'): train_adversarial(dls, small_unet(), tmp_path/'other', **kw)

TINY = dict(size=32, bs=4, encoder='test_efficientnet', pretrained=False, pretrain_epochs=1, adversarial_epochs=1, patch=16, progress=False,
            num_workers=0, device='cpu', verbose=False, valid_pct=.3)

def test_train_from_weights_leaves_stage_1_out(dls, tmp_path):
    start = save_weights(small_unet(), tmp_path/'one.safetensors', stage='pretrain')
    run = train(dls.root, tmp_path/'run', generator=start, **TINY)
    assert set(pd.read_csv(run/'metrics.csv').stage) == {'adversarial'} and weights_info(run)['args'] == weights_info(start)['args']
    assert weights_info(run)['sha256'] != weights_info(start)['sha256']

def test_train_stage_1_alone(dls, tmp_path):
    run = train(dls.root, tmp_path/'run', **{**TINY, 'adversarial_epochs': 0})
    assert sorted(p.name for p in run.iterdir() if p.name != '.lock') == ['checkpoints', 'config.json', 'generator.safetensors', 'metrics.csv', 'split.csv']

def test_train_pix2pix(dls, tmp_path, monkeypatch):
    "From scratch, without stage 1, with the noise on; narrower than the preset's, whose 54 million weights take long to write"
    monkeypatch.setattr(training, 'pix2pix_generator', lambda **kw: pix2pix_generator(n_features=4, levels=4, **kw))
    run = train(dls.root, tmp_path/'run', 'pix2pix', **{**TINY, 'pretrain_epochs': None})
    info = weights_info(run)
    assert info['builder'] == 'pix2pix_generator' and info['args']['noise_at_test'] and not (run/'pretrained.safetensors').exists()
    G, L = load_generator(run), batch()[0]
    assert not torch.equal(G(L), G(L))

def test_presets_say_what_the_recipes_say():
    "Shariatnia 2020, and Isola et al. 2017, section 3.3 and appendix 6.2"
    t, p = preset('tutorial'), preset('pix2pix')
    assert [t[k] for k in ('size', 'load_scale', 'resize', 'bs', 'precision', 'encoder', 'decoder')] == [256, 1, 'stretch', 16, 'fp32', 'resnet18', 'dynamic']
    assert [t[k] for k in ('pretrain_epochs', 'lr', 'schedule', 'optimizer')] == [20, 1e-4, 'flat', 'adam']
    game = ('adversarial_lr', 'betas', 'gan', 'pixel', 'lambda_l1', 'patch', 'n_features', 'conditional', 'norm', 'ema')
    assert [t[k] for k in ('adversarial_epochs', *game)] == [20, 2e-4, (.5, .999), 'bce', 'l1', 100, 70, 64, True, 'batch', None]
    assert [p[k] for k in ('net', 'bs', 'pretrain_epochs', 'adversarial_epochs')] == ['pix2pix', 4, 0, 6]
    assert [p[k] for k in game] == [t[k] for k in game]

@pytest.mark.parametrize('kw,match', [(dict(gan='wgan'), 'wgan'), (dict(pixel='l7'), 'l7'), (dict(patch=34), '34'), (dict(patch=286, size=64), 'at least 96'),
    (dict(optimizer='lion'), 'lion.*adamw'), (dict(schedule='cosine'), 'cosine.*one_cycle'), (dict(net='resnet'), "resnet.*'unet', 'pix2pix'"),
    (dict(adversarial_epochs=-1), 'or more'), (dict(pretrain_epochs=0, adversarial_epochs=0), 'Nothing to do'), (dict(lambda_l2=1), 'lambda_l2.*lambda_l1'), (dict(name='best'), 'tutorial')])
def test_wrong_settings_show_before_the_first_epoch(dls, tmp_path, kw, match):
    with pytest.raises(ValueError, match=match): train(dls.root, tmp_path/'run', **{**TINY, **kw})
    assert not (tmp_path/'run').exists()

def test_an_empty_folder_shows_before_the_net_is_built(tmp_path, monkeypatch):
    "Its ImageNet weights may have to be downloaded"
    built = []
    monkeypatch.setattr('colorize_fastai.train.unet_generator', lambda *a: built.append(a))
    for source in (tmp_path, tmp_path/'nowhere'):
        with pytest.raises(PhotoError): train(source, tmp_path/'run')
    assert not built and not (tmp_path/'run').exists()
