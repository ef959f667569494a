'use strict'
const table = document.getElementById('runs')
const body = table.tBodies[0]
const status = document.getElementById('status')
const form = document.getElementById('filters')
const selects = [...form.querySelectorAll('select')]
const everywhere = (run) => document.querySelectorAll(`[data-run='${run}']`)

function announce(text) {
  status.textContent = text
}

// Sorting: blanks stay at the end in either direction, and equal values keep their order.
function keyOf(row, column, numeric) {
  const key = row.cells[column].dataset.key
  return numeric ? Number(key) : key.toLowerCase()
}

function sort(header) {
  const column = header.cellIndex
  const numeric = 'numeric' in header.dataset
  const first = numeric || 'date' in header.dataset ? 'descending' : 'ascending'
  const other = first === 'ascending' ? 'descending' : 'ascending'
  const order = header.getAttribute('aria-sort') === first ? other : first
  for (const one of table.tHead.rows[0].cells) one.removeAttribute('aria-sort')
  header.setAttribute('aria-sort', order)
  const sign = order === 'ascending' ? 1 : -1
  const rows = [...body.rows]
  const blank = (key) => key === '' || key === -1
  rows.sort((a, b) => {
    const [x, y] = [keyOf(a, column, numeric), keyOf(b, column, numeric)]
    if (blank(x) || blank(y)) return Number(blank(x)) - Number(blank(y))
    return x < y ? -sign : x > y ? sign : 0
  })
  body.append(...rows)
  const visible = rows.filter((row) => !row.classList.contains('out'))
  const sets = new Set(visible.map((row) => row.dataset.set).filter(Boolean)).size
  const mixed = 'measured' in header.dataset && sets > 1
  announce(`sorted by ${header.textContent.trim()}, ${order}${mixed ? `; ${sets} test sets, which do not compare` : ''}`)
}

function filter() {
  const wanted = form.elements.search.value.toLowerCase().split(/\s+/).filter(Boolean)
  let shown = 0
  for (const row of body.rows) {
    const text = row.textContent.toLowerCase()
    const fits = wanted.every((word) => text.includes(word))
      && selects.every((one, i) => one.value === '' || row.dataset[`filter${i}`] === one.value)
    for (const one of everywhere(row.dataset.run)) one.classList.toggle('out', !fits)
    shown += fits ? 1 : 0
  }
  announce(`${shown} of ${body.rows.length} runs`)
}

function highlight(run, on) {
  document.body.classList.toggle('highlighting', on)
  for (const one of everywhere(run)) one.classList.toggle('active', on)
}

for (const header of table.tHead.rows[0].cells) {
  const button = document.createElement('button')
  button.type = 'button'
  button.append(...header.childNodes)
  button.addEventListener('click', () => sort(header))
  header.append(button)
}
form.hidden = false
form.addEventListener('input', filter)
form.addEventListener('submit', (event) => event.preventDefault())
form.addEventListener('reset', () => setTimeout(filter))
for (const row of document.querySelectorAll('tr[data-run], .curve')) {
  const run = row.dataset.run
  for (const [event, on] of [['mouseenter', true], ['mouseleave', false], ['focusin', true], ['focusout', false]]) {
    row.addEventListener(event, () => highlight(run, on))
  }
}
