// The radiograph with the map of the selected finding; of two models side by side, with their difference.

import { useMemo } from 'preact/hooks'
import { differenceOf, sameCells } from './maps'
import { DifferenceLegend, type Display, HeatLegend } from './Overlays'
import type { Overlay, Style } from './paint'
import { overlayOf, type Said } from './said'
import type { Item } from './session'
import { Viewer } from './Viewer'
import { mapInWords, spoken } from './words'

interface Props {
  item: Item
  display: Display
  onDisplay: (display: Display) => void
  first: Said | null
  second: Said | null
  selected: string | null
  /** Of two models that are compared. */
  names: string[] | null
}

export function ImagePanel({ item, display, onDisplay, first, second, selected, names }: Props) {
  const overlays = useMemo(
    () => comparedOverlays(first, second, selected, display.style),
    [first, second, selected, display.style],
  )
  if (!item.radiograph) {
    return (
      <div class="images-shown">
        <div class="lightbox" />
        <div class="under" />
      </div>
    )
  }
  const onView = (view: Display['view']) => onDisplay({ ...display, view })
  const file = `Radiograph ${item.file.name}, ${item.radiograph.width} × ${item.radiograph.height} pixels`
  const viewer = (overlay: Overlay | null, title: string) => (
    <Viewer
      image={item.radiograph!}
      overlay={overlay}
      opacity={display.opacity}
      view={display.view}
      onView={onView}
      description={
        overlay && selected ? `${file}. ${title} ${spoken(selected)}: ${mapInWords(overlay.field)}.` : `${file}.`
      }
    />
  )
  if (!names) {
    return (
      <div class="images-shown">
        {viewer(overlays.first, 'Map of')}
        <div class="under">
          {first && selected && <Legend said={first} opacity={display.opacity} {...{ selected }} />}
        </div>
      </div>
    )
  }
  return (
    <div class="images-shown three">
      {[overlays.first, overlays.second].map((overlay, i) => (
        <figure key={i}>
          <figcaption>{names[i]}</figcaption>
          {viewer(overlay, `${names[i]}, map of`)}
          {overlay && (
            <HeatLegend scale={overlay.scale} opacity={display.opacity}>
              One scale for both models and all findings of this image.
            </HeatLegend>
          )}
        </figure>
      ))}
      <figure class="wide">
        <figcaption>Difference</figcaption>
        {viewer(overlays.difference, 'Difference of the maps of')}
        {overlays.difference && (
          <DifferenceLegend
            scale={overlays.difference.scale}
            first={names[0]}
            second={names[1]}
            opacity={display.opacity}
          />
        )}
      </figure>
    </div>
  )
}

/** Maps of two models on one scale, and their difference. */
function comparedOverlays(first: Said | null, second: Said | null, selected: string | null, style: Style) {
  const none = { first: null, second: null, difference: null }
  if (!first || !selected) return none
  const one = overlayOf(first, selected, style)
  const other = second && overlayOf(second, selected, style)
  if (!one || !other) return { ...none, first: one, second: other }
  const factor = sameCells(one.field, other.field)
  const scale = Math.max(one.scale, other.scale * factor)
  const difference = { field: differenceOf(one.field, other.field), scale, style, signed: true }
  return { first: { ...one, scale }, second: { ...other, scale: scale / factor }, difference }
}

/** Under a map: its colors, and whether it is empty. */
function Legend({ said, selected, opacity }: { said: Said; selected: string; opacity: number }) {
  const field = said.fields.get(selected)
  if (!field) return null
  const empty = field.values.every((value) => value === 0)
  return (
    <>
      <HeatLegend scale={said.scale} opacity={opacity}>
        {`One scale for all findings of this image: it ends at the largest value, that of ${spoken(said.largest)}.`}
      </HeatLegend>
      <p class="empty-map">{empty ? `Nothing in this image raises ${spoken(selected)}.` : ''}</p>
    </>
  )
}
