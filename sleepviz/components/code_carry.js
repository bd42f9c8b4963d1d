// The code of all components, once for the page: what is there in this version already stays, with its state.
const code = globalThis.sleepvizCode ??= { parts: null, waiting: new Map() }

function parts() {
  const found = PARTS
  for (const part of Object.values(found)) {
    part.sheet = new CSSStyleSheet()
    part.sheet.replaceSync(part.css)
  }
  return found
}

if (code.version !== "VERSION") {
  code.version = "VERSION"
  code.parts = parts()
  const waiting = [...code.waiting.values()]
  code.waiting.clear()
  waiting.forEach((show) => show())
}

export default function ({ parentElement }) { // it shows nothing, and takes no room
  parentElement.getRootNode().host?.closest("[data-testid=stElementContainer]")?.style.setProperty("position", "absolute")
}
