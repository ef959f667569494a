// The page with images: the radiograph and its map on one side, the findings on the other.

import { Comparison } from './Comparison'
import { Detail } from './Detail'
import { FindingList } from './FindingList'
import { mostNotable } from './findings'
import { ImagePanel } from './ImagePanel'
import { type Display, OverlayControls } from './Overlays'
import { Report } from './Report'
import { overlayOf, type Said, useSaid } from './said'
import type { Item, Session } from './session'
import { Refused, Status, Warnings } from './Status'
import { readingHints } from './words'

interface Props {
  session: Session
  item: Item
  display: Display
  onDisplay: (display: Display) => void
  withNames: boolean
}

export function Work({ session, item, display, onDisplay, withNames }: Props) {
  const first = useSaid(item, session.model)
  const second = useSaid(item, session.second)
  const comparing = session.second !== null
  const predicted = [first, second].some((said) => said?.findings.some((one) => one.name === session.selected))
  const notable = first ? mostNotable(first.model.info!, first.findings) : null
  const selected = predicted ? session.selected : notable
  const onSelect = (name: string) => session.select(name)
  if (item.failure) return <Refused session={session} item={item} />
  return (
    <div class={comparing ? 'work comparing' : 'work'}>
      <section class="left" aria-label="Image">
        <ImagePanel
          {...{ item, display, onDisplay, first, second, selected }}
          names={session.second && session.shown.map((model) => model.entry.name)}
        />
        {session.model?.info?.map_method && <OverlayControls display={display} onChange={onDisplay} />}
      </section>
      <section class="right" aria-label="Findings">
        <Status session={session} item={item} />
        <Warnings session={session} item={item} />
        {comparing && first && second ? (
          <Comparison
            names={[first.model.entry.name, second.model.entry.name]}
            first={first.findings}
            second={second.findings}
            hints={[first, second].flatMap(({ model }) =>
              readingHints(model.info!).map((hint) => `${model.entry.name}: ${hint}`),
            )}
            {...{ selected, onSelect }}
          />
        ) : session.model?.info ? (
          <FindingList
            info={session.model.info}
            findings={comparing ? null : (first?.findings ?? null)}
            {...{ selected, onSelect }}
          />
        ) : null}
      </section>
      <div class="details">
        {!first && <div class="detail" />}
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
                overlay={overlayOf(said, selected, 'color')}
                opacity={display.opacity}
                withName={withNames}
              />
            ),
        )}
    </div>
  )
}

function SaidDetail({ said, selected, comparing }: { said: Said; selected: string; comparing: boolean }) {
  const finding = said.findings.find((one) => one.name === selected)
  if (!finding) return null
  const model = comparing ? said.model.entry.name : undefined
  return <Detail info={said.model.info!} finding={finding} field={said.fields.get(selected) ?? null} model={model} />
}
