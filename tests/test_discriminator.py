"PatchDiscriminator against the paper's layers, and against what its gradient says it sees."
import subprocess, sys
import pytest, torch
from torch import nn
from colorize_fastai.discriminator import PatchDiscriminator, input_range, norms, patches, receptive_field
from colorize_fastai.weights import WeightsError, load_generator, load_net, save_weights

def convs(net): return [(m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0]) for m in net.modules() if isinstance(m, nn.Conv2d)]

@pytest.mark.parametrize('patch,want', { # Isola et al. 2017, 6.1.2, and the last layer to one channel; input L and ab
    1: [(3, 64, 1, 1), (64, 128, 1, 1), (128, 1, 1, 1)],
    16: [(3, 64, 4, 2), (64, 128, 4, 1), (128, 1, 4, 1)],
    70: [(3, 64, 4, 2), (64, 128, 4, 2), (128, 256, 4, 2), (256, 512, 4, 1), (512, 1, 4, 1)],
    286: [(3, 64, 4, 2), (64, 128, 4, 2), (128, 256, 4, 2), (256, 512, 4, 2), (512, 512, 4, 2), (512, 512, 4, 1), (512, 1, 4, 1)]}.items())
def test_layers(patch, want): assert convs(PatchDiscriminator(patch)) == want

@pytest.mark.parametrize('patch,size,i', [(1, 8, 3), (16, 40, 8), (70, 128, 7), (286, 512, 7)])
@pytest.mark.parametrize('norm', [n for n in norms if n != 'instance']) # which looks at the whole photo
def test_a_logit_depends_on_exactly_its_square(patch, size, i, norm):
    torch.manual_seed(0)
    d = PatchDiscriminator(patch, norm=norm, n_features=4).double().eval()
    L, ab = torch.randn(1, 1, size, size, dtype=torch.double), torch.randn(1, 2, size, size, dtype=torch.double, requires_grad=True)
    d(L, ab)[0, 0, i, i].backward()
    seen = ab.grad[0].abs().sum(0) > 0
    a, b = input_range(d, i)
    want = torch.zeros(size, size, dtype=torch.bool)
    want[a:b+1, a:b+1] = True
    assert b - a + 1 == patch == receptive_field(d) and 0 <= a and b < size and torch.equal(seen, want)

def test_size_of_the_answer():
    d = PatchDiscriminator(n_features=8)
    assert d(torch.zeros(2, 1, 256, 256), torch.zeros(2, 2, 256, 256)).shape == (2, 1, 30, 30)
    assert d(torch.zeros(2, 1, 128, 192), torch.zeros(2, 2, 128, 192)).shape == (2, 1, 14, 22)

@pytest.mark.parametrize('kw,want', [({}, 2_765_633), (dict(n_in=3, n_out=3), 2_768_705), (dict(norm='none'), 2_765_633 - 2*896 + 896)])
def test_parameters(kw, want): assert sum(p.numel() for p in PatchDiscriminator(**kw).parameters()) == want

@pytest.mark.parametrize('norm,kind', [('batch', nn.BatchNorm2d), ('instance', nn.InstanceNorm2d)])
def test_first_and_last_layer_are_not_normalized(norm, kind):
    layers = [m for m in PatchDiscriminator(norm=norm, n_features=4).modules() if isinstance(m, (nn.Conv2d, kind))]
    assert [type(m) for m in layers] == [nn.Conv2d, nn.Conv2d, kind, nn.Conv2d, kind, nn.Conv2d, kind, nn.Conv2d]

def test_spectral_norm_bounds_the_weights():
    d = PatchDiscriminator(16, norm='spectral', n_features=8)
    L, ab = torch.randn(2, 1, 32, 32), torch.randn(2, 2, 32, 32)
    for _ in range(30): d(L, ab)
    for m in d.eval().modules():
        if isinstance(m, nn.Conv2d): assert torch.linalg.matrix_norm(m.weight.detach().flatten(1), 2).item() == pytest.approx(1, abs=.02)

@pytest.mark.parametrize('norm', norms)
def test_first_weights(norm):
    torch.manual_seed(0)
    sd = PatchDiscriminator(norm=norm).state_dict()
    key = 'net.3.0.parametrizations.weight.original' if norm == 'spectral' else 'net.3.0.weight'
    assert sd[key].shape == (512, 256, 4, 4) and abs(sd[key].mean()) < 1e-4 and abs(sd[key].std() - .02) < 1e-4
    assert sd['net.0.0.bias'].abs().max() == 0

def test_condition():
    torch.manual_seed(0)
    L, ab = torch.randn(1, 1, 32, 32), torch.randn(1, 2, 32, 32)
    for conditional in (True, False):
        d = PatchDiscriminator(16, conditional=conditional, n_features=4).eval()
        with torch.no_grad(): assert torch.equal(d(L, ab), d(-L, ab)) is not conditional

@pytest.mark.parametrize('patch,side', [(1, 1), (16, 6), (70, 24), (286, 96)])
def test_smallest_photo(patch, side):
    d = PatchDiscriminator(patch, n_features=4).eval()
    d(torch.zeros(1, 1, side, side), torch.zeros(1, 2, side, side))
    if side > 1:
        with pytest.raises(ValueError, match=f'at least {side}'): d(torch.zeros(1, 1, side, side-1), torch.zeros(1, 2, side, side-1))

@pytest.mark.parametrize('kw', [{}, dict(patch=1), dict(norm='spectral', conditional=False), dict(patch=16, n_in=3, n_out=3, norm='instance')])
def test_saved_and_loaded(kw, tmp_path):
    d = PatchDiscriminator(**{**dict(patch=16, n_features=4), **kw})
    back = load_net(save_weights(d, tmp_path/'d.safetensors'))
    assert back.recipe == d.recipe and all(torch.equal(v, back.state_dict()[k]) for k,v in d.state_dict().items())
    with pytest.raises(WeightsError, match='judges colors'): load_generator(tmp_path/'d.safetensors')

def test_loaded_by_weights_alone(tmp_path):
    f = save_weights(PatchDiscriminator(16, n_features=4), tmp_path/'d.safetensors')
    code = 'import sys; from colorize_fastai.weights import load_net; print(type(load_net(sys.argv[1])).__name__)'
    assert subprocess.run([sys.executable, '-c', code, f], capture_output=True, text=True, check=True).stdout.strip() == 'PatchDiscriminator'

def test_unknown_names():
    with pytest.raises(ValueError, match=r'34.*\[1, 16, 70, 286\]'): PatchDiscriminator(34)
    with pytest.raises(ValueError, match=r"'layer'.*'batch', 'instance', 'none', 'spectral'"): PatchDiscriminator(norm='layer')
    assert list(patches) == [1, 16, 70, 286]
