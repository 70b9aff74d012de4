"""Splitting a long text. The same text always splits the same way, so that a delivery that was interrupted goes on after
the parts that arrived."""


def split(text: str, characters_max: int) -> list[str]:
    """Splits at a line or a space where there is one in the second half of a part."""
    parts = []
    rest = text.strip()
    while len(rest) > characters_max:
        half = characters_max // 2
        borders = (rest.rfind(border, half, characters_max) for border in ("\n", " "))
        end = next((border for border in borders if border > 0), characters_max)
        parts.append(rest[:end].strip())
        rest = rest[end:].strip()
    return parts + [rest] if rest else parts
