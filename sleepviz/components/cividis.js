// The colours of every sequential picture: cividis, dark blue over grey to yellow, as a table of 256 for each look.
// Of a dark page the darkest blues are left out, of a light one the lightest yellows: little shall not look like nothing
// on the one, nor much like the page on the other. Both ends are at least 1.6:1 against the page and its cards.
const ENDS = { light: [0, 0.85], dark: [0.2, 1] }
const STOPS = [[0, 32, 76], [0, 42, 102], [0, 52, 110], [39, 63, 108], [60, 74, 107], [76, 85, 107],
  [91, 95, 109], [104, 106, 112], [117, 117, 117], [131, 129, 120], [146, 140, 120], [161, 152, 118],
  [176, 165, 114], [192, 177, 109], [209, 191, 102], [225, 204, 92], [243, 219, 79], [255, 233, 69]]
const ramp = ([from, to]) => Uint32Array.from({ length: 256 }, (_, i) => { // as the bytes r, g, b, 255 of an image
  const t = (from + (to - from) * i / 255) * (STOPS.length - 1), a = Math.min(Math.floor(t), STOPS.length - 2), f = t - a
  const [r, g, b] = [0, 1, 2].map(c => Math.round(STOPS[a][c] * (1 - f) + STOPS[a + 1][c] * f))
  return (255 << 24 | b << 16 | g << 8 | r) >>> 0
})
const CIVIDIS = { light: ramp(ENDS.light), dark: ramp(ENDS.dark) }
