"""sRGB, CIELAB and the gamut, against scikit-image on dense grids of colors."""
import warnings
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import pytest
import torch
from skimage import color as sk
from colorize_fastai import color as room
from colorize_fastai.color import (AB_SCALE, L_SCALE, STEP, ColorTable, fit_gamut, from_L_ab, grey_levels, join_L_ab, lab2rgb, recolor, rgb2lab,
    to_L_ab)

GRID = 128 # 128³ = 2,097,152 colors
devices = ['cpu', pytest.param('cuda', marks=pytest.mark.cuda)]

@pytest.fixture(scope='module')
def cube():
    "Evenly spaced sRGB colors, black and white among them, as one picture [3,H,W], and scikit-image's L*a*b* of them"
    g = torch.linspace(0, 1, GRID)
    rgb = torch.stack(torch.meshgrid(g, g, g, indexing='ij')).flatten(2)
    return rgb, torch.from_numpy(sk.rgb2lab(rgb.movedim(0, -1).double().numpy())).movedim(-1, 0)

@pytest.fixture
def anywhere():
    "A million L*a*b* colors, most of them outside sRGB"
    x = torch.rand(3, 1000, 1000, generator=torch.Generator().manual_seed(0))
    return torch.stack([x[0]*100, (x[1]*2 - 1)*AB_SCALE, (x[2]*2 - 1)*AB_SCALE])

@pytest.mark.parametrize('device', devices)
def test_rgb2lab_is_scikit_images(cube, device):
    rgb,lab = cube
    got = rgb2lab(rgb.to(device))
    assert got.device.type == device and got.dtype == torch.float32
    assert (got.cpu() - lab).abs().max() < 1e-3

@pytest.mark.parametrize('device', devices)
def test_lab2rgb_is_scikit_images(cube, device):
    rgb,lab = cube
    back = torch.from_numpy(sk.lab2rgb(lab.movedim(0, -1).numpy())).movedim(-1, 0)
    got = lab2rgb(lab.float().to(device)).cpu()
    assert (got - back).abs().max() < 1e-4
    again = torch.from_numpy(sk.rgb2lab(got.movedim(0, -1).double().numpy())).movedim(-1, 0)
    assert (again - lab).abs().max() < 1e-2 # the same in units of L*a*b*

def test_all_8_bit_colors_survive_the_round_trip():
    g,b = torch.meshgrid(*[torch.arange(256, dtype=torch.uint8)]*2, indexing='ij')
    for r in range(256): # 65,536 colors at a time, 16.7 million in all
        rgb = torch.stack([torch.full_like(g, r), g, b])
        assert torch.equal(from_L_ab(*to_L_ab(rgb/255)).mul(255).round().byte(), rgb)

@pytest.fixture(scope='module')
def bytes_and_lab():
    "All dark 8-bit colors, every seventh of the others, all greys: uint8 [3,H,W], and L*a*b* by scikit-image and by the formula in float64"
    dark, wide = torch.arange(45, dtype=torch.uint8), torch.cat([torch.arange(0, 256, 7, dtype=torch.uint8), torch.tensor([255], dtype=torch.uint8)])
    parts = [torch.stack(torch.meshgrid(o, o, o, indexing='ij')).flatten(1) for o in (dark, wide)]
    rgb = torch.cat([*parts, torch.arange(256, dtype=torch.uint8).expand(3, -1)], 1)[:,None].expand(-1, 2, -1)
    return rgb, torch.from_numpy(sk.rgb2lab(rgb.movedim(0, -1).double().numpy()/255)).movedim(-1, 0), rgb2lab(rgb.double()/255)

@pytest.mark.parametrize('svml', [True, False])
@pytest.mark.parametrize('device', devices)
def test_bytes_become_the_same_lab(bytes_and_lab, svml, device, monkeypatch):
    monkeypatch.setattr(room._cube_root_, '__defaults__', (svml,))
    rgb, scikit, exact = bytes_and_lab
    L,ab = to_L_ab(rgb.to(device))
    assert L.dtype == ab.dtype == torch.float32 and L.device.type == device and L.is_contiguous() and ab.is_contiguous()
    lab = join_L_ab(L.cpu().double(), ab.cpu().double())
    assert (lab - exact).abs().max() < 1.5e-4 # a* is 500 times a difference of two float32 numbers near 1
    assert (lab - scikit).abs().max() < 5e-4 # its constants are rounded

@pytest.mark.parametrize('shape', [(3, 7, 9), (0, 3, 4, 4), (5, 3, 1, 1), (2, 2, 3, 30, 40), (1, 3, 300, 500)])
def test_bytes_of_any_shape_and_layout(shape):
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (*shape[:-1], shape[-1] + 2), dtype=torch.uint8, generator=g)
    views = [x[...,1:-1], x[...,1:-1].flip(-1), x[...,1:-1].movedim(-3, -1).contiguous().movedim(-1, -3), x[...,1:-1].transpose(-1, -2)]
    for v in views:
        before = v.clone()
        got = to_L_ab(v)
        for p,q in zip(got, to_L_ab(v.double()/255)): assert p.shape == q.shape and torch.allclose(p.double(), q, atol=2e-6, rtol=0)
        assert torch.equal(v, before)
    with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16): assert all(torch.equal(p, q) for p,q in zip(to_L_ab(views[-1]), got))

def test_bytes_in_pieces():
    x = torch.randint(0, 256, (2, 3, 10, 21), dtype=torch.uint8)
    for px in (1, 100, 209, 210): # a vector unit's last elements may round otherwise
        for p,q in zip(room._to_L_ab_8bit(x, px), to_L_ab(x)): assert torch.allclose(p, q, atol=2e-6, rtol=0)

@pytest.mark.parametrize('device', devices)
def test_bytes_come_back(bytes_and_lab, device):
    "A photo with its own color is itself"
    rgb, *_ = bytes_and_lab
    got = recolor(rgb.to(device), to_L_ab(rgb.to(device))[1])
    assert got.dtype == torch.uint8 and got.device.type == device
    d = (got.cpu().int() - rgb.int()).abs()
    assert d.max() <= 1 and (d[:,rgb.amin(0) > 45] > 0).float().mean() < .002 # the table is coarse in the dark alone

@pytest.mark.parametrize('grey', [True, False])
@pytest.mark.parametrize('device', devices)
def test_bytes_of_any_color(device, grey):
    "Seldom a step; where the bisection ends elsewhere, in the dark, hardly ever a few; and every grey without color is itself"
    g = torch.Generator().manual_seed(0)
    rgb = torch.randint(0, 256, (3, 300, 301), generator=g, dtype=torch.uint8)
    if grey: rgb = rgb[:1]
    ab = (torch.rand(2, 300, 301, generator=g)*2 - 1)*torch.linspace(0, 1, 301)
    want = from_L_ab(to_L_ab(rgb.expand(3, -1, -1))[0], ab).mul(255).round()
    d = (recolor(rgb.to(device), ab.to(device)).cpu() - want).abs()
    assert d.max() <= 5 and (d > 1).float().mean() < 1e-4 and (d > 0).float().mean() < .01
    if grey: assert torch.equal(recolor(rgb, ab*0), rgb.expand(3, -1, -1))

@pytest.fixture(scope='module')
def colored():
    "Photos, one of them grey, uint8 [H,W,4] and [H,W], and colors from faint to far outside of sRGB, [2,H,W], none of them at a rounding's edge"
    g = torch.Generator().manual_seed(0)
    ab = (torch.rand(2, 256, 300, generator=g)*2 - 1)*torch.linspace(0, 120, 300)
    ab = (ab/STEP).floor() + .2 + .6*torch.rand(2, 256, 300, generator=g) - .5
    return torch.randint(0, 256, (256, 300, 4), generator=g, dtype=torch.uint8), torch.arange(256, dtype=torch.uint8)[:,None].expand(-1, 300), ab*(STEP/AB_SCALE)

def skimage_L(rgb): return sk.rgb2lab(rgb.numpy()/255)[...,0]

def test_looked_up_colors_are_scikit_images(colored):
    _, grey, ab = colored
    got = ColorTable()(grey_levels(grey), ab)[...,:3]
    ab = (ab*(AB_SCALE/STEP)).round()*STEP
    lab = torch.cat([torch.from_numpy(sk.rgb2lab(grey[...,None].expand(-1, -1, 3).numpy()))[...,:1], ab.movedim(0, -1)], -1)
    with warnings.catch_warnings(action='ignore'): want = torch.from_numpy(sk.lab2rgb(lab.numpy())) # it says that it clips
    inside = (want > 0).all(-1) & (want < 1).all(-1) # what is outside scikit-image clips
    assert .1 < inside.double().mean() < .9
    d = (got[inside] - want[inside]*255).abs()
    assert d.max() <= .51
    assert abs(skimage_L(got) - skimage_L(grey[...,None].expand(-1, -1, 3))).max() < .3

def test_looked_up_colors_have_the_photos_lightness(colored):
    rgb, _, ab = colored
    got, want = ColorTable()(grey_levels(rgb), ab)[...,:3], recolor(rgb[...,:3].movedim(-1, 0), ab).movedim(0, -1)
    assert abs(skimage_L(got) - skimage_L(rgb[...,:3])).max() < .5
    faint = ab.norm(dim=0)*AB_SCALE < 30
    assert ((got.int() - want.int()).abs()[faint] <= 1).double().mean() > .99

def test_levels_of_all_greys_and_many_colors(bytes_and_lab):
    rgb = bytes_and_lab[0]
    L = torch.from_numpy(sk.rgb2lab((grey_levels(torch.cat([rgb, rgb[:1]]).movedim(0, -1))/510)[...,None].expand(-1, -1, 3).double().numpy()))[...,0]
    assert (L - bytes_and_lab[1][0]).abs().max() < .15

@pytest.mark.parametrize('room', [1, 500, 2**15])
def test_threads_share_a_table(colored, room):
    rgb, grey, ab = colored
    work = [(grey_levels(o[i:i+64]), ab[:,i:i+64]*k) for o in (rgb, grey) for i in range(0, 256, 64) for k in (.1, .02)]
    want, table = [ColorTable()(*o) for o in work], ColorTable(room)
    with ThreadPoolExecutor(8) as ex: got = list(ex.map(lambda o: table(*o), work*3))
    assert all(torch.equal(p, q) for p,q in zip(got, want*3, strict=True))

def test_grey_is_neutral_and_white_is_100():
    lab = rgb2lab(torch.linspace(0, 1, 256).expand(3, 1, 256))
    assert lab[1:].abs().max() < .01
    assert lab[0,0,[0, -1]].tolist() == pytest.approx([0, 100], abs=1e-3)

def test_scalings():
    lab = rgb2lab(torch.rand(2, 3, 5, 6))
    L,ab = to_L_ab(lab2rgb(lab))
    assert torch.allclose(L*L_SCALE + 50, lab[:,:1], atol=1e-3) and torch.allclose(ab*AB_SCALE, lab[:,1:], atol=1e-2)
    assert torch.allclose(join_L_ab(L, ab), lab, atol=1e-2)

@pytest.mark.parametrize('device', devices)
def test_gamut_keeps_lightness_and_hue(anywhere, device):
    lab = anywhere.to(device)
    fit = fit_gamut(lab)
    assert torch.equal(fit[0], lab[0])
    cross = fit[1]*lab[2] - fit[2]*lab[1] # 0 for parallel ab
    assert cross.abs().max() < 1e-2 and (fit[1]*lab[1] + fit[2]*lab[2]).min() >= 0
    # what clipping still does: nothing that 8 bits show
    rgb = lab2rgb(fit, clip=False)
    assert rgb.min() > -.5/255 and rgb.max() < 1 + .5/255
    # lightness as 8-bit rgb has it: no further off than rounding any color makes it
    def off(x): return (rgb2lab((x*255).round()/255)[0] - rgb2lab(x)[0]).abs().max()
    any_color = torch.rand(3, 1000, 1000, generator=torch.Generator().manual_seed(1)).to(device)
    assert (rgb2lab((rgb.clamp(0, 1)*255).round()/255)[0] - lab[0]).abs().max() < off(any_color) + .1

def test_gamut_takes_no_more_chroma_than_needed(anywhere):
    fit = fit_gamut(anywhere)
    out = (fit != anywhere).any(0)
    assert out.float().mean() > .5
    more = torch.cat([fit[:1], fit[1:] + anywhere[1:]*2**-9])
    rgb = lab2rgb(more, clip=False)
    assert ((rgb < 0) | (rgb > 1)).any(0)[out].all()

def test_colors_inside_come_back_bit_for_bit(cube):
    lab = rgb2lab(cube[0])
    assert torch.equal(fit_gamut(lab), lab)
    grey = torch.linspace(0, 100, 10_001).expand(1, 1, -1)
    lab = torch.cat([grey, torch.zeros(2, *grey.shape[1:])])
    assert torch.equal(fit_gamut(lab), lab)

def test_bands_change_nothing():
    "…but a last bit here and there: how a tensor is shared out among threads and vector units depends on its size"
    rgb = torch.rand(1, 3, 1100, 1000, generator=torch.Generator().manual_seed(0)) # more than a million pixels: two bands
    L,ab = to_L_ab(rgb)
    whole = from_L_ab(L, ab*2)
    parts = torch.cat([from_L_ab(L[...,i:i+100,:], ab[...,i:i+100,:]*2) for i in range(0, 1100, 100)], -2)
    d = (whole - parts).abs()
    assert whole.shape == rgb.shape and d.max() < 2e-3 and (d > 1e-5).float().mean() < 1e-4 # a gamut search may end one step of 2**-10 off
    assert (rgb2lab(rgb.expand(2, -1, -1, -1))[1] - rgb2lab(rgb)[0]).abs().max() < 1e-3

def test_gradients_are_right():
    x = torch.tensor([[.02, .03, .9], [.3, .5, .7], [.99, .2, .6]], dtype=torch.float64).T[:,None].contiguous().requires_grad_()
    assert torch.autograd.gradcheck(rgb2lab, x)
    lab = rgb2lab(x).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda o: lab2rgb(o, clip=False), lab)
    assert torch.autograd.gradcheck(fit_gamut, lab) # all inside

def test_gradient_outside_the_gamut_is_scaled():
    lab = torch.tensor([50., 90, 90])[:,None,None].requires_grad_()
    fit = fit_gamut(lab)
    s = (fit[1]/lab[1]).item()
    fit.sum().backward()
    assert 0 < s < 1
    assert lab.grad.flatten().tolist() == pytest.approx([1, s, s])

@pytest.mark.parametrize('f', [rgb2lab, lambda x: lab2rgb((x*100)), lambda x: from_L_ab(x[:1]*2 - 1, x[1:])])
def test_gradients_are_finite_at_black_grey_and_white(f):
    x = torch.tensor([-.1, 0, 1e-8, .0031308, .04045, .5, 1, 1.1]).expand(3, 1, 8).clone().requires_grad_()
    f(x).sum().backward()
    assert x.grad.isfinite().all()
    x = torch.tensor([0, .5, 1]).expand(3, 1, 3).clone()
    x[1:] = 0
    f(x.requires_grad_()).sum().backward()
    assert x.grad.isfinite().all()

@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_is_computed_in_float32(dtype):
    rgb = torch.rand(2, 3, 8, 8).to(dtype)
    assert rgb2lab(rgb).dtype == torch.float32
    assert torch.equal(rgb2lab(rgb), rgb2lab(rgb.float()))
    L,ab = to_L_ab(rgb.float())
    assert torch.equal(from_L_ab(L.to(dtype), ab.to(dtype)), from_L_ab(L.to(dtype).float(), ab.to(dtype).float()))
    assert rgb2lab(rgb.double()).dtype == torch.float64

def test_autocast_changes_nothing():
    rgb = torch.rand(2, 3, 8, 8)
    L,ab = to_L_ab(rgb)
    want = rgb2lab(rgb),from_L_ab(L, ab*3)
    with torch.autocast('cpu', torch.bfloat16): got = rgb2lab(rgb),from_L_ab(L, ab*3)
    assert all(torch.equal(g, w) for g,w in zip(got, want))

@pytest.mark.parametrize('call, says', [
    (lambda: rgb2lab(torch.zeros(3, 4, 4, dtype=torch.uint8)), r'rgb2lab got dtype torch.uint8, expected .* divide 8-bit'),
    (lambda: to_L_ab(torch.zeros(4, 4, 3, dtype=torch.uint8)), r'to_L_ab got shape \[4, 4, 3\], expected \[...,3,H,W\]'),
    (lambda: to_L_ab(torch.zeros(3, 4, dtype=torch.uint8)), r'to_L_ab got shape \[3, 4\]'),
    (lambda: to_L_ab(torch.zeros(3, 4, 4, dtype=torch.int64)), 'divide 8-bit'),
    (lambda: rgb2lab(torch.zeros(4, 4, 3)), r'got shape \[4, 4, 3\], expected \[...,3,H,W\]'),
    (lambda: rgb2lab(torch.zeros(3, 4)), r'expected \[...,3,H,W\]'),
    (lambda: lab2rgb(torch.zeros(1, 1, 4, 4)), r'lab2rgb got shape \[1, 1, 4, 4\]'),
    (lambda: fit_gamut(torch.zeros(1, 2, 4, 4)), 'fit_gamut got shape'),
    (lambda: join_L_ab(torch.zeros(3, 4, 4), torch.zeros(2, 4, 4)), r'join_L_ab got shape .* 1 channel$'),
    (lambda: from_L_ab(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)), r'from_L_ab got shape .* 2 channels'),
    (lambda: from_L_ab(torch.zeros(1, 8, 8), torch.zeros(2, 4, 4)), 'resize ab to the size of L')])
def test_refusals(call, says):
    with pytest.raises(ValueError, match=says): call()
