//! Publication: all versions of a run in one transaction, under the source's lock.

use std::collections::BTreeSet;

use anabranch_core::{
    Coverage, OffsetRange, Partition,
    definition::Fingerprint,
    protocol::{
        CutNumber, RunId,
        publish::{self, Candidate, Ground, Refused},
    },
};
use anabranch_process::{
    catalog::{published, rows},
    crash,
};
use anyhow::{Context, Result};
use tokio_postgres::{Client, Transaction};

use super::Built;

/// What a run wants to publish.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goal<'a> {
    pub(super) run: RunId,
    pub(super) cut: CutNumber,
    pub(super) coverage: &'a Coverage,
}

#[derive(Default)]
pub(super) struct Outcome {
    pub(super) published: Vec<String>,
    pub(super) refused: Vec<(String, String)>,
    /// Views whose new definition not every epoch folds yet: the next cut takes them.
    pub(super) waiting: Vec<String>,
}

/// `failed` = the views that could not be built, with the reason; `lost` = ranges below the coverage that nobody has.
pub(super) async fn publish(
    client: &mut Client,
    source: &str,
    goal: Goal<'_>,
    built: &[Built],
    failed: &[(Fingerprint, String)],
    lost: &[(Partition, OffsetRange)],
) -> Result<Outcome> {
    let Goal { run, cut, coverage } = goal;
    let transaction = client.transaction().await?;
    let row = transaction.query_one("SELECT running FROM source WHERE name = $1 FOR UPDATE", &[&source]).await?;
    let running = row.get::<_, Option<i64>>(0).map(RunId);
    publish::may_publish(run, running)?;
    let versions = rows::versions(&transaction, source).await?;
    let epochs = rows::epochs(&transaction, source).await?;
    let mut outcome = Outcome::default();
    let mut failures = failed.len();
    let (mut refusals, mut replaced) = (Vec::new(), BTreeSet::new());
    for built in built {
        let view = &built.view;
        let row = transaction.query_opt("SELECT wanted, serving FROM view WHERE name = $1", &[&view.name]).await?;
        let (wanted, serving) = row.map(|row| (Fingerprint(row.get(0)), Fingerprint(row.get(1)))).unzip();
        let current = versions.get(&view.fingerprint).and_then(|versions| versions.first()).map(|version| (version.run, &version.coverage));
        let candidate = Candidate { run, fingerprint: view.fingerprint.clone(), coverage: coverage.clone(), read: built.read };
        match publish::publish(&candidate, Ground { running, wanted: wanted.as_ref(), serving: serving.as_ref(), current, epochs: &epochs }) {
            Ok(_) if !published::are_staged(&transaction, built.staged.as_deref().unwrap_or_default()).await? => {
                failures += 1;
                outcome.refused.push((view.name.clone(), "another run removed what was staged of it for SQL; the next one stages it again".to_owned()));
            }
            Ok(switches) => {
                let previous = built.read.map(|run| run.0);
                let sql = "INSERT INTO version (source, view, fingerprint, run, previous_run, cut, coverage, folder) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
                let coverage = rows::coverage_json(coverage);
                transaction.execute(sql, &[&source, &view.name, &view.fingerprint.0, &run.0, &previous, &cut.0, &coverage, &built.folder]).await?;
                if let Some(parts) = &built.staged {
                    published::flip(&transaction, source, &view.fingerprint, run, parts).await?;
                }
                transaction.execute("UPDATE definition SET failure = NULL WHERE source = $1 AND fingerprint = $2", &[&source, &view.fingerprint.0]).await?;
                let_in_again(&transaction, source, &view.fingerprint).await?;
                if switches {
                    replaced.insert(view.name.clone());
                    transaction.execute("UPDATE view SET serving = $2 WHERE name = $1", &[&view.name, &view.fingerprint.0]).await?;
                    transaction.execute("UPDATE source SET definitions = definitions + 1 WHERE name = $1", &[&source]).await?;
                }
                outcome.published.push(view.name.clone());
            }
            // The definition that was replaced a moment ago needs no version any more.
            Err(Refused::NotWanted) if replaced.contains(&view.name) => {}
            Err(Refused::NotYetFolded) => {
                refusals.push(Refused::NotYetFolded);
                let_in_again(&transaction, source, &view.fingerprint).await?;
                outcome.waiting.push(view.name.clone());
            }
            Err(refused) => {
                refusals.push(refused);
                outcome.refused.push((view.name.clone(), refused.to_string()));
            }
        }
    }
    for (fingerprint, reason) in failed {
        transaction.execute("UPDATE definition SET failure = $3 WHERE source = $1 AND fingerprint = $2", &[&source, &fingerprint.0, reason]).await?;
    }
    for (partition, range) in lost {
        let sql = "INSERT INTO lost_range (source, partition, start, \"end\") VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        transaction.execute(sql, &[&source, &partition.0, &range.start.0, &range.end.0]).await?;
    }
    let finished = publish::finishes(outcome.published.len(), failures, &refusals);
    let sql = "UPDATE source SET running = NULL, cut_finished = CASE WHEN $2 THEN greatest(cut_finished, $3) ELSE cut_finished END WHERE name = $1";
    transaction.execute(sql, &[&source, &finished, &cut.0]).await?;
    transaction.execute("SELECT pg_notify('anabranch', '')", &[]).await?;
    crash::step("batch.publish", transaction.commit()).await.context("commit a publication")?;
    Ok(outcome)
}

/// A run could build the view: from the next epoch on it is folded again.
async fn let_in_again(transaction: &Transaction<'_>, source: &str, fingerprint: &Fingerprint) -> Result<()> {
    let sql = "UPDATE definition SET left_out = false WHERE source = $1 AND fingerprint = $2 AND left_out";
    if transaction.execute(sql, &[&source, &fingerprint.0]).await? > 0 {
        transaction.execute("UPDATE source SET definitions = definitions + 1 WHERE name = $1", &[&source]).await?;
    }
    Ok(())
}
