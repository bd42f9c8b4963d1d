// Builds elements from [tag, attributes, children]. Texts only ever go through textContent.
const TAGS = new Set("b br details div i p pre q s span summary".split(" "))
const SVG = "http://www.w3.org/2000/svg"
const SHOWN = new WeakMap()

function spark(attributes, values) {
  const svg = document.createElementNS(SVG, "svg")
  svg.setAttribute("class", attributes.class)
  svg.setAttribute("viewBox", "0 0 100 30")
  svg.setAttribute("preserveAspectRatio", "none")
  svg.setAttribute("role", "img")
  svg.setAttribute("aria-label", attributes.label)
  if (values.length < 2) return svg
  const points = values.map((v, i) => `${(i / (values.length - 1) * 100).toFixed(2)},${(28 - v * 26).toFixed(2)}`)
  const area = document.createElementNS(SVG, "polygon")
  area.setAttribute("points", `0,30 ${points.join(" ")} 100,30`)
  const line = document.createElementNS(SVG, "polyline")
  line.setAttribute("points", points.join(" "))
  svg.append(area, line)
  return svg
}

function build(node) {
  if (typeof node === "string") return document.createTextNode(node)
  const [tag, attributes, children] = node
  if (tag === "spark") return spark(attributes, children)
  if (!TAGS.has(tag)) throw new Error(`markup does not build <${tag}>`)
  const element = document.createElement(tag)
  if (attributes.class) element.className = attributes.class
  if (attributes.title) element.title = attributes.title
  if (attributes.role) element.setAttribute("role", attributes.role)
  if (attributes.label) element.setAttribute("aria-label", attributes.label)
  if (attributes.width) element.style.width = attributes.width
  if (attributes.left) element.style.left = attributes.left
  if (attributes.open) element.open = true
  if (attributes.pick) pickable(element, attributes.pick)
  element.append(...children.map(build))
  return element
}

function pickable(element, pick) { // a click on it, or Enter, tells the page
  Object.assign(element, { tabIndex: 0, role: "button" })
  const tell = () => element.dispatchEvent(new CustomEvent("pick", { detail: pick, bubbles: true }))
  element.onclick = tell
  element.onkeydown = e => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); tell() } }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".markup"), text = textOf(data)
  const shown = SHOWN.get(parentElement) ?? {}
  const close = () => {
    if (shown.close !== close) return // a later call has taken over
    shown.deaf?.()
    SHOWN.delete(parentElement)
  }
  shown.close = close
  if (shown.text === text) return close
  const { nodes, key, title } = JSON.parse(text)
  if (shown.text === undefined) root.addEventListener("pick", e => setTriggerValue("picked", e.detail))
  if (key) shown.deaf ??= answerAsked(() => shown.key, () => sheetOfPage(root, shown.title))
  SHOWN.set(parentElement, Object.assign(shown, { text, key, title }))
  const open = [...root.querySelectorAll("details")].map(d => d.open)
  const scrolled = [...root.querySelectorAll(".scroll")].map(s => s.scrollTop)
  root.replaceChildren(...nodes.map(build))
  root.querySelectorAll("details").forEach((d, i) => { d.open = open[i] ?? d.open })
  root.querySelectorAll(".scroll").forEach((s, i) => { s.scrollTop = scrolled[i] ?? 0 })
  return close
}
