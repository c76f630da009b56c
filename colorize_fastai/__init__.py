from importlib.metadata import version, PackageNotFoundError

try: __version__ = version('colorize_fastai')
except PackageNotFoundError: __version__ = '0+unknown'  # the source folder is on the path, but nothing is installed

def __getattr__(name):  # importing torch takes a second: only for those who ask for it
    if name != 'Colorizer': raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from .inference import Colorizer
    return Colorizer
