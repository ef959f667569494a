import { PageError } from '../types'

/**
 * Inflate `data` into at most `most` bytes, whatever it says that it holds; about `guess` are expected.
 *
 * Rejects with a `PageError`: it is damaged, or more.
 */
export async function inflate(
  data: Uint8Array<ArrayBuffer>[],
  format: 'deflate' | 'deflate-raw',
  most: number,
  guess = most,
): Promise<Uint8Array<ArrayBuffer>> {
  const reader = new Blob(data).stream().pipeThrough(new DecompressionStream(format)).getReader()
  let into = new Uint8Array(Math.min(guess, most))
  let length = 0
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      const needed = length + read.value.length
      if (needed > most) throw new PageError('The file is damaged: it holds more than it announces.')
      if (needed > into.length) {
        const larger = new Uint8Array(Math.min(most, Math.max(needed, 2 * into.length)))
        larger.set(into.subarray(0, length))
        into = larger
      }
      into.set(read.value, length)
      length = needed
    }
  } catch (error) {
    if (error instanceof PageError) throw error
    throw new PageError('The file is damaged: its compressed data end too early or are not valid.')
  } finally {
    reader.cancel().catch(() => {})
  }
  return into.subarray(0, length)
}
