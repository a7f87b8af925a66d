//! A small installation whose answers are easily judged, and what happens to it.
#![expect(clippy::indexing_slicing, reason = "members of JSON answers")]

use std::{
    fmt,
    time::{Duration, Instant},
};

use anabranch_e2e::{
    Process, Stage,
    clicks::{LIMIT, applied, produce},
    eventually,
    scene::Offsets,
};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio_postgres::Client;

/// Longer than anything here takes while every guard holds: the group's time-outs, batch's patience with speed.
const STALE: Duration = Duration::from_secs(25);
/// Records that a worker has folded wait so long for their flush.
const FLUSH_MS: &str = "3000";
pub(crate) const FOLDED: Duration = Duration::from_millis(700);

/// What shows that a guard is missing.
#[derive(Debug)]
pub(crate) struct Caught(String);

impl fmt::Display for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Caught {}

pub(crate) fn caught<T>(text: String) -> Result<T> {
    Err(Caught(text).into())
}

/// What happens to the installation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Schedule {
    /// Another worker takes a partition over, at a cut, between a worker's fold and its flush.
    TakenOver,
    /// A quiet partition is taken over, and flushed there, before the worker flushes at a cut.
    QuietTakenOver,
    /// A worker opens again below the cut that it has answered.
    OpenedAgain,
    /// Batch cuts the partitions of a worker that is stopped; then it continues.
    CutInSilence,
    /// A worker answers while batch is about to cut in its place.
    AnsweredMeanwhile,
    /// A run ends between its cut and its publication; records follow; the next run takes the cut again.
    CutTakenAgain,
    /// One partition of two has answered a cut.
    HalfAnswered,
    /// A reader cannot load the newest version.
    SlowReader,
    /// A reader sleeps through two versions and their pruning.
    SleepingReader,
    /// A reader holds the version before one that went past speed.
    GapBehindVersion,
    /// A flush is forgotten before the reader saw it.
    ForgottenFlush,
    /// A changed definition is built below an epoch that has ended without it.
    SwitchedBelowEpoch,
    /// A changed definition is built while an open epoch lacks it.
    SwitchedBesideEpoch,
    /// A run sleeps while others publish.
    SleepingRun,
    /// A cut's answer lies below the published version.
    LowAnswer,
}

/// Two partitions with ten clicks each, folded, flushed, archived, served.
pub(crate) struct Play {
    pub(crate) stage: Stage,
    name: String,
    pub(crate) database: Client,
    pub(crate) speed: Process,
    pub(crate) archive: Process,
    pub(crate) serving: Process,
    produced: Offsets,
    highest: Offsets,
}

fn definitions(name: &str, condition: &str) -> String {
    format!(
        "CREATE TABLE {name} (page TEXT NOT NULL) WITH (connector = 'kafka', topic = '{name}', format = 'json');
         CREATE MATERIALIZED VIEW by_page AS SELECT page, count(*) AS clicks FROM {name}{condition} GROUP BY 1;"
    )
}

impl Play {
    pub(crate) async fn begin(guard: Option<&str>) -> Result<Self> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("guards_{}_{number}", std::process::id());
        let mut stage = applied(&name, 2, &definitions(&name, "")).await?;
        stage.without(guard);
        stage.set("ANABRANCH_SPEED__FLUSH_MS", FLUSH_MS);
        stage.set("ANABRANCH_ARCHIVE__ROTATE_SECONDS", "1");
        stage.set("ANABRANCH_BATCH__PRUNE_AFTER_SECONDS", "0");
        let database = stage.database().await?;
        let (speed, archive, serving) = (stage.start(&["speed"])?, stage.start(&["archive"])?, stage.start(&["serve"])?);
        let mut play = Self { stage, name, database, speed, archive, serving, produced: Offsets::new(), highest: Offsets::new() };
        play.events(&[10, 10])?;
        play.settle().await?;
        Ok(play)
    }

    /// So many more clicks in each partition.
    pub(crate) fn events(&mut self, counts: &[usize]) -> Result<()> {
        for (partition, count) in (0..).zip(counts) {
            produce(&self.name, partition, &vec![json!({"page": format!("p{partition}")}); *count])?;
            *self.produced.entry(partition).or_default() += i64::try_from(*count)?;
        }
        Ok(())
    }

    /// An answer, if there is one: right, and not below an earlier one.
    pub(crate) async fn probe(&mut self) -> Result<Offsets> {
        let query = json!({"dimensions": ["by_page.page"], "measures": ["by_page.clicks"]});
        let Some(answer) = self.serving.load(&query).await? else { return Ok(Offsets::new()) };
        let offsets = anabranch_oracle::offsets(&answer);
        for (partition, offset) in &offsets {
            let rows = answer["data"].as_array().context("no data")?;
            let row = rows.iter().find(|row| row["by_page.page"] == format!("p{partition}"));
            let clicks = row.and_then(|row| row["by_page.clicks"].as_i64()).unwrap_or_default();
            if clicks != *offset {
                return caught(format!("a wrong answer: {clicks} clicks at offset {offset} of partition {partition}"));
            }
            if self.highest.get(partition).is_some_and(|highest| offset < highest) {
                return caught(format!("an answer that goes back: partition {partition} to offset {offset}"));
            }
        }
        self.highest.clone_from(&offsets);
        Ok(offsets)
    }

    /// Answers are right until one reaches everything that was produced.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        self.reach(self.produced.clone()).await
    }

    pub(crate) async fn reach(&mut self, ends: Offsets) -> Result<()> {
        let began = Instant::now();
        loop {
            let reached = self.probe().await?;
            if reached == ends {
                return Ok(());
            }
            if began.elapsed() > STALE {
                return caught(format!("answers that stand at {reached:?} of {ends:?}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Right after a flush: what is produced now is folded long before the next one.
    pub(crate) async fn just_flushed(&mut self) -> Result<()> {
        self.events(&[1, 1])?;
        self.flushed().await
    }

    pub(crate) async fn flushed(&self) -> Result<()> {
        let total: i64 = self.produced.values().sum();
        eventually("a flush", LIMIT, || async { Ok((self.flushed_records().await? == total).then_some(())) }).await
    }

    pub(crate) async fn flushed_records(&self) -> Result<i64> {
        Ok(self.database.query_one("SELECT coalesce(sum(next_offset), 0)::bigint FROM partition", &[]).await?.get(0))
    }

    pub(crate) async fn folded_and_not_flushed(&mut self, counts: &[usize]) -> Result<()> {
        self.just_flushed().await?;
        self.events(counts)?;
        tokio::time::sleep(FOLDED).await;
        Ok(())
    }

    pub(crate) async fn archived(&self) -> Result<()> {
        let total: i64 = self.produced.values().sum();
        eventually("everything archived", LIMIT, || async {
            let row = self.database.query_one("SELECT coalesce(sum(committed_to), 0)::bigint FROM partition", &[]).await?;
            Ok((row.get::<_, i64>(0) == total).then_some(()))
        })
        .await
    }

    /// A run that must succeed.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<()> {
        let (code, text) = self.stage.run(arguments)?;
        if code != Some(0) {
            let line = text.lines().find(|line| line.contains("ERROR") || line.contains("error")).unwrap_or(&text);
            return caught(format!("a run that ends with exit code {code:?}: {line}"));
        }
        Ok(())
    }

    /// Answers stay right for a while, wherever they stand.
    pub(crate) async fn stand(&mut self) -> Result<()> {
        for _ in 0..100 {
            self.probe().await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// A version is loaded: answers say its run.
    pub(crate) async fn versioned(&self) -> Result<()> {
        eventually("the first version", LIMIT, || async {
            let answer = self.serving.load(&json!({"measures": ["by_page.clicks"]})).await?;
            Ok(answer.filter(|answer| answer["lambda"]["run"].is_number()).map(drop))
        })
        .await
    }

    /// Both partitions have answered this cut.
    pub(crate) async fn answered(&self, cut: i64) -> Result<()> {
        eventually("an answered cut", LIMIT, || async {
            let answers: i64 = self.database.query_one("SELECT count(*) FROM cut_offset WHERE cut = $1", &[&cut]).await?.get(0);
            Ok((answers == 2).then_some(()))
        })
        .await
    }

    /// Pauses a process where it holds no transaction: PostgreSQL ends the connection of one that sleeps in it, and the
    /// process would end by that.
    pub(crate) async fn pause_outside_transactions(&self, process: &Process) -> Result<()> {
        let held = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%' \
                    AND state_change < now() - interval '0.5 seconds'";
        eventually("a pause outside a transaction", LIMIT, || async {
            process.pause()?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            if self.database.query_opt(held, &[]).await?.is_none() {
                return Ok(Some(()));
            }
            process.signal("CONT")?;
            Ok(None)
        })
        .await
    }

    pub(crate) async fn cut_wanted(&self) -> Result<i64> {
        Ok(self.database.query_one("SELECT cut_wanted FROM source", &[]).await?.get(0))
    }

    /// What another worker's opening does to this partition; it answers `cut`, and has flushed `folded` records.
    pub(crate) async fn take_over(&mut self, partition: i32, cut: Option<i64>, folded: i64) -> Result<()> {
        let live: String = self.database.query_one("SELECT 'live_' || serving FROM view WHERE name = 'by_page'", &[]).await?.get(0);
        let transaction = self.database.transaction().await?;
        if let Some(cut) = cut {
            transaction.execute("UPDATE source SET cut_wanted = $1", &[&cut]).await?;
        }
        let row = transaction.query_one("SELECT next_offset, epoch, source FROM partition WHERE partition = $1 FOR UPDATE", &[&partition]).await?;
        let (next, old, source): (i64, i64, String) = (row.get(0), row.get(1), row.get(2));
        transaction.execute("UPDATE epoch_range SET \"end\" = $2 WHERE partition = $1 AND \"end\" IS NULL", &[&partition, &next]).await?;
        let new: i64 = transaction.query_one("SELECT nextval('epoch_id')", &[]).await?.get(0);
        let epoch = "INSERT INTO epoch (id, source, cut, definitions, flush) SELECT $1, source, coalesce($2, cut), definitions, 1 FROM epoch WHERE id = $3";
        transaction.execute(epoch, &[&new, &cut, &old]).await?;
        transaction.execute("INSERT INTO epoch_range (epoch, source, partition, start) VALUES ($1, $2, $3, $4)", &[&new, &source, &partition, &next]).await?;
        if let Some(cut) = cut {
            transaction.execute("INSERT INTO cut_offset VALUES ($1, $2, $3, $4)", &[&source, &cut, &partition, &next]).await?;
        }
        let sql = "UPDATE partition SET epoch = $2, cut = coalesce($3, cut), next_offset = next_offset + $4 WHERE partition = $1";
        transaction.execute(sql, &[&partition, &new, &cut, &folded]).await?;
        if folded > 0 {
            let sql = format!("INSERT INTO {live} SELECT $1, _group_hash, page, $2 FROM {live} WHERE _epoch = $3 AND page = $4");
            ensure!(transaction.execute(&sql, &[&new, &folded, &old, &format!("p{partition}")]).await? == 1, "a live row is copied");
        }
        transaction.execute("INSERT INTO flush (epoch, flush) VALUES ($1, 1)", &[&new]).await?;
        transaction.execute("SELECT pg_notify('anabranch', '')", &[]).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The view's definition changes, and gives the same answers.
    pub(crate) fn change_view(&mut self) -> Result<()> {
        self.stage.pipeline(&definitions(&self.name, " WHERE page <> ''"))?;
        self.run(&["apply"])
    }
}
