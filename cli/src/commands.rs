//! What each command does.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anabranch_batch::{
    archive::{self, skip, verify},
    runs::{Batch, Kind, Progress, Window},
    schedule,
};
use anabranch_core::definition::Pipeline;
use anabranch_process::{
    Catalog, Settings, Warehouse,
    catalog::{
        definitions::{self, Applied},
        rows,
    },
    clock,
    failure::{Refused, Unreachable},
    identity, kafka,
    references::References,
};
use anabranch_serving::Mirror;
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{runtime::Runtime, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    arguments::{Arguments, Command},
    query, show, simulate,
};

const DEFAULT_CONFIG: &str = "anabranch.toml";
/// How long a service waits before it asks again for a server that is not there.
const RETRY: Duration = Duration::from_secs(2);

/// Prints a failure once, with its causes, and says how the program ends.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    let has = |found: fn(&(dyn std::error::Error + 'static)) -> bool| error.chain().any(found);
    ExitCode::from(if has(|cause| cause.is::<Refused>()) {
        2
    } else if has(|cause| cause.is::<Unreachable>()) {
        3
    } else {
        4
    })
}

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    let file = arguments.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG));
    let settings = Settings::load(&file, arguments.config.is_some())?;
    #[cfg(feature = "crash-points")]
    anabranch_process::crash::arm()?;
    let runtime = Runtime::new().context("start the runtime")?;
    let code = runtime.block_on(command(arguments.command, settings));
    // Threads that wait for a server must not hold the program.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

async fn command(command: Command, settings: Settings) -> Result<ExitCode> {
    let done = Ok(ExitCode::SUCCESS);
    match command {
        Command::Check => {
            let (pipeline, references) = read_pipelines(&settings).await?;
            for (name, rows) in references.row_counts() {
                println!("reference {name}: {rows} rows");
            }
            println!("{} sources, {} references, {} views: all definitions are right", pipeline.sources.len(), pipeline.references.len(), pipeline.views.len());
            done
        }
        Command::Apply { prune } => {
            // What is wrong in the files is said before anything is asked of a server.
            let (pipeline, references) = read_pipelines(&settings).await?;
            prepare(&settings).await?;
            apply(&settings, &pipeline, &references).await?;
            if prune {
                let mut client = Catalog::at(&settings.postgres.url)?.connect().await?;
                for view in definitions::drop_undefined(&mut client, &pipeline).await? {
                    info!(view, "dropped view");
                }
            }
            done
        }
        Command::Recompute { sources, full, days } => {
            let kind = match (full, days) {
                (false, _) => Kind::Incremental,
                (true, None) => Kind::Full,
                (true, Some(days)) => Kind::Audit(Window::last_days(days, clock::today())),
            };
            recompute(settings, sources, kind).await
        }
        Command::Verify { sources } => verify_all(&settings, sources).await,
        Command::SkipLost { source, yes } => skip_lost(&settings, &source, yes).await,
        Command::Status { json } => {
            let mirror = Mirror::new(&settings)?;
            mirror.look_once().await?;
            show::status(&anabranch_serving::status::read(&Catalog::at(&settings.postgres.url)?, &mirror).await?, json)?;
            done
        }
        Command::Query(arguments) => query::run(&settings, &arguments).await,
        Command::Simulate { domain } => simulate::run(&settings, domain).await,
        Command::Run => service(settings, &[Layer::Speed, Layer::Archive, Layer::Batch, Layer::Serving], true).await,
        Command::Speed => service(settings, &[Layer::Speed], false).await,
        Command::Archive => service(settings, &[Layer::Archive], false).await,
        Command::Batch => service(settings, &[Layer::Batch], false).await,
        Command::Serve => service(settings, &[Layer::Serving], false).await,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Speed,
    Archive,
    Batch,
    Serving,
}

/// Runs layers until SIGTERM or Ctrl-C; a second signal ends the program at once.
async fn service(settings: Settings, layers: &[Layer], applies: bool) -> Result<ExitCode> {
    let stop = stop_on_signal()?;
    let pipeline = if applies { Some(read_pipelines(&settings).await?) } else { None };
    let mut said = false;
    // A server that is not there, or dies meanwhile, is waited for; settings that are wrong end the program.
    while let Err(error) = begin(&settings, pipeline.as_ref()).await {
        if error.chain().any(|cause| cause.is::<Refused>()) {
            return Err(error);
        }
        if !said {
            warn!(error = format!("{error:#}"), "waiting for a server");
            said = true;
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
            () = tokio::time::sleep(RETRY) => {}
        }
    }
    let mut running = JoinSet::new();
    for layer in layers {
        let (settings, stop) = (settings.clone(), stop.clone());
        match layer {
            Layer::Speed => running.spawn(anabranch_speed::run(settings, stop)),
            Layer::Archive => running.spawn(archive::run(settings, stop)),
            Layer::Batch => running.spawn(schedule::run(settings, stop)),
            Layer::Serving => running.spawn(anabranch_serving::run(settings, stop)),
        };
    }
    while let Some(ended) = running.join_next().await {
        let ended = ended.context("a layer broke off").and_then(|result| result);
        if let Err(error) = ended {
            stop.cancel();
            while running.join_next().await.is_some() {}
            return Err(error);
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn stop_on_signal() -> Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            if token.is_cancelled() {
                #[expect(clippy::disallowed_methods, reason = "the second signal asks for exactly this")]
                std::process::exit(130);
            }
            info!("stopping; a second signal stops at once");
            token.cancel();
        }
    });
    Ok(stop)
}

/// The pipelines of the settings' folder, with what is in the files of their references.
async fn read_pipelines(settings: &Settings) -> Result<(Pipeline, References)> {
    let folder = Path::new(&settings.pipelines.dir);
    let pipeline = definitions::read_folder(folder)?;
    let references = References::read(&pipeline, folder).await?;
    Ok((pipeline.with_contents(&references.contents()), references))
}

async fn begin(settings: &Settings, pipeline: Option<&(Pipeline, References)>) -> Result<()> {
    prepare(settings).await?;
    match pipeline {
        Some((pipeline, references)) => apply(settings, pipeline, references).await,
        None => Ok(()),
    }
}

/// Tables, and the identity of database and warehouse.
async fn prepare(settings: &Settings) -> Result<()> {
    let catalog = Catalog::at(&settings.postgres.url)?;
    let warehouse = Warehouse::at(&settings.warehouse.url).map_err(|error| Refused(format!("setting warehouse.url: {error}")))?;
    catalog.migrate().await?;
    identity::settle(&catalog.connect().await?, &warehouse).await?;
    Ok(())
}

async fn apply(settings: &Settings, pipeline: &Pipeline, references: &References) -> Result<()> {
    let mut client = Catalog::at(&settings.postgres.url)?.connect().await?;
    let warehouse = Warehouse::at(&settings.warehouse.url)?;
    for source in &pipeline.sources {
        warehouse.make_folder(&anabranch_core::layout::archive_folder(&source.name)).await?;
    }
    // Before the definitions that name them.
    references.store(&warehouse).await?;
    for (view, applied) in definitions::apply(&mut client, pipeline).await? {
        match applied {
            Applied::Created => info!(view, "created view"),
            Applied::Changed => info!(view, "changed view; the old definition answers until the next run has built the new one"),
            Applied::Unchanged => {}
        }
    }
    for view in definitions::undefined(&client, pipeline).await?.values().flatten() {
        info!(view, "no file defines this view any more; `anabranch apply --prune` drops it");
    }
    Ok(())
}

async fn known_sources(settings: &Settings, named: Vec<String>, only_topics: bool) -> Result<Vec<String>> {
    if !named.is_empty() {
        return Ok(named);
    }
    let client = Catalog::at(&settings.postgres.url)?.connect().await?;
    if only_topics { definitions::topics(&client).await } else { definitions::sources(&client).await }
}

async fn recompute(settings: Settings, sources: Vec<String>, kind: Kind) -> Result<ExitCode> {
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

async fn verify_all(settings: &Settings, sources: Vec<String>) -> Result<ExitCode> {
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

async fn skip_lost(settings: &Settings, source: &str, yes: bool) -> Result<ExitCode> {
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
