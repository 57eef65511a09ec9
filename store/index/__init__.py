"""What exists, who refers to it and what is in progress, remembered transactionally.

`store.index.schema` has the tables, `store.index.transactions` what a unit of work sees,
`store.index.database` the database that runs units, `store.index.upgrade` the migrations.

Nothing is imported here: the process that only compares schema numbers must not pay for SQLAlchemy.
"""
