"Colorize a photo with onnxruntime, NumPy and Pillow alone: python colorize.py colorizer.onnx photo.jpg colored.png"
import sys, numpy as np, onnxruntime
from PIL import Image, ImageOps

xyz = np.array([[.412453, .357580, .180423], [.212671, .715160, .072169], [.019334, .119193, .950227]], np.float32)
xyz /= np.array([[.95047], [1], [1.08883]], np.float32) # relative to the white of daylight
rgb = np.linalg.inv(xyz)

def lightness(im): # L*, [H,W]
    x = np.asarray(im, np.float32)/255
    y = np.where(x > .04045, ((x + .055)/1.055)**2.4, x/12.92) @ xyz[1]
    return np.where(y > (6/29)**3, 116*np.cbrt(y) - 16, y*(29/3)**3)

def linear(L, ab): # light of red, green and blue, [H,W,3]
    f = (L + 16)/116
    f = np.stack([f + ab[0]/500, f, f - ab[1]/200], -1)
    return np.where(f > 6/29, f**3, (f - 4/29)*3*(6/29)**2) @ rgb.T

model, photo, out = sys.argv[1:4]
net = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
facts = net.get_modelmeta().custom_metadata_map
im = ImageOps.exif_transpose(Image.open(photo)).convert('RGB')
scale = int(facts['size'])/min(im.size)
small = im.resize([max(1, round(n*scale)) for n in im.size], Image.Resampling.BICUBIC)
L = lightness(small)[None,None]/50 - 1
ab, = net.run(['ab'], {'L': L.astype(np.float32), 'vividness': np.array(facts['vividness'], np.float32)})
ab = [np.asarray(Image.fromarray(o*110).resize(im.size, Image.Resampling.BILINEAR)) for o in ab[0]]

L, s = lightness(im), 0 # the lightness of the photo itself, in full size
for i in range(10): # the largest part of the color, up to all of it, that sRGB can show at this lightness
    more = s + .5**(i + 1)
    s = np.where((np.abs(linear(L, ab*np.array(more)) - .5) < .5001).all(-1), more, s)
x = linear(L, ab*np.array(s + .5**10)).clip(0, 1)
x = np.where(x > .0031308, 1.055*x**(1/2.4) - .055, x*12.92)
Image.fromarray((x*255 + .5).astype(np.uint8)).save(out)
