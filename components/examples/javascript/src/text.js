// UTF-8, which QuickJS has no objects for, and splitting.

export const utf8 = {
  encode(text) {
    const bytes = [];
    for (const character of text.toWellFormed()) {
      const code = character.codePointAt(0);
      if (code < 0x80) bytes.push(code);
      else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 63));
      else if (code < 0x10000) bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
      else bytes.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 63), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
    }
    return new Uint8Array(bytes);
  },
  decode(bytes) {
    let escaped = "";
    for (const byte of bytes) escaped += "%" + byte.toString(16).padStart(2, "0");
    return decodeURIComponent(escaped);
  },
};

// Splits a text into parts of at most so many bytes, at a line or a space where there is one in the second half of a part.
// The same text always splits the same way: a delivery that was interrupted goes on after the parts that arrived.
export function split(text, bytesMax) {
  const parts = [];
  let rest = [...text.trim()];
  while (rest.length > 0) {
    let end = 0;
    for (let bytes = 0; end < rest.length; end++) {
      bytes += utf8.encode(rest[end]).length;
      if (bytes > bytesMax) break;
    }
    if (end < rest.length) {
      const line = rest.lastIndexOf("\n", end);
      const space = rest.lastIndexOf(" ", end);
      end = line > end / 2 ? line : space > end / 2 ? space : end;
    }
    const part = rest.slice(0, end).join("").trim();
    if (part !== "") parts.push(part);
    rest = rest.slice(end);
  }
  return parts;
}
