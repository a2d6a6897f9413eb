//! The catalog: versions with their lineage, jobs, findings, routing history and the audit log, in SQLite.

use crate::StorageError;
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use std::path::Path;
use std::time::Duration;
use vocabulary::{Digest, Finding, Metrics, Routing, Timestamp, VersionRef};

#[derive(Clone)]
pub struct Catalog {
    pool: SqlitePool,
}

/// A registered version. `number` and `created_at` are given by the catalog.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    pub model: String,
    #[serde(rename = "version")]
    pub number: u32,
    pub digest: Digest,
    pub learner: String,
    pub task: String,
    pub created_at: Timestamp,
    pub trained_from: Option<Timestamp>,
    pub trained_to: Option<Timestamp>,
    pub rows: u64,
    pub bytes: u64,
    pub seconds: f64,
    pub metrics: Metrics,
    /// Where it came from: data, seed, program, parent, run.
    pub lineage: serde_json::Value,
    pub run: Option<String>,
}

impl Version {
    pub fn name(&self) -> String {
        format!("{}@{}", self.model, self.number)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Running,
    Done,
    Failed,
}

impl JobState {
    fn name(self) -> &'static str {
        match self {
            JobState::Running => "running",
            JobState::Done => "done",
            JobState::Failed => "failed",
        }
    }

    fn parse(text: &str) -> JobState {
        match text {
            "running" => JobState::Running,
            "done" => JobState::Done,
            _ => JobState::Failed,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub id: String,
    pub kind: String,
    pub model: String,
    pub state: JobState,
    /// Event time of its start.
    pub at: Timestamp,
    pub request: serde_json::Value,
    pub progress: Option<serde_json::Value>,
    pub seconds: Option<f64>,
    pub error: Option<String>,
    pub version: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub sequence: i64,
    /// When it took effect, on the loop's clock.
    pub at: Timestamp,
    /// When it was written, on the wall's clock.
    pub recorded_at: Timestamp,
    pub actor: String,
    pub action: String,
    pub model: String,
    pub subject: String,
    pub because: String,
    pub detail: String,
    pub hash: String,
}

/// What somebody did, to be appended to the audit log.
#[derive(Clone, Debug, Default)]
pub struct Deed {
    pub at: Timestamp,
    pub recorded_at: Timestamp,
    pub actor: String,
    pub action: String,
    pub model: String,
    pub subject: String,
    pub because: String,
    pub detail: String,
}

impl Catalog {
    /// Opens the catalog at `path`, making or migrating it as needed.
    pub async fn open(path: &Path) -> Result<Catalog, StorageError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(StorageError::io("can't create", folder))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(20));
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
        sqlx::migrate!("./migrations")
            .run(&pool)
            .await
            .map_err(|source| StorageError::Migrate { path: path.display().to_string(), source })?;
        Ok(Catalog { pool })
    }

    /// Registers a version and returns it with its number. The same digest again is the same version.
    pub async fn register(&self, version: &Version) -> Result<Version, StorageError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let known = sqlx::query("SELECT * FROM versions WHERE model = ? AND digest = ?")
            .bind(&version.model)
            .bind(version.digest.to_string())
            .fetch_optional(&mut *transaction)
            .await?;
        if let Some(row) = known {
            return version_of(&row);
        }
        let next: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(number), 0) + 1 FROM versions WHERE model = ?")
            .bind(&version.model)
            .fetch_one(&mut *transaction)
            .await?;
        let registered = Version { number: next as u32, ..version.clone() };
        sqlx::query(
            "INSERT INTO versions (model, number, digest, learner, task, created_at, trained_from, trained_to, rows, \
             bytes, seconds, metrics, lineage, run) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&registered.model)
        .bind(next)
        .bind(registered.digest.to_string())
        .bind(&registered.learner)
        .bind(&registered.task)
        .bind(registered.created_at.to_string())
        .bind(registered.trained_from.map(|t| t.to_string()))
        .bind(registered.trained_to.map(|t| t.to_string()))
        .bind(registered.rows as i64)
        .bind(registered.bytes as i64)
        .bind(registered.seconds)
        .bind(json(&registered.metrics)?)
        .bind(json(&registered.lineage)?)
        .bind(&registered.run)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(registered)
    }

    /// All versions, of one model or of all, oldest first.
    pub async fn versions(&self, model: Option<&str>) -> Result<Vec<Version>, StorageError> {
        let rows = sqlx::query("SELECT * FROM versions WHERE ?1 IS NULL OR model = ?1 ORDER BY model, number")
            .bind(model)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(version_of).collect()
    }

    /// Finds what a person wrote; roles are looked up in `routing`.
    pub async fn resolve(&self, wanted: &VersionRef, routing: &Routing) -> Result<Version, StorageError> {
        let missing = |what: String| StorageError::NotFound(what);
        match wanted {
            VersionRef::Number { model, number } => {
                let versions = self.versions(Some(model)).await?;
                let known = versions.len();
                versions.into_iter().find(|version| version.number == *number).ok_or_else(|| {
                    missing(format!("there is no {wanted}; {known} versions of \"{model}\" are registered (see `homeostat versions`)"))
                })
            }
            VersionRef::Role { model, role } => {
                let route = routing.models.get(model);
                let number = route.and_then(|route| match role.as_str() {
                    "live" => Some(route.live.version),
                    "candidate" => route.candidate.as_ref().map(|candidate| candidate.version),
                    "fallback" => route.fallback.as_ref().map(|fallback| fallback.version),
                    _ => route.frozen.as_ref().map(|frozen| frozen.version),
                });
                let Some(number) = number else {
                    return Err(missing(format!("\"{model}\" has no {role} version now (see `homeostat status`)")));
                };
                Box::pin(self.resolve(&VersionRef::Number { model: model.clone(), number }, routing)).await
            }
            VersionRef::Digest(prefix) => {
                let mut found = self.versions(None).await?;
                found.retain(|version| version.digest.to_string().starts_with(prefix));
                match found.len() {
                    0 => Err(missing(format!("no version's digest begins with {prefix}"))),
                    1 => Ok(found.remove(0)),
                    n => Err(missing(format!("{n} versions' digests begin with {prefix}; write more digits"))),
                }
            }
        }
    }

    pub async fn put_job(&self, job: &Job) -> Result<(), StorageError> {
        sqlx::query(
            "INSERT INTO jobs (id, kind, model, state, at, request, progress, seconds, error, version) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state, \
             progress = excluded.progress, seconds = excluded.seconds, error = excluded.error, version = excluded.version",
        )
        .bind(&job.id)
        .bind(&job.kind)
        .bind(&job.model)
        .bind(job.state.name())
        .bind(job.at.to_string())
        .bind(json(&job.request)?)
        .bind(job.progress.as_ref().map(json).transpose()?)
        .bind(job.seconds)
        .bind(&job.error)
        .bind(job.version)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub async fn job(&self, id: &str) -> Result<Option<Job>, StorageError> {
        let row = sqlx::query("SELECT * FROM jobs WHERE id = ?").bind(id).fetch_optional(&self.pool).await?;
        row.as_ref().map(job_of).transpose()
    }

    /// All jobs, oldest first.
    pub async fn jobs(&self) -> Result<Vec<Job>, StorageError> {
        let rows = sqlx::query("SELECT * FROM jobs ORDER BY at, id").fetch_all(&self.pool).await?;
        rows.iter().map(job_of).collect()
    }

    /// Keeps a finding; the same id again changes nothing. Returns whether it was new.
    pub async fn put_finding(&self, finding: &Finding) -> Result<bool, StorageError> {
        let done = sqlx::query("INSERT INTO findings (id, model, at, body) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(&finding.id)
            .bind(&finding.model)
            .bind(finding.at.to_string())
            .bind(json(finding)?)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Writes down what became known about a finding since it was put there: its cause, and what it says of it.
    pub async fn amend_finding(&self, finding: &Finding) -> Result<(), StorageError> {
        sqlx::query("UPDATE findings SET body = ? WHERE id = ?")
            .bind(json(finding)?)
            .bind(&finding.id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// All findings in order of time.
    pub async fn findings(&self) -> Result<Vec<Finding>, StorageError> {
        let rows = sqlx::query("SELECT body FROM findings ORDER BY at, id").fetch_all(&self.pool).await?;
        rows.iter().map(|row| parse(row.try_get("body")?)).collect()
    }

    pub async fn put_routing(&self, routing: &Routing) -> Result<(), StorageError> {
        sqlx::query("INSERT INTO routings (number, at, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(routing.number as i64)
            .bind(routing.at.map(|t| t.to_string()).unwrap_or_default())
            .bind(json(routing)?)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The routing snapshot with this number, while the catalog remembers it.
    pub async fn routing(&self, number: u64) -> Result<Option<Routing>, StorageError> {
        let row = sqlx::query("SELECT body FROM routings WHERE number = ?")
            .bind(number as i64)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| parse(row.try_get("body")?)).transpose()
    }

    /// Appends to the audit log.
    pub async fn record(&self, deed: &Deed) -> Result<AuditEntry, StorageError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let last = sqlx::query("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")
            .fetch_optional(&mut *transaction)
            .await?;
        let (sequence, before) = match last {
            Some(row) => (row.try_get::<i64, _>("sequence")? + 1, row.try_get::<String, _>("hash")?),
            None => (1, String::new()),
        };
        let mut entry = AuditEntry {
            sequence,
            at: deed.at,
            recorded_at: deed.recorded_at,
            actor: deed.actor.clone(),
            action: deed.action.clone(),
            model: deed.model.clone(),
            subject: deed.subject.clone(),
            because: deed.because.clone(),
            detail: deed.detail.clone(),
            hash: String::new(),
        };
        entry.hash = entry.chained(&before)?;
        sqlx::query(
            "INSERT INTO audit (sequence, at, recorded_at, actor, action, model, subject, because, detail, hash) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(entry.sequence)
        .bind(entry.at.to_string())
        .bind(entry.recorded_at.to_string())
        .bind(&entry.actor)
        .bind(&entry.action)
        .bind(&entry.model)
        .bind(&entry.subject)
        .bind(&entry.because)
        .bind(&entry.detail)
        .bind(&entry.hash)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(entry)
    }

    /// Audit entries after `sequence`, oldest first.
    pub async fn audit(&self, after: i64) -> Result<Vec<AuditEntry>, StorageError> {
        let rows = sqlx::query("SELECT * FROM audit WHERE sequence > ? ORDER BY sequence")
            .bind(after)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(audit_of).collect()
    }

    /// Recomputes the chain; the first entry that does not fit is returned as an error's text.
    pub async fn verify_audit(&self) -> Result<Result<usize, String>, StorageError> {
        let entries = self.audit(0).await?;
        let mut before = String::new();
        for (i, entry) in entries.iter().enumerate() {
            if entry.sequence != i as i64 + 1 || entry.hash != entry.chained(&before)? {
                return Ok(Err(format!("entry {} does not continue the one before it", entry.sequence)));
            }
            before.clone_from(&entry.hash);
        }
        Ok(Ok(entries.len()))
    }
}

impl AuditEntry {
    fn chained(&self, before: &str) -> Result<String, StorageError> {
        let bare = AuditEntry { hash: String::new(), ..self.clone() };
        Ok(Digest::of(format!("{before}\n{}", json(&bare)?).as_bytes()).to_string())
    }
}

fn json<T: Serialize>(value: &T) -> Result<String, StorageError> {
    serde_json::to_string(value).map_err(|error| StorageError::Data(format!("can't be written as JSON: {error}")))
}

fn parse<T: for<'de> Deserialize<'de>>(text: String) -> Result<T, StorageError> {
    serde_json::from_str(&text).map_err(|error| StorageError::Data(format!("the catalog holds bad JSON: {error}")))
}

fn time(text: &str) -> Result<Timestamp, StorageError> {
    text.parse().map_err(|error| StorageError::Data(format!("the catalog holds a bad time: {error}")))
}

fn version_of(row: &SqliteRow) -> Result<Version, StorageError> {
    let instant = |name: &str| -> Result<Option<Timestamp>, StorageError> {
        row.try_get::<Option<String>, _>(name)?.as_deref().map(time).transpose()
    };
    let digest: String = row.try_get("digest")?;
    Ok(Version {
        model: row.try_get("model")?,
        number: row.try_get::<i64, _>("number")? as u32,
        digest: digest.parse().map_err(|error| StorageError::Data(format!("the catalog: {error}")))?,
        learner: row.try_get("learner")?,
        task: row.try_get("task")?,
        created_at: instant("created_at")?.unwrap_or_default(),
        trained_from: instant("trained_from")?,
        trained_to: instant("trained_to")?,
        rows: row.try_get::<i64, _>("rows")? as u64,
        bytes: row.try_get::<i64, _>("bytes")? as u64,
        seconds: row.try_get("seconds")?,
        metrics: parse(row.try_get("metrics")?)?,
        lineage: parse(row.try_get("lineage")?)?,
        run: row.try_get("run")?,
    })
}

fn job_of(row: &SqliteRow) -> Result<Job, StorageError> {
    let at: String = row.try_get("at")?;
    let state: String = row.try_get("state")?;
    Ok(Job {
        id: row.try_get("id")?,
        kind: row.try_get("kind")?,
        model: row.try_get("model")?,
        state: JobState::parse(&state),
        at: time(&at)?,
        request: parse(row.try_get("request")?)?,
        progress: row.try_get::<Option<String>, _>("progress")?.map(parse).transpose()?,
        seconds: row.try_get("seconds")?,
        error: row.try_get("error")?,
        version: row.try_get::<Option<i64>, _>("version")?.map(|n| n as u32),
    })
}

fn audit_of(row: &SqliteRow) -> Result<AuditEntry, StorageError> {
    let (at, recorded_at): (String, String) = (row.try_get("at")?, row.try_get("recorded_at")?);
    Ok(AuditEntry {
        sequence: row.try_get("sequence")?,
        at: time(&at)?,
        recorded_at: time(&recorded_at)?,
        actor: row.try_get("actor")?,
        action: row.try_get("action")?,
        model: row.try_get("model")?,
        subject: row.try_get("subject")?,
        because: row.try_get("because")?,
        detail: row.try_get("detail")?,
        hash: row.try_get("hash")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_finding_is_put_once_and_amended_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&folder.path().join("catalog.db")).await.unwrap();
        let mut finding = Finding {
            id: "m/input_drift/x/0".into(),
            model: "m".into(),
            kind: vocabulary::FindingKind::InputDrift,
            subject: Some("x".into()),
            at: Timestamp(1),
            since: Timestamp(0),
            message: "x: values went up".into(),
            evidence: Default::default(),
            cause: None,
        };
        assert!(catalog.put_finding(&finding).await.unwrap());
        assert!(!catalog.put_finding(&finding).await.unwrap());
        finding.cause = Some(vocabulary::Cause::new(vocabulary::CauseKind::NullFlood, Default::default()));
        catalog.amend_finding(&finding).await.unwrap();
        assert_eq!(catalog.findings().await.unwrap(), [finding]);
    }

    fn version(content: &str) -> Version {
        Version {
            model: "arrival".into(),
            number: 0,
            digest: Digest::of(content.as_bytes()),
            learner: "trees".into(),
            task: "binary".into(),
            created_at: Timestamp(5_000_000),
            trained_from: None,
            trained_to: Some(Timestamp(4_000_000)),
            rows: 10,
            bytes: 20,
            seconds: 1.5,
            metrics: Metrics::default(),
            lineage: serde_json::json!({"seed": 1}),
            run: None,
        }
    }

    #[tokio::test]
    async fn versions_are_numbered_once_for_each_content() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&folder.path().join("catalog.db")).await.unwrap();
        assert_eq!(catalog.register(&version("a")).await.unwrap().number, 1);
        let second = catalog.register(&version("b")).await.unwrap();
        assert_eq!(second.number, 2);
        assert_eq!(catalog.register(&version("a")).await.unwrap().number, 1);
        let routing = Routing::default();
        let by_digest = VersionRef::Digest(second.digest.short());
        assert_eq!(catalog.resolve(&by_digest, &routing).await.unwrap(), second);
        let none = catalog.resolve(&"arrival@9".parse().unwrap(), &routing).await.unwrap_err();
        assert!(none.to_string().contains("2 versions"), "{none}");
    }

    #[tokio::test]
    async fn the_audit_log_only_grows_and_shows_an_edit() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&folder.path().join("catalog.db")).await.unwrap();
        for action in ["register", "promote", "roll_back"] {
            catalog.record(&Deed { action: action.into(), ..Deed::default() }).await.unwrap();
        }
        assert_eq!(catalog.verify_audit().await.unwrap(), Ok(3));
        let edit = sqlx::query("UPDATE audit SET action = 'x' WHERE sequence = 2").execute(&catalog.pool).await;
        assert!(edit.unwrap_err().to_string().contains("append-only"));
        sqlx::query("DROP TRIGGER audit_is_append_only_update").execute(&catalog.pool).await.unwrap();
        sqlx::query("UPDATE audit SET action = 'x' WHERE sequence = 2").execute(&catalog.pool).await.unwrap();
        assert!(catalog.verify_audit().await.unwrap().unwrap_err().contains("entry 2"));
    }
}
