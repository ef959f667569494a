// Pixel data of a DICOM file to stored values, as src/chexvision/images/dicom_frame.py: uncompressed, RLE, and the
// JPEG families. What a codestream announces is compared with the file's own size before a decoder sees it.

import { PageError } from '../../types'
import { readJpegHead } from '../heads'
import { type Bytes, type DicomFile, SYNTAX } from './elements'

/** [H, W] or, with three samples, [H, W, 3]. */
export type Samples = Uint8Array | Uint16Array

export interface FrameFormat {
  rows: number
  columns: number
  samples: number
  bitsAllocated: number
  bitsStored: number
  highBit: number
  signed: boolean
  frames: number
  planar: boolean
}

const JPEG = '1.2.840.10008.1.2.4.'
const RLE = '1.2.840.10008.1.2.5'
const MOST_TILES = 4096 // OpenJPEG reserves some kilobytes for each

/** JPEG of 8 bits, whose colors libjpeg has made RGB. */
export const BASELINE = [`${JPEG}50`, `${JPEG}51`]

const damaged = () => new PageError('The DICOM file is damaged: its compressed pixels cannot be decoded.')
const unread = () => new PageError('The compression of this DICOM file is not one that is read here. Export it uncompressed.')

/** The first frame's stored values in [0, 2**bitsStored), signed ones as their two's complement. */
export async function storedValues(file: DicomFile, frame: FrameFormat): Promise<Samples> {
  const { syntax, pixels } = file
  const uncompressed = Object.values(SYNTAX).includes(syntax)
  if (uncompressed !== (pixels !== null)) throw damaged()
  const { rows, columns, samples, bitsStored, highBit } = frame
  const values = pixels
    ? plain(pixels, frame, syntax === SYNTAX.big)
    : await decode(syntax, firstFrame(file.fragments, frame.frames), frame)
  if (values.length !== rows * columns * samples) throw damaged()
  const shift = pixels ? highBit + 1 - bitsStored : 0
  const mask = (1 << bitsStored) - 1
  if (shift > 0 || bitsStored < 8 * values.BYTES_PER_ELEMENT) {
    for (let i = 0; i < values.length; i++) values[i] = (values[i] >> shift) & mask
  }
  return values
}

function plain(pixels: Bytes, frame: FrameFormat, big: boolean): Samples {
  const count = frame.rows * frame.columns * frame.samples
  if (pixels.length < (count * frame.bitsAllocated) / 8) {
    throw new PageError('The DICOM file is cut short: it has fewer pixels than it announces.')
  }
  if (frame.bitsAllocated === 8) return interleaved(pixels.slice(0, count), frame, frame.planar)
  const values = new Uint16Array(count)
  const high = big ? 0 : 1
  for (let i = 0; i < count; i++) values[i] = (pixels[2 * i + high] << 8) | pixels[2 * i + 1 - high]
  return values
}

/** Colors of 8 bits that are stored one after the other, pixel by pixel. */
function interleaved(values: Uint8Array, { samples }: FrameFormat, planar: boolean): Uint8Array {
  if (samples === 1 || !planar) return values
  const plane = values.length / samples
  return values.map((_, i) => values[(i % samples) * plane + Math.floor(i / samples)])
}

/** The encoded first frame. Of several frames each must be one fragment. */
function firstFrame(fragments: Bytes[], frames: number): Bytes {
  if (frames > 1) {
    if (fragments.length !== frames) {
      throw new PageError('The DICOM file has several compressed images. Export them one by one.')
    }
    return fragments[0].slice()
  }
  const joined = new Uint8Array(fragments.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of fragments) {
    joined.set(part, at)
    at += part.length
  }
  return joined
}

async function decode(syntax: string, data: Bytes, frame: FrameFormat): Promise<Samples> {
  if (syntax === RLE) return unpackRle(data, frame)
  const kind = syntax.startsWith(JPEG) ? syntax.slice(JPEG.length) : ''
  const decoders = await import('./decoders')
  if (kind === '50' || kind === '51') {
    if (frame.bitsStored > 8) throw unread()
    checkJpeg(data, frame)
    return decoders.baseline(data)
  }
  if (kind === '57' || kind === '70') {
    checkJpeg(data, frame)
    return decoders.jpegLossless(data, frame.bitsAllocated)
  }
  if (kind === '80' || kind === '81') {
    checkJpeg(data, frame)
    return decoders.jpegLs(data)
  }
  if (kind === '90' || kind === '91') {
    checkJpeg2000(data, frame)
    return decoders.jpeg2000(data)
  }
  throw unread()
}

/** PS3.5, annex G: a segment per byte of a sample, the highest first, each packed as runs and literals. */
function unpackRle(data: Bytes, frame: FrameFormat): Samples {
  const bytes = frame.bitsAllocated / 8
  const planes = frame.samples * bytes
  const view = new DataView(data.buffer, data.byteOffset, data.length)
  if (data.length < 64 || view.getUint32(0, true) !== planes) throw damaged()
  const size = frame.rows * frame.columns
  const starts = Array.from({ length: planes }, (_, i) => view.getUint32(4 + 4 * i, true))
  const parts = starts.map((start, i) => unpack(data.subarray(start, starts[i + 1] ?? data.length), size))
  const values = bytes === 2 ? new Uint16Array(size) : new Uint8Array(size * frame.samples)
  parts.forEach((part, plane) => {
    if (bytes === 2) for (let i = 0; i < size; i++) values[i] = (values[i] << 8) | part[i]
    else for (let i = 0, at = plane; i < size; i++, at += frame.samples) values[at] = part[i]
  })
  return values
}

function unpack(data: Bytes, size: number): Uint8Array {
  const found = new Uint8Array(size)
  let length = 0
  for (let at = 0; length < size && at < data.length - 1; ) {
    const count = data[at]
    if (count < 128) {
      const literal = data.subarray(at + 1, at + 2 + count).subarray(0, size - length)
      found.set(literal, length)
      length += literal.length
      at += 2 + count
    } else {
      if (count > 128) {
        found.fill(data[at + 1], length, length + 257 - count)
        length = Math.min(size, length + 257 - count)
      }
      at += count > 128 ? 2 : 1
    }
  }
  if (length < size) throw damaged()
  return found
}

/** Whether a JPEG, JPEG Lossless or JPEG-LS codestream is of the announced size. */
function checkJpeg(data: Bytes, frame: FrameFormat): void {
  const { height, width, channels, bits } = readJpegHead(data)
  if (height !== frame.rows || width !== frame.columns || channels !== frame.samples || bits > frame.bitsAllocated) {
    throw damaged()
  }
}

/** The same of a JPEG 2000 codestream, by its SIZ segment (ISO 15444-1, A.5.1). */
function checkJpeg2000(data: Bytes, frame: FrameFormat): void {
  const view = new DataView(data.buffer, data.byteOffset, data.length)
  if (data.length < 45 || view.getUint32(0) !== 0xff4fff51) throw damaged()
  const [x1, y1, x0, y0, tileX, tileY, tileX0, tileY0] = Array.from({ length: 8 }, (_, i) => view.getUint32(8 + 4 * i))
  const bits = (data[42] & 0x7f) + 1
  const tiles = Math.ceil((x1 - tileX0) / Math.max(tileX, 1)) * Math.ceil((y1 - tileY0) / Math.max(tileY, 1))
  if (y1 - y0 !== frame.rows || x1 - x0 !== frame.columns || view.getUint16(40) !== frame.samples) throw damaged()
  if (Math.max(x1, y1) > 2 ** 17 || bits > frame.bitsAllocated || !(tiles >= 1 && tiles <= MOST_TILES)) throw damaged()
}
