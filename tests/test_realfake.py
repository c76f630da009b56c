"The test that asks people: what is written, and its intervals beside textbook formulas (.ci/browse_realfake.py runs it in a browser)"
import json, re, subprocess, sys
import numpy as np, pandas as pd, pytest
from PIL import Image
from scipy.stats import t as student
from colorize_fastai.photo import read_rgb, sample_photos
from colorize_fastai.realfake import realfake, realfake_report

def saved(df, path):
    df = df.assign(test='t', kind='main', answer='left')
    df['trial'] = df.groupby('person').cumcount()
    df.to_csv(path, index=False)
    return path

def test_folder_needs_nothing_else(tmp_path):
    page = realfake(dict(a=lambda im: im, b=lambda im: Image.blend(im, Image.new('RGB', im.size, 'red'), .3)), list(sample_photos().values()), tmp_path/'test',
                    size=32, practice=1, check_every=3)
    text = page.read_text(encoding='utf-8') + (page.parent/'test.js').read_text(encoding='utf-8')
    assert not re.findall(r'https?://', text)
    test = json.loads((page.parent/'test.js').read_text(encoding='utf-8')[len('const TEST = '):])
    assert len(test['practice']) == 1 and test['checks'] and test['photos'] and set(test['photos'][0]['fakes']) == {'a', 'b'}
    used = {p for o in test['practice'] + test['checks'] + test['photos'] for p in (o['real'], o['absurd'], *o['fakes'].values())}
    assert all((page.parent/p).exists() for p in used) and len({p.split('/')[-1].split('.')[0] for p in used}) == len(used)
    assert len({Image.open(page.parent/p).size for p in used}) == 1

def test_independent_answers_as_in_the_textbook(tmp_path):
    rng = np.random.default_rng(0)
    df = pd.DataFrame(dict(person=rng.integers(0, 300, 6000).astype(str), photo=rng.integers(0, 300, 6000).astype(str), colorizer='ours', fooled=rng.random(6000) < .25))
    s = realfake_report(saved(df.astype(dict(fooled=int)), tmp_path/'a.csv'))['shares'].loc['ours']
    assert s.fooled == df.fooled.mean()
    half = 1.96*np.sqrt(.25*.75/6000)
    assert (s.high - s.low)/2 == pytest.approx(half, rel=.15)
    assert s.answers_for_3 == pytest.approx(.25*.75*(1.96/.03)**2, rel=.2)

def test_answers_of_one_person_are_no_independent_ones(tmp_path):
    "Every person always says the same: as many answers as people count, and Student's t of their means is the interval"
    says = np.random.default_rng(0).random(20) < .5
    df = pd.DataFrame([dict(person=str(i), photo=str(100*i + j), colorizer='ours', fooled=int(says[i])) for i in range(20) for j in range(30)])
    s = realfake_report(saved(df, tmp_path/'a.csv'))['shares'].loc['ours']
    half = student.ppf(.975, 19)*says.std(ddof=1)/np.sqrt(20)
    assert s.high - s.fooled == pytest.approx(half, rel=.1)

def test_no_difference_is_called_none(tmp_path):
    rng = np.random.default_rng(0)
    df = pd.DataFrame([dict(person=str(i), photo=str(j), colorizer='ab'[(i + j) % 2], fooled=int(rng.random() < .3)) for i in range(12) for j in range(24)])
    d = realfake_report(saved(df, tmp_path/'a.csv'))['differences']
    assert d.reading.iloc[0] == 'no difference is shown between a and b' and d.low.iloc[0] < 0 < d.high.iloc[0]
    df['fooled'] = (df.colorizer == 'a').astype(int)*(df.photo.astype(int) % 3 > 0)
    assert realfake_report(saved(df, tmp_path/'b.csv'))['differences'].reading.iloc[0] == 'a fools people more often than b'

def test_nobody_fooled_is_no_certainty(tmp_path):
    df = pd.DataFrame([dict(person=str(i), photo=str(j), colorizer='a', fooled=0) for i in range(3) for j in range(10)])
    s = realfake_report(saved(df, tmp_path/'a.csv'))['shares'].loc['a']
    assert (s.fooled, s.low) == (0, 0) and s.high == pytest.approx(3.84/(30 + 3.84), rel=.01) # Wilson

def squares(folder, names, size=40):
    "Small photos of different content below `folder`, by their names"
    rng, src = np.random.default_rng(0), read_rgb(sample_photos()['astronaut'])
    for name in names:
        x, y = rng.integers(0, 300, 2).tolist()
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        src.crop((x, y, x + size, y + size)).save(folder/name)
    return folder

def written(page): return json.loads((page.parent/'test.js').read_text(encoding='utf-8')[len('const TEST = '):])
def trials(test): return [o['photo'] for o in test['practice'] + test['checks'] + test['photos']]
def same(im): return im

def test_photos_of_one_name_are_two(tmp_path):
    names = [f'{d}/{i}.png' for d in ('beach', 'wood') for i in range(3)]
    page = realfake(dict(a=same), squares(tmp_path/'photos', names), tmp_path/'test', size=32, practice=1)
    assert sorted(trials(written(page))) == names
    rows = [dict(test='t', person=str(i), trial=j, kind='main', photo=p, colorizer='a', answer='left', fooled=(i + j) % 2)
            for i in range(4) for j,p in enumerate(trials(written(page)))]
    pd.DataFrame(rows).to_csv(tmp_path/'a.csv', index=False)
    assert realfake_report(tmp_path/'a.csv')['shares'].photos['a'] == 6

def test_a_photo_that_cannot_be_read_is_replaced(tmp_path, capsys, recwarn):
    photos = squares(tmp_path/'photos', [f'{i}.png' for i in range(8)])
    (photos/'3.png').write_bytes((photos/'3.png').read_bytes()[:60]) # cut off
    page = realfake(dict(a=same), photos, tmp_path/'test', size=32, practice=2, check_every=2, max_photos=7)
    test = written(page)
    assert sorted(trials(test)) == [f'{i}.png' for i in range(8) if i != 3]
    assert [len(test[k]) for k in ('practice', 'checks', 'photos')] == [2, 1, 4]
    said, = capsys.readouterr().out.splitlines()
    assert said.startswith('1 of 8 photos left out, 7 of 7 wanted are there: ') and '3.png' in said and not recwarn.list

def test_too_few_photos_that_can_be_read_are_refused(tmp_path, capsys):
    photos = squares(tmp_path/'photos', [f'{i}.png' for i in range(4)])
    for i in (1, 2): (photos/f'{i}.png').write_bytes(b'nothing')
    with pytest.raises(ValueError, match='got 2 photos, of which 2 are for practice'):
        realfake(dict(a=same), photos, tmp_path/'test', size=32, practice=2)
    assert not (tmp_path/'test').exists() and '2 of 4 photos left out' in capsys.readouterr().out

def test_max_photos_are_drawn_by_lot(tmp_path):
    photos = squares(tmp_path/'photos', [f'{i:02}.png' for i in range(12)])
    def drawn(out, seed): return trials(written(realfake(dict(a=same), photos, tmp_path/out, size=32, practice=1, max_photos=5, seed=seed)))
    a, b, c = drawn('a', 0), drawn('b', 0), drawn('c', 1)
    assert a == b and len(set(a)) == 5 and set(a) != set(c) and set(a) != {f'{i:02}.png' for i in range(5)}

stopped = """import os, sys
from pathlib import Path
from colorize_fastai.realfake import realfake
def dies(im, n=[0]):
    n[0] += 1
    if n[0] == 6: os._exit(9) # as by a kill, in the middle of it
    return im
realfake(dict(a=dies), Path(sys.argv[1]), Path(sys.argv[2]), size=32, practice=1)"""

def test_a_test_that_was_cut_off_is_in_nobodys_way(tmp_path):
    photos, out = squares(tmp_path/'photos', [f'{i}.png' for i in range(6)]), tmp_path/'out'/'test'
    assert subprocess.run([sys.executable, '-c', stopped, photos, out]).returncode == 9
    assert list((tmp_path/'out').rglob('*.jpg')) and not out.exists() # it had begun, and is not there
    assert len(trials(written(realfake(dict(a=same), photos, out, size=32, practice=1)))) == 6

def test_a_failure_leaves_nothing(tmp_path):
    photos = squares(tmp_path/'photos', [f'{i}.png' for i in range(6)])
    def fails(im): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): realfake(dict(a=fails), photos, tmp_path/'test', size=32, practice=1)
    assert [p.name for p in tmp_path.iterdir()] == ['photos']

def test_a_finished_test_stays_as_it_is(tmp_path):
    photos, out = squares(tmp_path/'photos', [f'{i}.png' for i in range(6)]), tmp_path/'test'
    realfake(dict(a=same), photos, out, size=32, practice=1)
    def state(): return {p.relative_to(out).as_posix(): (p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in out.rglob('*')}
    before = state()
    with pytest.raises(FileExistsError, match='people may have answered it'): realfake(dict(a=same), photos, out, size=32, practice=1)
    assert state() == before
    def meanwhile(im): (tmp_path/'other').mkdir(exist_ok=True); return im # somebody else takes the name while this is made
    with pytest.raises(FileExistsError, match='in the meantime'): realfake(dict(a=meanwhile), photos, tmp_path/'other', size=32, practice=1)
    assert list((tmp_path/'other').iterdir()) == [] and not list(tmp_path.glob('.*'))

def test_two_people_of_one_name_are_noticed(tmp_path):
    df = pd.DataFrame([dict(person='1', photo=str(j), colorizer='a', fooled=j % 2) for j in range(6)])
    one, two = saved(df, tmp_path/'a.csv'), saved(df.assign(fooled=1 - df.fooled), tmp_path/'b.csv')
    assert realfake_report([one, one])['shares'].answers['a'] == 6 # one file, sent twice
    with pytest.raises(ValueError, match=r"different answers of \['1'\]"): realfake_report([one, two])
