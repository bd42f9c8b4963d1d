// Words alone travel as UTF-8 JSON, of which this is the text: what `packing.as_json` packs.
function textOf(data) {
  return new TextDecoder().decode(data instanceof Uint8Array ? data : new Uint8Array(data))
}
