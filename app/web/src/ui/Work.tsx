// The page with images: the radiograph and its map on one side, the findings on the other.

import { useMemo } from 'preact/hooks'
import { Comparison } from './Comparison'
import { Detail } from './Detail'
import { Findings } from './Findings'
import { type Finding, findingsOf, mostNotable } from './findings'
import { differenceOf, type Field, fieldOf, sameCells, scaleOf } from './maps'
import { DifferenceLegend, type Display, HeatLegend, OverlayControls } from './Overlays'
import type { Overlay } from './paint'
import { Report } from './Report'
import { type Item, type Model, percentOf, type Session } from './session'
import { Viewer } from './Viewer'
import { mapInWords, megabytes, spoken } from './words'

interface Props {
  session: Session
  item: Item
  display: Display
  onDisplay: (display: Display) => void
  withNames: boolean
}

/** What one model says about the image on the screen. */
interface Said {
  model: Model
  findings: Finding[]
  /** Maps by output; the largest value over them. */
  fields: Map<string, Field>
  scale: number
  largest: string
}

export function Work({ session, item, display, onDisplay, withNames }: Props) {
  const first = useSaid(item, session.model)
  const second = useSaid(item, session.second)
  const comparing = session.second !== null
  const selected = session.selected ?? (first ? mostNotable(first.model.info!, first.findings) : null)
  const onSelect = (name: string) => session.select(name)
  if (item.failure) return <Refused session={session} item={item} />
  return (
    <div class={comparing ? 'work comparing' : 'work'}>
      <section class="left" aria-label="Image">
        <Warnings item={item} session={session} />
        <Images {...{ item, display, onDisplay, first, second, selected, comparing }} />
        {first?.fields.size ? <OverlayControls display={display} onChange={onDisplay} /> : null}
      </section>
      <section class="right" aria-label="Findings">
        <Status session={session} item={item} />
        {comparing && first && second ? (
          <Comparison
            names={[first.model.entry.name, second.model.entry.name]}
            first={first.findings}
            second={second.findings}
            {...{ selected, onSelect }}
          />
        ) : session.model?.info ? (
          <Findings
            info={session.model.info}
            findings={comparing ? null : (first?.findings ?? null)}
            {...{ selected, onSelect }}
          />
        ) : null}
      </section>
      <div class="details">
        {[first, second].map(
          (said) => said && selected && <SaidDetail key={said.model.entry.folder} {...{ said, selected, comparing }} />,
        )}
      </div>
      {selected &&
        [first, second].map(
          (said) =>
            said && (
              <Report
                key={said.model.entry.folder}
                {...{ item, selected }}
                model={said.model}
                overlay={overlayOf(said, selected, { ...display, style: 'color' })}
                opacity={display.opacity}
                withName={withNames}
              />
            ),
        )}
    </div>
  )
}

function useSaid(item: Item, model: Model | null): Said | null {
  const answer = model ? item.answers.get(model) : undefined
  return useMemo(() => {
    if (!model?.info || !answer) return null
    const findings = findingsOf(model.info, answer)
    const { maps } = answer
    if (!maps) return { model, findings, fields: new Map(), scale: 0, largest: '' }
    const fields = new Map(findings.map((one) => [one.name, fieldOf(maps, one.output)]))
    const scale = scaleOf(maps)
    const largest = findings.find((one) => fields.get(one.name)!.values.includes(scale))!.name
    return { model, findings, fields, scale, largest }
  }, [model?.info, answer])
}

function overlayOf(said: Said, name: string, { style }: Display): Overlay | null {
  const field = said.fields.get(name)
  return field ? { field, scale: said.scale, style, signed: false } : null
}

interface ImagesProps extends Omit<Props, 'session' | 'withNames'> {
  first: Said | null
  second: Said | null
  selected: string | null
  comparing: boolean
}

function Images({ item, display, onDisplay, first, second, selected, comparing }: ImagesProps) {
  const overlays = useMemo(
    () => comparedOverlays(first, comparing ? second : null, selected, display),
    [first, second, selected, comparing, display.style],
  )
  if (!item.radiograph) return <div class="lightbox empty" />
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
  if (!comparing) {
    return (
      <div class="images-shown">
        {viewer(overlays.first, 'Map of')}
        {first && overlays.first && selected && (
          <Legend said={first} overlay={overlays.first} {...{ selected, display }} />
        )}
      </div>
    )
  }
  const names = [first, second].map((said) => said?.model.entry.name ?? 'loading')
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
      {overlays.difference && (
        <figure class="wide">
          <figcaption>Difference</figcaption>
          {viewer(overlays.difference, `Difference of the maps of`)}
          <DifferenceLegend
            scale={overlays.difference.scale}
            first={names[0]}
            second={names[1]}
            opacity={display.opacity}
          />
        </figure>
      )}
    </div>
  )
}

/** Maps of two models on one scale, and their difference. */
function comparedOverlays(first: Said | null, second: Said | null, selected: string | null, display: Display) {
  const none = { first: null, second: null, difference: null }
  if (!first || !selected) return none
  const one = overlayOf(first, selected, display)
  const other = second && overlayOf(second, selected, display)
  if (!one || !other) return { ...none, first: one, second: other }
  const factor = sameCells(one.field, other.field)
  const scale = Math.max(one.scale, other.scale * factor)
  const difference = { field: differenceOf(one.field, other.field), scale, style: display.style, signed: true }
  return { first: { ...one, scale }, second: { ...other, scale: scale / factor }, difference }
}

function Legend({
  said,
  overlay,
  selected,
  display,
}: {
  said: Said
  overlay: Overlay
  selected: string
  display: Display
}) {
  const empty = overlay.field.values.every((value) => value === 0)
  return (
    <div class="under">
      <HeatLegend scale={said.scale} opacity={display.opacity}>
        {`One scale for all findings of this image: it ends at the largest value, that of ${spoken(said.largest)}.`}
      </HeatLegend>
      <p class="empty-map">{empty ? `Nothing in this image raises ${spoken(selected)}.` : ''}</p>
    </div>
  )
}

function SaidDetail({ said, selected, comparing }: { said: Said; selected: string; comparing: boolean }) {
  const finding = said.findings.find((one) => one.name === selected)
  if (!finding) return null
  const model = comparing ? said.model.entry.name : undefined
  return <Detail info={said.model.info!} finding={finding} field={said.fields.get(selected) ?? null} model={model} />
}

/** Why the answers may not be valid for this image. */
function Warnings({ item, session }: { item: Item; session: Session }) {
  const of = session.shown.flatMap((model) => item.answers.get(model)?.warnings ?? [])
  const texts = [...new Set([...(item.radiograph?.warnings ?? []), ...of])]
  if (!texts.length) return null
  return (
    <div class="notice warning" role="note" aria-label="Warning">
      <h2>⚠ This image may not suit the model</h2>
      <ul>
        {texts.map((text) => (
          <li key={text}>{text}</li>
        ))}
      </ul>
    </div>
  )
}

function Refused({ session, item }: { session: Session; item: Item }) {
  return (
    <div class="notice refused">
      <h2>{item.file.name} could not be used</h2>
      <p>{item.failure!.message}</p>
      {item.failure!.anyViewHelps && (
        <button type="button" class="button" onClick={() => session.acceptAnyView(item)}>
          Read it anyway
        </button>
      )}
      <p class="hint">Choose another file, or one of the images above.</p>
    </div>
  )
}

/** One line: what is being done, or how long it took. Its height never changes. */
function Status({ session, item }: { session: Session; item: Item }) {
  const failed = session.shown.find((model) => model.error)
  if (failed) {
    return (
      <div class="status error">
        <p>{failed.error}</p>
        <button type="button" class="button" onClick={() => session.retry(failed)}>
          Try again
        </button>
      </div>
    )
  }
  const error = session.shown.map((model) => item.errors.get(model)).find((text) => text !== undefined)
  if (error !== undefined) return <p class="status error">{error}</p>
  const loading = session.shown.find((model) => model.progress)
  if (loading?.progress) {
    const { loaded, total } = loading.progress
    const done = total > 0 && loaded === total
    return (
      <div class="status">
        <label>
          <span>
            {done
              ? `Starting ${loading.entry.name}`
              : `Downloading ${loading.entry.name}: ${megabytes(loaded)} of ${megabytes(total)}`}
          </span>
          <progress max="100" value={done ? undefined : percentOf(loading.progress)} />
        </label>
      </div>
    )
  }
  if (!item.radiograph) return <p class="status">Reading the file…</p>
  const answers = session.shown.map((model) => item.answers.get(model))
  const seconds = answers.map((answer) => (answer ? `${(answer.milliseconds / 1000).toFixed(1)} s` : ''))
  return (
    <p class="status">
      {answers.every(Boolean) ? `Computed in this browser in ${seconds.join(' and ')}` : 'Computing…'}
    </p>
  )
}
