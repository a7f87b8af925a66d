//! What each command does.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anabranch_batch::{
    archive,
    runs::{Kind, Window},
    schedule,
};
use anabranch_core::definition::Pipeline;
use anabranch_process::{
    Catalog, Settings, Warehouse,
    catalog::{
        cost::costs,
        definitions::{self, Applied},
        published,
    },
    clock,
    failure::{NotReady, Refused, Unreachable},
    identity, kafka, metrics,
    references::References,
};
use anabranch_serving::Mirror;
use anyhow::{Context, Result};
use indicatif::{BinaryBytes, HumanCount, HumanDuration};
use tokio::{runtime::Runtime, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    arguments::{Arguments, Command},
    ddl, infer, maintenance, query, rejected, reset, show, simulate, tail,
};

const DEFAULT_CONFIG: &str = "anabranch.toml";
/// Views over a longer history are built anew only when somebody says so: minutes of reading.
const UNASKED_RECORDS: u64 = 10_000_000;
/// How long a service waits before it asks again for a server that is not there.
const RETRY: Duration = Duration::from_secs(2);

/// Prints a failure once, with its causes, and says how the program ends.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    let has = |found: fn(&(dyn std::error::Error + 'static)) -> bool| error.chain().any(found);
    ExitCode::from(if has(|cause| cause.is::<Refused>()) {
        2
    } else if has(|cause| cause.is::<Unreachable>() || cause.is::<NotReady>()) {
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
        Command::Healthy => healthy(&settings).await,
        Command::Check => {
            kafka::client_config(&settings.kafka)?;
            let (pipeline, references) = read_pipelines(&settings).await?;
            for (name, rows) in references.row_counts() {
                println!("reference {name}: {rows} rows");
            }
            println!("{} sources, {} references, {} views: all definitions are right", pipeline.sources.len(), pipeline.references.len(), pipeline.views.len());
            done
        }
        Command::Apply { prune, yes } => {
            // What is wrong in the files is said before anything is asked of a server.
            let (pipeline, references) = read_pipelines(&settings).await?;
            prepare(&settings).await?;
            if !cost(&settings, &pipeline).await? && !yes {
                return Err(Refused("nothing was applied; repeat with --yes to build these views anew".to_owned()).into());
            }
            apply(&settings, &pipeline, &references).await?;
            if prune {
                let mut client = Catalog::at(&settings.postgres.url)?.connect().await?;
                for view in definitions::drop_undefined(&mut client, &pipeline).await? {
                    info!(view, "dropped view");
                }
                published::sync_views(&mut client).await?;
            }
            done
        }
        Command::Recompute { sources, full, days } => {
            let kind = match (full, days) {
                (false, _) => Kind::Incremental,
                (true, None) => Kind::Full,
                (true, Some(days)) => Kind::Audit(Window::last_days(days, clock::today())),
            };
            maintenance::recompute(settings, sources, kind).await
        }
        Command::Verify { sources } => maintenance::verify_all(&settings, sources).await,
        Command::SkipLost { source, yes } => maintenance::skip_lost(&settings, &source, yes).await,
        Command::Status { json } => {
            let mirror = Mirror::new(&settings)?;
            mirror.look_once().await?;
            show::status(&anabranch_serving::status::read(&Catalog::at(&settings.postgres.url)?, &mirror).await?, json)?;
            done
        }
        Command::Query(arguments) => query::run(&settings, &arguments).await,
        Command::Tail(arguments) => tail::run(&settings, &arguments).await,
        Command::Rejected(arguments) => rejected::run(&settings, &arguments).await,
        Command::Infer { topic } => infer::run(&settings, &topic),
        Command::Ddl { dialect } => {
            let pipeline = definitions::read_folder(Path::new(&settings.pipelines.dir))?;
            print!("{}", ddl::ddl(&pipeline, dialect, &settings.warehouse.url));
            done
        }
        Command::Reset(arguments) => reset::run(&settings, &arguments).await,
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
    let ready = Arc::new(AtomicBool::new(false));
    let mut shown = JoinSet::new();
    if !settings.metrics.listen.is_empty() {
        let (listen, ready, stop) = (settings.metrics.listen.clone(), Arc::clone(&ready), stop.clone());
        shown.spawn(async move { metrics::serve(&listen, ready, stop).await });
    }
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
    ready.store(true, Ordering::Relaxed);
    let mut running = shown;
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

/// Asks the layer of this container, at the address that its settings name.
async fn healthy(settings: &Settings) -> Result<ExitCode> {
    let is_serving = settings.metrics.listen.is_empty();
    let listen = if is_serving { &settings.serving.listen } else { &settings.metrics.listen };
    // Every address of the machine is also the one that it has for itself.
    let address = listen.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:");
    let unreachable = |cause: reqwest::Error| Unreachable { service: "anabranch", address: address.clone(), cause: cause.into() };
    let response = reqwest::get(format!("http://{address}/readyz")).await.map_err(unreachable)?;
    let is_ready = response.status().is_success();
    println!("{}", response.text().await.map_err(unreachable)?);
    Ok(if is_ready { ExitCode::SUCCESS } else { ExitCode::from(3) })
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
        // A service that starts must not read years of history because a file changed beside it.
        Some((pipeline, _)) if !cost(settings, pipeline).await? => {
            warn!("the definitions of the catalog stay as they are: `anabranch apply --yes` builds the changed views anew");
            Ok(())
        }
        Some((pipeline, references)) => apply(settings, pipeline, references).await,
        None => Ok(()),
    }
}

/// Tables, and the identity of database and warehouse.
async fn prepare(settings: &Settings) -> Result<()> {
    kafka::client_config(&settings.kafka)?;
    let catalog = Catalog::at(&settings.postgres.url)?;
    let warehouse = Warehouse::at(&settings.warehouse.url).map_err(|error| Refused(format!("setting warehouse.url: {error}")))?;
    catalog.migrate().await?;
    identity::settle(&catalog.connect().await?, &warehouse).await?;
    Ok(())
}

/// Says what the next runs have to read; whether that is little enough to be done unasked.
async fn cost(settings: &Settings, pipeline: &Pipeline) -> Result<bool> {
    let mut is_small = true;
    for (source, cost) in costs(&Catalog::at(&settings.postgres.url)?.connect().await?, pipeline).await? {
        let files = Warehouse::at(&settings.warehouse.url)?.list(&anabranch_core::layout::archive_folder(&source)).await?;
        let bytes: u64 = files.iter().map(|file| file.size_bytes).sum();
        let takes = cost.takes.map_or_else(|| "no run has shown yet how long that takes".to_owned(), |takes| format!("about {}", HumanDuration(takes)));
        let (records, bytes) = (HumanCount(cost.records), BinaryBytes(bytes));
        println!("{source}: {} will be built from {records} offsets, {bytes} of archive: {takes}", cost.views.join(", "));
        is_small &= cost.records <= UNASKED_RECORDS;
    }
    Ok(is_small)
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
    published::sync_views(&mut client).await?;
    for view in definitions::undefined(&client, pipeline).await?.values().flatten() {
        info!(view, "no file defines this view any more; `anabranch apply --prune` drops it");
    }
    Ok(())
}
