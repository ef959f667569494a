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

const LEVELS = [0.25, 0.5, 0.75] // contours, as parts of the scale, as in src/chexvision/explain/overlay.py
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
      put(shown.data, y * canvas.width + x, gray, gray, gray, 255)
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
    const value = field.values[i] / scale
    const strength = Math.min(Math.abs(value), 1)
    const level = nearest(strength)
    const distance = style === 'color' ? Infinity : distanceAt(field, i, level, scale)
    const side = value < 0 ? FIRST : SECOND
    const color = signed ? side : HEAT[Math.round(255 * strength)]
    const line = signed ? side : HEAT[Math.round(255 * level)]
    putMixed(shown.data, i, color, style === 'contours' ? 0 : strength, line, distance)
  }
  context(canvas).putImageData(shown, 0, 0)
}

/** Contours in their color with a dark edge, over the filling color. */
function putMixed(data: Uint8ClampedArray, i: number, color: Rgb, fill: number, line: Rgb, distance: number): void {
  const drawn = clamped(1.5 - distance)
  const dark = clamped(3 - distance) * (1 - drawn)
  const rest = fill * (1 - drawn - dark)
  const alpha = drawn + dark + rest
  if (alpha === 0) return
  const mixed = (part: 0 | 1 | 2) => (line[part] * drawn + color[part] * rest) / alpha
  put(data, i, mixed(0), mixed(1), mixed(2), 255 * alpha)
}

/** The contour next to a value. */
function nearest(strength: number): number {
  return LEVELS.reduce((a, b) => (Math.abs(b - strength) < Math.abs(a - strength) ? b : a))
}

/** How far a pixel is from a contour, in pixels: the distance of its value from the level over the slope. */
function distanceAt({ values, width, height }: Field, i: number, level: number, scale: number): number {
  const x = i % width
  const distance = Math.abs(Math.abs(values[i]) - level * scale)
  const across = values[x + 1 < width ? i + 1 : i] - values[x > 0 ? i - 1 : i]
  const down = values[i + width < width * height ? i + width : i] - values[i >= width ? i - width : i]
  return (2 * distance) / Math.hypot(across, down) // NaN on a plateau at a level, Infinity on others
}

function clamped(value: number): number {
  return value > 0 ? Math.min(value, 1) : 0
}

function put(data: Uint8ClampedArray, i: number, red: number, green: number, blue: number, alpha: number): void {
  data[4 * i] = red
  data[4 * i + 1] = green
  data[4 * i + 2] = blue
  data[4 * i + 3] = alpha
}

function meanAt({ pixels, width }: Radiograph, left: number, top: number, step: number): number {
  if (step === 1) return pixels[top * width + left]
  let sum = 0
  for (let y = top; y < top + step; y++) {
    for (let x = left; x < left + step; x++) sum += pixels[y * width + x]
  }
  return sum / (step * step)
}

function context(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const found = canvas.getContext('2d')
  if (!found) throw new Error('This browser gives no canvas to draw on. Close some tabs and try again.')
  return found
}
