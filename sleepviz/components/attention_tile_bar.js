// The colour bar above an attention tile. Joined before attention_tile.js, which says where; knows no data.
const MARKS = [0.75, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001]

/** `x`, `w`: where it is; `free`: the room for words beside it; `top`: the share at its end, where it is no scale of `ranks` (among what). */
function paintBar(g, { x, w, px, dpr, face, free, border, ink, top, ranks, colour }) {
  const h = px * 0.75
  for (let i = 0; i < w * dpr; i++) { g.fillStyle = colour(i / (w * dpr) * FULL); g.fillRect(x + i / dpr, 1, 1 / dpr + 0.3, h) }
  g.strokeStyle = border; g.strokeRect(x + 0.5, 1.5, w - 1, h - 1)
  g.font = `${px}px ${face}`; g.fillStyle = ink
  const write = (text, align, at) => { g.textAlign = align; g.fillText(text, at, h + px * 0.95) }
  const place = v => x + (top ? Math.sqrt(v / top) : 0) * w
  if (ranks) { write("read least", "left", x); write("read most", "right", x + w) }
  else {
    write("0", "left", x)
    if (top) write(small(top, top < 0.1 ? 3 : 2, 0.001), "right", x + w)
    let until = x + w - px * 2.6
    for (const v of MARKS.filter(v => v < top)) {
      const half = g.measureText(String(v)).width / 2 + 4
      if (place(v) + half >= until || place(v) - half <= x + px) continue
      write(String(v), "center", place(v))
      until = place(v) - half
    }
  }
  const words = ranks ? [`rank among ${ranks}`, "rank in its row", "rank"]
    : ["share of attention, square-root scale", "share, square-root scale", "square-root scale"]
  g.textAlign = "right"; g.globalAlpha = 0.8
  const fits = words.find(t => g.measureText(t).width < free)
  if (fits) g.fillText(fits, x - 8, 1 + h / 2)
  g.globalAlpha = 1
}
