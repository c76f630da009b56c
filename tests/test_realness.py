"How real a discriminator finds a photo: the map lies where the colors are, one photo is judged by itself, and the net stays as it was"
import io
import numpy as np, pytest, torch
from PIL import Image
from torch import nn
from colorize_fastai.discriminator import PatchDiscriminator, norms
from colorize_fastai.generator import unet_generator
from colorize_fastai.photo import read_rgb, sample_photos
from colorize_fastai.realness import load_discriminator, realness
from colorize_fastai.weights import WeightsError, packaged_weights, save_weights, weights_info

@pytest.fixture(scope='module')
def photo(): return read_rgb(sample_photos()['coffee']).resize((96, 64))

def critic(patch=16, norm='batch', n_features=8, seed=0):
    torch.manual_seed(seed)
    net = PatchDiscriminator(patch, norm=norm, n_features=n_features)
    for m in net.modules(): # statistics that have seen something else
        if isinstance(m, nn.BatchNorm2d): m.running_mean.normal_(); m.running_var.uniform_(2, 3)
    return net

def test_each_pixel_is_judged_where_it_is():
    "A critic of single pixels that likes red: its logit is 4 a*/110, so the map is known at every pixel"
    net = critic(1, 'none', 1)
    with torch.no_grad():
        for p in net.parameters(): p.zero_()
        first, second, last = (m for m in net.modules() if isinstance(m, nn.Conv2d))
        first.weight[0,1] = second.weight[0,0] = 1; first.bias += 1; last.weight[0,0] = 4; last.bias -= 4 # over 0, where LeakyReLU is the identity
    px = np.zeros((40, 60, 3), np.uint8); px[..., 2] = 90; px[10:20, 30:50] = 200, 30, 40
    score, heat = realness(px, net, size=40)
    from skimage.color import rgb2lab
    a = rgb2lab(px)[..., 1]/110
    np.testing.assert_allclose(heat, 1/(1 + np.exp(-4*a)), atol=1e-3)
    assert score == pytest.approx(np.quantile(4*a, .1), abs=2e-3)

@pytest.mark.parametrize('patch', [16, 70])
@pytest.mark.parametrize('enlarged', [1, 3])
def test_the_map_lies_over_the_photo(patch, enlarged):
    "A critic with even weights answers most where the one colored spot is"
    net = critic(patch, 'none')
    with torch.no_grad():
        for m in net.modules():
            if isinstance(m, nn.Conv2d): m.weight.fill_(1/m.weight[0].numel()); m.bias.zero_()
        next(m for m in net.modules() if isinstance(m, nn.Conv2d)).weight[:, 0] = 0 # it does not look at lightness
    px = np.full((160, 240, 3), 128, np.uint8); px[90:102, 140:152] = 255, 60, 60
    big = Image.fromarray(px).resize((240*enlarged, 160*enlarged), Image.Resampling.NEAREST)
    _, heat = realness(big, net, size=160)
    assert heat.shape == (160*enlarged, 240*enlarged)
    over = heat - heat.min()
    y, x = ((over*i).sum()/over.sum()/enlarged for i in np.indices(heat.shape))
    assert abs(y - 95.5) < 4 and abs(x - 145.5) < 4

@pytest.mark.parametrize('norm', norms)
def test_the_net_stays_as_it_was(norm, photo):
    net = critic(norm=norm).train()
    list(net.modules())[3].eval() # a mixture of modes
    modes, state = [m.training for m in net.modules()], {k: v.clone() for k,v in net.state_dict().items()}
    wanted = [p.requires_grad_(i % 2 == 0).requires_grad for i,p in enumerate(net.parameters())]
    first, again = realness(photo, net, size=64), realness(photo, net, size=64)
    assert first[0] == again[0] and np.array_equal(first[1], again[1])
    assert [m.training for m in net.modules()] == modes and [p.requires_grad for p in net.parameters()] == wanted
    assert all(torch.equal(v, state[k]) for k,v in net.state_dict().items())

def test_batch_norm_is_of_this_photo_alone(photo):
    "As InstanceNorm with the same weights, which knows no other photo"
    net, twin = critic(), critic()
    for block in twin.net:
        for i,m in enumerate(block):
            if isinstance(m, nn.BatchNorm2d):
                block[i] = nn.InstanceNorm2d(m.num_features, affine=True)
                block[i].load_state_dict(dict(weight=m.weight, bias=m.bias))
    np.testing.assert_allclose(realness(photo, net, size=64)[1], realness(photo, twin, size=64)[1], atol=1e-5)

def test_whatever_the_photo_comes_as(photo, tmp_path):
    photo.save(tmp_path/'a.png')
    net, px = critic(), np.array(photo)
    want = realness(photo, net, size=64)[0]
    for o in (tmp_path/'a.png', str(tmp_path/'a.png'), (tmp_path/'a.png').read_bytes(), io.BytesIO((tmp_path/'a.png').read_bytes()), px, px/255,
              torch.from_numpy(px).permute(2, 0, 1)): assert realness(o, net, size=64)[0] == want

def test_size_is_that_of_the_file(photo, tmp_path):
    f = save_weights(critic(), tmp_path/'d.safetensors', load_size=48)
    assert realness(photo, f)[0] == realness(photo, load_discriminator(f))[0] == realness(photo, load_discriminator(f), size=48)[0]
    assert realness(photo, f, size=64)[0] != realness(photo, f)[0]
    assert realness(photo, critic())[0] == realness(photo, critic(), size=256)[0]
    with pytest.raises(ValueError, match='needs sides of at least 24 pixels'): realness(photo, critic(70), size=20)

def test_what_is_no_discriminator_of_colors(tmp_path):
    save_weights(unet_generator('resnet18', False, channels=(8, 8, 8, 8)), tmp_path/'generator.safetensors')
    with pytest.raises(WeightsError, match='No discriminator at .*whose stage 2 has ended an epoch'): load_discriminator(tmp_path)
    with pytest.raises(WeightsError, match='holds a unet_generator, which makes colors'): load_discriminator(tmp_path/'generator.safetensors')
    with pytest.raises(WeightsError, match=r'another task \(3 channels in, 3 out\)'):
        load_discriminator(save_weights(PatchDiscriminator(16, 3, 3, n_features=8), tmp_path/'f.safetensors'))
    torch.save({'a': torch.zeros(1)}, tmp_path/'d.pth')
    with pytest.raises(WeightsError, match="PyTorch's own format"): load_discriminator(tmp_path/'d.pth')
    with pytest.raises(WeightsError, match=r"No discriminator at no_such_name.*\['daylight'\]"): load_discriminator('no_such_name')

def test_a_run_directory(photo, tmp_path):
    save_weights(net := critic(), tmp_path/'discriminator.safetensors', load_size=64)
    assert realness(photo, tmp_path)[0] == realness(photo, net, size=64)[0]

def test_device_stays(photo):
    net = critic()
    realness(photo, net, size=64, device='cpu')
    assert {p.device.type for p in net.parameters()} == {'cpu'}
    half = critic().double() # the photo follows the net, not the other way round
    assert realness(photo, half, size=64)[0] == pytest.approx(realness(photo, net, size=64)[0], abs=1e-5) and next(half.parameters()).dtype == torch.float64

def test_the_packaged_one(photo):
    "Small, named after the generator it was trained against, and no choice of a colorizer's"
    from colorize_fastai.inference import Colorizer
    (name, file), = packaged_weights(discriminators=True).items()
    info = weights_info(file)
    assert file.stat().st_size <= 4e6 and name == 'daylight' and len(info['against']) == 64 and info['licence'] == weights_info()['licence']
    assert not any('discriminator' in str(f) for f in packaged_weights().values())
    with pytest.raises(WeightsError, match='judges colors and makes none'): Colorizer(file)
    score, heat = realness(photo)
    assert np.isfinite(score) and heat.shape == (64, 96) and 0 <= heat.min() < heat.max() <= 1
    assert score > realness(photo.convert('L'))[0] # a photograph beside its own grey
