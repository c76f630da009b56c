"The ONNX file beside `Colorizer`, colors without torch, and the arithmetic of the page in the browser, in Node"
import importlib.util, json, re, runpy, shutil, subprocess, sys
from pathlib import Path
import numpy as np, pytest, torch
from PIL import Image
from colorize_fastai.aged import age_photo
from colorize_fastai.color import recolor
from colorize_fastai.export import to_onnx
from colorize_fastai.generator import heads, pix2pix_generator, unet_generator
from colorize_fastai.inference import Colorizer, _framed, _rows, _span, joined, seen_L, windows
from colorize_fastai.marks import SOURCE_TYPE, _iptc, _parsed
from colorize_fastai.metadata import read_meta
from colorize_fastai.nature import find_frame
from colorize_fastai.photo import read_rgb, sample_photos
from colorize_fastai.weights import default_weights, save_weights, weights_info

root = Path(__file__).resolve().parent.parent
page = root/'nbs'/'colorizer'
has = importlib.util.find_spec
needs_onnx = pytest.mark.skipif(not has('onnx') or not has('onnxruntime'), reason="needs pip install '.[onnx]'")
needs_node = pytest.mark.skipif(not shutil.which('node'), reason='needs node')

@pytest.fixture(scope='module')
def folder(tmp_path_factory): return tmp_path_factory.mktemp('export')

@pytest.fixture(scope='module')
def weights(folder):
    "A file for each kind of head, and None for the packaged weights"
    torch.manual_seed(0)
    nets = {o: unet_generator('tf_efficientnet_lite0', pretrained=False, head=o, channels=(32, 16, 16)) for o in heads}
    for head in (nets['palette'].head, nets['vivid'].head, nets['vivid'].vivid[1]): torch.nn.init.normal_(head.weight, std=.5)
    meta = dict(vivid=dict(temperature=.3, spread=20), vividness=.25, load_size=96)
    return {default_weights: None, **{k: save_weights(o, folder/f'{k}.safetensors', **meta) for k,o in nets.items()}}

@pytest.fixture(scope='module')
def models(folder, weights):
    return {(n, half): to_onnx(w, folder/f'{n}{half}.onnx', half=half) for n,w in weights.items() for half in (True, False)}

def run(file, *pairs):
    "ab of each (L, vividness)"
    import onnxruntime
    net = onnxruntime.InferenceSession(file, providers=['CPUExecutionProvider'])
    return [net.run(None, dict(L=L.numpy(), vividness=np.array(v, np.float32)))[0] for L,v in pairs]

def farthest(file, weights, shapes=((1, 1, 1), (1, 32, 64), (2, 33, 31), (1, 160, 213), (3, 45, 128))):
    "The largest difference in ab between an ONNX file and `Colorizer.predict_ab`"
    c = Colorizer(weights, device='cpu')
    pairs = [(torch.rand(b, 1, h, w, generator=torch.Generator().manual_seed(h))*2 - 1, v) for b,h,w in shapes for v in (0., .3, 1.)]
    return max(np.abs(ab - c.predict_ab(L, v).numpy()).max() for ab,(L,v) in zip(run(file, *pairs), pairs, strict=True))

# The file

@needs_onnx
@pytest.mark.parametrize('half,limit', [(False, 1e-3), (True, 1e-2)])
@pytest.mark.parametrize('name', [default_weights, *heads])
def test_parity(models, weights, name, half, limit): assert farthest(models[name, half], weights[name]) <= limit

@needs_onnx
def test_the_dial_turns(models):
    L = torch.rand(1, 1, 64, 64)*2 - 1
    for name in (default_weights, *heads):
        a, b = run(models[name, True], (L, 0.), (L, 1.))
        assert np.abs(b - a).max() > .01
        a, b = (o - o.mean((2, 3), keepdims=True) for o in (a, b))
        straight = np.allclose(b, a*b.std()/a.std(), atol=1e-5)
        assert straight == (name == 'ab') # a palette is sharpened, too, or mixed with a second one

@needs_onnx
def test_half_the_file_and_what_it_says(models, weights):
    import onnx
    a, b = (models[default_weights, o].stat().st_size for o in (True, False))
    assert a < .52*b and a < 16e6
    for name,w in weights.items():
        m, info = onnx.load(models[name, True]), weights_info(w)
        facts = {o.key: o.value for o in m.metadata_props}
        assert facts['name'] == name and facts['sha256'] == info['sha256'] and facts['size'] == str(info['load_size'])
        assert float(facts['vividness']) == info['vividness'] and float(facts['ab_scale']) == 110
        assert float(facts['temperature_at_1']) == (1 if name in ('ab', default_weights) else .3)
        assert facts['answers'] == ('2' if name in ('vivid', default_weights) else '1')

@needs_onnx
def test_same_file_twice(models, folder): assert to_onnx(None, folder/'again.onnx').read_bytes() == models[default_weights, True].read_bytes()

@needs_onnx
@pytest.mark.parametrize('norm', ['batch', 'instance'])
def test_pix2pix(folder, norm):
    f = save_weights(pix2pix_generator(norm=norm, n_features=4, levels=5), folder/f'{norm}.safetensors')
    assert farthest(to_onnx(f, folder/f'{norm}.onnx', half=False), f, ((1, 70, 33), (2, 32, 32))) <= 1e-3

def test_without_onnx(folder, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'colorize_fastai\[onnx\]'"): to_onnx(out=folder/'no.onnx')
    assert not (folder/'no.onnx').exists()

# Without torch

blocked = 'import sys; sys.modules["torch"] = None; sys.argv = sys.argv[1:]; exec(compile(open(sys.argv[0]).read(), sys.argv[0], "exec"))'

@needs_onnx
@pytest.mark.parametrize('name', ['camera', 'astronaut'])
def test_example_without_torch(models, folder, name):
    photo = folder/f'{name}.png'
    read_rgb((sample_photos() | sample_photos(grey=True))[name]).crop((3, 0, 500, 400)).save(photo)
    cmd = [sys.executable, '-c', blocked, page/'colorize.py', models[default_weights, True], photo, folder/'colored.png']
    r = subprocess.run(cmd, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    ours, theirs = (np.array(o).astype(int) for o in (Image.open(folder/'colored.png'), Colorizer(device='cpu')(photo)))
    assert ours.shape == theirs.shape and np.quantile(np.abs(ours - theirs), .98) <= 3

def test_example_is_short():
    code = (page/'colorize.py').read_text()
    assert sum(bool(l.strip()) for l in code.splitlines()) <= 36 and 'colorize_fastai' not in code.replace('"', '')

# The page's arithmetic

def node(folder, script, **arrays):
    "What `script` gives, which finds the arrays as files: (bytes in stdout)"
    for k,v in arrays.items(): (folder/k).write_bytes(np.ascontiguousarray(v).tobytes())
    names = ''.join(f"import * as {k} from {json.dumps((page/f).as_uri())}; " for k,f in (('A', 'arithmetic.js'), ('M', 'metadata.js')))
    head = f"{names}import fs from 'node:fs'; const read = f => fs.readFileSync({json.dumps(str(folder))} + '/' + f);"
    (folder/'script.mjs').write_text(head + script + ';process.stdout.write(Buffer.from(out.buffer, out.byteOffset, out.byteLength))')
    r = subprocess.run(['node', folder/'script.mjs'], capture_output=True)
    assert r.returncode == 0, r.stderr.decode()
    return r.stdout

def rgba(rgb): return np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])

@needs_node
@pytest.mark.parametrize('w,h', [(512, 512), (1500, 1000), (1999, 1333), (160, 160), (161, 240), (90, 70), (1, 1), (1, 300), (2501, 1700)])
def test_the_page_shows_the_net_the_same(folder, w, h):
    im = read_rgb(sample_photos()['astronaut']).resize((w, h), Image.Resampling.NEAREST)
    script = f"const o = A.seenPixels({{data: read('px'), width: {w}, height: {h}}}, 160), out = A.lightness(o).data"
    L = seen_L(im, 160)
    got = np.frombuffer(node(folder, script, px=rgba(np.array(im))), np.float32).reshape(L.shape)
    assert np.abs(got - L.numpy()).max() < 1e-5

@needs_node
@pytest.mark.parametrize('name,strength', [('astronaut', .3), ('camera', .3), ('coffee', 1.5)])
def test_the_page_paints_the_same(folder, name, strength):
    im = read_rgb((sample_photos() | sample_photos(grey=True))[name]).crop((0, 0, 301, 223))
    ab = torch.randn(2, 9, 7, generator=torch.Generator().manual_seed(1))*strength
    w, h = im.size
    script = f"const ab = new Float32Array(new Uint8Array(read('ab')).buffer), out = A.recolor({{data: read('px'), width: {w}, height: {h}}}, {{data: ab, width: 7, height: 9}}, .5).data"
    got = np.frombuffer(node(folder, script, px=rgba(np.array(im)), ab=ab.numpy()), np.uint8).reshape(h, w, 4)[..., :3]
    full = _rows(_rows(ab*.5, _span(0, h, ab), h).mT, _span(0, w, ab), w).mT
    want = recolor(torch.from_numpy(np.array(im)).permute(2,0,1), full).permute(1,2,0).numpy()
    assert np.abs(got.astype(int) - want.astype(int)).max() <= 1

@needs_node
def test_the_page_cuts_the_same_windows(folder):
    sizes = [(n, w) for w in (1, 7, 160, 246) for n in (w, 3*w, 3*w + 1, 5*w, 17*w + 3, 64*w)]
    script = f"const all = {json.dumps(sizes)}.map(o => A.windows(...o)), out = Int32Array.from(all.flat(2))"
    assert np.frombuffer(node(folder, script), np.int32).tolist() == [v for o in sizes for span in windows(*o) for v in span]

@needs_node
@pytest.mark.parametrize('tall', [False, True])
def test_the_page_joins_windows_the_same(folder, tall):
    L = torch.rand(11, 70, generator=torch.Generator().manual_seed(0))
    spans = windows(70, 11)
    turn = (lambda o: o.mT) if tall else (lambda o: o)
    parts = [torch.stack([L[:, a:b] + i, L[:, a:b]*i]) for i,(a,b) in enumerate(spans)] # as a net would answer that sees each window differently
    L, want = turn(L), turn(joined(parts, spans))
    h, w = L.shape
    script = f"""let i = 0
        const net = ({{data, width, height}}) => {{ const n = i++; return {{data: Float32Array.from([...data.map(v => v + n), ...data.map(v => v*n)]), width, height}} }}
        const out = (await A.seenInWindows({{data: new Float32Array(new Uint8Array(read('L')).buffer), width: {w}, height: {h}}}, net)).data"""
    got = np.frombuffer(node(folder, script, L=L.contiguous().numpy()), np.float32).reshape(want.shape)
    assert len(spans) > 2 and np.abs(got - want.numpy()).max() < 1e-5

def framed(w, h, frame, light):
    "A photo in a plain frame (left, top, right, bottom)"
    im = Image.new('RGB', (w, h), (light,)*3)
    l, t, r, b = frame
    im.paste(read_rgb(sample_photos()['astronaut']).resize((w - l - r, h - t - b)), (l, t))
    return im

frames = [framed(300, 200, (0, 0, 0, 0), 0), framed(300, 200, (9, 9, 9, 9), 250), framed(901, 1303, (31, 50, 40, 70), 245), framed(400, 320, (0, 40, 0, 40), 0),
    framed(1200, 800, (90, 0, 90, 0), 5), framed(60, 15, (4, 4, 4, 4), 255), framed(260, 260, (2, 2, 2, 2), 128), Image.new('RGB', (64, 48), 'white')]

@needs_node
@pytest.mark.parametrize('im', [*frames, *(age_photo(read_rgb(sample_photos()[k]).resize((711, 500)), seed=i, tone=.5*i).convert('RGB')
    for i,k in enumerate(('astronaut', 'chelsea', 'rocket')))], ids=range(len(frames) + 3))
def test_the_page_finds_the_same_frame(folder, im):
    script = f"const out = Int32Array.from(A.findFrame({{data: read('px'), width: {im.width}, height: {im.height}}}) ?? [])"
    assert np.frombuffer(node(folder, script, px=rgba(np.array(im))), np.int32).tolist() == list(find_frame(im) or [])

def test_some_frames_are_found(): assert [find_frame(o) is None for o in frames] == [True, False, False, False, False, True, True, True]

@needs_node
@pytest.mark.parametrize('box', [(0, 9, 121, 200), (13, 0, 90, 223), (20, 30, 301, 223)])
def test_the_page_leaves_a_frame_neutral(folder, box):
    im = read_rgb(sample_photos()['astronaut']).crop((0, 0, 301, 223))
    ab = torch.randn(2, 9, 7, generator=torch.Generator().manual_seed(1))*.2
    script = f"const ab = new Float32Array(new Uint8Array(read('ab')).buffer), out = A.recolor({{data: read('px'), width: 301, height: 223}}, {{data: ab, width: 7, height: 9}}, 1, {list(box)}).data"
    got = np.frombuffer(node(folder, script, px=rgba(np.array(im)), ab=ab.numpy()), np.uint8).reshape(223, 301, 4)[..., :3].astype(int)
    assert np.abs(got - np.array(_framed(im, ab, box)).astype(int)).max() <= 1
    outside = np.ones(got.shape[:2], bool); outside[box[1]:box[3], box[0]:box[2]] = False
    assert (got[outside] == got[outside][:, :1]).all()

# What a JPEG says about itself

def jpeg(file, **kw):
    im = Image.open(sample_photos()['chelsea']).convert('RGB').resize((40, 30))
    im.save(file, 'JPEG', **kw)
    return file

def kind_of(xmp):
    "IPTC's word for how a picture was made"
    return next(o.attrib[f'{{{_iptc}}}DigitalSourceType'] for o in _parsed(xmp).iter() if f'{{{_iptc}}}DigitalSourceType' in o.attrib)

@needs_node
def test_the_page_marks_a_picture_without_exif(folder):
    jpeg(folder/'plain.jpg')
    (folder/'out').write_bytes(node(folder, "const out = new Uint8Array(await M.withNotes(new Blob([read('plain.jpg')], {type: 'image/jpeg'})).arrayBuffer())"))
    with Image.open(folder/'out') as im, Image.open(folder/'plain.jpg') as was:
        assert np.array_equal(im, was) and 'exif' not in im.info and kind_of(read_meta(im)['xmp']) == SOURCE_TYPE

@needs_node
@pytest.mark.parametrize('fmt', ['JPEG', 'PNG'])
@pytest.mark.parametrize('order', ['<', '>'])
def test_the_page_carries_exif(folder, fmt, order):
    exif = Image.Exif(); exif.endian = order
    exif[0x112], exif[0x10f], exif[0x132] = 6, 'Maker', '1962:05:04 10:00:00'
    exif.get_ifd(0x8825)[2] = (52., 31., 12.)
    jpeg(folder/'from.jpg', exif=exif)
    jpeg(folder/'to') if fmt == 'JPEG' else Image.new('RGB', (9, 9)).save(folder/'to', fmt)
    script = f"const blob = M.withNotes(new Blob([read('to')], {{type: 'image/{fmt.lower()}'}}), M.exifOf(new Uint8Array(read('from.jpg')))), out = new Uint8Array(await blob.arrayBuffer())"
    (folder/'out').write_bytes(node(folder, script))
    with Image.open(folder/'out') as im:
        im.load()
        assert im.format == fmt and dict(im.getexif()) | {0x8825: 0} == {0x112: 1, 0x10f: 'Maker', 0x132: '1962:05:04 10:00:00', 0x8825: 0}
        assert im.getexif().get_ifd(0x8825)[2] == (52., 31., 12.)
        assert kind_of(read_meta(im)['xmp']) == SOURCE_TYPE

@needs_node
def test_the_page_survives_broken_exif(folder):
    whole = jpeg(folder/'a.jpg', exif=b'Exif\0\0II*\0\x08\0\0\0' + bytes(60)).read_bytes()
    for broken in (b'', b'\xff\xd8', whole[:9], whole[:40], b'\x89PNG' + whole, whole.replace(b'II*\0\x08\0\0\0', b'II*\0\xff\xff\xff\0'), jpeg(folder/'b.jpg').read_bytes()):
        assert node(folder, "const found = M.exifOf(new Uint8Array(read('x'))), out = Uint8Array.of(found ? 1 : 0)", x=np.frombuffer(broken, np.uint8)) == b'\0'

# The folder for a web server

def test_what_the_page_lacks_is_said(monkeypatch, tmp_path, capsys):
    mod = runpy.run_path(str(root/'.ci'/'colorizer.py'))
    monkeypatch.setattr(shutil, 'which', lambda name: None)
    mod['into'](tmp_path)
    assert 'npm' in capsys.readouterr().err and 'without the colorizer' in (tmp_path/'colorizer'/'index.html').read_text()
    assert not (tmp_path/'colorizer'/'model.json').exists()

@needs_onnx
@needs_node
def test_the_page_knows_the_answer_to_its_pattern(models, folder):
    L = np.frombuffer(node(folder, 'const out = A.pattern().data'), np.float32).reshape(1, 1, 32, 32)
    said = runpy.run_path(str(root/'.ci'/'colorizer.py'))['probe'](models[default_weights, True], .5)
    c = Colorizer(device='cpu')
    ab = c._net_ab(torch.tensor(L), **c._dial(.5)[0]).numpy().ravel() # before its colors are moved apart
    assert len(said) == 32 and np.abs(np.array(said) - ab[::64]).max() < 1e-4
    assert np.abs(L).max() <= 1 and np.abs(said).max() > .02 # a card that says nothing would be found out

def test_the_page_asks_nobody_else():
    names = r'http-equiv|http://(ns\.adobe\.com|www\.w3\.org|iptc\.org|cv\.iptc\.org)/' # in XMP, names are written as addresses
    for f in page.glob('*.[hcj]*'): assert 'http' not in re.sub(names, '', f.read_text(encoding='utf-8')), f.name
