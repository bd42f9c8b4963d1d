// Strokes of a chart: given a pen (2D context), scales and colours, puts one thing on the canvas. Keeps no state.

const DASHES = { solid: [], dash: [7, 5], dot: [1.5, 4], dashdot: [7, 4, 1.5, 4], longdash: [12, 6] }

function paintGrid(pen, box, axes, colours) {
  pen.font = `12px ${colours.font}`
  pen.lineWidth = 1
  const { x, y, y2 } = axes
  ticksOf(y).forEach((value, i) => {
    const at = Math.round(y.px(value)) + 0.5
    pen.globalAlpha = i === 0 ? 1 : 0.6
    pen.strokeStyle = colours.line
    pen.beginPath()
    pen.moveTo(box.left, at)
    pen.lineTo(box.right, at)
    pen.stroke()
    pen.globalAlpha = 0.72
    pen.fillStyle = colours.text
    pen.textBaseline = "middle"
    pen.textAlign = "right"
    pen.fillText(tickText(y, value), box.left - 8, at)
    pen.textAlign = "left"
    if (y2) pen.fillText(tickText(y2, y2.low + i * y2.step), box.right + 8, at)
  })
  pen.textAlign = "center"
  pen.textBaseline = "top"
  for (const value of x.ticks) {
    const text = written(value, decimalsOf(x.step))
    const half = pen.measureText(text).width / 2
    pen.fillText(text, Math.min(Math.max(x.px(value), half), box.width - half), box.bottom + 7)
  }
  pen.globalAlpha = 1
}

function paintTitles(pen, box, axes, titles, colours) {
  pen.font = `11px ${colours.font}`
  pen.fillStyle = colours.text
  pen.globalAlpha = 0.6
  pen.textBaseline = "alphabetic"
  pen.textAlign = "left"
  pen.fillText(titles.y, 0, 10)
  pen.textAlign = "right"
  if (axes.y2) pen.fillText(titles.y2, box.width, 10)
  pen.fillText(titles.x, box.right, box.bottom + 36)
  pen.globalAlpha = 1
}

/** Trace the points of a series that are near the window; `down` closes the path on the zero line. */
function tracePath(pen, series, x, y, down) {
  const first = Math.max(0, lastAtOrBelow(series.x, x.low) - 1)
  const last = Math.min(series.x.length - 1, lastAtOrBelow(series.x, x.high) + 2)
  const zero = y.px(Math.max(0, y.low))
  let start = NaN
  let end = NaN
  pen.beginPath()
  for (let i = first; i <= last; i++) {
    const px = x.px(series.x[i])
    if (!Number.isFinite(series.y[i])) {
      if (down && end === end) pen.lineTo(end, zero)
      start = end = NaN
      continue
    }
    const py = y.px(series.y[i])
    if (start !== start) {
      start = px
      pen.moveTo(px, down ? zero : py)
      if (down) pen.lineTo(px, py)
    } else {
      if (series.step) pen.lineTo(px, y.px(series.y[i - 1]))
      pen.lineTo(px, py)
    }
    end = px
  }
  if (down && end === end) pen.lineTo(end, zero)
}

/** Shade what lies between a series and the zero line, or the series `below` it, which has the same x. */
function paintFill(pen, series, x, y, colour, below) {
  if (below) traceBetween(pen, series, below, x, y)
  else tracePath(pen, series, x, y, true)
  pen.globalAlpha = below ? 0.32 : 0.18
  pen.fillStyle = colour
  pen.fill()
  pen.globalAlpha = 1
}

/** Shade what lies between the edges of a series' spread. */
function paintSpread(pen, { x: at, spread: [low, high] }, x, y, colour) {
  traceBetween(pen, { x: at, y: high }, { x: at, y: low }, x, y)
  pen.globalAlpha = 0.16
  pen.fillStyle = colour
  pen.fill()
  pen.globalAlpha = 1
}

function traceBetween(pen, series, below, x, y) {
  const first = Math.max(0, lastAtOrBelow(series.x, x.low) - 1)
  const last = Math.min(series.x.length - 1, lastAtOrBelow(series.x, x.high) + 2)
  pen.beginPath()
  const to = (at, value) => pen.lineTo(x.px(at), y.px(value))
  for (let i = first; i <= last; i++) {
    if (series.step && i > first) to(series.x[i], series.y[i - 1])
    to(series.x[i], series.y[i])
  }
  for (let i = last; i >= first; i--) {
    to(below.x[i], below.y[i])
    if (series.step && i > first) to(below.x[i], below.y[i - 1])
  }
}

function paintLine(pen, series, x, y, colour) {
  tracePath(pen, series, x, y, false)
  pen.strokeStyle = colour
  pen.lineWidth = series.width
  pen.lineJoin = pen.lineCap = "round"
  pen.setLineDash(DASHES[series.dash] || [])
  pen.globalAlpha = series.opacity
  pen.stroke()
  pen.setLineDash([])
  pen.globalAlpha = 1
}

function paintDots(pen, series, x, y, colour) {
  pen.fillStyle = colour
  pen.globalAlpha = series.opacity
  for (let i = 0; i < series.x.length; i++) {
    if (series.x[i] >= x.low && series.x[i] <= x.high && Number.isFinite(series.y[i]))
      paintDot(pen, series, x.px(series.x[i]), y.px(series.y[i]))
  }
  pen.globalAlpha = 1
}

function paintDot(pen, series, px, py) {
  const r = series.size / 2
  pen.beginPath()
  if (series.marker.startsWith("triangle")) {
    pen.moveTo(px, py - 1.2 * r)
    pen.lineTo(px + 1.1 * r, py + 0.8 * r)
    pen.lineTo(px - 1.1 * r, py + 0.8 * r)
  } else if (series.marker === "square") pen.rect(px - r, py - r, 2 * r, 2 * r)
  else if (series.marker === "diamond") {
    for (const [dx, dy] of [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]]) pen.lineTo(px + dx * r, py + dy * r)
  } else pen.arc(px, py, r, 0, 7)
  pen.fill()
}

/** Bars from the zero line, a series' width wide. */
function paintBars(pen, series, x, y, colour) {
  pen.fillStyle = colour
  pen.globalAlpha = series.opacity
  const zero = y.px(Math.max(0, y.low))
  for (let i = 0; i < series.x.length; i++) {
    if (!Number.isFinite(series.y[i])) continue
    const [left, right] = [-0.5, 0.5].map((half) => x.px(series.x[i] + half * series.bar))
    const top = y.px(series.y[i])
    pen.fillRect(left, Math.min(top, zero), Math.max(1, right - left), Math.abs(zero - top))
  }
  pen.globalAlpha = 1
}

/** What stands before a series' name: a piece of its line, one of its dots (a dash through it if a line sums them up), or a bar. */
function paintSign(pen, series, x, y, colour, summed = false) {
  pen.strokeStyle = pen.fillStyle = colour
  if (series.bar) return pen.fillRect(x + 5, y - 6, 8, 12)
  if (!series.line) paintDot(pen, { ...series, size: 8 }, x + 9, y)
  if (!series.line && !summed) return
  pen.lineWidth = series.line ? Math.min(3, series.width + 0.5) : 2
  pen.setLineDash(series.line ? (DASHES[series.dash] || []).map((d) => d * 0.6) : [3, 3])
  pen.beginPath()
  pen.moveTo(x + 1, y)
  pen.lineTo(x + 17, y)
  pen.stroke()
  pen.setLineDash([])
}

/** The parts of bands, moments and levels that lie behind the lines. */
function paintShape(pen, shape, box, axes, colour) {
  if (shape.kind === "band") {
    pen.globalAlpha = shape.opacity
    pen.fillStyle = colour
    const from = Math.max(box.left, axes.x.px(shape.at))
    pen.fillRect(from, box.top, Math.max(1, Math.min(box.right, axes.x.px(shape.to)) - from), box.bottom - box.top)
  } else if (shape.kind !== "label") {
    const upright = shape.kind === "moment"
    const at = upright ? axes.x.px(shape.at) : (axes[shape.axis] || axes.y).px(shape.at)
    pen.globalAlpha = 0.8
    pen.strokeStyle = colour
    pen.lineWidth = 1.5
    pen.setLineDash(DASHES[shape.dash] || [])
    pen.beginPath()
    pen.moveTo(upright ? at : box.left, upright ? box.top : at)
    pen.lineTo(upright ? at : box.right, upright ? box.bottom : at)
    pen.stroke()
    pen.setLineDash([])
  }
  pen.globalAlpha = 1
}

/** The names of shapes, at the top, or low, each in a row where it has room; returns how many did not fit. */
function paintLabels(pen, shapes, box, axes, colours, rows) {
  pen.font = `11px ${colours.font}`
  pen.textAlign = "left"
  pen.textBaseline = "top"
  pen.lineWidth = 3
  pen.lineJoin = "round"
  const [above, below] = [new Array(rows).fill(box.left), new Array(rows).fill(box.left)]
  let left = 0
  for (const shape of shapes) {
    if (!shape.label) continue
    const width = pen.measureText(shape.label).width
    const level = shape.kind === "level"
    if (!level && (shape.to < axes.x.low || shape.at > axes.x.high)) continue
    let at = level ? box.left + 6 : Math.max(box.left, axes.x.px(shape.at)) + 5
    at = Math.min(at, box.right - width - 2)
    const ends = shape.low ? below : above
    const row = level ? 0 : ends.findIndex((end) => end <= at)
    if (row < 0) {
      left++
      continue
    }
    if (!level) ends[row] = at + width + 8
    const inside = shape.low ? box.bottom - 15 - 14 * row : box.top + 3 + 14 * row
    const top = level ? (axes[shape.axis] || axes.y).px(shape.at) - 14 : inside
    pen.strokeStyle = colours.background
    pen.globalAlpha = 0.85
    pen.strokeText(shape.label, at, top)
    pen.fillStyle = colours.text
    pen.globalAlpha = 0.8
    pen.fillText(shape.label, at, top)
  }
  pen.globalAlpha = 1
  return left
}
