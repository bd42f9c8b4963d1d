// Draws the transcript token by token, changing only what has changed. Knows the page; transcript.py packs the words.
// Texts of people and of a model only ever go through textContent.
const TALKS = new WeakMap()
const WHO = { system: "System prompt", notes: "You told", user: "You asked", assistant: "Model" }
const FATES = [["cache", "in the KV cache"], ["weights", "in dynamic weights"], ["gone", "gone"]]
const NONE = "No words yet. Every word you add will appear here, and stay visible after the model has forgotten it."
const RTL = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/gu
const LTR = /[A-Za-z\u00c0-\u02af\u0370-\u058f\u3040-\u9fff]/gu
const UNSEEN = /[\u0000-\u0009\u000b-\u001f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g

const count = (text, what) => (text.match(what) ?? []).length
const number = n => n.toLocaleString("en")
const bytes = n => n >= 2 ** 20 ? `${(n / 2 ** 20).toFixed(2)} MiB` : `${(n / 1024).toFixed(1)} KiB`
// Marks that could turn the rest of a line around, or that cannot be seen, are shown as dots.
const safe = text => text.replace(/\r\n?/g, "\n").replaceAll("\t", "⇥").replace(UNSEEN, "·").replaceAll("\ufffd", "▯")

function make(tag, name, text) {
  const element = document.createElement(tag)
  if (name) element.className = name
  if (text !== undefined) element.textContent = text
  return element
}

// One record for each token, from the runs and indices of the payload.
function unfold(d) {
  const tokens = d.order.map((v, i) => ({ index: d.first + i, id: d.vocab[v][0], text: d.vocab[v][1], shown: d.vocab[v][1], quiet: false }))
  const spread = (runs, set) => { let i = 0; for (const run of runs) for (let n = run.at(-1); n > 0; n--) set(tokens[i++], run) }
  spread(d.turns, (t, [turn, role]) => { t.turn = turn; t.role = role })
  spread(d.fates, (t, [fate, night]) => { t.fate = fate; t.night = night })
  let since = 0
  spread(d.since, (t, [step]) => { since += step; t.since = since + 1 })
  if (d.held) spread(d.held, (t, [held]) => { t.held = held })
  let i = 0
  for (const [position, n] of d.positions) for (let k = 0; k < n; k++) tokens[i++].position = position + k
  for (const q of d.quiet) tokens[q].quiet = true
  for (const [start, n, text] of d.whole) for (let k = 0; k < n; k++) {
    tokens[start + k].shown = k ? "" : text
    tokens[start + k].of = [text, n]
  }
  return tokens
}

class Talk {
  constructor(parent) {
    for (const name of ["talk", "legend", "said", "none", "jump", "tip"]) this[name] = parent.querySelector(`.${name}`)
    this.chips = []
    this.turns = new Map()
    this.byElement = new WeakMap()
    this.selected = this.asked = this.cursor = null
    this.none.textContent = NONE
    this.said.onclick = e => { const t = this.tokenOf(e); if (t) { e.preventDefault(); this.choose(t.index) } }
    this.said.onpointerover = e => this.point(this.tokenOf(e))
    this.said.onpointerleave = () => this.point(null)
    this.said.onscroll = () => { this.point(null); if (this.atEnd()) this.jump.hidden = true }
    this.said.onkeydown = e => this.keyed(e)
    this.jump.onclick = () => this.toEnd()
    this.deaf = answerAsked(() => this.d?.key, () => sheetOfTalk(this))
  }

  load(data) {
    const began = performance.now(), d = JSON.parse(textOf(data))
    const tokens = unfold(d), first = this.d === undefined, follow = first || this.atEnd()
    this.d = d
    this.talk.style.height = `${d.height}px`
    this.said.hidden = this.legend.hidden = tokens.length === 0
    this.none.hidden = tokens.length > 0
    const added = this.update(tokens, first)
    this.mark(this.selected)
    this.light(d.stretch)
    this.drawLegend()
    if (d.selected !== this.asked) { this.asked = d.selected; this.mark(d.selected); this.reveal(d.selected) }
    else if (follow) this.toEnd()
    else if (added) this.jump.hidden = false
    this.talk.dataset.told = d.selected ?? "" // what the server knows to be chosen
    Object.assign(this.said.dataset, { n: tokens.length, total: d.total, added, paintMs: (performance.now() - began).toFixed(1) })
  }

  // the words ------------------------------------------------------------------------------------------

  update(tokens, first) { // returns how many tokens are new
    const { chips } = this, shift = chips.length && tokens.length ? tokens[0].index - chips[0].token.index : 0
    const left = shift < 0 ? chips.length : Math.min(shift, chips.length)
    for (const chip of chips.splice(0, left)) this.remove(chip)
    let same = 0
    while (same < chips.length && same < tokens.length && this.sameToken(chips[same].token, tokens[same])) same++
    for (const chip of chips.splice(same)) this.remove(chip)
    for (let i = 0; i < same; i++) this.change(chips[i], tokens[i])
    const fresh = tokens.slice(same)
    if (fresh.length) for (const old of this.said.querySelectorAll(".fresh")) old.classList.remove("fresh")
    for (const token of fresh) chips.push(this.add(token, !first && fresh.length <= 200))
    for (const turn of this.turns.values()) this.finish(turn)
    this.tagNights()
    return fresh.length
  }

  tagNights() { // the first word of a turn that a night took over says which
    let before = ""
    for (const { token, element } of this.chips) {
      const night = token.fate === "weights" ? String(token.night) : "", place = `${token.turn} ${night}`
      const tag = night && !token.quiet && place !== before ? night : ""
      if (night && !token.quiet) before = place
      if (tag !== (element.dataset.night ?? "")) tag ? element.dataset.night = tag : delete element.dataset.night
    }
  }

  sameToken(a, b) { return a.index === b.index && a.id === b.id && a.text === b.text && a.turn === b.turn && a.quiet === b.quiet }

  turnOf({ turn, role }) {
    const known = this.turns.get(turn)
    if (known) return known
    const folded = role === "system", block = make(folded ? "details" : "section", `turn ${role in WHO ? role : ""}`)
    const who = block.appendChild(make(folded ? "summary" : "div", "who", WHO[role] ?? ""))
    const count = folded ? who.appendChild(make("span", "count")) : null
    const words = block.appendChild(make("div", "words"))
    const made = { turn, block, who, words, count, n: 0, rtl: 0, ltr: 0, changed: true }
    this.turns.set(turn, made)
    this.said.append(block)
    return made
  }

  finish(turn) { // direction and count, once a turn has got its tokens; a turn without any goes
    if (!turn.changed) return
    turn.changed = false
    if (turn.n === 0) { turn.block.remove(); this.turns.delete(turn.turn); return }
    turn.words.dir = turn.rtl > turn.ltr ? "rtl" : "ltr"
    if (turn.count) turn.count.textContent = ` · ${number(turn.n)} ${turn.n === 1 ? "token" : "tokens"}`
  }

  add(token, fresh) {
    const turn = this.turnOf(token), element = make("span", "chip"), chip = { token, element, turn, nodes: [element] }
    this.tally(turn, token, 1)
    this.byElement.set(element, chip)
    element.dataset.i = token.index
    if (fresh) element.classList.add("fresh")
    if (!token.quiet && /^ \S/.test(token.shown)) chip.nodes.unshift(document.createTextNode(" "))
    if (!token.quiet && token.shown.includes("\n")) chip.nodes.push(make("br"))
    this.write(chip)
    const opening = token.quiet && !turn.words.firstChild // what opens a turn stands beside the speaker's name
    ;(opening ? turn.who : turn.words).append(...chip.nodes)
    return chip
  }

  write({ token, element }) {
    const text = token.quiet ? "" : safe(/^ \S/.test(token.shown) ? token.shown.slice(1) : token.shown)
    const sign = text !== "" && !text.trim()
    element.textContent = sign ? text.replaceAll("\n", "⏎").replaceAll(" ", "␣") : text.replaceAll("\n", "⏎")
    element.classList.toggle("dot", token.quiet)
    element.classList.toggle("part", !token.quiet && text === "")
    element.classList.toggle("sign", sign)
    element.dataset.fate = token.fate
  }

  change(chip, token) {
    const { fate, shown } = chip.token
    chip.token = token
    if (shown !== token.shown) this.write(chip)
    else if (fate !== token.fate) chip.element.dataset.fate = token.fate
    if (fate !== token.fate) chip.element.classList.remove("fresh")
  }

  remove({ token, turn, nodes }) {
    this.tally(turn, token, -1)
    for (const node of nodes) node.remove()
  }

  tally(turn, token, by) {
    turn.n += by
    turn.rtl += by * count(token.text, RTL)
    turn.ltr += by * (token.quiet ? 0 : count(token.text, LTR))
    turn.changed = true
  }

  // around the words -----------------------------------------------------------------------------------

  drawLegend() {
    const { d } = this, fresh = [...this.said.querySelectorAll(".fresh")].filter((chip) => !isFolded(chip)).length, said = JSON.stringify([d.counts, d.cacheBytes, d.first, fresh])
    if (this.legendSays === said) return
    this.legendSays = said
    const items = FATES.map(([fate, words]) => {
      const item = make("span", "fate"), swatch = item.appendChild(make("i", "", "word"))
      swatch.dataset.fate = fate
      const size = fate === "cache" && d.cacheBytes ? ` · ${bytes(d.cacheBytes)}` : ""
      item.append(words, make("span", "count", `${number(d.counts[fate])}${size}`))
      if (size) item.title = "bytes of the KV cache: measured"
      return item
    })
    if (fresh) {
      const item = make("span", "fate")
      item.append(make("i", "fresh", "word"), "just came", make("span", "count", number(fresh)))
      items.push(item)
    }
    if (d.first > 0) items.push(make("span", "cut", `the last ${number(d.order.length)} of ${number(d.total)} tokens`))
    this.legend.replaceChildren(...items)
    const told = FATES.map(([fate, words]) => `${d.counts[fate]} ${words}`).join(", ")
    this.said.setAttribute("aria-label", `Transcript of ${d.total} tokens: ${told}. Left and right arrow keys walk from token to token.`)
  }

  describe(token) {
    const { d } = this, each = d.tokenBytes ?? token.held, size = each ? bytes(each) : null, text = token.text.trim() ? token.text : JSON.stringify(token.text)
    const event = `since event ${number(token.since)}`, held = size ? `: holds ${size} (derived)` : "", freed = size ? `; its ${size} of cache are free` : ""
    const fate = {
      cache: `in the KV cache ${event}${held}`,
      weights: `in the dynamic weights of night ${token.night} ${event}${freed}`,
      gone: d.waiting.includes(token.night) && !d.lost.some(([from, n]) => token.index >= from && token.index < from + n) ? `night ${token.night} is switched off ${event}: its weights wait` : token.night ? `gone ${event}, night ${token.night}: in no cache and in no weights` : `gone ${event}: in no cache and in no weights`,
    }[token.fate] ?? token.fate
    const lines = [token.quiet || !token.text.trim() ? safe(text) : `“${safe(text.trim() || text)}”`, `token ${number(token.id)} · position ${number(token.position)}`, fate]
    if (token.of) lines.splice(1, 0, `part of “${safe(token.of[0])}”, which takes ${token.of[1]} tokens`)
    if (token.quiet) lines.splice(1, 0, "written by the chat template")
    return lines
  }

  tokenOf(e) { return this.byElement.get(e.target.closest?.(".chip"))?.token ?? null }

  chipAt(index) { return index === null || !this.chips.length ? undefined : this.chips[index - this.chips[0].token.index] }

  point(token) {
    this.tip.hidden = !token
    this.talk.dataset.hover = token ? token.index : ""
    if (!token) return
    this.tip.replaceChildren(...this.describe(token).map(line => make("div", "", line)))
    const chip = this.chipAt(token.index).element.getClientRects()[0] ?? this.said.getBoundingClientRect(), around = this.talk.getBoundingClientRect()
    const { offsetWidth: w, offsetHeight: h } = this.tip, above = chip.top - around.top - h - 6
    const x = Math.max(0, Math.min(around.width - w, chip.left - around.left))
    this.tip.style.transform = `translate(${x}px, ${above >= 0 ? above : chip.bottom - around.top + 6}px)`
  }

  mark(index) {
    this.chipAt(this.selected)?.element.classList.remove("selected")
    this.selected = index
    this.chipAt(index)?.element.classList.add("selected")
    this.talk.dataset.selected = index ?? ""
  }

  light(stretch) { // what the chosen token stands for
    if (!stretch && !this.lit) return
    this.lit = stretch
    this.said.classList.toggle("filtered", !!stretch)
    for (const { token, element } of this.chips) element.classList.toggle("lit", !!stretch && token.index >= stretch[0] && token.index <= stretch[1])
  }

  choose(index) {
    this.cursor = index
    this.asked = index
    this.light(null)
    this.mark(index)
    this.tell(index)
  }

  reveal(index) {
    const element = this.chipAt(index)?.element, { said } = this
    if (!element) return
    const folded = element.closest("details")
    if (folded) folded.open = true
    const at = element.getBoundingClientRect(), frame = said.getBoundingClientRect()
    if (at.top < frame.top || at.bottom > frame.bottom) said.scrollTop += at.top - frame.top - frame.height / 3
  }

  keyed(e) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key], low = this.chips[0]?.token.index, high = this.chips.at(-1)?.token.index
    if (low === undefined || e.ctrlKey || e.metaKey || e.altKey || e.target !== this.said) return
    if (e.key === "Enter" && this.cursor !== null) this.choose(this.cursor)
    else if (step) this.walk(this.cursor === null ? (step > 0 ? low : high) : Math.max(low, Math.min(high, this.cursor + step)))
    else return
    e.preventDefault()
    e.stopPropagation()
  }

  walk(index) {
    this.chipAt(this.cursor)?.element.classList.remove("cursor")
    this.cursor = index
    const chip = this.chipAt(index)
    chip.element.classList.add("cursor")
    this.reveal(index)
    requestAnimationFrame(() => requestAnimationFrame(() => this.point(chip.token))) // after the scroll event
  }

  atEnd() { return this.said.scrollHeight - this.said.scrollTop - this.said.clientHeight < 40 }

  toEnd() { this.said.scrollTop = this.said.scrollHeight; this.jump.hidden = true }
}

export default function ({ data, parentElement, setTriggerValue }) {
  let talk = TALKS.get(parentElement)
  if (!talk?.said.isConnected) { talk?.deaf(); talk = new Talk(parentElement); TALKS.set(parentElement, talk) }
  talk.tell = index => setTriggerValue("token", index)
  talk.load(data)
  return () => { talk.deaf(); TALKS.delete(parentElement) }
}
