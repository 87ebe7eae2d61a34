"""What must be known of an engine before it is opened: all of it stands in its entry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pillsnap.config.settings import Config
from pillsnap.core.errors import ConfigError
from pillsnap.core.modelfiles import EXPORTED
from pillsnap.core.packages import PACKAGES, installed
from pillsnap.engines.protocol import Engine, FindFile, ModelFile, Reference, Request


@dataclass(frozen=True)
class Entry:
    """An engine. Errors of its functions are PillsnapError; EngineMissing and MissingCheckpoint
    skip the item, every other fails it.

    Attributes:
        name: what `--engine` takes.
        open: a candidate for a request. It may import then. The file is found, or made, when it is
            asked for: refuse first what cannot run here.
        reference: what its candidates are compared with; None for the checkpoint on torch.
        require: raises EngineMissing where the engine cannot be used, before anything is opened.
        packages: distributions that the report names versions of, by the name there; one of several
            is to be installed.
        suffixes: of the files that it opens; without EXPORTED it takes no candidate.
        providers: names that `--provider` takes for it. One alone goes without saying.
        gpu: of the providers, those whose models lie in the memory of an NVIDIA GPU.
        diagnosed: whether ONNX Runtime can stand for it where a breach is explained.
        use: a file of a precision opened to be run after the gate, on a provider and with so many
            threads; None where only the gate runs it.
        reported: what reports may name a provider of it, as `info["providers"]` does.
    """

    name: str
    open: Callable[[Request, FindFile], Engine]
    reference: Callable[[Request], Reference] | None = None
    require: Callable[[], None] = lambda: None
    packages: Mapping[str, Sequence[str]] = field(default_factory=dict)
    suffixes: Sequence[str] = (EXPORTED,)
    providers: Sequence[str] = ("auto", "cpu")
    gpu: Sequence[str] = ()
    diagnosed: bool = False
    use: Callable[[ModelFile, str, str, int, Config], Engine] | None = None
    reported: Callable[[str], Sequence[str]] = lambda provider: (provider,)

    @property
    def takes_exports(self) -> bool:
        return EXPORTED in self.suffixes

    @property
    def only_provider(self) -> str | None:
        return self.providers[0] if len(self.providers) == 1 else None

    def providers_of(self, asked: Iterable[str]) -> tuple[str, ...]:
        """The providers of its cells where these are asked for."""
        return tuple(asked) if self.only_provider is None else (self.only_provider,)


_entries: dict[str, Entry] = {}


def register(entry: Entry) -> None:
    """Add an engine, or put it in the place of the one of its name."""
    _entries[entry.name] = entry


def entries() -> tuple[Entry, ...]:
    """Every engine, in order of registration."""
    return tuple(_entries.values())


def engine_names() -> tuple[str, ...]:
    """Names that `--engine` takes, in order of registration."""
    return tuple(_entries)


def provider_names() -> tuple[str, ...]:
    """Names that `--provider` takes for one engine or another."""
    return tuple(dict.fromkeys(name for each in entries() for name in each.providers))


def find_entry(name: str) -> Entry:
    """The engine of that name; raises ConfigError with the choices."""
    if name not in _entries:
        raise ConfigError(
            "there is no such engine",
            where="--engine",
            got=name,
            expected=", ".join(engine_names()),
        )
    return _entries[name]


def gpu_providers(engines: Iterable[str], providers: Iterable[str]) -> set[str]:
    """Providers that models would lie on a GPU by; engines that there are not have none."""
    chosen = [_entries[name] for name in engines if name in _entries]
    return {name for each in chosen for name in each.providers_of(providers) if name in each.gpu}


def package_versions(*names: str) -> dict[str, str | None]:
    """Versions of the packages of that name, else of the gate's and every engine's; None where one
    is not installed, all of them where several distributions of one are."""
    found = {name: " and ".join(each.values()) for name, each in package_sources(*names).items()}
    return {name: versions or None for name, versions in found.items()}


def package_sources(*names: str) -> dict[str, dict[str, str]]:
    """The same by distribution: of each package the versions of those that are installed."""
    known = dict(PACKAGES)
    for each in entries():
        known |= each.packages
    return {name: installed(known[name]) for name in names or known}
