// The row beneath a picture: explanation, table, CSV and PNG. Texts only ever go through textContent.

const ROWS = new WeakMap()
const make = (tag, words = "", name = "") => Object.assign(document.createElement(tag), { textContent: words, className: name })

export default function ({ data, parentElement, setStateValue }) {
  const told = JSON.parse(textOf(data))
  if (!ROWS.has(parentElement)) ROWS.set(parentElement, new Row(parentElement, told))
  const row = ROWS.get(parentElement)
  row.ask = setStateValue
  row.tell(told)
}

class Row {
  constructor(parent, data) {
    this.aboutOpen = Boolean(data.opened)
    this.tableOpen = Boolean(data.table) // left open before the page was drawn anew
    this.awaits = false // a file that was asked for
    this.root = parent.querySelector(".beneath")
    const line = make("div", "", "line")
    this.buttons = {
      about: this.button(line, "What is this?", "", () => this.toggle("about")),
      table: this.button(line, "Table", "The data of this picture as a table", () => this.toggle("table")),
      csv: this.button(line, "CSV", "The data of this picture as a file", () => this.askCsv()),
      png: this.button(line, "PNG", "This picture as an image, as it is now", () => this.askPng()),
    }
    this.about = make("div", "", "about")
    this.table = make("div", "", "table")
    this.table.tabIndex = 0
    this.root.replaceChildren(line, this.about, this.table)
  }

  button(line, words, hint, act) {
    const button = make("button", words)
    button.type = "button"
    if (hint) button.title = hint
    button.onclick = act
    line.append(button)
    return button
  }

  tell(data) {
    this.data = data
    this.buttons.table.hidden = this.buttons.csv.hidden = !data.data
    this.buttons.png.hidden = !(data.data && data.of)
    const said = data.about.join("\n")
    if (said !== this.said) this.about.replaceChildren(...data.about.map((words) => make("p", words)))
    this.said = said
    if (data.csv !== null) this.takeCsv(data.csv)
    this.open()
  }

  toggle(name) {
    this[`${name}Open`] = !this[`${name}Open`]
    this.open()
    if (name === "table") this.ask("table", this.tableOpen)
  }

  open() {
    const { data, buttons } = this
    this.about.hidden = !this.aboutOpen
    this.table.hidden = !(this.tableOpen && data.data)
    buttons.about.setAttribute("aria-expanded", String(this.aboutOpen))
    buttons.table.setAttribute("aria-expanded", String(this.tableOpen))
    if (this.tableOpen && data.table) this.write(data.table)
    else if (!this.tableOpen) this.table.replaceChildren((this.shown = ""))
  }

  write(table) {
    const shown = JSON.stringify(table)
    if (shown === this.shown) return
    this.shown = shown
    const cell = (tag, words, i) => make(tag, words, table.numbers[i] ? "number" : "")
    const line = (tag, words) => {
      const row = make("tr")
      row.append(...words.map((w, i) => cell(tag, w, i)))
      return row
    }
    const [made, head, body] = ["table", "thead", "tbody"].map((tag) => make(tag))
    head.append(line("th", table.columns))
    body.append(...table.rows.map((row) => line("td", row)))
    made.append(head, body)
    const at = this.table.scrollTop
    this.table.replaceChildren(made, make("p", table.note))
    this.table.scrollTop = at
  }

  askCsv() {
    this.awaits = true
    this.ask("csv", true)
  }

  takeCsv(text) {
    if (this.awaits) this.save(new Blob(["\ufeff", text], { type: "text/csv" }), "csv") // the mark says UTF-8
    this.awaits = false
    this.ask("csv", false)
  }

  askPng() {
    const take = (blob) => blob && this.save(blob, "png")
    const plot = document.querySelector(`.st-key-${this.data.of.replaceAll(".", "-")} .js-plotly-plot`)
    if (plot) return photographed(plot, this.data.title).then((sheet) => sheet.toBlob(take))
    document.dispatchEvent(new CustomEvent("sleepviz-png", { detail: { of: this.data.of, take } }))
  }

  save(blob, ending) {
    const link = make("a")
    link.href = URL.createObjectURL(blob)
    link.download = `${this.data.file}.${ending}`
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
  }
}

/** A canvas with a title and what plotly has drawn, on the colours of the page. */
async function photographed(plot, title) {
  const { width, height } = plot.getBoundingClientRect(), ratio = devicePixelRatio || 1, edge = 16, top = edge + 28
  const sheet = document.createElement("canvas"), pen = sheet.getContext("2d")
  sheet.width = Math.round((width + 2 * edge) * ratio)
  sheet.height = Math.round((top + height + edge) * ratio)
  pen.scale(ratio, ratio)
  const style = getComputedStyle(plot.closest("[data-testid=stApp]") ?? document.body)
  pen.fillStyle = style.backgroundColor
  pen.fillRect(0, 0, sheet.width, sheet.height)
  pen.fillStyle = style.color
  pen.font = `600 15px ${style.fontFamily}`
  pen.textBaseline = "middle"
  pen.fillText(title, edge, edge + 9)
  for (const layer of plot.querySelectorAll("svg.main-svg")) {
    const image = new Image()
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(layer))}`
    await image.decode()
    pen.drawImage(image, edge, top, width, height)
  }
  return sheet
}
