// What is printed: one image, its map, all findings, the model. Not on the screen.

import { Facts } from './Facts'
import { type Finding, findingsOf, GROUPS } from './findings'
import { HeatLegend } from './Overlays'
import type { Overlay } from './paint'
import type { Item, Model } from './session'
import { OverlayCanvas, RadiographCanvas } from './Viewer'
import { mapInWords, methodInWords, NEAR_MEANS, percent, RESEARCH_ONLY, spoken, SYNTHETIC, title } from './words'

const SIDE = 1024

interface Props {
  item: Item
  model: Model
  selected: string
  overlay: Overlay | null
  opacity: number
  withName: boolean
}

export function Report({ item, model, selected, overlay, opacity, withName }: Props) {
  const { info } = model
  const { radiograph } = item
  const answer = item.answers.get(model)
  if (!info || !radiograph || !answer) return null
  const name = withName ? item.file.name : `sha256 ${item.sha256?.slice(0, 16) ?? 'not computed'}`
  const warnings = [...radiograph.warnings, ...answer.warnings]
  return (
    <section class="report">
      <h1>Chest radiograph: model output</h1>
      <p>
        {info.model}, image {name}, {new Date().toLocaleString('en-GB', { dateStyle: 'long', timeStyle: 'short' })}
      </p>
      <p class="notice">
        <strong>{RESEARCH_ONLY}</strong> {info.synthetic && <strong>{SYNTHETIC}</strong>}
      </p>
      {warnings.map((text) => (
        <p class="notice warning" key={text}>
          <strong>Warning:</strong> {text}
        </p>
      ))}
      <div class="printed-images">
        <figure>
          <div class="printed-image">
            <RadiographCanvas image={radiograph} description="The radiograph" side={SIDE} />
          </div>
          <figcaption>
            {radiograph.width} × {radiograph.height} pixels. {radiograph.notes.join('; ')}
          </figcaption>
        </figure>
        {overlay && (
          <figure>
            <div class="printed-image">
              <RadiographCanvas image={radiograph} description="The radiograph with its map" side={SIDE} />
              <OverlayCanvas image={radiograph} overlay={overlay} opacity={opacity} />
            </div>
            <HeatLegend scale={overlay.scale} opacity={opacity}>
              {`${spoken(selected)}: ${mapInWords(overlay.field)}. ${methodInWords(info, overlay.field)}`}
            </HeatLegend>
          </figure>
        )}
      </div>
      <ReportTable item={item} model={model} />
      <h2>Model</h2>
      <Facts model={model} />
    </section>
  )
}

function ReportTable({ item, model }: { item: Item; model: Model }) {
  const info = model.info!
  const findings = findingsOf(info, item.answers.get(model)!)
  const rank = (one: Finding) => (one.name === info.label_space.abnormal ? -1 : GROUPS.indexOf(one.group))
  findings.sort((a, b) => rank(a) - rank(b))
  const results = (one: Finding) => (one.threshold === null ? null : one.test)
  const share = (value: number | null | undefined) => (value === null || value === undefined ? '–' : percent(value))
  return (
    <table>
      <caption>
        Probabilities{info.calibration === 'none' ? ' (not calibrated)' : ' (calibrated)'}. Near: {NEAR_MEANS}.
        Sensitivity and specificity of the threshold{info.test_set ? ` on ${info.test_set}` : ' on the test images'}; –:
        not measured.
      </caption>
      <thead>
        <tr>
          {['Finding', 'Probability', 'Threshold', 'Result', 'Sensitivity', 'Specificity', 'n with / all'].map(
            (name) => (
              <th scope="col" key={name}>
                {name}
              </th>
            ),
          )}
        </tr>
      </thead>
      <tbody>
        {findings.map((one) => (
          <tr key={one.name} class={one.group}>
            <th scope="row">{title(one.name, info)}</th>
            <td>{percent(one.probability)}</td>
            <td>{share(one.threshold)}</td>
            <td>{one.group === 'unknown' ? '–' : one.group}</td>
            <td>{share(results(one)?.sensitivity)}</td>
            <td>{share(results(one)?.specificity)}</td>
            <td>{`${one.test?.positives?.toLocaleString('en') ?? '–'} / ${one.test?.images?.toLocaleString('en') ?? '–'}`}</td>
          </tr>
        ))}
      </tbody>
    </table>
  )
}
