// The page: files in, pictures and downloads out. All of the work is done in worker.js.

const $ = id => document.getElementById(id)
const photos = new Map() // key -> {name, card, state, ...}
let keys = 0

// The worker: a question gets a ticket, its answer carries the same

const asked = new Map()
let tickets = 0, worker
function ask(what, data = {}) {
  worker ??= started()
  return new Promise((done, failed) => { asked.set(++tickets, {done, failed}); worker.postMessage({do: what, ticket: tickets, ...data}) })
}
function started() {
  const w = new Worker(new URL('worker.js', import.meta.url), {type: 'module'})
  w.onmessage = ({data}) => {
    if ('progress' in data) { $('progress').value = data.progress; return }
    if ('computes' in data) { $('weight').textContent = `The model is loaded. Your device computes with its ${data.computes}.`; return }
    const {done, failed} = asked.get(data.ticket)
    asked.delete(data.ticket)
    if (data.error) failed(new Error(data.error)); else done(data)
  }
  w.onerror = e => {
    e.preventDefault?.()
    for (const {failed} of asked.values()) failed(new Error('This browser cannot run the model. A current Firefox, Chrome, Edge or Safari can.'))
    asked.clear(); worker = undefined
  }
  return w
}

const say = text => { $('status').textContent = text }

// The model comes with the first photograph

let ready
function model() {
  return ready ??= (async () => {
    $('loading').hidden = false
    say('Loading the model …')
    try {
      const {facts} = await ask('load')
      if (!dialTouched) $('vividness').value = facts.vividness
      shown()
      return facts
    } catch (e) { ready = undefined; throw e }
    finally { $('loading').hidden = true }
  })()
}

// Photographs

async function add(files) {
  files = [...files]
  if (!files.length) return
  const fresh = files.map(newCard)
  for (const photo of fresh) await colorFirst(photo)
  const bad = fresh.filter(p => p.state === 'failed').length, n = fresh.length - bad
  say([n && `${n} photograph${n > 1 ? 's are' : ' is'} in color.`, bad && `${bad} could not be read; the reason stands beside ${bad > 1 ? 'each' : 'it'}.`].filter(Boolean).join(' '))
}

function newCard(file) {
  const card = $('photo').content.firstElementChild.cloneNode(true), key = ++keys
  const photo = {key, file, name: file.name || 'pasted.png', card, state: 'waiting', part: s => card.querySelector(s)}
  photo.part('h2').textContent = photo.name
  photo.part('.note').textContent = 'Waiting …'
  photo.part('.before').setAttribute('aria-label', `${photo.name}, before`)
  photo.part('.after').setAttribute('aria-label', `${photo.name}, in color`)
  photo.part('.download').setAttribute('aria-label', `Download ${photo.name} in color`)
  photo.part('.remove').setAttribute('aria-label', `Remove ${photo.name}`)
  photo.part('.download').onclick = () => save(photo)
  photo.part('.remove').onclick = () => remove(photo)
  slider(photo)
  photos.set(key, photo)
  $('photos').append(card)
  watch.observe(card)
  return photo
}

function slider({name, part}) {
  const range = part('.split input'), stage = part('.stage')
  const set = v => { range.value = v; range.setAttribute('aria-valuetext', `${Math.round(v)} percent before`); stage.style.setProperty('--at', `${v}%`) }
  range.setAttribute('aria-label', `${name}: how much is shown as it was before`)
  range.oninput = () => set(range.value)
  const drag = e => { const r = stage.getBoundingClientRect(); set(Math.min(100, Math.max(0, 100*(e.clientX - r.left)/r.width))) }
  stage.onpointerdown = e => { stage.setPointerCapture(e.pointerId); drag(e) }
  stage.onpointermove = e => { if (stage.hasPointerCapture(e.pointerId)) drag(e) }
  set(50)
}

function draw(canvas, picture) {
  canvas.width = picture.width; canvas.height = picture.height
  canvas.getContext('2d').drawImage(picture, 0, 0)
  picture.close()
}

async function colorFirst(photo) {
  const {key, part} = photo
  if (!photos.has(key)) return
  try {
    await model()
    say(`Coloring ${photo.name} …`)
    part('.note').textContent = 'Coloring …'
    const {width, height, picture} = await ask('add', {key, file: photo.file})
    draw(part('.before'), picture)
    photo.state = 'read'
    await color(photo)
    part('.compare').hidden = part('.download').hidden = $('settings').hidden = false
    part('.note').textContent = `${width} × ${height} pixels`
  } catch (e) { fail(photo, e) }
  $('save-all').hidden = readyPhotos().length < 2
}

function fail(photo, e) {
  photo.state = 'failed'
  photo.card.classList.add('failed')
  photo.part('.note').textContent = e.message
}

/** Color the preview; if settings change meanwhile, once more with the last ones. */
async function color(photo) {
  photo.wanted = settings()
  if (photo.busy) return
  photo.busy = true
  try {
    while (photo.wanted) {
      const now = photo.wanted
      photo.wanted = undefined
      const {picture} = await ask('color', {key: photo.key, ...now})
      draw(photo.part('.after'), picture)
    }
    photo.state = 'colored'
  } finally { photo.busy = false }
}

async function remove(photo) {
  const next = photo.card.nextElementSibling ?? photo.card.previousElementSibling
  photos.delete(photo.key)
  watch.unobserve(photo.card)
  photo.card.remove()
  ;(next?.querySelector('.remove') ?? $('files')).focus()
  say(`${photo.name} is gone from this page; your file is where it was.`)
  $('save-all').hidden = readyPhotos().length < 2
  if (worker) await ask('remove', {key: photo.key})
}

const readyPhotos = () => [...photos.values()].filter(p => p.state === 'colored')

// Settings

let dialTouched = false, pause
const settings = () => ({vividness: +$('vividness').value, saturation: +$('saturation').value})
function shown() { for (const id of ['vividness', 'saturation']) $(`${id}-value`).textContent = (+$(id).value).toFixed(2) }
for (const id of ['vividness', 'saturation']) $(id).addEventListener('input', () => {
  dialTouched ||= id === 'vividness'
  shown()
  clearTimeout(pause)
  pause = setTimeout(recolorAll, 60)
})
async function recolorAll() {
  for (const photo of readyPhotos()) photo.stale = true
  for (const photo of readyPhotos()) await refresh(photo)
}

/** Color a photo anew, once it is on the screen. */
async function refresh(photo) {
  if (!photo.stale || !photo.onScreen || photo.state !== 'colored' || !photos.has(photo.key)) return
  photo.stale = false
  await color(photo).catch(e => fail(photo, e))
}
const watch = new IntersectionObserver(entries => {
  for (const {target, isIntersecting} of entries) {
    const photo = [...photos.values()].find(p => p.card === target)
    if (photo) { photo.onScreen = isIntersecting; refresh(photo) }
  }
}, {rootMargin: '300px'})

// Downloads

async function save(photo) {
  const button = photo.part('.download'), type = $('format').value
  button.disabled = true
  say(`Saving ${photo.name} in full size …`)
  try {
    const {blob} = await ask('save', {key: photo.key, type, ...settings()}), url = URL.createObjectURL(blob)
    const a = Object.assign(document.createElement('a'), {href: url, download: photo.name.replace(/\.[^.]*$/, '') + '-color' + (type === 'image/png' ? '.png' : '.jpg')})
    a.click()
    setTimeout(() => URL.revokeObjectURL(url), 60000)
    say(`${a.download} is saved.`)
  } catch (e) { say(`${photo.name}: ${e.message}`) }
  button.disabled = false
}
$('save-all').onclick = async () => { for (const photo of readyPhotos()) await save(photo) }

// Ways in: choose, drop, paste

$('files').onchange = e => { add(e.target.files); e.target.value = '' }
let over = 0
addEventListener('dragenter', () => $('drop').classList.toggle('over', ++over > 0))
addEventListener('dragleave', () => $('drop').classList.toggle('over', --over > 0))
addEventListener('dragover', e => e.preventDefault())
addEventListener('drop', e => { e.preventDefault(); over = 0; $('drop').classList.remove('over'); add(e.dataTransfer.files) })
addEventListener('paste', e => add([...e.clipboardData.files]))

shown()
ask('weigh').then(({bytes}) => { $('weight').querySelector('span').textContent = ` (${Math.round(bytes/1e6)} MB)` })
  .catch(e => say(e.message))
