"""The printable alphabet in which byte-level BPE writes its tokens (GPT-2, Qwen2, Llama 3)."""


def byte_of_character() -> dict[str, int]:
    """Return the byte that each of the 256 letters of the alphabet stands for.

    Printable Latin-1 bytes stand for themselves, the others get the code points from 256 on, in order.
    """
    printable = {
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    }
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(256 + index): byte for index, byte in enumerate(others)}
