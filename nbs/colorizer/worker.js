// The work, away from the page: decoding, the net, painting, encoding. Messages in: {do, ticket, ...}; out: {ticket, ...} or {ticket, error}.
import { cropped, findFrame, lightness, pattern, recolor, seenInWindows, seenPixels, spreadOut } from './arithmetic.js'
import { exifOf, withNotes } from './metadata.js'

const PREVIEW = 1280 // pixels of the long side of what the page shows
const photos = new Map() // key -> {file, exif, width, height, frame, L, preview, maps}
let facts, loading, got, total // bytes
let build // of ONNX Runtime: 'wasm' computes on the processor, 'jspi' and 'webgpu' on a graphics card
let model, run // the file, for as long as another build may need it; the net, in the build that is open

class Told extends Error {} // an error whose words are for people

/** The bytes at `url`, unpacked if they are packed; the page hears how many have come. */
async function fetched(url) {
  const answer = await fetch(url)
  if (!answer.ok) throw new Told(`The file ${url} could not be loaded (the server answered ${answer.status}).`)
  const reader = answer.body.getReader(), parts = []
  for (let o; !(o = await reader.read()).done;) {
    parts.push(o.value)
    postMessage({progress: Math.min(1, (got += o.value.length)/total)})
  }
  const blob = new Blob(parts), head = new Uint8Array(await blob.slice(0, 2).arrayBuffer())
  const packed = head[0] === 0x1f && head[1] === 0x8b // unless the browser has unpacked it on the way
  return new Response(packed ? blob.stream().pipeThrough(new DecompressionStream('gzip')) : blob).arrayBuffer()
}

/** Is there a graphics card to compute with? One that the processor only plays would be slower than the processor. */
async function hasCard() {
  try {
    const card = await navigator.gpu?.requestAdapter()
    if (!card || card.info.isFallbackAdapter) return false
    const device = await card.requestDevice()
    device.destroy()
    return true
  } catch { return false }
}

/** Find out which build to load. */
async function plan() {
  if (!facts) {
    const answer = await fetch('model.json')
    if (!answer.ok) throw new Told('The model is missing on this server.')
    facts = await answer.json()
  }
  build ??= !await hasCard() ? 'wasm' : 'Suspending' in WebAssembly ? 'jspi' : 'webgpu' // jspi is smaller, but not every browser can run it
}

async function load() {
  await plan()
  got = 0; total = facts.bytes.model
  model = fetched('colorizer.onnx')
  await open()
}

/** Open the net on the graphics card; on the processor where there is none, and where it fails. */
async function open() {
  if (build !== 'wasm') {
    try { run = await opened(); await probe() }
    catch { build = 'wasm' }
  }
  if (build === 'wasm') { run = await opened(); model = undefined }
  postMessage({computes: build === 'wasm' ? 'processor' : 'graphics card'})
}

/** A function that runs the net, in the build of ONNX Runtime that was chosen. */
async function opened() {
  total += facts.bytes[build]
  const [ort, wasm, file] = await Promise.all([import(`./ort/${build}.mjs`), fetched(`ort/${build}.gz`), model])
  ort.env.wasm.wasmBinary = wasm
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1
  const options = {executionProviders: [build === 'wasm' ? 'wasm' : 'webgpu'], logSeverityLevel: 3} // errors only
  const session = await ort.InferenceSession.create(new Uint8Array(file), options)
  return async ({data, width, height}, vividness) => {
    const feeds = {L: new ort.Tensor('float32', data, [1, 1, height, width]), vividness: new ort.Tensor('float32', [vividness], [])}
    const {net_ab} = await session.run(feeds, ['net_ab'])
    return {data: net_ab.data, width, height}
  }
}

/** Fail if the graphics card computes something else than it should, as some do. */
async function probe() {
  const {data} = await run(pattern(), facts.vividness)
  if (!facts.probe.every((v, i) => Math.abs(v - data[64*i]) < .001)) throw new Error('The graphics card computes something else.')
}

/** The net, loaded once; a failed try is not kept. */
const ready = () => loading ??= load().catch(forget)
const forget = e => { loading = build = undefined; throw e }

/** Ask the net for the map of color of L. */
async function net(L, vividness) {
  await ready()
  try { return await run(L, vividness) }
  catch (e) {
    if (build === 'wasm') throw e
    build = 'wasm'
    await (loading = open().catch(forget))
    return run(L, vividness)
  }
}

async function decoded(file) {
  try { return await createImageBitmap(file, {imageOrientation: 'from-image', premultiplyAlpha: 'none'}) }
  catch { throw new Told(await whyNot(file)) }
}

/** What stands in the way of decoding, in words. */
async function whyNot(file) {
  const head = new Uint8Array(await file.slice(0, 16).arrayBuffer()), text = String.fromCharCode(...head)
  const convert = kind => `This is a ${kind} file, which your browser cannot read. Save it as JPEG or PNG and try again; the command colorize reads TIFF and HEIC.`
  if (!file.size) return 'This file is empty.'
  if (/^(II\*\0|MM\0\*|II\+\0|MM\0\+)/.test(text)) return convert('TIFF or raw')
  if (/^....ftyp(hei|hev|mif|msf)/.test(text)) return convert('HEIC')
  if (/^....ftyp/.test(text) && !/avi[fs]/.test(text)) return 'This is a film, not a photograph.'
  if (text.startsWith('%PDF')) return 'This is a PDF. Take the photograph out of it, as JPEG or PNG.'
  if (/^(\xff\xd8|\x89PNG|GIF8|RIFF|BM)/.test(text)) return 'This photograph is damaged, incomplete, or too large for your browser.'
  return 'This is no photograph that your browser can read. JPEG, PNG, WebP, GIF, BMP and mostly AVIF work.'
}

/** The pixels of a bitmap, at most `side` pixels long. */
function pixelsOf(bitmap, side = Infinity) {
  const scale = Math.min(1, side/Math.max(bitmap.width, bitmap.height))
  const w = Math.max(1, Math.round(bitmap.width*scale)), h = Math.max(1, Math.round(bitmap.height*scale))
  try {
    const context = new OffscreenCanvas(w, h).getContext('2d', {willReadFrequently: true})
    context.imageSmoothingQuality = 'high'
    context.drawImage(bitmap, 0, 0, w, h)
    return context.getImageData(0, 0, w, h)
  } catch { throw new Told(`${w} × ${h} pixels are too many for your browser. Make the photograph smaller, or use the command colorize.`) }
}

/** The map of color of a photo. */
async function map(photo, vividness) {
  const at = facts.temperature_at_1 === 1 && facts.answers === 1 ? 0 : vividness // the net itself has no dial, and runs once
  if (!photo.maps.has(at)) {
    if (photo.maps.size > 8) photo.maps.delete(photo.maps.keys().next().value)
    photo.maps.set(at, await seenInWindows(photo.L, L => net(L, at)))
  }
  return spreadOut(photo.maps.get(at), vividness, facts.spread_at_1, facts.most_spread)
}

async function painted(pixels, photo, {vividness, saturation}) {
  const ab = await map(photo, vividness), scale = [pixels.width/photo.width, pixels.height/photo.height]
  return recolor(pixels, ab, saturation, photo.frame?.map((o, i) => Math.round(o*scale[i % 2])))
}

const tasks = {
  async weigh() { await plan(); return {bytes: facts.bytes.model + facts.bytes[build]} },
  async load() { await ready(); return {facts} },
  async add({key, file}) {
    await ready()
    const bitmap = await decoded(file), {width, height} = bitmap, preview = pixelsOf(bitmap, PREVIEW)
    const pixels = pixelsOf(bitmap), frame = findFrame(pixels), L = lightness(seenPixels(frame ? cropped(pixels, frame) : pixels, facts.size))
    bitmap.close()
    const exif = exifOf(new Uint8Array(await file.slice(0, 2**20).arrayBuffer()))
    photos.set(key, {file, exif, width, height, frame, L, preview, maps: new Map()})
    return {width, height, picture: await createImageBitmap(preview)}
  },
  async color({key, ...settings}) {
    const photo = photos.get(key), {data, width, height} = photo.preview
    return {picture: await createImageBitmap(await painted(new ImageData(data.slice(), width, height), photo, settings))}
  },
  async save({key, type, ...settings}) {
    const photo = photos.get(key), bitmap = await decoded(photo.file), pixels = pixelsOf(bitmap)
    bitmap.close()
    await painted(pixels, photo, settings)
    const canvas = new OffscreenCanvas(pixels.width, pixels.height), context = canvas.getContext('2d')
    if (type === 'image/jpeg') { // which has no transparency: white paper
      const full = await createImageBitmap(pixels)
      context.fillStyle = '#fff'; context.fillRect(0, 0, canvas.width, canvas.height); context.drawImage(full, 0, 0); full.close()
    } else context.putImageData(pixels, 0, 0)
    const blob = await canvas.convertToBlob({type, quality: .95})
    return {blob: withNotes(blob, photo.exif)}
  },
  async remove({key}) { photos.delete(key); return {} },
}

const queue = [] // one thing after the other, since photos are large; downloads come first
let working = false
onmessage = async ({data}) => {
  queue.push(data)
  if (working) return
  working = true
  while (queue.length) {
    const [data] = queue.splice(Math.max(0, queue.findIndex(o => o.do === 'save')), 1)
    try {
      const answer = await tasks[data.do](data)
      postMessage({ticket: data.ticket, ...answer}, answer.picture ? [answer.picture] : [])
    } catch (e) {
      const error = e instanceof Told ? e.message : e instanceof RangeError || /memory/i.test(e?.message) ? 'There is not enough memory for this photograph.'
        : e instanceof TypeError && /fetch|network|load/i.test(e.message) ? 'The model could not be loaded: the connection failed. Try again.' : `Something went wrong: ${e?.message ?? e}`
      postMessage({ticket: data.ticket, error})
    }
  }
  working = false
}
