// Calls this component's part of the page's one script, now or as soon as that has come.
export default function (component) {
  const code = globalThis.sleepvizCode ??= { parts: null, waiting: new Map() }
  const { parentElement } = component
  let close
  const dress = (sheet) => {
    const worn = parentElement.getRootNode().adoptedStyleSheets
    if (!worn) requestAnimationFrame(() => parentElement.isConnected && dress(sheet)) // not yet in its place
    else if (!worn.includes(sheet)) worn.push(sheet)
  }
  const show = () => {
    const part = code.parts["NAME"]
    dress(part.sheet)
    close = part.show(component)
  }
  if (code.parts) show()
  else code.waiting.set(parentElement, show)
  return () => { code.waiting.delete(parentElement); close?.() }
}
