"temporary stand-in"
import importlib.util
from pathlib import Path
from PIL import Image
class PhotoError(ValueError): pass
def read_rgb(src, min_side=None):
    try:
        im = Image.open(src)
        if min_side: im.draft('RGB', (min_side, min_side)) if False else im.draft('RGB', tuple(int(s*min_side/min(im.size)) for s in im.size))
        return im.convert('RGB')
    except OSError as e: raise PhotoError(f'{src}: {e}') from None
def photo_files(source):
    if isinstance(source,(str,Path)): return sorted(p for p in Path(source).rglob('*') if p.suffix.lower() in ('.jpg','.png','.jpeg'))
    return [Path(s) for s in source]
def sample_photos(grey=False):
    d = Path(importlib.util.find_spec('skimage').origin).parent/'data'
    ns = ['camera.png','coins.png','moon.png'] if grey else ['astronaut.png','coffee.png','chelsea.png','rocket.jpg','motorcycle_left.png']
    return {Path(n).stem: d/n for n in ns}
