// What the canvases of a page share: its colours now, and a canvas as a sheet of its own. Knows no data.

/** The colours of the page now: its theme may change at any time. */
function pageColours(element) {
  const style = getComputedStyle(element)
  const read = (name) => style.getPropertyValue(`--st-${name}`).trim()
  const probe = document.createElement("canvas").getContext("2d")
  probe.fillStyle = read("background-color") || "#fff"
  const hex = probe.fillStyle // any CSS colour comes back as #rrggbb
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16))
  return {
    dark: 0.299 * r + 0.587 * g + 0.114 * b < 128,
    background: read("background-color") || "#fff",
    text: read("text-color") || "#222",
    line: read("border-color") || "#ddd",
    accent: read("primary-color") || "#55f",
    font: read("font") || "sans-serif",
  }
}

/** What lives in a place of the page. Streamlit may give the place to another kind, with elements of its own. */
function tenant(place, Kind) {
  const now = place.tenant
  if (now instanceof Kind && now.stage.isConnected) return now
  now?.close()
  return (place.tenant = new Kind(place))
}

/** The text, cut with an ellipsis where it is wider than `width` or where more was left out (`cut`). */
function ellipsised(pen, text, width, cut = false) {
  if (!cut && pen.measureText(text).width <= width) return text
  const letters = [...text]
  while (letters.length && pen.measureText(`${letters.join("")}…`).width > width) letters.pop()
  return `${letters.join("").trimEnd()}…`
}

/** Lines of words no wider than `width`, at most so many; an ellipsis says that there was more. */
function wrapped(pen, text, width, most) {
  const lines = []
  let now = ""
  for (const word of text.split(" ")) {
    const longer = now ? `${now} ${word}` : word
    if (now && pen.measureText(longer).width > width) {
      lines.push(now)
      now = word
    } else now = longer
  }
  lines.push(now)
  return lines.slice(0, most).map((line, i) => ellipsised(pen, line, width, i === most - 1 && lines.length > most))
}

/** Answer the row beneath a picture (export.js) when it asks for the picture called `name()` as a PNG. */
function answerAsked(name, sheet) {
  const asked = ({ detail }) => {
    if (detail.of && detail.of === name()) sheet().toBlob(detail.take)
  }
  document.addEventListener("sleepviz-png", asked)
  return () => document.removeEventListener("sleepviz-png", asked)
}

/** A picture on the page: painted again when its room, its fonts or its data change, and handed over as a sheet of its own. */
class Painted {
  constructor(parent, names) { // `names`: of its elements, "stage" among them, by which it has its size
    for (const name of names) this[name] = parent.querySelector(`.${name}`)
    this.resized = new ResizeObserver(() => this.paint())
    this.resized.observe(this.stage)
    document.fonts?.ready.then(() => this.paint())
    this.deaf = answerAsked(() => this.message?.key, () => this.sheet())
  }

  close() {
    this.deaf()
    this.resized.disconnect()
    cancelAnimationFrame(this.frame)
  }

  paint() {
    cancelAnimationFrame(this.frame)
    this.frame = requestAnimationFrame(() => this.paintNow())
  }

  /** The pen of a canvas that fills the stage, cleared, at the resolution of the screen. */
  fresh(canvas) {
    const { clientWidth, clientHeight } = this.stage, ratio = this.ratio = devicePixelRatio || 1
    const [width, height] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)]
    if (canvas.width !== width) canvas.width = width
    if (canvas.height !== height) canvas.height = height
    const pen = canvas.getContext("2d")
    pen.setTransform(ratio, 0, 0, ratio, 0, 0)
    pen.clearRect(0, 0, clientWidth, clientHeight)
    return pen
  }
}

/** Several canvases of one size, each drawn upon those before it. */
function layered(first, ...others) {
  const all = Object.assign(document.createElement("canvas"), { width: first.width, height: first.height })
  const pen = all.getContext("2d")
  for (const canvas of [first, ...others]) pen.drawImage(canvas, 0, 0)
  return all
}

const EDGE = 16

/** A new canvas: title, legend ([{name, paint(pen, x, y)}], 24 px for each sign), picture, note. `size`: of a picture that is on no page; `most`: lines of the note. */
function sheetOf({ canvas, size = canvas, title, legend = [], note, most = 3, colours }) {
  const { clientWidth: wide, clientHeight: high } = size
  const ratio = canvas.width / wide
  const sheet = document.createElement("canvas")
  const pen = sheet.getContext("2d")
  const face = (px, weight = 400) => { pen.font = `${weight} ${px}px ${colours.font}` }
  face(12)
  let [x, row] = [0, legend.length ? 1 : 0]
  const places = legend.map(({ name }) => {
    const width = 24 + pen.measureText(name).width + 14
    if (x && x + width > wide) [x, row] = [0, row + 1]
    x += width
    return [x - width, row - 1]
  })
  const notes = note ? wrapped(pen, note, wide, most) : []
  const top = EDGE + 28 + 20 * row
  sheet.width = Math.round((wide + 2 * EDGE) * ratio)
  sheet.height = Math.round((top + high + 16 * notes.length + EDGE) * ratio)
  pen.scale(ratio, ratio)
  pen.fillStyle = colours.background
  pen.fillRect(0, 0, sheet.width, sheet.height)
  pen.textBaseline = "middle"
  pen.fillStyle = colours.text
  face(15, 600)
  pen.fillText(ellipsised(pen, title, wide), EDGE, EDGE + 9)
  face(12)
  legend.forEach(({ name, paint }, i) => {
    const [at, y] = [EDGE + places[i][0], EDGE + 36 + 20 * places[i][1]]
    paint(pen, at, y)
    pen.fillStyle = colours.text
    pen.fillText(name, at + 24, y)
  })
  pen.globalAlpha = 0.7
  notes.forEach((line, i) => pen.fillText(line, EDGE, top + high + 10 + 16 * i))
  pen.globalAlpha = 1
  pen.drawImage(canvas, EDGE, top, wide, high)
  return sheet
}
