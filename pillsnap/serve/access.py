"""Who is answered: holders of the API key, or without one clients on this machine alone."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from pillsnap.core.errors import ConfigError
from pillsnap.serve.refusal import Refusal

# What proxies, tunnels and networks of delivery add: behind one every client would pass for local.
_FORWARDED = frozenset(
    (
        *("forwarded", "forwarded-for", "forwarded-for-ip", "x-forward-for", "x-forwarded"),
        *("via", "cdn-loop", "max-forwards", "proxy-connection", "surrogate-capability"),
        *("client-ip", "proxy-client-ip", "real-ip", "remote-addr", "remote-ip", "true-client-ip"),
        *("x-client-ip", "x-cluster-client-ip", "x-coming-from", "x-imforwards"),
        *("x-originating-ip", "x-proxyuser-ip", "x-real-ip", "x-remote-addr", "x-remote-ip"),
        *("x-host", "x-original-host", "x-original-uri", "x-original-url", "x-rewrite-url"),
        *("x-true-client-ip", "front-end-https", "x-scheme", "x-url-scheme", "x-varnish"),
        *("x-nf-client-connection-ip", "x-sucuri-clientip"),
    )
)
_FORWARDED_STARTS = (
    *("x-forwarded-", "x-original-forwarded-", "x-proxy-", "x-ssl-", "ssl-client-", "wl-proxy-"),
    *("akamai-", "cf-", "cloudfront-", "fastly-", "fly-", "ngrok-", "tailscale-", "x-akamai-"),
    *("x-amz-cf-", "x-appengine-", "x-arr-", "x-azure-", "x-envoy-", "x-haproxy-", "x-vercel-"),
)

# Of a browser: a page of this machine asks, or its user has typed the address.
_OWN_SITES = ("same-origin", "same-site", "none")


def read_key(environ: Mapping[str, str]) -> str | None:
    """API_KEY, without the white space around it, which no header could carry; None if it is unset.

    Raises:
        ConfigError: it is empty, which would open the service, or holds what no header can.
    """
    key = environ.get("API_KEY")
    if key is None:
        return None
    key = key.strip(" \t\r\n")
    if key and not any(letter < " " or letter == "\x7f" for letter in key):
        return key
    raise ConfigError(
        "API_KEY holds characters that no client can send" if key else "API_KEY is set and empty",
        where="environment variable API_KEY, or .env",
        got="a control character" if key else "no key",
        expected="one line of text",
        hint="give it a key, or unset it to answer clients on this machine alone",
    )


def require_access(
    key: str | None,
    client: str | None,
    headers: Mapping[str, str],
    *,
    server: Sequence[Any] | None = None,
) -> None:
    """Let a request pass, or refuse it.

    Args:
        key: read_key's; None or "" where there is none.
        client: the peer's address; None where it has none.
        headers: of the request, by lower-case name.
        server: what was connected to, as ASGI's scope says it: host and port, or path and None.

    Raises:
        Refusal: 401 for a missing or wrong key; 403 for a client that is not local where there is
            no key.
    """
    if key:
        # Headers arrive as latin-1, variables that are not UTF-8 with surrogates; compared as
        # bytes, in a time that tells nothing.
        wanted = key.encode(errors="surrogateescape")
        given = [each.encode("latin-1") for each in _given_keys(headers)]
        if not any([hmac.compare_digest(each, wanted) for each in given]):
            raise Refusal(
                401, "the header X-API-Key, or Authorization: Bearer, is missing or wrong"
            )
        return
    # A web page on this machine may be anybody's; browsers say whose it is.
    names = [headers.get("host", "")]
    names += [headers["origin"].partition("://")[2]] if "origin" in headers else []
    is_local = _is_local_peer(client, server) and all(_is_local_name(name) for name in names)
    is_own = headers.get("sec-fetch-site", "none") in _OWN_SITES
    is_proxied = any(
        name in _FORWARDED or name.startswith(_FORWARDED_STARTS) for name in map(str.lower, headers)
    )
    if is_proxied or not (is_local and is_own):
        raise Refusal(
            403, "without API_KEY in its environment the service answers this machine alone"
        )


def _given_keys(headers: Mapping[str, str]) -> list[str]:
    """What a client shows: scrapers and gateways mostly know the header Authorization alone."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    bearer = [token.strip()] if scheme.lower() == "bearer" else []
    return bearer + ([headers["x-api-key"]] if "x-api-key" in headers else [])


def _is_local_peer(client: str | None, server: Sequence[Any] | None) -> bool:
    """Whether who asks is on this machine: an address of loopback, or the other end of a Unix
    socket, which has none."""
    if client:
        return _is_loopback(client)
    return server is not None and server[1] is None


def _is_loopback(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _is_local_name(host: str) -> bool:
    """Whether a Host header means this machine: a web page that rebinds its name does not."""
    if _is_loopback(host):  # an IPv6 address without its brackets ends like a port
        return True
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return name.lower() == "localhost" or _is_loopback(name.strip("[]"))
