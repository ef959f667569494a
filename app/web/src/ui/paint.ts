// Radiographs and maps on canvases.

import type { Radiograph } from '../types'
import { FIRST, HEAT, SECOND, type Rgb } from './colors'
import { enlarged, type Field } from './maps'

export type Style = 'color' | 'contours' | 'both' | 'off'

/** What lies over a radiograph. Values of `signed` fields are differences. */
export interface Overlay {
  field: Field
  scale: number
  style: Style
  signed: boolean
}

const LEVELS = [0.25, 0.5, 0.75] // contours, as parts of the scale
const OVERLAY_SIDE = 768 // of the longer side, in pixels: maps are coarser than this by far
const SCREEN_SIDE = 2048 // more than screens show; Safari refuses canvases above 16 million pixels

/** Draw a radiograph, reduced by averaging where it is larger than needed. */
export function paintRadiograph(canvas: HTMLCanvasElement, image: Radiograph, side = SCREEN_SIDE): void {
  const step = Math.ceil(Math.max(image.width, image.height) / side)
  canvas.width = Math.max(1, Math.floor(image.width / step))
  canvas.height = Math.max(1, Math.floor(image.height / step))
  const shown = new ImageData(canvas.width, canvas.height)
  for (let y = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++) {
      const gray = meanAt(image, x * step, y * step, step)
      shown.data.set([gray, gray, gray, 255], 4 * (y * canvas.width + x))
    }
  }
  context(canvas).putImageData(shown, 0, 0)
}

/** Draw an overlay over an image with these sides; the canvas is stretched over the radiograph. Colors are more opaque
 * where values are higher, so that the radiograph stays visible; the canvas as a whole is faded by CSS. */
export function paintOverlay(
  canvas: HTMLCanvasElement,
  overlay: Overlay,
  image: { width: number; height: number },
): void {
  const ratio = OVERLAY_SIDE / Math.max(image.width, image.height)
  canvas.width = Math.max(1, Math.round(image.width * ratio))
  canvas.height = Math.max(1, Math.round(image.height * ratio))
  const { style, scale, signed } = overlay
  if (style === 'off' || !(scale > 0)) return
  const field = enlarged(overlay.field, canvas.width, canvas.height)
  const shown = new ImageData(canvas.width, canvas.height)
  for (let i = 0; i < field.values.length; i++) {
    const value = Math.min(Math.max(field.values[i] / scale, -1), 1)
    const distance = style === 'color' ? Infinity : distanceAt(field, i, scale)
    const fill = style === 'contours' ? 0 : Math.abs(value)
    const color = signed ? (value < 0 ? FIRST : SECOND) : HEAT[Math.round(255 * Math.abs(value))]
    shown.data.set(mixed(color, fill, distance), 4 * i)
  }
  context(canvas).putImageData(shown, 0, 0)
}

/** White contours with a dark edge, over the color. */
function mixed(color: Rgb, fill: number, distance: number): number[] {
  const white = clamped(1.5 - distance)
  const dark = 0.6 * clamped(3 - distance) * (1 - white)
  const rest = fill * (1 - white - dark)
  const alpha = white + dark + rest
  return alpha === 0 ? [0, 0, 0, 0] : [...color.map((part) => (255 * white + part * rest) / alpha), 255 * alpha]
}

/** How far a pixel is from the nearest contour, in pixels: the distance of its value from the level over the slope. */
function distanceAt({ values, width, height }: Field, i: number, scale: number): number {
  const [x, y] = [i % width, Math.floor(i / width)]
  const across = values[x + 1 < width ? i + 1 : i] - values[x > 0 ? i - 1 : i]
  const down = values[y + 1 < height ? i + width : i] - values[y > 0 ? i - width : i]
  const value = Math.abs(values[i])
  const distance = Math.min(...LEVELS.map((level) => Math.abs(value - level * scale)))
  return (2 * distance) / Math.hypot(across, down) // NaN on a plateau at a level, Infinity on others
}

function clamped(value: number): number {
  return value > 0 ? Math.min(value, 1) : 0
}

function meanAt({ pixels, width }: Radiograph, left: number, top: number, step: number): number {
  if (step === 1) return pixels[top * width + left]
  let sum = 0
  for (let y = top; y < top + step; y++) {
    for (let x = left; x < left + step; x++) sum += pixels[y * width + x]
  }
  return Math.round(sum / (step * step))
}

function context(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const found = canvas.getContext('2d')
  if (!found) throw new Error('This browser gives no canvas to draw on. Close some tabs and try again.')
  return found
}
