// Colors of maps as functions of a value in [0, 1] (or [-1, 1]), and of where it is drawn.

export type Rgb = readonly [number, number, number]

// matplotlib's "inferno" (S. van der Walt and N. Smith, CC0), perceptually uniform: its values at multiples of 15/255.
const INFERNO = (
  '000004 0a0722 1e0c45 380962 510e6c 69166e 801f6c 982766 b0315b c63d4d d94d3d e9612b f47918 fa9407 fcb014 f8cd37 ' +
  'f2ea69 fcffa4'
)
  .split(' ')
  .map(rgbOf)

// Differences: orange where the first model's map is higher, blue where the second's is. The pair is told apart with
// every common deficiency of color vision (M. Okabe and K. Ito, Color Universal Design, 2008).
export const FIRST: Rgb = [230, 159, 0]
export const SECOND: Rgb = [86, 180, 233]

/** 256 colors, from 0 to the end of the scale. */
export const HEAT: readonly Rgb[] = Array.from({ length: 256 }, (_, level) => {
  const at = level / 15
  const low = Math.floor(at)
  const [a, b] = [INFERNO[low], INFERNO[Math.min(low + 1, INFERNO.length - 1)]]
  return [0, 1, 2].map((i) => Math.round(a[i] + (b[i] - a[i]) * (at - low))) as unknown as Rgb
})

// For legends; as opaque as the overlays, which are drawn over gray.
export const HEAT_GRADIENT = gradient(INFERNO.map((color, i) => css(color, i / (INFERNO.length - 1))))
export const DIFFERENCE_GRADIENT = gradient([css(FIRST, 1), css(FIRST, 0), css(SECOND, 0), css(SECOND, 1)])

function gradient(colors: string[]): string {
  return `linear-gradient(to right, ${colors.join(', ')})`
}

function css([red, green, blue]: Rgb, alpha: number): string {
  return `rgb(${red} ${green} ${blue} / ${alpha.toFixed(3)})`
}

function rgbOf(hex: string): Rgb {
  const value = Number.parseInt(hex, 16)
  return [value >> 16, (value >> 8) & 255, value & 255]
}
