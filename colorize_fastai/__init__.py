from importlib.metadata import version, PackageNotFoundError

try: __version__ = version('colorize_fastai')
except PackageNotFoundError: __version__ = '0+unknown'  # the source folder is on the path, but nothing is installed
