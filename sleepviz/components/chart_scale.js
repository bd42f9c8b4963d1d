// Numbers of a chart: the message unpacked, round ticks, and text for values. Knows no canvas.

/** The header of a message with its columns as Float32Arrays. */
function unpack(data) {
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(data)
  const size = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true)
  const message = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size)))
  const body = bytes.slice(4 + size).buffer // a copy, because a view must begin at a multiple of four
  let at = 0
  const columns = message.columns.map((told) => {
    const [length, different] = Array.isArray(told) ? told : [0, told]
    const numbers = new Float32Array(body, at, different)
    at += 4 * different
    if (!length) return numbers
    const codes = new Uint8Array(body, at, length) // which of the numbers each one is
    at += length + (-length & 3)
    return Float32Array.from(codes, (code) => numbers[code])
  })
  message.columns = columns
  for (const s of message.series || []) {
    s.x = columns[s.x]
    s.y = columns[s.y]
    s.spread = s.spread.map((c) => columns[c])
    s.custom = s.custom.map((c) => (Array.isArray(c) ? c : columns[c]))
  }
  return message
}

/** The round number (1, 2, 2.5 or 5 times a power of ten) at or above `rough`. */
function roundUp(rough, whole) {
  if (!(rough > 0)) return 1
  const power = 10 ** Math.floor(Math.log10(rough))
  for (const m of [1, 2, 2.5, 5, 10]) {
    const step = m * power
    if (step >= rough * (1 - 1e-9) && (!whole || Number.isInteger(step))) return step
  }
  return whole ? Math.max(1, 10 * power) : 10 * power
}

/** A scale with `n` equal round steps that holds `low` to `high`. */
function steps(low, high, n, whole) {
  let step = roundUp((high - low) / n, whole)
  for (let tries = 0; tries < 6; tries++) {
    const start = Math.floor(low / step + 1e-9) * step
    if (start + n * step >= high * (1 - 1e-9)) return { low: start, high: start + n * step, step, n }
    step = roundUp(step * 1.01, whole)
  }
  return { low, high, step: (high - low) / n, n }
}

/** A logarithmic scale that holds `low` to `high`: from 1, 2 or 5 times a power of ten to another; at most `n` + 1 ticks. */
function logSteps(low, high, n) {
  const all = []
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high * 10; power *= 10) all.push(power, 2 * power, 5 * power)
  const from = Math.max(0, lastAtOrBelow(all, low * (1 + 1e-9)))
  const held = all.slice(from, all.findIndex((v, i) => i > from && v >= high * (1 - 1e-9)) + 1)
  const powers = held.filter((v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-9)
  return { low: held[0], high: held.at(-1), log: true, ticks: held.length > n + 1 && powers.length > 1 ? powers : held }
}

/** How far along a scale a value lies, 0 to 1, and which value lies so far along. */
function shares({ low, high, log }) {
  const [place, back] = log ? [Math.log, Math.exp] : [(v) => v, (v) => v]
  const first = place(low)
  const width = place(high) - first
  return { share: (v) => (place(v) - first) / width, value: (share) => back(first + share * width) }
}

/** The values that a scale writes. */
const ticksOf = (scale) => scale.ticks ?? Array.from({ length: scale.n + 1 }, (_, i) => scale.low + i * scale.step)

/** A tick in words. */
const tickText = (scale, value) => written(value, decimalsOf(scale.log ? value : scale.step))

function decimalsOf(step) {
  for (let d = 0; d < 9; d++) if (Math.abs(step * 10 ** d - Math.round(step * 10 ** d)) < 1e-6) return d
  return 9
}

const FORMATS = new Map()

/** A number with thousands separators and `decimals` places; a real minus sign. */
function written(value, decimals, sign) {
  const name = decimals + (sign ? "+" : "")
  if (!FORMATS.has(name)) {
    const options = { minimumFractionDigits: decimals, maximumFractionDigits: decimals }
    FORMATS.set(name, new Intl.NumberFormat("en-US", { ...options, signDisplay: sign ? "exceptZero" : "negative" }))
  }
  return FORMATS.get(name).format(value).replace("-", "−")
}

/** A d3-like format of plotly (",.2f", "+,.0f", ",d", ".1%", ".3g") applied to a number; words stay as they are. */
function formatted(value, spec) {
  if (typeof value === "string") return value
  if (!Number.isFinite(value)) return "none"
  const [, sign, digits, type] = /^([+]?),?(?:\.(\d+))?([fdg%]?)$/.exec(spec || "") || []
  if (type === "d") return written(value, 0, sign)
  if (type === "%") return written(100 * value, +(digits ?? 0), sign) + " %"
  if (type === "f") return written(value, +(digits ?? 6), sign)
  const places = Math.max(0, +(digits ?? 4) - 1 - Math.floor(Math.log10(Math.abs(value) || 1)))
  return String(+value.toFixed(Math.min(9, places))).replace("-", "−")
}

/** Text as a person reads it, without the escapes of theme.safe. */
const plain = (text) => text.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&")

/** A hover template of plotly with the values of one point filled in. */
function filled(template, point) {
  return template.replace(/%\{(x|y|z|customdata(?:\[(\d+)\])?)(?::([^}]*))?\}/g, (_, name, column, spec) =>
    formatted(name[0] === "c" ? point.custom[+(column ?? 0)] : point[name], spec))
}

/** The number of the last value at or below `x` in a rising column; -1 if there is none. */
function lastAtOrBelow(column, x) {
  let low = -1
  let high = column.length
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (column[middle] <= x) low = middle
    else high = middle
  }
  return low
}

/** The number of the point of a series that stands for `x`, or -1 outside of its stretch. */
function pointAt(series, x, tolerance) {
  const last = series.x.length - 1
  if (last < 0 || x < series.x[0] - tolerance || x > series.x[last] + tolerance) return -1
  const before = lastAtOrBelow(series.x, x)
  if (series.step || before === last) return Math.max(0, before)
  if (before < 0) return 0
  const after = before + 1
  const nearest = series.x[after] - x < x - series.x[before] ? after : before
  return series.line || Math.abs(series.x[nearest] - x) <= tolerance ? nearest : -1
}
