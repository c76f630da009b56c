// What a JPEG says about itself, carried into the picture that is saved. Nothing here touches the page, so it also runs in Node.

const text = (bytes, from, to) => String.fromCharCode(...bytes.subarray(from, to))

/** The EXIF in the bytes of a JPEG (its beginning is enough), as it fits the result: upright, and without the small grey picture; nothing if it has none. */
export function exifOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  try {
    for (let at = text(bytes, 0, 2) === '\xff\xd8' ? 2 : Infinity; bytes[at] === 0xff && bytes[at+1] !== 0xda;) {
      const end = at + 2 + view.getUint16(at + 2)
      if (bytes[at+1] === 0xe1 && text(bytes, at + 4, at + 10) === 'Exif\0\0') return end <= bytes.length ? upright(bytes.slice(at + 10, end)) : undefined
      at = end
    }
  } catch (e) { if (!(e instanceof RangeError)) throw e } // EXIF is written by thousands of devices; what cannot be read is left out
}

function upright(exif) {
  const view = new DataView(exif.buffer), little = text(exif, 0, 4) === 'II*\0'
  if (!little && text(exif, 0, 4) !== 'MM\0*') return
  const first = view.getUint32(4, little), end = first + 2 + 12*view.getUint16(first, little)
  for (let entry = first + 2; entry < end; entry += 12) if (view.getUint16(entry, little) === 0x112) view.setUint16(entry + 8, 1, little)
  view.setUint32(end, 0, little) // the directory of the small picture
  return exif
}

const CRC = Int32Array.from({length: 256}, (_, n) => { for (let k = 0; k < 8; k++) n = n & 1 ? n >>> 1 ^ 0xedb88320 : n >>> 1; return n })
const crc = bytes => ~bytes.reduce((c, b) => CRC[(c ^ b) & 255] ^ c >>> 8, -1)

/** A JPEG or PNG with this EXIF, which follows the first mark of a JPEG and the header of a PNG. */
export function withExif(blob, exif) {
  const jpeg = blob.type === 'image/jpeg', head = new Uint8Array(jpeg ? 10 : 8), view = new DataView(head.buffer), at = jpeg ? 2 : 33
  if (jpeg) {
    view.setUint16(0, 0xffe1); view.setUint16(2, exif.length + 8)
    head.set([...'Exif\0\0'].map(c => c.charCodeAt()), 4)
    return new Blob([blob.slice(0, at), head, exif, blob.slice(at)], {type: blob.type})
  }
  view.setUint32(0, exif.length)
  head.set([...'eXIf'].map(c => c.charCodeAt()), 4)
  const sum = new DataView(new ArrayBuffer(4))
  sum.setInt32(0, crc(new Uint8Array([...head.subarray(4), ...exif])))
  return new Blob([blob.slice(0, at), head, exif, sum.buffer, blob.slice(at)], {type: blob.type})
}
