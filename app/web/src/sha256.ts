/** The SHA-256 of bytes in hexadecimal digits; null where the browser has no `crypto.subtle`, which exists only on
 * https and on pages of this computer. */
export async function sha256(bytes: BufferSource): Promise<string | null> {
  if (!globalThis.crypto?.subtle) return null
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
