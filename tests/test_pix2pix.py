"The generators of the pix2pix paper, against its layer table and a second implementation."
import pytest, torch, torch.nn.functional as F
from torch import nn
from colorize_fastai.generator import init_normal, pad_to_multiple, pix2pix_generator
from colorize_fastai.weights import load_generator, save_weights

down = [64, 128, 256, 512, 512, 512, 512, 512] # C64-C128-C256-C512-C512-C512-C512-C512
up = [512, 512, 512, 512, 256, 128, 64] # CD512-CD512-CD512-C512-C256-C128-C64

def table(n_in, n_out, skips):
    "(channels in, channels out, normalized) of each 4×4 convolution, from the paper's table"
    enc = [(i, o, 0 < k < 7) for k,(i,o) in enumerate(zip([n_in, *down], down))]
    dec = [(i*(1 + (skips and k > 0)), o, k < 7) for k,(i,o) in enumerate(zip([512, *up], [*up, n_out]))]
    return enc, dec

@pytest.mark.parametrize('n_in,n_out,skips,want', [(3, 3, True, 54_413_955), (1, 2, True, 54_409_858), (3, 3, False, None), (1, 2, False, None)])
def test_parameters(n_in, n_out, skips, want):
    enc, dec = table(n_in, n_out, skips)
    by_hand = sum(16*i*o + 2*o*n for i,o,n in enc + dec) + n_out # BatchNorm: scale and shift; one bias, the answer's
    assert sum(p.numel() for p in pix2pix_generator(n_in, n_out, skips).parameters()) == by_hand
    if want: assert by_hand == want

def test_parameters_with_instance_norm():
    enc, dec = table(3, 3, True)
    assert sum(p.numel() for p in pix2pix_generator(3, 3, norm='instance').parameters()) == sum(16*i*o + o for i,o,_ in enc + dec)

@pytest.mark.parametrize('skips', [True, False])
def test_layers(skips):
    enc, dec = table(1, 2, skips)
    net = pix2pix_generator(skips=skips)
    def of(kind): return [(m.in_channels, m.out_channels) for m in net.modules() if isinstance(m, kind)]
    assert of(nn.Conv2d) == [(i, o) for i,o,_ in enc] and of(nn.ConvTranspose2d) == [(i, o) for i,o,_ in dec]
    noisy = [any(isinstance(m, nn.Dropout) and m.p == .5 for m in level) for level in [*net.up, net.head]]
    assert noisy == [True]*3 + [False]*5

def reference(sd, x, skips, norm, levels):
    "The same net as functions, from the inside of the U outwards"
    def normed(x, k):
        if norm == 'instance': return F.instance_norm(x)
        return F.batch_norm(x, *(sd[f'{k}.{n}'] for n in ('running_mean', 'running_var', 'weight', 'bias')))
    def conv(f, x, k): return f(x, sd[f'{k}.weight'], sd.get(f'{k}.bias'), stride=2, padding=1)
    def level(x, i):
        y = conv(F.conv2d, F.leaky_relu(x, .2) if i else x, f'down.{i}.{int(i > 0)}')
        if 0 < i < levels-1: y = normed(y, f'down.{i}.2')
        inner = torch.cat([level(y, i+1), y], 1)[:, :None if skips else y.shape[1]] if i < levels-1 else y
        k = f'up.{levels-1-i}' if i else 'head'
        z = conv(F.conv_transpose2d, F.relu(inner), f'{k}.1')
        return normed(z, f'{k}.2') if i else z.tanh()
    return level(x, 0)

@pytest.mark.parametrize('skips', [True, False])
@pytest.mark.parametrize('norm', ['batch', 'instance'])
def test_a_second_implementation_agrees(skips, norm):
    torch.manual_seed(0)
    net = pix2pix_generator(skips=skips, norm=norm, n_features=8, levels=6)
    net(torch.randn(4, 1, 64, 64)); net.eval() # running statistics that are not 0 and 1
    x = torch.randn(2, 1, 128, 64)
    with torch.no_grad(): torch.testing.assert_close(net(x), reference(net.state_dict(), x, skips, norm, 6))

def test_first_weights():
    torch.manual_seed(0)
    net = pix2pix_generator()
    for w in (net.down[5][1].weight, net.up[2][1].weight): assert abs(w.mean()) < 1e-4 and abs(w.std() - .02) < 1e-4
    assert abs(net.up[2][2].weight.mean() - 1) < .005 and abs(net.up[2][2].weight.std() - .02) < .005
    assert net.head[1].bias.abs().max() == 0
    assert init_normal(net, .1) is net and abs(net.down[5][1].weight.std() - .1) < 1e-3

@pytest.mark.parametrize('size', [(1, 1), (33, 70), (64, 32)])
def test_any_size(size):
    torch.manual_seed(0)
    net = pix2pix_generator(n_features=4, levels=5).eval()
    x = torch.randn(2, 1, *size)
    with torch.no_grad(): assert torch.equal(net(x), net(pad_to_multiple(x, 32))[..., :size[0], :size[1]])
    assert net(x).shape == (2, 2, *size)

def test_sides_divide_by_256():
    net = pix2pix_generator(n_features=4).eval()
    seen = []
    net.down[-1].register_forward_hook(lambda m, i, o: seen.append(o.shape[-2:]))
    with torch.no_grad(): net(torch.zeros(1, 1, 256, 257))
    assert seen == [(1, 2)]

@pytest.mark.parametrize('at_test', [True, False])
def test_noise_at_test_when_asked(at_test):
    torch.manual_seed(0)
    net = pix2pix_generator(n_features=8, levels=5, noise_at_test=at_test).eval()
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad(): assert torch.equal(net(x), net(x)) is not at_test
    net.train()
    with torch.no_grad(): assert not torch.equal(net(x), net(x))

@pytest.mark.parametrize('skips', [True, False])
def test_trains_from_every_parameter(skips):
    net = pix2pix_generator(n_features=4, levels=5, skips=skips)
    net(torch.randn(2, 1, 64, 64)).abs().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())

@pytest.mark.parametrize('kw', [{}, dict(skips=False, norm='instance'), dict(n_in=3, n_out=3, noise_at_test=True)])
def test_saved_and_loaded(kw, tmp_path):
    net = pix2pix_generator(n_features=4, levels=5, **kw)
    back = load_generator(save_weights(net, tmp_path/'g.safetensors'))
    assert back.recipe == net.recipe and all(torch.equal(v, back.state_dict()[k]) for k,v in net.state_dict().items())

def test_what_cannot_be():
    with pytest.raises(ValueError, match=r"'layer'.*'batch', 'instance'"): pix2pix_generator(norm='layer')
    with pytest.raises(ValueError, match='at least 2, got 1'): pix2pix_generator(levels=1)
