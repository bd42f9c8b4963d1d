// A chart as it is read: crosshair, tooltip, zoom and keys, all kept while new data arrive; and the x that is chosen.

const TOUCHED = 7 // pixels: nearer than this counts as "at"
const HELD = 500 // ms: a finger that stays longer reads
const TWICE = 300 // ms: a second click that comes sooner makes it a double click

export default function ({ data, parentElement, setTriggerValue }) {
  const chart = tenant(parentElement, Chart)
  chart.go = (point) => setTriggerValue("moment", point)
  chart.tell(unpack(data))
  return () => {
    chart.close()
    parentElement.tenant = null
  }
}

class Chart extends ChartPicture {
  constructor(parent) {
    super(parent)
    this.cursor = null // x of the crosshair
    this.pointer = null // px of the mouse or finger while it is over the plot, and how far down
    this.down = null
    this.drag = null // [px from, px to] while a stretch is being marked
    this.press = null // {x, y, at} while a button or finger is down and has not moved
    const { canvas } = this
    canvas.onpointermove = (e) => this.moved(e)
    canvas.onpointerdown = (e) => this.pressed(e)
    canvas.onpointerup = canvas.onpointercancel = (e) => this.released(e)
    canvas.onpointerleave = () => this.left()
    canvas.onblur = () => this.left()
    canvas.ondblclick = this.reset.onclick = () => {
      clearTimeout(this.soon)
      this.zoom(null)
    }
    canvas.onkeydown = (e) => this.typed(e)
    canvas.addEventListener("wheel", (e) => this.wheeled(e), { passive: false })
  }

  close() {
    clearTimeout(this.soon)
    super.close()
  }

  // pointing -----------------------------------------------------------------------------------

  moved(event) {
    if (!this.plot) return
    this.pointTo(event)
    const { press } = this
    if (press && Math.hypot(event.offsetX - press.x, event.offsetY - press.y) >= TOUCHED) this.press = null
    if (this.drag) this.drag[1] = event.offsetX
    this.paint()
  }

  pointTo({ offsetX, offsetY }) { [this.pointer, this.down] = [offsetX, offsetY] }

  pressed(event) {
    if (!this.plot) return
    clearTimeout(this.soon)
    this.pointTo(event)
    this.press = event.button === 0 ? { x: event.offsetX, y: event.offsetY, at: event.timeStamp } : null
    if (event.pointerType === "mouse" && event.button === 0) {
      this.drag = [event.offsetX, event.offsetX]
      this.canvas.setPointerCapture(event.pointerId)
    }
    this.paint()
  }

  released(event) {
    const { drag, press } = this
    this.drag = this.press = null
    if (drag && Math.abs(drag[1] - drag[0]) >= TOUCHED && event.type === "pointerup") {
      const { x } = this.plot.axes
      this.zoom([x.at(Math.min(...drag)), x.at(Math.max(...drag))])
    } else if (press && event.type === "pointerup" && event.timeStamp - press.at < HELD) this.choose()
    this.paint()
  }

  left() {
    if (this.drag) return
    this.pointer = this.down = this.cursor = null
    this.paint()
  }

  wheeled(event) {
    const focused = this.canvas.getRootNode().activeElement === this.canvas
    if (!this.plot || !(event.ctrlKey || focused)) return // else the page scrolls
    event.preventDefault()
    const { x } = this.plot.axes
    const at = x.at(event.offsetX)
    const factor = Math.exp(event.deltaY / 400)
    const along = (event.deltaX / 600) * (x.high - x.low)
    this.zoom([at - (at - x.low) * factor + along, at + (x.high - at) * factor + along])
  }

  typed(event) {
    if (!this.plot) return
    const far = event.shiftKey ? 10 : 1
    const act = {
      ArrowRight: () => this.walk(far),
      ArrowLeft: () => this.walk(-far),
      Home: () => this.walk(-Infinity),
      End: () => this.walk(Infinity),
      "+": () => this.zoomAround(0.7),
      "-": () => this.zoomAround(1 / 0.7),
      0: () => this.zoom(null),
      Enter: this.message.goes && (() => this.choose()),
      Escape: () => (this.window ? this.zoom(null) : this.left()),
    }[event.key]
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return
    event.preventDefault()
    event.stopPropagation()
    act()
  }

  /** Go to the moment of the point that the crosshair is on, once. */
  choose() {
    clearTimeout(this.soon)
    const found = this.message.goes && this.message.series.length ? this.found() : null
    const to = found && (this.meant(found.points) ?? { x: found.x })
    if (found) this.soon = setTimeout(() => this.go(to), TWICE)
  }

  /** Move the crosshair by a number of points. */
  walk(by) {
    const { x } = this.plot.axes
    const stops = [...new Set(this.shown.flatMap((s) => [...s.x]))].sort((a, b) => a - b).filter((v) => v >= x.low && v <= x.high)
    if (!stops.length) return
    const here = this.cursor === null ? (by > 0 ? -1 : stops.length) : lastAtOrBelow(stops, this.cursor)
    this.pointer = this.down = null
    this.cursor = stops[Math.max(0, Math.min(stops.length - 1, here + by))]
    this.paint()
  }

  zoomAround(factor) {
    const { x } = this.plot.axes
    const at = this.cursor ?? (x.low + x.high) / 2
    this.zoom([at - (at - x.low) * factor, at + (x.high - at) * factor])
  }

  /** Show this stretch of x, kept inside what there is; `null` shows all. */
  zoom(wanted) {
    const [low, high] = this.whole()
    this.window = null
    if (wanted) {
      const width = Math.max((high - low) / 5000, wanted[1] - wanted[0])
      const from = Math.max(low, Math.min(wanted[0], high - width))
      if (width < (high - low) * 0.999) this.window = [from, from + width]
    }
    this.paint()
  }

  // the crosshair ------------------------------------------------------------------------------

  /** Draw what is pointed at: the marked stretch, or the crosshair with its values. */
  point() {
    const found = this.plot && this.message.series.length && !this.drag ? this.found() : null
    if (this.drag) this.paintStretch()
    if (!found) {
      this.tip.hidden = true
      this.told = ""
      return
    }
    const { box, axes } = this.plot
    const pen = this.canvas.getContext("2d")
    const at = Math.round(axes.x.px(found.x)) + 0.5
    pen.strokeStyle = this.colours.text
    pen.globalAlpha = 0.35
    pen.lineWidth = 1
    pen.beginPath()
    pen.moveTo(at, box.top)
    pen.lineTo(at, box.bottom)
    pen.stroke()
    pen.globalAlpha = 1
    for (const { series, i } of found.points) {
      const py = (axes[series.axis] || axes.y).px(series.y[i])
      pen.fillStyle = this.colours.background
      pen.strokeStyle = this.colour(series.colour)
      pen.lineWidth = 2
      pen.beginPath()
      pen.arc(series.step ? at : axes.x.px(series.x[i]), py, 4, 0, 7)
      pen.fill()
      pen.stroke()
    }
    this.writeTip(found)
  }

  paintStretch() {
    const { box } = this.plot
    const pen = this.canvas.getContext("2d")
    const [from, to] = this.drag.map((px) => Math.max(box.left, Math.min(box.right, px))).sort((a, b) => a - b)
    pen.fillStyle = this.colours.accent
    pen.globalAlpha = 0.16
    pen.fillRect(from, box.top, to - from, box.bottom - box.top)
    pen.globalAlpha = 1
  }

  /** The x pointed at, snapped to the nearest point, and the point of each line there. */
  found() {
    const { box, axes } = this.plot
    if (this.pointer !== null) {
      if (this.pointer < box.left - TOUCHED || this.pointer > box.right + TOUCHED) return null
      this.cursor = this.snapped(axes.x.at(this.pointer))
    }
    const x = this.cursor
    if (x === null || x < axes.x.low || x > axes.x.high) return null
    const tolerance = axes.x.at(axes.x.px(x) + TOUCHED) - x
    const points = this.shown
      .map((series) => ({ series, i: this.nearest(series, pointAt(series, x, tolerance)) }))
      .filter(({ series, i }) => i >= 0 && Number.isFinite(series.y[i]))
    const shapes = this.message.shapes.filter((s) => s.label && s.kind !== "level" && x >= s.at - (s.kind === "band" ? 0 : tolerance) && x <= s.to + (s.kind === "band" ? 0 : tolerance))
    return points.length || shapes.length ? { x, points, shapes } : null
  }

  /** Of dots above each other, the one nearest to the pointer. */
  nearest(series, i) {
    if (i < 0 || series.line || this.down === null) return i
    let first = i, last = i
    while (series.x[first - 1] === series.x[i]) first--
    while (series.x[last + 1] === series.x[i]) last++
    for (let k = first; k <= last; k++) if (this.off(series, k) < this.off(series, i)) i = k
    return i
  }

  off(series, i) { return Math.abs((this.plot.axes[series.axis] || this.plot.axes.y).px(series.y[i]) - this.down) }

  /** The dot that a click means, {x, y}: the nearest; with keys, the only one there is. */
  meant(points) {
    const dots = points.filter(({ series }) => !series.line)
    if (this.down === null && dots.length !== 1) return null
    const [dot] = dots.sort((a, b) => this.off(a.series, a.i) - this.off(b.series, b.i))
    return dot ? { x: dot.series.x[dot.i], y: dot.series.y[dot.i] } : null
  }

  snapped(x) {
    let best = null
    const { low, high, px } = this.plot.axes.x
    const apart = (v) => Math.abs(px(v) - px(x))
    for (const s of this.shown) {
      const before = lastAtOrBelow(s.x, x)
      for (const i of [before, before + 1]) {
        const v = s.x[i]
        if (v >= low && v <= high && (best === null || apart(v) < apart(best))) best = v
      }
    }
    return best
  }

  writeTip({ x, points, shapes }) {
    const make = (tag, name, text) => Object.assign(document.createElement(tag), { className: name, textContent: text })
    const rows = points.map(({ series, i }) => {
      const row = make("div", "row", "")
      const dot = make("i", "", "")
      dot.style.background = this.colour(series.colour)
      const custom = series.custom.map((column) => column[i])
      const own = { x: series.x[i], y: series.y[i], custom }
      const [value, ...more] = filled(series.hover, own).split("<br>")
      if (!series.step && own.x !== x) more.push(filled(this.message.axes.x.hover, own)) // it has none at this x
      row.append(dot, make("span", "", series.name), make("b", "", plain(value)))
      for (const line of more) row.append(make("span", "more", plain(line)))
      return row
    })
    const named = [...new Set(shapes.map((s) => s.label))].map((label) => make("div", "shape", label))
    const head = make("div", "at", filled(this.message.axes.x.hover, { x, y: x, custom: [] }))
    const hints = this.message.goes ? [make("div", "hint", `Click or Enter: ${this.message.goes}`)] : []
    this.tip.hidden = false
    const lines = [head, ...rows, ...named, ...hints]
    const told = lines.map((e) => e.textContent).join("|")
    if (told !== this.told) this.tip.replaceChildren(...lines)
    this.told = told
    const { box, axes } = this.plot
    const at = axes.x.px(x)
    const width = this.tip.offsetWidth
    const beside = at + 14 + width <= box.width ? at + 14 : at - 14 - width
    this.tip.style.transform = `translate(${Math.max(0, Math.min(beside, box.width - width))}px, ${box.top}px)`
  }
}
