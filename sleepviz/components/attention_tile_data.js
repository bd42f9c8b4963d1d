// Unpacks what tile_packing.py has packed, and writes tokens and numbers as people read them. Joined before attention_tile.js,
// which draws; knows no pixels.
const FULL = 65535
const LABEL_PX = 12 // a token gets its label when its cell is at least this wide
const clamp = (x, low, high) => Math.max(low, Math.min(high, x))

function decode(data) {
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(data)
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true)
  const d = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)))
  const numbers = new Uint16Array(bytes.slice(4 + length).buffer), size = d.m * (d.m + 1) / 2
  const rest = numbers.subarray(size), n = d.hasSlots ? d.m : 0
  const slots = d.hasSlots ? rest.subarray(0, n) : null
  d.whole = { pool: d.pool, m: d.m, across: d.m, low: 0, high: d.m, top: 0, end: d.m, cells: numbers.subarray(0, size), slots, base: q => q * (q + 1) / 2 }
  d.window = null
  if (d.detail) { // part of a pooled tile, token by token
    const [query, key, rows, columns] = d.detail, cells = rest.subarray(n, n + rows * columns)
    d.window = {
      pool: 1, m: d.n, across: d.m * d.pool, low: key, high: key + columns, top: query, end: query + rows,
      cells, slots: d.hasSlots ? rest.subarray(n + rows * columns) : null, base: q => (q - query) * columns - key,
    }
  }
  for (const grid of [d.whole, d.window]) // the first key that a query can read, where a layer's window ends before
    if (grid) grid.reach = q => d.reach ? Math.max(0, Math.floor((q * grid.pool - d.reach + 1) / grid.pool)) : 0
  d.longest = d.texts.reduce((n, text) => Math.max(n, [...marked(text)].length), 3)
  return d
}

// Whitespace is shown as a sign; marks that could turn the rest of the line around are shown as dots.
const marked = text => text.replaceAll(" ", "␣").replace(/\r?\n/g, "⏎").replaceAll("\t", "⇥")
  .replace(/[\u0000-\u001f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "·").replaceAll("\ufffd", "▯")
const quoted = text => `“${marked(text.trim() ? text.trim() : text)}”`
const short = (text, n) => { const c = [...marked(text)]; return c.length > n ? c.slice(0, n - 1).join("") + "…" : c.join("") }
const small = (x, digits, least) => x === 0 ? "0" : x < least ? x.toPrecision(1) : x.toFixed(digits)
const niceStep = least => [1, 2, 5].flatMap(a => [1, 10, 100, 1000, 10000].map(b => a * b))
  .sort((a, b) => a - b).find(step => step >= least) ?? 50000

// Of each cell its rank among those that its query could read: 0 for the least read, FULL for the most; equal ones share theirs.
function ranked(grid, first) {
  if (grid.ranks) return grid.ranks
  const ranks = grid.ranks = new Uint16Array(grid.cells.length)
  for (let q = grid.top; q < grid.end; q++) {
    const low = Math.max(first, grid.reach(q)), from = grid.base(q) + low, row = grid.cells.subarray(from, Math.max(from, grid.base(q) + Math.min(q + 1, grid.high)))
    const order = Uint16Array.from(row).sort(), places = new Map()
    order.forEach((value, i) => { if (!places.has(value)) places.set(value, i) })
    row.forEach((value, i) => { ranks[from + i] = FULL * places.get(value) / Math.max(1, order.length - 1) })
  }
  return ranks
}
