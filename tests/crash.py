"""python crash.py PHOTOS OUT EPOCHS KILLS SEED: a training of EPOCHS in each stage, in OUT/whole, and one in OUT/killed that is killed KILLS times, at random
moments, and goes on each time.
Imports once and forks, so that a round takes a second; every other kill falls into the writing of a file."""
import json, os, random, signal, sys, time
import torch
from colorize_fastai import run as room, train as training
from colorize_fastai.generator import pix2pix_generator

def child(photos, out, epochs, die_writing=None):
    "Train, or go on; `die_writing`: at so manieth file, in the middle of it"
    room.Run.share, fsync, n = 1e12, os.fsync, 0 # a checkpoint after every step
    def _fsync(fd):
        nonlocal n
        n += 1
        if n == die_writing:
            os.ftruncate(fd, os.fstat(fd).st_size//2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(fd)
    os.fsync = _fsync
    if 'arguments' in room.Run(out).config: return training.resume(out, progress=False)
    torch.manual_seed(0)
    net = pix2pix_generator(noise_at_test=True, n_features=4, levels=4) # BatchNorm, and dropout at all times
    training.train(photos, out, 'quick', generator=net, size=32, bs=2, pretrain_epochs=epochs, adversarial_epochs=epochs, n_features=8, ema=.9, valid_pct=.25,
                   num_workers=0, device='cpu', verbose=False, progress=False, every=8, minutes=0)

def forked(*args):
    pid = os.fork()
    if pid: return pid
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        child(*args)
        os._exit(0)
    except BaseException:
        import traceback; traceback.print_exc()
        os._exit(1)

def ended(pid): return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def newest(out): return ([f.name for f in room.Run(out).checkpoints()] or [''])[-1]

def wait(pid, out, n):
    "Until the training `pid` has written `n` more checkpoints, or has ended"
    last = newest(out)
    while n and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if (now := newest(out)) != last: last, n = now, n - 1
        time.sleep(.002)

if __name__ == '__main__':
    photos, out, epochs, kills, seed = *sys.argv[1:3], *map(int, sys.argv[3:])
    torch.optim.Adam([torch.zeros(1)]) # imports what every child would have to import
    rng, done = random.Random(seed), []
    if code := ended(forked(photos, f'{out}/whole', epochs)): sys.exit(code)
    out = f'{out}/killed'
    while len(done) < kills:
        writing = rng.randint(8, 24) if len(done) % 2 else None
        pid = forked(photos, out, epochs, writing)
        if writing is None:
            wait(pid, out, rng.randint(4, 8))
            time.sleep(rng.uniform(0, .1))
            os.kill(pid, signal.SIGKILL)
        code = ended(pid)
        if code not in (0, -9): sys.exit(code)
        if code == 0: break # it had come to its end
        done.append(('writing' if writing else 'anywhere', newest(out)))
    print(json.dumps(done))
    sys.exit(ended(forked(photos, out, epochs)))
