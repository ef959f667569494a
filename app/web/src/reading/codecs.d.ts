// The WebAssembly decoders have no types of their own.

declare module '@cornerstonejs/codec-*/decodewasmjs' {
  export interface FrameInfo {
    width: number
    height: number
    bitsPerSample: number
    componentCount: number
    isSigned?: boolean
  }

  export interface Decoder {
    getEncodedBuffer(length: number): Uint8Array
    getDecodedBuffer(): Uint8Array
    getFrameInfo(): FrameInfo
    readHeader(): void
    decode(): void
    delete(): void
  }

  /** Each of the modules has one of the decoders. */
  interface Codec {
    JPEGDecoder: new () => Decoder
    JpegLSDecoder: new () => Decoder
    J2KDecoder: new () => Decoder
  }

  const start: (options: { locateFile: () => string; print: () => void; printErr: () => void }) => Promise<Codec>
  export default start
}

declare module '@cornerstonejs/codec-*/decodewasm?url' {
  const address: string
  export default address
}

declare module 'jpeg-lossless-decoder-js' {
  export class Decoder {
    decode(buffer: ArrayBuffer, offset: number, length: number, bytes: number): { buffer: ArrayBuffer }
  }
}
