"Stage 1 learns, in the precision it says, and leaves what it promises."
import pandas as pd, pytest, torch
from fastai.callback.core import Callback
from conftest import save_crops
from colorize_fastai.data import colorize_dls
from colorize_fastai.generator import unet_generator
from colorize_fastai.pretrain import colorize_learner
from colorize_fastai.losses import colorfulness_loss
from colorize_fastai.train import pretrain
from colorize_fastai.weights import load_generator, weights_info

NET = dict(encoder='test_efficientnet', pretrained=False, channels=(32, 16, 16, 16))

@pytest.fixture(scope='module')
def dls(tmp_path_factory):
    root = tmp_path_factory.mktemp('photos')
    save_crops(root, 2, step=40, side=200, size=80, photos=5)
    return colorize_dls(root, size=64, bs=4, valid_pct=.2, num_workers=0, device='cpu', verbose=False)

def quiet_fit(learn, *args, **kwargs):
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(*args, **kwargs)

@pytest.mark.parametrize('precision', ['fp32', pytest.param('bf16', marks=pytest.mark.slow)]) # a minute, where a processor only imitates bf16
def test_it_learns(dls, precision):
    "The training photos can be learned by heart: the error on them falls well under that of grey"
    torch.manual_seed(0)
    learn = colorize_learner(dls, precision=precision, metrics=[], **NET)
    train = dls.train.new(augment=False, shuffle=False, load_size=64, drop_last=False)
    grey = torch.cat([ab for _, ab in train]).abs().mean().item()
    quiet_fit(learn, 40, 5e-3)
    with learn.no_bar(): loss = learn.validate(dl=train)[0]
    assert loss < .75*grey

def test_same_seed_same_weights(dls):
    nets = []
    for _ in range(2):
        torch.manual_seed(3); dls.train.set_epoch(0)
        learn = colorize_learner(dls, metrics=[], precision='fp32', **NET)
        quiet_fit(learn, 1)
        nets.append(learn.model.state_dict())
    assert all(torch.equal(v, nets[1][k]) for k, v in nets[0].items())

def test_vivid_answers_are_learned_beside_the_safe_ones(dls):
    "and change nothing about those"
    nets = {}
    for head in ('palette', 'vivid'):
        torch.manual_seed(3); dls.train.set_epoch(0)
        learn = colorize_learner(dls, metrics=[], precision='fp32', head=head, **NET)
        quiet_fit(learn, 1)
        nets[head] = {k: v.clone() for k,v in learn.model.state_dict().items()}
    assert all(torch.allclose(v, nets['vivid'][k], rtol=1e-3, atol=1e-5) for k,v in nets['palette'].items())
    quiet_fit(learn, 30, 5e-3)
    L, true = next(iter(dls.train.new(augment=False, shuffle=False, load_size=64, drop_last=False, bs=64)))
    with torch.no_grad(): off = [colorfulness_loss(learn.model.eval()(L, vividness=v), true) for v in (0., 1.)]
    assert off[1] < .8*off[0]

def test_metrics_of_the_epoch_are_photo_metrics(dls):
    learn = colorize_learner(dls, **NET)
    quiet_fit(learn, 1)
    row = dict(zip(learn.recorder.metric_names, [0, *learn.recorder.values[-1]]))
    assert {'psnr', 'ssim', 'delta_e'} <= {k.lower() for k in row}, row
    assert all(torch.tensor(float(v)).isfinite() for v in row.values())

def test_an_interrupt_leaves_no_autocast_behind(dls):
    class Stop(Callback):
        order = 50
        def after_pred(self): raise KeyboardInterrupt
    learn = colorize_learner(dls, metrics=[], precision='bf16', **NET)
    with pytest.raises(KeyboardInterrupt): quiet_fit(learn, 1, cbs=Stop())
    learn2 = colorize_learner(dls, metrics=[], precision='bf16', **NET)
    quiet_fit(learn2, 1)
    assert not torch.is_autocast_enabled('cpu')
    deep = torch.autocast_increment_nesting() # as long as one is open, its copies of the weights are used, however old
    torch.autocast_decrement_nesting()
    assert deep == 1

def test_run_directory(dls, tmp_path, capsys):
    learn = pretrain(dls, tmp_path/'run', epochs=2, progress=False, metrics=[], **NET)
    log = pd.read_csv(tmp_path/'run'/'metrics.csv')
    assert len(log) == 2 and log.valid_loss.notna().all()
    info = weights_info(tmp_path/'run')
    assert (info['epoch'], info['epochs'], info['size'], info['photos']) == (2, 2, 64, len(dls.train_ds))
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad(): assert torch.allclose(load_generator(tmp_path/'run')(x), learn.model.eval()(x), atol=1e-5)
    assert 'epoch 1' in capsys.readouterr().out

def test_schedules_and_optimizers(dls, tmp_path):
    class Rates(Callback):
        def before_fit(self): self.lrs, self.decays = [], {h.get('wd', 0) for h in self.opt.hypers}
        def after_batch(self): self.lrs.append([h['lr'] for h in self.opt.hypers])
    rates = {}
    for schedule, optimizer in (('one_cycle', 'adamw'), ('flat', 'adam'), ('flat_cos', 'adamw')):
        pretrain(dls, tmp_path/schedule, epochs=3, lr=1e-3, schedule=schedule, optimizer=optimizer, progress=False, metrics=[], cbs=(cb := Rates()), **NET)
        rates[schedule] = torch.tensor(cb.lrs)
        assert (weights_info(tmp_path/schedule)['schedule'], weights_info(tmp_path/schedule)['optimizer']) == (schedule, optimizer)
        assert cb.decays == ({.01} if optimizer == 'adamw' else {0})
    assert (rates['flat'] == 1e-3).all()
    body, head = rates['one_cycle'].T
    assert torch.allclose(body, .3*head) and head.argmax() not in (0, len(head) - 1)
    body, head = rates['flat_cos'].T
    assert torch.allclose(body, .3*head) and (head[:int(.75*len(head))] == 1e-3).all() and (head[1:] <= head[:-1]).all() and head[-1] < 1e-3

def test_the_average_is_what_is_kept(dls, tmp_path):
    "It lies in the file, is what was validated, and stays in the net; training goes on with the weights themselves"
    def fitted(out, **kw):
        torch.manual_seed(0); dls.train.set_epoch(0)
        seen = []
        class Weights(Callback):
            order = 95
            def after_batch(self):
                if self.training: seen.append([v.detach().clone() for v in self.model.parameters()])
        learn = pretrain(dls, tmp_path/out, epochs=2, lr=1e-3, schedule='flat', progress=False, metrics=[], precision='fp32', cbs=Weights(), **kw, **NET)
        return learn, seen
    (plain, weights), (learn, same) = fitted('plain'), fitted('average', ema=.8)
    assert all(torch.equal(a, b) for x,y in zip(weights, same, strict=True) for a,b in zip(x, y, strict=True))
    torch.manual_seed(0); want = [v.detach().clone() for v in unet_generator(**NET).parameters()]
    for n,x in enumerate(weights, 1): want = [torch.lerp(a, v, 1 - min(.8, n/(n + 9))) for a,v in zip(want, x)]
    kept = load_generator(tmp_path/'average')
    for a,b,c in zip(want, learn.model.parameters(), kept.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4); assert torch.equal(b, c)
    ab = [(kept.eval()(L) - ab).abs().mean((1, 2, 3)) for L,ab in dls.valid]
    assert learn.recorder.values[-1][1] == pytest.approx(torch.cat(ab).mean().item(), rel=1e-3) != plain.recorder.values[-1][1]

def test_unknown_names(dls):
    with pytest.raises(ValueError, match="'int8'.*'auto', 'fp32'"): colorize_learner(dls, precision='int8', **NET)
    with pytest.raises(ValueError, match='one or the other'): colorize_learner(dls, unet_generator(**NET), encoder='resnet18')
    with pytest.raises(ValueError, match="'lion'.*'adamw', 'adam'"): pretrain(dls, 'nowhere', optimizer='lion')
    with pytest.raises(ValueError, match="'cosine'.*'one_cycle', 'flat', 'flat_cos'"): pretrain(dls, 'nowhere', schedule='cosine')

def test_any_net_will_do(dls):
    net = torch.nn.Conv2d(1, 2, 3, padding=1)
    before = net.weight.clone()
    quiet_fit(colorize_learner(dls, net, metrics=[]), 1)
    assert not torch.equal(net.weight, before)

def test_a_run_is_never_overwritten(dls, tmp_path):
    (tmp_path/'generator.safetensors').write_bytes(b'hours of work')
    with pytest.raises(ValueError, match='holds a trained generator'): pretrain(dls, tmp_path, epochs=1, **NET)
    assert (tmp_path/'generator.safetensors').read_bytes() == b'hours of work'
