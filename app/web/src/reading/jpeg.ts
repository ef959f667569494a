// JPEG by libjpeg-turbo, as in OpenCV: a canvas manages colors.

import start from '@cornerstonejs/codec-libjpeg-turbo-8bit/decodewasmjs'
import wasm from '@cornerstonejs/codec-libjpeg-turbo-8bit/decodewasm?url'
import { PageError, type Radiograph } from '../types'
import { readJpegHead, turned } from './heads'
import { checkSize, colorWarnings, countColorful, toGray } from './pixels'

type Bytes = Uint8Array<ArrayBuffer>

/** 8-bit gray of a complete JPEG file. */
export async function decodeJpeg(data: Bytes): Promise<Radiograph> {
  const { samples, width, height, channels, orientation } = await decodeJpegFrame(data)
  const warnings = colorWarnings(countColorful(samples, channels), width * height)
  return { ...turned(toGray(samples, channels), width, height, orientation), warnings }
}

/** Samples of a JPEG of 8 bits with 1 (gray) or 3 (RGB) channels. */
export async function decodeJpegFrame(
  data: Bytes,
): Promise<{ samples: Uint8Array; width: number; height: number; channels: number; orientation: number }> {
  const { width, height, channels, bits, orientation, progressive } = readJpegHead(data)
  checkSize(width, height, channels * (progressive ? 3 : 1))
  if (bits !== 8 || (channels !== 1 && channels !== 3)) {
    throw new PageError('This kind of JPEG is not read here: it is neither gray nor RGB of 8 bits. Save it as a PNG.')
  }
  const codec = await start({ locateFile: () => new URL(wasm, import.meta.url).href, print() {}, printErr() {} })
  const decoder = new codec.JPEGDecoder()
  decoder.getEncodedBuffer(data.length).set(data)
  decoder.decode()
  const info = decoder.getFrameInfo()
  const samples = decoder.getDecodedBuffer()
  if (info.width !== width || info.height !== height || samples.length !== width * height * channels) {
    throw new PageError('The JPEG file is damaged.')
  }
  return { samples, width, height, channels, orientation }
}
