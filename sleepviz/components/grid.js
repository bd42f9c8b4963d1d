// A small heatmap as it is read: pointing, choosing and walking, all kept while new data arrive.

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }

export default function ({ data, parentElement, setTriggerValue }) {
  const grid = tenant(parentElement, Grid)
  grid.chose = (row, column) => setTriggerValue("cell", { row, column })
  grid.letGo = () => setTriggerValue("cell", { row: null })
  grid.tell(unpack(data))
  return () => {
    grid.close()
    parentElement.tenant = null
  }
}

class Grid extends GridPicture {
  constructor(parent) {
    super(parent)
    this.cursor = null // [row, column] pointed at
    this.chosen = null // [row, column] that stays ringed
    const { map } = this
    map.onpointermove = (e) => this.point(this.under(e))
    map.onpointerleave = map.onblur = () => this.point(null)
    map.onfocus = () => this.mark()
    map.onclick = (e) => {
      this.point(this.under(e))
      this.choose(this.cursor)
    }
    map.onkeydown = (e) => this.typed(e)
  }

  tell(message) {
    const names = this.chosen && [this.message.y.names[this.chosen[0]], this.message.x.names[this.chosen[1]]]
    super.tell(message)
    const { shape: [rows, columns], x, y } = message
    if (names) {
      const found = [y.names, x.names].map((all, i) => (all[this.chosen[i]] === names[i] ? this.chosen[i] : all.indexOf(names[i])))
      this.chosen = Math.min(...found) < 0 ? null : found // its name may be gone, or in another place
    }
    if (this.cursor && !(this.cursor[0] < rows && this.cursor[1] < columns)) this.cursor = null
  }

  /** The cell under a pointer, if there is one that says something. */
  under({ offsetX, offsetY }) {
    if (!this.box) return null
    const { shape: [rows, columns] } = this.message
    const column = Math.floor((offsetX - this.box.left) / this.cw)
    const row = this.line(Math.floor((offsetY - this.box.top) / this.ch))
    if (column < 0 || column >= columns || row < 0 || row >= rows) return null
    return this.words([row, column]).length ? [row, column] : null
  }

  /** What a cell says, as lines; none where nothing is. */
  words([row, column]) {
    const { shape, x, y, z, custom, hover, gaps } = this.message
    const i = row * shape[1] + column
    if (!gaps && !Number.isFinite(z[i])) return []
    const lines = linesOf(filled(hover, { x: x.raw[column], y: y.raw[row], z: z[i], custom: custom.map((c) => c[i]) }))
    const told = lines.map((line) => line.replace(/\bnone \S+$/, "none")) // of what there is not, no unit
    return told.some((line) => line.trim()) ? told : []
  }

  point(cell) {
    if (String(cell) === String(this.cursor)) return
    this.cursor = cell
    this.mark()
  }

  choose(cell) {
    if (!cell || !this.words(cell).length) return
    this.chosen = cell
    this.mark()
    this.chose(...cell)
  }

  typed(event) {
    if (!this.box || event.ctrlKey || event.metaKey || event.altKey) return
    const step = STEPS[event.key]
    if (step) this.walk(step, event.shiftKey ? 10 : 1)
    else if (event.key === "Enter" || event.key === " ") this.choose(this.cursor)
    else if (event.key === "Escape") {
      this.chosen = null
      this.point(null)
      this.mark()
      this.letGo()
    } else return
    event.preventDefault()
    event.stopPropagation()
  }

  walk([down, right], far) {
    const { shape: [rows, columns], y } = this.message
    const clamp = (v, most) => Math.max(0, Math.min(most - 1, v))
    const from = this.cursor ?? this.chosen
    const first = [y.up ? rows - 1 : 0, 0]
    this.point(from ? [clamp(from[0] + (y.up ? -down : down) * far, rows), clamp(from[1] + right * far, columns)] : first)
  }

  // marks over the picture -----------------------------------------------------------------------

  mark() {
    if (!this.box) return
    const pen = this.fresh(this.over)
    const { map, cursor, chosen } = this
    map.dataset.cursor = cursor ? cursor.join() : ""
    map.dataset.chosen = chosen ? chosen.join() : ""
    this.markColumn(pen)
    if (chosen) this.ring(pen, chosen, 2.5)
    if (cursor) this.guides(pen, cursor)
    if (cursor) this.ring(pen, cursor, 1.25)
    this.writeTip()
  }

  /** The column that the page has named, from the first row to the last. */
  markColumn(pen) {
    const { box, message: { lit, x, y } } = this
    const column = lit ? x.names.findIndex((name) => String(name) === lit) : -1
    this.map.dataset.lit = column < 0 ? "" : column
    if (column < 0) return
    const [left, , w] = this.place(0, column)
    this.outline(pen, [left, box.top, w, y.names.length * this.ch], 1.5)
  }

  /** A light line on a dark one, seen on every colour. */
  ring(pen, [row, column], width) {
    this.outline(pen, this.place(row, column), width)
  }

  outline(pen, [x, y, w, h], width) {
    const [wide, high] = [Math.max(w, 6), Math.max(h, 6)]
    const frame = [x + (w - wide) / 2, y + (h - high) / 2, wide, high]
    pen.lineJoin = "round"
    for (const [line, style] of [[width + 2.5, "rgb(0 0 0 / 0.7)"], [width, "#fff"]]) {
      pen.lineWidth = line
      pen.strokeStyle = style
      pen.strokeRect(...frame)
    }
  }

  /** From a small cell to the names of its row and column. */
  guides(pen, [row, column]) {
    if (this.cw > 30 && this.ch > 30) return
    const { box } = this
    const [x, y, w, h] = this.place(row, column)
    const [middle, level] = [x + w / 2, y + h / 2]
    for (const [line, style] of [[2.5, "rgb(0 0 0 / 0.35)"], [1, "rgb(255 255 255 / 0.85)"]]) {
      pen.lineWidth = line
      pen.strokeStyle = style
      pen.beginPath()
      pen.moveTo(box.left, level)
      pen.lineTo(x, level)
      pen.moveTo(middle, this.message.x.top ? box.top : y + h)
      pen.lineTo(middle, this.message.x.top ? y : box.bottom)
      pen.stroke()
    }
  }

  writeTip() {
    const { cursor, tip, box } = this
    const lines = cursor ? this.words(cursor) : []
    tip.hidden = !lines.length
    if (!lines.length) return
    if (lines.join("\n") !== tip.innerText)
      tip.replaceChildren(...lines.map((line) => Object.assign(document.createElement("div"), { textContent: line })))
    const [x, y, w, h] = this.place(...cursor)
    const { offsetWidth: wide, offsetHeight: high } = tip
    const beside = x + w + 8 + wide <= box.width ? x + w + 8 : x - 8 - wide
    const fits = beside >= 0 // else above or beneath the cell
    const left = fits ? beside : Math.max(0, Math.min(box.width - wide, x + w / 2 - wide / 2))
    const top = fits ? Math.min(y, Math.max(0, box.height - high)) : y - high - 8 >= 0 ? y - high - 8 : y + h + 8
    tip.style.transform = `translate(${left}px, ${top}px)`
  }
}
