"""Secrets that are planted in files, and where they are found again: in plain, in other codings, and inside of what is compressed."""
import base64, gzip, io, re, zipfile, zlib
from pathlib import Path


def codings(secret): # What a secret looks like: name -> bytes
    found = {"plain": secret.encode(), "utf-16": secret.encode("utf-16-le"), "utf-32": secret.encode("utf-32-le"), "hex": secret.encode().hex().encode()}
    for at in range(3): # base64 depends on where it begins
        text = base64.b64encode(b"x"*at + secret.encode())
        found[f"base64 from {at}"] = text[[0, 2, 3][at]:len(text) - 4 if len(text) > 8 else len(text)]
    return found


def contents(data, depth=0): # Bytes of a file, and all that is packed within
    "All that stands in some bytes: themselves, and what they hold compressed, as data of a page, or in a table."
    yield data
    if depth > 3: return
    if data[:2] == b"PK":
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as z:
                for name in z.namelist(): yield name.encode(); yield from contents(z.read(name), depth + 1)
        except zipfile.BadZipFile: pass
    if data[:4] == b"PAR1":
        import pyarrow.parquet as pq
        table = pq.read_table(io.BytesIO(data))
        yield str(table.schema).encode() + str(table.schema.metadata).encode()
        for c in table.column_names: yield "\n".join(map(str, table[c].to_pylist())).encode()
    if data[:6] == b"\x93NUMPY": yield from _inflated(data, depth)
    if data[:4] == b"\x89PNG": yield from _inflated(data, depth)
    if data[:2] == b"\x1f\x8b":
        try: yield from contents(gzip.decompress(data), depth + 1)
        except (OSError, EOFError, zlib.error): pass
    for m in re.finditer(rb";base64,([A-Za-z0-9+/=]{16,})", data): yield from contents(base64.b64decode(m[1] + b"==="), depth + 1)
    for m in re.finditer(rb'"([A-Za-z0-9+/=]{200,})"', data): yield from contents(base64.b64decode(m[1] + b"==="), depth + 1)


def _inflated(data, depth): # A zlib stream may begin anywhere
    for m in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", data):
        try: yield from contents(zlib.decompressobj().decompress(data[m.start():], 50_000_000), depth + 1)
        except zlib.error: pass


def found_in(data, secrets, name=""): # [(where, secret, coding)]
    parts = list(contents(data))
    return [(name, s, how) for s in secrets for how, code in codings(s).items() if any(code in p or code.lower() in p.lower() for p in parts)]


def found_below(folder, secrets): # Every file's name and content; and how many bytes were read
    found, read = [], 0
    for f in sorted(Path(folder).rglob("*")):
        found += [(str(f), s, "file name") for s in secrets if s in f.name]
        if f.is_file() and not f.is_symlink(): data = f.read_bytes(); read += sum(map(len, contents(data))); found += found_in(data, secrets, str(f))
    return found, read
