"""The server's settings: command line, environment (``FORETHOUGHT_*``), config file, defaults.

The first that names a setting wins, in this order; ``settings_sources`` reads them. The config
file is TOML, with the names below at its top level. Secrets are never shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from forethought.api.upstream_settings import (
    MAX_RETRIES,
    Api,
    NamedUpstreamSettings,
    UpstreamName,
    keeps_responses,
    speaks_anthropic,
)
from forethought.router.allocation import Preferences
from forethought.router.budget import RESERVE_TOKENS
from forethought.router.exploration import ExplorationKind
from forethought.router.incoming import AUTO
from forethought.router.log.store import database_url
from forethought.router.model_names import placed
from forethought.router.pacing import DAY_S
from forethought.router.pricing import Prices
from forethought.router.records import SleepLevel
from forethought.router.tiers import LEVELS

ENV_PREFIX = "FORETHOUGHT_"
DEFAULT_MODEL = "qwen2.5-coder-1.5b"

MAX_LEVEL: Final = 10
"""Of a sleep level's drafts and rounds: the most that the paper and bench/recorded tried."""

Mode = Literal["value_usd", "quality_floor", "budget_usd"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
"""What can configure a policy; exactly one of them does."""

TWO_MODES: Final = "two_modes"
NO_DEFAULT: Final = "no_default_upstream"


class ModelPrices(BaseModel):
    """USD per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: NonNegativeFloat
    output: NonNegativeFloat
    cached_input: NonNegativeFloat | None = None
    cache_write: NonNegativeFloat | None = None
    cache_write_1h: NonNegativeFloat | None = None

    def as_prices(self) -> Prices:
        cached = self.input if self.cached_input is None else self.cached_input
        return Prices(
            input=self.input,
            cached_input=cached,
            output=self.output,
            cache_write=self.cache_write,
            cache_write_1h=self.cache_write_1h,
        )


class Settings(BaseSettings):
    """All settings. ``_s``, ``_usd``, ``_bytes`` in a name are its unit."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
    )
    given_by_file: ClassVar[Mapping[str, Any]] = {}
    """What the config file says; see ``settings_sources``."""

    host: str = "127.0.0.1"
    port: int = Field(default=8300, ge=0, le=65535)
    data_dir: Path = Path(".forethought")
    database_url: SecretStr | None = None
    """Postgres' URL, or another SQLite file than the one in the data folder."""

    model: str | None = None
    """Embedded: a model of the catalogue or a .gguf file. Else what forethought/auto stands for."""
    model_aliases: dict[str, str] = Field(default_factory=dict)
    """The upstream's models, or other aliases, by the names that clients may use for them."""
    fallbacks: tuple[str, ...] = ()
    """Models, of any upstream, or aliases, that are asked in turn where one fails."""
    upstreams: dict[UpstreamName, NamedUpstreamSettings] = Field(default_factory=dict)
    """Upstreams by name; their models are called name/model. Beside the one of upstream_base_url;
    without that, the one of model takes the models that name none."""
    upstream_base_url: str | None = None
    upstream_api: Api | None = None
    """What the upstream speaks; None: Anthropic's API at its own address, OpenAI's elsewhere."""
    upstream_responses: bool | None = None
    """Whether the upstream keeps responses (/v1/responses); None: at OpenAI's own address."""
    upstream_paths: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], ...] = (
        "audio",
        "images",
        "moderations",
    )
    """Paths below /v1 that pass on as they are, by their first part, where nothing of ours is."""
    upstream_api_key: SecretStr | None = None
    upstream_connect_timeout_s: PositiveFloat = 5.0
    upstream_first_token_timeout_s: PositiveFloat = 600.0
    upstream_between_tokens_timeout_s: PositiveFloat = 600.0
    upstream_timeout_s: PositiveFloat = 1800.0
    """For all of a reply, streamed or whole."""
    upstream_max_retries: int = Field(default=2, ge=0, le=MAX_RETRIES)
    upstream_cache_prefix: bool = False
    """Anthropic: mark the stable prefix for its prompt cache where the client did not."""
    stream_usage: bool = True
    """Ask streams for their usage where the client did not; some servers do not know that."""
    native_effort: bool | None = None
    """Whether the model takes reasoning_effort itself; None: by its name."""

    parallel: PositiveInt = 4
    n_ctx: int = Field(default=16_384, ge=512)
    threads: PositiveInt | None = None

    value_usd: NonNegativeFloat | None = None
    """Worth of a right answer. The default where neither this, quality_floor nor budget_usd is
    given: ``Preferences.value_usd``."""
    quality_floor: float | None = Field(default=None, ge=0, le=1)
    """The cheapest strategy that holds it is taken."""
    budget_usd: PositiveFloat | None = None
    """Of a period: the best answers that fit."""
    budget_period_s: PositiveFloat = DAY_S
    budget_hard: bool = True
    """Refuse what could exceed the budget; else it is only aimed at."""
    budget_reserve_tokens: PositiveInt = RESERVE_TOKENS
    """Taken to be the longest answer of a request that sets no limit."""
    latency_usd_per_s: NonNegativeFloat = 0.00002
    quality_margin: float | None = Field(default=None, ge=0, le=1)
    """None: that of ``Preferences`` where a value is given; no bound under a budget, which the
    cheaper strategies have to be able to hold."""
    max_latency_ms: PositiveFloat | None = None
    """A strategy is a candidate if nine answers in ten are expected within it."""
    exploration: float = Field(default=0.05, ge=0, le=1)
    exploration_kind: ExplorationKind = "epsilon"
    """How the rest of the probability is shared: all to the best, softmax, or Thompson sampling."""
    exploration_temperature_usd: PositiveFloat = 0.0001
    """Of softmax: what is so much worse in utility is chosen e times less often."""
    blending: bool = True
    """Whether a tenant's own graded answers move what the policy predicts for it."""
    trust: float = Field(default=0.5, gt=0, le=1)
    seed: int | None = None
    """Seeds exploration, for reproducible runs."""

    surprisal: Literal["off", "after", "ahead"] = "off"
    """Whether a language model is asked how unlikely each query is: one more call, which reads the
    context. After the reply, for what is known of the context; ahead, for the decision itself."""

    recall: bool = False
    """Whether a note's answer may be the reply, without asking the model."""

    sleep: Literal["auto", "off", "always"] = "auto"
    sleep_drafts: int = Field(default=3, ge=1, le=MAX_LEVEL)
    sleep_rounds: int = Field(default=1, ge=1, le=MAX_LEVEL)
    sleep_levels: tuple[str, ...] = Field(
        default=tuple(level.name for level in LEVELS), min_length=1, max_length=10
    )
    """What sleep auto chooses from; always, and a sleep that is asked for, take the two above."""
    sleep_tiers: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """Service tiers that sleep may ask for beside the standard one, each with how many seconds
    later a sleep is ready. Name only those that the upstream takes as service_tier."""
    sleep_concurrency: PositiveInt = 1
    sleep_price_multiplier: PositiveFloat = 1.0
    """What a sleep token costs against the list price: 0.5 where sleep uses batch prices."""

    prices: dict[str, ModelPrices] = Field(default_factory=dict)
    tier_multipliers: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """Prices by service tier, as multiples of the standard ones; else list prices count."""
    api_keys: dict[str, str] | None = Field(default=None, repr=False)
    """Tenants by API key; None: no key is needed, and each key is a tenant of its own."""

    max_body_bytes: PositiveInt = 32 * 2**20
    log_text: bool = True
    policy_poll_s: PositiveFloat = 1.0

    retrain_every_h: PositiveFloat | None = None
    """How often a new policy is trained from the log, and promoted if the gate says so."""
    retrain_options: list[str] = Field(default_factory=list)
    """Further options of ``forethought train`` on schedule, such as --tune-minutes=5."""
    drift_every_h: PositiveFloat | None = None
    """How often the log is checked for drift; a policy that is wrong is taken back."""

    @field_validator("api_keys")
    @classmethod
    def _not_empty(cls, keys: dict[str, str] | None) -> dict[str, str] | None:
        if keys is not None and (not keys or not all(keys) or not all(keys.values())):
            message = "needs at least one key, each with the name of its tenant"
            raise ValueError(message)
        return keys

    @field_validator("model_aliases")
    @classmethod
    def _lead_to_models(cls, aliases: dict[str, str]) -> dict[str, str]:
        for name, model in aliases.items():
            _check_name(name)
            _check_name(model)
            if name == AUTO:
                message = f"what {AUTO} stands for is said by the setting model"
                raise ValueError(message)
            way = [name]
            while way[-1] in aliases:
                way.append(aliases[way[-1]])
                if way[-1] in way[:-1]:
                    message = f"they go round in a circle: {' -> '.join(way)}"
                    raise ValueError(message)
        return aliases

    @field_validator("fallbacks")
    @classmethod
    def _are_models(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            _check_name(name)
            if name == AUTO:
                message = f"they are named one by one, {AUTO} is none"
                raise ValueError(message)
        return names

    @field_validator("sleep_levels")
    @classmethod
    def _are_levels(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            level = SleepLevel.named(name)
            if level.drafts > MAX_LEVEL or level.rounds > MAX_LEVEL:
                message = f"drafts and rounds go up to {MAX_LEVEL}, so not {name}"
                raise ValueError(message)
        return names

    @model_validator(mode="after")
    def _one_mode(self) -> Self:
        given = [name for name in MODES if getattr(self, name) is not None]
        if len(given) > 1:
            raise PydanticCustomError(
                TWO_MODES, "{given} exclude each other", {"given": " and ".join(given)}
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        file_settings = InitSettingsSource(settings_cls, init_kwargs=dict(cls.given_by_file))
        return (init_settings, env_settings, file_settings)

    @model_validator(mode="after")
    def _a_default_upstream(self) -> Self:
        if not self.upstreams or self.upstream_base_url is not None or self.default_upstream:
            return self
        raise PydanticCustomError(
            NO_DEFAULT,
            "of several upstreams one has to take the models that name none",
            {"given": ", ".join(self.upstreams)},
        )

    @property
    def default_upstream(self) -> str:
        """The name of the upstream that takes models which name none; "" where it has no name."""
        if self.upstream_base_url is not None or not self.upstreams:
            return ""
        only = next(iter(self.upstreams)) if len(self.upstreams) == 1 else ""
        return placed(self._unaliased(self.model or ""), self.upstreams, only)[0]

    def resolved(self, name: str) -> str:
        """The model that an alias stands for in the end, with its upstream in front."""
        name = self._unaliased(name)
        return name if name == AUTO else self.placed(name)

    def placed(self, model: str) -> str:
        """``model`` with its upstream in front, where that has a name."""
        upstream, own = placed(model, self.upstreams, self.default_upstream)
        return f"{upstream}/{own}" if upstream else own

    def _unaliased(self, name: str) -> str:
        while name in self.model_aliases:
            name = self.model_aliases[name]
        return name

    @property
    def embedded(self) -> bool:
        """Whether the model runs in a child process of the server."""
        return self.upstream_base_url is None and not self.upstreams

    @property
    def speaks_anthropic(self) -> bool:
        """Whether the upstream without a name is asked by Anthropic's Messages API."""
        url = self.upstream_base_url
        return url is not None and speaks_anthropic(url, self.upstream_api)

    @property
    def native_responses(self) -> bool:
        """Whether requests that have to be remembered pass on to the upstream without a name."""
        if self.upstream_base_url is None:
            return bool(self.upstream_responses)
        return keeps_responses(self.upstream_base_url, self.upstream_responses)

    @property
    def store_url(self) -> str:
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return str(self.data_dir / "forethought.sqlite")

    @property
    def shares_its_store(self) -> bool:
        """Whether other servers can have the same log and sleep's jobs.

        Raises:
            StoreError: ``database_url`` is none that is known.
        """
        return database_url(self.store_url).get_backend_name() == "postgresql"

    @property
    def sleep_store_url(self) -> str:
        """Sleep's jobs: in the log's database where servers can share that."""
        if self.shares_its_store:
            return database_url(self.store_url).render_as_string(hide_password=False)
        return f"sqlite:///{(self.data_dir / 'sleep.sqlite').absolute()}"

    @property
    def shown_store(self) -> str:
        """Where the log is, without a password."""
        if self.database_url is None:
            return self.store_url
        url = self.database_url.get_secret_value()
        scheme, separator, rest = url.rpartition("://")
        return f"{scheme}{separator}{rest.rpartition('@')[2]}"

    @property
    def mode(self) -> Mode:
        """Which of the three settings configures the policy."""
        for name in MODES:
            if getattr(self, name) is not None:
                return name
        return "value_usd"

    @property
    def preferences(self) -> Preferences:
        common: dict[str, Any] = {
            "latency_usd_per_s": self.latency_usd_per_s,
            "exploration": self.exploration,
            "exploration_kind": self.exploration_kind,
            "temperature_usd": self.exploration_temperature_usd,
            "max_latency_ms": self.max_latency_ms,
            "trust": self.trust,
        }
        if self.quality_floor is not None:
            return Preferences.with_floor(self.quality_floor, **common)
        default = Preferences()
        margin = default.quality_margin if self.budget_usd is None else 1.0
        return Preferences(
            # Under a budget only its ratio to the price of a wait counts.
            value_usd=default.value_usd if self.value_usd is None else self.value_usd,
            quality_margin=margin if self.quality_margin is None else self.quality_margin,
            **common,
        )

    @property
    def sleep_level(self) -> SleepLevel:
        return SleepLevel(drafts=self.sleep_drafts, rounds=self.sleep_rounds)

    @property
    def auto_levels(self) -> tuple[SleepLevel, ...]:
        """What sleep auto chooses from, the smallest first."""
        levels = {SleepLevel.named(name) for name in self.sleep_levels}
        return tuple(sorted(levels, key=lambda level: (level.drafts * level.rounds, level.name)))

    @property
    def tenants(self) -> Mapping[str, str] | None:
        """Tenants by the sha256 of their key; None where no key is needed."""
        if self.api_keys is None:
            return None
        return {hashlib.sha256(k.encode()).hexdigest(): t for k, t in self.api_keys.items()}


def _check_name(name: str) -> None:
    if not name.strip():
        message = "a model's name is empty"
        raise ValueError(message)
