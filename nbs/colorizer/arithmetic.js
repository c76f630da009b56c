// From the pixels of a photo to what the net sees, and from its answer back to pixels: the arithmetic of `Colorizer`, number by number.
// Pixels are RGBA bytes as a canvas gives them: {data, width, height}. Nothing here touches the page, so it also runs in Node.

const AB_SCALE = 110, D = 6/29, EPS = 1e-4, TOP = 65535
const WHITE = [0.95047, 1, 1.08883]
const XYZ = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
  .map((row, i) => row.map(v => v/WHITE[i]))
const [Y_R, Y_G, Y_B] = XYZ[1]
const [[RX, RY, RZ], [GX, GY, GZ], [BX, BY, BZ]] = inverse(XYZ)

function inverse([[a, b, c], [d, e, f], [g, h, i]]) {
  const det = a*(e*i - f*h) - b*(d*i - f*g) + c*(d*h - e*g)
  return [[e*i - f*h, c*h - b*i, b*f - c*e], [f*g - d*i, a*i - c*g, c*d - a*f], [d*h - e*g, b*g - a*h, a*e - b*d]].map(r => r.map(v => v/det))
}

const toLinear = v => v > 0.04045 ? ((v + 0.055)/1.055)**2.4 : v/12.92
const LINEAR = Float64Array.from({length: 256}, (_, i) => toLinear(i/255))
const BYTES = new Uint8Array(TOP + 1) // the byte of linear light k/65535
for (let k = 0, v = 0; k <= TOP; k++) {
  while (v < 255 && k/TOP > toLinear((v + .5)/255)) v++
  BYTES[k] = v
}
const cubeRoot = y => y > D**3 ? Math.cbrt(y) : D + (y - D**3)/(3*D*D)
const cube = t => t > D ? t*t*t : D**3 + (t - D)*3*D*D

/** Python's round: halves go to the even number. */
function round(x) {
  const f = Math.floor(x)
  return x - f === .5 ? f + f % 2 : Math.round(x)
}

/** The size at which the net sees a photo. */
export function seenSize(width, height, size) {
  const scale = Math.min(size/Math.min(width, height), 64*size/Math.max(width, height))
  return [Math.max(1, round(width*scale)), Math.max(1, round(height*scale))]
}

/** Means of n×n pixels, as Pillow's `reduce` rounds them; gives RGB. */
export function reduce({data, width, height}, n, channels = 4) {
  const w = Math.ceil(width/n), h = Math.ceil(height/n), out = new Uint8Array(3*w*h), sums = new Uint32Array(3*w)
  for (let y = 0; y < h; y++) {
    const y1 = Math.min(height, (y + 1)*n), rows = y1 - y*n
    sums.fill(0)
    for (let yy = y*n; yy < y1; yy++) {
      for (let x = 0, i = yy*width*channels; x < w; x++) {
        let r = 0, g = 0, b = 0
        for (const end = i + (Math.min(width, (x + 1)*n) - x*n)*channels; i < end; i += channels) { r += data[i]; g += data[i+1]; b += data[i+2] }
        sums[3*x] += r; sums[3*x+1] += g; sums[3*x+2] += b
      }
    }
    for (let x = 0; x < w; x++) {
      const area = rows*(Math.min(width, (x + 1)*n) - x*n), times = Math.floor(Math.fround(2**24/area)), half = area >> 1
      for (let c = 0; c < 3; c++) out[3*(y*w + x) + c] = Math.floor((sums[3*x + c] + half)*times/2**24)
    }
  }
  return {data: out, width: w, height: h}
}

/** For each of `n` new pixels along a line of `full`: the first old one, how many, and their weights in whole numbers. */
function taps(full, n) {
  const scale = full/n, stretch = Math.max(1, scale), reach = 2*stretch, room = Math.ceil(reach)*2 + 1
  const cubic = x => (x = Math.abs(x), x < 1 ? (1.5*x - 2.5)*x*x + 1 : x < 2 ? ((-.5*x + 2.5)*x - 4)*x + 2 : 0) // a = -1/2
  const first = new Int32Array(n), count = new Int32Array(n), exact = new Float64Array(n*room)
  let top = 0
  for (let i = 0; i < n; i++) {
    const center = scale*(i + .5), from = Math.max(0, Math.trunc(center - reach + .5)), to = Math.min(full, Math.trunc(center + reach + .5))
    let sum = 0
    for (let j = from; j < to; j++) sum += exact[i*room + j - from] = cubic((j - center + .5)/stretch)
    for (let j = 0; j < to - from; j++) top = Math.max(top, exact[i*room + j] /= sum)
    first[i] = from; count[i] = to - from
  }
  let bits = 0
  while (bits < 22 && Math.trunc(.5 + top*2**(bits + 1)) < 2**15) bits++
  const weights = Int32Array.from(exact, w => Math.trunc(w*2**bits + (w < 0 ? -.5 : .5)))
  return {first, count, weights, room, bits}
}

const clipByte = v => v < 0 ? 0 : v > 255 ? 255 : v

/** RGB resized, bicubic and antialiased, in whole numbers: first along the rows, then along the columns. */
export function resize({data, width, height}, w, h) {
  if (w !== width) {
    const {first, count, weights, room, bits} = taps(width, w), out = new Uint8Array(3*w*height)
    for (let y = 0; y < height; y++) for (let x = 0; x < w; x++) {
      let r = 1 << bits - 1, g = r, b = r, i = 3*(y*width + first[x])
      for (let j = x*room, end = j + count[x]; j < end; j++, i += 3) { const k = weights[j]; r += k*data[i]; g += k*data[i+1]; b += k*data[i+2] }
      const o = 3*(y*w + x)
      out[o] = clipByte(r >> bits); out[o+1] = clipByte(g >> bits); out[o+2] = clipByte(b >> bits)
    }
    data = out
  }
  if (h !== height) {
    const {first, count, weights, room, bits} = taps(height, h), out = new Uint8Array(3*w*h), step = 3*w
    for (let y = 0; y < h; y++) for (let x = 0; x < step; x++) {
      let v = 1 << bits - 1, i = first[y]*step + x
      for (let j = y*room, end = j + count[y]; j < end; j++, i += step) v += weights[j]*data[i]
      out[y*step + x] = clipByte(v >> bits)
    }
    data = out
  }
  return {data, width: w, height: h}
}

/** The small picture that the net is shown, in RGB. */
export function seenPixels(pixels, size) {
  const {width, height} = pixels, [w, h] = seenSize(width, height, size), n = Math.floor(Math.min(Math.floor(width/w), Math.floor(height/h))/3)
  return resize(reduce(pixels, Math.max(1, n)), w, h)
}

/** Its lightness, from -1 (black) to 1 (white). */
export function lightness({data, width, height}) {
  const L = new Float32Array(width*height)
  for (let i = 0, j = 0; i < L.length; i++, j += 3)
    L[i] = (116*cubeRoot(Y_R*LINEAR[data[j]] + Y_G*LINEAR[data[j+1]] + Y_B*LINEAR[data[j+2]]) - 16)/50 - 1
  return {data: L, width, height}
}

/** For each of `n` new places along a line of `full` numbers: the two old ones between which it lies, and how far along. */
function between(full, n) {
  const a = new Int32Array(n), b = new Int32Array(n), t = new Float32Array(n)
  for (let i = 0; i < n; i++) {
    const at = Math.min(Math.max((i + .5)*full/n - .5, 0), full - 1)
    a[i] = Math.floor(at); b[i] = Math.min(a[i] + 1, full - 1); t[i] = at - a[i]
  }
  return {a, b, t}
}

/** The largest part of a color, to 2**-10, that sRGB can show at this lightness. */
function fit(f, dx, dz) {
  const bad = v => v < -EPS || v > 1 + EPS
  let s = 0
  for (let step = .5; step > 2**-11; step /= 2) {
    const k = s + step, X = cube(f + k*dx), Y = cube(f), Z = cube(f + k*dz)
    if (!(bad(RX*X + RY*Y + RZ*Z) || bad(GX*X + GY*Y + GZ*Z) || bad(BX*X + BY*Y + BZ*Z))) s = k
  }
  return s
}

/** Paint RGBA pixels, in place: the lightness that they have, and the color of the small map `ab` ({data: 2 planes, width, height}) times `times`.
 *  With a `box` ([left, top, right, bottom]) the map is that of its inside, and all around it becomes grey. */
export function recolor(pixels, ab, times = 1, box = undefined) {
  if (box || !times) makeGrey(pixels, times ? box : undefined)
  if (times) paint(pixels, ab, times, box ?? [0, 0, pixels.width, pixels.height])
  return pixels
}

function paint({data, width}, ab, times, [left, top, right, bottom]) {
  const n = ab.width*ab.height, cols = between(ab.width, right - left), rows = between(ab.height, bottom - top)
  const lineA = new Float32Array(ab.width), lineB = new Float32Array(ab.width), toX = times*AB_SCALE/500, toZ = -times*AB_SCALE/200
  for (let y = 0; y < bottom - top; y++) {
    const ra = rows.a[y]*ab.width, rb = rows.b[y]*ab.width, t = rows.t[y]
    for (let x = 0; x < ab.width; x++) {
      lineA[x] = ab.data[ra + x] + t*(ab.data[rb + x] - ab.data[ra + x])
      lineB[x] = ab.data[n + ra + x] + t*(ab.data[n + rb + x] - ab.data[n + ra + x])
    }
    for (let x = 0, o = 4*((top + y)*width + left); x < right - left; x++, o += 4) {
      const i = cols.a[x], j = cols.b[x], u = cols.t[x]
      let dx = toX*(lineA[i] + u*(lineA[j] - lineA[i])), dz = toZ*(lineB[i] + u*(lineB[j] - lineB[i]))
      const Y = Y_R*LINEAR[data[o]] + Y_G*LINEAR[data[o+1]] + Y_B*LINEAR[data[o+2]], f = cubeRoot(Y)
      let X = cube(f + dx), Z = cube(f + dz)
      let r = RX*X + RY*Y + RZ*Z, g = GX*X + GY*Y + GZ*Z, b = BX*X + BY*Y + BZ*Z
      if (Math.min(r, g, b) < -EPS || Math.max(r, g, b) > 1 + EPS) {
        const s = fit(f, dx, dz)
        X = cube(f + s*dx); Z = cube(f + s*dz)
        r = RX*X + RY*Y + RZ*Z; g = GX*X + GY*Y + GZ*Z; b = BX*X + BY*Y + BZ*Z
      }
      data[o] = toByte(r); data[o+1] = toByte(g); data[o+2] = toByte(b)
    }
  }
}

/** Take the color out of all pixels that lie outside of `box`, or of all. */
function makeGrey({data, width, height}, [left, top, right, bottom] = [0, 0, 0, 0]) {
  for (let y = 0, o = 0; y < height; y++) for (let x = 0; x < width; x++, o += 4) {
    if (y >= top && y < bottom && x === left) { x += right - left; o += 4*(right - left); if (x >= width) break }
    data[o] = data[o+1] = data[o+2] = toByte(Y_R*LINEAR[data[o]] + Y_G*LINEAR[data[o+1]] + Y_B*LINEAR[data[o+2]])
  }
}

function toByte(v) { return BYTES[v <= 0 ? 0 : v >= 1 ? TOP : v*TOP + .5 | 0] }

// Long photos are shown to the net in windows

/** (from, to) of windows along a photo of length `n` and of the short side `width`: they overlap. */
export function windows(n, width) {
  if (n <= 3*width) return [[0, n]]
  const k = Math.ceil((n - 2*width)/(1.5*width)) + 1, step = (n - 2*width)/(k - 1)
  return Array.from({length: k}, (_, i) => round(i*step)).map(o => [o, o + 2*width])
}

/** The map of color of `L`, which `net` is asked for window by window; each counts less towards its ends. */
export async function seenInWindows(L, net) {
  const {data, width, height} = L, tall = height > width, spans = windows(Math.max(width, height), Math.min(width, height))
  if (spans.length === 1) return net(L)
  const out = new Float32Array(2*width*height), total = new Float32Array(Math.max(width, height))
  for (const [from, to] of spans) {
    const w = tall ? width : to - from, h = tall ? to - from : height, start = from*(tall ? width : 1), part = new Float32Array(w*h)
    for (let y = 0; y < h; y++) part.set(data.subarray(start + y*width, start + y*width + w), y*w)
    const ab = (await net({data: part, width: w, height: h})).data, weight = i => Math.min(i, to - 1 - from - i) + .5
    for (let i = from; i < to; i++) total[i] += weight(i - from)
    for (let c = 0, i = 0; c < 2; c++) for (let y = 0; y < h; y++) for (let x = 0; x < w; x++, i++)
      out[c*width*height + start + y*width + x] += ab[i]*weight(tall ? y : x)
  }
  for (let c = 0, i = 0; c < 2; c++) for (let y = 0; y < height; y++) for (let x = 0; x < width; x++, i++) out[i] /= total[tall ? y : x]
  return {data: out, width, height}
}

/** A pattern whose colors are known: by it the page finds out whether a graphics card computes rightly. */
export const pattern = () => ({data: Float32Array.from({length: 1024}, (_, i) => i*i % 97/48.5 - 1), width: 32, height: 32})

// The dial

/** Colors moved away from their mean by `vividness`: towards a deviation of `spread` in units of a*b*, at most `most`-fold (`spread_out`). */
export function spreadOut({data, width, height}, vividness, spread, most) {
  const n = width*height, mean = [0, 0], out = new Float32Array(2*n)
  let square = 0
  for (const c of [0, 1]) { for (let i = 0; i < n; i++) mean[c] += data[c*n + i]; mean[c] /= n }
  for (const c of [0, 1]) for (let i = 0; i < n; i++) square += (data[c*n + i] - mean[c])**2
  const times = Math.min(most, Math.max(1, spread/Math.max(.1, Math.sqrt(square/n)*AB_SCALE)))**vividness
  for (const c of [0, 1]) for (let i = c*n; i < (c + 1)*n; i++) out[i] = data[i] + (data[i] - mean[c])*(times - 1)
  return {data: out, width, height}
}

// A frame of one lightness is no part of the picture. Lines are rows or columns of grey bytes

/** Rows of grey; `channels` are those of the pixels. */
function greyRows({data, width, height}, channels) {
  return Array.from({length: height}, (_, y) => Uint8Array.from({length: width}, (_, x) => {
    const i = channels*(y*width + x)
    return data[i]*19595 + data[i+1]*38470 + data[i+2]*7471 + 32768 >> 16
  }))
}
const columns = rows => Array.from(rows[0] ?? [], (_, x) => Uint8Array.from(rows, row => row[x]))

export function cropped({data, width}, [left, top, right, bottom]) {
  const w = right - left, h = bottom - top, out = new Uint8ClampedArray(4*w*h)
  for (let y = 0; y < h; y++) out.set(data.subarray(4*((top + y)*width + left), 4*((top + y)*width + right)), 4*w*y)
  return {data: out, width: w, height: h}
}

/** Lightness (of 100) below which a share `q` of a line lies, between two pixels where need be. */
function quantile(sorted, q) {
  const at = q*(sorted.length - 1), i = Math.floor(at)
  return (sorted[i] + (at - i)*(sorted[Math.min(i + 1, sorted.length - 1)] - sorted[i]))/2.55
}

/** How many lines from the first on are of one lightness, that of the first (or `like`), and which. */
function depth(lines, like, most = .35) {
  const ends = lines.map(line => { const s = line.slice().sort(); return [quantile(s, .04), quantile(s, .96)] })
  const mid = ends.map(([lo, hi]) => (lo + hi)/2), end = ends.findIndex(([lo, hi], i) => !(hi - lo < 6 && Math.abs(mid[i] - (like ?? mid[0])) < 5))
  const n = end < 0 ? lines.length : end
  return [like !== undefined || n <= most*lines.length ? n : 0, mid[0]]
}

/** The first and the last line, of `size`, that are no frame. `lines` are means of `n`, `full(from, to)` gives some of them in full. */
function sides(lines, n, size, full) {
  const [a, first] = depth(lines), [b, last] = depth([...lines].reverse()), k = lines.length
  if (Math.min(a, b) < Math.max(2, .01*k) || Math.abs(first - last) > 8 || a + b + 4 > k) return
  const other = line => line.reduce((sum, v) => sum + (Math.abs(v/2.55 - first) > 8), 0)/line.length
  if (Math.min(other(lines[a+2]), other(lines[k-b-3])) < .5) return // no step: a sky, or snow
  if (n < 2) return [a, k - b]
  const near = (a - 1)*n, far = size - (b - 1)*n // to the very line, where the small picture has mixed them
  return [near + depth(full(near, near + 3*n), first)[0], far - depth(full(far - 3*n, far).reverse(), last)[0]]
}

/** Where the picture lies in its frame: [left, top, right, bottom]; nothing if it has none. */
export function findFrame(pixels) {
  const {width, height} = pixels, n = Math.max(1, Math.floor(Math.min(width, height)/256)), rows = greyRows(reduce(pixels, n), 3)
  if (Math.min(rows.length, rows[0].length) < 16) return
  const part = (...box) => greyRows(cropped(pixels, box), 4)
  const down = sides(rows, n, height, (from, to) => part(0, from, width, to)), [top, bottom] = down ?? [0, height]
  const inside = columns(rows.slice(Math.floor(top/n), Math.ceil(bottom/n))) // a column of the picture lies between two bars
  const across = sides(inside, n, width, (from, to) => columns(part(from, top, to, bottom))), [left, right] = across ?? [0, width]
  if (down || across) return [left, top, right, bottom]
}
