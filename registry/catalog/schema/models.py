"""Tables of names: namespaces, teams, models with their tags, cards and former names."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    literal_column,
)

from registry.catalog.schema.base import (
    after_making,
    changed,
    deleted,
    fact,
    live_index,
    made,
    metadata,
    one_of,
    within,
)
from registry.domain.roles import LEVELS
from store.index.partial import only

DEFAULT_NAMESPACE_ID: Final = "nsp_00000000000000000000000000"
"""Where models of one segment live; it is there from the beginning."""

_DEFAULT_NAMESPACE: Final = (
    "INSERT INTO namespaces (id, slug, folded, owner_kind, owner, visibility, description, "
    "created_at, created_by, updated_at) VALUES ('nsp_00000000000000000000000000', 'default', "
    "'default', 'user', 'usr_local', 'private', '', 0, 'usr_local', 0)"
)

namespaces = Table(
    "namespaces",
    metadata,
    Column("id", Text, primary_key=True),
    # The first segment of its models' names as written by whoever came first.
    Column("slug", Text, nullable=False),
    Column("folded", Text, nullable=False, unique=True),
    Column("owner_kind", Text, nullable=False),
    Column("owner", Text, nullable=False),
    # What a new model in it gets.
    Column("visibility", Text, nullable=False),
    Column("description", Text, nullable=False),
    # NULL: no quota.
    Column("quota_bytes", BigInteger),
    *made(),
    *changed(),
    # How many versions its models may have, and how many pins the user of its name; NULL: any.
    Column("quota_versions", BigInteger, CheckConstraint("quota_versions >= 0")),
    Column("quota_pins", BigInteger, CheckConstraint("quota_pins >= 0")),
    within("slug", 96, "namespace_slug", least=1),
    one_of("owner_kind", ("user", "team"), "namespace_owner_kind"),
    one_of("visibility", LEVELS, "namespace_visibility"),
    within("description", 4096, "namespace_description"),
    CheckConstraint("quota_bytes >= 0", name="namespace_quota"),
    sqlite_with_rowid=False,
)

# Which namespaces a level opens.
Index("namespaces_by_visibility", namespaces.c.visibility, namespaces.c.folded)

after_making(namespaces, _DEFAULT_NAMESPACE)

teams = Table(
    "teams",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("folded", Text, nullable=False),
    Column("department", Text, nullable=False),
    Column("cost_center", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("active", Integer, nullable=False),
    *made(),
    *changed(),
    *deleted(),
    within("name", 96, "team_name", least=1),
    within("department", 200, "team_department"),
    within("cost_center", 200, "team_cost_center"),
    within("description", 4096, "team_description"),
    fact("active", "team_active"),
    CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name="team_deleted"),
    sqlite_with_rowid=False,
)
live_index("teams_by_name", teams.c.folded, unique=True)

models = Table(
    "models",
    metadata,
    Column("id", Text, primary_key=True),
    # As written by whoever created it; `folded` is what must be unique while the model lives.
    Column("name", Text, nullable=False),
    Column("folded", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("visibility", Text, nullable=False),
    # The number given to the newest version; it never falls, so numbers are never reused.
    Column("last_number", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("deleted_at", BigInteger),
    Column("deleted_by", Text),
    # When its purge began: from then on it is gone for everybody, and what it held goes in steps.
    Column("purged_at", BigInteger),
    Column(
        "namespace",
        Text,
        ForeignKey("namespaces.id"),
        nullable=False,
        server_default=DEFAULT_NAMESPACE_ID,
    ),
    Column("description", Text, nullable=False, server_default=""),
    Column("use_case", Text, nullable=False, server_default=""),
    Column("task_type", Text, nullable=False, server_default=""),
    Column("subject_domain", Text, nullable=False, server_default=""),
    # A model outlives its team: deleting a team leaves this as it is.
    Column("team", Text, ForeignKey("teams.id")),
    Column("risk_level", Text, nullable=False, server_default="medium"),
    Column("compliance_required", Integer, nullable=False, server_default="0"),
    Column("active", Integer, nullable=False, server_default="1"),
    Column("legal_hold", Integer, nullable=False, server_default="0"),
    # How many of its versions live.
    Column("version_count", BigInteger, nullable=False, server_default="0"),
    Column("changes", BigInteger, nullable=False, server_default="1"),
    # See `registry.catalog.schema.training`; NULL: never.
    Column("trained_at", BigInteger),
    CheckConstraint("length(name) BETWEEN 1 AND 200", name="model_name"),
    CheckConstraint("kind IN ('model', 'dataset', 'generic')", name="model_kind"),
    CheckConstraint("visibility IN ('public', 'internal', 'private')", name="model_visibility"),
    CheckConstraint("last_number >= 0", name="model_last_number"),
    CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name="model_deleted"),
    CheckConstraint("purged_at IS NULL OR deleted_at IS NOT NULL", name="model_purged"),
    within("description", 16384, "model_description"),
    within("use_case", 4096, "model_use_case"),
    within("task_type", 96, "model_task_type"),
    within("subject_domain", 96, "model_subject_domain"),
    one_of("risk_level", ("low", "medium", "high", "critical"), "model_risk_level"),
    fact("compliance_required", "model_compliance_required"),
    fact("active", "model_active"),
    fact("legal_hold", "model_legal_hold"),
    CheckConstraint("version_count >= 0", name="model_version_count"),
    CheckConstraint("changes > 0", name="model_changes"),
    sqlite_with_rowid=False,
)
# Lists run in order of folded name or of making; each filter has an index in the order of names.
live_index("models_by_name", models.c.folded, unique=True)
live_index("models_by_creation", models.c.created_at, models.c.id)
# Of deleted ones too, so that removing a namespace need not look at every model.
Index("models_by_namespace", models.c.namespace, models.c.deleted_at, models.c.folded)
live_index("models_by_team", models.c.team, models.c.folded)
live_index("models_by_task", models.c.task_type, models.c.folded)
live_index("models_by_subject", models.c.subject_domain, models.c.folded)
live_index("models_by_risk", models.c.risk_level, models.c.folded)
live_index("models_by_activity", models.c.active, models.c.folded)
live_index("models_by_kind", models.c.kind, models.c.folded)
# Of deleted ones too: what belonged to them is still listed, to who saw them.
Index("models_by_visibility", models.c.visibility, models.c.deleted_at, models.c.folded)
# Those that may need to be trained again, the oldest first.
Index(
    "models_by_training",
    models.c.kind,
    models.c.active,
    models.c.deleted_at,
    models.c.trained_at,
    models.c.id,
)
# Whether a namespace holds a model of a level.
live_index("models_by_access", models.c.namespace, models.c.visibility)
Index(
    "models_deleted",
    models.c.deleted_at,
    models.c.id,
    **only(models.c.deleted_at.is_not(None)),
)
Index(
    "models_purged",
    models.c.purged_at,
    **only(models.c.purged_at.is_not(None)),
)

redirects = Table(
    "redirects",
    metadata,
    # A former name of a model that lives; nobody else can claim it meanwhile.
    Column("folded", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("model", Text, ForeignKey("models.id"), nullable=False),
    *made(),
    within("name", 200, "redirect_name", least=1),
    sqlite_with_rowid=False,
)
Index("redirects_by_model", redirects.c.model)

model_cards = Table(
    "model_cards",
    metadata,
    # What a model says about itself: the README at `main`, or what was put where there is none.
    Column("model", Text, ForeignKey("models.id"), primary_key=True),
    Column("source", Text, nullable=False),
    # Of the README's bytes; of the text's UTF-8 where the card was put.
    Column("digest", LargeBinary(32), nullable=False),
    Column("text", Text, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("updated_by", Text, nullable=False),
    one_of("source", ("readme", "put"), "model_card_source"),
    CheckConstraint("length(digest) = 32", name="model_card_digest"),
    within("text", 1048576, "model_card_text"),
    sqlite_with_rowid=False,
)

tags = Table(
    "tags",
    metadata,
    Column("id", Text, primary_key=True),
    Column("key", Text, nullable=False),
    # Empty: the tag is a key alone.
    Column("value", Text, nullable=False),
    # Folded key and value, joined by '='.
    Column("folded", Text, nullable=False, unique=True),
    Column("description", Text, nullable=False),
    # How many living models have it, and how many living versions of living models.
    Column("models", BigInteger, nullable=False, server_default="0"),
    Column("versions", BigInteger, nullable=False, server_default="0"),
    *made(),
    *changed(),
    within("key", 96, "tag_key", least=1),
    within("value", 200, "tag_value"),
    within("description", 4096, "tag_description"),
    CheckConstraint("models >= 0", name="tag_models"),
    CheckConstraint("versions >= 0", name="tag_versions"),
    sqlite_with_rowid=False,
)

# Everybody sees these, so a list need not pass over the others.
_is_described = tags.c.description != literal_column("''")
Index(
    "tags_described",
    tags.c.folded,
    **only(_is_described),
)

model_tags = Table(
    "model_tags",
    metadata,
    # A model has each key once. `key` and `name` repeat the folded key of the tag and the folded
    # name of the model, so that models are listed by tag in the order of their names.
    Column("model", Text, ForeignKey("models.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("tag", Text, ForeignKey("tags.id"), nullable=False),
    Column("name", Text, nullable=False),
    *made(),
    sqlite_with_rowid=False,
)
Index("model_tags_by_tag", model_tags.c.tag, model_tags.c.name, model_tags.c.model)
Index("model_tags_by_key", model_tags.c.key, model_tags.c.name, model_tags.c.model)
