// The session as a line to go back on: lanes of what happened, a cursor, play. Joined behind sheet.js.
// It knows stretches [lane, first, last, second, words]; what a place means is the server's business.

const LEFT = 74, TOP = 4, AXIS = 16, PATIENCE = 180
const ASKED = 3, ANSWERED = 3000 // how often a place is asked for, each so many ms after the last
const MARK = { width: 9, height: 8 } // of the chosen token, in pixels
const KINDS = ["--st-text-color", "#5B4BDB", "#D9730D", "#0E9F8E", "#6B7280"]
const BRIGHT = ["--st-text-color", "#A79BFF", "#FBA94C", "#3FD6C3", "#9CA3AF"]

export default function ({ data, parentElement, setTriggerValue }) {
  const line = tenant(parentElement, SessionLine)
  line.go = (to) => setTriggerValue("position", { to })
  line.tell(JSON.parse(textOf(data)))
  return () => {
    line.close()
    parentElement.tenant = null
  }
}

class SessionLine {
  constructor(place) {
    for (const name of ["stage", "tip", "where", "back", "play", "on", "now", "speed", "unit", "chosen"])
      this[name] = place.querySelector(`.${name}`)
    this.canvas = this.stage.querySelector("canvas")
    this.pointed = null // the event under the pointer
    this.wanted = undefined // a position asked for that the server has not shown yet
    this.deaf = answerAsked(() => this.d?.key, () => this.sheet())
    this.sizes = new ResizeObserver(() => this.draw())
    this.sizes.observe(this.stage)
    const { canvas } = this
    canvas.onpointerdown = (e) => {
      canvas.setPointerCapture(e.pointerId)
      this.dragging = true
      this.want(this.under(e))
    }
    canvas.onpointermove = (e) => {
      this.pointed = this.under(e)
      this.lane = Math.floor((e.offsetY - TOP) / this.high)
      if (this.dragging) this.want(this.pointed)
      this.draw()
    }
    canvas.onpointerup = canvas.onpointercancel = () => { this.dragging = false }
    canvas.onpointerleave = () => { this.pointed = null; this.draw() }
    canvas.onkeydown = (e) => this.typed(e)
    this.back.onclick = () => this.step(-1)
    this.on.onclick = () => this.step(1)
    this.now.onclick = () => this.want(null, 0)
    this.play.onclick = () => (this.playing ? this.stop() : this.start())
    this.unit.onclick = () => { this.seconds = !this.seconds; this.draw() }
  }

  close() {
    this.deaf()
    this.sizes.disconnect()
    this.stop()
    clearTimeout(this.soon)
  }

  tell(data) {
    this.d = data
    if (data.position === this.wanted) this.wanted = undefined
    this.canvas.setAttribute("aria-label", data.alt)
    this.draw()
    requestAnimationFrame(() => this.draw()) // the theme may have come after the data
  }

  /** Where we look: a number of events, or null for now. */
  get at() { return this.wanted === undefined ? this.d.position : this.wanted }

  want(position, patience = PATIENCE) {
    if (position === this.at && this.wanted === undefined) return
    const { n } = this.d
    this.wanted = position === null || position >= n ? null : Math.max(1, position)
    clearTimeout(this.soon)
    if (patience) this.soon = setTimeout(() => this.ask(), patience) // a drag is one question, not a hundred
    else this.ask()
    this.draw()
  }

  /** Ask for the place that is wanted. Streamlit loses what was sent as a page changed: then ask again. */
  ask(times = ASKED) {
    if (this.wanted === undefined) return // answered
    if (times) {
      this.go(this.wanted)
      this.soon = setTimeout(() => this.ask(times - 1), ANSWERED)
    } else { // show where the page is instead
      this.wanted = undefined
      this.draw()
    }
  }

  /** The places worth a stop: after each stretch. */
  get stops() { return [...new Set(this.d.marks.map((m) => m[2] + 1))].sort((a, b) => a - b) }

  /** Those after a sleep. */
  get sleeps() { return this.d.marks.filter((m) => m[0] === this.d.lanes.indexOf("sleeps")).map((m) => m[2] + 1).sort((a, b) => a - b) }

  step(by, stops = this.stops) {
    const here = this.at ?? this.d.n
    const next = by > 0 ? stops.find((s) => s > here) : stops.findLast((s) => s < here)
    if (next !== undefined) this.want(next)
    else if (by > 0) this.want(null)
  }

  start() {
    if (this.at === null) this.want(this.stops[0] ?? null)
    const tick = () => {
      if (this.at === null) return this.stop()
      this.step(1)
      this.playing = setTimeout(tick, 1500 / Number(this.speed.value))
    }
    this.playing = setTimeout(tick, 1500 / Number(this.speed.value))
    this.draw()
  }

  stop() {
    clearTimeout(this.playing)
    this.playing = 0
    this.draw()
  }

  typed(e) {
    if (e.ctrlKey || e.metaKey || e.altKey) return
    if (e.key === "ArrowLeft" || e.key === "ArrowRight") this.step(e.key === "ArrowLeft" ? -1 : 1, e.shiftKey ? this.sleeps : this.stops)
    else if (e.key === "Home") this.want(this.stops[0] ?? null, 0)
    else if (e.key === "End" || e.key === "Escape") this.want(null, 0)
    else if (e.key === " ") this.play.click()
    else return
    e.preventDefault()
    e.stopPropagation()
  }

  /** The line as an image, as it is now. */
  sheet() {
    const { canvas } = this
    return sheetOf({ canvas, title: "Session line", note: this.where.textContent, colours: pageColours(canvas) })
  }

  // places -------------------------------------------------------------------------------------------

  /** How far along an event is, from 0 to 1: by its number, or by its second. */
  along(event) {
    const { d } = this
    if (!this.seconds) return event / Math.max(1, d.n)
    const marks = d.marks
    let before = [0, 0], after = [d.n, d.seconds]
    for (const [, first, , second] of marks) {
      if (first <= event && first >= before[0]) before = [first, second]
      if (first > event && first < after[0]) after = [first, second]
    }
    const share = after[0] > before[0] ? (event - before[0]) / (after[0] - before[0]) : 0
    return (before[1] + share * (after[1] - before[1])) / Math.max(1e-9, d.seconds)
  }

  x(event) { return LEFT + this.along(event) * (this.width - LEFT - 6) }

  under({ offsetX }) { // the event nearest to a pixel
    const { n } = this.d
    let low = 0, high = n
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.x(middle) < offsetX - 2) low = middle + 1
      else high = middle
    }
    return Math.max(1, low)
  }

  nearest() { // the stretch that the pointer means
    const { marks } = this.d, lane = this.lane
    const far = ([, first, last]) => this.pointed < first ? first - this.pointed : Math.max(0, this.pointed - last - 1)
    const near = (m) => Math.abs(this.x(m[1]) - this.x(this.pointed)) < 9 || far(m) === 0
    const own = marks.filter((m) => m[0] === lane && near(m))
    return own.sort((a, b) => far(a) - far(b))[0]
  }

  // drawing ------------------------------------------------------------------------------------------

  draw() {
    if (!this.d || !this.stage.clientWidth) return
    const { canvas, d } = this, ratio = devicePixelRatio || 1
    this.width = this.stage.clientWidth
    const height = this.stage.clientHeight, colours = pageColours(canvas)
    canvas.width = Math.round(this.width * ratio)
    canvas.height = Math.round(height * ratio)
    const pen = canvas.getContext("2d")
    pen.scale(ratio, ratio)
    pen.font = `11px ${colours.font}`
    pen.textBaseline = "middle"
    this.high = (height - TOP - AXIS) / d.lanes.length
    const ink = (lane) => (colours.dark ? BRIGHT : KINDS)[lane].replace("--st-text-color", colours.text)
    d.lanes.forEach((name, lane) => {
      const y = TOP + (lane + 0.5) * this.high
      pen.fillStyle = colours.text
      pen.globalAlpha = 0.65
      pen.textAlign = "right"
      pen.fillText(name, LEFT - 8, y)
      pen.globalAlpha = 1
      pen.fillStyle = colours.line
      pen.fillRect(LEFT, y - 0.5, this.width - LEFT - 6, 1)
    })
    const end = this.at ?? d.n
    for (const [lane, first, last] of d.marks) {
      const y = TOP + (lane + 0.5) * this.high, x = this.x(first), w = Math.max(3, this.x(last + 1) - x)
      pen.fillStyle = ink(lane)
      pen.globalAlpha = first < end ? 0.95 : 0.25
      pen.beginPath()
      pen.roundRect(x, y - this.high * 0.34, w, this.high * 0.68, 2)
      pen.fill()
    }
    pen.globalAlpha = 0.7
    pen.fillStyle = colours.text
    pen.textAlign = "left"
    pen.fillText("0", LEFT, height - AXIS / 2)
    pen.textAlign = "right"
    const far = this.seconds ? `${d.seconds.toFixed(1)} s since the start` : `${d.n.toLocaleString("en")} events`
    pen.fillText(far, this.width - 6, height - AXIS / 2)
    pen.globalAlpha = 1
    this.cursor(pen, this.x(end), height, colours.accent, 2.5)
    if (d.token) this.mark(pen, d.token[0], colours.text)
    if (this.pointed !== null && !this.dragging) this.cursor(pen, this.x(this.pointed), height, colours.text, 1)
    this.write()
  }

  /** Where the chosen token came: a needle through all lanes, with a head at the top. */
  mark(pen, event, colour) {
    const x = this.x(event + 0.5), { width, height } = MARK, foot = TOP + this.high * this.d.lanes.length
    pen.fillStyle = colour
    pen.fillRect(x - 0.5, TOP, 1, foot - TOP)
    pen.beginPath()
    pen.moveTo(x - width / 2, 0)
    pen.lineTo(x + width / 2, 0)
    pen.lineTo(x, height)
    pen.fill()
  }

  cursor(pen, x, height, colour, width) {
    pen.fillStyle = colour
    pen.fillRect(x - width / 2, 0, width, height - AXIS + 2)
  }

  write() {
    const { d, tip, canvas } = this, now = this.at === null
    const stretch = this.pointed === null ? null : this.nearest()
    tip.hidden = !stretch
    if (stretch) {
      const lines = [stretch[4], `event ${(stretch[1] + 1).toLocaleString("en")}, ${stretch[3].toFixed(1)} s`]
      tip.replaceChildren(...lines.map((text) => Object.assign(document.createElement("div"), { textContent: text })))
      const x = Math.max(0, Math.min(this.width - tip.offsetWidth, this.x(stretch[1]) - 20))
      tip.style.transform = `translate(${x}px, -4px)`
    }
    const here = now ? null : d.marks.findLast((m) => m[1] < this.at)
    const at = here ? ` · ${here[4]}` : "", all = d.n.toLocaleString("en")
    const words = !d.marks.length ? "Your session will be drawn here." : now ? `now: ${all} events` : `looking back at event ${this.at.toLocaleString("en")} of ${all}${at}`
    const token = d.token ? `▾ ${d.token[1]}` : ""
    canvas.dataset.token = d.token ? d.token[0] : ""
    if (this.chosen.textContent !== token) this.chosen.textContent = token
    if (this.where.textContent !== words) this.where.textContent = this.where.title = words
    this.where.setAttribute("aria-live", now ? "off" : "polite") // now moves on by itself: that is not told
    const told = { valuemin: 0, valuemax: d.n, valuenow: this.at ?? d.n, valuetext: words }
    for (const [name, value] of Object.entries(told)) canvas.setAttribute(`aria-${name}`, value)
    this.now.hidden = now
    this.play.textContent = this.playing ? "❚❚ Pause" : "▶ Play"
    this.back.disabled = !this.stops.some((s) => s < (this.at ?? d.n))
    this.on.disabled = now
    this.unit.textContent = this.seconds ? "by event" : "by second"
    Object.assign(canvas.dataset, { position: now ? "" : this.at, n: d.n, marks: d.marks.length })
  }
}
