//! When runs happen: cron expressions, one run at a time, missed ones once.

use std::time::Duration;

use anabranch_core::layout;
use anabranch_process::{Settings, catalog::definitions, clock, lease::Lease};
use anyhow::{Context, Result};
use tokio::sync::mpsc;
use tokio_cron_scheduler::{Job, JobScheduler};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::runs::{Batch, Kind, NothingRead, Window};

const LEADER_RETRY: Duration = Duration::from_secs(5);
/// A temporary file this old belongs to nobody who still writes it.
const TEMPORARY_AGE_MS: i64 = 24 * 3600 * 1000;

/// Runs by cron until `stop`.
///
/// # Errors
/// When a setting is wrong.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<()> {
    let batch = Batch::new(settings)?;
    // At most one of each kind waits: one that became due during a run is caught up once.
    let (incremental, mut incremental_due) = mpsc::channel(1);
    let (audit, mut audit_due) = mpsc::channel(1);
    let mut scheduler = JobScheduler::new().await.context("start the scheduler")?;
    for (expression, setting, due) in
        [(&batch.settings.batch.incremental, "batch.incremental", &incremental), (&batch.settings.batch.audit, "batch.audit", &audit)]
    {
        let due = due.clone();
        let job = Job::new(expression.as_str(), move |_, _| _ = due.try_send(()).ok())
            .with_context(|| format!("setting {setting} = \"{expression}\" is not a cron expression"))?;
        scheduler.add(job).await.with_context(|| format!("schedule {setting}"))?;
    }
    scheduler.start().await.context("start the scheduler")?;
    let Some(mut leader) = lead(&batch, &stop).await else { return Ok(()) };
    info!(incremental = batch.settings.batch.incremental, audit = batch.settings.batch.audit, "started batch");
    // What became due while no batch ran.
    _ = incremental.try_send(()).ok();
    loop {
        let kind = tokio::select! {
            () = stop.cancelled() => break,
            Some(()) = incremental_due.recv() => Kind::Incremental,
            Some(()) = audit_due.recv() => audit_kind(&batch.settings),
        };
        if !leader.is_held() {
            // PostgreSQL was away, and the lock with it. Two leaders do no harm, but twice the work.
            let Some(again) = lead(&batch, &stop).await else { break };
            leader = again;
        }
        tokio::select! {
            // A run that is cut off here leaves its cut to the next one.
            () = stop.cancelled() => break,
            () = run_all(&batch, kind) => {}
        }
    }
    scheduler.shutdown().await.context("stop the scheduler")?;
    info!("stopped batch");
    Ok(())
}

fn audit_kind(settings: &Settings) -> Kind {
    match settings.batch.audit_days {
        0 => Kind::Full,
        days => Kind::Audit(Window::last_days(days, clock::today())),
    }
}

/// Waits until this process leads.
async fn lead(batch: &Batch, stop: &CancellationToken) -> Option<Lease> {
    let mut said = false;
    loop {
        match Lease::try_take(&batch.catalog, "batch").await {
            Ok(Some(lease)) => return Some(lease),
            Ok(None) if !said => info!("another batch leads; standing by"),
            Err(error) if !said => warn!(error = format!("{error:#}"), "could not ask who leads; trying on"),
            _ => {}
        }
        said = true;
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(LEADER_RETRY) => {}
        }
    }
}

async fn run_all(batch: &Batch, kind: Kind) {
    let sources = async { definitions::sources(&batch.catalog.connect().await?).await };
    let sources = match sources.await {
        Ok(sources) => sources,
        Err(error) => {
            error!(error = format!("{error:#}"), "could not read the sources");
            return;
        }
    };
    for source in sources {
        match batch.run(&source, kind, &|_| {}).await {
            Ok(_) => {}
            Err(error) if error.is::<NothingRead>() => info!(source, "nothing of the topic was read yet; the next run looks again"),
            Err(error) => warn!(source, error = format!("{error:#}"), "run failed; the next one tries again"),
        }
        if let Err(error) = clean(batch, &source).await {
            warn!(source, error = format!("{error:#}"), "could not remove old temporary files");
        }
    }
}

async fn clean(batch: &Batch, source: &str) -> Result<()> {
    let folder = layout::temporary_folder(source);
    let oldest = u64::try_from(clock::now_ms() - TEMPORARY_AGE_MS)?;
    for file in batch.warehouse.list(&folder).await? {
        if file.modified_ms < oldest {
            batch.warehouse.remove(&format!("{folder}/{}", file.name)).await?;
        }
    }
    Ok(())
}
