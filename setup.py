"""Package metadata: everything comes from settings.ini, its single home."""
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup, find_packages

here = Path(__file__).parent
ini = ConfigParser(delimiters=['='], interpolation=None)
ini.read(here/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
imagenet, trackers, onnx, dev = (cfg[f'{o}_requirements'].split() for o in ('imagenet', 'trackers', 'onnx', 'dev'))

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'].split(),
    author=cfg['author'], license=cfg['license'], python_requires=f">={cfg['min_python']}",
    long_description=(here/'README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    install_requires=cfg['requirements'].split(),
    extras_require=dict(imagenet=imagenet, trackers=trackers, onnx=onnx, dev=imagenet + trackers + onnx + dev),
    packages=find_packages(include=['colorize_fastai*']), package_data={'colorize_fastai': ['pretrained/*', 'assets/*']},
    entry_points=dict(console_scripts=cfg['console_scripts'].split(), nbdev=[f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"]),
)
