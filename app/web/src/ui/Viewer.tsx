// A radiograph with a map over it, which can be enlarged and moved.

import { useEffect, useLayoutEffect, useRef } from 'preact/hooks'
import type { Radiograph } from '../types'
import { type Overlay, paintOverlay, paintRadiograph } from './paint'
import { afterKey, moved, type View, zoomed } from './zoom'

interface Props {
  image: Radiograph
  overlay: Overlay | null
  opacity: number
  /** The image and the map in words. */
  description: string
  view: View
  onView: (view: View) => void
}

export function Viewer({ image, overlay, opacity, description, view, onView }: Props) {
  const frame = useRef<HTMLDivElement>(null)
  const pointers = usePointers(frame, view, onView)
  const onKeyDown = (event: KeyboardEvent) => {
    const next = event.ctrlKey || event.metaKey || event.altKey ? null : afterKey(view, event.key)
    if (!next) return
    event.preventDefault()
    onView(next)
  }
  const x = `${100 * view.x}%`
  const y = `${100 * view.y}%`
  return (
    <div class="lightbox" style={{ '--ratio': String(image.width / image.height) }}>
      {/* The frame takes the focus so that keys can enlarge and move the image. */}
      <div
        class={view.scale > 1 ? 'frame zoomed' : 'frame'}
        ref={frame}
        tabIndex={0}
        role="group"
        aria-label="Image. Plus and minus enlarge and reduce it, arrow keys move it, zero shows all of it."
        onKeyDown={onKeyDown}
        {...pointers}
      >
        <div class="stage" style={{ transform: `translate(${x}, ${y}) scale(${view.scale})` }}>
          <RadiographCanvas image={image} description={description} />
          {overlay && <OverlayCanvas image={image} overlay={overlay} opacity={opacity} />}
        </div>
      </div>
    </div>
  )
}

export function RadiographCanvas({
  image,
  description,
  side,
}: {
  image: Radiograph
  description: string
  side?: number
}) {
  const canvas = useRef<HTMLCanvasElement>(null)
  useLayoutEffect(() => paintRadiograph(canvas.current!, image, side), [image, side])
  return <canvas class="radiograph" ref={canvas} role="img" aria-label={description} />
}

export function OverlayCanvas({ image, overlay, opacity }: { image: Radiograph; overlay: Overlay; opacity: number }) {
  const canvas = useRef<HTMLCanvasElement>(null)
  const { field, scale, style, signed } = overlay
  // Before the browser shows the canvas, so that no frame has an empty one.
  useLayoutEffect(() => paintOverlay(canvas.current!, overlay, image), [field.values, scale, style, signed, image])
  // The radiograph's description tells what the map shows.
  return <canvas class="overlay" ref={canvas} aria-hidden="true" style={{ opacity: String(opacity) }} />
}

/** Moving with one pointer, enlarging with two, with Ctrl and the wheel, or with a double click. */
function usePointers(frame: { current: HTMLDivElement | null }, view: View, onView: (view: View) => void) {
  const down = useRef(new Map<number, { x: number; y: number }>())
  const at = (event: MouseEvent) => {
    const box = frame.current!.getBoundingClientRect()
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height }
  }
  const latest = useRef(view)
  latest.current = view
  useEffect(() => {
    const onWheel = (event: WheelEvent) => {
      if (!event.ctrlKey && !event.metaKey) return // plain wheels scroll the page
      event.preventDefault()
      const { x, y } = at(event)
      onView(zoomed(latest.current, Math.exp(-event.deltaY / 300), x, y))
    }
    const element = frame.current!
    element.addEventListener('wheel', onWheel, { passive: false })
    return () => element.removeEventListener('wheel', onWheel)
  }, [])
  const release = (event: PointerEvent) => void down.current.delete(event.pointerId)
  return {
    onPointerDown: (event: PointerEvent) => {
      down.current.set(event.pointerId, at(event))
      frame.current!.setPointerCapture(event.pointerId)
    },
    onPointerMove: (event: PointerEvent) => {
      const before = down.current.get(event.pointerId)
      if (!before) return
      const now = at(event)
      const other = [...down.current].find(([id]) => id !== event.pointerId)?.[1]
      if (other) {
        const spread = (one: { x: number; y: number }) => Math.hypot(one.x - other.x, one.y - other.y)
        const factor = spread(before) > 0 ? spread(now) / spread(before) : 1
        onView(zoomed(latest.current, factor, (now.x + other.x) / 2, (now.y + other.y) / 2))
      } else if (latest.current.scale > 1) {
        onView(moved(latest.current, now.x - before.x, now.y - before.y))
      }
      down.current.set(event.pointerId, now)
    },
    onPointerUp: release,
    onPointerCancel: release,
    onDblClick: (event: MouseEvent) => {
      const { x, y } = at(event)
      onView(zoomed(latest.current, latest.current.scale > 1 ? 0 : 3, x, y))
    },
  }
}
