-- Registered versions of models, and where each came from.
CREATE TABLE versions (
    model        TEXT    NOT NULL,
    number       INTEGER NOT NULL,
    digest       TEXT    NOT NULL,
    learner      TEXT    NOT NULL,
    task         TEXT    NOT NULL,
    created_at   TEXT    NOT NULL,
    trained_from TEXT,
    trained_to   TEXT,
    rows         INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    seconds      REAL    NOT NULL,
    metrics      TEXT    NOT NULL,
    lineage      TEXT    NOT NULL,
    run          TEXT,
    PRIMARY KEY (model, number),
    UNIQUE (model, digest)
);

-- Work done by child processes.
CREATE TABLE jobs (
    id       TEXT PRIMARY KEY,
    kind     TEXT NOT NULL,
    model    TEXT NOT NULL,
    state    TEXT NOT NULL,
    at       TEXT NOT NULL,
    request  TEXT NOT NULL,
    progress TEXT,
    seconds  REAL,
    error    TEXT,
    version  INTEGER
);

CREATE TABLE findings (
    id    TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    at    TEXT NOT NULL,
    body  TEXT NOT NULL
);

-- Append-only; each entry's hash covers the one before it.
CREATE TABLE audit (
    sequence    INTEGER PRIMARY KEY,
    at          TEXT NOT NULL,
    recorded_at TEXT NOT NULL,
    actor       TEXT NOT NULL,
    action      TEXT NOT NULL,
    model       TEXT NOT NULL,
    subject     TEXT NOT NULL,
    because     TEXT NOT NULL,
    detail      TEXT NOT NULL,
    hash        TEXT NOT NULL
);
CREATE TRIGGER audit_is_append_only_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_is_append_only_delete BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

CREATE TABLE routings (
    number INTEGER PRIMARY KEY,
    at     TEXT NOT NULL,
    body   TEXT NOT NULL
);
