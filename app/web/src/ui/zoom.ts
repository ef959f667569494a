// Which part of an image is on the screen.

/** Enlargement, and where the image's left upper corner is, as fractions of the frame's width and height. */
export interface View {
  scale: number
  x: number
  y: number
}

export const WHOLE: View = { scale: 1, x: 0, y: 0 }

const LARGEST = 8

/** Enlarge by a factor around a point of the frame, in fractions of its sides. */
export function zoomed(view: View, factor: number, x = 0.5, y = 0.5): View {
  const scale = Math.min(Math.max(view.scale * factor, 1), LARGEST)
  const grown = scale / view.scale
  return clamped({ scale, x: x - (x - view.x) * grown, y: y - (y - view.y) * grown })
}

export function moved(view: View, x: number, y: number): View {
  return clamped({ ...view, x: view.x + x, y: view.y + y })
}

/** The view after a key; null for keys that do nothing. */
export function afterKey(view: View, key: string): View | null {
  const step = 0.1
  switch (key) {
    case '+':
    case '=':
      return zoomed(view, 1.5)
    case '-':
      return zoomed(view, 1 / 1.5)
    case '0':
      return WHOLE
  }
  if (view.scale === 1) return null // arrow keys scroll the page
  switch (key) {
    case 'ArrowLeft':
      return moved(view, step, 0)
    case 'ArrowRight':
      return moved(view, -step, 0)
    case 'ArrowUp':
      return moved(view, 0, step)
    case 'ArrowDown':
      return moved(view, 0, -step)
  }
  return null
}

function clamped({ scale, x, y }: View): View {
  const within = (at: number) => Math.min(Math.max(at, 1 - scale), 0)
  return { scale, x: within(x), y: within(y) }
}
