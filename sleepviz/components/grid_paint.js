// A small heatmap as it looks: cells, names, colour bar. Knows pixels; grid.js (joined to its end) knows the reader.

const LINE = 13 // pixels from one line of names to the next
const BAR = 44 // height of the colour bar with its title and numbers

/** Text of plotly as plain lines: its line breaks and the marks that it escapes. */
const linesOf = (text) =>
  String(text).split(/<br ?\/?>/).map((line) => line.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&"))

/** 256 colours of a scale as [r, g, b]: cividis as this look has it, or stops of [place, colour]. */
function coloursOf(scale, pen, look) {
  if (scale === "cividis") return Array.from(CIVIDIS[look], (c) => [c & 255, (c >> 8) & 255, (c >> 16) & 255])
  const stops = scale.map(([place, colour]) => {
    pen.fillStyle = colour
    return [place, [1, 3, 5].map((i) => parseInt(pen.fillStyle.slice(i, i + 2), 16))]
  })
  return Array.from({ length: 256 }, (_, i) => {
    const after = stops.findIndex(([place]) => place >= i / 255)
    const [[from, a], [to, b]] = [stops[Math.max(0, after - 1)], stops[after < 0 ? stops.length - 1 : after]]
    const f = to > from ? (i / 255 - from) / (to - from) : 0
    return [0, 1, 2].map((c) => Math.round(a[c] * (1 - f) + b[c] * f))
  })
}

/** A name in its own lines where they fit, else broken anew. */
function broken(pen, axis, i, width, most) {
  const given = axis.lines[i]
  const fits = given.length <= most && given.every((line) => pen.measureText(line).width <= width)
  return fits ? given : wrapped(pen, axis.words[i], width, most)
}

class GridPicture extends Painted {
  constructor(parent) {
    super(parent, ["grid", "stage", "map", "over", "tip", "note"])
  }

  /** What the reader points at; the picture alone shows none of it. */
  mark() {}

  tell(message) {
    this.message = message
    message.z = message.columns[message.z]
    message.custom = message.custom.map((c) => (typeof c === "number" ? message.columns[c] : c))
    for (const axis of [message.x, message.y]) {
      const { names } = axis
      axis.counted = names.every((v) => typeof v === "number")
      axis.whole = axis.counted && names.every((v, i) => Number.isInteger(v) && v === names[0] + i)
      axis.raw = names.map((v) => (typeof v === "number" ? formatted(v) : v.replace(/<br ?\/?>/g, " ")))
      axis.words = axis.raw.map((v) => linesOf(v)[0])
      axis.lines = names.map((v, i) => (typeof v === "number" ? [axis.words[i]] : linesOf(v)))
    }
    this.grid.style.height = `${message.height}px`
    this.map.setAttribute("aria-label", message.alt)
    this.note.hidden = !message.note
    this.note.textContent = message.note
    this.paint()
  }

  sheet() {
    this.paintNow()
    return sheetOf({ ...this.message, canvas: this.over ? layered(this.map, this.over) : this.map, size: this.map, colours: this.colours })
  }

  paintNow() {
    if (!this.message || !this.stage.clientWidth) return
    this.colours = pageColours(this.grid)
    const pen = this.fresh(this.map)
    const look = this.colours.dark ? "dark" : "light", scaleOf = look + JSON.stringify(this.message.scale)
    if (this.scaleOf !== scaleOf) {
      this.scaleOf = scaleOf
      this.table = coloursOf(this.message.scale, pen, look)
    }
    this.layout(pen)
    this.paintFrame(pen)
    this.paintCells(pen)
    this.paintNames(pen)
    if (this.message.bar) this.paintBar(pen)
    this.mark()
  }

  write(pen, size, align, baseline, alpha) {
    pen.font = `${size}px ${this.colours.font}`
    pen.fillStyle = this.colours.text
    pen.textAlign = align
    pen.textBaseline = baseline
    pen.globalAlpha = alpha
  }

  // where things stand ---------------------------------------------------------------------------

  layout(pen) {
    const { shape: [rows, columns], x, y, bar } = this.message
    const { clientWidth: width, clientHeight: height } = this.stage
    pen.font = `${y.size}px ${this.colours.font}`
    const widest = Math.max(...y.lines.flat().map((t) => pen.measureText(t).width))
    const left = Math.ceil(Math.min(widest, width * 0.4)) + 8
    const box = { width, height, left, right: width - 2 }
    this.cw = (box.right - left) / columns
    pen.font = `${x.size}px ${this.colours.font}`
    this.across = this.picked(x, this.cw, Math.max(...x.words.map((t) => pen.measureText(x.counted ? t : longestWord(t)).width)) + 10)
    const room = this.cw * this.across.every - 6
    const lines = this.across.at.map((i) => [i, x.counted ? [x.words[i]] : broken(pen, x, i, room, 3)])
    this.named = { lines, high: LINE * Math.max(1, ...lines.map(([, some]) => some.length)) + 7 }
    box.top = (bar ? BAR : 0) + (x.top ? this.named.high + (x.title || y.title ? 17 : 0) : bar || !y.title ? 6 : 18)
    box.bottom = height - (x.top ? 2 : this.named.high + (x.title ? 16 : 0))
    this.ch = Math.max(1, (box.bottom - box.top) / rows)
    this.box = box
    this.map.dataset.box = [left, box.top, this.cw, this.ch].map((v) => +v.toFixed(2)).join()
  }

  /** The rows or columns that get their name: as many as do not overlap, at round numbers where they are counted. */
  picked({ names, counted, whole }, size, need) {
    const least = Math.max(1, Math.ceil(Math.min(need, counted ? need : 54) / size))
    const every = least > 1 && counted ? roundUp(least, true) : least
    return { every, at: names.map((_, i) => i).filter((i) => (whole ? names[i] : i) % every === 0) }
  }

  line(row) { // of the screen, from the top
    return this.message.y.up ? this.message.shape[0] - 1 - row : row
  }

  /** Where a cell is, on whole pixels of the screen: [left, top, width, height], without its gap. */
  place(row, column) {
    const snap = (v) => Math.round(v * this.ratio) / this.ratio
    const [x, y] = [this.box.left + column * this.cw, this.box.top + this.line(row) * this.ch]
    return [snap(x), snap(y), snap(x + this.cw) - snap(x), snap(y + this.ch) - snap(y)]
  }

  colourOf(value) {
    const [low, high] = this.message.limits
    return this.table[Math.max(0, Math.min(255, Math.floor(((value - low) / (high - low)) * 256)))]
  }

  // what is painted ------------------------------------------------------------------------------

  paintCells(pen) {
    const { shape: [rows, columns], z, gap, text, font } = this.message
    const [gapX, gapY] = [gap[0] * Math.min(1, this.cw / 8), gap[1] * Math.min(1, this.ch / 8)].map((g) => Math.round(g * this.ratio) / this.ratio)
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++) {
        const i = row * columns + column
        const [x, y, w, h] = this.place(row, column)
        const seen = Number.isFinite(z[i])
        const rgb = seen ? this.colourOf(z[i]) : null
        if (seen) {
          pen.fillStyle = `rgb(${rgb.join(" ")})`
          pen.fillRect(x + gapX / 2, y + gapY / 2, w - gapX, h - gapY)
        }
        if (text?.[i]) this.paintText(pen, linesOf(text[i]), [x, y, w, h], seen ? font.colour || inkOn(rgb) : this.colours.text)
      }
  }

  /** Where nothing is, one still sees how far rows and columns go. */
  paintFrame(pen) {
    if (this.message.text || this.message.z.every(Number.isFinite)) return
    const { left, right, top, bottom } = this.box
    pen.strokeStyle = this.colours.line
    pen.lineWidth = 1
    pen.strokeRect(left - 0.5, top - 0.5, right - left + 1, bottom - top + 1)
  }

  paintText(pen, lines, [x, y, w, h], colour) {
    const { size } = this.message.font
    this.write(pen, size, "center", "middle", 1)
    pen.fillStyle = colour
    const fits = lines.filter((line) => pen.measureText(line).width <= w - 2)
    const shown = fits.slice(0, Math.floor((h - 2) / (size * 1.1)))
    shown.forEach((line, i) => pen.fillText(line, x + w / 2, y + h / 2 + (i - (shown.length - 1) / 2) * size * 1.25))
  }

  paintNames(pen) {
    const { box, message: { x, y, shape: [rows] } } = this
    this.write(pen, x.size, "center", "top", 0.8)
    const top = x.top ? box.top - this.named.high : box.bottom + 6
    for (const [i, lines] of this.named.lines) {
      const start = x.top ? top + LINE * (Math.round((this.named.high - 7) / LINE) - lines.length) : top // next to the cells
      lines.forEach((line, k) => {
        const half = pen.measureText(line).width / 2
        const middle = Math.min(Math.max(box.left + (i + 0.5) * this.cw, half), box.width - half)
        pen.fillText(line, middle, start + LINE * k + 1)
      })
    }
    this.write(pen, y.size, "right", "middle", 0.8)
    const most = Math.max(1, Math.floor(this.ch / LINE))
    for (const i of this.picked(y, this.ch, LINE).at) {
      const lines = broken(pen, y, i, box.left - 7, most)
      const middle = box.top + (this.line(i) + 0.5) * this.ch
      lines.forEach((line, k) => pen.fillText(line, box.left - 8, middle + LINE * (k - (lines.length - 1) / 2) + 0.5))
    }
    this.write(pen, 11, "left", "alphabetic", 0.6)
    const above = x.top ? box.top - this.named.high - 6 : box.top - 7
    pen.fillText(y.title, 0, above)
    pen.textAlign = "right"
    pen.fillText(x.title, box.right, x.top ? above : box.bottom + this.named.high + 10)
    pen.globalAlpha = 1
  }

  paintBar(pen) {
    const { bar, limits: [low, high] } = this.message
    const w = Math.min(240, this.box.width * 0.5)
    const x = this.box.right - w
    this.write(pen, 11, "left", "alphabetic", 0.8)
    const long = pen.measureText(bar.title).width > w
    if (long) pen.textAlign = "right"
    pen.fillText(ellipsised(pen, bar.title, this.box.width), long ? this.box.right : x, 10)
    pen.globalAlpha = 1
    for (let i = 0; i < w * this.ratio; i++) {
      pen.fillStyle = `rgb(${this.table[Math.floor((i / (w * this.ratio)) * 256)].join(" ")})`
      pen.fillRect(x + i / this.ratio, 16, 1 / this.ratio + 0.3, 8)
    }
    this.write(pen, 11, "left", "top", 0.8)
    const taken = []
    for (const [value, words] of this.ticks(w)) {
      const width = pen.measureText(words).width
      const at = Math.max(x, Math.min(x + w - width, x + ((value - low) / (high - low)) * w - width / 2))
      if (taken.some(([from, to]) => at < to + 8 && at + width > from - 8)) continue
      taken.push([at, at + width])
      pen.fillText(words, at, 28)
    }
    pen.globalAlpha = 1
  }

  /** Values of the colour bar with their words: both ends before what lies between. */
  ticks(width) {
    const { bar, limits: [low, high] } = this.message
    if (bar.at) {
      const given = bar.at.map((v, i) => [v, bar.words ? linesOf(bar.words[i] ?? "").join(" ") : formatted(v, bar.format)])
      const inside = given.filter(([v]) => v >= low - 1e-6 * (high - low) && v <= high + 1e-6 * (high - low))
      const ends = bar.words ? [] : [low, high].filter((v) => !bar.at.includes(v)).map((v) => [v, formatted(v, bar.format)])
      return [...ends, inside.at(0), inside.at(-1), ...inside.slice(1, -1)].filter(Boolean)
    }
    const step = roundUp((high - low) / Math.max(2, width / 60), /d$/.test(bar.format))
    const word = (v) => (bar.format ? formatted(v, bar.format) : written(v, decimalsOf(step)))
    const ends = [low, high].map((v) => [v, bar.format ? word(v) : formatted(v, ".3g")])
    const between = []
    for (let v = Math.ceil(low / step) * step; v < high; v += step) between.push([v, word(v)])
    return [...ends, ...between]
  }
}

const longestWord = (text) => text.split(" ").reduce((a, b) => (b.length > a.length ? b : a), "")
const inkOn = ([r, g, b]) => (0.299 * r + 0.587 * g + 0.114 * b < 140 ? "#fff" : "#111")
