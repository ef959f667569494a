// PNG, decoded here: a canvas has 8 bits, manages colors and multiplies by the transparency.

import { PageError, type Radiograph } from '../types'
import { orientationOf, turned } from './heads'
import { inflate } from './inflate'
import { checkSize, colorWarnings, countColorful, depthOf, toGray } from './pixels'

type Bytes = Uint8Array<ArrayBuffer>

interface Header {
  width: number
  height: number
  depth: number
  color: number
  interlaced: boolean
}

interface Chunks {
  header: Header
  palette: Bytes
  compressed: Bytes[]
  /** Of a value's bits, how many hold it by the file itself (sBIT); null where it does not say. */
  significant: number | null
  orientation: number
}

const GRAY = 0
const PALETTE = 3
const CHANNELS: Record<number, number> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }
const DEPTHS: Record<number, number[]> = { 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] }
// The passes of an interlaced file: first column and row, and their steps.
const ADAM7 = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
]

/**
 * 8-bit gray of a complete PNG file. Files of 16 bits often hold fewer: their range is that of sBIT, or of the fewest
 * bits of 8, 10, 12, 14 and 16 that hold the largest value.
 */
export async function decodePng(data: Bytes): Promise<Radiograph> {
  const { header, palette, compressed, significant, orientation } = readChunks(data)
  const { width, height, depth, color, interlaced } = header
  const channels = CHANNELS[color]
  const bits = depth * channels
  const passes = (interlaced ? ADAM7 : [[0, 0, 1, 1]])
    .map(([x, y, dx, dy]) => ({ x, y, dx, dy, w: Math.ceil((width - x) / dx), h: Math.ceil((height - y) / dy) }))
    .filter(({ w, h }) => w > 0 && h > 0)
  const lengths = passes.map(({ w, h }) => h * (1 + Math.ceil((w * bits) / 8)))
  const expected = lengths.reduce((sum, length) => sum + length, 0)
  const rows = await inflate(compressed, 'deflate', expected)
  if (rows.length < expected) throw new PageError('The PNG file is cut short.')

  let start = 0
  const parts = passes.map(({ w, h }, pass) => {
    start += lengths[pass]
    return unfilter(rows.subarray(start - lengths[pass], start), w, h, bits)
  })
  const scale = depth === 16 ? scaleOf(parts, channels, significant) : null
  const gray = new Uint8Array(width * height)
  let colorful = 0
  passes.forEach(({ x, y, dx, dy, w, h }, pass) => {
    const values = scale ? scaled(parts[pass], scale.table) : toBytes(parts[pass], w, h, header)
    const samples = color === PALETTE ? throughPalette(values, palette) : values
    const part = toGray(samples, color === PALETTE ? 3 : channels)
    colorful += countColorful(samples, color === PALETTE ? 3 : channels)
    if (passes.length === 1 && w === width) gray.set(part)
    else for (let r = 0, i = 0; r < h; r++) for (let c = 0; c < w; c++) gray[(y + r * dy) * width + x + c * dx] = part[i++]
  })
  const made = turned(gray, width, height, orientation)
  return { ...made, notes: [...(scale ? [scale.note] : []), ...made.notes], warnings: colorWarnings(colorful, gray.length) }
}

/** The chunks that hold the image. Every chunk up to the last must be complete and have its checksum. */
function readChunks(data: Bytes): Chunks {
  const view = new DataView(data.buffer, data.byteOffset, data.length)
  const compressed: Bytes[] = []
  let header: Header | null = null
  let palette: Bytes = new Uint8Array(0)
  let significant: number | null = null
  let orientation = 1
  for (let start = 8, kind = ''; kind !== 'IEND'; ) {
    if (start + 12 > data.length) throw new PageError('The PNG file is cut short.')
    const length = view.getUint32(start)
    const stop = start + 8 + length
    if (stop + 4 > data.length) throw new PageError('The PNG file is cut short.')
    kind = String.fromCharCode(...data.subarray(start + 4, start + 8))
    if (crc32(data.subarray(start + 4, stop)) !== view.getUint32(stop)) {
      throw new PageError('The PNG file is damaged: a checksum is wrong.')
    }
    const content = data.subarray(start + 8, stop)
    if (header === null) header = readHeader(kind, content)
    else if (kind === 'PLTE') palette = content
    else if (kind === 'IDAT') compressed.push(content)
    else if (kind === 'sBIT' && length) significant = content[0]
    else if (kind === 'eXIf') orientation = orientationOf(content)
    start = stop + 4
  }
  if (header === null) throw new PageError('The PNG file is damaged: it has no header.')
  return { header, palette, compressed, significant, orientation }
}

function readHeader(kind: string, content: Bytes): Header {
  if (kind !== 'IHDR' || content.length !== 13) throw new PageError('The PNG file is damaged: it has no header.')
  const view = new DataView(content.buffer, content.byteOffset)
  const [width, height] = [view.getUint32(0), view.getUint32(4)]
  const [depth, color, , , interlace] = content.subarray(8)
  if (!DEPTHS[color]?.includes(depth) || interlace > 1) {
    throw new PageError('The PNG file is damaged: its header is not valid.')
  }
  checkSize(width, height, ((color === PALETTE ? 4 : CHANNELS[color]) * Math.max(depth, 8)) / 8)
  return { width, height, depth, color, interlaced: interlace === 1 }
}

/** Undo the filter of each row; gives the rows without the byte that names it, in the memory of `rows`. */
function unfilter(rows: Bytes, width: number, height: number, bits: number): Bytes {
  const bytes = Math.ceil((width * bits) / 8)
  const step = Math.max(1, bits >> 3)
  const plain = rows // what is written lies before what is still to be read
  for (let y = 0; y < height; y++) {
    const filter = rows[y * (bytes + 1)]
    const from = y * (bytes + 1) + 1
    const to = y * bytes
    for (let x = 0; x < bytes; x++) {
      const left = x >= step ? plain[to + x - step] : 0
      const up = y > 0 ? plain[to + x - bytes] : 0
      let predicted = 0
      if (filter === 1) predicted = left
      else if (filter === 2) predicted = up
      else if (filter === 3) predicted = (left + up) >> 1
      else if (filter === 4) predicted = paeth(left, up, x >= step && y > 0 ? plain[to + x - bytes - step] : 0)
      else if (filter !== 0) throw new PageError('The PNG file is damaged: a filter is not known.')
      plain[to + x] = rows[from + x] + predicted
    }
  }
  return plain.subarray(0, bytes * height)
}

function paeth(left: number, up: number, corner: number): number {
  const toLeft = Math.abs(up - corner)
  const toUp = Math.abs(left - corner)
  const toCorner = Math.abs(left + up - 2 * corner)
  return toLeft <= toUp && toLeft <= toCorner ? left : toUp <= toCorner ? up : corner
}

/** From values of 16 bits to bytes by their range, and the range in words. */
function scaleOf(parts: Bytes[], channels: number, significant: number | null): { table: Uint8Array; note: string } {
  let largest = 0
  for (const part of parts) {
    for (let i = 0, sample = 0; i < part.length; i += 2, sample++) {
      // Transparency is dropped.
      if (channels % 2 === 0 && sample % channels === channels - 1) continue
      largest = Math.max(largest, part[i] * 256 + part[i + 1])
    }
  }
  const stated = significant !== null && significant >= 1 && significant < 16
  const bits = stated ? significant : depthOf(largest)
  // As the specification has it: in the highest bits.
  const shift = stated && largest >= 1 << bits ? 16 - bits : 0
  const range = 2 ** bits - 1
  const table = Uint8Array.from({ length: 1 << 16 }, (_, value) =>
    Math.floor(Math.min((value >> shift) / range, 1) * 255 + 0.5),
  )
  const why = stated ? 'as the file states' : 'the fewest that hold its largest value'
  return { table, note: bits === 16 ? '16-bit values' : `${bits}-bit values in 16 bits: ${why}` }
}

function scaled(rows: Bytes, table: Uint8Array): Bytes {
  const samples = new Uint8Array(rows.length / 2)
  for (let i = 0; i < samples.length; i++) samples[i] = table[rows[2 * i] * 256 + rows[2 * i + 1]]
  return samples
}

/** Samples of 1, 2, 4 or 8 bits as bytes; gray is scaled to 255, entries of a palette are not. */
function toBytes(rows: Bytes, width: number, height: number, { depth, color }: Header): Bytes {
  if (depth === 8) return rows
  const samples = new Uint8Array(width * height)
  const scale = color === GRAY ? 255 / (2 ** depth - 1) : 1
  const bytes = Math.ceil((width * depth) / 8)
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const bit = x * depth
      const value = (rows[y * bytes + (bit >> 3)] >> (8 - depth - (bit & 7))) & (2 ** depth - 1)
      samples[i++] = value * scale
    }
  }
  return samples
}

/** Red, green and blue of entries; those that the palette lacks are black. */
function throughPalette(entries: Bytes, palette: Bytes): Bytes {
  const colors = new Uint8Array(3 * entries.length)
  for (let i = 0; i < entries.length; i++) colors.set(palette.subarray(3 * entries[i], 3 * entries[i] + 3), 3 * i)
  return colors
}

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1
  return value
})

function crc32(data: Bytes): number {
  let value = 0xffffffff
  for (let i = 0; i < data.length; i++) value = CRC[(value ^ data[i]) & 255] ^ (value >>> 8)
  return (value ^ 0xffffffff) >>> 0
}
