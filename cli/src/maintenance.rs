//! `recompute`, `verify`, `skip-lost`.

use std::process::ExitCode;

use anabranch_batch::{
    archive::{skip, verify},
    runs::{Batch, Kind, Progress},
};
use anabranch_process::{
    Catalog, Settings, Warehouse,
    catalog::{definitions, rows},
    kafka,
};
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

async fn known_sources(settings: &Settings, named: Vec<String>, only_topics: bool) -> Result<Vec<String>> {
    if !named.is_empty() {
        return Ok(named);
    }
    let client = Catalog::at(&settings.postgres.url)?.connect().await?;
    if only_topics { definitions::topics(&client).await } else { definitions::sources(&client).await }
}

pub(crate) async fn recompute(settings: Settings, sources: Vec<String>, kind: Kind) -> Result<ExitCode> {
    let batch = Batch::new(settings.clone())?;
    let mut code = ExitCode::SUCCESS;
    for source in known_sources(&settings, sources, false).await? {
        let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} offsets, {elapsed}")?);
        let progress = |progress: Progress| match progress {
            Progress::WaitingForSpeed(partitions) => bar.set_message(format!("{source}: waiting for speed to answer the cut ({partitions} partitions)")),
            Progress::WaitingForArchive(partitions) => bar.set_message(format!("{source}: waiting for the archive to reach the cut ({partitions} partitions)")),
            Progress::Scanning { done, total } => {
                bar.set_message(source.clone());
                bar.set_length(total);
                bar.set_position(done);
            }
            Progress::Publishing => bar.set_message(format!("{source}: publishing")),
        };
        let report = batch.run(&source, kind, &progress).await?;
        bar.finish_and_clear();
        println!("{source}: run {} read {} records, published {} views", report.run, report.records, report.published.len());
        for view in &report.waiting {
            println!("{source}: view {view} waits: speed does not fold its new definition everywhere yet; the next run takes it");
        }
        for (view, reason) in &report.refused {
            println!("{source}: view {view} keeps its version: {reason}");
            code = ExitCode::from(4);
        }
        for drift in &report.drift {
            println!("{source}: drift in {drift}");
            code = ExitCode::from(1);
        }
        if kind != Kind::Incremental {
            println!("{source}: recomputed and compared {} views, {} cells differ", report.audited.len(), report.drift.len());
        }
    }
    Ok(code)
}

pub(crate) async fn verify_all(settings: &Settings, sources: Vec<String>) -> Result<ExitCode> {
    let client = Catalog::at(&settings.postgres.url)?.connect().await?;
    let warehouse = Warehouse::at(&settings.warehouse.url)?;
    let mut code = ExitCode::SUCCESS;
    for source in known_sources(settings, sources, true).await? {
        let verified = verify::verify(&client, &warehouse, &source).await?;
        println!("{source}: {} files, {} records, {} faults", verified.files, verified.records, verified.findings.len());
        for (partition, range) in &verified.lost {
            println!("{source} partition {partition}: {range} is lost, as skip-lost accepted");
        }
        for finding in &verified.findings {
            println!("{finding}");
            code = ExitCode::from(1);
        }
    }
    Ok(code)
}

pub(crate) async fn skip_lost(settings: &Settings, source: &str, yes: bool) -> Result<ExitCode> {
    let mut client = Catalog::at(&settings.postgres.url)?.connect().await?;
    let warehouse = Warehouse::at(&settings.warehouse.url)?;
    let topic = definitions::load(&client, source).await?.source.topic;
    let has = kafka::watermarks(&settings.kafka, &topic)?;
    let mut found = false;
    for state in rows::partitions(&client, source).await? {
        let partition = state.row.partition;
        let Some(kafka) = has.get(&partition) else { continue };
        // Only what a layer itself said that it cannot go on with: a running archiver may hold what is not committed yet.
        if state.speed_trouble.is_some() && state.row.next_offset < kafka.start {
            found = true;
            println!(
                "{source} partition {partition}: speed has not read [{}, {}); answers stand there until a version has passed it",
                state.row.next_offset, kafka.start
            );
            if yes {
                anabranch_speed::skip_lost(&mut client, source, partition, kafka.start).await?;
            }
        }
        if state.archive_trouble.is_none() {
            continue;
        }
        if let Some(lost) = skip::lost(&client, &warehouse, source, partition, kafka.start).await? {
            found = true;
            println!("{source} partition {partition}: {lost} was never archived, so it is lost for good");
            if yes {
                skip::skip_lost(&client, &warehouse, source, partition, lost).await?;
            }
        }
    }
    match (found, yes) {
        (false, _) => println!("{source}: no layer stopped at offsets that Kafka no longer has"),
        (true, false) => println!("nothing was changed; repeat with --yes to go on without these offsets"),
        (true, true) => println!("skipped; the layers go on within seconds"),
    }
    Ok(if found && !yes { ExitCode::from(1) } else { ExitCode::SUCCESS })
}
