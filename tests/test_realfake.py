"The test that asks people: what is written, and its intervals beside textbook formulas (.ci/browse_realfake.py runs it in a browser)"
import json, re
import numpy as np, pandas as pd, pytest
from PIL import Image
from scipy.stats import t as student
from colorize_fastai.photo import sample_photos
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
