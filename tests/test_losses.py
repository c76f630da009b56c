"The losses against numbers worked out by hand and against torch's own."
import math
import pytest, torch, torch.nn.functional as F
from colorize_fastai.generator import ring_palette
from colorize_fastai.losses import PaletteLoss, gan_loss, gan_losses, near_colors, pixel_loss

def sigmoid(x): return 1/(1 + math.exp(-x))
real, fake = torch.tensor([2., -1.]), torch.tensor([0., -3.])

@pytest.mark.parametrize('name,want', [('l1', (.5 + 2 + 0)/3), ('l2', (.25 + 4 + 0)/3), ('smooth_l1', (.125 + 1.5 + 0)/3)])
def test_distance(name, want):
    assert pixel_loss(name)(torch.tensor([0., 1., 3.]), torch.tensor([.5, -1., 3.])).item() == pytest.approx(want)

@pytest.mark.parametrize('name,d_want,g_want', [
    ('bce', -.5*((math.log(sigmoid(2)) + math.log(sigmoid(-1)))/2 + (math.log(1 - sigmoid(0)) + math.log(1 - sigmoid(-3)))/2), -(math.log(sigmoid(0)) + math.log(sigmoid(-3)))/2),
    ('lsgan', .5*((1 + 4)/2 + (0 + 9)/2), (1 + 16)/2),
    ('hinge', .5*((0 + 2)/2 + (1 + 0)/2), 3/2)])
def test_game(name, d_want, g_want):
    d, g = gan_loss(name)
    assert d(real, fake).item() == pytest.approx(d_want) and g(fake).item() == pytest.approx(g_want)

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
    with pytest.raises(ValueError, match=r"'l0'.*'l1', 'l2', 'smooth_l1'"): pixel_loss('l0')
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
