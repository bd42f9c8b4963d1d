// Lets people walk about in an attention tile: hover, click, wheel, drag, pinch, keys. Joined to the end of
// attention_tile.js; it knows what a gesture means, not how a cell is drawn. Texts go through textContent only.
const TILES = new WeakMap()
const HINT = "Scroll to zoom, drag to move, double-click for all. Arrow keys walk, Shift-click or Shift-Enter pins a cell."
const TOUCH = "Pinch or press + to zoom, drag to move, tap a cell; hold it to pin it."
const HELD = 500 // ms: a finger that stays longer pins
const NOTHING = "Nothing has been read yet, so there is nothing to look back at."
const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }

class Tile extends Marked {
  constructor(parent) {
    super()
    for (const name of ["tile", "title", "notes", "stage", "map", "over", "tools", "tip", "foot"])
      this[name] = parent.querySelector(`.${name}`)
    this.list = parent.querySelector(".pins")
    this.ranks = false // coloured by rank within the row instead of by share
    this.view = { z: 1, x: 0, y: 0 }
    this.hover = this.selected = null // {q, k}; k is -1 on the strip of the slots
    this.pointers = new Map(); this.off = document.createElement("canvas")
    const notes = () => [...this.notes.children].map(note => note.textContent).join(" · ")
    const sheet = () => sheetOf({ canvas: layered(this.map, this.over), size: this.map, title: this.title.textContent, note: [notes(), ...this.pinned()].join(" · "), most: 3 + 2 * this.pins.length, colours: pageColours(this.tile) })
    this.unasked = answerAsked(() => this.d?.key, sheet)
    this.resizes = new ResizeObserver(() => this.draw())
    for (const part of [this.stage, this.title, this.notes]) this.resizes.observe(part)
    document.fonts?.addEventListener("loadingdone", this.lettered = () => this.draw()) // a font has come
    this.listen()
  }

  load(data) {
    super.load(data)
    this.tellPins()
    if (!this.hover) return
    if (this.hover.q < this.grid.m) this.tip.textContent = this.describe(this.hover)
    else this.point(null)
  }

  close() {
    this.resizes.disconnect(); this.unasked()
    document.fonts?.removeEventListener("loadingdone", this.lettered)
    clearTimeout(this.soon); clearTimeout(this.asking)
    removeEventListener("scroll", this.disarm, true)
  }

  listen() {
    const { map } = this
    this.disarm = () => { this.armed = false }
    addEventListener("scroll", this.disarm, { capture: true, passive: true })
    map.addEventListener("wheel", e => this.wheel(e), { passive: false })
    map.ondblclick = () => this.reset()
    map.oncontextmenu = e => { if (e.pointerType && e.pointerType !== "mouse") e.preventDefault() } // a finger that stays
    map.onpointerdown = e => this.down(e)
    map.onpointermove = e => this.move(e)
    map.onpointerup = e => this.up(e)
    map.onpointercancel = e => { this.pointers.delete(e.pointerId); this.drag = null }
    map.onpointerleave = () => { if (!this.drag) this.point(null); this.armed = false }
    map.onkeydown = e => this.keyed(e)
    map.onfocus = () => this.mark()
    map.onblur = () => this.point(null)
    for (const button of this.tools.children) button.onclick = () => {
      if (button.dataset.do === "reset") this.reset()
      else if (button.dataset.do === "rank") {
        this.ranks = !this.ranks
        button.setAttribute("aria-pressed", this.map.dataset.ranks = String(this.ranks))
        this.draw()
      } else this.zoom(button.dataset.do === "in" ? 1.6 : 1 / 1.6)
    }
  }

  // where and what -----------------------------------------------------------------------------------

  cellAt(x, y) { // the cell under a pixel; where many share it, the strongest, which is the one that is seen
    const { d, grid, box } = this
    if (!d?.m || y < box.y || y > box.y + box.h) return null
    const q = clamp(Math.floor((y - this.y(0)) / this.ch), 0, grid.m - 1)
    if (grid.slots && x >= box.left && x < box.left + box.strip) return { q, k: -1 }
    if (x < box.x || x > box.x + box.w) return null
    const cell = { q, k: clamp(Math.floor((x - this.x(0)) / this.cw), 0, grid.m - 1) }
    const reach = size => size < 1 ? Math.ceil(0.5 / size) : 0, rx = reach(this.cw), ry = reach(this.ch)
    let best = cell.k <= cell.q && cell.k >= grid.reach(cell.q) ? this.raw(cell.q, cell.k) : -1
    for (let i = Math.max(0, q - ry); i <= Math.min(grid.m - 1, q + ry); i++)
      for (let k = Math.max(0, grid.reach(i), cell.k - rx); k <= Math.min(i, cell.k + rx); k++)
        if (this.raw(i, k) > best) { best = this.raw(i, k); Object.assign(cell, { q: i, k }) }
    return cell
  }

  named(cell) { // position and token, or the range of a pooled cell
    const { d, grid } = this, first = cell * grid.pool, last = Math.min(d.n, first + grid.pool) - 1
    const place = i => Array.isArray(d.positions) ? d.positions[i] : d.positions + i
    if (first === last) return `${place(first)} ${quoted(d.texts[first])}`
    return `${place(first)}–${place(last)} ${quoted(d.texts[first]).slice(0, -1)} … ${quoted(d.texts[last]).slice(1)}`
  }

  describe({ q, k }) {
    const { d } = this, { pool } = this.grid, [query, key] = pool > 1 ? ["queries", "keys"] : ["query", "key"]
    if (k > q) return `${query} ${this.named(q)} cannot read ${key} ${this.named(k)}: later in the text`
    if (k >= 0 && k < this.grid.reach(q)) return `${query} ${this.named(q)} cannot read ${key} ${this.named(k)}: out of this layer's window of ${d.reach} tokens`
    if (k === 0 && d.hideSink && pool === 1) return `${key} ${this.named(0)} is left out here: it got ${(d.sink * 100).toFixed(1)} % on average`
    const share = (this.raw(q, k) / FULL) ** 2 * (k < 0 ? d.slotTop : d.top), most = pool > 1 ? "at most " : ""
    const to = k < 0 ? "slots of the dynamic weights" : `${key} ${this.named(k)}`
    const of = pool > 1 ? `of what one read; pooled ${pool}×${pool}, maximum` : "of what it read"
    const rank = this.ranks && k >= 0 ? `, ${this.rankOf(q, k)}` : ""
    return `${query} ${this.named(q)} → ${to}: ${most}${small(share, 3, 0.001)} (${small(share * 100, 1, 0.1)} % ${of}, MEASURED)${rank}`
  }

  notesLine() { // what a reader must know of the picture, and the words under it
    const { d } = this, percent = `${(d.sink * 100).toFixed(1)} %`, notes = []
    const first = d.hasSlots ? "first token" : "sink" // with slots in force, what was the sink may be among them
    const about = `${d.sinkKind}: the first token gets ${percent} of the attention, averaged over all queries${d.reach ? " that can read it" : ""}`
    const slots = `${(d.slotShare * 100).toFixed(1)} %`, aboutSlots = `${d.sinkKind}: the slots of dynamic weights get ${slots} of the attention, averaged over all queries`
    if (this.grid.pool < d.pool) notes.push(["every token", `the whole tile is pooled ${d.pool}×${d.pool}; what is zoomed into is not`, ""])
    else if (d.pool > 1) notes.push([`pooled ${d.pool}×${d.pool}, maximum`, `one cell stands for ${d.pool}×${d.pool} links and shows the strongest`, "amber"])
    if (d.m && d.hideSink) notes.push([`${first} hidden: ${percent}, not rescaled`, about, "amber"])
    else if (d.m) notes.push([`${first} ${percent}`, about, ""])
    if (d.hasSlots) notes.push(d.hideSink ? [`slots hidden: ${slots}, not rescaled`, aboutSlots, "amber"] : [`slots ${slots}${this.ranks ? ", no rank" : ""}`, aboutSlots, ""])
    if (d.reach && d.reach < d.n) notes.push([`window of ${d.reach} tokens`, "this layer slides: what is further back is absent", ""])
    if (this.crowded) notes.push(["strongest of each pixel", "several cells share a pixel; the strongest is shown", ""])
    const said = JSON.stringify(notes)
    if (this.noted !== said) {
      this.noted = said
      this.notes.replaceChildren(...notes.map(([words, title, name]) => {
        const span = document.createElement("span")
        Object.assign(span, { textContent: words, title, className: name })
        return span
      }))
    }
    const foot = this.selected ? `Selected: ${this.describe(this.selected)}` : d.m ? this.hint() : NOTHING
    if (this.foot.textContent !== foot) this.foot.textContent = this.foot.title = foot
    this.joined = this.headWidth() + this.px * 10 + this.barWidth() < this.W
    this.tile.classList.toggle("joined", this.joined)
  }

  headWidth() { return this.title.offsetWidth + this.notes.offsetWidth + 12 }

  hint() { return matchMedia("(pointer: coarse)").matches || this.stage.clientWidth < 480 ? TOUCH : HINT }

  // marks over the picture -----------------------------------------------------------------------------

  mark() {
    const g = this.context(this.over), { box, hover, selected, map } = this
    const said = cell => cell ? `${cell.q},${cell.k}` : ""
    Object.assign(map.dataset, { hover: said(hover), selected: said(selected), chosen: this.d.selected ?? "" })
    this.clipped(g, () => {
      this.markPins(g)
      if (hover && hover.k >= 0) this.cross(g, hover)
      if (selected && selected.k >= 0) this.ring(g, selected)
    })
    this.chosen(g)
    if (map.matches(":focus-visible")) {
      g.strokeStyle = this.accent; g.lineWidth = 2
      g.strokeRect(box.x - 1, box.y - 1, box.w + 2, box.h + 2)
    }
    if (hover && hover.k < 0) { g.strokeStyle = this.ink; g.lineWidth = 1; g.strokeRect(box.left - 1, this.y(hover.q) - 1, box.strip + 2, this.ch + 2) }
  }

  point(cell, x = 0, y = 0) { // shows the words for a cell near a pixel; null takes them away
    this.hover = cell; this.mark()
    this.tip.hidden = !cell
    if (!cell) return
    this.tip.textContent = this.describe(cell)
    const { offsetWidth: w, offsetHeight: h } = this.tip
    const top = y + 18 + h > this.H ? Math.max(0, y - h - 12) : y + 18
    this.tip.style.transform = `translate(${clamp(x + 14, 0, Math.max(0, this.W - w))}px, ${top}px)`
  }

  // what a gesture does --------------------------------------------------------------------------------

  zoom(factor, x = this.box.x + this.box.w / 2, y = this.box.y + this.box.h / 2) {
    const { box, view, d } = this, most = Math.max(4, d.m * d.pool * 48 / Math.min(box.w, box.h))
    const fx = clamp((x - box.x) / box.w, 0, 1), fy = clamp((y - box.y) / box.h, 0, 1)
    const z = clamp(view.z * factor, 1, most)
    this.look(z, view.x + fx / view.z - fx / z, view.y + fy / view.z - fy / z)
  }

  look(z, x, y) {
    const room = 1 - 1 / z
    this.view = { z, x: clamp(x, 0, room), y: clamp(y, 0, room) }
    clearTimeout(this.asking)
    this.asking = setTimeout(() => this.ask(), 250)
    if (this.frame) return
    this.frame = requestAnimationFrame(() => { this.frame = 0; this.draw() })
  }

  ask() { // for every token of what is zoomed into, where the tile is pooled and a window can hold it
    const { d, view } = this, across = d.m * d.pool, middle = start => clamp(Math.round((start + 0.5 / view.z) * across), 0, d.n - 1)
    this.choose()
    if (view.z === 1 && d.detail) return this.enlarge(null) // none is needed any more
    if (this.grid.pool > 1 && across / view.z <= d.side - 2) this.enlarge({ query: middle(view.y), key: middle(view.x) })
  }

  reset() { this.look(1, 0, 0) }

  wheel(e) { // a page that is being scrolled past stays scrollable: the pointer must have moved here first
    if (!this.d?.m || !(this.armed || e.ctrlKey) || (this.view.z === 1 && e.deltaY > 0)) return
    e.preventDefault()
    const lines = e.deltaMode === 1 ? 18 : 1
    this.zoom(Math.exp(-clamp(e.deltaY * lines, -240, 240) / 260), e.offsetX, e.offsetY)
  }

  down(e) {
    this.map.setPointerCapture(e.pointerId)
    this.pointers.set(e.pointerId, e)
    this.drag = { x: e.offsetX, y: e.offsetY, at: e.timeStamp, view: this.view, moved: this.pointers.size > 1 }
    if (this.pointers.size === 2) this.spread = this.apart()
  }

  apart() {
    const [a, b] = [...this.pointers.values()]
    return Math.hypot(a.offsetX - b.offsetX, a.offsetY - b.offsetY) || 1
  }

  move(e) {
    if (e.screenX !== this.lastX || e.screenY !== this.lastY) this.armed = true
    this.lastX = e.screenX; this.lastY = e.screenY
    if (!this.pointers.has(e.pointerId)) return this.point(this.cellAt(e.offsetX, e.offsetY), e.offsetX, e.offsetY)
    this.pointers.set(e.pointerId, e)
    if (this.pointers.size === 2) {
      const [a, b] = [...this.pointers.values()], apart = this.apart()
      this.zoom(apart / this.spread, (a.offsetX + b.offsetX) / 2, (a.offsetY + b.offsetY) / 2)
      this.spread = apart
      return
    }
    const { drag, box } = this, dx = e.offsetX - drag.x, dy = e.offsetY - drag.y, { z } = drag.view
    if (Math.hypot(dx, dy) > (e.pointerType === "mouse" ? 4 : 9)) drag.moved = true
    if (!drag.moved || z === 1 || this.pointers.size > 1) return
    this.map.classList.add("dragging")
    this.point(null)
    this.look(z, drag.view.x - dx / box.w / z, drag.view.y - dy / box.h / z)
  }

  up(e) {
    const { drag } = this
    this.pointers.delete(e.pointerId)
    this.map.classList.remove("dragging")
    this.drag = null
    if (this.pointers.size) { // one finger is left on the tile: it goes on from here, and is no click
      const [rest] = this.pointers.values()
      this.drag = { x: rest.offsetX, y: rest.offsetY, view: this.view, moved: true }
      return
    }
    const cell = drag && !drag.moved ? this.cellAt(e.offsetX, e.offsetY) : null
    if (e.pointerType !== "mouse" && cell) this.point(cell, e.offsetX, e.offsetY)
    if (!cell || cell.k > cell.q || (cell.k >= 0 && cell.k < this.grid.reach(cell.q))) return
    const held = e.pointerType !== "mouse" && e.timeStamp - drag.at >= HELD
    if ((e.shiftKey || held) && cell.k >= 0) this.pin(cell)
    else this.select(cell, 0)
  }

  select(cell, wait) { // while the arrow keys walk, only the cell where they rest is told
    this.selected = cell
    this.mark()
    this.notesLine()
    clearTimeout(this.soon)
    const { pool } = this.grid // of this cell: by then the tile may show another grid
    const read = cell && (cell.k < 0 || cell.k >= this.grid.reach(cell.q)) // else there is nothing to tell of it
    if (read) this.soon = setTimeout(() => this.tell({ query: cell.q, key: cell.k, pool }), wait)
  }

  keyed(e) {
    const { d } = this, arrow = ARROWS[e.key]
    if (!d?.m || e.ctrlKey || e.metaKey || e.altKey) return
    if (arrow) this.walk(arrow, e.shiftKey ? 10 : 1)
    else if (e.key === "+" || e.key === "=") this.zoom(1.4, ...this.focus())
    else if (e.key === "-" || e.key === "_") this.zoom(1 / 1.4, ...this.focus())
    else if (e.key === "0") this.reset()
    else if (e.key === "Enter" && this.selected) e.shiftKey && this.selected.k >= 0 ? this.pin(this.selected) : this.select(this.selected, 0)
    else if (e.key === "Escape") { this.point(null); this.select(null); this.tell({ query: null }) }
    else return
    e.preventDefault()
    e.stopPropagation()
  }

  focus() { const { selected: s } = this; return s ? [this.x(s.k + 0.5), this.y(s.q + 0.5)] : [] }

  walk([down, right], by) {
    const { m, across } = this.grid, from = this.selected ?? { q: m - 1 - down, k: m - 1 - right }
    const q = clamp(from.q + down * by, 0, m - 1), k = clamp(from.k + right * by, this.grid.slots ? -1 : 0, q) // -1: the slots
    const { z, x, y } = this.view, margin = 1.5 / across, seen = 1 / z
    const into = (start, at) => clamp(start, at + margin - seen, at - margin)
    if (z > 1) this.look(z, into(x, (k + 0.5) / across), into(y, (q + 0.5) / across))
    this.selected = { q, k }
    this.choose() // outside of a window with every token, the pooled grid has it
    this.select(this.selected, 300)
    this.point(this.selected, ...this.focus())
  }
}

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  let tile = TILES.get(parentElement)
  if (!tile?.map.isConnected) { tile?.close(); tile = new Tile(parentElement); TILES.set(parentElement, tile) }
  tile.tell = cell => setTriggerValue("cell", cell)
  tile.enlarge = middle => setStateValue("window", middle)
  tile.load(data)
  return () => { tile.close(); TILES.delete(parentElement) }
}
