// Draws one attention tile: cells, axes, colour bar. Knows pixels; cividis.js (joined before this file) knows colours, attention_tile_data.js the numbers,
// attention_tile_walk.js (joined to its end) pointers and keys, tile_packing.py packs the numbers. Texts of a model only go through fillText here.
class Drawing {
  load(data) {
    const began = performance.now()
    const before = this.d
    this.d = decode(data)
    const { d } = this
    this.tile.style.height = `${d.height}px`
    if (before && before.n > d.n) { this.selected = null; this.grid = d.whole } // of another context
    if (this.selected?.k < 0 && !d.hasSlots) this.selected = null
    if (this.hover?.k < 0 && !d.hasSlots) this.hover = null
    if (before) this.stay(before.m * before.pool / (d.m * d.pool))
    this.choose()
    const { view } = this
    if (before && (before.side < d.side || before.pool < d.pool)) this.look(view.z, view.x, view.y) // a window may be needed
    this.title.textContent = `Layer ${d.layer} · head ${d.head} · ${d.n.toLocaleString("en")} ${d.n === 1 ? "token" : "tokens"}`
    this.map.setAttribute("aria-label", d.label)
    Object.assign(this.map.dataset, { n: d.n, m: d.m, layer: d.layer, head: d.head, pool: d.pool, top: d.top, hideSink: d.hideSink })
    this.draw()
    this.map.dataset.paintMs = (performance.now() - began).toFixed(1)
    requestAnimationFrame(() => { if (this.colours().join() !== this.painted) this.draw() })
  }

  stay(was) { // what is zoomed into stays in view when the tile has grown to 1 / `was` of its size
    const { view } = this, z = Math.max(1, view.z / was)
    if (view.z > 1 && was < 1) this.view = { z, x: Math.min(view.x * was, 1 - 1 / z), y: Math.min(view.y * was, 1 - 1 / z) }
  }

  // Which cells are drawn: the whole tile's, or a window's where it holds all that is seen. Coordinates of cells,
  // everywhere below, are those of this grid: `m` cells a side, on an axis with room for `across` of them.
  choose() {
    const { d, view } = this, before = this.grid, w = d.window
    const seen = (start, from, end) => w && start * w.across >= from && Math.min(d.n, (start + 1 / view.z) * w.across) <= end
    this.grid = seen(view.y, w?.top, w?.end) && seen(view.x, w?.low, w?.high) ? w : d.whole
    if (!before || before.pool === this.grid.pool) return
    this.hover = null
    this.tip.hidden = true
    if (this.selected) this.selected = this.translated(this.selected, before.pool)
  }

  translated({ q, k }, pool) { // a cell of a grid pooled so, in this one: in a coarser cell, its strongest link
    const now = this.grid.pool, from = x => Math.floor(x * pool / now), to = x => Math.ceil((x + 1) * pool / now)
    if (pool <= now || k < 0) return { q: from(q), k: k < 0 ? k : from(k) }
    const { top, end, low, high } = this.grid
    let best = null
    for (let i = Math.max(top, from(q)); i < Math.min(end, to(q)); i++)
      for (let j = Math.max(low, from(k)); j < Math.min(high, to(k), i + 1); j++)
        if (!best || this.raw(i, j) > this.raw(best.q, best.k)) best = { q: i, k: j }
    return best
  }

  raw(q, k) {
    const { slots, top, cells, base } = this.grid
    return (k < 0 ? slots?.[q - top] : cells[base(q) + k]) ?? 0
  }

  get firstRead() { return this.d.hideSink && this.grid.pool === 1 ? 1 : 0 } // without a sink that is hidden

  colours() {
    const style = getComputedStyle(this.tile)
    return ["text", "border", "primary"].map(c => style.getPropertyValue(`--st-${c}-color`).trim())
  }

  measure() {
    const style = getComputedStyle(this.tile)
    this.px = parseFloat(style.fontSize) * 0.92
    this.face = style.fontFamily
    this.code = style.getPropertyValue("--st-code-font") || "monospace"
    this.dpr = devicePixelRatio || 1
    this.W = this.stage.clientWidth
    this.H = this.stage.clientHeight
  }

  layout() {
    const { px, W, H, d, grid, view } = this, strip = grid.slots ? 16 : 0, gap = grid.slots ? 10 : 0, top = px * (grid.slots ? 3.7 : 2.8)
    const box = (left, below) => { // at most twice as wide as high, in the middle
      const h = Math.max(40, H - top - px * (below + 1.6)), room = W - px * (left + 1.6) - strip - gap - 4
      const w = Math.max(40, Math.min(room, 2 * h)), x = W - 4 - w - Math.max(0, (room - w) / 2)
      return { x, y: top, w, h, left: x - strip - gap, strip }
    }
    const longest = most => Math.min(most, d.longest) * 0.62, sideways = longest(9) + 1.2, cell = Math.max(1, grid.across) / view.z
    const roomy = box(longest(11) + 0.8, sideways)
    this.yLabels = grid.pool === 1 && roomy.h / cell >= LABEL_PX
    this.xLabels = grid.pool === 1 && roomy.w / cell >= LABEL_PX
    this.slanted = roomy.w / cell >= px * 1.7
    const below = !this.xLabels ? 1.7 : this.slanted ? sideways * 0.72 + 0.8 : sideways
    this.box = box(this.yLabels ? longest(11) + 0.8 : 3.2, below)
  }

  // of the view as it is now: between two frames it may be further on than what is drawn
  get cw() { return this.box.w * this.view.z / Math.max(1, this.grid.across) }
  get ch() { return this.box.h * this.view.z / Math.max(1, this.grid.across) }

  x(k) { return this.box.x - this.view.x * this.view.z * this.box.w + k * this.cw }
  y(q) { return this.box.y - this.view.y * this.view.z * this.box.h + q * this.ch }

  // For each device pixel along one side: the first and last cell under it; -1 where there is none.
  spans(pixels, origin) {
    const { z } = this.view, { m, across } = this.grid, first = new Int32Array(pixels), last = new Int32Array(pixels)
    const single = across <= pixels * z
    for (let i = 0; i < pixels; i++) {
      const at = p => (origin + p / pixels / z) * across, here = Math.floor(at(single ? i + 0.5 : i))
      if (here >= m) { first[i] = last[i] = -1; continue }
      first[i] = Math.max(0, here)
      last[i] = single ? first[i] : clamp(Math.ceil(at(i + 1)) - 1, first[i], m - 1)
    }
    return { first, last, single }
  }

  // The plot's pixels; a pixel over several cells takes the strongest, one over none stays clear.
  raster() {
    const { d, grid, box, view, dpr } = this, W = Math.round(box.w * dpr), H = Math.round(box.h * dpr)
    const image = new ImageData(W, H), pixels = new Uint32Array(image.data.buffer)
    const xs = this.spans(W, view.x), ys = this.spans(H, view.y), best = new Int32Array(grid.m)
    const { high } = grid, low = Math.max(grid.low, this.firstRead), cells = this.ranks ? ranked(grid, low) : grid.cells, { ramp } = this
    this.crowded = !xs.single || !ys.single
    for (let i = 0; i < H; i++) {
      const from = ys.first[i], to = ys.last[i], row = i * W
      if (i && from === ys.first[i - 1] && to === ys.last[i - 1]) { pixels.copyWithin(row, row - W, row); continue }
      if (from < 0) continue
      best.fill(-1)
      for (let q = from; q <= to; q++)
        for (let k = Math.max(low, grid.reach(q)), base = grid.base(q), end = Math.min(q + 1, high); k < end; k++) if (cells[base + k] > best[k]) best[k] = cells[base + k]
      for (let j = 0; j < W; j++) {
        let v = -1
        for (let k = Math.max(0, xs.first[j]); k <= xs.last[j]; k++) if (best[k] > v) v = best[k]
        if (v >= 0) pixels[row + j] = ramp[v >> 8]
      }
    }
    this.off.width = W
    this.off.height = H
    this.off.getContext("2d").putImageData(image, 0, 0)
  }

  context(canvas) {
    const W = Math.round(this.W * this.dpr), H = Math.round(this.H * this.dpr)
    if (canvas.width !== W) canvas.width = W
    if (canvas.height !== H) canvas.height = H
    const g = canvas.getContext("2d")
    g.setTransform(this.dpr, 0, 0, this.dpr, 0, 0)
    g.clearRect(0, 0, this.W, this.H)
    g.direction = "ltr"
    return g
  }

  draw() {
    if (!this.d || !this.stage.clientWidth) return
    this.measure()
    this.choose()
    this.notesLine()
    this.measure() // the lines above and below may have changed in height
    this.layout()
    const [text, border, primary] = this.colours(), g = this.context(this.map), { box, d } = this
    this.painted = [text, border, primary].join()
    this.ramp = CIVIDIS[pageColours(this.tile).dark ? "dark" : "light"]
    this.ink = text
    this.accent = primary
    this.hatch(g, border)
    if (d.m) {
      this.raster()
      g.drawImage(this.off, box.x, box.y, box.w, box.h)
      this.steps(g)
    }
    this.axes(g, border)
    this.bar(g, border)
    Object.assign(this.tools.style, { right: `${this.W - box.x - box.w + 8}px`, top: `${box.y + 8}px` })
    this.tools.querySelector("[data-do=out]").disabled = this.tools.querySelector("[data-do=reset]").disabled = this.view.z === 1
    this.map.style.touchAction = this.view.z > 1 ? "none" : "pan-y"
    Object.assign(this.map.dataset, {
      zoom: this.view.z.toFixed(3), drawn: this.grid.pool, box: [box.x, box.y, box.w, box.h].map(v => v.toFixed(1)).join(),
    })
    this.tellPins() // what is zoomed into may have moved them
    this.mark()
  }

  clipped(g, what) { // draws inside the plot only
    const { box } = this
    g.save(); g.beginPath(); g.rect(box.x, box.y, box.w, box.h); g.clip(); what(); g.restore()
  }

  hatch(g, border) { // where a query cannot look: later tokens
    const { box } = this
    this.clipped(g, () => {
      g.strokeStyle = border
      g.globalAlpha = 0.65
      g.lineWidth = 1
      g.beginPath()
      for (let x = box.x - box.h; x < box.x + box.w; x += 9) { g.moveTo(x, box.y + box.h); g.lineTo(x + box.h, box.y) }
      g.stroke()
    })
  }

  steps(g) { // the edge between what can be read and what is yet to come
    const { m, across } = this.grid, from = clamp(Math.floor(this.view.y * across), 0, m), to = Math.min(m, from + Math.ceil(across / this.view.z) + 1)
    this.clipped(g, () => {
      g.strokeStyle = this.ink
      g.globalAlpha = 0.45
      g.lineWidth = 1
      g.beginPath()
      g.moveTo(this.x(from), this.y(from))
      for (let q = from; q < to; q++) { g.lineTo(this.x(q + 1), this.y(q)); g.lineTo(this.x(q + 1), this.y(q + 1)) }
      g.stroke()
    })
  }

  place(cell) { // the position of the first token in a cell
    const i = cell * this.grid.pool, p = this.d.positions
    return Array.isArray(p) ? p[i] : p + i
  }

  axes(g, border) {
    const { box, d, px } = this
    g.font = `${px}px ${this.face}`
    g.fillStyle = this.ink
    g.textBaseline = "middle"
    if (this.grid.slots) this.strip(g, border)
    g.strokeStyle = border
    g.strokeRect(box.x + 0.5, box.y + 0.5, box.w - 1, box.h - 1)
    this.ticks(g, true)
    this.ticks(g, false)
    g.font = `${px}px ${this.face}`
    g.globalAlpha = 0.8
    g.textAlign = "center"
    g.fillText("key position (token read from)", box.x + box.w / 2, this.H - px * 0.7)
    g.save(); g.translate(Math.max(px * 0.7, box.left - px * (this.yLabels ? Math.min(11, d.longest) * 0.62 + 1.7 : 4)), box.y + box.h / 2); g.rotate(-Math.PI / 2)
    g.fillText("query position (token reading)", 0, 0); g.restore()
    g.globalAlpha = 1
  }

  // What stands along one side: [text, pixel] for each token where there is room, else for round positions.
  scale(across) {
    const { d, grid, px, view, box } = this, { pool } = grid, size = across ? this.cw : this.ch, start = across ? view.x : view.y
    const at = c => across ? this.x(c) : this.y(c), low = across ? box.x : box.y, high = low + (across ? box.w : box.h)
    const from = Math.floor(start * grid.across), to = Math.min(grid.m - 1, Math.ceil((start + 1 / view.z) * grid.across))
    const least = (across ? px * 4 : px * 2.4) / size, marks = []
    if (across ? this.xLabels : this.yLabels) {
      for (let i = from; i <= to; i++) marks.push([short(d.texts[i], across ? 9 : 11), at(i + 0.5)])
    } else if (Array.isArray(d.positions)) {
      const step = niceStep(least)
      for (let i = Math.ceil(from / step) * step; i <= to; i += step) marks.push([String(this.place(i)), at(i + 0.5)])
    } else {
      const step = niceStep(least * pool), last = Math.min(this.place(to + 1), d.positions + d.n) - 1
      for (let p = Math.ceil(this.place(from) / step) * step; p <= last; p += step)
        marks.push([String(p), at((p - d.positions + 0.5) / pool)])
    }
    return marks.filter(([, middle]) => middle >= low && middle <= high)
  }

  ticks(g, across) {
    const { box, px } = this, labels = across ? this.xLabels : this.yLabels
    g.font = `${px}px ${labels ? this.code : this.face}`
    g.globalAlpha = labels ? 0.95 : 0.8
    for (const [text, middle] of this.scale(across)) {
      g.save()
      g.textAlign = across && !labels ? "center" : "right"
      if (!across) g.fillText(text, box.left - px * 0.5, middle)
      else if (!labels) g.fillText(text, middle, box.y + box.h + px)
      else {
        g.translate(middle + px * 0.2, box.y + box.h + px * 0.6)
        g.rotate(this.slanted ? -Math.PI / 4 : -Math.PI / 2)
        g.fillText(text, 0, 0)
      }
      g.restore()
    }
    g.globalAlpha = 1
  }

  colour(raw) { const c = this.ramp[raw >> 8]; return `rgb(${c & 255} ${c >> 8 & 255} ${c >> 16 & 255})` }

  strip(g, border) { // the share of each query that went to the slots of dynamic weights
    const { box, grid, px, dpr } = this, round = y => Math.round(y * dpr) / dpr
    g.save(); g.beginPath(); g.rect(box.left, box.y, box.strip, box.h); g.clip()
    const { d } = this, onScale = Math.sqrt(d.slotTop / (d.top || 1)), told = !this.ranks && !d.hideSink // else the notes say so
    for (let q = Math.max(0, Math.floor(this.view.y * grid.across)); told && q < grid.end && this.y(q) < box.y + box.h; q++) {
      g.fillStyle = this.colour(Math.min(FULL, grid.slots[q - grid.top] * onScale)); g.fillRect(box.left, round(this.y(q)), box.strip, round(this.y(q + 1)) - round(this.y(q)))
    }
    g.restore()
    g.strokeStyle = border; g.strokeRect(box.left + 0.5, box.y + 0.5, box.strip - 1, box.h - 1)
    g.fillStyle = this.ink; g.textAlign = "center"
    g.fillText("slots", box.left + box.strip / 2, box.y - px * 0.7)
  }

  barWidth() { return Math.min(this.px * 18, this.W * 0.46) }

  bar(g, border) {
    const { d, px, dpr, face } = this, w = this.barWidth(), free = this.W - 4 - w - 16 - (this.joined ? this.headWidth() : 0)
    paintBar(g, { w, x: this.W - 4 - w, px, dpr, face, free, border, ink: this.ink, top: d.top, ranks: this.ranks && this.grid.pool === d.pool ? "what a query read" : this.ranks && "keys around here", colour: raw => this.colour(raw) })
  }
}
