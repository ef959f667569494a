// Below the image: what was done to it, saving and printing, the model, the keys.

import { exported, save } from './export'
import { Facts } from './Facts'
import type { Item, Session } from './session'

interface Props {
  session: Session
  item: Item
  withNames: boolean
  onWithNames: (withNames: boolean) => void
}

export function More({ session, item, withNames, onWithNames }: Props) {
  const ready = session.items.filter((one) => one.answers.size > 0).length
  return (
    <div class="more">
      <div class="column">
        {item.radiograph && (
          <section>
            <h2>What was read</h2>
            <ul>
              <li>{`${item.radiograph.width} × ${item.radiograph.height} pixels`}</li>
              {item.radiograph.notes.map((note) => (
                <li key={note}>{note}</li>
              ))}
              {session.model?.info && (
                <li>{`resized to ${session.model.info.side} × ${session.model.info.side} pixels for the model`}</li>
              )}
            </ul>
          </section>
        )}
        <section>
          <h2>Save or print</h2>
          <p class="buttons">
            <button
              type="button"
              class="button"
              disabled={!ready}
              onClick={() => save(exported(session.items, session.shown, withNames), 'chexvision.json')}
            >
              {ready > 1 ? `Save ${ready} answers as JSON` : 'Save the answer as JSON'}
            </button>
            <button type="button" class="button" disabled={!item.answers.size} onClick={() => print()}>
              Print a report
            </button>
          </p>
          <label class="check">
            <input type="checkbox" checked={withNames} onChange={(event) => onWithNames(event.currentTarget.checked)} />
            <span>
              Include file names. They may contain a patient's name or number; without them files are named by their
              checksum.
            </span>
          </label>
        </section>
        <section>
          <h2>Keys</h2>
          <dl class="keys">
            <dt>↑ ↓ Home End</dt>
            <dd>in the findings: choose whose map is shown</dd>
            <dt>+ − 0 arrows</dt>
            <dd>on the image: enlarge, reduce, show all, move</dd>
            <dt>Escape</dt>
            <dd>show all of the image; then hide or show the map</dd>
          </dl>
        </section>
      </div>
      <div class="column">
        {session.shown.map((model) => (
          <section key={model.entry.folder}>
            <h2>{session.second ? `Model: ${model.entry.name}` : 'Model'}</h2>
            <Facts model={model} />
          </section>
        ))}
      </div>
    </div>
  )
}
