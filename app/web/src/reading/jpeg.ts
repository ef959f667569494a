// JPEG by libjpeg-turbo, as in OpenCV: a canvas turns by EXIF and manages colors.

import start from '@cornerstonejs/codec-libjpeg-turbo-8bit/decodewasmjs'
import wasm from '@cornerstonejs/codec-libjpeg-turbo-8bit/decodewasm?url'
import { PageError, type Radiograph } from '../types'
import { checkSize, toGray } from './pixels'

type Bytes = Uint8Array<ArrayBuffer>

// Start of frame of all kinds but differential ones.
const FRAMES = [0xc0, 0xc1, 0xc2, 0xc3, 0xc5, 0xc6, 0xc7, 0xc9, 0xca, 0xcb, 0xcd, 0xce, 0xcf]

/** 8-bit gray of a complete JPEG file. */
export async function decodeJpeg(data: Bytes): Promise<Radiograph> {
  if (!ends(data)) throw new PageError('The JPEG file is cut short.')
  const { samples, width, height, channels } = await decodeJpegFrame(data)
  return { pixels: toGray(samples, channels), width, height, notes: [], warnings: [] }
}

/** Samples of a JPEG of 8 bits with 1 (gray) or 3 (RGB) channels. */
export async function decodeJpegFrame(
  data: Bytes,
): Promise<{ samples: Uint8Array; width: number; height: number; channels: number }> {
  const [width, height] = frameSize(data)
  checkSize(width, height)
  const codec = await start({ locateFile: () => new URL(wasm, import.meta.url).href, print() {}, printErr() {} })
  const decoder = new codec.JPEGDecoder()
  decoder.getEncodedBuffer(data.length).set(data)
  decoder.decode()
  const info = decoder.getFrameInfo()
  const channels = info.componentCount
  const samples = decoder.getDecodedBuffer()
  if (info.width !== width || info.height !== height || samples.length !== width * height * channels) {
    throw new PageError('The JPEG file is damaged.')
  }
  return { samples, width, height, channels }
}

function ends(data: Bytes): boolean {
  for (let at = data.length - 2; at >= Math.max(0, data.length - 64); at--) {
    if (data[at] === 0xff && data[at + 1] === 0xd9) return true
  }
  return false
}

/** Width and height of the frame header, before anything is decoded. */
function frameSize(data: Bytes): [number, number] {
  for (let at = 2; at + 9 <= data.length && data[at] === 0xff; ) {
    const kind = data[at + 1]
    if (FRAMES.includes(kind)) {
      return [data[at + 7] * 256 + data[at + 8], data[at + 5] * 256 + data[at + 6]]
    }
    // A marker may be padded with 0xFF; all before the frame header have a length.
    at += kind === 0xff ? 1 : 2 + data[at + 2] * 256 + data[at + 3]
  }
  throw new PageError('The JPEG file is damaged: it has no frame header.')
}
