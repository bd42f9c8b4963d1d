// What is marked over an attention tile: what is pointed at, chosen, or pinned, so that it stays. Joined after
// attention_tile.js; knows no gestures.
const MOST_PINS = 6

class Marked extends Drawing {
  constructor() {
    super()
    this.pins = [] // {query, key, pool}: the first tokens of a cell of a grid pooled so, the same in every grid
  }

  pin(cell) { // once more takes it away
    const { pool } = this.grid, pinned = { query: cell.q * pool, key: cell.k * pool, pool }
    const same = this.pins.findIndex(p => this.cellOf(p).q === cell.q && this.cellOf(p).k === cell.k)
    if (same >= 0) this.pins.splice(same, 1)
    else this.pins = [...this.pins, pinned].slice(-MOST_PINS)
    this.tellPins()
    this.mark()
  }

  cellOf({ query, key }) {
    return { q: Math.floor(query / this.grid.pool), k: Math.floor(key / this.grid.pool) }
  }

  finer(pin) { // of a pooled cell, its strongest link, as soon as every link of it is here
    const { grid, d } = this, ends = [pin.query, pin.key].map(at => Math.min(d.n, at + pin.pool))
    if (pin.pool <= grid.pool || pin.query < grid.top * grid.pool || ends[0] > grid.end * grid.pool || pin.key < grid.low * grid.pool || ends[1] > grid.high * grid.pool) return
    const { q, k } = this.translated({ q: pin.query / pin.pool, k: pin.key / pin.pool }, pin.pool)
    Object.assign(pin, { query: q * grid.pool, key: k * grid.pool, pool: grid.pool })
  }

  shownPins() { // with their numbers, as far as the grid of now has them
    const { top, end, low, high, pool } = this.grid
    const there = ({ q, k }) => q >= top && q < end && k >= low && k < high
    this.pins.forEach(pin => this.finer(pin))
    return this.pins.map((pin, i) => ({ pin, i, cell: this.cellOf(pin) })).filter(({ pin, cell }) => pin.pool <= pool && there(cell))
  }

  tellPins() {
    if (this.pins.some(pin => pin.query >= this.d.n)) this.pins = [] // another text
    const { d } = this, of = [d.layer, d.head, d.hideSink].join()
    for (const { pin, cell } of this.shownPins()) Object.assign(pin, { words: this.describe(cell), of })
    const told = this.pins.map(pin => pin.of === of ? pin.words : `${this.namedOnly(pin)}: not in what is zoomed into`)
    if (told.join() === this.pinsSay) return
    this.pinsSay = told.join()
    this.list.hidden = !told.length
    this.list.replaceChildren(...told.map(words => Object.assign(document.createElement("li"), { textContent: words })))
    this.map.dataset.pins = told.length
  }

  namedOnly({ query, key, pool }) {
    const { positions: p, texts, n } = this.d, place = i => Array.isArray(p) ? p[i] : p + i, name = i => `${place(i)} ${quoted(texts[i])}`
    const range = first => { const last = Math.min(n, first + pool) - 1; return last > first ? `${name(first)} to ${name(last)}` : name(first) }
    return `${pool > 1 ? "queries" : "query"} ${range(query)} → ${pool > 1 ? "keys" : "key"} ${range(key)}`
  }

  pinned() { // as lines of an image
    return [...this.list.children].map((line, i) => `${i + 1}: ${line.textContent}`)
  }

  markPins(g) {
    const { px, box } = this
    g.font = `600 ${px}px ${this.face}`
    g.textAlign = "left"; g.textBaseline = "bottom"
    this.shownPins().forEach(({ i, cell: { q, k } }) => {
      const w = Math.max(this.cw, 9), h = Math.max(this.ch, 9), x = this.x(k + 0.5) - w / 2, y = this.y(q + 0.5) - h / 2
      if (x < box.x - w || x > box.x + box.w || y < box.y - h || y > box.y + box.h) return
      for (const [width, style] of [[4, "rgb(0 0 0 / 0.75)"], [2, this.accent]]) { g.strokeStyle = style; g.lineWidth = width; g.strokeRect(x, y, w, h) }
      g.lineWidth = 3; g.strokeStyle = "rgb(0 0 0 / 0.75)"; g.fillStyle = "#fff"
      g.strokeText(i + 1, x + w + 2, y + 2); g.fillText(i + 1, x + w + 2, y + 2)
    })
  }

  chosen(g) { // bars between the cells and their names: beside the row of the chosen token, beneath its column
    const { box, d, grid } = this, at = d.selected / grid.pool, cells = (first, size) => [first + Math.min(0, size / 2 - 2), Math.max(size, 4)]
    if (d.selected === null) return
    g.fillStyle = this.accent
    const bar = ([from, size], low, room, paint) => { if (from + size > low && from < low + room) paint(Math.max(low, from), Math.min(low + room, from + size)) }
    bar(cells(this.y(at), this.ch / grid.pool), box.y, box.h, (from, end) => g.fillRect(box.left - 4, from, 3, end - from))
    bar(cells(this.x(at), this.cw / grid.pool), box.x, box.w, (from, end) => g.fillRect(from, box.y + box.h + 1, end - from, 3))
  }

  cross(g, { q, k }) {
    const { box } = this, x = this.x(k + 0.5), y = this.y(q + 0.5)
    for (const [width, style] of [[3, "rgb(0 0 0 / 0.45)"], [1, "rgb(255 255 255 / 0.9)"]]) {
      g.strokeStyle = style; g.lineWidth = width; g.beginPath()
      g.moveTo(box.x, y); g.lineTo(x - this.cw / 2, y); g.moveTo(x, y + this.ch / 2); g.lineTo(x, box.y + box.h)
      g.rect(this.x(k), this.y(q), this.cw, this.ch); g.stroke()
    }
  }

  ring(g, { q, k }) {
    const w = Math.max(this.cw, 7), h = Math.max(this.ch, 7), x = this.x(k + 0.5) - w / 2, y = this.y(q + 0.5) - h / 2
    g.lineJoin = "round"
    for (const [width, style] of [[5, "rgb(0 0 0 / 0.75)"], [2.5, "#ffffff"]]) {
      g.strokeStyle = style; g.lineWidth = width; g.strokeRect(x, y, w, h)
    }
  }

  /** In words, which of all that its query read here a cell is. */
  rankOf(q, k) {
    const { low, high, reach } = this.grid, mine = this.raw(q, k)
    let more = 0, n = 0
    for (let j = Math.max(low, this.firstRead, reach(q)); j < Math.min(q + 1, high); j++, n++) if (this.raw(q, j) > mine) more++
    return `rank ${more + 1} of ${n}${this.grid === this.d.window ? " around here" : ""}`
  }
}
