// What is marked over an attention tile: what is pointed at, chosen, or pinned, so that it stays. Joined after
// attention_tile.js; knows no gestures.
const MOST_PINS = 6

class Marked extends Drawing {
  constructor() {
    super()
    this.pins = [] // {query, key}: tokens, so that they stay the same in every grid
  }

  pin(cell) { // once more takes it away
    const { pool } = this.grid, token = { query: cell.q * pool, key: cell.k * pool }
    const same = this.pins.findIndex(p => this.cellOf(p).q === cell.q && this.cellOf(p).k === cell.k)
    if (same >= 0) this.pins.splice(same, 1)
    else this.pins = [...this.pins, token].slice(-MOST_PINS)
    this.tellPins()
    this.mark()
  }

  cellOf({ query, key }) {
    return { q: Math.floor(query / this.grid.pool), k: Math.floor(key / this.grid.pool) }
  }

  shownPins() { // with their numbers, as far as the grid of now has them
    const { top, end, low, high } = this.grid
    const there = ({ q, k }) => q >= top && q < end && k >= low && k < high
    return this.pins.map((pin, i) => ({ pin, i, cell: this.cellOf(pin) })).filter(({ cell }) => there(cell))
  }

  tellPins() {
    if (this.pins.some(pin => pin.query >= this.d.n)) this.pins = [] // another text
    for (const { pin, cell } of this.shownPins()) pin.words = this.describe(cell)
    const told = this.pins.map(pin => pin.words ?? "")
    if (told.join() === this.pinsSay) return
    this.pinsSay = told.join()
    this.list.hidden = !told.length
    this.list.replaceChildren(...told.map(words => Object.assign(document.createElement("li"), { textContent: words })))
    this.map.dataset.pins = told.length
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
