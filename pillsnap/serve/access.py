"""Who is answered: holders of the API key, or without one clients on this machine alone."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping

from pillsnap.serve.refusal import Refusal

# What a proxy adds: behind one every client would pass for local.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


def require_access(key: str | None, client: str | None, headers: Mapping[str, str]) -> None:
    """Let a request pass, or refuse it.

    Args:
        key: API_KEY; None or "" where there is none.
        client: the peer's address.
        headers: of the request, by lower-case name.

    Raises:
        Refusal: 401 for a missing or wrong key; 403 for a client that is not local where there is
            no key.
    """
    if key:
        given = headers.get("x-api-key")
        # Headers arrive as latin-1; compared as bytes, in a time that tells nothing.
        if given is None or not hmac.compare_digest(given.encode("latin-1"), key.encode()):
            raise Refusal(401, "the header X-API-Key is missing or wrong")
        return
    # A web page on this machine may be anybody's; browsers say whose it is.
    names = [headers.get("host", "")]
    names += [headers["origin"].partition("://")[2]] if "origin" in headers else []
    is_local = _is_loopback(client) and all(_is_local_name(name) for name in names)
    if not is_local or any(name in headers for name in _FORWARDED):
        raise Refusal(403, "without API_KEY in its environment the service answers loopback alone")


def _is_loopback(client: str | None) -> bool:
    try:
        address = ipaddress.ip_address(client or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _is_local_name(host: str) -> bool:
    """Whether a Host header means this machine: a web page that rebinds its name does not."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return name == "localhost" or _is_loopback(name.strip("[]"))
