// The whole transcript as an image, also what has been scrolled away. Knows how tokens look; transcript.js knows what they are.
const LONGEST = 12000 // pixels high: more than that no browser's canvas holds at every ratio

/** What stands behind a token: as on the page, its fate told by pattern and colour. */
function paintFate(pen, fate, x, y, w, h, colours) {
  const fill = (style, alpha, ...box) => { pen.globalAlpha = alpha; pen.fillStyle = style; pen.fillRect(...box) }
  if (fate === "cache") fill(colours.blue, 0.2, x, y, w, h)
  if (fate === "gone") fill(colours.text, 0.05, x, y, w, h)
  if (fate === "weights") {
    fill(colours.violet, 0.1, x, y, w, h)
    fill(colours.violet, 0.75, x, y + h - 1.5, w, 1.5)
    pen.save()
    pen.beginPath()
    pen.rect(x, y, w, h)
    pen.clip()
    pen.globalAlpha = 0.32
    pen.strokeStyle = colours.violet
    pen.lineWidth = 1.6
    pen.beginPath()
    for (let at = x - h; at < x + w; at += 7) { pen.moveTo(at, y + h); pen.lineTo(at + h, y) }
    pen.stroke()
    pen.restore()
  }
  pen.globalAlpha = 1
}

/** The outline of what has just come. */
function paintFresh(pen, x, y, w, h, colours) {
  pen.globalAlpha = 0.7
  pen.strokeStyle = colours.blue
  pen.lineWidth = 1.5
  pen.strokeRect(x - 0.5, y - 0.5, w + 1, h + 1)
  pen.globalAlpha = 1
}

/** The sign of a fate in the legend: what is gone is struck through, as its words are. */
function paintSwatch(pen, fate, x, y, colours) {
  paintFate(pen, fate, x, y - 7, 18, 14, colours)
  if (fate !== "gone") return
  pen.globalAlpha = 0.58
  pen.fillStyle = colours.text
  pen.fillRect(x + 2, y - 0.75, 14, 1.5)
  pen.globalAlpha = 1
}

/** A canvas with all that was said, its legend and a title. */
function sheetOfTalk({ said, d }) {
  const read = (name) => getComputedStyle(said).getPropertyValue(`--st-${name}-color`).trim()
  const colours = { ...pageColours(said), blue: read("blue") || "#55f", violet: read("violet") || "#85f" }
  const ratio = devicePixelRatio || 1, frame = said.getBoundingClientRect()
  const size = { clientWidth: said.clientWidth, clientHeight: Math.min(said.scrollHeight, LONGEST) }
  const canvas = Object.assign(document.createElement("canvas"), { width: size.clientWidth * ratio, height: size.clientHeight * ratio })
  const pen = canvas.getContext("2d"), across = (r) => r.left - frame.left, down = (r) => r.top - frame.top + said.scrollTop
  pen.scale(ratio, ratio)
  pen.textBaseline = "middle"
  const shown = (what) => [...said.querySelectorAll(what)].filter((chip) => !isFolded(chip))
  for (const chip of shown(".chip"))
    for (const r of chip.getClientRects()) paintFate(pen, chip.dataset.fate, across(r), down(r), r.width, r.height, colours)
  const fresh = shown(".chip.fresh")
  for (const chip of fresh)
    for (const r of chip.getClientRects()) paintFresh(pen, across(r), down(r), r.width, r.height, colours)
  for (const chip of shown(".chip[data-night]")) {
    const [r] = chip.getClientRects()
    if (!r) continue
    pen.font = `600 9px ${colours.font}`
    pen.fillStyle = colours.violet
    pen.fillText(`v${chip.dataset.night}`, across(r) + 1, down(r) + 6)
  }
  const texts = document.createTreeWalker(said, NodeFilter.SHOW_TEXT)
  while (texts.nextNode())
    if (!isFolded(texts.currentNode.parentElement)) writeWords(pen, texts.currentNode, (r) => [across(r), down(r)])
  const legend = FATES.map(([fate, name]) => ({
    name: `${name} ${number(d.counts[fate])}`,
    paint: (g, x, y) => paintSwatch(g, fate, x, y, colours),
  }))
  if (fresh.length) legend.push({ name: `just came ${number(fresh.length)}`, paint: (g, x, y) => paintFresh(g, x, y - 7, 18, 14, colours) })
  const note = said.scrollHeight > LONGEST ? "Only the beginning: it is longer than an image can be." : ""
  return sheetOf({ canvas, size, title: "Transcript with the fate of each token", legend, note, colours })
}
