// A chart as it looks: legend, scales, layers. Knows what is hidden and zoomed, not how the reader did that.

class ChartPicture extends Painted {
  constructor(parent) {
    super(parent, ["chart", "legend", "stage", "tip", "empty", "reset", "note"])
    this.canvas = parent.querySelector("canvas")
    this.hidden = new Set() // names of lines switched off
    this.window = null // [low, high] in x when zoomed
  }

  /** What the reader points at; the picture alone shows none of it. */
  point() {}

  tell(message) {
    this.message = message
    this.chart.style.minHeight = `${message.height}px` // a long legend takes more, and not the plot's
    this.stage.style.minHeight = `${Math.round(0.6 * message.height)}px`
    this.chart.classList.toggle("goes", Boolean(message.goes))
    this.stage.dataset.goes = message.goes
    this.canvas.setAttribute("aria-label", message.alt)
    this.empty.hidden = !message.empty
    this.empty.textContent = message.empty
    this.note.hidden = !message.note
    this.note.textContent = message.note
    if (this.window && !message.series.length) this.window = null
    this.writeLegend()
    this.paint()
  }

  get shown() {
    return this.message.series.filter((s) => s.x.length && !this.hidden.has(s.of || s.name))
  }

  /** Those with a name in the legend: a line `of` dots has none of its own. */
  get named() {
    return this.message.series.filter((s) => !s.of)
  }

  /** Whether a line sums up these dots. */
  summed({ name }) {
    return this.message.series.some((s) => s.of === name)
  }

  /** The picture as it is seen now, with its title and the names of its lines. */
  sheet() {
    this.paintNow()
    const seen = this.shown.filter((s) => !s.of)
    const legend = seen.map((s) => ({ name: s.name, paint: (pen, x, y) => paintSign(pen, s, x, y, this.colour(s.colour), this.summed(s)) }))
    return sheetOf({ ...this.message, canvas: this.canvas, colours: this.colours, legend })
  }

  colour(pair) {
    return pair[this.colours.dark ? 1 : 0]
  }

  /** A line's colour: pale while another one is lit. */
  tone({ name, of, colour }) {
    const { lit } = this.message
    return this.colour(colour) + (lit && lit !== (of || name) ? "40" : "")
  }

  // legend -------------------------------------------------------------------------------------

  writeLegend() {
    this.colours = pageColours(this.canvas)
    const wanted = this.named.map((s) => s.name + this.colour(s.colour) + this.summed(s)).join("|")
    if (wanted === this.legendOf) return
    this.legendOf = wanted
    this.legend.replaceChildren(...this.named.map((s) => this.legendButton(s)))
  }

  legendButton(series) {
    const button = document.createElement("button")
    button.type = "button"
    const colour = this.colour(series.colour)
    const dash = (DASHES[series.dash] || []).map((d) => d * 0.6).join(" ")
    const sign = series.bar
      ? `<rect x="5" width="8" height="10" fill="${colour}"/>`
      : series.line
      ? `<rect width="18" height="10" rx="3" fill="${colour}" opacity="${series.fill ? 0.25 : 0}"/>` +
        `<path d="M1 5H17" stroke="${colour}" stroke-width="${Math.min(3, series.width + 0.5)}" stroke-dasharray="${dash}" stroke-linecap="round"/>`
      : series.marker.startsWith("triangle")
        ? `<path d="M9 0L14.5 9.5H3.5Z" fill="${colour}"/>`
        : series.marker === "square" ? `<rect x="5" y="1" width="8" height="8" fill="${colour}"/>`
        : series.marker === "diamond" ? `<path d="M9 0L14 5L9 10L4 5Z" fill="${colour}"/>`
        : `<circle cx="9" cy="5" r="4" fill="${colour}"/>`
    const through = this.summed(series) ? `<path d="M0 5H18" stroke="${colour}" stroke-width="2" stroke-dasharray="3 3"/>` : ""
    button.innerHTML = `<svg width="18" height="10" aria-hidden="true">${through}${sign}</svg>` // colours of ours only
    button.append(series.name)
    button.setAttribute("aria-pressed", String(!this.hidden.has(series.name)))
    button.onclick = () => {
      if (!this.hidden.delete(series.name)) this.hidden.add(series.name)
      button.setAttribute("aria-pressed", String(!this.hidden.has(series.name)))
      this.paint()
    }
    return button
  }

  // scales -------------------------------------------------------------------------------------

  measure() {
    const { axes } = this.message
    const box = { width: this.canvas.clientWidth, height: this.canvas.clientHeight }
    Object.assign(box, { top: 20, bottom: box.height - 42 })
    const rows = Math.max(2, Math.min(10, Math.round((box.bottom - box.top) / 44)))
    const [low, high] = this.window || this.whole()
    const x = { low, high }
    const labelled = this.message.shapes.some((s) => s.label && s.kind !== "level" && !s.low)
    const room = labelled ? 1 - 18 / Math.max(60, box.bottom - box.top) : 1
    const { y, y2 } = this.closest([rows, rows + 1, rows - 1].filter((n) => n >= 2), x, room, axes)
    const pen = this.canvas.getContext("2d")
    pen.font = `12px ${this.colours.font}`
    const widest = (s) => Math.max(...ticksOf(s).map((v) => pen.measureText(tickText(s, v)).width))
    box.left = widest(y) + 10
    box.right = box.width - (y2 ? widest(y2) + 10 : 12)
    x.log = axes.x.log && low > 0
    const columns = Math.max(2, Math.floor((box.right - box.left) / 76))
    x.step = roundUp((high - low) / columns, axes.x.whole)
    x.ticks = []
    if (x.log) x.ticks = logSteps(low, high, columns).ticks.filter((v) => v >= low * (1 - 1e-9) && v <= high * (1 + 1e-9))
    else for (let v = Math.ceil(low / x.step - 1e-9) * x.step; v <= high + x.step * 1e-9; v += x.step) x.ticks.push(v)
    for (const s of [x, y, y2]) if (s) Object.assign(s, shares(s))
    x.px = (v) => box.left + x.share(v) * (box.right - box.left)
    x.at = (px) => x.value((px - box.left) / (box.right - box.left))
    for (const s of [y, y2]) if (s) s.px = (v) => box.bottom - s.share(v) * (box.bottom - box.top)
    return { box, axes: { x, y, y2 } }
  }

  /** All of x that there is to see. */
  whole() {
    let low = this.message.axes.x.zero ? 0 : Infinity
    let high = -Infinity
    for (const s of this.message.series) {
      if (!s.x.length) continue
      low = Math.min(low, s.x[0] - s.bar / 2)
      high = Math.max(high, s.x[s.x.length - 1] + s.bar / 2)
    }
    for (const s of this.message.shapes) {
      if (s.kind !== "band") continue
      low = Math.min(low, s.at)
      high = Math.max(high, s.to)
    }
    if (!(high >= low)) return [0, 1]
    return high > low ? [low, high] : [low - 0.5, high + 0.5]
  }

  /** The scales of both y axes, with that number of steps which leaves the least of them empty. */
  closest(numbers, x, room, axes) {
    let best = null
    for (const n of numbers) {
      const y = this.measureY("y", x, n, room, axes.y)
      const y2 = axes.y2 && this.measureY("y2", x, n, room, axes.y2)
      const size = (y.high - y.low) * (y2 ? y2.high - y2.low : 1)
      if (!best || size < best.size * (1 - 1e-9)) best = { y, y2, size }
    }
    return best
  }

  measureY(name, x, rows, room, axis) {
    const zero = axis.zero && !axis.log
    let low = zero ? 0 : Infinity
    let high = zero ? 0 : -Infinity
    for (const s of this.shown) {
      if (s.axis !== name) continue
      const first = Math.max(0, lastAtOrBelow(s.x, x.low))
      const last = Math.min(s.x.length - 1, lastAtOrBelow(s.x, x.high) + 1)
      for (const values of [s.y, ...s.spread]) {
        for (let i = first; i <= last; i++) {
          if (axis.log && !(values[i] > 0)) continue // has no place there
          if (values[i] < low) low = values[i]
          if (values[i] > high) high = values[i]
        }
      }
    }
    for (const s of this.message.shapes) {
      if (s.kind !== "level" || s.axis !== name) continue
      high = Math.max(high, s.at * 1.04)
      low = Math.min(low, s.at)
    }
    if (!(high >= low)) return steps(0, 1, rows)
    if (axis.log) return logSteps(low, high, rows)
    if (high === low) high = low + (Math.abs(low) || 1)
    const top = low + (high - low) / room
    const upwards = zero && low < 0 && !this.message.axes.y2 ? steps(0, top, rows, axis.whole) : null
    if (upwards && -low < upwards.step / 2) return { ...upwards, low: 1.5 * low, ticks: ticksOf(upwards) } // a little below 0
    return steps(low, top, rows, axis.whole)
  }

  // painting -----------------------------------------------------------------------------------

  paintNow() {
    const { canvas, message } = this
    if (!message || !this.stage.clientWidth || !this.stage.clientHeight) return
    this.colours = pageColours(canvas)
    const pen = this.fresh(canvas)
    this.reset.hidden = !this.window
    canvas.dataset.window = this.window ? this.window.map((v) => +v.toFixed(3)).join(",") : ""
    if (!message.series.length) return this.point()
    this.plot = this.measure()
    const { box, axes } = this.plot
    canvas.dataset.y = `${+axes.y.low.toFixed(3)},${+axes.y.high.toFixed(3)}`
    const titles = Object.fromEntries(Object.entries(message.axes).map(([name, axis]) => [name, axis.title]))
    paintGrid(pen, box, axes, this.colours)
    paintTitles(pen, box, axes, titles, this.colours)
    pen.save()
    pen.beginPath()
    pen.rect(box.left - 5, box.top - 6, box.right - box.left + 10, box.bottom - box.top + 7)
    pen.clip()
    for (const s of message.shapes) if (s.kind !== "label") paintShape(pen, s, box, axes, this.colour(s.colour))
    const scale = (s) => axes[s.axis] || axes.y
    for (const [at, s] of this.shown.entries())
      if (s.fill) paintFill(pen, s, axes.x, scale(s), this.tone(s), s.fill === "below" && this.shown[at - 1])
    for (const s of this.shown) if (s.bar) paintBars(pen, s, axes.x, scale(s), this.tone(s))
    for (const s of this.shown) if (s.spread.length) paintSpread(pen, s, axes.x, scale(s), this.tone(s))
    for (const s of this.shown) if (s.marker && !s.line) paintDots(pen, s, axes.x, scale(s), this.tone(s))
    for (const s of this.shown) if (s.line) paintLine(pen, s, axes.x, scale(s), this.tone(s))
    for (const s of this.shown) if (s.marker && s.line) paintDots(pen, s, axes.x, scale(s), this.tone(s))
    paintLabels(pen, message.shapes, box, axes, this.colours, 2)
    pen.restore()
    this.point()
  }
}
