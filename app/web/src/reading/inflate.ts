import { PageError } from '../types'

/**
 * Inflate `data` into at most `most` bytes, whatever it says that it holds.
 *
 * Rejects with a `PageError`: it is damaged, or more.
 */
export async function inflate(
  data: Uint8Array<ArrayBuffer>[],
  format: 'deflate' | 'deflate-raw',
  most: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const inflated = new Blob(data).stream().pipeThrough(new DecompressionStream(format))
  const reader = inflated.getReader()
  let into = new Uint8Array(most)
  let length = 0
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      if (length + read.value.length > most) break
      into.set(read.value, length)
      length += read.value.length
    }
  } catch {
    throw new PageError('The file is damaged: its compressed data end too early or are not valid.')
  } finally {
    reader.cancel().catch(() => {})
  }
  return into.subarray(0, length)
}
