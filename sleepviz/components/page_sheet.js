// A part of the page as an image: grounds, edges and words where the browser has put them. Knows no meaning.

const around = (a, b) => { // one rect with both
  const left = Math.min(a.left, b.left), top = Math.min(a.top, b.top)
  return new DOMRect(left, top, Math.max(a.right, b.right) - left, Math.max(a.bottom, b.bottom) - top)
}

/** Whether an element lies in what is folded up: a browser may tell where it would stand. */
const isFolded = (element) => {
  const folded = element.closest("details:not([open])")
  return Boolean(folded) && folded !== element && !element.closest("summary")
}

/** The pieces of a text as they stand on the page: [words, rect], one for each line that it is broken into. */
function* piecesOf(node) {
  const range = document.createRange(), text = node.data
  range.selectNodeContents(node)
  const rects = range.getClientRects()
  if (rects.length === 1) return yield [text, rects[0]]
  let from = 0, line = null
  for (let i = 0; i < text.length; i++) { // a text that is broken is rare, and short
    range.setStart(node, i)
    range.setEnd(node, i + 1)
    const rect = range.getClientRects()[0]
    if (!rect) continue
    if (line && rect.top > line.top + 2) { yield [text.slice(from, i), line]; from = i; line = null }
    line = line ? around(line, rect) : rect
  }
  if (line) yield [text.slice(from), line]
}

/** A text in its own font and colour; `place(rect)` is its left upper corner on the sheet. */
function writeWords(pen, node, place) {
  const style = getComputedStyle(node.parentElement), drawn = style.textDecorationLine
  pen.font = `${style.fontStyle} ${style.fontWeight} ${style.fontSize} ${style.fontFamily}`
  for (const [words, rect] of piecesOf(node)) {
    if (!rect.width) continue // folded away
    const [x, y] = place(rect), toEnd = ["right", "end"].includes(style.textAlign)
    pen.fillStyle = style.color
    pen.textAlign = toEnd ? "right" : "left" // its digits may be narrower here than on the page
    pen.fillText(words, toEnd ? x + rect.width : x, y + rect.height / 2)
    if (drawn.includes("line-through")) pen.fillRect(x, y + rect.height / 2, rect.width, 1.5)
    pen.fillStyle = style.textDecorationColor
    if (drawn.includes("underline")) pen.fillRect(x, y + rect.height - 2, rect.width, 2)
  }
}

/** The ground of an element and the edges that it has. */
function paintGround(pen, style, [x, y], { width, height }) {
  const edge = (side) => (style[`border${side}Style`] === "none" ? 0 : parseFloat(style[`border${side}Width`]))
  const sides = ["Top", "Right", "Bottom", "Left"], wide = sides.map(edge)
  const box = (by) => {
    pen.beginPath()
    pen.roundRect(x + by, y + by, Math.max(0, width - 2 * by), Math.max(0, height - 2 * by), parseFloat(style.borderTopLeftRadius) || 0)
  }
  box(0)
  pen.fillStyle = style.backgroundColor
  pen.fill()
  if (!Math.max(...wide)) return
  const all = Math.min(...wide)
  const stroke = (side, px, path) => {
    pen.strokeStyle = style[`border${side}Color`]
    pen.lineWidth = px
    pen.setLineDash(style[`border${side}Style`] === "dashed" ? [4, 3] : [])
    path()
    pen.stroke()
  }
  if (all) stroke("Left", all, () => box(all / 2))
  const line = (fromX, fromY, toX, toY) => () => { pen.beginPath(); pen.moveTo(fromX, fromY); pen.lineTo(toX, toY) }
  const [top, right, bottom, left] = wide
  const [across, down] = [x + width, y + height]
  if (top > all) stroke("Top", top, line(x + 4 * all, y + top / 2, across - 4 * all, y + top / 2))
  if (right > all) stroke("Right", right, line(across - right / 2, y, across - right / 2, down))
  if (bottom > all) stroke("Bottom", bottom, line(x, down - bottom / 2, across, down - bottom / 2))
  if (left > all) stroke("Left", left, line(x + left / 2, y, x + left / 2, down))
  pen.setLineDash([])
}

/** An element and all in it, as far as it is shown. */
function paintElement(pen, element, place, alpha) {
  const style = getComputedStyle(element), rect = element.getBoundingClientRect()
  if (!rect.width || !rect.height || style.visibility === "hidden" || isFolded(element)) return
  pen.save()
  pen.globalAlpha = alpha *= Number(style.opacity)
  paintGround(pen, style, place(rect), rect)
  if (style.overflowX !== "visible") { // what does not fit is cut, as on the page
    pen.beginPath()
    pen.rect(...place(rect), rect.width, rect.height)
    pen.clip()
  }
  for (const child of element.childNodes) {
    if (child instanceof Text) writeWords(pen, child, place)
    else if (child instanceof HTMLElement) paintElement(pen, child, place, alpha)
  }
  pen.restore()
}

/** A canvas with what an element shows, under a title. */
function sheetOfPage(element, title) {
  const colours = pageColours(element), ratio = devicePixelRatio || 1, frame = element.getBoundingClientRect()
  const size = { clientWidth: frame.width, clientHeight: frame.height }
  const canvas = Object.assign(document.createElement("canvas"), { width: frame.width * ratio, height: frame.height * ratio })
  const pen = canvas.getContext("2d")
  pen.scale(ratio, ratio)
  pen.textBaseline = "middle"
  paintElement(pen, element, (rect) => [rect.left - frame.left, rect.top - frame.top], 1)
  return sheetOf({ canvas, size, title, colours })
}
