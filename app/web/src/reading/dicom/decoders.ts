// The decoders of the JPEG families, all under permissive licenses; fetched when a file needs one.

import startJpegLs from '@cornerstonejs/codec-charls/decodewasmjs'
import jpegLsWasm from '@cornerstonejs/codec-charls/decodewasm?url'
import startJpeg2000 from '@cornerstonejs/codec-openjpeg/decodewasmjs'
import jpeg2000Wasm from '@cornerstonejs/codec-openjpeg/decodewasm?url'
import type { Decoder } from '@cornerstonejs/codec-charls/decodewasmjs'
import { Decoder as Lossless } from 'jpeg-lossless-decoder-js'
import { decodeJpegFrame } from '../jpeg'
import type { Bytes } from './elements'
import type { Samples } from './frame'

export async function baseline(data: Bytes): Promise<Samples> {
  return (await decodeJpegFrame(data)).samples.slice()
}

export function jpegLossless(data: Bytes, bitsAllocated: number): Samples {
  const bytes = bitsAllocated / 8
  const { buffer } = new Lossless().decode(data.buffer, data.byteOffset, data.length, bytes)
  return bytes === 1 ? new Uint8Array(buffer) : new Uint16Array(buffer)
}

export async function jpegLs(data: Bytes): Promise<Samples> {
  const codec = await startJpegLs(options(jpegLsWasm))
  return decoded(new codec.JpegLSDecoder(), data)
}

export async function jpeg2000(data: Bytes): Promise<Samples> {
  const codec = await startJpeg2000(options(jpeg2000Wasm))
  return decoded(new codec.J2KDecoder(), data)
}

function options(wasm: string) {
  return { locateFile: () => new URL(wasm, import.meta.url).href, print() {}, printErr() {} }
}

/** A copy of what a decoder gives, which is in its own memory: little-endian where a value has more than 8 bits. */
function decoded(decoder: Decoder, data: Bytes): Samples {
  decoder.getEncodedBuffer(data.length).set(data)
  decoder.decode()
  const values = decoder.getDecodedBuffer().slice()
  return decoder.getFrameInfo().bitsPerSample > 8 ? new Uint16Array(values.buffer) : values
}
