// Lying bars, each made of parts and on a scale of its own; a part can be pointed at and chosen.

const BAR = 30 // pixels high, with its title above and its scale beneath
const ROOM = { title: 22, scale: 24 }

export default function ({ data, parentElement, setTriggerValue }) {
  const bars = tenant(parentElement, Bars)
  bars.chose = (part) => setTriggerValue("part", { part })
  bars.tell(unpack(data))
  return () => {
    bars.close()
    parentElement.tenant = null
  }
}

class Bars extends Painted {
  constructor(parent) {
    super(parent, ["bars", "legend", "stage", "tip"])
    this.canvas = parent.querySelector("canvas")
    const { canvas } = this
    canvas.onpointermove = (e) => this.point(this.under(e), e)
    canvas.onpointerleave = () => this.point(null)
    canvas.onclick = (e) => {
      const part = this.under(e)
      if (part) this.chose(part.number)
    }
  }

  tell(message) {
    this.message = message
    this.bars.style.height = `${message.height}px`
    this.canvas.setAttribute("aria-label", message.alt)
    const { pointed } = this
    this.writeLegend()
    if (!pointed) return this.paint()
    this.paintNow() // what is pointed at has to have its place again
    this.pointed = undefined // so that its words are written anew
    this.point(message.parts.find((part) => part.name === pointed.name && part.row === pointed.row) || null)
  }

  colour(part) {
    return part.colour[this.colours.dark ? 1 : 0]
  }

  get named() {
    return this.message.parts.filter((part) => part.named)
  }

  writeLegend() {
    this.colours = pageColours(this.canvas)
    const { lit } = this.message
    const told = JSON.stringify([lit, this.colours.dark, ...this.named.map((part) => [part.name, part.number])])
    if (told === this.legendTold) { // the same buttons: they keep their focus
      this.named.forEach((part, i) => { this.legend.children[i].title = part.hover.join(" · ") })
      return
    }
    this.legendTold = told
    const focused = this.legend.contains(this.canvas.getRootNode().activeElement) && this.canvas.getRootNode().activeElement.dataset.name
    this.legend.replaceChildren(...this.named.map((part, i) => {
      const button = document.createElement("button")
      const sign = document.createElement("i")
      sign.style.background = this.colour(part)
      button.type = "button"
      button.title = part.hover.join(" · ")
      button.append(sign, part.name)
      button.setAttribute("aria-pressed", String(part.name === this.message.lit))
      button.onclick = () => this.chose(part.number)
      button.dataset.name = part.name
      button.onfocus = () => { // what it says, for those without a pointer
        this.byFocus = button.matches(":focus-visible")
        if (this.byFocus) this.point(this.named[i] ?? null)
      }
      button.onblur = () => { if (this.byFocus) this.point(null) }
      return button
    }))
    if (focused) [...this.legend.children].find((button) => button.dataset.name === focused)?.focus()
  }

  // places -------------------------------------------------------------------------------------

  /** Where everything is: of each bar its scale and top, of each part its stretch. */
  measure(pen) {
    const { message, canvas } = this
    const wide = canvas.clientWidth - 2
    const each = canvas.clientHeight / Math.max(1, message.rows.length)
    pen.font = `12px ${this.colours.font}`
    this.rows = message.rows.map((row, i) => {
      const parts = message.parts.filter((part) => part.row === i)
      const whole = parts.reduce((sum, part) => sum + part.amount, 0)
      const most = Math.max(2, Math.min(8, Math.floor(wide / 70)))
      const scales = Array.from({ length: most - 1 }, (_, i) => steps(0, whole || 1, i + 2))
      const scale = scales.reduce((best, s) => (s.high <= best.high ? s : best)) // the tightest
      const last = pen.measureText(written(scale.high, decimalsOf(scale.step))).width / 2
      const px = (v) => 1 + (v / scale.high) * (wide - last)
      const top = i * each + Math.max(ROOM.title, (each - BAR) / 2)
      let at = 0
      for (const part of parts) {
        part.box = [px(at), top, px(at + part.amount) - px(at), BAR]
        at += part.amount
      }
      return { ...row, scale, px, top, parts }
    })
  }

  under({ offsetX, offsetY }) {
    const near = (part) => {
      const [x, y, w, h] = part.box
      const slack = Math.max(0, 3 - w / 2) // a part of one pixel can be met, too
      return offsetX >= x - slack && offsetX <= x + w + slack && offsetY >= y - 4 && offsetY <= y + h + 4
    }
    const all = (this.rows || []).flatMap((row) => row.parts)
    return all.filter(near).sort((a, b) => a.box[2] - b.box[2])[0] || null
  }

  point(part) {
    if (part === this.pointed) return
    this.pointed = part
    this.canvas.dataset.pointed = part ? part.name : ""
    this.tip.hidden = !part
    if (part?.box) {
      this.tip.replaceChildren(...part.hover.map((line) => Object.assign(document.createElement("div"), { textContent: line })))
      const [x, y, w, h] = part.box
      const left = Math.max(0, Math.min(this.canvas.clientWidth - this.tip.offsetWidth, x + w / 2 - this.tip.offsetWidth / 2))
      const above = y - this.tip.offsetHeight - 6
      this.tip.style.transform = `translate(${left}px, ${above >= 0 ? above : y + h + 6}px)`
    }
    this.paint()
  }

  // painting -----------------------------------------------------------------------------------

  paintNow() {
    const { canvas, message } = this
    if (!message || !this.stage.clientWidth || !this.stage.clientHeight) return
    this.colours = pageColours(canvas)
    const pen = this.fresh(canvas)
    this.measure(pen)
    for (const row of this.rows) {
      this.paintScale(pen, row)
      for (const part of row.parts) this.paintPart(pen, part)
    }
  }

  paintScale(pen, { title, scale, px, top }) {
    const { text, line, font } = this.colours
    pen.fillStyle = text
    pen.strokeStyle = line
    pen.globalAlpha = 0.6
    pen.textAlign = "left"
    pen.textBaseline = "bottom"
    pen.font = `11px ${font}`
    this.linesOf(pen, title).reverse().forEach((line, i) => pen.fillText(line, 0, top - 6 - 13 * i))
    pen.font = `12px ${font}`
    pen.textBaseline = "top"
    for (let i = 0; i <= scale.n; i++) {
      const value = scale.low + i * scale.step
      const x = Math.round(px(value)) + 0.5
      pen.globalAlpha = 0.6
      pen.beginPath()
      pen.moveTo(x, top)
      pen.lineTo(x, top + BAR + 4)
      pen.stroke()
      pen.globalAlpha = 0.72
      pen.textAlign = i ? "center" : "left"
      pen.fillText(written(value, decimalsOf(scale.step)), x, top + BAR + 8)
    }
    pen.globalAlpha = 1
  }

  /** A title in as many lines as there is room for, broken where it has a comma or a semicolon. */
  linesOf(pen, title) {
    const wide = this.canvas.clientWidth
    const most = Math.max(1, Math.floor((this.rows[0].top - 6) / 13))
    const lines = [""]
    for (const piece of title.split(/(?<=[,;] )/)) {
      const last = lines.length - 1
      if (lines[last] && pen.measureText(lines[last] + piece).width > wide && lines.length < most) lines.push(piece)
      else lines[last] += piece
    }
    return lines.map((line) => ellipsised(pen, line.trimEnd(), wide))
  }

  paintPart(pen, part) {
    const [x, y, w, h] = part.box
    const { lit } = this.message
    pen.globalAlpha = lit && part.name !== lit ? 0.3 : 1
    pen.fillStyle = this.colour(part)
    pen.fillRect(x, y, Math.max(w, part.amount ? 1.5 : 0), h)
    if (part.dotted) this.paintDots(pen, part)
    if (part === this.pointed) {
      pen.globalAlpha = 1
      pen.strokeStyle = this.colours.text
      pen.lineWidth = 1.5
      pen.strokeRect(x, y, Math.max(w, 2), h)
    }
    pen.globalAlpha = 1
  }

  /** What is no measurement is dotted, as its kind says. */
  paintDots(pen, { box: [x, y, w, h] }) {
    pen.fillStyle = this.colours.background
    for (let dx = 4; dx < w - 1; dx += 7)
      for (let dy = 4; dy < h; dy += 7) pen.fillRect(x + dx, y + dy, 1.6, 1.6)
  }

  /** The picture with its title and the names of its parts. */
  sheet() {
    this.paintNow()
    const legend = this.named.map((part) => ({
      name: part.name,
      paint: (pen, x, y) => {
        pen.fillStyle = this.colour(part)
        pen.fillRect(x, y - 6, 14, 12)
      },
    }))
    return sheetOf({ ...this.message, canvas: this.canvas, colours: this.colours, legend })
  }
}
