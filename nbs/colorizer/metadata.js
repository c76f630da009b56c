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

// What is made with a trained algorithm says so, in IPTC's words
const XMP = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
  + '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
  + ' Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'

const joined = (...parts) => Uint8Array.from(parts.flatMap(o => [...(typeof o === 'string' ? new TextEncoder().encode(o) : o)]))
const big = (n, bytes) => Uint8Array.from({length: bytes}, (_, i) => n >>> 8*(bytes - 1 - i))
const CRC = Int32Array.from({length: 256}, (_, n) => { for (let k = 0; k < 8; k++) n = n & 1 ? n >>> 1 ^ 0xedb88320 : n >>> 1; return n })
const crc = bytes => ~bytes.reduce((c, b) => CRC[(c ^ b) & 255] ^ c >>> 8, -1)

const segment = (...parts) => { const data = joined(...parts); return joined([0xff, 0xe1], big(data.length + 2, 2), data) } // of a JPEG
const chunk = (kind, ...parts) => { const data = joined(kind, ...parts); return joined(big(data.length - 4, 4), data, big(crc(data), 4)) } // of a PNG

/** A JPEG or PNG that says how it was made, with this EXIF if there is any. */
export function withNotes(blob, exif) {
  const jpeg = blob.type === 'image/jpeg', at = jpeg ? 2 : 33 // after the first mark of a JPEG, or the header of a PNG
  const notes = jpeg ? [...(exif ? [segment('Exif\0\0', exif)] : []), segment('http://ns.adobe.com/xap/1.0/\0', XMP)]
    : [...(exif ? [chunk('eXIf', exif)] : []), chunk('iTXt', 'XML:com.adobe.xmp\0\0\0\0\0', XMP)]
  return new Blob([blob.slice(0, at), ...notes, blob.slice(at)], {type: blob.type})
}
