"Weights files: whole, checked, and never a pickle."
import hashlib, json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
import pytest, torch
from PIL import Image
from safetensors.torch import load_file, save_file
from colorize_fastai.generator import unet_generator
from colorize_fastai.weights import WeightsError, load_generator, packaged_weights, save_weights, weights_info

@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    return unet_generator('tf_efficientnet_lite0', pretrained=False, channels=(16, 16, 8, 8))

def test_equal_nets_are_equal_files(net, tmp_path):
    "The order of a header's entries is ours, and not that of the day; safetensors' own reader takes it"
    files = [save_weights(net, tmp_path/f'{i}.safetensors', a=1, b='x', c=[2]) for i in range(5)]
    assert len({f.read_bytes() for f in files}) == 1
    assert all(torch.equal(v, net.state_dict()[k]) for k,v in load_file(files[0]).items())

def test_there_and_back(net, tmp_path):
    back = load_generator(save_weights(net, tmp_path/'w.safetensors', note='x'))
    assert all(torch.equal(v, back.state_dict()[k]) for k, v in net.state_dict().items())
    (tmp_path/'other').write_bytes(b'')
    assert (tmp_path/'w.safetensors').stat().st_mode == (tmp_path/'other').stat().st_mode # as readable as any file
    assert not back.training and net.training
    assert weights_info(tmp_path/'w.safetensors')['note'] == 'x'
    assert load_generator(tmp_path/'w.safetensors').recipe == net.recipe

def test_run_directory(net, tmp_path):
    save_weights(net, tmp_path/'generator.safetensors')
    assert load_generator(tmp_path).recipe == net.recipe

@pytest.mark.parametrize('where', [.1, .5, .999])
def test_one_flipped_bit_is_seen(net, tmp_path, where):
    f = save_weights(net, tmp_path/'w.safetensors')
    raw = bytearray(f.read_bytes())
    start = 8 + int.from_bytes(raw[:8], 'little')
    raw[start + int(where*(len(raw) - start))] ^= 4
    f.write_bytes(raw)
    with pytest.raises(WeightsError, match='w.safetensors is damaged'): load_generator(f)

@pytest.mark.parametrize('n', [0, 7, 1000, -1])
def test_truncated(net, tmp_path, n):
    f = save_weights(net, tmp_path/'w.safetensors')
    f.write_bytes(f.read_bytes()[:n])
    with pytest.raises(WeightsError, match='not a whole safetensors file'): load_generator(f)

def test_a_pickle_is_refused_unread(tmp_path):
    class Evil:
        def __reduce__(self): return (open, (str(tmp_path/'owned'), 'w'))
    torch.save(dict(a=Evil()), tmp_path/'w.safetensors')
    with pytest.raises(WeightsError): load_generator(tmp_path/'w.safetensors')
    assert not (tmp_path/'owned').exists()

def rewrite(f, out, **head):
    "The same tensors under another header"
    from safetensors import safe_open
    with safe_open(f, 'pt') as o: meta = o.metadata()
    save_file(load_file(f), out, {**meta, **head})
    return out

def test_another_net_is_refused(net, tmp_path):
    f = save_weights(net, tmp_path/'w.safetensors')
    args = json.dumps({**net.recipe[1], 'channels': [32, 16, 8, 8]})
    with pytest.raises(WeightsError, match='does not fit'): load_generator(rewrite(f, tmp_path/'o.safetensors', args=args))
    with pytest.raises(WeightsError, match="unknown net 'my_net'.*unet_generator"): load_generator(rewrite(f, tmp_path/'o.safetensors', builder='my_net'))
    save_file(load_file(f), tmp_path/'plain.safetensors')
    with pytest.raises(WeightsError, match='not written by colorize_fastai'): load_generator(tmp_path/'plain.safetensors')

def test_missing_says_what_there_is(tmp_path):
    with pytest.raises(WeightsError, match='No weights at'): load_generator(tmp_path/'w.safetensors')
    with pytest.raises(WeightsError, match='No weights at no_such_name'): load_generator('no_such_name')

def test_a_failed_save_leaves_the_old_file(net, tmp_path, monkeypatch):
    f = save_weights(net, tmp_path/'w.safetensors')
    before = f.read_bytes()
    def full(*a, **kw): raise OSError(28, 'No space left on device')
    monkeypatch.setattr('os.fsync', full)
    with pytest.raises(OSError): save_weights(net, f)
    assert f.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ['w.safetensors']

def test_packaged_weights_load():
    assert packaged_weights(), 'no weights in the package'
    for name, f in packaged_weights().items():
        assert f.stat().st_size <= 20e6
        assert load_generator(name)(torch.zeros(1, 1, 32, 32)).isfinite().all()

class Hub(BaseHTTPRequestHandler):
    "As much of the Hugging Face Hub as a download needs"
    files = {}
    def do_HEAD(self, body=False):
        data = self.files.get(self.path)
        self.send_response(200 if data else 404)
        if data:
            for k,v in {'ETag': f'"{hashlib.sha256(data).hexdigest()}"', 'X-Repo-Commit': 'a'*40, 'Content-Length': str(len(data))}.items(): self.send_header(k, v)
        else: self.send_header('X-Error-Code', 'EntryNotFound' if self.path.startswith('/user/repo/') else 'RepoNotFound')
        self.end_headers()
        if body and data: self.wfile.write(data)
    def do_GET(self): self.do_HEAD(True)
    def log_message(self, *args): pass

@pytest.fixture
def hub(tmp_path):
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield dict(os.environ, HF_ENDPOINT=f'http://127.0.0.1:{server.server_port}', HF_HOME=str(tmp_path/'cache'), HF_HUB_DISABLE_TELEMETRY='1', HF_HUB_ETAG_TIMEOUT='5')
    server.shutdown()

def test_from_the_hub(net, tmp_path, hub, command):
    "Downloaded by the Hub's own client, then read without a network; what is not there, or no weights, is said in a line"
    f = save_weights(net, tmp_path/'w.safetensors')
    Hub.files = {'/user/repo/resolve/main/generator.safetensors': f.read_bytes(), '/user/repo/resolve/v2/other.safetensors': f.read_bytes(),
        '/user/repo/resolve/main/broken.safetensors': f.read_bytes()[:-9] + b'x'*9}
    photo = tmp_path/'p.png'; Image.new('RGB', (40, 30), 'grey').save(photo)
    def colorize(weights, out, **env): return command('colorize', photo, '--weights', weights, '-o', tmp_path/out, '--device', 'cpu', env=hub | env)
    r = colorize('hf://user/repo', 'a'); assert r.returncode == 0, r.stderr
    r = colorize('hf://user/repo', 'b', HF_HUB_OFFLINE='1'); assert r.returncode == 0, r.stderr
    r = command('colorize', photo, '--weights', f, '-o', tmp_path/'c', '--device', 'cpu'); assert r.returncode == 0
    assert len({Image.open(tmp_path/o/'p.png').tobytes() for o in 'abc'}) == 1
    r = colorize('hf://user/repo@v2/other.safetensors', 'd'); assert r.returncode == 0, r.stderr
    for weights,says in {'hf://user/repo/broken.safetensors': 'damaged', 'hf://user/none': 'No weights at hf://user/none: ', 'hf://user/repo/none.safetensors':
                         'No weights at hf://user/repo/none', 'hf://user/repo/pytorch_model.bin': 'write hf://user/repo'}.items():
        r = colorize(weights, 'e'); assert r.returncode == 2 and len(r.stderr.splitlines()) == 1 and says in r.stderr, r.stderr
